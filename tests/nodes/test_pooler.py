"""Nodes behind a pooler that gives each transaction another connection; what needs a session goes past it."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from types import ModuleType

import asyncpg
import pytest

from snackbase.storage.postgres.store import PostgresStore
from tests.e2e.support import House
from tests.fault.load import Follower, Load, Writer, compare, end, finish, head_of
from tests.nodes.conftest import MakeNodes, beside, known, metric
from tests.support.nodes import SECRET
from tests.support.postgres import Cluster
from tests.support.server import ServerFailed, ServerProcess

POOL = 4
"""Fewer than the two nodes have connections to the pooler: whoever relies on one of them keeping something fails."""


async def test_two_nodes_behind_a_transaction_pooler_tell_everybody_everything_once_in_order(
    make_nodes: MakeNodes, postgres: Cluster, postgres_url: str, pgbouncer: ModuleType
) -> None:
    database = postgres_url.partition("?")[0].rpartition("/")[2]
    async with pgbouncer.PgBouncer(postgres, size=POOL) as pooler, AsyncExitStack() as opened:
        settings = {"DATABASE_DIRECT_URL": postgres_url}
        nodes = await make_nodes(2, database_url=pooler.url(database), bus=False, settings=settings)
        houses = [await opened.enter_async_context(House(server)) for server in nodes.servers]
        member, collection = await houses[0].founder(), await houses[0].collection("n")
        members = [beside(member, house) for house in houses]
        await known(collection, *members)
        made = Load(
            member,
            collection,
            [Writer(members[number % 2], collection, number) for number in range(6)],
            [Follower(one, collection, transport=kind) for one in members for kind in ("websocket", "sse")],
        )
        for follower in made.followers:
            made.come(follower)
            await follower.subscribed.wait()
        writing = [asyncio.create_task(writer.run()) for writer in made.writers]
        try:
            await made.more(100)
            # A schema changes while everybody writes: a statement prepared for the old one would be refused.
            superadmin = await houses[1].superadmin()
            other = await houses[1].collection("n")
            for name in ("first", "second"):
                schema = [{"name": "n", "type": "text"}, {"name": name, "type": "text"}]
                await superadmin.request("PUT", f"/collections/{other}", json={"schema": schema})
                assert (await members[1].create(other, **{name: "x"}))[name] == "x"
                await made.more(60)
            listed = await members[1].request(
                "GET", f"/records/{collection}", params={"filter": "n != 'x'", "limit": 5}
            )
            assert len(listed.json()["items"]) == 5
            await finish(made, writing)
            head = await head_of(made)
            for follower in made.followers:
                await follower.reach(head)
        finally:
            await end(writing)
            await made.all_leave()
        # The followers of each node heard of the other's writes by notification, which only the direct line carries.
        for house in houses:
            assert await metric(house, "store_listening") == 1
            assert await metric(house, "store_hints") > 0
        assert await _through(postgres_url) <= POOL
        assert [writer.failed for writer in made.writers] == [[]] * len(made.writers)
    store = PostgresStore(postgres_url)
    await store.open()
    try:
        assert len(await compare(made, store)) > 200
    finally:
        await store.close()


async def test_a_pooler_without_a_way_past_it_is_refused_with_the_setting_that_is_missing(
    tmp_path: Path, postgres: Cluster, postgres_url: str, pgbouncer: ModuleType
) -> None:
    database = postgres_url.partition("?")[0].rpartition("/")[2]
    async with pgbouncer.PgBouncer(postgres, size=POOL) as pooler:
        server = ServerProcess(tmp_path, settings={"DATABASE_URL": pooler.url(database), "SECRET_KEY": SECRET})
        try:
            with pytest.raises(ServerFailed):
                await server.start()
        finally:
            await server.kill()
        assert server.returncode == 2
        assert "set SNACKBASE_DATABASE_DIRECT_URL" in server.output
        assert "Traceback" not in server.output


async def _through(url: str) -> int:
    """Connections of the pooler's to the database: those that did not say who they are."""
    connection = await asyncpg.connect(url)
    try:
        count = await connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = ''"
            " AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
        return int(count)
    finally:
        await connection.close()
