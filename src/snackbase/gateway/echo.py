"""The echo mode: sends every message back, over the very protocol class and parser that serve users.

Exists for the Autobahn cases, which can judge only an echo. No token, so it starts on loopback only and when asked.
"""

from starlette.routing import BaseRoute, WebSocketRoute
from starlette.types import Receive, Scope, Send

from snackbase.config import ConfigError, Settings
from snackbase.gateway.link import EXTENSION, WebSocketHandover, WebSocketLink
from snackbase.gateway.wire import BINARY, TEXT, frame

PATH = "/api/v1/realtime/_echo"
MAX_MESSAGE_BYTES = 64 << 20
MAX_FRAGMENTS = 1 << 20
"""The suite's limit cases send 16 MiB in fragments of 64 bytes."""
MAX_UNSENT_BYTES = 1 << 20


class Echo:
    """One echoing connection: receiver and plain receiver of its link."""

    def __init__(self) -> None:
        self._link: WebSocketLink | None = None

    def attach(self, link: WebSocketLink) -> None:
        self._link = link
        link.plain = self
        link.allow(max_message_bytes=MAX_MESSAGE_BYTES, max_fragments=MAX_FRAGMENTS)

    def receive(self, payload: bytes) -> None:
        self._send(frame(TEXT, payload))

    def receive_binary(self, payload: bytes) -> None:
        self._send(frame(BINARY, payload))

    def ponged(self) -> None: ...

    def lost(self, code: int | None, reason: str) -> None:
        self._link = None

    def pause_writing(self) -> None: ...

    def resume_writing(self) -> None:
        if self._link is not None:
            self._link.resume_reading()

    def _send(self, data: bytes) -> None:
        if self._link is not None:
            self._link.write([data])
            if self._link.buffered() > MAX_UNSENT_BYTES:
                self._link.pause_reading()


class EchoEndpoint:
    """Plain ASGI; an object, because Starlette would take a function for a handler of its own kind."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        handover: WebSocketHandover | None = scope.get("extensions", {}).get(EXTENSION)
        if handover is None:
            await send({"type": "websocket.close", "code": 1011, "reason": "only under our own server"})
            return
        await send({"type": "websocket.accept"})
        echo = Echo()
        echo.attach(handover.take(echo))


def echo_routes(settings: Settings) -> list[BaseRoute]:
    """The route of the echo mode, or none when it is off.

    Raises:
        ConfigError: it is on and the server would be reachable from other machines.
    """
    if not settings.realtime_echo:
        return []
    if not settings.bound_to_loopback:
        raise ConfigError("SNACKBASE_REALTIME_ECHO works on loopback only; set SNACKBASE_HOST=127.0.0.1")
    return [WebSocketRoute(PATH, EchoEndpoint())]
