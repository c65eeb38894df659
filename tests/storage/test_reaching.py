"""PostgreSQL that cannot be reached, or not as it should: what is said of it, what is not, and how it ends."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

import asyncpg
import pytest

from snackbase.config import ConfigError
from snackbase.storage.postgres import writer
from snackbase.storage.postgres.link import Server
from snackbase.storage.postgres.store import PostgresStore
from snackbase.storage.retention import Retention
from tests.conftest import MakeCluster
from tests.storage.support import collection, created, text
from tests.support.database_line import DatabaseLine
from tests.support.postgres import Cluster

DATABASES = ("postgres",)
OpenStore = Callable[..., Awaitable[PostgresStore]]


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not true():  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.01)


# What is shown -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:topsecret/x@db.example.com/name",
        "postgresql://me:x@[topsecret@db.example.com/name",
        "postgresql://me:x@host:topsecret@db.example.com/name",
    ],
)
async def test_a_url_whose_password_is_not_written_as_in_urls_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ConfigError, match="SNACKBASE_DATABASE_URL") as refused:
        await Server(url=url).connect()

    assert "topsecret" not in str(refused.value)


async def test_a_url_that_says_something_else_wrong_is_told_what(postgres: Cluster) -> None:
    with pytest.raises(ConfigError, match="sslmode"):
        await Server(url=f"{postgres.url()}&sslmode=maybe").connect()
    with pytest.raises(ConfigError, match='"nowhere" does not exist'):
        await Server(url=postgres.url("nowhere")).connect()


async def test_the_log_says_why_the_database_cannot_be_reached(
    make_cluster: MakeCluster, caplog: pytest.LogCaptureFixture
) -> None:
    cluster = make_cluster()
    store = PostgresStore(cluster.url())
    await store.open()
    with caplog.at_level(logging.WARNING):
        await asyncio.to_thread(cluster.stop)
        await until(lambda: "the database cannot be reached: FileNotFoundError" in caplog.text)
        await asyncio.to_thread(cluster.start)
        await until(lambda: "the database answers again" in caplog.text)
    await store.close()


async def test_a_log_that_cannot_be_pruned_is_told_once_and_when_it_is_over(
    open_store: OpenStore, postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = await open_store(retention=Retention(changes=1, keep=1, sweep_s=0.05))
    posts = await collection(store, "posts", text("title"))
    owner = await asyncpg.connect(postgres_url)
    await owner.execute("ALTER TABLE _heads ADD CONSTRAINT never CHECK (floor_seq = 0)")
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            await created(store, posts, title="x")
        await until(lambda: "the change log cannot be pruned" in caplog.text)
        looked = store.stats()["log_sweeps"]
        await until(lambda: store.stats()["log_sweeps"] > looked + 2)
        assert caplog.text.count("the change log cannot be pruned") == 1
        await owner.execute("ALTER TABLE _heads DROP CONSTRAINT never")
        await until(lambda: "the change log is pruned again" in caplog.text)
        await until(lambda: store.stats()["pruned_rows"] == 2)
    await owner.close()


async def test_a_node_whose_database_takes_everything_and_answers_nothing_is_not_well(
    postgres: Cluster, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "STUCK_S", 0.2)
    async with DatabaseLine(postgres) as line:
        store = PostgresStore(line.url(postgres_url))
        await store.open()
        posts = await collection(store, "posts", text("title"))
        line.stall()
        waiting = asyncio.ensure_future(created(store, posts, title="x"))
        await until(lambda: store.stats()["healthy"] == 0)
        assert not waiting.done()
        line.heal()
        await waiting
        assert store.stats()["healthy"] == 1
        await store.close()


# How it ends ---------------------------------------------------------------------------------------------------------


async def test_a_server_that_comes_back_as_a_standby_and_is_promoted_later_is_listened_to_again(
    make_cluster: MakeCluster, caplog: pytest.LogCaptureFixture
) -> None:
    """As behind an address that moves to the standby before that has taken over."""
    cluster = make_cluster()
    store = PostgresStore(cluster.url())
    await store.open()
    assert store.stats()["listening"] == 1
    with caplog.at_level(logging.WARNING):
        await asyncio.to_thread(cluster.stop)
        standby = cluster.data / "standby.signal"
        standby.touch()
        standby.chmod(0o666)
        await asyncio.to_thread(cluster.start)
        await until(lambda: "notifications of other nodes do not arrive: ReadOnlySQLTransactionError" in caplog.text)
        cluster.sql("SELECT pg_promote()")
        await until(lambda: store.stats()["listening"] == 1)
        assert "notifications of other nodes arrive again" in caplog.text
    await store.close()
