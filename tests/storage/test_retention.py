"""What leaves the change log, by which rule, and what stays true of the rest (I3, I8)."""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import pairwise
from typing import Any

import pytest

from snackbase.model import Change, Collection, Head, Position
from snackbase.realtime.position import Positions
from snackbase.realtime.resume import refusal
from snackbase.storage.retention import Retention
from snackbase.storage.sqlite import SQLiteStore
from tests.storage.support import SYSTEM, account, collection, created, creating, text, whole_log, write

OpenStore = Callable[..., Awaitable[SQLiteStore]]
SWEEP_S = 0.01
HOUR_US = 3_600_000_000


class Clock:
    """A wall clock that the test moves."""

    def __init__(self) -> None:
        self.us = 1_000 * HOUR_US

    def __call__(self) -> int:
        return self.us


@pytest.fixture
def clock() -> Clock:
    return Clock()


Keeping = Callable[..., Awaitable[tuple[SQLiteStore, Collection]]]


@pytest.fixture
async def keeping(open_store: OpenStore, clock: Clock) -> Keeping:
    """A store that keeps so much, with a collection."""

    async def make(**retention: Any) -> tuple[SQLiteStore, Collection]:
        kept = Retention(**{"sweep_s": SWEEP_S, "keep": 1, **retention})
        store = await open_store(retention=kept, now_us=clock, synchronous="OFF")
        known = (await store.collections())[1]
        return store, known[0] if known else await collection(store, "posts", text("title"))

    return make


async def pruned_to(store: SQLiteStore, floor: int, account_id: str = SYSTEM) -> list[Change]:
    """Wait until the log begins right after `floor`, see that it stays so, and give it."""
    async with asyncio.timeout(20):
        while (await store.window(account_id, 0)).floor.seq < floor:  # noqa: ASYNC110 - the writer thread tells nobody
            await asyncio.sleep(SWEEP_S)
    await swept(store)
    log = await whole_log(store, account_id)
    window = await store.window(account_id, 0)
    assert window.floor.seq == floor
    assert [change.seq for change in log] == list(range(floor + 1, window.head.seq + 1))
    return log


async def swept(store: SQLiteStore) -> None:
    """Wait until a whole sweep went by that began from now on."""
    wanted = store.stats()["log_sweeps"] + 2
    async with asyncio.timeout(20):
        while store.stats()["log_sweeps"] < wanted:  # noqa: ASYNC110 - the writer thread tells nobody
            await asyncio.sleep(SWEEP_S)


async def write_many(
    store: SQLiteStore, posts: Collection, count: int, account_id: str = SYSTEM, **values: str
) -> None:
    for _ in range(count):
        await created(store, posts, account_id=account_id, **{"title": "x", **values})


async def test_what_is_too_old_goes_and_the_rest_stays(keeping: Keeping, clock: Clock) -> None:
    store, posts = await keeping(age_s=3600)
    await write_many(store, posts, 7)
    clock.us += HOUR_US // 2
    await write_many(store, posts, 5)
    await swept(store)
    assert len(await whole_log(store)) == 12

    clock.us += HOUR_US // 2 + 1

    log = await pruned_to(store, 7)
    assert len(log) == 5
    assert (await store.window(SYSTEM, 7)).floor == Head(7, 1_000 * HOUR_US)
    assert store.stats()["log_rows"] == 5
    assert store.stats()["oldest_change_seconds"] == 1800.000001


async def test_what_is_too_much_of_one_account_goes_from_that_account_alone(keeping: Keeping) -> None:
    store, posts = await keeping(changes=10)
    other = await account(store, "other")
    await write_many(store, posts, 35)
    await write_many(store, posts, 9, other)

    await pruned_to(store, 25)

    assert len(await whole_log(store, other)) == 9
    assert store.stats()["pruned_rows"] == 25


async def test_what_is_too_large_in_all_goes_from_the_largest_logs(keeping: Keeping) -> None:
    store, posts = await keeping(size=100_000, keep=3)
    quiet, other = await account(store, "quiet"), await account(store, "other")
    await write_many(store, posts, 5, quiet, title="q" * 100)
    await write_many(store, posts, 60, title="x" * 1000)
    await write_many(store, posts, 60, other, title="x" * 1000)

    async with asyncio.timeout(20):
        while store.stats()["log_bytes"] > 100_000:  # noqa: ASYNC110 - as above
            await asyncio.sleep(SWEEP_S)
    await swept(store)

    lengths = [len(await whole_log(store, one)) for one in (SYSTEM, other, quiet)]
    assert lengths[2] == 5
    assert sum(lengths[:2]) < 75
    assert all(length >= 3 for length in lengths)
    assert (await store.fetch("SELECT sum(bytes) FROM _heads"))[0][0] == store.stats()["log_bytes"]


async def test_the_newest_of_each_account_stay_whatever_the_other_rules_say(keeping: Keeping, clock: Clock) -> None:
    store, posts = await keeping(age_s=1, changes=2, size=1, keep=20)
    await write_many(store, posts, 30)
    clock.us += HOUR_US

    await pruned_to(store, 10)


async def test_a_transaction_goes_whole_or_not_at_all(keeping: Keeping) -> None:
    store, posts = await keeping(changes=10, keep=1)
    for size in (4, 4, 7, 3):
        await write(store, *(creating(posts, {"title": "x"}) for _ in range(size)))

    log = await pruned_to(store, 8)

    assert (log[0].tx_index, log[0].tx_size) == (0, 7)


async def test_a_transaction_larger_than_a_piece_goes_too(keeping: Keeping) -> None:
    store, posts = await keeping(changes=10)
    await write(store, *(creating(posts, {"title": "x"}) for _ in range(900)))
    await write_many(store, posts, 9)
    await swept(store)
    assert (await store.window(SYSTEM, 0)).floor.seq == 0

    await write_many(store, posts, 1)

    await pruned_to(store, 900)


async def test_the_size_of_the_log_is_known_without_reading_it(keeping: Keeping) -> None:
    store, posts = await keeping(changes=30)
    other = await account(store, "other")
    await write_many(store, posts, 50, title="é" * 10)
    await write_many(store, posts, 40, other)
    await pruned_to(store, 20)
    await pruned_to(store, 10, other)

    ((counted,),) = await store.fetch(
        "SELECT sum(200 + octet_length(data) + coalesce(octet_length(prev), 0)) FROM _changes"
    )
    assert (await store.fetch("SELECT sum(bytes) FROM _heads")) == [(counted,)]
    assert (store.stats()["log_bytes"], store.stats()["log_rows"]) == (counted, 60)


async def test_a_position_at_the_floor_resumes_and_one_before_it_is_expired(keeping: Keeping, clock: Clock) -> None:
    store, posts = await keeping(changes=10)
    positions = Positions(store.epoch)
    tokens = [positions.token(SYSTEM, Position(0, 0, 1))]
    for number in range(25):
        clock.us += 1000 * number
        committed = await write(store, creating(posts, {"title": "x"}))
        tokens.append(positions.token(SYSTEM, Position(committed.head.seq, committed.head.ts_us, 1)))
    await pruned_to(store, 15)

    reasons = []
    for text_ in tokens:
        token = positions.parse(text_)
        assert token is not None
        reasons.append(refusal(token, positions, SYSTEM, await store.window(SYSTEM, token.seq)))

    assert reasons == [*["expired"] * 15, *[None] * 11]
    assert [change.seq for change in await store.read_changes(SYSTEM, 15, 100)] == list(range(16, 26))


async def test_numbers_go_on_where_they_were_after_everything_but_the_newest_is_gone(keeping: Keeping) -> None:
    store, posts = await keeping(changes=1)
    await write_many(store, posts, 20)
    await pruned_to(store, 19)
    await store.close()

    store, posts = await keeping(changes=1)
    committed = await write(store, creating(posts, {"title": "x"}))

    assert committed.head.seq == 21
    await pruned_to(store, 20)


async def test_two_processes_prune_the_same_log_once(keeping: Keeping) -> None:
    first, posts = await keeping(changes=10)
    second, _ = await keeping(changes=10)

    await asyncio.gather(*(write_many(store, posts, 60) for store in (first, second)))

    log = await pruned_to(first, 110)
    assert first.stats()["pruned_rows"] + second.stats()["pruned_rows"] == 110
    assert all(later.ts_us >= earlier.ts_us for earlier, later in pairwise(log))


async def test_many_accounts_are_looked_at_over_several_steps(
    keeping: Keeping, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("snackbase.storage.retention.ACCOUNTS_AT_ONCE", 3)
    store, posts = await keeping(changes=2)
    others = [await account(store, f"other-{number}") for number in range(8)]
    for other in others:
        await write_many(store, posts, 5, other)

    for other in others:
        await pruned_to(store, 3, other)
    assert store.stats()["log_rows"] == 16
