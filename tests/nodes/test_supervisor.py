"""The process before the workers: what it does when they are replaced, hang, or do not stay."""

import asyncio
import os
import resource
import signal
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from snackbase.storage.postgres.store import PostgresStore
from tests.e2e.support import House
from tests.fault.load import compare, load
from tests.nodes.test_workers import workers_of
from tests.support.nodes import SECRET
from tests.support.server import ROOT, ServerProcess

GOOD = "from snackbase import SnackBase\n\napp = SnackBase()\n"


@pytest.fixture
async def server(tmp_path: Path, postgres_url: str) -> AsyncIterator[ServerProcess]:
    """Two workers of `main:app`, a file that a test may break. Whoever stops it itself finds it stopped."""
    made = ServerProcess(
        tmp_path / "workers",
        settings={
            "DATABASE_URL": postgres_url,
            "SECRET_KEY": SECRET,
            "REALTIME_HEARTBEAT_SECONDS": 1,
            "SHUTDOWN_SECONDS": 2,
        },
        arguments=("serve", "main:app", "--workers", "2"),
    )
    made.folder.mkdir()
    (made.folder / "main.py").write_text(GOOD)
    await made.start()
    try:
        yield made
    finally:
        if made.running:
            await made.stop()


async def until_renewed(server: ServerProcess, old: list[int]) -> None:
    async with asyncio.timeout(90):
        while set(workers_of(server)) & set(old) or len(workers_of(server)) < 2:  # noqa: ASYNC110 - other processes
            await asyncio.sleep(0.05)


async def until_over(server: ServerProcess) -> int:
    async with asyncio.timeout(90):
        while (code := server.returncode) is None:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.05)
    return code


async def test_workers_are_replaced_twice_under_load_and_everybody_hears_everything_once(
    server: ServerProcess, postgres_url: str
) -> None:
    async with House(server) as house, load(house, seed=1) as made:
        for _ in range(2):
            old = workers_of(server)
            await made.more(20)
            os.kill(server.pid, signal.SIGHUP)
            await until_renewed(server, old)
        await made.more(20)
    assert all(follower.returns > 0 for follower in made.followers)
    assert server.output.count("workers_renewed") == 2
    assert await server.stop() == 0
    store = PostgresStore(postgres_url)
    await store.open()
    try:
        assert len(await compare(made, store)) > 60
    finally:
        await store.close()


async def test_a_version_that_does_not_start_replaces_nobody(server: ServerProcess) -> None:
    old = workers_of(server)
    (server.folder / "main.py").write_text("raise RuntimeError('broken on purpose')\n")
    os.kill(server.pid, signal.SIGHUP)
    async with asyncio.timeout(60):
        while "renewal_failed" not in server.output:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.05)
    assert set(old) <= set(workers_of(server))
    async with httpx.AsyncClient() as client:
        assert (await client.get(f"{server.base_url}/ready")).status_code == 200

    (server.folder / "main.py").write_text(GOOD)
    os.kill(server.pid, signal.SIGHUP)
    await until_renewed(server, old)


async def test_workers_that_do_not_stay_end_the_supervisor_with_their_code_and_the_reason(
    server: ServerProcess,
) -> None:
    (server.folder / "main.py").write_text("raise SystemExit(7)\n")
    for pid in workers_of(server):
        os.kill(pid, signal.SIGKILL)
    assert await until_over(server) == 7
    assert server.output.count("worker_ended") == 5
    assert "workers_do_not_stay" in server.output


async def test_a_worker_that_hangs_keeps_nobody_from_stopping(server: ServerProcess) -> None:
    hanging, other = workers_of(server)
    os.kill(hanging, signal.SIGSTOP)
    os.kill(server.pid, signal.SIGTERM)
    async with asyncio.timeout(60):
        while os.path.exists(f"/proc/{other}"):  # noqa: ASYNC110, ASYNC240, PTH110 - another process; never blocks
            await asyncio.sleep(0.05)
    # In a hurry: who still does not answer is killed.
    os.kill(server.pid, signal.SIGTERM)
    assert await until_over(server) == 0
    assert not os.path.exists(f"/proc/{hanging}")  # noqa: ASYNC240, PTH110 - never blocks
    assert "worker_killed" in server.output


def found_in(folder: str) -> set[str]:
    """Files of the folders in a folder."""
    return {path.name for path in Path(folder).glob("*/*")} | {path.name for path in Path(folder).glob("*.*")}


async def test_a_supervisor_that_is_killed_takes_its_workers_along_and_leaves_nothing(
    tmp_path: Path, postgres_url: str
) -> None:
    # A short path: those of sockets have room for some hundred bytes.
    with tempfile.TemporaryDirectory(dir="/tmp") as temporary:
        own = ServerProcess(
            tmp_path / "own",
            settings={"DATABASE_URL": postgres_url, "SECRET_KEY": SECRET},
            arguments=("serve", "--workers", "2"),
            environment={"TMPDIR": temporary, "PYTHONPATH": str(ROOT / "src")},
        )
        await own.start()
        pids = workers_of(own)
        assert found_in(temporary) == {"0.sock", "1.sock"}
        await own.kill()
        async with asyncio.timeout(60):
            while any(os.path.exists(f"/proc/{pid}") for pid in pids):  # noqa: ASYNC110, ASYNC240, PTH110 - as above
                await asyncio.sleep(0.05)
        assert os.listdir(temporary) == []  # noqa: PTH208 - never blocks


WAITING = """
import os, sys, time
while "--worker" in sys.argv and not os.path.exists("go"):
    time.sleep(0.02)
"""
"""In front of an application: a worker that takes its time to start, until a file `go` is there."""


@pytest.fixture
async def starting(tmp_path: Path, postgres_url: str) -> AsyncIterator[ServerProcess]:
    """A supervisor whose workers have been started and do not serve yet."""
    made = ServerProcess(
        tmp_path / "workers",
        settings={"DATABASE_URL": postgres_url, "SECRET_KEY": SECRET, "SHUTDOWN_SECONDS": 30},
        arguments=("serve", "main:app", "--workers", "2"),
    )
    made.folder.mkdir()
    (made.folder / "main.py").write_text(WAITING + GOOD)
    begun = asyncio.create_task(made.start())
    async with asyncio.timeout(60):
        while not made.running or not workers_of(made):  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.02)
    yield made
    (made.folder / "go").touch()
    await asyncio.wait([begun])
    if made.running:
        await made.stop()
    if not begun.cancelled():
        begun.exception()


async def test_a_supervisor_that_is_told_to_renew_while_it_starts_goes_on_starting(starting: ServerProcess) -> None:
    os.kill(starting.pid, signal.SIGHUP)
    (starting.folder / "go").touch()
    async with asyncio.timeout(90):
        while "workers_started" not in starting.output:
            assert starting.running
            await asyncio.sleep(0.05)


async def test_a_supervisor_that_is_told_to_stop_while_it_starts_waits_for_no_worker(starting: ServerProcess) -> None:
    workers = workers_of(starting)
    os.kill(starting.pid, signal.SIGTERM)
    assert await until_over(starting) == 0
    assert not any(os.path.exists(f"/proc/{pid}") for pid in workers)  # noqa: ASYNC240, PTH110 - never blocks


async def test_a_supervisor_that_has_no_room_for_a_worker_tries_again_and_the_other_serves(
    server: ServerProcess,
) -> None:
    first, second = workers_of(server)
    files = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (3, files[1]))
    os.kill(first, signal.SIGKILL)
    async with asyncio.timeout(60):
        while server.output.count("worker_not_started") < 2:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.05)
    assert workers_of(server) == [second]

    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, files)
    await until_renewed(server, [first])
    async with httpx.AsyncClient() as client:
        assert (await client.get(f"{server.base_url}/ready")).status_code == 200
