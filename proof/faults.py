"""A TCP proxy on loopback that misbehaves when told to: latency, rate, slices, stalls, resets, refusals.

Knows nothing of HTTP. What it is told holds for every connection at once, old and new; `reset` and `stall_some` concern
the connections that are open at that moment.
"""

import asyncio
import contextlib
import random
import socket
import struct
from dataclasses import dataclass, field

from tests.support.server import free_port

CHUNK = 64 << 10


@dataclass(eq=False)
class _Pair:
    """One connection with its continuation."""

    writers: tuple[asyncio.StreamWriter, asyncio.StreamWriter]
    flows: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass
class Conditions:
    """How the network is just now.

    Attributes:
        latency_s: added to every piece, each way.
        rate: bytes a second for each connection and direction; 0 = no limit.
        slice_bytes: pieces are cut to this many bytes; 0 = not cut.
        refusing: new connections are reset at once.
    """

    latency_s: float = 0.0
    rate: int = 0
    slice_bytes: int = 0
    refusing: bool = False


class FaultProxy:
    """Passes connections on to a port of loopback; `async with FaultProxy(port) as proxy:`."""

    def __init__(self, upstream: int) -> None:
        self.port = free_port()
        self.conditions = Conditions()
        self.connections = 0
        self._upstream = upstream
        self._pairs: set[_Pair] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._open: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._flows = asyncio.Event()
        self._flows.set()

    async def __aenter__(self) -> "FaultProxy":
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        return self

    async def __aexit__(self, *error: object) -> None:
        if self._server is not None:
            self._server.close()
        # A connection that the loop has just accepted reaches `_accept` in its next turn.
        await asyncio.sleep(0)
        self.reset()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        left = tuple(self._open)
        for writer in left:
            # Of a task that was cancelled before it began, while it connected, or before everything was sent.
            _reset(writer)
        await asyncio.gather(*(writer.wait_closed() for writer in left), return_exceptions=True)

    def heal(self) -> None:
        """As if nothing had ever been wrong; what stalled alone (`stall_some`) is cut."""
        self.conditions = Conditions()
        self._flows.set()
        for pair in [pair for pair in self._pairs if not pair.flows.is_set()]:
            self._cut(pair)

    def stall(self) -> None:
        """Pass nothing on and say nothing, until healed: every connection is half-open."""
        self._flows.clear()

    def stall_some(self, chance: random.Random, share: float) -> int:
        """Some connections never pass anything on again; whoever uses them has to notice by itself."""
        found = [pair for pair in self._pairs if chance.random() < share]
        for pair in found:
            pair.flows.clear()
        return len(found)

    def reset(self, chance: random.Random | None = None, share: float = 1.0) -> int:
        """Cut open connections with RST, so that what is on its way is lost."""
        found = [pair for pair in self._pairs if chance is None or chance.random() < share]
        for pair in found:
            self._cut(pair)
        return len(found)

    def _cut(self, pair: _Pair) -> None:
        self._pairs.discard(pair)
        for writer in pair.writers:
            _reset(writer)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._pass_on(reader, writer)
        await self._closed(writer)

    async def _closed(self, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        self._open.discard(writer)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.conditions.refusing:
            _reset(writer)
            return
        try:
            onward_reader, onward = await asyncio.open_connection("127.0.0.1", self._upstream)
        except OSError:
            _reset(writer)
            return
        self._open.add(onward)
        pair = _Pair((writer, onward))
        pair.flows.set()
        self._pairs.add(pair)
        self.connections += 1
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pump(pair, reader, onward))
                both.create_task(self._pump(pair, onward_reader, writer))
        except* (OSError, EOFError):
            pass
        finally:
            self._pairs.discard(pair)
            for end in pair.writers:
                end.close()
        await self._closed(onward)

    async def _pump(self, pair: _Pair, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK):
            for piece in _sliced(data, self.conditions.slice_bytes):
                if self.conditions.latency_s:
                    await asyncio.sleep(self.conditions.latency_s)
                if self.conditions.rate:
                    await asyncio.sleep(len(piece) / self.conditions.rate)
                await self._flows.wait()
                await pair.flows.wait()
                if writer.transport.is_closing():
                    return
                writer.write(piece)
                await writer.drain()
        if not writer.transport.is_closing():
            with contextlib.suppress(OSError):
                writer.write_eof()


def _sliced(data: bytes, size: int) -> list[bytes]:
    if not size:
        return [data]
    # At most some hundred pieces: each costs a turn of the loop.
    size = max(size, len(data) // 200 + 1)
    return [data[start : start + size] for start in range(0, len(data), size)]


def _reset(writer: asyncio.StreamWriter) -> None:
    connection: socket.socket | None = writer.get_extra_info("socket")
    if connection is not None:
        # uvloop says ValueError for one that has ended by itself.
        with contextlib.suppress(OSError, ValueError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
