"""Subscriptions that begin in the past: from a position (`since`), or from the whole set (`snapshot`).

Both end the same way: from a known place in the log the replay runs until it meets the live stream. A snapshot is read
together with its place in one database snapshot, by the same code as a list, so set and stream fit without a gap
(invariant I4). A position that cannot be honoured is answered with one `resync` and live events from now on.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from snackbase.catalog import PERSONAL_CLAIMS, Catalog
from snackbase.errors import SnackBaseError, TooLarge
from snackbase.hub.connection import Connection
from snackbase.hub.delivery import Delivery
from snackbase.hub.feeds import LiveFeed
from snackbase.hub.replays import HIGH_WATER, WAIT_S, Replays
from snackbase.hub.rights import Rights
from snackbase.hub.standings import Standings
from snackbase.metrics import Counters, add
from snackbase.model import Head, Position, Principal, Record, rfc3339
from snackbase.realtime import protocol
from snackbase.realtime.position import Positions
from snackbase.realtime.protocol import EVERY_COLLECTION, ProtocolError, SnapshotOptions, SubscribeRequest
from snackbase.realtime.resume import Replay
from snackbase.realtime.session import State, Subscription
from snackbase.storage.turns import Turns

MOST_RECORDS = 10_000
MOST_BYTES = 8 << 20
PAGE, MOST_PAGE = 100, 1000
MOST_OWED = MOST_BYTES
"""Bytes of earlier sets that a connection has yet to be sent; beyond it the next set is not read. There may be as many
sets as subscriptions, and who reads slowly would have them all kept here."""
READING = 4
"""Snapshots read and encoded at once; more wait, and accounts take turns, so a storm of them is bounded."""
MOST_WAITING = 1_000_000
"""Each connection has one that waits at most."""


class Snapshot(Protocol):
    """A whole list and the place it belongs to (services.records)."""

    @property
    def items(self) -> Sequence[Record]: ...
    @property
    def head(self) -> Head: ...
    @property
    def version(self) -> int: ...


ReadSnapshot = Callable[[Principal, SubscribeRequest, str, int], Awaitable[Snapshot]]
"""(principal, request, sort, most) -> at most `most` records; raises SnackBaseError as a list does."""


class Past:
    """Begins subscriptions in the past.

    Args:
        position: the token of the place up to which a feed was routed.
        read: reads a whole list in one snapshot.
        now_us: wall clock in µs.
    """

    def __init__(
        self,
        *,
        standings: Standings,
        catalog: Catalog,
        positions: Positions,
        rights: Rights,
        replays: Replays,
        delivery: Delivery,
        counters: Counters,
        position: Callable[[LiveFeed], str],
        read: ReadSnapshot,
        spawn: Callable[..., object],
        now_us: Callable[[], int],
    ) -> None:
        self._standings = standings
        self._catalog = catalog
        self._positions = positions
        self._rights = rights
        self._replays = replays
        self._delivery = delivery
        self._counters = counters
        self._position = position
        self._read = read
        self._spawn = spawn
        self._now_us = now_us
        self._reading = Turns(at_once=READING, waiting=MOST_WAITING, waiting_each=MOST_WAITING)

    def acknowledge(
        self, connection: Connection, subscription: Subscription, position: str, action: str | None
    ) -> None:
        """`subscribed`, always the first message of a subscription."""
        request, now = subscription.request, rfc3339(self._now_us())
        operations = subscription.operations
        connection.send(
            protocol.subscribed(request.collection, operations, position, now, name=request.id, action=action)
        )

    # From a position -------------------------------------------------------------------------------------------------

    async def resume(
        self, connection: Connection, request: SubscribeRequest, action: str | None
    ) -> tuple[Subscription, Head] | None:
        """Acknowledge, then say from where to replay; None = `resync` was told instead, and it is live.

        Raises:
            ProtocolError: the subscription cannot be served.
        """
        self._rights.judge(connection, request)
        principal = connection.principal
        account_id, user_id = connection.feed.account_id, connection.identity.user_id
        try:
            standing = await self._standings.of(account_id, user_id, request.since or "")
        except SnackBaseError as error:
            raise ProtocolError.passing_on(error, collection=request.collection) from None
        if connection.state is not State.LIVE:
            return None
        # Judged again: rules and rights may have changed while the store was asked.
        subscription = self._rights.judge(connection, request)
        self._rights.check_cost(connection, subscription)
        reason = self._standings.refusal(standing, subscription)
        if reason is None and connection.principal != principal and subscription.claims & PERSONAL_CLAIMS:
            reason = "rights"
        if reason is not None:
            self._rights.put(connection, subscription)
            self.acknowledge(connection, subscription, self._position(connection.feed), action)
            add(self._counters.resumes, "resync")
            self._rights.resync(connection, subscription, reason)
            return None
        add(self._counters.resumes, "recovered")
        subscription.since_seq = standing.place.seq
        self._rights.register(connection, subscription)
        self.acknowledge(connection, subscription, request.since or "", action)
        return subscription, standing.place

    def replay(self, connection: Connection, parts: Sequence[tuple[Subscription, Head]]) -> None:
        """Replay to those that are still held for it, merged in the order of the log."""
        current = [
            part
            for part in parts
            if connection.subscriptions.get(part[0].request.key) is part[0]
            and not self._rights.renewing(connection, part[0])
        ]
        if current and connection.state is State.LIVE:
            self._replays.begin(connection, Replay(connection, current))

    def go_on(self, connection: Connection, subscription: Subscription, place: Head) -> None:
        """Tell a held subscription what came after a place, then join it: to its client nothing has happened."""
        if not self._rights.renewing(connection, subscription):
            self._replays.begin(connection, Replay(connection, [(subscription, place)], unasked=True))

    def caught_up(self, connection: Connection, replay: Replay) -> None:
        """The replay stands where the feed stands: from here on live."""
        position = self._position(connection.feed)
        for subscription, _ in replay.parts:
            self._rights.join(connection, subscription)
            if replay.unasked:
                continue
            request = subscription.request
            connection.send(protocol.caught_up(request.collection, position, name=request.id))

    def expired(self, connection: Connection, replay: Replay) -> None:
        """The log was pruned under the replay: what was told stays true, the rest has to be fetched."""
        for subscription, _ in replay.parts:
            self._rights.join(connection, subscription)
            self._rights.resync(connection, subscription, "expired")

    # From the whole set ----------------------------------------------------------------------------------------------

    async def snapshot(self, connection: Connection, request: SubscribeRequest, action: str | None) -> None:
        """Read the set, acknowledge with its place, then send pages and replay what came after.

        Raises:
            ProtocolError: snapshot_too_large, invalid_sort, ... : the subscription cannot be served.
        """
        options = request.snapshot if isinstance(request.snapshot, SnapshotOptions) else SnapshotOptions()
        size = PAGE if options.limit is None else options.limit
        if not 1 <= size <= MOST_PAGE:
            raise ProtocolError("invalid_message", f"`limit` is 1 to {MOST_PAGE}.", collection=request.collection)
        if request.collection == EVERY_COLLECTION:
            raise ProtocolError("invalid_message", "`*` has no snapshot.", collection=EVERY_COLLECTION)
        self._rights.judge(connection, request)
        if not await self._roomy(connection, request):
            return
        async with self._reading.turn(connection.feed.account_id):
            if _ended(connection):
                # It gave up waiting. Read for all who did, the queue would never get shorter.
                return
            found, pages = await self._consistent(connection, request, options.sort or "", size)
        if connection.state is not State.LIVE:
            return
        subscription = self._rights.judge(connection, request)
        self._rights.check_cost(connection, subscription)
        place = Position(found.head.seq, found.head.ts_us, found.version)
        token = self._positions.token(connection.feed.account_id, place)
        subscription.since_seq = found.head.seq
        self._rights.register(connection, subscription)
        self.acknowledge(connection, subscription, token, action)
        if self._rights.renewing(connection, subscription):
            return
        replay = Replay(connection, [(subscription, found.head)])
        connection.replays += (replay,)
        self._delivery.owe(connection, sum(map(len, pages)))
        self._spawn(self._send(connection, replay, pages), name="snapshot")

    async def _roomy(self, connection: Connection, request: SubscribeRequest) -> bool:
        """Wait until the connection has been sent what earlier sets left; False: it ended. Raises ProtocolError."""
        while self._delivery.owed(connection) > MOST_OWED and connection.state is State.LIVE:
            if connection.link is None:
                # A stream is sent nothing before all of its subscriptions have begun.
                message = f"The sets before this one are larger than {MOST_OWED >> 20} MB together; use more streams."
                raise ProtocolError("snapshot_too_large", message, collection=request.collection)
            await asyncio.sleep(WAIT_S)
        return connection.state is State.LIVE

    async def _consistent(
        self, connection: Connection, request: SubscribeRequest, sort: str, size: int
    ) -> tuple[Snapshot, deque[bytes]]:
        """The set and its pages, under the rules and rights that are in force when they are made."""
        while True:
            principal = connection.principal
            if principal is None:
                raise ProtocolError("not_authenticated", "Send an `auth` message with a token first.")
            try:
                found = await self._read(principal, request, sort, MOST_RECORDS + 1)
            except TooLarge:
                raise _too_large(request) from None
            except SnackBaseError as error:
                raise ProtocolError.passing_on(error, collection=request.collection) from None
            if len(found.items) > MOST_RECORDS:
                raise _too_large(request)
            pages = await _pages(request, found.items, size)
            if found.version == self._catalog.version and connection.principal == principal:
                return found, pages

    async def _send(self, connection: Connection, replay: Replay, pages: deque[bytes]) -> None:
        """The pages as fast as the socket takes them, then the replay."""
        try:
            while pages and replay.parts and connection.state is State.LIVE:
                if connection.link is None or connection.link.buffered() > HIGH_WATER:
                    await asyncio.sleep(WAIT_S)
                    continue
                page = pages.popleft()
                self._delivery.owe(connection, -len(page))
                connection.send(page)
                connection.flush()
                await asyncio.sleep(0)
        finally:
            self._delivery.owe(connection, -sum(map(len, pages)))
        if connection.state is State.LIVE:
            self._replays.begin(connection, replay)


def _ended(connection: Connection) -> bool:
    return connection.state is State.ENDED


async def _pages(request: SubscribeRequest, items: Sequence[Record], size: int) -> deque[bytes]:
    """Every page encoded, before any is sent: a set is told whole or not at all. Raises ProtocolError."""
    pages: deque[bytes] = deque()
    total = 0
    for start in range(0, max(len(items), 1), size):
        complete = start + size >= len(items)
        page = protocol.snapshot(request.collection, items[start : start + size], complete=complete, name=request.id)
        total += len(page)
        if total > MOST_BYTES:
            raise _too_large(request)
        pages.append(page)
        await asyncio.sleep(0)
    return pages


def _too_large(request: SubscribeRequest) -> ProtocolError:
    message = f"The list is larger than {MOST_RECORDS} records or {MOST_BYTES >> 20} MB; read it page by page."
    return ProtocolError("snapshot_too_large", message, collection=request.collection)
