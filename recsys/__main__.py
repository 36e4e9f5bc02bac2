"""`python -m recsys`: the same commands as `tacit-recsys`."""

from recsys.cli import main

if __name__ == "__main__":
    main()
