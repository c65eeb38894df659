"""How much a stranger may ask of the gateway: sizes, times and counts, from the settings or fixed. Values only."""

from typing import Self

import msgspec

from snackbase.config import Settings
from snackbase.gateway.frames import FrameParser, NewParser
from snackbase.gateway.sockets import connection_limit

MAX_HEAD_BYTES = 65536
"""Of a request line and headers together; an SSE request with 100 subscriptions fits. httptools itself has no limit."""
MAX_HEADERS = 100
MAX_PIPELINED = 100
"""Requests that wait on one connection behind the one being answered. uvicorn has no limit: one read of the socket may
hold ten thousand, at some 4 KB each."""
OPEN_AT_ONCE = 16
"""Realtime connections whose opening request is read in one turn of the loop: some 0.15 ms of work each."""
READ_AT_ONCE = 64
"""WebSockets whose messages are read in one turn of the loop: 10 to 20 us each, with what they set going."""
KEEP_ALIVE_S = 75
"""Longer than common proxies keep an idle upstream connection (60 s), so that it is they who close it."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What the protocol classes need of the settings."""

    head_s: float
    max_message_bytes: int
    parser: NewParser
    connections: int
    """Open connections of every kind; one more is told 503, so that the process keeps files for its database."""

    @classmethod
    def of(cls, settings: Settings) -> Self:
        return cls(
            head_s=settings.request_timeout_seconds,
            max_message_bytes=settings.realtime_max_message_bytes,
            parser=FrameParser.maker(max_message_bytes=settings.realtime_max_message_bytes),
            connections=connection_limit(),
        )


DEFAULT_LIMITS = Limits.of(Settings())
