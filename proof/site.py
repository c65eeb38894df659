"""The processes under proof: one server on SQLite, or several on a PostgreSQL of their own with or without a NATS."""

import asyncio
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

from proof.database import Database
from tests.support.nodes import Nodes
from tests.support.server import ServerProcess, Setting

TAKEOVER_S = 60
HOSTILE = 0.2
"""The share of hints that a node loses, doubles, delays and so swaps, each."""
FAIR = ("the database cannot be reached", "the connection to the database is lost")
"""Errors that the servers log rightly while their database is away."""


class Site:
    """
    Args:
        nodes: 1 is a server on SQLite. bus: whether there is a NATS between several.

    Attributes:
        out: the numbers of nodes that are paused now. nodes, database: None with one server.
    """

    def __init__(self, folder: Path, *, settings: Mapping[str, Setting], nodes: int = 1, bus: bool = False) -> None:
        self.out: set[int] = set()
        self.nodes: Nodes | None = None
        self.database: Database | None = None
        if nodes == 1:
            self._alone = [ServerProcess(folder, settings=settings)]
        else:
            self.database = Database()
            url = self.database.url
            self.nodes = Nodes(folder, nodes, database_url=url, settings=settings, bus=bus, hostile=HOSTILE)

    @property
    def servers(self) -> list[ServerProcess]:
        return self._alone if self.nodes is None else self.nodes.servers

    @property
    def bus(self) -> bool:
        return self.nodes is not None and bool(self.nodes.lines)

    async def open(self) -> None:
        if self.nodes is None or self.database is None:
            await self.servers[0].start()
            return
        await asyncio.to_thread(self.database.open)
        await self.nodes.__aenter__()

    async def close(self) -> None:
        if self.nodes is not None and self.database is not None:
            try:
                await self.nodes.__aexit__()
            finally:
                await asyncio.to_thread(self.database.close)
        elif self.servers[0].running:
            await self.servers[0].stop()

    def complaints(self) -> Sequence[str]:
        """What the servers logged as errors so far: nothing that is done here may lead to one."""
        lines = [line for server in self.servers for line in server.output.splitlines()]
        found = [line for line in lines if '"level":"error"' in line or "Traceback" in line]
        return [line for line in found if self.database is None or not any(fair in line for fair in FAIR)]

    def awake(self, chance: random.Random) -> int | None:
        """A node that is not paused."""
        there = [number for number in range(len(self.servers)) if number not in self.out]
        return chance.choice(there) if there else None

    # What happens to one of them -------------------------------------------------------------------------------------

    async def kill(self, number: int) -> None:
        await self.servers[number].kill()
        await self.servers[number].start()

    async def restart(self, number: int) -> None:
        await self.servers[number].restart()

    async def take_over(self, number: int) -> None:
        """A new process takes the listening sockets over; the old one then ends by itself."""
        old = self.servers[number]
        new = self.servers[number] = old.successor()
        try:
            await new.start()
            async with asyncio.timeout(TAKEOVER_S):
                while old.returncode is None:  # noqa: ASYNC110 - another process
                    await asyncio.sleep(0.05)
        finally:
            if old.running:
                await old.kill()
        if old.returncode != 0 or new.returncode is not None:
            raise AssertionError(f"the old server ended with {old.returncode}, the new one with {new.returncode}")

    def pause(self, number: int) -> None:
        """It does nothing any more, and its connections stay."""
        if self.nodes is not None:
            self.out.add(number)
            self.nodes.pause(number)

    def resume(self, number: int) -> None:
        if self.nodes is not None:
            self.nodes.resume(number)
            self.out.discard(number)
