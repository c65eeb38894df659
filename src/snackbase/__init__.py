"""SnackBase: records behind REST, every committed change over WebSocket and Server-Sent Events.

from snackbase import SnackBase
app = SnackBase()  # an ASGI application: `snackbase serve main:app` or `uvicorn main:app`
"""

from snackbase.app import SnackBase
from snackbase.config import ConfigError, Settings
from snackbase.errors import FieldError, SnackBaseError
from snackbase.hooks import HookAbort

__all__ = ["ConfigError", "FieldError", "HookAbort", "Settings", "SnackBase", "SnackBaseError"]
