"""Rounds: whatever committed since the last one is routed, then every dirty connection gets one write. Steps 7 and 8.

Self-clocked: while one round is written, what commits joins the next, and rounds that come fast share a window of a few
milliseconds, the longer the more there is to write, so the cost of a delivery falls as load rises. Routing never waits:
rights are in force at once. Writing is sliced so that the loop is never held long. Unsent bytes are bounded for each
connection and for the process; who reads too slowly is ended with 4003, and nobody else notices.
"""

import asyncio
from collections.abc import Callable
from time import monotonic

import structlog

from snackbase.hub.connection import Connection
from snackbase.metrics import Counters
from snackbase.realtime.groups import Member
from snackbase.realtime.session import State

log = structlog.get_logger("snackbase.hub")

SLICE = 256
"""Connections written in one go: about 2 ms at the 7-9 µs a send(2) costs here (bench/)."""
FAST_S = 0.004
"""Rounds that come faster than this share writes: below 250 a second nobody waits, above it a delivery costs less the
more events there are. What counts is when rounds come, not when the last write ended: else writing would be put off
into the next request's way as soon as both together take longer than the pause between two events (200 a second to 200:
median latency of a create 2.6 times that without subscribers)."""
WAIT_EACH_S = 50e-6
"""The pause between two writes that are shared, for each connection that the last one went to. A write takes some 5 us
here, so writing takes a tenth of the time, and a small audience hardly waits."""
WINDOW_S = 0.010
"""The longest of these pauses. Of 500 events a second to 200, five share a write: a delivery costs 0.63 of a send(2) of
its own in C; with 4 ms it was 0.8, with p99 9 ms instead of 15."""
PACE_OF = 8
"""Rounds over which their distance is averaged, so that one that comes late or early changes nothing."""
MOST_JOINED = 65536
"""Bytes of an outbox that is made one frame."""
WATCH_S = 0.25


class Together:
    """Makes one frame of several for those whose outboxes are equal: joined once, each write to the kernel is cheaper.

    A lone outbox is left as it is, and so is a large one: a slow reader keeps the frames, which others share with it.
    """

    __slots__ = ("_frames", "_joined")

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        self._frames: tuple[bytes, ...] | None = None
        self._joined: bytes | None = None

    def of(self, frames: tuple[bytes, ...]) -> tuple[bytes, ...]:
        """What to write for this outbox."""
        if frames != self._frames:
            self._frames, self._joined = frames, None
            return frames
        if self._joined is None:
            if sum(map(len, frames)) > MOST_JOINED:
                return frames
            self._joined = b"".join(frames)
        return (self._joined,)


class Lag:
    """How a connection with unsent bytes gets on: what the kernel had taken when it last moved, and when.

    Counted are the bytes of writes that left some unsent: where the kernel takes one whole, nothing waits before it.

    Its largest write is not counted against the limit: a transaction or a page of a snapshot leaves in one write,
    however large it is, and who was ended for it would meet it again each time they come back.
    """

    __slots__ = ("_end", "_start", "sent", "since", "taken")

    def __init__(self, taken: int, since: float) -> None:
        self.taken = taken
        self.since = since
        self.sent = self._start = self._end = 0

    def note(self, start: int, end: int, taken: int) -> None:
        """A write that stands between these two of all the bytes handed over."""
        if end - start >= self._unsent_of_largest(taken):
            self._start, self._end = start, end

    def counted(self, buffered: int, taken: int) -> int:
        """Unsent bytes besides the largest write."""
        return buffered - self._unsent_of_largest(taken)

    def _unsent_of_largest(self, taken: int) -> int:
        return max(0, self._end - max(taken, self._start))


class Delivery:
    """Writes to dirty connections and watches those that lag.

    Args:
        most, most_in_all: bytes that may wait unsent: for one connection, besides its largest write; for the process.
        stall_s: how long unsent bytes may make no progress.
        slow: called with a connection that must end as a slow consumer; and whether nothing more may be kept for it.
        counters: bytes handed to links are counted there.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        *,
        most: int,
        most_in_all: int,
        stall_s: float,
        slow: Callable[[Connection, bool], None],
        counters: Counters,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._clock = clock
        self._most = most
        self._most_in_all = most_in_all
        self._stall_s = stall_s
        self._slow = slow
        self._counters = counters
        self.dirty: list[Connection] = []
        self._lagging: dict[Connection, Lag] = {}
        self._owed: dict[Connection, int] = {}
        self._flushing = False
        self._flushed_at = self._asked_at = 0.0
        self._pace_s = 2 * FAST_S
        self._written = 0
        self._together = Together()
        self.buffered = 0

    def flush(self) -> None:
        """Write the dirty connections: at once or, while rounds come fast, when the pause after the last write is over.

        A slice now and the rest in the loop's next turns.
        """
        if not self.dirty:
            return
        now = self._clock()
        self._pace_s += (min(now - self._asked_at, 2 * FAST_S) - self._pace_s) / PACE_OF
        self._asked_at = now
        if self._flushing:
            return
        self._flushing = True
        wait = self._flushed_at + self.pause_s - now
        if wait > 0 and self._pace_s < FAST_S:
            asyncio.get_running_loop().call_later(wait, self._flush_all)
        else:
            self._flush_all()

    @property
    def pause_s(self) -> float:
        """How long a write that is shared comes after the last one."""
        return min(WINDOW_S, self._written * WAIT_EACH_S)

    def _flush_all(self) -> None:
        self._written = 0
        self._flush_slice()

    def _flush_slice(self) -> None:
        now = self.dirty[:SLICE]
        del self.dirty[:SLICE]
        self._written += len(now)
        handed = 0
        for connection in now:
            try:
                if len(connection.out) > 1:
                    connection.out = self._together.of(connection.out)
                handed += connection.hand_over()
            except Exception:
                # A defect of ours at one connection: it must not keep the others from being written to.
                log.exception("flush_failed", connection_id=connection.id)
                connection.cut()
        self._counters.bytes_sent += handed
        if self.dirty:
            asyncio.get_running_loop().call_soon(self._flush_slice)
        else:
            self._together.forget()
            self._flushing = False
            self._flushed_at = self._clock()

    def lagging(self, connection: Connection, buffered: int, newest: int) -> None:
        """A write of `newest` bytes left some unsent."""
        lag = self._lagging.get(connection)
        if lag is None:
            lag = self._lagging[connection] = Lag(newest - buffered, self._clock())
        lag.sent += newest
        taken = lag.sent - buffered
        lag.note(lag.sent - newest, lag.sent, taken)
        if lag.counted(buffered, taken) > self._most and connection.state is not State.ENDED:
            self._slow(connection, False)

    def end(self, left_out: list[Member]) -> None:
        """End who was not given a transaction, since too much was made of it; nobody is left on the list."""
        for connection in left_out:
            if isinstance(connection, Connection):
                # Its other subscriptions may have been given the transaction: a stream would resume behind it.
                connection.out = ()
                self._slow(connection, True)
        left_out.clear()

    def owe(self, connection: Connection, size: int) -> None:
        """So many bytes more are kept for a connection until its transport takes them (fewer: a negative number)."""
        owed = self.owed(connection) + size
        if owed:
            self._owed[connection] = owed
        else:
            self._owed.pop(connection, None)

    def owed(self, connection: Connection) -> int:
        return self._owed.get(connection, 0)

    def forget(self, connection: Connection) -> None:
        self._lagging.pop(connection, None)

    async def watch(self) -> None:
        """Look after the lagging connections, for ever."""
        while True:
            await asyncio.sleep(WATCH_S)
            self.look(self._clock())

    def look(self, now: float) -> None:
        """End who makes no progress, and the worst while the process holds too much."""
        waiting = dict(self._owed)
        for connection, lag in list(self._lagging.items()):
            buffered = connection.link.buffered() if connection.link is not None else 0
            if not buffered:
                del self._lagging[connection]
                continue
            taken = lag.sent - buffered
            if taken > lag.taken:
                lag.taken, lag.since = taken, now
            waiting[connection] = waiting.get(connection, 0) + buffered
            too_much = lag.counted(buffered, taken) > self._most
            if connection.state is not State.ENDED and (too_much or now - lag.since >= self._stall_s):
                self._slow(connection, False)
        self.buffered = sum(waiting.values())
        excess = self.buffered - self._most_in_all
        for connection, buffered in sorted(waiting.items(), key=lambda entry: entry[1], reverse=True):
            if excess <= 0:
                break
            self._slow(connection, True)
            excess -= buffered
