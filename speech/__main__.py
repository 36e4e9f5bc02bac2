"""`python -m speech`: the same commands as `tacit-speech`."""

import sys

try:
    import speech  # noqa: F401  (checks which core is on the path)
    from speech.cli import main
except ImportError as error:
    print(f"tacit-speech: {error}", file=sys.stderr)
    sys.exit(2)

if __name__ == "__main__":
    main()
