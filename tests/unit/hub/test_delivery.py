"""When rounds are written: at once, or together when they come fast; and who reads too slowly."""

import asyncio

import pytest

from snackbase.config import Settings
from snackbase.hub.connection import Connection
from snackbase.hub.delivery import FAST_S, MOST_JOINED, WAIT_EACH_S, WINDOW_S, Delivery
from snackbase.hub.timekeeper import timing_of
from snackbase.metrics import Counters
from tests.unit.hub.support import WEBSOCKET, RecordingLink

TIMING = timing_of(Settings())


class Desk:
    def __init__(self) -> None:
        self.counters = Counters()

    def receive(self, connection: Connection, payload: bytes) -> None: ...

    def lagging(self, connection: Connection, buffered: int, newest: int) -> None: ...

    def gone(self, connection: Connection, code: int | None, reason: str) -> None: ...


class Rounds:
    """Rounds to all of an audience, at times of our choice; writing each takes `write_s`."""

    def __init__(self, audience: int, write_s: float = 0.0) -> None:
        self.now = 1000.0
        self._write_s = write_s
        self._readings = 0
        self.counters = Counters()
        self.delivery = Delivery(
            most=1 << 20,
            most_in_all=1 << 20,
            stall_s=10.0,
            slow=lambda _connection, _full: None,
            counters=self.counters,
            clock=self._clock,
        )
        self.connections = [
            Connection(
                f"c{number}", WEBSOCKET, desk=Desk(), address="x", account=None, stages=False, now=0.0, timing=TIMING
            )
            for number in range(audience)
        ]
        self.links = [RecordingLink(WEBSOCKET) for _ in self.connections]
        for connection, link in zip(self.connections, self.links, strict=True):
            connection.attach(link)

    def _clock(self) -> float:
        # Once when a round comes, and again when it is written: then the time of writing has passed.
        self._readings += 1
        return self.now if self._readings % 2 else self.now + self._write_s

    def come(self, after_s: float) -> bool:
        """A round so long after the one before; whether it was written at once."""
        self.now += after_s
        self._readings = 0
        before = self.links[0].writes
        for connection in self.connections:
            if not connection.out:
                self.delivery.dirty.append(connection)
            connection.send(b"{}")
        self.delivery.flush()
        return self.links[0].writes > before


async def test_rounds_that_do_not_come_fast_are_never_put_off_however_long_writing_takes() -> None:
    rounds = Rounds(200, write_s=0.9 * FAST_S)

    assert all([rounds.come(1.25 * FAST_S) for _ in range(50)])


async def test_rounds_that_come_fast_share_writes_and_lose_nothing() -> None:
    rounds = Rounds(200)
    at_once = [rounds.come(0.5 * FAST_S) for _ in range(50)]
    assert at_once[0]
    assert not any(at_once[-20:])

    for link in rounds.links:
        link.news.clear()
    await asyncio.wait_for(rounds.links[-1].news.wait(), 30)
    assert all(b"".join(link.written) == b"{}\n" * 50 for link in rounds.links)
    assert rounds.links[0].writes < 50


async def test_a_small_audience_does_not_wait_for_fast_rounds_either() -> None:
    rounds = Rounds(2)

    assert all([rounds.come(3 * WAIT_EACH_S) for _ in range(50)])


@pytest.mark.parametrize(("audience", "pause_s"), [(1, WAIT_EACH_S), (100, 100 * WAIT_EACH_S), (250, WINDOW_S)])
async def test_the_pause_grows_with_what_was_written_up_to_the_window(audience: int, pause_s: float) -> None:
    rounds = Rounds(audience)
    rounds.come(1.0)

    assert rounds.delivery.pause_s == pytest.approx(pause_s)


@pytest.mark.parametrize("gap_s", [1.0, 60.0])
async def test_after_a_quiet_time_nothing_waits(gap_s: float) -> None:
    rounds = Rounds(200)

    assert all([rounds.come(gap_s) for _ in range(5)])


async def test_equal_outboxes_are_written_as_one_frame_made_once_and_others_as_they_are() -> None:
    rounds = Rounds(5)
    outboxes = [(b"a", b"b"), (b"a", b"b"), (b"a", b"b"), (b"c",), (b"a", b"d")]
    for connection, outbox in zip(rounds.connections, outboxes, strict=True):
        connection.out += outbox
    rounds.delivery.dirty.extend(rounds.connections)
    rounds.delivery.flush()

    assert [link.written for link in rounds.links] == [[b"a", b"b"], [b"ab"], [b"ab"], [b"c"], [b"a", b"d"]]
    assert rounds.links[1].written[0] is rounds.links[2].written[0]


async def test_a_large_outbox_is_not_joined_for_others_go_on_sharing_its_frames() -> None:
    rounds = Rounds(3)
    large, small = b"e" * MOST_JOINED, b"f"
    for connection in rounds.connections:
        connection.out += (large, small)
    rounds.delivery.dirty.extend(rounds.connections)
    rounds.delivery.flush()

    assert all(link.written[0] is large and link.written[1:] == [small] for link in rounds.links)


async def test_bytes_of_a_round_are_counted_whatever_became_of_one_connection() -> None:
    rounds = Rounds(3)
    for connection in rounds.connections:
        connection.out += (b"four",)
    rounds.links[1].write = lambda _frames: 1 // 0  # type: ignore[method-assign,assignment]
    rounds.delivery.dirty.extend(rounds.connections)
    rounds.delivery.flush()

    assert rounds.counters.bytes_sent == 8


MOST = 1 << 20


class Reader(Desk):
    """A client that takes what was sent when it is told to; `ended` once it was too slow."""

    def __init__(self) -> None:
        super().__init__()
        self.ended = False
        self.delivery = Delivery(
            most=MOST, most_in_all=1 << 40, stall_s=10.0, slow=self._slow, counters=Counters(), clock=lambda: 1000.0
        )
        self.connection = Connection(
            "c1", WEBSOCKET, desk=self, address="x", account=None, stages=False, now=1000.0, timing=TIMING
        )
        self.link = RecordingLink(WEBSOCKET)
        self.connection.attach(self.link)

    def _slow(self, connection: Connection, nothing_kept: bool) -> None:
        self.ended = True

    def lagging(self, connection: Connection, buffered: int, newest: int) -> None:
        self.delivery.lagging(connection, buffered, newest)

    def send(self, size: int) -> bool:
        """One write of so many bytes, of which the kernel takes none; whether the client is still there."""
        self.link.stuck += size
        self.connection.send(b"x" * (size - 1))
        self.connection.flush()
        return self.look()

    def send_easily(self, size: int) -> None:
        """One write of so many bytes, which the kernel takes."""
        self.connection.send(b"x" * (size - 1))
        self.connection.flush()

    def take(self, size: int) -> bool:
        self.link.stuck -= size
        return self.look()

    def look(self) -> bool:
        self.delivery.look(1000.0)
        return not self.ended


def test_who_leaves_more_than_the_limit_unread_is_too_slow() -> None:
    reader = Reader()
    sizes = [1000] * (MOST // 1000 + 1)

    assert all(reader.send(size) for size in sizes)
    assert not reader.send(1000)


def test_one_write_may_be_of_any_size_and_what_comes_behind_it_counts_as_ever() -> None:
    reader = Reader()

    assert reader.send(20 * MOST)
    assert all(reader.send(MOST // 4) for _ in range(4))
    assert reader.take(15 * MOST)
    assert not reader.send(1000)


def test_writes_that_were_taken_whole_change_nothing_for_who_lags_again() -> None:
    reader = Reader()
    assert reader.send(5 * MOST)
    reader.link.stuck = 0  # and nobody has looked yet
    for _ in range(10):
        reader.send_easily(MOST)

    assert all(reader.send(MOST // 4) for _ in range(5)), "the largest of these does not count"
    assert not reader.send(1000)


def test_a_large_write_that_was_taken_makes_room_for_the_next() -> None:
    reader = Reader()
    for _ in range(3):
        assert reader.send(5 * MOST)
        assert reader.send(1000)
        assert reader.take(5 * MOST + 1000)


def test_of_several_large_writes_that_wait_only_one_is_not_counted() -> None:
    reader = Reader()

    assert reader.send(2 * MOST)
    assert not reader.send(3 * MOST)
