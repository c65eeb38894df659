"""The fallback link: the same connections under any other ASGI server, and under Starlette's test client.

Works through plain ASGI `send`, so it costs two tasks a connection and cannot send protocol pings (such servers have
their own). Promises the order of what is written, a true count of what is unsent, and one `lost`. Step 8 of the path.

Source: ASGI HTTP & WebSocket specification 2.4.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

from snackbase.errors import Closing
from snackbase.gateway.frames import TOO_BIG
from snackbase.gateway.link import ABNORMAL
from snackbase.gateway.transport import Receiver
from snackbase.gateway.wire import SSE_BARE, WEBSOCKET_LINES
from snackbase.realtime.link import Wire

PIECE_BYTES = 65536
"""Of a stream, sent at once: of more nobody could tell for long whether the client gets on."""

AsgiMessage = MutableMapping[str, Any]
AsgiReceive = Callable[[], Awaitable[AsgiMessage]]
AsgiSend = Callable[[AsgiMessage], Awaitable[None]]


class AsgiLink:
    """What both kinds share. The endpoint attaches it to its connection, then awaits `serve` to the end."""

    wire: Wire
    pings = False

    def __init__(self, send: AsgiSend) -> None:
        self._send = send
        self._queue: deque[bytes] = deque()
        self._unsent = 0
        self._wake = asyncio.Event()
        self._reading = asyncio.Event()
        self._reading.set()
        self._ended = False
        self._writer: asyncio.Task[None] | None = None
        self._end_code: int | None = None
        self._end_reason = ""

    async def serve(self, receive: AsgiReceive, connection: Receiver) -> None:
        """Carry messages both ways until either side ends it; then tell the connection, whatever happened."""
        self._writer = asyncio.ensure_future(self._write_all())
        reader = asyncio.ensure_future(self._read_all(receive, connection))
        tasks = (self._writer, reader)
        for task in tasks:
            task.add_done_callback(_take_note)
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._ended = True
            for task in tasks:
                task.cancel()
            connection.lost(self._end_code, self._end_reason)
        await asyncio.wait(tasks)

    def write(self, frames: Sequence[bytes]) -> int:
        if not self._ended:
            self._queue.extend(frames)
            self._unsent += sum(map(len, frames))
            self._wake.set()
        return self._unsent

    def buffered(self) -> int:
        return self._unsent

    def ping(self) -> None:
        """Nothing: ASGI has no way to send one."""

    def pause_reading(self) -> None:
        self._reading.clear()

    def resume_reading(self) -> None:
        self._reading.set()

    def close(self, closing: Closing) -> None:
        self.end(closing.close_code, closing.code)

    def end(self, code: int, reason: str) -> None:
        if not self._ended:
            self._ended = True
            self._end_code, self._end_reason = code, reason
            self._wake.set()

    def abort(self) -> None:
        self._ended = True
        self._queue.clear()
        self._unsent = 0
        if self._writer is not None:
            self._writer.cancel()

    async def _write_all(self) -> None:
        while True:
            while self._queue:
                block = b"".join(self._queue)
                self._queue.clear()
                await self._send_block(block)
            if self._ended:
                await self._send_end()
                return
            await self._wake.wait()
            self._wake.clear()

    async def _read_all(self, receive: AsgiReceive, connection: Receiver) -> None:
        raise NotImplementedError

    async def _send_block(self, block: bytes) -> None:
        """Send it piece by piece, and count each as sent."""
        raise NotImplementedError

    async def _send_end(self) -> None:
        raise NotImplementedError


def _take_note(task: "asyncio.Task[None]") -> None:
    """A server's own error about a client that is gone says nothing new: the connection is told either way."""
    if not task.cancelled():
        task.exception()


class AsgiWebSocketLink(AsgiLink):
    """After `websocket.accept`. Text only: that is all the server ever sends."""

    wire: Wire = WEBSOCKET_LINES

    def __init__(self, send: AsgiSend, *, max_message_bytes: int) -> None:
        super().__init__(send)
        self._max_bytes = max_message_bytes
        self._end_code = ABNORMAL

    async def _read_all(self, receive: AsgiReceive, connection: Receiver) -> None:
        while True:
            await self._reading.wait()
            message = await receive()
            if message["type"] == "websocket.disconnect":
                if not self._ended:
                    self._end_code = message.get("code") or ABNORMAL
                    self._end_reason = message.get("reason") or ""
                return
            text = message.get("text")
            payload: bytes = message.get("bytes") or b"" if text is None else text.encode("utf-8", "replace")
            if len(payload) > self._max_bytes:
                self.end(TOO_BIG, "message too big")
            elif not self._ended:
                connection.receive(payload)

    async def _send_block(self, block: bytes) -> None:
        for line in block.splitlines(keepends=True):
            await self._send({"type": "websocket.send", "text": line[:-1].decode()})
            self._unsent -= len(line)

    async def _send_end(self) -> None:
        await self._send({"type": "websocket.close", "code": self._end_code, "reason": self._end_reason})


class AsgiSseLink(AsgiLink):
    """After `http.response.start`. `retry_ms`: as for StreamHandover.take."""

    wire: Wire = SSE_BARE

    def __init__(self, send: AsgiSend, *, retry_ms: int) -> None:
        super().__init__(send)
        self.write([SSE_BARE.retry(retry_ms)])

    async def _read_all(self, receive: AsgiReceive, connection: Receiver) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    async def _send_block(self, block: bytes) -> None:
        for start in range(0, len(block), PIECE_BYTES):
            piece = block[start : start + PIECE_BYTES]
            await self._send({"type": "http.response.body", "body": piece, "more_body": True})
            self._unsent -= len(piece)

    async def _send_end(self) -> None:
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})
