"""The PostgreSQL of the tests: it starts, each test has a database of its own, and a crashed one comes back."""

from collections.abc import Callable

import asyncpg

from tests.support.postgres import Cluster


async def test_every_test_has_a_database_of_its_own(postgres: Cluster, postgres_url: str) -> None:
    other = postgres.create()
    connection = await asyncpg.connect(postgres_url)
    try:
        assert int((await connection.fetchval("SHOW server_version")).split(".")[0]) >= 14
        await connection.execute("CREATE TABLE mine(id integer)")
    finally:
        await connection.close()
    assert postgres.sql("SELECT count(*) FROM pg_tables WHERE tablename = 'mine'", database=other) == "0"
    postgres.drop(other)


def test_a_server_of_its_own_survives_a_kill(make_cluster: Callable[..., Cluster]) -> None:
    cluster = make_cluster()
    cluster.sql("CREATE TABLE kept AS SELECT 1 AS id")
    cluster.kill()
    cluster.start()
    assert cluster.sql("SELECT id FROM kept") == "1"
    cluster.restart(mode="immediate")
    assert cluster.sql("SELECT id FROM kept") == "1"
