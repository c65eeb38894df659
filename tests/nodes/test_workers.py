"""`snackbase serve --workers`: several processes behind one port, evenly used, replaced without a failed request."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.e2e.support import House
from tests.support.nodes import SECRET
from tests.support.server import ROOT, ServerProcess

CONNECTIONS = 60


def workers_of(server: ServerProcess) -> list[int]:
    """Process ids of those that serve, the oldest first."""
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
    return [int(pid) for pid in children]


def open_connections(pid: int, port: int) -> set[int]:
    """Where the established TCP connections of a process on the server's port come from: the clients' ports."""
    ports = {}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "01" and int(words[1].rpartition(":")[2], 16) == port:
                ports[words[9]] = int(words[2].rpartition(":")[2], 16)
    found = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = os.readlink(entry)  # noqa: PTH115 - of a socket there is no path
        except OSError:
            continue
        match = re.fullmatch(r"socket:\[(\d+)\]", target)
        if match is not None and match[1] in ports:
            found.add(ports[match[1]])
    return found


@pytest.fixture
async def server(tmp_path: Path, postgres_url: str) -> AsyncIterator[ServerProcess]:
    made = ServerProcess(
        tmp_path / "workers",
        settings={"DATABASE_URL": postgres_url, "SECRET_KEY": SECRET, "REALTIME_HEARTBEAT_SECONDS": 1},
        arguments=("serve", "--workers", "2"),
    )
    async with made:
        yield made


async def test_connections_are_spread_evenly_and_each_worker_hears_what_the_other_commits(
    server: ServerProcess,
) -> None:
    async with House(server) as house:
        member, posts = await house.founder(), await house.collection("title")
        followings = [await house.follow("websocket", member, posts) for _ in range(CONNECTIONS)]

        spread = [len(open_connections(pid, server.port)) for pid in workers_of(server)]
        assert len(spread) == 2
        assert max(spread) - min(spread) <= CONNECTIONS // 10, spread

        for number in range(6):
            await member.create(posts, title=str(number))
        told = [[event["data"]["title"] for event in await one.take(6)] for one in followings]
        assert told == [[str(number) for number in range(6)]] * CONNECTIONS


async def test_a_worker_that_dies_is_replaced_and_the_other_serves(server: ServerProcess) -> None:
    first, second = workers_of(server)
    os.kill(first, signal.SIGKILL)
    async with httpx.AsyncClient() as client:
        for _ in range(10):
            answer = await client.get(f"{server.base_url}/live", headers={"connection": "close"})
            assert answer.status_code == 200
    async with asyncio.timeout(60):
        while len(workers_of(server)) < 2 or first in workers_of(server):  # noqa: ASYNC110 - other processes
            await asyncio.sleep(0.05)
    assert second in workers_of(server)


async def test_workers_are_replaced_one_by_one_and_no_request_fails(server: ServerProcess) -> None:
    old = workers_of(server)
    answers: Counter[int] = Counter()
    stop = asyncio.Event()

    async def ask() -> None:
        async with httpx.AsyncClient(base_url=server.base_url) as client:
            while not stop.is_set():
                answers[(await client.get("/live")).status_code] += 1

    asking = [asyncio.create_task(ask()) for _ in range(3)]
    os.kill(server.pid, signal.SIGHUP)
    async with asyncio.timeout(90):
        while set(workers_of(server)) & set(old):  # noqa: ASYNC110 - other processes
            await asyncio.sleep(0.05)
    stop.set()
    await asyncio.gather(*asking)
    assert answers.keys() == {200}
    assert len(workers_of(server)) == 2


async def test_a_stop_is_in_order_and_nobody_is_left(server: ServerProcess) -> None:
    pids = workers_of(server)
    async with House(server) as house:
        member = await house.founder()
        socket = await house.socket(member)
        assert await server.stop() == 0
        assert await socket.ended() == (1012, "restarting")
    assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)  # noqa: ASYNC240, PTH110 - never blocks


def test_on_sqlite_more_workers_are_refused_with_the_reason(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "snackbase", "serve", "--workers", "2", "--port", "0"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "--workers needs PostgreSQL: SQLite admits one writer at a time" in done.stderr
