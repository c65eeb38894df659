"""Replays in turn: one task serves all who resume, a piece each, as fast as each socket takes it.

No client holds the loop: a turn is bounded in time, a piece in transactions and bytes, and who still has unsent bytes
waits. A replay ends when it stands where the feed stands, with no `await` between the look and the join, so between
the last replayed and the first live change there is neither a gap nor a repetition. Live changes need not be held back:
until then they are in the log, and the log is what is read.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic

import structlog

from snackbase.hub.connection import Connection
from snackbase.hub.feeds import failed
from snackbase.hub.passages import Passages, Pruned
from snackbase.metrics import Counters, add
from snackbase.realtime.resume import Passage, Replay
from snackbase.realtime.session import State, Subscription

log = structlog.get_logger("snackbase.hub")

TURN_S = 0.002
PIECE = 64
PIECE_BYTES = 32 << 10
HIGH_WATER = 32 << 10
"""Unsent bytes above which a replay waits: 1,000 at once then hold 64 MB at most."""
WAIT_S = 0.01
RETRY_S = 0.25


class Replays:
    """Runs all replays.

    Args:
        caught_up: called when a replay stands where its feed stands: join, and say so.
        expired: called when the log was pruned under a replay.
        behind: called with an account whose feed is behind a place that a client has reached.
        spawn: starts a task that the application owns.
    """

    def __init__(
        self,
        passages: Passages,
        *,
        caught_up: Callable[[Connection, Replay], None],
        expired: Callable[[Connection, Replay], None],
        behind: Callable[[str], object],
        spawn: Callable[..., object],
        counters: Counters,
    ) -> None:
        self._passages = passages
        self._caught_up = caught_up
        self._expired = expired
        self._behind = behind
        self._spawn = spawn
        self._counters = counters
        self._ready: deque[tuple[Connection, Replay]] = deque()
        self._waiting: list[tuple[float, Connection, Replay]] = []
        self._running = False

    def __len__(self) -> int:
        return len(self._ready) + len(self._waiting)

    def begin(self, connection: Connection, replay: Replay) -> None:
        """Tell a client what it missed, then join its subscriptions to the live stream."""
        if replay not in connection.replays:
            connection.replays += (replay,)
        self._ready.append((connection, replay))
        if not self._running:
            self._running = True
            self._spawn(self._run(), name="replays")

    def drop(self, connection: Connection, subscription: Subscription) -> None:
        """Take a subscription out of its replay, if it is in one."""
        for replay in connection.replays:
            replay.drop(subscription)

    async def _run(self) -> None:
        try:
            while self._ready or self._waiting:
                turn_ends = monotonic() + TURN_S
                while self._ready and monotonic() < turn_ends:
                    await self._guarded(*self._ready.popleft())
                self._wake(monotonic())
                await asyncio.sleep(0 if self._ready else WAIT_S)
        finally:
            self._running = False

    def _wake(self, now: float) -> None:
        due = [(connection, replay) for at, connection, replay in self._waiting if at <= now]
        if due:
            self._waiting = [entry for entry in self._waiting if entry[0] > now]
            self._ready.extend(due)

    async def _guarded(self, connection: Connection, replay: Replay) -> None:
        try:
            await self._step(connection, replay)
        except Exception:
            # A defect of ours at one connection: it resumes again, and the others' replays go on.
            log.exception("replay_failed", connection_id=connection.id)
            connection.cut()

    async def _step(self, connection: Connection, replay: Replay) -> None:
        """One piece of one replay."""
        if connection.state is not State.LIVE or not replay.parts:
            _forget(connection, replay)
            return
        live, link = connection.feed, connection.link
        if link is None or link.buffered() > HIGH_WATER:
            self._later(connection, replay, WAIT_S)
            return
        if max(replay.at.seq, replay.furthest) > live.at.seq:
            # A snapshot, or another node, was ahead of what was routed here.
            self._behind(live.account_id)
            self._later(connection, replay, WAIT_S)
            return
        if replay.at.seq == live.at.seq:
            _forget(connection, replay)
            self._caught_up(connection, replay)
            connection.flush()
            return
        found = self._passages.at_hand(live.account_id, replay.at.seq, PIECE, monotonic())
        if not found:
            await self._fetch(connection, replay)
            return
        self._tell(connection, replay, found, live.at.seq)
        self._ready.append((connection, replay))

    def _tell(self, connection: Connection, replay: Replay, found: Sequence[Passage], until: int) -> None:
        told, size = 0, 0
        for passage in found:
            # The log may be ahead of the feed: what lies beyond will come live.
            if passage.head.seq > until or size > PIECE_BYTES:
                break
            messages, written = replay.tell(passage, PIECE_BYTES - size)
            told += messages
            size += max(passage.size, written)
            if replay.at != passage.head:
                break
        name = connection.wire.name
        add(self._counters.deliveries, name, told)
        add(self._counters.resumes, "events", told)
        connection.flush()

    async def _fetch(self, connection: Connection, replay: Replay) -> None:
        try:
            await self._passages.fetch(connection.feed.account_id, replay.at.seq, monotonic())
        except Pruned:
            if connection.state is State.LIVE and replay in connection.replays:
                _forget(connection, replay)
                self._expired(connection, replay)
                connection.flush()
        except Exception as error:
            # The store has a fault: the client keeps what it has, its position does not move, the next try goes on.
            failed("replay_read_failed", error)
            self._later(connection, replay, RETRY_S)
        else:
            self._ready.append((connection, replay))

    def _later(self, connection: Connection, replay: Replay, wait_s: float) -> None:
        self._waiting.append((monotonic() + wait_s, connection, replay))


def _forget(connection: Connection, replay: Replay) -> None:
    connection.replays = tuple(one for one in connection.replays if one is not replay)
