"""Many who open a realtime connection in one moment: a few in each turn of the loop, and nobody else waits for them."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from snackbase.gateway.link import Reading
from snackbase.gateway.uvicorn_ import HttpProtocol
from tests.protocol.links import LOOPS, PATIENCE_S, Reluctant, connect, read

OPENING = b"GET /api/v1/realtime/subscribe?n=%d HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
PLAIN = b"GET /live?n=%d HTTP/1.1\r\nHost: x\r\n\r\n"


class Door:
    """A server of HttpProtocol whose application answers each request at once, and notes it."""

    def __init__(self, opening: Reading) -> None:
        self.seen: list[str] = []
        self.protocols: list[HttpProtocol] = []

        class Bound(HttpProtocol):
            pass

        Bound.opening = opening
        self._kind = Bound
        self._config = uvicorn.Config(self._answer, log_config=None, access_log=False, interface="asgi3")
        self._state = ServerState()

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        self.seen.append(f"{scope['path']}?{scope['query_string'].decode()}")
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    def _make(self) -> HttpProtocol:
        self.protocols.append(self._kind(self._config, self._state, {}))
        return self.protocols[-1]

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[int]:
        """Gives the port."""
        self._config.load()
        at = socket.create_server(("127.0.0.1", 0), backlog=100)
        server = await asyncio.get_running_loop().create_server(self._make, sock=at)
        try:
            yield at.getsockname()[1]
        finally:
            server.close()
            for protocol in self.protocols:
                protocol.transport.abort()

    async def connected(self, many: int) -> None:
        while len(self.protocols) < many:  # noqa: ASYNC110 - the loop tells nobody
            await asyncio.sleep(0)


class Heard(asyncio.Protocol):
    """What has taken the transport."""

    data = b""

    def data_received(self, data: bytes) -> None:
        self.data += data


def run(loop: str, test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(PATIENCE_S):
            await test()

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(bounded())


async def answer(client: socket.socket) -> bytes:
    found = await asyncio.to_thread(client.recv, 1000)
    return found[:15]


@pytest.mark.parametrize("loop", LOOPS)
def test_of_many_who_open_in_one_moment_only_some_are_read_in_one_turn_of_the_loop(loop: str) -> None:
    async def test() -> None:
        door = Door(Reading(3))
        async with door.open() as port:
            with contextlib.ExitStack() as stack:
                clients = [stack.enter_context(connect(port)) for _ in range(20)]
                await door.connected(20)
                for number, client in enumerate(clients):
                    client.send(OPENING % number)
                waves = []
                while len(door.seen) < 20:
                    before = len(door.seen)
                    await asyncio.sleep(0)
                    waves.append(len(door.seen) - before)
                answers = [await answer(client) for client in clients]

        assert answers == [b"HTTP/1.1 200 OK"] * 20
        assert max(waves) <= 2 * 3, "in a turn begun and in the one before it"

    run(loop, test)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_plain_request_does_not_wait_behind_those_who_open(loop: str) -> None:
    async def test() -> None:
        opening = Reluctant()
        door = Door(opening)
        async with door.open() as port:
            with connect(port) as first, connect(port) as second, connect(port) as other:
                first.send(OPENING % 1)
                second.send(OPENING % 2)
                while len(opening.calls) < 2:  # noqa: ASYNC110 - they tell nobody
                    await asyncio.sleep(0)
                other.send(PLAIN % 3)
                assert await answer(other) == b"HTTP/1.1 200 OK"
                assert door.seen == ["/live?n=3"]
                opening.come()
                assert await answer(first) == await answer(second) == b"HTTP/1.1 200 OK"

        assert set(door.seen[1:]) == {f"/api/v1/realtime/subscribe?n={number}" for number in (1, 2)}

    run(loop, test)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_request_of_which_the_rest_comes_while_it_waits_is_whole_when_it_is_read(loop: str) -> None:
    async def test() -> None:
        opening = Reluctant()
        door = Door(opening)
        async with door.open() as port:
            with connect(port) as client:
                request = OPENING % 7
                client.send(request[:60])
                await opening.asked.wait()
                assert not door.protocols[0].idle, "a server that stops would answer it"
                client.send(request[60:])
                opening.come()
                assert await answer(client) == b"HTTP/1.1 200 OK"

        assert door.seen == ["/api/v1/realtime/subscribe?n=7"]

    run(loop, test)


@pytest.mark.parametrize("loop", LOOPS)
def test_who_waits_for_a_turn_is_not_told_that_the_request_came_too_late(loop: str) -> None:
    async def test() -> None:
        opening = Reluctant()
        door = Door(opening)
        async with door.open() as port:
            with connect(port) as client:
                client.send(OPENING % 1)
                await opening.asked.wait()
                door.protocols[0]._head_late()
                assert door.protocols[0]._head_timer is not None, "looked at again"
                opening.come()
                assert await answer(client) == b"HTTP/1.1 200 OK"

    run(loop, test)


@pytest.mark.parametrize("loop", LOOPS)
def test_what_is_sent_behind_the_request_of_a_stream_is_the_streams_even_if_it_waits(loop: str) -> None:
    async def test() -> None:
        opening = Reluctant()
        door = Door(opening)
        async with door.open() as port:
            with connect(port) as client:
                client.send(PLAIN % 1)
                assert await answer(client) == b"HTTP/1.1 200 OK"
                client.send(OPENING % 2)
                await opening.asked.wait()
                (protocol,) = door.protocols
                heard = Heard()
                protocol.let_go({})
                protocol.transport.set_protocol(heard)
                opening.come()

        assert heard.data == OPENING % 2

    run(loop, test)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_defect_while_one_is_read_in_its_turn_ends_that_connection_and_no_other(
    loop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        opening = Reluctant()
        door = Door(opening)
        async with door.open() as port:
            with connect(port) as bad, connect(port) as good:
                await door.connected(2)
                bad.send(OPENING % 1)
                await opening.asked.wait()
                good.send(OPENING % 2)
                while len(opening.calls) < 2:  # noqa: ASYNC110 - they tell nobody
                    await asyncio.sleep(0)
                waiting = [one for one in door.protocols if b"?n=1 " in one._waiting]
                monkeypatch.setattr(waiting[0], "_read", lambda _data: 1 // 0)
                opening.come()
                assert await answer(good) == b"HTTP/1.1 200 OK"
                with contextlib.suppress(ConnectionResetError):
                    assert await answer(bad) == b""

    run(loop, test)


@pytest.mark.parametrize("loop", LOOPS)
def test_what_waits_of_all_together_is_bounded_and_given_back(loop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    size = len(OPENING % 1)
    monkeypatch.setattr("snackbase.gateway.link.MOST_WAITING_BYTES", 2 * size)

    async def test() -> None:
        opening = Reluctant()
        door = Door(opening)
        async with door.open() as port:
            with contextlib.ExitStack() as stack:
                clients = [stack.enter_context(connect(port)) for _ in range(3)]
                for number, client in enumerate(clients):
                    client.send(OPENING % number)
                while not door.seen or len(opening.calls) < 2:  # noqa: ASYNC110 - they tell nobody
                    await asyncio.sleep(0)
                assert len(door.seen) == 1
                for protocol in door.protocols:
                    protocol.cut()
                opening.come()
                assert [await asyncio.to_thread(read, client, 1) for client in clients].count(b"") >= 2
        assert len(door.seen) == 1, "who is gone is not read any more"
        assert opening.keep(2 * size)

    run(loop, test)
