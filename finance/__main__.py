"""`python -m finance`: the same commands as `tacit-finance`."""

from finance.cli import main

if __name__ == "__main__":
    main()
