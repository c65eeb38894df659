"""When rounds are written: at once, or together when they come fast."""

import asyncio
from time import monotonic

import pytest

from snackbase.config import Settings
from snackbase.hub.connection import Connection
from snackbase.hub.delivery import WINDOW_S, Delivery
from snackbase.hub.timekeeper import timing_of
from snackbase.metrics import Counters
from tests.unit.hub.support import WEBSOCKET, RecordingLink

TIMING = timing_of(Settings())


class Desk:
    def __init__(self) -> None:
        self.counters = Counters()

    def receive(self, connection: Connection, payload: bytes) -> None: ...

    def lagging(self, connection: Connection, buffered: int) -> None: ...

    def gone(self, connection: Connection, code: int | None, reason: str) -> None: ...


class Rounds:
    """Rounds at times of our choice; writing each takes `write_s`."""

    def __init__(self, write_s: float) -> None:
        self.now = 1000.0
        self._write_s = write_s
        self._readings = 0
        self.delivery = Delivery(
            most=1 << 20, most_in_all=1 << 20, stall_s=10.0, slow=lambda _connection, _full: None, clock=self._clock
        )
        self.connection = Connection(
            "c1", WEBSOCKET, desk=Desk(), address="x", account=None, stages=False, now=monotonic(), timing=TIMING
        )
        self.link = RecordingLink(WEBSOCKET)
        self.connection.attach(self.link)

    def _clock(self) -> float:
        # Once when a round comes, and again when it is written: then the time of writing has passed.
        self._readings += 1
        return self.now if self._readings % 2 else self.now + self._write_s

    def come(self, after_s: float) -> bool:
        """A round so long after the one before; whether it was written at once."""
        self.now += after_s
        self._readings = 0
        before = self.link.writes
        self.connection.send(b"{}")
        self.delivery.dirty.append(self.connection)
        self.delivery.flush()
        return self.link.writes > before


async def test_rounds_that_come_slower_than_the_window_are_never_put_off_however_long_writing_takes() -> None:
    rounds = Rounds(write_s=0.9 * WINDOW_S)

    assert all([rounds.come(1.25 * WINDOW_S) for _ in range(50)])


async def test_rounds_that_come_faster_than_the_window_share_writes() -> None:
    rounds = Rounds(write_s=0.1 * WINDOW_S)
    at_once = [rounds.come(0.5 * WINDOW_S) for _ in range(50)]
    assert at_once[0]
    assert not any(at_once[-20:])

    rounds.link.news.clear()
    await asyncio.wait_for(rounds.link.news.wait(), 30)
    assert b"".join(rounds.link.written) == b"{}\n" * 50


@pytest.mark.parametrize("gap_s", [1.0, 60.0])
async def test_after_a_quiet_time_nothing_waits(gap_s: float) -> None:
    rounds = Rounds(write_s=0.1 * WINDOW_S)

    assert all([rounds.come(gap_s) for _ in range(5)])
