"""Schema changes on PostgreSQL that did not come to their end: what they left is in nobody's way."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from snackbase.errors import Unavailable
from snackbase.model import Collection
from snackbase.storage.postgres import alter
from snackbase.storage.postgres.schema import POSTGRES
from snackbase.storage.postgres.store import PostgresStore
from snackbase.storage.schema import indexes
from tests.storage.support import altered, collection, created, text

DATABASES = ("postgres",)
OpenStore = Callable[..., Awaitable[PostgresStore]]
BUILDING = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'CREATE%CONCURRENTLY%' AND wait_event_type = 'Lock'"


async def indexes_of(session: Any, posts: Collection) -> set[str]:
    rows = await session.fetch("SELECT indexname::text AS name FROM pg_indexes WHERE tablename = $1", posts.table)
    return {row["name"] for row in rows}


def unique_slug(posts: Collection) -> str:
    """The statement that makes the index of a unique slug."""
    wanted = Collection(
        **{name: getattr(posts, name) for name in posts.__struct_fields__} | {"fields": (text("slug", unique=True),)}
    )
    return next(index.sql for index in indexes(wanted, POSTGRES).values() if index.unique)


@pytest.mark.parametrize("small_rows", [1, 5000])
async def test_a_change_whose_index_was_built_before_its_node_died_can_be_made_again(
    open_store: OpenStore, session: Any, monkeypatch: pytest.MonkeyPatch, small_rows: int
) -> None:
    monkeypatch.setattr(alter, "SMALL_ROWS", small_rows)
    store = await open_store()
    posts = await collection(store, "posts", text("slug"))
    for slug in ("a", "b"):
        await created(store, posts, slug=slug)
    await session.execute(unique_slug(posts))

    posts = await altered(store, posts, fields=(text("slug", unique=True),))

    assert set(indexes(posts, POSTGRES)) < await indexes_of(session, posts)
    await created(store, posts, slug="c")


async def test_a_change_whose_connection_breaks_while_an_index_is_built_can_be_made_again(
    open_store: OpenStore, session: Any, watcher: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alter, "SMALL_ROWS", 1)
    store = await open_store()
    posts = await collection(store, "posts", text("slug"))
    for slug in ("a", "b"):
        await created(store, posts, slug=slug)
    transaction = session.transaction()
    await transaction.start()
    await session.execute(f"UPDATE {posts.table} SET slug = slug")  # noqa: S608 - ours
    changing = asyncio.ensure_future(altered(store, posts, fields=(text("slug", unique=True),)))
    async with asyncio.timeout(30):
        while not (found := await watcher.fetch(BUILDING)):  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.01)
    await watcher.fetch("SELECT pg_terminate_backend($1)", found[0]["pid"])
    with pytest.raises(Unavailable):
        await changing
    await transaction.rollback()

    posts = await altered(store, posts, fields=(text("slug", unique=True),))
    assert set(indexes(posts, POSTGRES)) < await indexes_of(session, posts)


async def test_an_index_that_no_definition_has_is_removed_at_the_next_start_and_others_stay(
    open_store: OpenStore, session: Any
) -> None:
    store = await open_store()
    posts = await collection(store, "posts", text("slug"))
    long = await collection(store, "n" * 64, text("f" * 60, unique=True))
    await session.execute(unique_slug(posts))
    await session.execute(f"CREATE INDEX of_the_owner ON {posts.table}(slug)")
    before = await indexes_of(session, long)
    assert any("unique:slug" in name for name in await indexes_of(session, posts))

    await open_store()

    assert await indexes_of(session, posts) == {*indexes(posts, POSTGRES), "c_posts_pkey", "of_the_owner"}
    assert await indexes_of(session, long) == before


async def test_a_start_does_not_wait_for_those_who_read_a_table_of_which_an_index_is_to_be_removed(
    open_store: OpenStore, session: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(alter, "SWEEP_MS", 50)
    store = await open_store()
    posts = await collection(store, "posts", text("slug"))
    await session.execute(unique_slug(posts))
    transaction = session.transaction()
    await transaction.start()
    await session.execute(f"SELECT * FROM {posts.table}")  # noqa: S608 - ours

    with caplog.at_level(logging.WARNING):
        async with asyncio.timeout(60):
            await open_store()
    assert "stays until the next start" in caplog.text

    await transaction.rollback()
    await open_store()
    assert await indexes_of(session, posts) == {*indexes(posts, POSTGRES), "c_posts_pkey"}


async def test_an_index_may_take_longer_to_build_than_the_databases_owner_allows_a_statement(
    open_store: OpenStore, session: Any, watcher: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alter, "SMALL_ROWS", 1)
    name = await session.fetchval("SELECT current_database()")
    await session.execute(f"ALTER DATABASE {name} SET statement_timeout = '500ms'")
    store = await open_store()
    posts = await collection(store, "posts", text("slug"))
    for slug in ("a", "b"):
        await created(store, posts, slug=slug)
    transaction = session.transaction()
    await transaction.start()
    await session.execute(f"UPDATE {posts.table} SET slug = slug")  # noqa: S608 - ours
    changing = asyncio.ensure_future(altered(store, posts, fields=(text("slug", unique=True),)))
    async with asyncio.timeout(30):
        long = f"{BUILDING} AND now() - query_start > '800ms'"
        while not changing.done() and not await watcher.fetch(long):  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.01)
    await transaction.rollback()

    assert [field.unique for field in (await changing).fields] == [True]
