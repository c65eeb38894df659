"""A promotion loses commits that nodes were told of over the bus: nobody takes such a hint for what the log holds."""

import asyncio
from contextlib import AsyncExitStack

import nats
from nats.aio.msg import Msg

from tests.conftest import MakeCluster
from tests.e2e.support import House, place
from tests.fault.test_failover import Pair
from tests.nodes.conftest import MakeNodes, beside, metric
from tests.nodes.test_bus import houses, until_up


class Wiretap:
    """Hears every hint, and can send one again."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.heard: list[Msg] = []

    async def __aenter__(self) -> "Wiretap":
        self._client = await nats.connect(f"nats://127.0.0.1:{self._port}")

        async def keep(message: Msg) -> None:
            self.heard.append(message)

        await self._client.subscribe("snackbase.account.>", cb=keep)
        await self._client.flush()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._client.close()

    async def repeat(self, messages: list[Msg]) -> None:
        for message in messages:
            await self._client.publish(message.subject, message.data)
        await self._client.flush()


async def refused(house: House) -> float:
    return await metric(house, "bus_hints_total", result="foreign")


async def test_hints_of_what_a_promotion_lost_are_not_taken_for_the_log(
    make_nodes: MakeNodes, make_cluster: MakeCluster
) -> None:
    pair = await asyncio.to_thread(Pair, make_cluster)
    nodes = await make_nodes(2, database_url=pair.url)
    async with AsyncExitStack() as opened:
        here, there = await houses(nodes, opened)
        member, posts = await here.founder(), await here.collection("title")
        away = beside(member, there)
        await until_up(here, there)
        tap = await opened.enter_async_context(Wiretap(nodes.nats.port))
        followers = [await there.socket(away), await here.socket(member)]
        for socket in followers:
            await socket.subscribe(posts)
        await member.create(posts, title="kept")
        kept = [(await socket.next())["position"] for socket in followers]
        await asyncio.to_thread(pair.caught_up)
        await asyncio.to_thread(pair.part)
        tap.heard.clear()
        for title in ("lost 1", "lost 2"):
            await member.create(posts, title=title)
        lost = [(await socket.take(2))[-1]["position"] for socket in followers]
        late = list(tap.heard)
        assert late

        await asyncio.to_thread(pair.fail_over)
        # Who heard of what is gone is disconnected by either node, although nobody writes.
        for socket in followers:
            await socket.ended()
        await until_up(here, there)

        back = await there.socket(away)
        await back.subscribe(posts, since=lost[0])
        assert (await back.next())["type"] == "resync"
        again = await there.socket(away)
        await again.subscribe(posts, since=kept[0])
        assert (await again.next())["type"] == "caught_up"
        before = await refused(there)
        await tap.repeat(late)
        async with asyncio.timeout(30):
            while await refused(there) < before + len(late):  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.01)
        made = await member.request("POST", f"/records/{posts}", json={"title": "new"})
        told = await again.next()

        assert (told["data"]["title"], told["data"]["id"]) == ("new", made.json()["id"])
        assert place(told["position"]) == place(kept[0]) + 1
