"""hub/feeds.py: in order, once, none missing, whatever the announcements do (I6, I7)."""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snackbase.bus.base import Bus, NoBus
from snackbase.hub import feeds as feeds_module
from snackbase.hub.feeds import Feeds, LiveFeed
from snackbase.metrics import Counters
from snackbase.model import Change, Head, Op
from snackbase.storage.base import Window


def change(seq: int, index: int = 0, size: int = 1) -> Change:
    return Change(
        account_id="a",
        seq=seq,
        ts_us=seq,
        op=Op.CREATE,
        collection_id="c",
        schema_version=0,
        record_id=str(seq),
        data={},
        raw=b"{}",
        tx_id=str(seq - index),
        tx_index=index,
        tx_size=size,
    )


def log_of(sizes: list[int]) -> list[Change]:
    """A log whose transactions have these sizes."""
    rows: list[Change] = []
    for size in sizes:
        rows.extend(change(len(rows) + 1, index, size) for index in range(size))
    return rows


LATER_US = 1000


class OpenBus(NoBus):
    """One that is up, and brings nothing by itself."""

    configured = up = True


class LogStore:
    """The part of a Store that feeds read: a log in memory of which a prefix is committed."""

    def __init__(self, rows: list[Change]) -> None:
        self.rows = rows
        self.committed = 0
        self.pruned = 0
        self.reads = 0

    async def head(self, account_id: str) -> Head:
        return Head(self.committed, self.rows[self.committed - 1].ts_us if self.committed else 0)

    async def heads(self, account_ids: Sequence[str]) -> dict[str, Head]:
        return {account_id: await self.head(account_id) for account_id in account_ids}

    async def window(self, account_id: str, seq: int) -> Window:
        await asyncio.sleep(0)
        ts_us = self.rows[seq - 1].ts_us if 0 < seq <= self.committed else None
        return Window(head=await self.head(account_id), floor=Head(0, 0), ts_us=ts_us)

    async def read_changes(self, account_id: str, after: int, limit: int) -> list[Change]:
        self.reads += 1
        await asyncio.sleep(0)
        return self.rows[max(after, self.pruned) : self.committed][:limit]


class Scene:
    """Feeds over a log store; what was routed is in `routed`."""

    def __init__(self, sizes: list[int], *, bus: Bus | None = None) -> None:
        self.store = LogStore(log_of(sizes))
        self.routed: list[list[int]] = []
        self.rows: list[Sequence[Change]] = []
        self.lost = 0
        self.tasks: set[asyncio.Task[Any]] = set()
        self.refreshed = 0
        self.feeds = Feeds(
            self.store,  # type: ignore[arg-type]  # only what feeds read
            route=self.route,
            lost=self.note_lost,
            refresh=self.refresh,
            spawn=self.spawn,
            tally=Counters(),
            bus=bus or NoBus(),
        )

    def spawn(self, work: Coroutine[Any, Any, Any], *, name: str) -> None:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def route(self, live: LiveFeed, changes: Sequence[Change]) -> None:
        self.routed.append([row.seq for row in changes])
        self.rows.append(list(changes))

    async def refresh(self) -> None:
        """What is read from the log may be of another process, with other rules."""
        self.refreshed += 1

    def note_lost(self, live: LiveFeed, reason: str) -> None:
        self.lost += 1

    async def settle(self) -> None:
        """Let repairs end, then poll once more and let those end."""
        for _ in range(2):
            while self.tasks:
                await asyncio.wait(self.tasks)
            await self.feeds.check(["a"])
        while self.tasks:
            await asyncio.wait(self.tasks)


@given(
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=12),
    hints=st.lists(st.integers(1, 48), max_size=60),
    start=st.integers(0, 3),
)
@settings(max_examples=200, deadline=None)
def test_whatever_announcements_are_lost_doubled_or_swapped_every_transaction_is_routed_once_whole_and_in_order(
    sizes: list[int], hints: list[int], start: int
) -> None:
    async def scene() -> None:
        made = Scene(sizes)
        store = made.store
        begun = min(start, len(sizes))
        store.committed = sum(sizes[:begun])
        await made.feeds.acquire("a")
        store.committed = len(store.rows)
        for hint in hints:
            made.feeds.accept(store.rows[hint - 1 : hint])
            await asyncio.sleep(0)
        await made.settle()
        expected, seq = [], sum(sizes[:begun])
        for size in sizes[begun:]:
            expected.append(list(range(seq + 1, seq + size + 1)))
            seq += size
        assert made.routed == expected
        assert made.lost == 0

    asyncio.run(scene())


@given(
    kept=st.integers(0, 3),
    lost=st.lists(st.integers(1, 3), min_size=1, max_size=4),
    new=st.lists(st.integers(1, 3), max_size=4),
    told=st.lists(st.integers(1, 12), max_size=12),
    turns=st.integers(0, 3),
)
@settings(max_examples=200, deadline=None)
def test_after_a_promotion_nothing_that_it_lost_is_routed_unless_the_feed_is_lost_too(
    kept: int, lost: list[int], new: list[int], told: list[int], turns: int
) -> None:
    async def scene() -> None:
        made = Scene([1] * kept + lost, bus=OpenBus())
        store = made.store
        old = store.rows
        store.committed = kept
        await made.feeds.acquire("a")
        # Hints of what the standby does not have; it takes over.
        for seq in told:
            made.feeds.accept(old[kept + seq - 1 : kept + seq])
        for _ in range(turns):
            await asyncio.sleep(0)
        store.rows = [
            msgspec.structs.replace(row, ts_us=row.ts_us + LATER_US * (row.seq > kept))
            for row in log_of([1] * kept + new)
        ]
        store.committed = len(store.rows)
        made.feeds.doubt()
        made.feeds.hinted({"a": store.committed}, whole=True)
        await made.settle()

        gone = [row for rows in made.rows for row in rows if row.seq > kept and row.ts_us < LATER_US]
        if gone:
            assert made.lost == 1
        else:
            assert [row for rows in made.rows for row in rows] == store.rows[kept:]
            assert made.lost == 0

    asyncio.run(scene())


async def test_announcements_in_order_need_no_read_of_the_log() -> None:
    made = Scene([1, 2, 1])
    await made.feeds.acquire("a")
    made.store.committed = 4
    made.feeds.accept(made.store.rows)
    assert made.routed == [[1], [2, 3], [4]]
    assert made.store.reads == 0


async def test_a_missing_tail_is_found_by_the_poll() -> None:
    made = Scene([1, 1])
    live = await made.feeds.acquire("a")
    made.store.committed = 2
    await made.settle()
    assert made.routed == [[1], [2]]
    assert live.at == Head(2, 2)


async def test_a_poll_finds_a_missing_tail_after_a_moment_of_grace() -> None:
    made = Scene([1, 1])
    await made.feeds.acquire("a")
    made.store.committed = 2
    await made.feeds.look(["a"], grace_s=0)
    await asyncio.wait(made.tasks)
    assert made.routed == [[1], [2]]


async def test_a_poll_of_many_accounts_gives_one_moment_of_grace_to_all_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One for each piece of the accounts would add up to seconds, in which a lost change of rights is not found."""
    monkeypatch.setattr(feeds_module, "POLL_CHUNK", 1)
    made = Scene([1])
    asked: list[str] = []

    async def heads(accounts: Sequence[str]) -> dict[str, Head]:
        asked.extend(accounts)
        return await LogStore.heads(made.store, accounts)

    monkeypatch.setattr(made.store, "heads", heads)
    for account_id in ("a", "b", "c"):
        await made.feeds.acquire(account_id)
    made.store.committed = 1
    await made.feeds.look_at_all()
    assert asked == ["a", "b", "c", "a", "b", "c"]


async def test_what_is_still_being_announced_is_not_read_from_the_log() -> None:
    made = Scene([1, 1])
    await made.feeds.acquire("a")
    made.store.committed = 1
    looking = asyncio.ensure_future(made.feeds.look(["a"], grace_s=0))
    await asyncio.sleep(0)
    made.feeds.accept(made.store.rows[:1])
    made.store.committed = 2
    await looking
    assert made.routed == [[1]]
    assert (made.store.reads, made.tasks) == (0, set())


async def test_a_feed_whose_next_rows_were_pruned_says_so_and_goes_on_from_the_head() -> None:
    made = Scene([1] * 10)
    live = await made.feeds.acquire("a")
    made.store.committed, made.store.pruned = 9, 5
    made.feeds.accept(made.store.rows[8:9])
    await made.settle()
    assert made.lost == 1
    assert live.at.seq == 9
    made.store.committed = 10
    made.feeds.accept(made.store.rows[9:10])
    assert made.routed == [[10]]


async def test_changes_of_accounts_that_nobody_follows_cost_nothing() -> None:
    made = Scene([1])
    made.feeds.accept(made.store.rows)
    assert made.routed == []
    live = await made.feeds.acquire("a")
    made.feeds.release(live)
    assert len(made.feeds) == 0


async def test_two_who_open_at_once_share_one_feed_and_one_read_of_the_head() -> None:
    made = Scene([1, 1])
    first, second = await asyncio.gather(made.feeds.acquire("a"), made.feeds.acquire("a"))
    assert first is second
    made.feeds.release(first)
    assert len(made.feeds) == 1


async def test_few_accounts_are_looked_after_twice_a_second_and_many_never_more_rarely_than_promised() -> None:
    made = Scene([1])
    pauses = []
    for count in (1, 2000, 4000, 7000):
        while len(made.feeds) < count:
            await made.feeds.acquire(f"account {len(made.feeds)}")
        pauses.append(made.feeds.pause_s)
    assert pauses == [0.5, 0.5, 1.0, 1.5]


async def test_a_feed_whose_head_was_read_before_a_promotion_is_in_doubt_afterwards() -> None:
    made = Scene([1, 1], bus=OpenBus())
    store, old = made.store, made.store.head
    store.committed = 2
    read, told = asyncio.Event(), asyncio.Event()

    async def slow(account_id: str) -> Head:
        head = await old(account_id)
        read.set()
        await told.wait()
        return head

    store.head = slow  # type: ignore[method-assign]  # the answer is on its way
    opening = asyncio.create_task(made.feeds.acquire("a"))
    await read.wait()
    store.head = old  # type: ignore[method-assign]
    store.rows = [msgspec.structs.replace(row, ts_us=row.ts_us + LATER_US * (row.seq > 1)) for row in log_of([1, 1])]
    made.feeds.doubt()
    told.set()
    live = await opening
    await made.settle()

    assert made.lost == 1
    assert live.at == Head(2, 2 + LATER_US)
