"""Lists take turns: one account's slow lists never hold every thread, and what waits is bounded."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from snackbase.errors import Unavailable
from snackbase.storage.base import Query, Store
from snackbase.storage.directory import UserQuery, list_users
from snackbase.storage.turns import Turns
from tests.storage.support import SYSTEM, account, collection, created, text

OpenStore = Callable[..., Awaitable[Store]]


class Crowd:
    """Everybody who has a turn keeps it until told to go."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self.running: list[str] = []
        self._leaving: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def come(self, *names: str) -> None:
        """`a1`: the first list of the account a."""
        for name in names:
            self._leaving[name] = asyncio.Event()
            self.tasks[name] = asyncio.ensure_future(self._run(name))
        await asyncio.sleep(0)
        await asyncio.sleep(0)  # for who had to make room

    async def go(self, name: str) -> None:
        self._leaving[name].set()
        await self.tasks[name]
        await asyncio.sleep(0)

    def refused(self) -> list[str]:
        gone = (name for name, task in self.tasks.items() if task.done())
        return sorted(name for name in gone if isinstance(self.tasks[name].exception(), Unavailable))

    async def _run(self, name: str) -> None:
        async with self._turns.turn(name[0]):
            self.running.append(name)
            try:
                await self._leaving[name].wait()
            finally:
                self.running.remove(name)


async def test_an_account_leaves_a_place_for_the_others() -> None:
    crowd = Crowd(Turns(at_once=3, waiting=10, waiting_each=10))

    await crowd.come("a1", "a2", "a3", "a4")
    assert crowd.running == ["a1", "a2"]
    await crowd.come("b1")
    assert crowd.running == ["a1", "a2", "b1"]


async def test_accounts_that_wait_take_turns() -> None:
    crowd = Crowd(Turns(at_once=1, waiting=10, waiting_each=10))
    await crowd.come("a1", "a2", "a3", "b1", "b2", "c1")

    order = []
    for _ in range(6):
        order.append(crowd.running[0])
        await crowd.go(crowd.running[0])

    assert order == ["a1", "a2", "b1", "c1", "a3", "b2"]


async def test_too_many_who_wait_are_refused_in_all_and_of_one_account() -> None:
    crowd = Crowd(Turns(at_once=1, waiting=4, waiting_each=3))
    await crowd.come("a1", "a2", "a3", "a4", "a5", "b1")

    assert crowd.refused() == ["a5"]
    await crowd.come("a6")
    assert crowd.refused() == ["a5", "a6"]


async def test_where_all_places_are_taken_who_has_most_waiting_makes_room_for_others() -> None:
    turns = Turns(at_once=1, waiting=4, waiting_each=3)
    crowd = Crowd(turns)
    await crowd.come("a1", "a2", "a3", "a4", "b1", "b2")
    assert crowd.refused() == ["a4"], "its last one"
    await crowd.come("c1")
    assert crowd.refused() == ["a3", "a4"]
    await crowd.come("b3")
    assert crowd.refused() == ["a3", "a4", "b3"], "nobody has more waiting than b"
    for name in ("a1", "a2", "b1", "c1", "b2"):
        assert crowd.running == [name]
        await crowd.go(name)
    assert (turns.waiting, turns._free, turns._running) == (0, 1, {})


async def test_who_is_cancelled_in_the_moment_of_their_turn_takes_nothing_with_them() -> None:
    turns = Turns(at_once=1, waiting=10, waiting_each=10)
    crowd = Crowd(turns)
    await crowd.come("a1", "b1", "c1")

    crowd._leaving["a1"].set()
    crowd.tasks["b1"].cancel()
    await crowd.tasks["a1"]
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    assert crowd.running == ["c1"]
    await crowd.go("c1")
    assert (turns.waiting, turns._free, turns._running) == (0, 1, {})


async def test_whoever_gives_up_takes_no_turn_from_the_others() -> None:
    turns = Turns(at_once=1, waiting=10, waiting_each=10)
    crowd = Crowd(turns)
    await crowd.come("a1", "b1", "c1", "d1")

    crowd.tasks["b1"].cancel()
    await asyncio.sleep(0)
    crowd._leaving["a1"].set()
    await crowd.tasks["a1"]
    crowd.tasks["c1"].cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    assert crowd.running == ["d1"]
    await crowd.go("d1")
    assert (turns.waiting, turns._free, turns._running) == (0, 1, {})


async def test_slow_lists_of_one_account_do_not_stop_another_one(open_store: OpenStore) -> None:
    store = await open_store(query_timeout_s=30.0, list_threads=2)
    posts, other = await collection(store, "posts", text("title")), await account(store, "other")
    for number in range(100):
        await created(store, posts, title=str(number))
    theirs = await created(store, posts, account_id=other, title="theirs")
    rows = f"(SELECT count(*) FROM {posts.table} a, {posts.table} b, {posts.table} c, {posts.table} d)"  # noqa: S608 - our own table
    endless = Query(collection=posts, account_id=SYSTEM, where=lambda column, _: f"{rows} > length({column('title')})")
    slow = [asyncio.ensure_future(store.list(endless)) for _ in range(4)]
    await asyncio.sleep(0)

    assert (await store.list(Query(collection=posts, account_id=other))).items == (theirs,)

    assert not any(one.done() for one in slow)
    for one in slow:
        one.cancel()
    await asyncio.gather(*slow, return_exceptions=True)


async def test_lists_of_users_run_beside_the_loop_and_under_the_deadline_of_lists(open_store: OpenStore) -> None:
    store = await open_store(query_timeout_s=-1.0)

    with pytest.raises(Unavailable) as late:
        await list_users(store, UserQuery(account_id=SYSTEM))

    assert late.value.code == "query_timeout"
