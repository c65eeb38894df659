"""A session with its transport: what the gateway talks to. Step 8 of the path begins here.

Owns nothing but the client's own state; every decision is the session's (pure) or the hub's.
"""

from collections import deque
from sys import intern
from typing import Protocol

from snackbase.auth import Claims
from snackbase.errors import Closing
from snackbase.hub.feeds import LiveFeed
from snackbase.metrics import Counters
from snackbase.realtime.link import Link, Wire
from snackbase.realtime.protocol import ClientMessage
from snackbase.realtime.resume import Replay
from snackbase.realtime.session import Session, State, Timing

INTERNAL_ERROR = 1011


class Desk(Protocol):
    """What a connection hands on to the hub."""

    counters: Counters

    def receive(self, connection: "Connection", payload: bytes) -> None: ...

    def lagging(self, connection: "Connection", buffered: int, newest: int) -> None: ...

    def gone(self, connection: "Connection", code: int | None, reason: str) -> None: ...


class Connection(Session):
    """One client of this process.

    Attributes:
        link: None until the transport is attached; the outbox keeps what is written before.
        live, home: the feed of the account acted in, and of the principal's own account (they differ for a superadmin
            who watches another); both are followed, the second for changes of rights only.
        inbox: messages with their sizes that wait for an earlier one which is being served asynchronously; None = none
            is. inbox_bytes: what they are together.
        replays: what is being replayed to it.
        renewals: how often its principal is being asked for anew just now; until then nothing is judged by the old one.
        renewal: the newest of those questions whose answer has come.
        closing: how it was ended from this side.
    """

    __slots__ = (
        "account",
        "address",
        "claims",
        "closing",
        "desk",
        "home",
        "inbox",
        "inbox_bytes",
        "link",
        "live",
        "renewal",
        "renewals",
        "replays",
    )

    def __init__(
        self,
        connection_id: str,
        wire: Wire,
        *,
        desk: Desk,
        address: str,
        account: str | None,
        stages: bool,
        now: float,
        timing: Timing,
    ) -> None:
        super().__init__(connection_id, wire, stages=stages, now=now, timing=timing)
        self.desk = desk
        self.address = intern(address)  # behind a proxy that hides its clients, everybody's
        self.account = account
        self.claims: Claims | None = None
        self.link: Link | None = None
        self.live: LiveFeed | None = None
        self.home: LiveFeed | None = None
        self.inbox: deque[tuple[ClientMessage, int]] | None = None
        self.inbox_bytes = 0
        self.closing: Closing | None = None
        self.replays: tuple[Replay, ...] = ()
        self.renewals = self.renewal = 0

    @property
    def feed(self) -> LiveFeed:
        """The feed of the account acted in. Raises RuntimeError before the client is known."""
        if self.live is None:
            raise RuntimeError("the connection has no account yet")
        return self.live

    @property
    def identity(self) -> Claims:
        """Whose token it is. Raises RuntimeError before the client is known."""
        if self.claims is None:
            raise RuntimeError("the connection has no token yet")
        return self.claims

    @property
    def controls(self) -> int:
        """How many control rows of its accounts came by."""
        return sum(live.controls for live in (self.live, self.home) if live is not None)

    def attach(self, link: Link) -> None:
        """The transport is ready: from now on the hub writes. A connection that has ended by then ends with it."""
        self.link = link
        self.flush()
        if self.closing is not None:
            link.close(self.closing)
        elif self.state is State.ENDED:
            link.abort()

    def receive(self, payload: bytes) -> None:
        """One whole message of the client, as UTF-8 JSON. Never raises."""
        self.desk.receive(self, payload)

    def lost(self, code: int | None, reason: str) -> None:
        """The transport is gone, or the client closed it. Idempotent."""
        self.desk.gone(self, code, reason)

    def flush(self) -> None:
        """Hand everything in the outbox to the transport, in one write."""
        self.desk.counters.bytes_sent += self.hand_over()

    def hand_over(self) -> int:
        """`flush`, and the caller counts the bytes: that many were handed over.

        Of a thousand connections written to in one go each is far from the processor; so nothing is touched here that
        can do without.
        """
        link, frames = self.link, self.out
        self.queued = False
        if link is None or not frames:
            return 0
        self.out = ()
        size = len(frames[0]) if len(frames) == 1 else sum(map(len, frames))
        buffered = link.write(frames)
        if buffered:
            self.desk.lagging(self, buffered, size)
        return size

    def cut(self) -> None:
        """Break off after a defect of ours: the client comes back and resumes, everybody else goes on."""
        if self.link is not None:
            self.link.abort()
        self.desk.gone(self, INTERNAL_ERROR, "internal_error")

    def shut(self, closing: Closing) -> None:
        """Send what is left, then end the transport."""
        self.state = State.ENDED
        self.closing = closing
        self.flush()
        if self.link is not None:
            self.link.close(closing)
