"""uvicorn's server with a stop in order; beside uvicorn_.py and uvicorn_exchange.py the only file that knows it.

Order of a stop: not ready -> (a delay for load balancers) -> not listening -> realtime connections end in batches ->
requests under way are answered, each connection is told to close -> the application stops. Never waits for more than
the set time; a second signal cuts everything short.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable
from math import ceil
from time import monotonic
from typing import Any

import uvicorn
from uvicorn.server import ServerState

from snackbase.config import Settings
from snackbase.gateway.bounds import KEEP_ALIVE_S
from snackbase.gateway.handing import Taker
from snackbase.gateway.sockets import BACKLOG, make_room_for_files
from snackbase.gateway.uvicorn_ import Asgi, HttpProtocol, protocols

log = logging.getLogger("snackbase.gateway")

IDLE_GRACE_S = 0.5
"""When the server stops, open connections may send one more request within this time and are told to close with its
answer; closed at once, a request already on its way would fail."""


LAST_S = 1.0
"""How long connections that another process accepted may take to arrive; and what the application has, after a second
signal, to end what it does and to close its store."""


class State(ServerState):
    """uvicorn's state of the server, and whether it is about to stop."""

    def __init__(self) -> None:
        super().__init__()
        self.leaving = False


class Server(uvicorn.Server):
    """uvicorn's server that leaves in order: not ready, not listening, realtime drained, requests answered.

    Args:
        leave: called first when the server stops: it is not ready any more. It then still listens for `delay_s`.
        drain: called after it stopped listening; ends the realtime connections in batches.
        listening: called once it accepts connections.
        taker: brings the connections, where another process accepts them; then there is nothing to listen at.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        *,
        leave: Callable[[], None] | None = None,
        drain: Callable[[], Awaitable[None]] | None = None,
        listening: Callable[[], None] | None = None,
        delay_s: float = 0.0,
        taker: Taker | None = None,
    ) -> None:
        super().__init__(config)
        self.server_state: State = State()
        self._leave = leave
        self._drain = drain
        self._listening = listening
        self._delay_s = delay_s
        self._taker = taker

    def handle_exit(self, sig: int, frame: Any) -> None:
        """The second signal of either kind ends at once, without waiting for connections."""
        if self.should_exit:
            self.force_exit = True
        super().handle_exit(sig, frame)

    def replaced(self) -> None:
        """Stop, and without delay: another process accepts connections on the same sockets."""
        self._delay_s = 0.0
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets if self._taker is None else [])
        if self._taker is not None:
            self._taker.start(self._protocol, count=lambda: len(self.server_state.connections), leave=self.replaced)
        if self._listening is not None:
            self._listening()

    def _protocol(self) -> asyncio.Protocol:
        """What uvicorn makes for each connection it accepts itself."""
        made: asyncio.Protocol = self.config.http_protocol_class(  # type: ignore[call-arg]  # as uvicorn itself
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return made

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        began = monotonic()
        if self._leave is not None:
            self._leave()
        await self._pass(lambda: False, self._delay_s)
        if self._taker is not None:
            await self._taker.stop(LAST_S)
        self.server_state.leaving = True
        for connection in self.server_state.connections:
            if isinstance(connection, HttpProtocol):
                connection.leave()
        for server in self.servers:
            server.close()
        accepted = monotonic()
        if self._drain is not None:
            await self._drained(asyncio.ensure_future(self._drain()))
        await self._pass(self._nobody_idle, accepted + IDLE_GRACE_S - monotonic())
        if self.config.timeout_graceful_shutdown is not None:
            left = self.config.timeout_graceful_shutdown - (monotonic() - began - self._delay_s)
            self.config.timeout_graceful_shutdown = max(1, ceil(left))
        await super().shutdown(sockets)
        if self.force_exit:
            await self._cut_off()
        # Otherwise uvicorn raises the signal again when it is done, and a clean stop would look like a crash.
        self._captured_signals.clear()

    async def _cut_off(self) -> None:
        """A second signal: requests under way end now, and the application still has a moment to close its store."""
        under_way = set(self.server_state.tasks)
        for connection in list(self.server_state.connections):
            if isinstance(connection, HttpProtocol):
                connection.cut()
        await asyncio.sleep(0)
        for task in under_way:
            task.cancel()
        if under_way:
            log.warning("A second signal cut %d requests off", len(under_way))
            await asyncio.wait(under_way, timeout=LAST_S)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.lifespan.shutdown(), LAST_S)

    def _nobody_idle(self) -> bool:
        return not any(isinstance(one, HttpProtocol) and one.idle for one in self.server_state.connections)

    async def _pass(self, over: Callable[[], bool], seconds: float) -> None:
        """Wait, at most so long; a second signal cuts it short."""
        ends = monotonic() + seconds
        while monotonic() < ends and not over() and not self.force_exit:  # noqa: ASYNC110 - set by a signal handler
            await asyncio.sleep(0.02)

    async def _drained(self, draining: "asyncio.Future[None]") -> None:
        while not draining.done() and not self.force_exit:
            await asyncio.wait({draining}, timeout=0.1)
        if not draining.done():
            draining.cancel()
        elif (error := draining.exception()) is not None:
            log.error("Draining failed; the connections are closed without it", exc_info=error)


def build_server(
    app: Asgi,
    settings: Settings,
    *,
    leave: Callable[[], None] | None = None,
    drain: Callable[[], Awaitable[None]] | None = None,
    listening: Callable[[], None] | None = None,
    taker: Taker | None = None,
) -> Server:
    """A server for `server.run(sockets=listen(settings))`: uvloop, httptools, our classes; logs through `logging`."""
    make_room_for_files()
    http, ws = protocols(settings)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http=http,
        ws=ws,
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        # Forwarded headers are judged by origins.py, by one setting for HTTP and WebSocket alike.
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=ceil(settings.shutdown_seconds),
    )
    delay_s = settings.shutdown_delay_seconds
    return Server(config, leave=leave, drain=drain, listening=listening, delay_s=delay_s, taker=taker)
