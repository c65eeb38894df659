"""A standby takes over, with or without everything that was committed: who was told what is gone begins anew."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from snackbase.config import Settings
from snackbase.errors import Unavailable
from snackbase.model import Change
from snackbase.storage.postgres.store import PostgresStore
from tests.conftest import MakeCluster
from tests.storage.support import collection, creating, text, whole_log
from tests.support.postgres import Cluster
from tests.unit.hub.support import House, person


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not true():  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.01)


class Pair:
    """A primary and a standby that follows it, under one URL."""

    def __init__(self, make_cluster: MakeCluster) -> None:
        self.primary = make_cluster()
        self.standby = make_cluster(begin=False)
        where = ("-h", str(self.primary.folder), "-U", "postgres", "-D", str(self.standby.data))
        self.primary.program("pg_basebackup", *where, "-R", "-c", "fast")
        self.standby.start()
        hosts = f"{self.primary.folder},{self.standby.folder}"
        self.url = f"postgresql://postgres@/postgres?host={hosts}&port=5432,5432&target_session_attrs=read-write"

    def caught_up(self) -> None:
        """Wait until the standby has everything."""
        at = self.primary.sql("SELECT pg_current_wal_flush_lsn()")
        while self.standby.sql(f"SELECT pg_last_wal_replay_lsn() >= '{at}'") != "t":
            pass

    def part(self) -> None:
        """From here on the standby hears nothing."""
        self.standby.sql("ALTER SYSTEM SET primary_conninfo = ''")
        self.standby.sql("SELECT pg_reload_conf()")
        while self.standby.sql("SELECT count(*) FROM pg_stat_wal_receiver") != "0":
            pass

    def fail_over(self) -> None:
        self.primary.stop(mode="immediate")
        self.standby.sql("SELECT pg_promote()")


@asynccontextmanager
async def serving(url: str) -> AsyncIterator[House]:
    store = PostgresStore(url)
    await store.open()
    try:
        async with asyncio.TaskGroup() as tasks:
            house = House(store, Settings(), tasks)
            store.on_break = house.hub.doubt
            yield house
            for task in house.tasks.copy():
                task.cancel()
    finally:
        await store.close()


async def written(home: House, account: str, posts: Any) -> Change:
    """Written as soon as the database takes writes again."""
    while True:
        try:
            return (await home.write(account, creating(posts, {"title": "x"}))).changes[0]
        except Unavailable:
            await asyncio.sleep(0.05)


async def follows(home: House, account: str) -> Any:
    client = await home.client(person(f"user of {account}", account))
    client.send(action="subscribe", collection="posts")
    await client.until_types("subscribed")
    return client


@pytest.mark.parametrize("lost", [0, 3])
async def test_who_was_told_what_a_failover_lost_begins_anew_and_everybody_else_goes_on(
    make_cluster: MakeCluster, lost: int
) -> None:
    pair = await asyncio.to_thread(Pair, make_cluster)
    async with serving(pair.url) as home:
        posts = await home.collection("posts", text("title"))
        busy, quiet = await home.account("busy"), await home.account("quiet")
        for account in (busy, quiet):
            await written(home, account, posts)
        clients = {account: await follows(home, account) for account in (busy, quiet)}
        version = await home.store.version()
        await asyncio.to_thread(pair.caught_up)
        if lost:
            await asyncio.to_thread(pair.part)
            for _ in range(lost):
                await written(home, busy, posts)
            await clients[busy].until(lambda: len(clients[busy].events()) == lost)

        await asyncio.to_thread(pair.fail_over)
        # More than was lost: the numbers that were told are given to other changes.
        for _ in range(lost + 2):
            await written(home, busy, posts)
        await written(home, quiet, posts)

        await clients[quiet].until(lambda: len(clients[quiet].events()) == 1)
        if lost:
            await until(lambda: clients[busy].link.aborted)
            assert len(clients[busy].events()) == lost
        else:
            await clients[busy].until(lambda: len(clients[busy].events()) == 2)
        assert not clients[quiet].link.aborted
        log = await whole_log(home.store, busy)
        assert [change.seq for change in log] == list(range(1, lost + 4))
        assert await home.store.version() > version


async def test_a_history_continues_where_nobody_may_ask_for_the_place_in_the_log(make_cluster: MakeCluster) -> None:
    cluster: Cluster = await asyncio.to_thread(make_cluster)
    cluster.sql("REVOKE EXECUTE ON FUNCTION pg_walfile_name FROM PUBLIC")
    cluster.sql("CREATE ROLE app LOGIN")
    cluster.sql("CREATE DATABASE app OWNER app")
    url = cluster.url("app").replace("postgres@", "app@")
    epochs = set()
    for _ in range(2):
        store = PostgresStore(url)
        await store.open()
        epochs.add(store.epoch)
        await collection(store, f"posts{len(epochs)}{len(store.epoch)}{id(store)}"[:40])
        await store.close()

    assert len(epochs) == 1
