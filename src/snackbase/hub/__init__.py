"""The impure owner of live sessions: what was committed comes in, what each session's transport must send goes out."""

from snackbase.hub.admission import Refused
from snackbase.hub.connection import Connection
from snackbase.hub.hub import Hub
from snackbase.hub.opening import Authenticated, Opening

__all__ = ["Authenticated", "Connection", "Hub", "Opening", "Refused"]
