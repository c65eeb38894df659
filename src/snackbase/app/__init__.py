"""The composition root: `SnackBase`, an ASGI application that builds, starts and stops everything."""

from snackbase.app.graph import Core, database_file, open_core
from snackbase.app.snackbase import SnackBase, Started

__all__ = ["Core", "SnackBase", "Started", "database_file", "open_core"]
