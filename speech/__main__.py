"""`python -m speech`: the same commands as `tacit-speech`."""

from speech.cli import main

if __name__ == "__main__":
    main()
