"""A stop in order: not ready, then not listening; requests are answered, realtime clients told when to come back."""

import asyncio

import httpx
import pytest

from tests.conftest import MakeServer
from tests.e2e.support import House, Member, Messages
from tests.support.server import ServerProcess


async def status(server: ServerProcess, path: str = "/ready") -> int:
    async with httpx.AsyncClient() as client:
        return (await client.get(f"{server.base_url}{path}")).status_code


async def test_the_server_is_unready_first_and_takes_requests_for_the_set_delay(make_server: MakeServer) -> None:
    server = await make_server(settings={"SHUTDOWN_DELAY_SECONDS": 2})
    async with House(server) as house:
        member, posts = await house.founder(), await house.collection("title")
        socket = await house.socket(member)
        await socket.subscribe(posts)

        stopping = asyncio.create_task(server.stop())
        async with asyncio.timeout(20):
            while await status(server) == 200:  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.01)
        await member.create(posts, title="still taken")

        told = await socket.rest()
        assert [message["type"] for message in told] == [f"{posts}.create", "closing"]
        assert await stopping == 0


async def test_every_client_is_told_and_spread_over_time(make_server: MakeServer) -> None:
    server = await make_server()
    async with House(server) as house:
        member, posts = await house.founder(), await house.collection("title")
        clients: list[Messages] = []
        for _ in range(30):
            clients.append(await house.follow("websocket", member, posts))
        for _ in range(10):
            clients.append(await house.follow("sse", member, posts))

        stopping = asyncio.create_task(server.stop())
        ends = await asyncio.gather(*(client.rest() for client in clients))

        assert await stopping == 0
    assert {(end[-1]["code"], end[-1]["close_code"], end[-1]["retry"]) for end in ends} == {("restarting", 1012, True)}
    assert len({end[-1]["retry_after_ms"] for end in ends}) > 20


async def test_a_connection_that_is_kept_alive_is_told_to_close_with_its_next_answer(make_server: MakeServer) -> None:
    server = await make_server(settings={"SHUTDOWN_DELAY_SECONDS": 1})
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)

    async def ask() -> httpx.Headers:
        writer.write(b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n")
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = httpx.Headers(dict(line.split(": ", 1) for line in head[1:] if line))
        await reader.readexactly(int(headers["content-length"]))
        return headers

    assert "connection" not in await ask()
    stopping = asyncio.create_task(server.stop())
    answers = [await ask()]
    async with asyncio.timeout(20):
        while "connection" not in answers[-1]:
            answers.append(await ask())
    assert answers[-1]["connection"] == "close"
    assert await reader.read() == b""
    assert await stopping == 0
    writer.close()


@pytest.mark.parametrize(
    "sent", [b"", b"GET /live HT", b"POST /api/v1/auth/login HTTP/1.1\r\nContent-Length: 9\r\n\r\n{"]
)
async def test_nobody_holds_up_the_stop_for_longer_than_is_set(make_server: MakeServer, sent: bytes) -> None:
    server = await make_server(settings={"SHUTDOWN_SECONDS": 1, "REQUEST_TIMEOUT_SECONDS": 3600})
    _, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(sent)
    await writer.drain()
    assert await status(server, "/live") == 200

    # Far less than the hour that the request may take.
    assert await server.stop(timeout_s=30) == 0
    writer.close()


async def test_who_was_sent_away_misses_nothing(make_server: MakeServer) -> None:
    server = await make_server()
    async with House(server) as house:
        member, posts = await house.founder(), await house.collection("title")
        socket, stream = await house.follow("websocket", member, posts), await house.follow("sse", member, posts)
        await member.create(posts, title="one")
        positions = [(await client.next())["position"] for client in (socket, stream)]

        async def write_until_refused(of: Member) -> int:
            done = 0
            while True:
                try:
                    await of.create(posts, title=f"late {done}")
                except (httpx.TransportError, AssertionError):
                    return done
                done += 1

        writing = asyncio.create_task(write_until_refused(member))
        await server.stop()
        done = await writing
        last = [await client.rest() for client in (socket, stream)]
        await server.start()

        for transport, position, before in zip(("websocket", "sse"), positions, last, strict=True):
            events = [message for message in before if message["type"] == f"{posts}.create"]
            since = events[-1]["position"] if events else position
            again = await house.follow(transport, member, {"collection": posts, "since": since})
            events += await again.until(lambda message: message["type"] == "caught_up")
            titles = [message["data"]["title"] for message in events[:-1]]
            assert titles[:done] == [f"late {number}" for number in range(done)]
            assert len(titles) - done in (0, 1), "at most the one whose answer was lost"
