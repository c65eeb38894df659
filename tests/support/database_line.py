"""A line to PostgreSQL that breaks at the worst moment: a proxy on loopback that knows a COMMIT when it sees one.

`lose` says what becomes of the next one:
- "commit": it never arrives, and the connection is cut at both ends.
- "answer": it is carried out; the connection is cut before anybody hears of it.
- "both": it never arrives and only the client is cut; the server waits for more, its locks held.
- "patience": it waits on the line until the server has given the session up, and the server's last word passes.
"""

import asyncio
from collections.abc import Callable
from typing import Literal, Self
from urllib.parse import urlsplit

from tests.support.postgres import Cluster
from tests.support.server import free_port

Lost = Literal["commit", "answer", "both", "patience"]
COMMIT = b"COMMIT\0"
PIECE = 1 << 16


class _Pair:
    """One connection with its continuation. `heard`: the server said something since it was cleared."""

    def __init__(
        self,
        near: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        far: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        self.near_reader, self.near = near
        self.far_reader, self.far = far
        self.heard = asyncio.Event()

    def cut(self) -> None:
        self.near.transport.abort()
        self.far.transport.abort()


class DatabaseLine:
    """`async with DatabaseLine(cluster) as line:`; clients use `line.url(name)`.

    Attributes:
        lose: what to do at the next COMMIT of which `of(statements)` holds, by default one that tells other nodes of
            changes; then it is None again. lost: is set by it.
        then_refuses: from that moment on the database cannot be reached by the line, until `heal`.
        refusing: new connections are cut at once.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.port = free_port()
        self.lose: Lost | None = None
        self.of: Callable[[bytes], bool] = lambda statements: b"NOTIFY" in statements
        self.lost = asyncio.Event()
        self.refusing = self.then_refuses = False
        self._socket = cluster.folder / f".s.PGSQL.{cluster.port}"
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._pairs: set[_Pair] = set()
        self._flows = asyncio.Event()
        self._flows.set()

    def url(self, database_url: str) -> str:
        """The same database by this line."""
        return f"postgresql://postgres@127.0.0.1:{self.port}{urlsplit(database_url).path}"

    def stall(self) -> None:
        """Nothing passes, in either direction, until `heal`."""
        self._flows.clear()

    def heal(self) -> None:
        self.refusing = self.then_refuses = False
        self._flows.set()

    def cut(self) -> None:
        """End every connection."""
        for pair in list(self._pairs):
            pair.cut()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        return self

    async def __aexit__(self, *error: object) -> None:
        if self._server is not None:
            self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refusing:
            writer.transport.abort()
            return
        try:
            far = await asyncio.open_unix_connection(self._socket)
        except OSError:
            writer.transport.abort()
            return
        pair = _Pair((reader, writer), far)
        self._pairs.add(pair)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._out(pair))
                both.create_task(self._back(pair))
        except* (OSError, EOFError):
            pass
        finally:
            self._pairs.discard(pair)
            pair.cut()

    async def _out(self, pair: _Pair) -> None:
        while data := await pair.near_reader.read(PIECE):
            await self._flows.wait()
            # asyncpg sends the COMMIT of a group as one simple query, after it has heard of everything before.
            if self.lose is not None and data.endswith(COMMIT) and self.of(data):
                lose, self.lose = self.lose, None
                self.refusing = self.refusing or self.then_refuses
                await self._at_commit(pair, data, lose)
            else:
                pair.far.write(data)
                await pair.far.drain()
        raise EOFError

    async def _at_commit(self, pair: _Pair, data: bytes, lose: Lost) -> None:
        if lose in ("answer", "both"):
            pair.near.transport.abort()
        self.lost.set()
        if lose == "answer":
            pair.heard.clear()
            pair.far.write(data)
            await pair.heard.wait()
        elif lose != "commit":
            # Until the server gives the session up, which `_back` hears.
            await asyncio.get_running_loop().create_future()
        raise EOFError

    async def _back(self, pair: _Pair) -> None:
        while data := await pair.far_reader.read(PIECE):
            await self._flows.wait()
            pair.heard.set()
            if not pair.near.transport.is_closing():
                pair.near.write(data)
                await pair.near.drain()
        raise EOFError
