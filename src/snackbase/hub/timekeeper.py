"""Keeps every connection's time: heartbeats, pings, expiry. One task and one wheel for all of them.

Timers are monotonic; only a token's own expiry is compared with the wall clock, again at every look, so a clock that
jumps neither hangs a connection nor ends it early. Heartbeats carry the place up to which everything was sent.
"""

import asyncio
import random
import time
from collections.abc import Callable

import structlog

from snackbase.config import Settings
from snackbase.errors import Closing
from snackbase.hub.connection import Connection
from snackbase.model import Head
from snackbase.realtime.session import State, Timing
from snackbase.realtime.timers import Wheel

log = structlog.get_logger("snackbase.hub")

RESOLUTION_S = 0.1


class Timekeeper:
    """Looks after connections when their time has come.

    Args:
        end: ends a connection.
        token: (account, place) -> the position token under the rules now in force.
    """

    def __init__(
        self, timing: Timing, *, end: Callable[[Connection, Closing], None], token: Callable[[str, Head], str]
    ) -> None:
        self._timing = timing
        self._end = end
        self._token = token
        self._wheel: Wheel[Connection] = Wheel(min(RESOLUTION_S, timing.heartbeat_s / 4))

    async def run(self) -> None:
        """For ever."""
        while True:
            await asyncio.sleep(self._wheel.resolution_s)
            now, wall = time.monotonic(), time.time()
            for connection in self._wheel.due(now):
                if connection.state is State.ENDED or connection.look_at > now:
                    continue
                try:
                    self._look_after(connection, now, wall)
                except Exception:
                    # A defect of ours at one connection: the others' time must go on.
                    log.exception("look_after_failed", connection_id=connection.id)
                    connection.cut()

    def begin(self, connection: Connection) -> None:
        """Look after a new connection."""
        self._wake(connection, connection.next_look(time.monotonic(), time.time(), pings=True))

    def soon(self, connection: Connection) -> None:
        """Its deadlines changed: look again at once."""
        self._wake(connection, time.monotonic())

    def beat(self, connection: Connection) -> bool:
        """Send a heartbeat with a position up to which everything of every subscription was sent; False = not now.

        Subscriptions that wait to be judged anew, or are told what went past them meanwhile, have no such place yet;
        those being replayed have their replay's, which moves no stream's resume point: that is the replay's own
        business.
        """
        live = connection.live
        replaying = [replay for replay in connection.replays if replay.parts]
        if live is None or connection.held != sum(len(replay.parts) for replay in replaying):
            return False
        if any(replay.unasked for replay in replaying):
            return False
        at = min((replay.at for replay in replaying), key=lambda head: head.seq) if replaying else live.at
        connection.heartbeat(now_us(), self._token(live.account_id, at), resumable=not replaying)
        return True

    def _look_after(self, connection: Connection, now: float, wall: float) -> None:
        closing = connection.tick(now, wall)
        if closing is not None:
            self._end(connection, closing)
            return
        link = connection.link
        if connection.heartbeat_due(now) and self.beat(connection):
            connection.beaten(now, self._timing, random.random())  # noqa: S311 - jitter, not a secret
        pings = link is not None and link.pings
        # Behind unsent bytes a ping might not be answered in time. That they move shows life; delivery looks at that.
        if link is not None and pings and not link.buffered() and connection.ping_due(now, self._timing):
            link.ping()
        connection.flush()
        self._wake(connection, connection.next_look(now, wall, pings=pings))

    def _wake(self, connection: Connection, at: float) -> None:
        connection.look_at = at
        self._wheel.add(connection, at)


def timing_of(settings: Settings) -> Timing:
    return Timing(
        heartbeat_s=settings.realtime_heartbeat_seconds,
        ping_s=settings.realtime_ping_seconds,
        pong_s=settings.realtime_pong_seconds,
        auth_s=settings.realtime_auth_seconds,
        messages_per_s=settings.realtime_messages_per_second,
        message_burst=settings.realtime_message_burst,
        max_subscriptions=settings.realtime_max_subscriptions,
    )


def now_us() -> int:
    return time.time_ns() // 1000
