"""The partitions of the change log over the years: few, whatever stays of old days, and no row is lost on the way."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import asyncpg
import pytest

from snackbase.model import Collection
from snackbase.storage.postgres.partitions import DAY_US, DAYS_AHEAD, MOST_OLD, tidy_partitions
from snackbase.storage.postgres.store import PostgresStore
from snackbase.storage.retention import Retention
from tests.storage.support import collection, created, text, whole_log

DATABASES = ("postgres",)
OpenStore = Callable[..., Awaitable[PostgresStore]]
FIRST = 20_000
AGE_S = 3600
INSERT = """INSERT INTO _changes(account, seq, ts_us, op, collection_id, schema_version, record_id, data, tx_id,
    tx_index, tx_size) VALUES (0, $1, $2, 'create', 'c', 1, 'r', '{}', 't', 0, 1)"""


class Years:
    """A store whose clock is the test's, and the keeper's work done when the test says so."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.now_us = FIRST * DAY_US
        self.store: PostgresStore
        self.posts: Collection

    async def day(self, *, tidy: bool = True) -> None:
        """A change, the night, and what is done about the partitions."""
        await created(self.store, self.posts, title="x")
        self.now_us += DAY_US
        if tidy:
            await self.tidy()

    async def tidy(self) -> None:
        await tidy_partitions(self.connection, self.now_us, AGE_S * 1_000_000)

    async def partitions(self) -> list[str]:
        rows = await self.connection.fetch(
            "SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = '_changes'::regclass"
        )
        return sorted(row["name"].removeprefix("_changes_") for row in rows)


@pytest.fixture
async def years(open_store: OpenStore, postgres_url: str) -> AsyncIterator[Years]:
    connection = await asyncpg.connect(postgres_url)
    made = Years(connection)
    made.store = await open_store(now_us=lambda: made.now_us, retention=Retention(age_s=AGE_S, keep=1000))
    made.posts = await collection(made.store, "posts", text("title"))
    yield made
    await connection.close()


async def test_old_days_of_which_something_stays_are_put_together_and_the_log_stays_as_it_was(years: Years) -> None:
    days = 40
    seen = []
    for _ in range(days):
        await years.day()
        seen.append(len(await years.partitions()))

    # The days past retention, two that are not yet, those to come, and the one for the rest.
    assert max(seen) <= MOST_OLD + 1 + 2 + 1 + DAYS_AHEAD + 1
    log = await whole_log(years.store)
    assert [change.seq for change in log] == list(range(1, days + 1))
    assert [change.ts_us // DAY_US for change in log] == list(range(FIRST, FIRST + days))
    assert await years.connection.fetchval("SELECT count(*) FROM _changes") == days
    indexes = await years.connection.fetchval(
        "SELECT count(*) FROM pg_inherits WHERE inhparent = '_changes_place'::regclass"
    )
    assert indexes == len(await years.partitions())


async def test_what_came_while_a_day_had_no_partition_goes_where_its_days_go(years: Years) -> None:
    for _ in range(5):
        await years.day(tidy=False)
    assert await years.connection.fetchval("SELECT count(*) FROM _changes_rest") == 5 - DAYS_AHEAD - 1
    for _ in range(15):
        await years.day()

    assert await years.connection.fetchval("SELECT count(*) FROM _changes_rest") == 0
    assert [change.seq for change in await whole_log(years.store)] == list(range(1, 21))


async def test_while_somebody_is_in_the_log_its_days_stay_as_they_are_and_writers_go_on(
    years: Years, session: Any
) -> None:
    for _ in range(MOST_OLD + 2):
        await years.day()
    before = await years.partitions()
    transaction = session.transaction()
    await transaction.start()
    await session.execute("SELECT count(*) FROM _changes")

    for _ in range(3):
        await years.day()
    assert set(before) <= set(await years.partitions())

    await transaction.rollback()
    await years.tidy()
    assert not set(before) <= set(await years.partitions())
    assert [change.seq for change in await whole_log(years.store)] == list(range(1, MOST_OLD + 6))


async def test_what_a_node_whose_clock_is_behind_writes_meanwhile_does_not_go_with_an_empty_day(
    years: Years, session: Any
) -> None:
    years.now_us += 5 * DAY_US
    transaction = session.transaction()
    await transaction.start()
    await session.execute(INSERT, 1, FIRST * DAY_US)
    tidying = asyncio.ensure_future(years.tidy())
    waits = "SELECT 1 FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock'"
    while not tidying.done() and not await session.fetch(waits):  # noqa: ASYNC110 - another process
        await asyncio.sleep(0)
    await transaction.commit()
    await tidying

    await years.tidy()
    assert await session.fetchval("SELECT count(*) FROM _changes WHERE seq = 1") == 1
