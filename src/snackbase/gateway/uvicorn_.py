"""uvicorn's HTTP and WebSocket protocol classes, made to let go of sockets. Beside uvicorn_exchange.py and
uvicorn_server.py the only file that knows it.

Both classes run the application as ordinary ASGI; the scope extension `snackbase.link` moves the transport to a link of
link.py, after which neither a task nor an object of uvicorn's remains. Also bounds what uvicorn leaves unbounded: the
time and size of a request's head. Uses private attributes of uvicorn's, which a test names. Steps 1 and 8 of the path.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, cast

import httptools
import uvicorn
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.utils import get_local_addr, get_remote_addr, is_ssl
from uvicorn.server import ServerState

from snackbase.config import Settings
from snackbase.errors import BadRequest, RateLimited, RequestTimeout, SnackBaseError, Unavailable
from snackbase.gateway import handshake
from snackbase.gateway.bounds import (
    DEFAULT_LIMITS,
    MAX_HEAD_BYTES,
    MAX_HEADERS,
    MAX_PIPELINED,
    OPEN_AT_ONCE,
    READ_AT_ONCE,
    Limits,
)
from snackbase.gateway.channel import Channel
from snackbase.gateway.joined import JoinedHead
from snackbase.gateway.link import EXTENSION, Reading, WebSocketLink
from snackbase.gateway.sockets import AddressesOnly
from snackbase.gateway.uvicorn_exchange import Exchange

log = logging.getLogger("snackbase.gateway")
_SILENT = logging.Logger("silent", level=logging.CRITICAL + 1)

Asgi = Callable[[Any, Any, Any], Awaitable[None]]


class HttpProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol with bounds on a request's head, and a way out for event streams."""

    limits: ClassVar[Limits] = DEFAULT_LIMITS
    opening: ClassVar[Reading] = Reading(OPEN_AT_ONCE)

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._head_timer: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        self._refused: SnackBaseError | None = None
        self._running: RequestResponseCycle | None = None
        self._quiet_since = 0.0
        self._begun = False
        self._deaf = False
        self._waiting = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        super().connection_made(AddressesOnly(transport))  # type: ignore[arg-type]  # all it asks of it now
        self.transport, self.flow = transport, FlowControl(transport)
        if len(self.connections) > self.limits.connections:
            self._refuse(Unavailable("This server has no room for more connections.", code="overloaded"))
            return
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_head_timer()
        self._unset_keepalive_if_required()
        self._no_longer_waiting()
        super().connection_lost(exc)
        if self._running is not None and not self._running.response_complete:
            # uvicorn tells only the newest request, which may be one that waits behind this one.
            self._running.disconnected = True
            self._running.message_event.set()
        # The extension refers to this protocol.
        for scope in (self.scope, *(cycle.scope for cycle, _ in self.pipeline)):
            if scope is not None:
                scope.pop("extensions", None)
        self._running = None
        self.pipeline.clear()

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        if self._waiting or (handshake.opens_realtime(data) and not self.opening.free()):
            if self.opening.keep(len(data)):
                self._wait(data)
                return
            data = self._no_longer_waiting() + data
        self._read(data)

    def _wait(self, data: bytes) -> None:
        """A thousand who come back in one moment must not be one long hold for those who are here."""
        if not self._waiting:
            self.transport.pause_reading()
            self.opening.later(self._go_on)
        self._waiting += data

    def _no_longer_waiting(self) -> bytes:
        data, self._waiting = self._waiting, b""
        if data:
            self.opening.keep(-len(data))
            if not self.transport.is_closing():
                self.transport.resume_reading()
        return data

    def _go_on(self) -> None:
        data = self._no_longer_waiting()
        if not data or self.transport.is_closing():
            return
        reader = self.transport.get_protocol()
        try:
            # A stream may have taken the transport meanwhile; what is sent behind its request is its link's.
            self._read(data) if reader is self else reader.data_received(data)  # type: ignore[attr-defined]
        except Exception:
            # The loop ends a connection that it cannot read from; here nobody else would.
            log.exception("reading failed")
            self.transport.abort()

    def _read(self, data: bytes) -> None:
        self._head_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._stop_head_timer()
            if self._should_upgrade():
                self._upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self._refuse(self._refused or BadRequest("The request is not valid HTTP."))
        else:
            if self._head_timer is None:
                # Most heads come whole; only one that does not is worth a timer.
                if self._arriving and self._idle:
                    self._await_head()
            elif self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(handshake.head_too_large())

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._begun = True
        extensions: dict[str, Any] = {EXTENSION: Exchange(self)}
        self.scope["extensions"] = extensions

    def on_headers_complete(self) -> None:
        self._stop_head_timer()
        self._begun = False
        self._refused = self._fault()
        if self._refused is not None:
            # Raising is the only way to stop the parser; data_received answers.
            raise self._refused
        self._head_bytes = 0
        super().on_headers_complete()
        if getattr(self.server_state, "leaving", False):
            self.leave()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        # What came since the head was a body; a connection that keeps counting it would never look idle again.
        self._head_bytes = 0

    def _fault(self) -> SnackBaseError | None:
        """What is wrong with the request whose head has arrived."""
        if len(self.headers) > MAX_HEADERS or (self._head_bytes > MAX_HEAD_BYTES and self._size() > MAX_HEAD_BYTES):
            return handshake.head_too_large()
        if len(self.pipeline) >= MAX_PIPELINED:
            return RateLimited("Too many requests are sent ahead of their answers on one connection.")
        hosts = sum(name == b"host" for name, _ in self.headers)
        if hosts > 1 or (hosts == 0 and self.parser.get_http_version() == "1.1"):
            return BadRequest("HTTP/1.1 needs exactly one Host header.")  # RFC 9112 §3.2
        return None

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running, cycle.transport = cycle, JoinedHead(self.transport)  # type: ignore[assignment]  # all it uses
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        # As uvicorn's, but one timer for many requests: making and ending one for each costs 5 us.
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
            return
        self._quiet_since = self.loop.time()
        if self._arriving and self._head_timer is None:
            self._await_head()
        if self.timeout_keep_alive_task is None:
            self.timeout_keep_alive_handler()

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection that has been quiet for long; look again when it may have been."""
        self.timeout_keep_alive_task = None
        if not self.idle or self.transport.is_closing():
            return
        left_s = self._quiet_since + self.timeout_keep_alive - self.loop.time()
        if left_s <= 0:
            self.transport.close()
        else:
            self.timeout_keep_alive_task = self.loop.call_later(left_s, self.timeout_keep_alive_handler)

    def leave(self) -> None:
        """Close with the next answer (`Connection: close`)."""
        if not self._idle:
            self.cycle.keep_alive = False

    def cut(self) -> None:
        """End now, without a word in the log: whoever stops the server a second time knows what they do."""
        if self._running is not None:
            self._running.logger = _SILENT
        self.transport.abort()

    def let_go(self, scope: Any) -> None:
        """Nothing of the HTTP phase stays, not even until the cycle collector comes by."""
        scope.pop("extensions", None)
        self.parser = None  # type: ignore[assignment]  # as uvicorn does; its callbacks hold this protocol

    def shutdown(self) -> None:
        if self._idle and self._arriving:
            # A request is arriving: it is answered, and its head has its own time limit.
            return
        super().shutdown()

    @property
    def idle(self) -> bool:
        """No request is under way, nor arriving."""
        return self._idle and not self._arriving

    @property
    def _arriving(self) -> bool:
        """Something of a head is here, and not all of it."""
        return self._begun or self._head_bytes > 0 or bool(self._waiting)

    @property
    def _idle(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is None or cycle.response_complete

    def _size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(self.limits.head_s, self._head_late)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_late(self) -> None:
        self._head_timer = None
        if self._waiting:
            # It is we who are late.
            self._await_head()
        elif self._arriving:
            self._refuse(RequestTimeout("The request's head did not arrive in time."))
        else:
            self.transport.close()

    def _refuse(self, error: SnackBaseError) -> None:
        """Answer in its turn and close; nothing that comes afterwards is read."""
        self._stop_head_timer()
        self._deaf = True
        running = self._running
        if running is None or running.response_complete:
            self._last_word(error)
        elif running is self.cycle and running.more_body:
            # What is wrong is the body of the request under way, so this is its answer.
            running.disconnected = True
            running.message_event.set()
            if running.response_started:
                self.transport.close()
            else:
                self._last_word(error)
        else:
            self._refuse_in_turn(error)

    def _last_word(self, error: SnackBaseError) -> None:
        if not self.transport.is_closing():
            self.transport.write(handshake.response(*handshake.refusal(error)))
        self.transport.close()

    def _refuse_in_turn(self, error: SnackBaseError) -> None:
        """Those before it are answered first (RFC 9112 §9.3.2)."""
        if self.pipeline and self.pipeline[0][0].more_body:
            self.pipeline.popleft()
        status, headers, body = handshake.refusal(error)

        async def refuse(scope: Any, receive: Any, send: Any) -> None:
            length = (b"content-length", b"%d" % len(body))
            await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
            await send({"type": "http.response.body", "body": body})

        self.scope.setdefault("method", "GET")
        self.cycle = RequestResponseCycle(
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=False,
            keep_alive=False,
            on_response=self.on_response_complete,
        )
        self.pipeline.appendleft((self.cycle, refuse))

    def _upgrade(self, early: bytes) -> None:
        if self.scope.get("http_version") != "1.1" or not self._idle:
            self._refuse(BadRequest("A WebSocket opens with HTTP/1.1, and behind no other request."))
            return
        self._unset_keepalive_if_required()
        self.handle_websocket_upgrade()
        self.let_go(self.scope)
        if early:
            self.transport.get_protocol().data_received(early)  # type: ignore[attr-defined]  # ours, see above


class WebSocketProtocol(asyncio.Protocol):
    """From uvicorn's upgrade to `websocket.accept`, or a refusal. Then a WebSocketLink has the transport.

    Built by uvicorn, which hands it the request's head rebuilt, in one piece.
    """

    limits: ClassVar[Limits] = DEFAULT_LIMITS
    reading: ClassVar[Reading] = Reading(READ_AT_ONCE)

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._config = config
        self._state = server_state
        self._app_state = app_state
        self._early = b""
        self._transport: asyncio.Transport
        self._channel: Channel | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's streams are no subclass of it, but behave as one.
        self._transport = cast(asyncio.Transport, transport)
        self._state.connections.add(self)  # type: ignore[arg-type]  # uvicorn asks for `shutdown` only

    def data_received(self, data: bytes) -> None:
        if self._channel is None:
            head, _, self._early = data.partition(b"\r\n\r\n")
            self._begin(head)
        else:
            self._early += data
            if len(self._early) > self.limits.max_message_bytes:
                self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._state.connections.discard(self)
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.gone()

    def shutdown(self) -> None:
        self._refuse(Unavailable("The server restarts."))

    def _begin(self, head: bytes) -> None:
        try:
            request = handshake.read_request(head)
        except SnackBaseError as error:
            self._refuse(error)
            return
        self._channel = Channel(self._switch(request.key), self._respond)
        scope = self._scope(request, self._channel)
        app: Asgi = self._config.loaded_app
        task = asyncio.get_running_loop().create_task(self._channel.run(app, scope))
        self._state.tasks.add(task)
        task.add_done_callback(self._state.tasks.discard)

    def _scope(self, request: handshake.Request, channel: Channel) -> dict[str, Any]:
        root_path = self._config.root_path
        addresses = cast(asyncio.Transport, AddressesOnly(self._transport))
        return {
            "type": "websocket",
            "asgi": {"version": self._config.asgi_version, "spec_version": "2.4"},
            "http_version": "1.1",
            "scheme": "wss" if is_ssl(self._transport) else "ws",
            "server": get_local_addr(addresses),
            "client": get_remote_addr(addresses),
            "root_path": root_path,
            "path": root_path + request.path,
            "raw_path": root_path.encode("ascii") + request.raw_path,
            "query_string": request.query_string,
            "headers": request.headers,
            "subprotocols": list(request.subprotocols),
            "state": self._app_state.copy(),
            "extensions": {"websocket.http.response": {}, EXTENSION: channel},
        }

    def _switch(self, key: bytes) -> Callable[[Channel, str | None, handshake.Headers], WebSocketLink]:
        def switch(channel: Channel, subprotocol: str | None, headers: handshake.Headers) -> WebSocketLink:
            if self._transport.is_closing():
                raise OSError("The client is gone.")
            head = handshake.switching_protocols(key, subprotocol, [*self._state.default_headers, *headers])
            connections: set[Any] = self._state.connections
            link = WebSocketLink(
                self._transport, channel, connections, parser=self.limits.parser, reading=self.reading, plain=channel
            )
            connections.discard(self)
            self._channel = None
            self._transport.write(head)
            self._transport.set_protocol(link)
            if self._early:
                link.data_received(self._early)
            return link

        return switch

    def _respond(self, status: int, headers: handshake.Headers, body: bytes) -> None:
        self._transport.write(handshake.response(status, [*self._state.default_headers, *headers], body))
        self._transport.close()

    def _refuse(self, error: SnackBaseError) -> None:
        if not self._transport.is_closing():
            self._respond(*handshake.refusal(error))


def protocols(settings: Settings) -> tuple[type[HttpProtocol], type[WebSocketProtocol]]:
    """The two classes for uvicorn's `http=` and `ws=`, bound to these settings."""
    chosen = Limits.of(settings)

    class BoundHttpProtocol(HttpProtocol):
        limits = chosen
        opening = Reading(OPEN_AT_ONCE)

    class BoundWebSocketProtocol(WebSocketProtocol):
        limits = chosen
        reading = Reading(READ_AT_ONCE)

    return BoundHttpProtocol, BoundWebSocketProtocol
