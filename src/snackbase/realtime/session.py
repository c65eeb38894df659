"""One client's state on the realtime side: its subscriptions, its outbox, its deadlines. Pure.

The hub tells it the time and asks what to do. It answers with messages in its outbox and, when it has to end, with a
Closing. It knows no rights: the hub builds the views. A session has no task, queue or timer of its own.
"""

from collections.abc import Mapping
from enum import IntEnum

import msgspec

from snackbase import errors
from snackbase.errors import Closing
from snackbase.model import Principal, rfc3339
from snackbase.realtime import protocol
from snackbase.realtime.groups import IndexedOn, Variant, View
from snackbase.realtime.limits import Bucket
from snackbase.realtime.link import Wire
from snackbase.realtime.protocol import SubscribeRequest

EXPIRY_WARNING_S = 60.0
MISTAKES = 20
"""Messages in a row that could not be understood before the connection ends with bad_request."""


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """Settings a session needs, in seconds and counts (contract §10)."""

    heartbeat_s: float
    ping_s: float
    pong_s: float
    auth_s: float
    messages_per_s: float
    message_burst: int
    max_subscriptions: int


class State(IntEnum):
    AUTHENTICATING = 0
    LIVE = 1
    ENDED = 2


class Subscription:
    """One acknowledged subscription: what was asked for, and its place in the feed (None while it is held).

    Attributes:
        since_seq: the number after which it is told everything, live or replayed.
        searches: how much its filter looks through texts and lists (rules.searches).
        cost: what it was counted as (hub/budget.py).
    """

    __slots__ = (
        "_seen",
        "bits",
        "claims",
        "collection_id",
        "cost",
        "membership",
        "request",
        "searches",
        "since_seq",
    )

    def __init__(self, request: SubscribeRequest, collection_id: str, bits: int) -> None:
        self.request = request
        self.collection_id = collection_id
        self.bits = bits
        self.claims: frozenset[str] = frozenset()
        self._seen: View | Mapping[str, View] = {}
        self.membership: Variant | None = None
        self.since_seq = self.searches = self.cost = 0

    @property
    def views(self) -> Mapping[str, View]:
        """By the ids of their collections. A single one, as nearly all subscriptions have, needs no mapping to keep."""
        return {self._seen.collection_id: self._seen} if isinstance(self._seen, View) else self._seen

    @views.setter
    def views(self, views: Mapping[str, View]) -> None:
        self._seen = next(iter(views.values())) if len(views) == 1 else views

    @property
    def index(self) -> IndexedOn | None:
        """What a record must hold for it to see anything; None = nothing tells."""
        return self._seen.index if isinstance(self._seen, View) else None

    @property
    def view_key(self) -> tuple[object, ...]:
        """Equal keys see equal events."""
        return tuple(view.key for view in self.views.values())

    @property
    def name(self) -> str | None:
        """The `subscription` its events carry: its id, and `*` for an unnamed subscription to everything."""
        if self.request.id is None and self.request.collection == protocol.EVERY_COLLECTION:
            return protocol.EVERY_COLLECTION
        return self.request.id

    @property
    def operations(self) -> tuple[str, ...]:
        asked = self.request.operations or protocol.OPERATIONS
        return tuple(name for name in protocol.OPERATIONS if name in asked)


class Session:
    """One client.

    Attributes:
        out: wire messages waiting for the next flush of this session; many sessions share the same tuple.
        queued: whether events are among them, for which somebody will flush it.
        staged: a list when messages of one change must be merged before any becomes a resume point (an SSE stream of
            several subscriptions), else None.
        held: how many subscriptions wait to be judged anew; meanwhile nothing may move the resume point.
        look_at: when the timers wake it next; an entry of the wheel that comes earlier is an outdated one.
    """

    __slots__ = (
        "_auth_by",
        "_bucket",
        "_heartbeat_at",
        "_mistakes",
        "_ping_at",
        "_pong_by",
        "_warned",
        "expires_at",
        "held",
        "id",
        "look_at",
        "out",
        "principal",
        "queued",
        "staged",
        "state",
        "subscriptions",
        "wire",
    )

    def __init__(self, session_id: str, wire: Wire, *, stages: bool, now: float, timing: Timing) -> None:
        self.id = session_id
        self.wire = wire
        self.state = State.AUTHENTICATING
        self.principal: Principal | None = None
        self.out: tuple[bytes, ...] = ()
        self.queued = False
        self.staged: list[bytes] | None = [] if stages else None
        self.held = 0
        self.look_at = 0.0
        self.subscriptions: dict[str, Subscription] = {}
        self.expires_at = 0.0
        self._warned = False
        self._mistakes = 0
        self._bucket = Bucket(now, timing.message_burst)
        self._auth_by = now + timing.auth_s
        self._heartbeat_at = now + timing.heartbeat_s
        self._ping_at = now + timing.ping_s
        self._pong_by: float | None = None

    def token_came(self) -> None:
        """The client did in time what it had to; how long its token is looked at is not its doing."""
        self._auth_by = float("inf")

    def authenticated(self, principal: Principal, expires_at: float) -> None:
        """The client is known: from here on it may subscribe. `expires_at`: wall-clock seconds; inf = never."""
        self.principal = principal
        self.renew(expires_at)
        self.state = State.LIVE

    def renew(self, expires_at: float) -> None:
        """A fresh token was accepted in place."""
        self.expires_at = expires_at
        self._warned = False

    def send(self, payload: bytes) -> None:
        """Put a message from which nobody resumes into the outbox."""
        self.out += (self.wire.message(payload),)

    def accept(self, now: float, timing: Timing) -> Closing | None:
        """Count one message of the client; a Closing when it sends too many."""
        if self._bucket.take(now, timing.messages_per_s, timing.message_burst):
            return None
        return errors.RATE_LIMITED

    def mistake(self) -> Closing | None:
        """A message could not be understood."""
        self._mistakes += 1
        return errors.BAD_REQUEST if self._mistakes >= MISTAKES else None

    def understood(self) -> None:
        self._mistakes = 0

    def ponged(self) -> None:
        self._pong_by = None

    def heartbeat(self, now_us: int, position: str, *, resumable: bool) -> None:
        """A heartbeat; its position covers everything that was routed before, since that is in the outbox already.

        Args:
            resumable: False during a replay, when a stream's resume point is the replay's own business.
        """
        payload = protocol.heartbeat(rfc3339(now_us), position)
        wire = self.wire
        self.out += (wire.resumable(payload, position.encode()) if resumable else wire.message(payload),)

    def heartbeat_due(self, now: float) -> bool:
        return self.state is State.LIVE and now >= self._heartbeat_at

    def beaten(self, now: float, timing: Timing, jitter: float) -> None:
        """Plan the next heartbeat after 80-100 % of the interval; `jitter` in 0..1."""
        self._heartbeat_at = now + timing.heartbeat_s * (0.8 + 0.2 * jitter)

    def ping_due(self, now: float, timing: Timing) -> bool:
        """Whether to ping now; the answer is then expected within `pong_s`."""
        if now < self._ping_at or self._pong_by is not None:
            return False
        self._ping_at = now + timing.ping_s
        self._pong_by = now + timing.pong_s
        return True

    def tick(self, now: float, wall: float) -> Closing | None:
        """Look at the deadlines; warn of expiry, or say how the connection must end.

        Args:
            now: monotonic seconds.
            wall: seconds since the epoch; only the token's own expiry is compared with it.
        """
        if self.state is State.AUTHENTICATING:
            return errors.AUTH_TIMEOUT if now >= self._auth_by else None
        if wall >= self.expires_at:
            return errors.TOKEN_EXPIRED
        if self._pong_by is not None and now >= self._pong_by:
            return errors.HEARTBEAT_TIMEOUT
        if not self._warned and wall >= self.expires_at - EXPIRY_WARNING_S:
            self._warned = True
            self.send(protocol.authenticated("expiring", rfc3339(int(self.expires_at * 1_000_000))))
        return None

    def next_look(self, now: float, wall: float, *, pings: bool) -> float:
        """The monotonic time at which `tick` is next needed."""
        if self.state is State.AUTHENTICATING:
            return min(self._auth_by, self._heartbeat_at)
        times = [self._heartbeat_at]
        if self.expires_at != float("inf"):
            warn = 0.0 if self._warned else EXPIRY_WARNING_S
            times.append(now + max(0.0, self.expires_at - warn - wall))
        if pings:
            times.append(self._ping_at if self._pong_by is None else self._pong_by)
        return min(times)
