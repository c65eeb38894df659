"""`python -m snackbase`: the same as the command `snackbase`."""

from snackbase.cli import main

if __name__ == "__main__":
    main()
