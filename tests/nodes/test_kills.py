"""SIGKILL of nodes under load, at random moments and at every named point of the path over PostgreSQL.

Writers and followers go to any node, hints are lost, doubled and late. Whatever was acknowledged is there, every change
reaches every client that comes back anywhere, once and in order. `make soak SOAK_NODES=3` kills 200 times.
"""

import asyncio
import contextlib
import os
import random

import pytest

from tests.e2e.support import House
from tests.fault import dying as above
from tests.fault.load import AWAY, Load
from tests.fault.test_kills import SIGKILLED, all_come, come_and_go, end_of
from tests.nodes import dying
from tests.nodes.conftest import MakeNodes
from tests.nodes.crowd import check, crowd
from tests.support.files import write_whole
from tests.support.nodes import Nodes

KILLS = int(os.environ.get("SOAK_KILLS", "6"))
COUNT = int(os.environ.get("SOAK_NODES") or "2")
AT_A_POINT = int(os.environ.get("SOAK_AT_A_POINT", "1"))
HOSTILE = 0.2


async def kill_some(nodes: Nodes, made: Load, chance: random.Random) -> None:
    """One node and sometimes all; now and then the others go on for a while before it is back."""
    killed = nodes.servers if chance.random() < 0.15 else [chance.choice(nodes.servers)]
    await asyncio.gather(*(server.kill() for server in killed))
    if len(killed) < len(nodes.servers) and chance.random() < 0.5:
        await made.more(chance.randrange(1, 60))
    await asyncio.gather(*(server.start() for server in killed))


@pytest.mark.slow
async def test_kills_of_nodes_at_random_moments_lose_nothing_and_repeat_nothing(
    make_nodes: MakeNodes, postgres_url: str
) -> None:
    nodes = await make_nodes(COUNT, database_url=postgres_url, hostile=HOSTILE)
    chance = random.Random(20261124)
    async with crowd(nodes, seed=7) as made:
        for _ in range(KILLS):
            await made.more(chance.randrange(1, 120))
            await come_and_go(made, chance)
            await made.more(chance.randrange(1, 60))
            await kill_some(nodes, made, chance)
            await all_come(made)
    rows = await check(made, nodes, postgres_url)

    assert len(rows) >= len(made.acknowledged) > KILLS * 2
    told = f"{len(made.acknowledged)} acknowledged writes, {len(rows)} changes heard by all clients"
    print(f"{KILLS} kills of {COUNT} nodes, {told}, {sum(one.returns for one in made.followers)} returns")


async def add_fields(nodes: Nodes, made: Load) -> None:
    """Add a field again and again through the first node, until it is gone in the middle of it."""
    server = nodes.servers[0]
    async with House(server) as house:
        root = await house.superadmin()
        path = f"/collections/{made.collection}"
        with contextlib.suppress(*AWAY):
            while server.returncode is None:
                schema = (await root.request("GET", path)).json()["schema"]
                await root.request("PUT", path, json={"schema": [*schema, {"name": f"f{len(schema)}", "type": "text"}]})


async def dies(nodes: Nodes, made: Load, point: str, number: int) -> None:
    """The first node comes to the point and is gone; the others go on, then it is back."""
    first = nodes.servers[0]
    if point == dying.REPLAYING:
        await made.all_leave()
        await made.more(50)
    write_whole(first.folder / above.ARMED, f"{number} {point}")
    if point in dying.CHANGING:
        await add_fields(nodes, made)
    while point == dying.REPLAYING and first.running:
        await all_come(made)
        await made.more(5)
    assert await end_of(first) == SIGKILLED, point
    assert not (first.folder / above.ARMED).exists()
    await made.more(20)
    await first.start()


@pytest.mark.slow
@pytest.mark.parametrize("points", [dying.COMMITTING, (dying.REPLAYING, *dying.CHANGING), (dying.PRUNING,)])
async def test_a_node_killed_at_a_point_of_the_path_loses_nothing_and_repeats_nothing(
    make_nodes: MakeNodes, postgres_url: str, points: tuple[str, ...]
) -> None:
    early = dying.PRUNING in points
    nodes = await make_nodes(
        COUNT,
        database_url=postgres_url,
        hostile=HOSTILE,
        application="tests.nodes.dying:app",
        settings={"RETENTION_CHANGES": 400, "RETENTION_KEEP": 300, "RETENTION_SWEEP_SECONDS": 0.05} if early else {},
    )
    chance = random.Random(points[0])
    async with crowd(nodes, seed=11) as made:
        for _ in range(AT_A_POINT):
            for point in points:
                await made.more(20)
                await dies(nodes, made, point, chance.randrange(1, 5))
    await check(made, nodes, postgres_url)


@pytest.mark.slow
async def test_a_node_that_tells_before_the_commit_would_be_noticed(make_nodes: MakeNodes, postgres_url: str) -> None:
    """The same comparison, with a node that answers and tells before it commits: it must not pass."""
    nodes = await make_nodes(COUNT, database_url=postgres_url, application="tests.nodes.dying:app")
    first = nodes.servers[0]
    async with crowd(nodes, seed=3) as made:
        await made.more(20)
        write_whole(first.folder / above.ARMED, f"1 {dying.TOO_EARLY}")
        assert await end_of(first) == SIGKILLED
        await first.start()
        await made.more(20)

    with pytest.raises(AssertionError, match="acknowledged, but not there"):
        await check(made, nodes, postgres_url)
