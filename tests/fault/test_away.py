"""Ten events written while everybody is away for 5 s: ten come back, once and in order, on each of the ways.

Raw WebSocket, an event stream over plain HTTP, native EventSource in Chromium, the fetch-based one of npm in Node, and
polling, all at the same time; straight to the server and behind nginx; while the server goes on, is restarted, killed,
or replaced by a new process. The network between them and the server is cut, so that every client has to notice by
itself and come back by itself.
"""

import asyncio
import copy
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from proof.faults import FaultProxy
from tests.conftest import MakeServer
from tests.e2e.stage import Stage, perform
from tests.e2e.support import API, House, Member
from tests.fault.load import Follower
from tests.fault.test_takeover import replaced, successor
from tests.support.nginx import Nginx
from tests.support.server import ServerProcess

AWAY_S = 5.0
PATIENCE_S = 40
TEN = [str(number) for number in range(10)]
Meanwhile = Callable[[ServerProcess, AsyncExitStack], Awaitable[None]]

EVENT_SOURCE = """
const source = new EventSource(`${base}/api/v1/realtime/subscribe?token=${token}&collection=${collection}`);
let subscribed = false;
source.onmessage = ({ data }) => {
  const message = JSON.parse(data);
  if (message.type === "subscribed" && !subscribed) { subscribed = true; tell("subscribed"); }
  if (message.type.includes(".")) tell(message.data.n);
};
await new Promise(() => {});
"""


@dataclass(frozen=True)
class Door:
    """Where clients think the server is."""

    base_url: str

    @property
    def ws_url(self) -> str:
        return f"{self.base_url.replace('http', 'ws')}{API}/realtime/ws"


class Outside:
    """What a follower needs of a house, from the other side of the network."""

    def __init__(self, door: Door, client: httpx.AsyncClient) -> None:
        self.server = door
        self.client = client


async def untouched(server: ServerProcess, opened: AsyncExitStack) -> None:
    """The server goes on."""


async def restarted(server: ServerProcess, opened: AsyncExitStack) -> None:
    await server.restart()


async def killed(server: ServerProcess, opened: AsyncExitStack) -> None:
    await server.kill()
    await server.start()


async def taken_over(server: ServerProcess, opened: AsyncExitStack) -> None:
    fresh = successor(server)
    opened.push_async_callback(fresh.stop)
    await replaced(server, fresh)


@asynccontextmanager
async def network(server: ServerProcess, folder: Path | None) -> AsyncIterator[FaultProxy]:
    """A network that can be cut; behind it nginx, if there is a folder for it, and the server."""
    async with AsyncExitStack() as opened:
        port = server.port
        if folder is not None:
            port = (await opened.enter_async_context(Nginx(folder, upstream=port))).port
        yield await opened.enter_async_context(FaultProxy(port))


async def heard(stage: Stage, count: int) -> list[str]:
    async with asyncio.timeout(PATIENCE_S):
        return [await stage.next() for _ in range(count)]


async def polled(member: Member, collection: str, since: str) -> tuple[list[str], str]:
    """Everything after a position, three at a time."""
    found: list[str] = []
    while True:
        query = {"collection": collection, "since": since, "limit": "3"}
        page = (await member.request("GET", "/realtime/changes", params=query, status=200)).json()
        found += [event["data"]["n"] for event in page["events"]]
        since = page["position"]
        if not page["has_more"]:
            return found, since


@pytest.mark.slow
@pytest.mark.parametrize("behind", ["straight", "behind nginx"])
@pytest.mark.parametrize("meanwhile", [untouched, restarted, killed, taken_over], ids=lambda one: one.__name__)
async def test_ten_events_written_while_everybody_is_away_come_back_on_every_way(
    request: pytest.FixtureRequest, make_server: MakeServer, tmp_path: Path, meanwhile: Meanwhile, behind: str
) -> None:
    if behind == "behind nginx":
        request.getfixturevalue("nginx")
    server = await make_server()
    async with AsyncExitStack() as opened:
        house = await opened.enter_async_context(House(server))
        me, collection = await house.founder(), await house.collection("n")
        front = await opened.enter_async_context(network(server, tmp_path / "nginx" if "nginx" in behind else None))
        door = Door(f"http://127.0.0.1:{front.port}")
        outside = Outside(door, await opened.enter_async_context(httpx.AsyncClient(base_url=door.base_url)))
        visitor = copy.copy(me)
        visitor.house = outside  # type: ignore[assignment]  # all that a follower needs of one
        followers = [Follower(visitor, collection, transport=one) for one in ("websocket", "sse")]
        tasks = [asyncio.create_task(follower.run()) for follower in followers]
        opened.callback(lambda: [task.cancel() for task in tasks])
        values = {"base": door.base_url, "token": me.token, "collection": collection}
        stages = [
            await opened.enter_async_context(perform(request, kind, EVENT_SOURCE, **values))
            for kind in ("node", "chromium")
        ]
        _, position = await _all_there(me, collection, followers, stages)

        front.conditions.refusing = True
        front.reset()
        back_at = time.monotonic() + AWAY_S
        for n in TEN[:5]:
            await me.create(collection, n=n)
        await meanwhile(server, opened)
        await me.create_all(collection, *({"n": n} for n in TEN[5:]))
        await asyncio.sleep(max(0.0, back_at - time.monotonic()))
        front.heal()

        last = await me.request("POST", f"/records/{collection}", json={"n": "last"}, status=201)
        for follower in followers:
            await follower.reach(_number(last))
            assert [n for _, _, n in follower.told] == ["seen", *TEN, "last"]
            assert follower.resyncs == []
        for stage in stages:
            assert await heard(stage, 11) == [*TEN, "last"]
        assert (await polled(visitor, collection, position))[0] == [*TEN, "last"]
        for task in tasks:
            assert not task.done(), task.exception()


async def _all_there(
    me: Member, collection: str, followers: list[Follower], stages: list[Stage]
) -> tuple[list[str], str]:
    """Everybody follows and has heard of one event; what a program that polls has, and its position."""
    begun = (await me.request("GET", "/realtime/changes", params={"collection": collection}, status=200)).json()
    async with asyncio.timeout(PATIENCE_S):
        for follower in followers:
            await follower.subscribed.wait()
    for stage in stages:
        assert await stage.next() == "subscribed"
    seen = await me.request("POST", f"/records/{collection}", json={"n": "seen"}, status=201)
    for follower in followers:
        await follower.reach(_number(seen))
    for stage in stages:
        assert await heard(stage, 1) == ["seen"]
    found = await polled(me, collection, begun["position"])
    assert found[0] == ["seen"]
    return found


def _number(answer: httpx.Response) -> int:
    return int(answer.headers["x-snackbase-position"].split(".")[1], 36)
