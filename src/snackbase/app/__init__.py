"""The composition root: `SnackBase`, an ASGI application that builds, starts and stops everything."""

from snackbase.app.graph import Core, open_core
from snackbase.app.snackbase import SnackBase, Started

__all__ = ["Core", "SnackBase", "Started", "open_core"]
