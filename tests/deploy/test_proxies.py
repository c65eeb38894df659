"""The recipes of deploy/ with the real nginx and Caddy: both transports, resume, restarts, and no token in any log."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import httpx
import pytest

from tests.conftest import MakeServer
from tests.e2e.support import House, Member
from tests.fault.test_takeover import replaced, successor
from tests.support import missing, proxies
from tests.support.nginx import REMEDY, find_nginx
from tests.support.proxies import CADDY_REMEDY, Proxy, find_caddy
from tests.support.server import ServerProcess

Start = Callable[[Path, int], AbstractAsyncContextManager[Proxy]]
KINDS: dict[str, tuple[Start, Callable[[], str | None], str]] = {
    "nginx": (proxies.nginx, find_nginx, REMEDY),
    "Caddy": (proxies.caddy, find_caddy, CADDY_REMEDY),
}
SETTINGS: dict[str, str | int | float | bool] = {"TRUSTED_PROXIES": "127.0.0.1", "REALTIME_HEARTBEAT_SECONDS": 1}


class Behind(ServerProcess):
    """The server as clients see it: at the proxy's address."""

    def __init__(self, server: ServerProcess, port: int) -> None:
        super().__init__(server.folder, port=port)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    _, find, remedy = KINDS[request.param]
    if find() is None:
        pytest.skip(missing.reason(request.param, remedy))
    return str(request.param)


@pytest.fixture
async def server(make_server: MakeServer) -> ServerProcess:
    return await make_server(settings=SETTINGS)


@pytest.fixture
async def proxy(kind: str, server: ServerProcess, tmp_path: Path) -> AsyncIterator[Proxy]:
    folder = tmp_path / "proxy"
    folder.mkdir()
    async with KINDS[kind][0](folder, server.port) as running:
        yield running


@pytest.fixture
async def house(proxy: Proxy, server: ServerProcess) -> AsyncIterator[House]:
    async with House(Behind(server, proxy.port)) as house:
        yield house


async def no_token(proxy: Proxy, member: Member) -> None:
    """A proxy logs a request when it is over."""
    async with asyncio.timeout(30):
        while "/api/v1/realtime/subscribe" not in proxy.logged():  # noqa: ASYNC110  # another process
            await asyncio.sleep(0.05)
    assert member.token.split(".")[2] not in proxy.logged()


async def test_both_transports_bring_every_event_at_once_and_no_log_holds_a_token(house: House, proxy: Proxy) -> None:
    member, posts = await house.founder(), await house.collection("title")
    clients = [await house.follow(transport, member, posts) for transport in ("websocket", "sse")]
    post = await member.create(posts, title="one")
    events = [await client.next() for client in clients]
    assert [event["data"] for event in events] == [post, post]
    await clients[1].beat()  # by itself, with nothing behind it that would push it through
    await member.create(posts, title="two")
    again = await house.follow("sse", member, {"collection": posts, "since": events[1]["position"]})
    assert (await again.next())["data"]["title"] == "two"
    async with house.client.stream("GET", f"/api/v1/realtime/subscribe?collection={posts}&token={member.token}") as one:
        assert one.status_code == 200
        await anext(one.aiter_lines())
    await no_token(proxy, member)


async def test_a_restart_ends_no_event_source_for_ever(house: House, proxy: Proxy, server: ServerProcess) -> None:
    """What a browser's EventSource does: it comes back after a 200 that ended, and after nothing else."""
    member, posts = await house.founder(), await house.collection("title")
    first = await house.follow("sse", member, posts)
    await member.create(posts, title="before")
    position = (await first.next())["position"]
    await server.stop()
    assert (await first.rest())[-1]["code"] == "restarting"

    path = "/api/v1/realtime/subscribe"
    asked = {"subscription": json.dumps({"collection": posts, "since": position}), "token": member.token}
    starting = asyncio.create_task(server.start())
    live = False
    async with asyncio.timeout(60):
        while not live:
            async with house.client.stream("GET", path, params=asked) as answer:
                assert (answer.status_code, answer.headers["content-type"].partition(";")[0]) == (
                    200,
                    "text/event-stream",
                )
                async for line in answer.aiter_lines():
                    if line.startswith("data: ") and json.loads(line[6:])["type"] == "caught_up":
                        live = True
                        break
    await starting
    await no_token(proxy, member)


async def test_a_takeover_refuses_nobody(house: House, proxy: Proxy, server: ServerProcess) -> None:
    member, posts = await house.founder(), await house.collection("title")
    streams = [await house.follow(transport, member, posts) for transport in ("websocket", "sse")]
    refused: list[int] = []
    over = asyncio.Event()

    async def keep_asking() -> int:
        count = 0
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{proxy.port}") as client:
            while not over.is_set():
                status = (await client.get("/live")).status_code
                count += 1
                if status != 200:
                    refused.append(status)
        return count

    asking = asyncio.create_task(keep_asking())
    fresh = successor(server)
    try:
        await replaced(server, fresh)
        ends = [await stream.rest() for stream in streams]
        again = await house.follow("sse", member, posts)
        await member.create(posts, title="after")
        assert (await again.next())["data"]["title"] == "after"
        over.set()
        assert await asking > 0
    finally:
        over.set()
        await fresh.stop()

    assert refused == []
    assert {end[-1]["code"] for end in ends} == {"restarting"}
