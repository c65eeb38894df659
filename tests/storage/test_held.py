"""Other sessions of the same PostgreSQL hold what a node wants: tables, records, numbers. Others go on."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic
from typing import Any

import pytest

from snackbase.errors import NotFound, Unavailable
from snackbase.storage.base import Transaction
from snackbase.storage.group import Item
from snackbase.storage.postgres import alter, lanes
from snackbase.storage.postgres.lanes import Lanes
from snackbase.storage.postgres.store import PostgresStore
from snackbase.storage.postgres.wave import Key
from snackbase.storage.statements import Tables
from snackbase.storage.transaction import prepare
from tests.storage.support import SYSTEM, account, altered, collection, created, text, updating, whole_log, write

DATABASES = ("postgres",)
OpenStore = Callable[..., Awaitable[PostgresStore]]


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not true():  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.01)


async def until_somebody_waits(watcher: Any) -> None:
    """For a lock, in the session's database, beyond the moments of a group."""
    waits = """SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
        AND clock_timestamp() - query_start > '100ms'"""
    async with asyncio.timeout(30):
        while not await watcher.fetch(waits):  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.01)


# Tables --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["SHARE", "EXCLUSIVE", "ACCESS EXCLUSIVE"])
async def test_a_table_that_another_session_holds_delays_its_own_writes_and_nobody_elses(
    open_store: OpenStore, session: Any, mode: str
) -> None:
    """An index that is built without CONCURRENTLY, a VACUUM FULL, a LOCK TABLE."""
    store = await open_store()
    posts = await collection(store, "posts", text("title"))
    notes = await collection(store, "notes", text("title"))
    there = await created(store, posts, title="0")
    transaction = session.transaction()
    await transaction.start()
    await session.execute(f"LOCK TABLE {posts.table} IN {mode} MODE")

    waiting = [asyncio.ensure_future(created(store, posts, title="new")) for _ in range(3)]
    updates = [
        asyncio.ensure_future(write(store, updating(posts, there["id"], {"title": f"{turn}"}))) for turn in (1, 2, 3)
    ]
    both = [asyncio.ensure_future(created(store, notes, title="beside")) for _ in range(3)]
    await asyncio.gather(*both)
    await until(lambda: store.stats()["side_lanes"] == 6)
    for _ in range(5):
        await created(store, notes, title="after")

    assert not any(one.done() for one in (*waiting, *updates))
    assert (store.stats()["healthy"], store.stats()["faults"]) == (1, 0)
    await transaction.rollback()
    await asyncio.gather(*waiting)
    done = [await one for one in updates]
    assert [one.head.seq for one in done] == sorted(one.head.seq for one in done)
    assert (await store.get(posts, SYSTEM, there["id"]) or {})["title"] == "3"
    log = await whole_log(store)
    assert [change.seq for change in log] == list(range(1, len(log) + 1))


# Records -------------------------------------------------------------------------------------------------------------


async def test_who_waits_for_a_record_waits_on_a_connection_that_is_still_one(
    open_store: OpenStore, session: Any
) -> None:
    store = await open_store()
    posts = await collection(store, "posts", text("title"))
    there = (await created(store, posts, title="0"))["id"]
    for turn in (1, 2):
        transaction = session.transaction()
        await transaction.start()
        await session.execute(f"SELECT 1 FROM {posts.table} FOR UPDATE")  # noqa: S608 - ours
        waiting = asyncio.ensure_future(write(store, updating(posts, there, {"title": f"{turn}"})))
        await until(lambda: store.stats()["side_lanes"] == 1)
        await transaction.rollback()
        await waiting
        # As when the server was restarted meanwhile.
        (resting,) = store._writer._idle
        await session.fetch("SELECT pg_terminate_backend($1)", resting.get_server_pid())
        await until(resting.is_closed)


# Schema changes ------------------------------------------------------------------------------------------------------


async def test_a_record_that_somebody_waits_for_keeps_no_other_collection_from_being_changed(
    open_store: OpenStore, session: Any, watcher: Any
) -> None:
    store = await open_store()
    posts = await collection(store, "posts", text("title"))
    notes = await collection(store, "notes", text("title"))
    there = (await created(store, posts, title="0"))["id"]
    transaction = session.transaction()
    await transaction.start()
    await session.execute(f"SELECT 1 FROM {posts.table} FOR UPDATE")  # noqa: S608 - ours
    waiting = asyncio.ensure_future(write(store, updating(posts, there, {"title": "1"})))
    await until_somebody_waits(watcher)

    notes = await altered(store, notes, fields=(*notes.fields, text("more")))
    await created(store, notes, title="x", more="y")

    assert not waiting.done()
    await transaction.rollback()
    assert (await waiting).changes[0].data["title"] == "1"


async def test_a_collection_that_somebody_reads_while_it_is_to_be_changed_keeps_nobody_from_writing_others(
    open_store: OpenStore, session: Any, watcher: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alter, "LOCK_MS", 60_000)
    store = await open_store()
    posts = await collection(store, "posts", text("title"))
    notes = await collection(store, "notes", text("title"))
    transaction = session.transaction()
    await transaction.start()
    await session.execute(f"SELECT 1 FROM {posts.table}")  # noqa: S608 - ours
    changing = asyncio.ensure_future(altered(store, posts, fields=(*posts.fields, text("more"))))
    await until_somebody_waits(watcher)

    async with asyncio.timeout(30):
        await created(store, notes, title="x")

    assert not changing.done()
    await transaction.rollback()
    assert [field.name for field in (await changing).fields] == ["title", "more"]


async def test_a_write_that_waited_for_a_table_which_was_dropped_is_told_so(
    open_store: OpenStore, session: Any, watcher: Any
) -> None:
    store = await open_store()
    posts = await collection(store, "posts", text("title"))
    transaction = session.transaction()
    await transaction.start()
    await session.execute(f"LOCK TABLE {posts.table} IN SHARE MODE")
    waiting = asyncio.ensure_future(created(store, posts, title="x"))
    await until(lambda: store.stats()["side_lanes"] == 1)
    await until_somebody_waits(watcher)
    # Granted to this session in one go, before any who wait.
    await session.execute(f"DROP TABLE {posts.table}")
    await session.execute("DELETE FROM _collections")
    await session.execute("UPDATE _meta SET value = (value::int + 1)::text WHERE key = 'version'")
    await transaction.commit()

    with pytest.raises(NotFound) as gone:
        await waiting
    assert gone.value.code == "collection_not_found"


# Numbers -------------------------------------------------------------------------------------------------------------


async def test_a_writer_whose_connection_breaks_while_it_looks_for_held_numbers_goes_on(
    open_store: OpenStore, session: Any, watcher: Any
) -> None:
    store = await open_store()
    posts = await collection(store, "posts", text("title"))
    await created(store, posts, title="first")
    transaction = session.transaction()
    await transaction.start()
    await session.execute("LOCK TABLE _heads IN ACCESS EXCLUSIVE MODE")
    waiting = asyncio.ensure_future(created(store, posts, title="x"))

    looks = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%SKIP LOCKED%'"
    async with asyncio.timeout(30):
        while not (found := await watcher.fetch(looks)):  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.005)
    await watcher.fetch("SELECT pg_terminate_backend($1)", found[0]["pid"])
    with pytest.raises(Unavailable):
        await waiting
    await transaction.rollback()

    async with asyncio.timeout(30):
        await created(store, posts, title="after")
    assert [change.seq for change in await whole_log(store)] == [1, 2]


async def test_a_held_number_of_an_account_that_a_node_has_not_met_delays_that_account_alone(
    open_store: OpenStore, session: Any
) -> None:
    first = await open_store()
    posts = await collection(first, "posts", text("title"))
    other = await account(first, "other")
    await created(first, posts, title="first")
    store = await open_store()
    transaction = session.transaction()
    await transaction.start()
    await session.execute("SELECT 1 FROM _heads WHERE account = 0 FOR UPDATE")

    held = asyncio.ensure_future(created(store, posts, title="held"))
    free = await created(store, posts, account_id=other, title="free")

    assert free["title"] == "free"
    await until(lambda: store.stats()["side_lanes"] == 1)
    # It was tried twice: with the held one, and without.
    assert store.stats()["retries"] == 1
    await transaction.rollback()
    await held


# The queue behind a held record ---------------------------------------------------------------------------------------


async def test_who_queues_behind_a_held_record_waits_no_longer_than_from_the_moment_of_asking() -> None:
    told: list[float] = []
    go_on = asyncio.Event()

    async def run(_item: Item, _keys: Sequence[Key], deadline: float) -> None:
        told.append(deadline)
        await go_on.wait()

    waiting = Lanes(run, lambda _item, _error: None)
    prepared = prepare(Transaction(account_id=SYSTEM), Tables())
    for _ in range(3):
        waiting.add(Item(prepared, asyncio.get_running_loop().create_future()), [("posts", SYSTEM, "held")])
    asked_by = monotonic()
    while not told:  # noqa: ASYNC110 - its own task tells
        await asyncio.sleep(0)
    while monotonic() <= asked_by:  # noqa: ASYNC110 - until a deadline from now would be another one
        await asyncio.sleep(0)
    go_on.set()
    await waiting.close()

    assert len(told) == 3
    assert all(deadline <= asked_by + lanes.PATIENCE_S for deadline in told)


# What a database's owner sets for all its sessions -------------------------------------------------------------------


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
async def test_whatever_isolation_is_the_databases_default_two_nodes_write_one_account_at_once(
    open_store: OpenStore, session: Any, level: str
) -> None:
    name = await session.fetchval("SELECT current_database()")
    await session.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = '{level}'")
    nodes = await asyncio.gather(*(open_store() for _ in range(2)))
    posts = await collection(nodes[0], "posts", text("title"))

    for _ in range(5):
        await asyncio.gather(*(created(node, posts, title="x") for node in nodes for _ in range(20)))

    assert [change.seq for change in await whole_log(nodes[0])] == list(range(1, 201))
    assert [node.stats()["retries"] for node in nodes] == [0, 0]


async def test_a_short_read_that_the_databases_owner_cuts_off_is_said_to_be_late(
    open_store: OpenStore, session: Any
) -> None:
    name = await session.fetchval("SELECT current_database()")
    await session.execute(f"ALTER DATABASE {name} SET statement_timeout = '200ms'")
    store = await open_store()
    transaction = session.transaction()
    await transaction.start()
    await session.execute("LOCK TABLE _heads IN ACCESS EXCLUSIVE MODE")

    with pytest.raises(Unavailable) as late:
        await store.head(SYSTEM)
    assert late.value.code == "query_timeout"
    await transaction.rollback()


async def test_a_list_of_a_node_that_stands_still_is_ended_by_the_server(open_store: OpenStore) -> None:
    """Else the rows that everybody's writes leave behind could not be removed for as long."""
    store = await open_store()
    assert await store.scan(None, "SHOW idle_in_transaction_session_timeout") == [("5s",)]
