"""Links over real sockets without a server around them, on both event loops."""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, cast

import uvloop

from snackbase.gateway.link import Reading
from snackbase.gateway.transport import TransportLink

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "uvloop": uvloop.new_event_loop,
    "asyncio": asyncio.new_event_loop,
}
PATIENCE_S = 5


class Reluctant(Reading):
    """Turns that come when the test says so."""

    def __init__(self) -> None:
        super().__init__(1)
        self.asked = asyncio.Event()
        self.calls: list[Callable[[], object]] = []

    def free(self) -> bool:
        return False

    def later(self, go: Callable[[], object]) -> None:
        self.calls.append(go)
        self.asked.set()

    def come(self) -> None:
        calls, self.calls = self.calls, []
        for go in calls:
            go()


class Listener:
    """A connection that keeps what it is told, and remembers its end."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.ended = asyncio.Event()

    def receive(self, payload: bytes) -> None:
        self.heard.append(payload)

    def ponged(self) -> None: ...

    def lost(self, code: int | None, reason: str) -> None:
        self.ended.set()


class Server:
    """Links for whoever connects; `first`, if given, is what the handshake wrote before.

    Args:
        make: what kind of link: called with transport, listener and registry.
    """

    def __init__(
        self,
        *,
        tls: ssl.SSLContext | None = None,
        first: bytes = b"",
        make: Callable[..., TransportLink] = TransportLink,
    ) -> None:
        self._tls, self._first, self._make = tls, first, make
        self.registry: set[Any] = set()
        self._links: asyncio.Queue[tuple[TransportLink, Listener]] = asyncio.Queue()

    async def start(self) -> int:
        """Gives the port. Its sockets have small buffers, so that little is needed to fill them."""
        at = socket.create_server(("127.0.0.1", 0))
        at.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Handshake(self), sock=at, ssl=self._tls)
        return int(at.getsockname()[1])

    def hand_over(self, transport: asyncio.Transport) -> None:
        if self._first:
            transport.write(self._first)
        listener = Listener()
        link = self._make(transport, listener, self.registry)
        transport.set_protocol(link)
        self._links.put_nowait((link, listener))

    async def link(self) -> tuple[TransportLink, Listener]:
        return await asyncio.wait_for(self._links.get(), PATIENCE_S)

    def close(self) -> None:
        self._server.close()
        for link in tuple(self.registry):
            link.abort()


class Handshake(asyncio.Protocol):
    def __init__(self, server: Server) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._server.hand_over(cast(asyncio.Transport, transport))


def run(loop: str, test: Callable[[Server], Awaitable[None]], server: Server | None = None) -> None:
    server = server or Server()

    async def bounded() -> None:
        try:
            await asyncio.wait_for(test(server), 2 * PATIENCE_S)
        finally:
            server.close()

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(bounded())


def connect(port: int) -> socket.socket:
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 131072)
    client.settimeout(PATIENCE_S)
    client.connect(("127.0.0.1", port))
    return client


def read(client: socket.socket, size: int) -> bytes:
    """So many bytes, and no more if the other side has ended by then."""
    received = bytearray()
    while len(received) < size and (data := client.recv(65536)):
        received += data
    return bytes(received)
