"""`python -m recsys`: the same commands as `tacit-recsys`."""

import sys

try:
    import recsys  # noqa: F401  (checks which core is on the path)
    from recsys.cli import main
except ImportError as error:
    print(f"tacit-recsys: {error}", file=sys.stderr)
    sys.exit(2)

if __name__ == "__main__":
    main()
