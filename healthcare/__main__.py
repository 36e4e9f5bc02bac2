"""`python -m healthcare` is `tacit-healthcare`; a foreign `core` on the path is caught by the package itself."""

from healthcare.cli import main

if __name__ == "__main__":
    main()
