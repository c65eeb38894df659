"""A disk that is full, locked, failing or damaged under a running server: told, survived, over without a restart.

Whatever was not committed is never announced, connections stay, and numbers go on without a gap.
"""

import asyncio
import contextlib
import os
import resource
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import apsw
import pytest

from tests.conftest import MakeServer
from tests.e2e.support import House, Member, Socket, place
from tests.support.server import ServerProcess


class Scene:
    """A server with one member, who watches one collection."""

    def __init__(self, house: House, member: Member, posts: str, socket: Socket) -> None:
        self.house = house
        self.member = member
        self.posts = posts
        self.socket = socket
        self.done: list[str] = []

    async def write(self, title: str) -> tuple[int, dict[str, Any]]:
        """Try to write; the status and the body."""
        answer = await self.house.client.post(
            f"/api/v1/records/{self.posts}",
            json={"title": title},
            headers={"authorization": f"Bearer {self.member.token}"},
        )
        if answer.status_code == 201:
            self.done.append(title)
        return answer.status_code, answer.json()

    async def ready(self) -> int:
        return (await self.house.client.get("/ready")).status_code

    async def until_ready(self, wanted: int) -> None:
        async with asyncio.timeout(30):
            while await self.ready() != wanted:  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.05)

    async def listed(self) -> int:
        return int((await self.member.request("GET", f"/records/{self.posts}?limit=1")).json()["total"])

    async def check(self) -> None:
        """Everything acknowledged was announced, and nothing else, without a gap."""
        assert (await self.write("the last one"))[0] == 201
        told = await self.socket.until(lambda message: message["data"]["title"] == "the last one")
        assert [message["data"]["title"] for message in told] == self.done
        numbers = [place(message["position"]) for message in told]
        assert numbers == list(range(numbers[0], numbers[0] + len(told)))
        assert await self.listed() == len(self.done)
        assert self.house.server.returncode is None


@asynccontextmanager
async def scene(server: ServerProcess) -> AsyncIterator[Scene]:
    async with House(server) as house:
        member, posts = await house.founder(), await house.collection("title")
        socket = await house.socket(member, max_queue=None)
        await socket.subscribe(posts)
        made = Scene(house, member, posts, socket)
        for title in ("one", "two"):
            await made.write(title)
        yield made


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with 4 MB."""
    disk = tmp_path / "disk"
    disk.mkdir(mode=0o700)
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small file system; tests/storage has the same with a page limit")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m,mode=0700", "tmpfs", str(disk)], capture_output=True, text=True
    )
    if mounted.returncode != 0:
        pytest.skip("this machine lets nobody mount a file system; tests/storage has the same with a page limit")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def fill(file: Path) -> None:
    """Leave nothing free on the disk of this file."""
    with file.open("ab", buffering=0) as filler, contextlib.suppress(OSError):
        for size in (65536, 4096, 1):
            with contextlib.suppress(OSError):
                while filler.write(b"x" * size):
                    pass


async def test_a_full_disk_is_told_and_survived(make_server: MakeServer, small_disk: Path) -> None:
    server = await make_server(settings={"DATABASE_URL": f"sqlite:///{small_disk}/snackbase.db"})
    async with scene(server) as made:
        filler = small_disk / "filler"
        refused: list[dict[str, Any]] = []
        async with asyncio.timeout(60):
            while not refused or await made.ready() == 200:
                fill(filler)
                status, body = await made.write("x" * 10_000)
                if status != 201:
                    assert (status, body["code"]) == (503, "storage_full")
                    refused.append(body)
        assert await made.listed() == len(made.done)
        assert (await made.house.client.get("/live")).status_code == 200

        filler.unlink()

        await made.until_ready(200)
        await made.check()


async def test_a_commit_that_fails_is_of_unknown_outcome_and_said_so(make_server: MakeServer) -> None:
    server = await make_server()
    async with scene(server) as made:
        size = (server.folder / "snackbase.db-wal").stat().st_size
        _, hard = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (size, hard))
        for _ in range(3):
            status, body = await made.write("x" * 20_000)
            assert (status, body["code"]) == (503, "outcome_unknown")
            assert "read before" in body["message"]
        assert await made.ready() == 503
        assert await made.listed() == 2

        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (hard, hard))

        await made.until_ready(200)
        await made.check()


@pytest.mark.slow
async def test_a_locked_database_is_told_and_survived(make_server: MakeServer) -> None:
    server = await make_server()
    async with scene(server) as made:
        with contextlib.closing(apsw.Connection(str(server.folder / "snackbase.db"))) as other:
            other.execute("BEGIN IMMEDIATE").fetchall()
            status, body = await made.write("three")
            assert (status, body["code"]) == (503, "storage_busy")
            assert await made.ready() == 503
            assert await made.listed() == 2
            other.execute("ROLLBACK").fetchall()

        await made.until_ready(200)
        await made.check()


async def test_a_damaged_page_is_told_until_it_is_mended(make_server: MakeServer) -> None:
    server = await make_server()
    async with scene(server) as made:
        file = server.folder / "snackbase.db"
        await server.stop()
        with contextlib.closing(apsw.Connection(str(file))) as database:
            ((table,),) = database.execute(
                "SELECT table_name FROM _collections WHERE name = ?", (made.posts,)
            ).fetchall()
            ((root,),) = database.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchall()
        assert isinstance(root, int)
        sound = page(file, root)
        page(file, root, b"\xff" * len(sound))
        await server.start()
        made.socket = await made.house.socket(made.member, max_queue=None)
        await made.socket.subscribe(made.posts)
        made.done.clear()

        assert await made.ready() == 200, "nobody has met it yet"
        status, body = await made.write("three")
        assert (status, body["code"]) == (503, "storage_corrupt")
        assert await made.ready() == 503
        listed = await made.house.client.get(
            f"/api/v1/records/{made.posts}", headers={"authorization": f"Bearer {made.member.token}"}
        )
        assert (listed.status_code, listed.json()["code"]) == (503, "storage_corrupt")
        # Another table takes writes all the same, and that does not make the server ready.
        other = await made.house.collection("title")
        await made.member.create(other, title="beside it")
        assert await made.ready() == 503

        page(file, root, sound)

        await made.until_ready(200)
        assert await made.listed() == 2
        assert (await made.write("four"))[0] == 201
        assert (await made.socket.next())["data"]["title"] == "four"


def page(file: Path, number: int, content: bytes = b"") -> bytes:
    """Read a page of a database, or put another one in its place."""
    with file.open("r+b") as raw:
        raw.seek((number - 1) * 4096)
        if content:
            raw.write(content)
        return content or raw.read(4096)
