"""hub/feeds.py and hub/neighbours.py with a bus between nodes: whatever it loses, doubles or swaps, the log decides."""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snackbase.bus.base import NoBus
from snackbase.catalog import Catalog
from snackbase.hub import feeds as feeds_module
from snackbase.hub.feeds import LiveFeed
from snackbase.hub.neighbours import Neighbours
from snackbase.model import Change
from tests.unit.hub.test_feeds import Scene


class OpenBus(NoBus):
    """A bus that is up, as far as feeds can tell; keeps what it was asked for."""

    configured = True
    up = True

    def __init__(self) -> None:
        self.watched: list[str] = []
        self.unwatched: list[str] = []
        self.told: list[tuple[int, int]] = []

    def watch(self, account_id: str) -> None:
        self.watched.append(account_id)

    def unwatch(self, account_id: str) -> None:
        self.unwatched.append(account_id)

    def publish(self, changes: Sequence[Change], version: int) -> None:
        self.told += [(change.seq, version) for change in changes]


@pytest.fixture(autouse=True)
def _short_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds_module, "HOLD_S", 0.004)


class CountingScene(Scene):
    """Counts how often each row is read from the log."""

    def __init__(self, sizes: list[int]) -> None:
        super().__init__(sizes, bus=OpenBus())
        self.reads: Counter[int] = Counter()
        read = self.store.read_changes

        async def counted(account_id: str, after: int, limit: int) -> list[Change]:
            rows = await read(account_id, after, limit)
            self.reads.update(row.seq for row in rows)
            return rows

        self.store.read_changes = counted  # type: ignore[method-assign]  # a store of the test's own


async def hostile(seed: int, sizes: list[int], drop: float) -> CountingScene:
    """Commit and announce everything, each announcement at its own time, lost, once or twice."""
    chance = random.Random(seed)
    made = CountingScene(sizes)
    await made.feeds.acquire("a")
    loop = asyncio.get_running_loop()
    last = 0.0
    for row in made.store.rows:
        if row.tx_index == 0:
            await asyncio.sleep(chance.choice((0, 0, 0.001)))
            made.store.committed += row.tx_size
        for _ in range(chance.choice((1, 1, 1, 2))):
            if chance.random() >= drop:
                delay_s = chance.choice((0.0, 0.0, 0.001, 0.003, 0.012))
                last = max(last, loop.time() + delay_s)
                loop.call_later(delay_s, made.feeds.accept, [row])
        if chance.random() < 0.1:
            made.feeds.hinted({"a": row.seq}, whole=chance.random() < 0.5)
        if chance.random() < 0.05:
            await made.feeds.look(["a"], grace_s=0.001)
    await asyncio.sleep(max(0.0, last - loop.time()) + 0.01)
    await made.settle()
    return made


@given(seed=st.integers(0, 2**32), sizes=st.lists(st.integers(1, 4), min_size=5, max_size=60), drop=st.floats(0.0, 1.0))
@settings(max_examples=40, deadline=None)
def test_over_a_bus_that_drops_doubles_and_swaps_every_transaction_is_routed_once_whole_and_in_order(
    seed: int, sizes: list[int], drop: float
) -> None:
    made = asyncio.run(hostile(seed, sizes, drop))
    expected, seq = [], 0
    for size in sizes:
        expected.append(list(range(seq + 1, seq + size + 1)))
        seq += size
    assert made.routed == expected
    assert made.lost == 0
    # However many hints there were, nothing was read twice.
    assert max(made.reads.values(), default=0) <= 1


async def test_what_comes_in_the_wrong_order_needs_no_read_of_the_log() -> None:
    made = CountingScene([1] * 5)
    live = await made.feeds.acquire("a")
    made.store.committed = 5
    for seq in (2, 5, 3, 1, 4):
        made.feeds.accept(made.store.rows[seq - 1 : seq])
    assert made.routed == [[1], [2], [3], [4], [5]]
    await asyncio.sleep(0.01)
    assert (made.reads, live.early, live.holding) == ({}, {}, None)


async def test_what_does_not_come_in_a_moment_is_read_from_the_log_and_the_rest_is_not() -> None:
    made = CountingScene([1] * 3)
    await made.feeds.acquire("a")
    made.store.committed = 1
    made.feeds.accept(made.store.rows[1:3])
    assert made.routed == []
    await asyncio.sleep(0.01)
    while made.tasks:
        await asyncio.wait(made.tasks)
    assert made.routed == [[1], [2], [3]]
    assert made.reads == {1: 1}


async def test_each_missing_change_gets_a_moment_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds_module, "HOLD_S", 1000)
    made = CountingScene([1] * 4)
    live = await made.feeds.acquire("a")
    made.store.committed = 4
    made.feeds.accept(made.store.rows[1:2])
    made.feeds.accept([made.store.rows[3], made.store.rows[0]])
    assert made.routed == [[1], [2]]
    made.feeds._waited(live)
    assert live.holding is not None
    made.feeds.accept(made.store.rows[2:3])
    assert made.routed[-2:] == [[3], [4]]
    assert made.reads == {}


async def test_without_a_bus_a_gap_is_read_at_once() -> None:
    made = Scene([1] * 2)
    live = await made.feeds.acquire("a")
    made.store.committed = 2
    made.feeds.hinted({"a": 2, "nobody here": 5}, whole=False)
    assert live.repairing
    while made.tasks:
        await asyncio.wait(made.tasks)
    assert made.routed == [[1], [2]]


async def test_a_notice_of_the_database_waits_for_the_bus_that_tells_more() -> None:
    made = CountingScene([1])
    live = await made.feeds.acquire("a")
    made.store.committed = 1
    made.feeds.hinted({"a": 1}, whole=False)
    assert not live.repairing
    made.feeds.accept(made.store.rows)
    await asyncio.sleep(0.01)
    assert (made.routed, made.reads) == ([[1]], {})


async def test_what_was_kept_in_vain_is_bounded_and_forgotten() -> None:
    made = CountingScene([1] * 600)
    live = await made.feeds.acquire("a")
    made.feeds.accept(made.store.rows[1:])
    assert len(live.early) == feeds_module.EARLY_ROWS
    made.store.committed = 600
    await made.settle()
    assert len(made.routed) == 600
    assert live.early == {}


async def test_the_bus_is_told_which_accounts_are_followed_here() -> None:
    made = CountingScene([1])
    bus = made.feeds._bus
    assert isinstance(bus, OpenBus)
    first, second = await made.feeds.acquire("a"), await made.feeds.acquire("a")
    made.feeds.release(first)
    assert (bus.watched, bus.unwatched) == (["a"], [])
    made.feeds.accept([])
    made.feeds.hinted({"a": 1}, whole=False)
    made.feeds.release(second)
    assert (bus.unwatched, second.holding) == (["a"], None)


async def test_what_was_committed_under_newer_rules_is_read_after_those_rules() -> None:
    made = CountingScene([1, 1])
    catalog, bus = Catalog(), OpenBus()
    order: list[str] = []

    async def refresh() -> None:
        order.append("rules")
        catalog.replace(2, ())

    made.feeds._refresh = refresh
    route = made.feeds._route

    def noted(live: LiveFeed, rows: Sequence[Change]) -> None:
        order.append("change")
        route(live, rows)

    made.feeds._route = noted
    neighbours = Neighbours(bus, made.feeds, catalog, deliver=made.feeds.accept, refresh=refresh, spawn=made.spawn)
    await made.feeds.acquire("a")
    made.store.committed = 1
    neighbours.heard(made.store.rows[:1], 2)
    while made.tasks:
        await asyncio.wait(made.tasks)
    assert order == ["rules", "change"]

    made.store.committed = 2
    neighbours.heard(made.store.rows[1:], 2)
    assert order == ["rules", "change", "change"]
    neighbours.version_hinted(2)
    assert not made.tasks
    neighbours.version_hinted(3)
    await asyncio.wait(made.tasks)
    assert order[-1] == "rules"


async def test_own_changes_are_told_with_the_version_that_is_known_here() -> None:
    made, bus, catalog = CountingScene([1]), OpenBus(), Catalog()
    catalog.replace(6, ())
    neighbours = Neighbours(bus, made.feeds, catalog, deliver=made.feeds.accept, refresh=made.refresh, spawn=made.spawn)
    neighbours.tell(made.store.rows)
    assert bus.told == [(1, 6)]
