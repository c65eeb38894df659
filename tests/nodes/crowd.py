"""The writers and followers of `tests.fault.load` over several nodes: each request and return is at any of them."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from snackbase.model import Change
from snackbase.storage.postgres.store import PostgresStore
from tests.e2e.support import House, Member
from tests.fault.load import Follower, Load, Writer, compare, end, finish, head_of
from tests.nodes.conftest import beside, known
from tests.support.nodes import Nodes

TRANSPORTS = ("websocket", "sse", "websocket")


class RoamingWriter(Writer):
    """Sends each request to any node."""

    def __init__(self, members: Sequence[Member], *given: Any, **more: Any) -> None:
        super().__init__(members[0], *given, **more)
        self._members = members

    async def _write(self) -> None:
        self.member = self._chance.choice(self._members)
        await super()._write()


class RoamingFollower(Follower):
    """Comes back on any node, with the position it has."""

    def __init__(self, members: Sequence[Member], *given: Any, seed: int, **more: Any) -> None:
        super().__init__(members[0], *given, **more)
        self._members = members
        self._chance = random.Random(seed)

    async def _websocket(self) -> None:
        self.member = self._chance.choice(self._members)
        await super()._websocket()

    async def _sse(self) -> None:
        self.member = self._chance.choice(self._members)
        await super()._sse()


@asynccontextmanager
async def crowd(nodes: Nodes, *, seed: int, writers: int = 4) -> AsyncIterator[Load]:
    """Run writers and followers over all nodes; at the end the writers stop first, and followers hear the rest."""
    async with AsyncExitStack() as opened:
        houses = [await opened.enter_async_context(House(server)) for server in nodes.servers]
        founder, collection = await houses[0].founder(), await houses[0].collection("n")
        members = [beside(founder, house) for house in houses]
        await known(collection, *members)
        made = Load(
            founder,
            collection,
            [RoamingWriter(members, collection, seed + n, keep_alive=n % 2 == 0) for n in range(writers)],
            [RoamingFollower(members, collection, transport=kind, seed=seed + n) for n, kind in enumerate(TRANSPORTS)],
        )
        writing: list[asyncio.Task[None]] = []
        try:
            for follower in made.followers:
                made.come(follower)
                await follower.subscribed.wait()
            writing += [asyncio.create_task(writer.run()) for writer in made.writers]
            yield made
            await finish(made, writing)
            head = await head_of(made)
            for follower in made.followers:
                await follower.reach(head)
        finally:
            await end(writing)
            await made.all_leave()


async def check(made: Load, nodes: Nodes, url: str) -> list[Change]:
    """Stop the nodes, then compare log, acknowledgements and what every follower was told."""
    await asyncio.gather(*(server.stop() for server in nodes.servers))
    assert '"level":"error"' not in nodes.output, nodes.output
    assert "Traceback" not in nodes.output, nodes.output
    store = PostgresStore(url)
    await store.open()
    try:
        return await compare(made, store)
    finally:
        await store.close()
