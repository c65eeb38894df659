"""The command line: `snackbase`."""

from snackbase.cli.commands import main

__all__ = ["main"]
