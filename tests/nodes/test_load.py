"""Three nodes under load with a hostile bus, while they are killed, paused and stopped: nothing is lost or repeated."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from snackbase.storage.postgres.store import PostgresStore
from tests.e2e.support import House
from tests.fault.load import Follower, Load, Writer, compare, end, finish, head_of
from tests.nodes.conftest import MakeNodes, beside, known
from tests.support.nodes import Nodes

PAUSED_S = 4.0


async def trouble(nodes: Nodes, made: Load) -> None:
    """One thing after another, with writes in between."""
    await made.more(60)
    nodes.lines[1].stall()
    await made.more(40)
    await nodes.servers[2].kill()
    await made.more(40)
    nodes.lines[1].heal()
    await nodes.nats.kill()
    await nodes.servers[2].start()
    await made.more(40)
    nodes.pause(1)
    await asyncio.sleep(PAUSED_S)
    nodes.resume(1)
    await nodes.nats.start()
    await made.more(40)
    for server in nodes.servers:
        await server.restart()
        await made.more(30)


@pytest.mark.slow
async def test_three_nodes_through_kills_pauses_restarts_and_a_lost_broker_tell_everybody_everything_once_in_order(
    make_nodes: MakeNodes, postgres_url: str
) -> None:
    nodes = await make_nodes(3, database_url=postgres_url, hostile=0.2)
    async with AsyncExitStack() as opened:
        houses = [await opened.enter_async_context(House(server)) for server in nodes.servers]
        member, collection = await houses[0].founder(), await houses[0].collection("n")
        members = [beside(member, house) for house in houses]
        await known(collection, *members)
        transports = ("websocket", "sse", "websocket")
        made = Load(
            member,
            collection,
            [Writer(one, collection, seed) for seed, one in enumerate(members)],
            [Follower(one, collection, transport=kind) for one, kind in zip(members, transports, strict=True)],
        )
        for follower in made.followers:
            made.come(follower)
            await follower.subscribed.wait()
        writing = [asyncio.create_task(writer.run()) for writer in made.writers]
        try:
            await trouble(nodes, made)
            # Everybody moves to the node after, with the position it has.
            await made.all_leave()
            for number, follower in enumerate(made.followers):
                follower.member = members[(number + 1) % 3]
                made.come(follower)
            await made.more(30)
            await finish(made, writing)
            head = await head_of(made)
            for follower in made.followers:
                await follower.reach(head)
        finally:
            await end(writing)
            await made.all_leave()
    for server in nodes.servers:
        await server.stop()

    store = PostgresStore(postgres_url)
    await store.open()
    try:
        rows = await compare(made, store)
    finally:
        await store.close()
    assert len(rows) > 250
