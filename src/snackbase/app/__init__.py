"""The composition root: `SnackBase`, an ASGI application that builds, starts and stops everything."""

from snackbase.app.database import database_file
from snackbase.app.graph import Core, open_core
from snackbase.app.snackbase import SnackBase, Started

__all__ = ["Core", "SnackBase", "Started", "database_file", "open_core"]
