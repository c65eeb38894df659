"""What the gateway brings when a client connects."""

from typing import Protocol

import msgspec

from snackbase.auth import Claims
from snackbase.model import Principal
from snackbase.realtime.link import Wire


class Authenticated(Protocol):
    """Who a token is for (services.authenticate). `at`: monotonic seconds before that was read."""

    @property
    def principal(self) -> Principal: ...
    @property
    def claims(self) -> Claims: ...
    @property
    def at(self) -> float: ...


class Opening(msgspec.Struct, frozen=True, kw_only=True):
    """A connection about to be made.

    Attributes:
        authenticated: None = the token comes in the first message.
        account: the account to watch, for superadmins (`?account=`); None = the principal's own.
        subscriptions: how many the stream begins with; SSE merges the events of several.
    """

    wire: Wire
    address: str
    authenticated: Authenticated | None
    account: str | None = None
    subscriptions: int = 0
