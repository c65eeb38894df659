"""SIGKILL of a server under load, at random moments and at every named point of the path.

Whatever was acknowledged is there, every change reaches every client that comes back, once and in order, and no number
is given twice (I1 to I3, I5, I6, I8). `make soak` kills 200 times.
"""

import asyncio
import contextlib
import os
import random

import pytest

from tests.conftest import MakeServer
from tests.e2e.support import House
from tests.fault import dying
from tests.fault.load import AWAY, Load, check, load
from tests.support.files import write_whole
from tests.support.server import ROOT, ServerProcess

KILLS = int(os.environ.get("SOAK_KILLS", "10"))
AT_A_POINT = 3
SIGKILLED = -9


async def come_and_go(made: Load, chance: random.Random) -> None:
    """Some clients are away when it happens, some are not."""
    await made.all_leave()
    for follower in made.followers:
        if chance.random() < 0.7:
            made.come(follower)


async def all_come(made: Load) -> None:
    await made.all_leave()
    for follower in made.followers:
        made.come(follower)


@pytest.mark.slow
async def test_kills_at_random_moments_lose_nothing_and_repeat_nothing(make_server: MakeServer) -> None:
    server = await make_server(settings={"REALTIME_HEARTBEAT_SECONDS": 1})
    chance = random.Random(20261124)
    async with House(server) as house, load(house, seed=7) as made:
        for _ in range(KILLS):
            await made.more(chance.randrange(1, 120))
            await come_and_go(made, chance)
            await made.more(chance.randrange(1, 60))
            await server.kill()
            await server.start()
            await all_come(made)
    await server.stop()
    rows = await check(made, server.folder / "snackbase.db")

    assert len(rows) >= len(made.acknowledged) > KILLS * 2
    print(f"{KILLS} kills, {len(made.acknowledged)} acknowledged writes, {len(rows)} changes heard by all clients")


async def end_of(server: ServerProcess) -> int:
    async with asyncio.timeout(60):
        while server.returncode is None:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.01)
    return server.returncode


async def add_fields(house: House, collection: str, server: ServerProcess) -> None:
    """Add a field again and again, until the server is gone in the middle of it."""
    root = await house.superadmin()
    path = f"/collections/{collection}"
    with contextlib.suppress(*AWAY):
        while server.returncode is None:
            schema = (await root.request("GET", path)).json()["schema"]
            await root.request("PUT", path, json={"schema": [*schema, {"name": f"f{len(schema)}", "type": "text"}]})


@pytest.mark.slow
async def test_an_answer_before_the_commit_would_be_noticed(make_server: MakeServer) -> None:
    """The same comparison, with a writer that tells before it commits: it must not pass."""
    server = await make_server(
        arguments=("serve", "tests.fault.dying:app"),
        environment={"DIE_AT": dying.TOO_EARLY, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])},
    )
    async with House(server) as house, load(house, seed=3) as made:
        await made.more(20)
        write_whole(server.folder / dying.ARMED, "1")
        assert await end_of(server) == SIGKILLED
        await server.start()
        await made.more(20)
    await server.stop()

    with pytest.raises(AssertionError, match="acknowledged, but not there"):
        await check(made, server.folder / "snackbase.db")


@pytest.mark.slow
@pytest.mark.parametrize("point", dying.POINTS)
async def test_a_kill_at_a_point_of_the_path_loses_nothing_and_repeats_nothing(
    make_server: MakeServer, point: str
) -> None:
    server = await make_server(
        arguments=("serve", "tests.fault.dying:app"),
        settings={
            "REALTIME_HEARTBEAT_SECONDS": 1,
            "RETENTION_CHANGES": 600 if point == "while pruning" else 100_000,
            "RETENTION_KEEP": 500,
            "RETENTION_SWEEP_SECONDS": 0.05,
        },
        environment={"DIE_AT": point, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])},
    )
    chance = random.Random(point)
    async with House(server) as house, load(house, seed=11) as made:
        for _ in range(AT_A_POINT):
            await made.more(20)
            if point == "while replaying":
                await made.all_leave()
                await made.more(100)
            write_whole(server.folder / dying.ARMED, str(chance.randrange(1, 5)))
            if point == "while replaying":
                await all_come(made)
            if point == "while changing a schema":
                await add_fields(house, made.collection, server)
            assert await end_of(server) == SIGKILLED
            assert not (server.folder / dying.ARMED).exists()
            await server.start()
    await server.stop()
    await check(made, server.folder / "snackbase.db")
