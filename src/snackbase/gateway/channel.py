"""The ASGI phase of a WebSocket: the application's `receive` and `send` between the handshake and the hand-over.

Most connections leave it in the turn in which they were accepted; a route of the user's own stays in it and is an
ordinary ASGI WebSocket. Owns no bytes of the protocol. Source: ASGI HTTP & WebSocket specification 2.4.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from enum import Enum, auto
from typing import Any

from snackbase.errors import Forbidden, SnackBaseError
from snackbase.gateway.handshake import Headers, refusal
from snackbase.gateway.link import ABNORMAL, WebSocketLink
from snackbase.gateway.transport import Receiver
from snackbase.gateway.wire import BINARY, TEXT, frame

log = logging.getLogger("snackbase.gateway")

AsgiMessage = MutableMapping[str, Any]
AsgiApp = Callable[[Any, Any, Any], Awaitable[None]]

MAX_INBOX_BYTES = 1 << 20
"""Messages the application has not asked for yet; above, reading pauses."""

MESSAGE_BYTES = 100
"""What keeping a message costs besides its payload; empty ones count too."""

INTERNAL_ERROR, NORMAL = 1011, 1000


class State(Enum):
    CONNECTING = auto()
    RESPONDING = auto()
    ACCEPTED = auto()
    HANDED_OVER = auto()
    ENDED = auto()


class Channel:
    """One WebSocket's ASGI side; also its scope extension `snackbase.link`, and the link's receiver until hand-over.

    Args:
        switch: sends the 101 response and returns the link. Raises OSError when the client is gone.
        respond: sends a whole HTTP response and closes.
    """

    def __init__(
        self,
        switch: Callable[["Channel", str | None, Headers], WebSocketLink],
        respond: Callable[[int, Headers, bytes], None],
    ) -> None:
        self._switch = switch
        self._respond = respond
        self._state = State.CONNECTING
        self._connect_told = False
        self._link: WebSocketLink | None = None
        self._inbox: deque[tuple[bytes, bool]] = deque()
        self._inbox_bytes = 0
        self._lost: tuple[int, str] | None = None
        self._wake = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._response: tuple[int, Headers] = (500, ())
        self._body = b""

    async def run(self, app: AsgiApp, scope: AsgiMessage) -> None:
        """Call the application and leave nothing open behind it."""
        code = NORMAL
        try:
            await app(scope, self.asgi_receive, self.asgi_send)
        except Exception as error:
            code = INTERNAL_ERROR
            if not (self._lost and isinstance(error, OSError)):
                log.exception("The application failed on a WebSocket")
        finally:
            self._settle(code)

    def take(self, connection: Receiver) -> WebSocketLink:
        """Hand the transport over. What has arrived already reaches the connection from the loop, not from here."""
        if self._link is None or self._state is not State.ACCEPTED:
            raise RuntimeError("A WebSocket is handed over once, after websocket.accept.")
        self._state = State.HANDED_OVER
        link = self._link
        if self._inbox:
            link.pause_reading()
            asyncio.get_running_loop().call_soon(self._pass_on, link, connection)
        else:
            link.hand_to(connection)
            link.resume_reading()
        return link

    def _pass_on(self, link: WebSocketLink, connection: Receiver) -> None:
        for payload, _ in self._inbox:
            connection.receive(payload)
        self._inbox.clear()
        link.hand_to(connection)
        link.resume_reading()

    def gone(self) -> None:
        """The client left before anything was accepted."""
        self.lost(ABNORMAL, "")

    # Receiver: what the link says before the hand-over.

    def receive(self, payload: bytes) -> None:
        self._keep(payload, binary=False)

    def receive_binary(self, payload: bytes) -> None:
        self._keep(payload, binary=True)

    def ponged(self) -> None:
        """Nothing waits for it."""

    def lost(self, code: int | None, reason: str) -> None:
        self._lost = (ABNORMAL if code is None else code, reason)
        self._wake.set()
        self._writable.set()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def _keep(self, payload: bytes, *, binary: bool) -> None:
        self._inbox.append((payload, binary))
        self._inbox_bytes += len(payload) + MESSAGE_BYTES
        if self._inbox_bytes > MAX_INBOX_BYTES and self._link is not None:
            self._link.pause_reading()
        self._wake.set()

    # What the application is given.

    async def asgi_receive(self) -> AsgiMessage:
        if not self._connect_told:
            self._connect_told = True
            return {"type": "websocket.connect"}
        while not self._inbox and self._lost is None:
            self._wake.clear()
            await self._wake.wait()
        if not self._inbox:
            code, reason = self._lost or (ABNORMAL, "")
            return {"type": "websocket.disconnect", "code": code, "reason": reason}
        payload, binary = self._inbox.popleft()
        self._inbox_bytes -= len(payload) + MESSAGE_BYTES
        if self._inbox_bytes <= MAX_INBOX_BYTES and self._link is not None:
            self._link.resume_reading()
        if binary:
            return {"type": "websocket.receive", "bytes": payload}
        return {"type": "websocket.receive", "text": payload.decode()}

    async def asgi_send(self, message: AsgiMessage) -> None:
        if self._lost is not None:
            raise OSError("The client is gone.")
        kind = message["type"]
        if self._state is State.CONNECTING and kind == "websocket.accept":
            headers = [(name, value) for name, value in message.get("headers") or ()]
            self._link = self._switch(self, message.get("subprotocol"), headers)
            self._state = State.ACCEPTED
        elif self._state is State.CONNECTING and kind == "websocket.close":
            self._refuse(Forbidden("The application refused this WebSocket."))
        elif self._state is State.CONNECTING and kind == "websocket.http.response.start":
            self._response = message["status"], list(message.get("headers") or ())
            self._state = State.RESPONDING
        elif self._state is State.RESPONDING and kind == "websocket.http.response.body":
            self._body += message.get("body", b"")
            if not message.get("more_body", False):
                self._state = State.ENDED
                self._respond(*self._response, self._body)
        elif self._state is State.ACCEPTED and self._link is not None:
            await self._send_accepted(self._link, message)
        else:
            raise RuntimeError(f"Unexpected ASGI message {kind!r} while {self._state.name.lower()}.")

    async def _send_accepted(self, link: WebSocketLink, message: AsgiMessage) -> None:
        if message["type"] == "websocket.close":
            self._state = State.ENDED
            link.end(message.get("code", NORMAL), message.get("reason") or "")
        elif message["type"] == "websocket.send":
            text = message.get("text")
            link.write([frame(BINARY, message["bytes"]) if text is None else frame(TEXT, text.encode())])
            await self._writable.wait()
        else:
            raise RuntimeError(f"Unexpected ASGI message {message['type']!r} after websocket.accept.")

    def _settle(self, code: int) -> None:
        if self._lost is None and self._state in (State.CONNECTING, State.RESPONDING):
            self._refuse(SnackBaseError("Something went wrong in the server; its log knows more."))
        elif self._state is State.ACCEPTED and self._link is not None:
            self._state = State.ENDED
            self._link.end(code, "")

    def _refuse(self, error: SnackBaseError) -> None:
        self._state = State.ENDED
        self._respond(*refusal(error))
