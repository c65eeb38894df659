"""A small server out of the real protocol classes: `python -m tests.protocol.gateway_server`.

Prints its port. Its routes answer, echo and stream without a hub, so that these tests see the gateway alone.
"""

import asyncio
import gc
import sys
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import Message, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from snackbase.config import Settings
from snackbase.gateway.echo import echo_routes
from snackbase.gateway.link import EXTENSION, WebSocketHandover, WebSocketLink
from snackbase.gateway.sockets import listen
from snackbase.gateway.uvicorn_server import build_server

LOST: list[str] = []
"""What every connection was told at its end; `GET /lost` shows it."""


class Recorder:
    """A connection that answers each message with its length, and notes its end."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.link: WebSocketLink | None = None
        self.pongs = 0

    def receive(self, payload: bytes) -> None:
        assert self.link is not None
        if payload == b"ping me":
            self.link.ping()
        else:
            self.link.write([self.link.wire.message(payload)])

    def ponged(self) -> None:
        assert self.link is not None
        self.link.write([self.link.wire.message(b"ponged")])

    def lost(self, code: int | None, reason: str) -> None:
        LOST.append(f"{self.name} {code} {reason}")


class HandedOver:
    """A WebSocket with the limits that users get."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        handover: WebSocketHandover = scope["extensions"][EXTENSION]
        await send({"type": "websocket.accept", "subprotocol": next(iter(scope["subprotocols"]), None)})
        recorder = Recorder(scope["query_string"].decode() or "unnamed")
        recorder.link = handover.take(recorder)


class Stream:
    """An event stream of three messages, then silence."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        handover = scope["extensions"][EXTENSION]
        wire = handover.wire
        handover.prepare()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        recorder = Recorder(scope["query_string"].decode() or "unnamed")
        link = handover.take(recorder, retry_ms=1234)
        link.write([wire.message(b'{"n":1}'), wire.resumable(b'{"n":2}', b"e-2")])
        link.write([wire.message(b'{"n":3}')])


async def plain(socket: WebSocket) -> None:
    """An ordinary ASGI WebSocket, as a user's own route is."""
    await socket.accept(headers=[(b"x-plain", b"yes")])
    try:
        while True:
            message = await socket.receive()
            if message["type"] == "websocket.disconnect":
                LOST.append(f"plain {message['code']} {message.get('reason') or ''}")
                return
            if message.get("bytes") is not None:
                await socket.send_bytes(message["bytes"])
            elif message["text"] == "fail":
                raise LookupError("asked to fail")
            elif message["text"] == "close":
                await socket.close(4321, "asked to")
                return
            else:
                await socket.send_text(message["text"])
    except WebSocketDisconnect:
        LOST.append("plain disconnected while sending")


async def refuse(socket: WebSocket) -> None:
    await socket.send_denial_response(PlainTextResponse("not today", 418))


async def fail(socket: WebSocket) -> None:
    raise LookupError("before accept")


async def slow(request: Request) -> Response:
    await asyncio.sleep(0.3)
    return PlainTextResponse("done")


LET_IN = asyncio.Event()


class Late:
    """A WebSocket that is not accepted before somebody asks for `/let-in`; `/waiting` answers once it is asked for."""

    waiting = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.waiting.set()
        await LET_IN.wait()
        LET_IN.clear()
        self.waiting.clear()
        await HandedOver()(scope, receive, send)


async def waiting(request: Request) -> Response:
    await Late.waiting.wait()
    return PlainTextResponse("waiting")


async def let_in(request: Request) -> Response:
    LET_IN.set()
    return PlainTextResponse("let in")


def garbage(request: Request) -> Response:
    """How many objects waited for the cycle collector since the last look; until `?stop` they go on waiting."""
    found = gc.collect()
    (gc.enable if "stop" in request.query_params else gc.disable)()
    return PlainTextResponse(str(found))


def used(request: Request) -> Response:
    """Resident bytes of this process."""
    return PlainTextResponse(str(int(Path("/proc/self/statm").read_text().split()[1]) * 4096))


GONE = asyncio.Event()


async def waits(request: Request) -> Response:
    """Ends when its client has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    GONE.set()
    return PlainTextResponse("nobody reads this")


async def waited(request: Request) -> Response:
    await GONE.wait()
    return PlainTextResponse("gone")


async def hello(request: Request) -> Response:
    body = await request.body()
    return PlainTextResponse(f"hello {len(body)}")


class AtOnce:
    """Answers as `hello` does, in one piece; `?break` with a header that would be two."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = scope["extensions"][EXTENSION]
        request = Request(scope, receive)
        body = b"" if scope["method"] == "GET" else await request.body()
        response = PlainTextResponse(f"hello {len(body)}")
        headers = response.raw_headers + [(b"x", b"a\r\nb: c")] * (scope["query_string"] == b"break")

        async def somebodys_own(message: Message) -> None:
            await send(message)

        assert not exchange.answer(somebodys_own, 200, headers, response.body)
        assert exchange.answer(send, 200, headers, response.body)
        assert not exchange.answer(send, 200, headers, response.body)


class Before:
    """`/at-once` with the server's own `send`, which starlette's middleware would stand before; the rest is routed."""

    def __init__(self, routed: Starlette) -> None:
        self._routed = routed
        self._at_once = AtOnce()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        application = self._at_once if scope.get("path") == "/at-once" else self._routed
        await application(scope, receive, send)


async def whole(request: Request) -> Response:
    """Whether the body had come when the application was asked, and once it was read."""
    exchange = request.scope["extensions"][EXTENSION]
    before = exchange.whole(request.receive)
    await request.body()
    return PlainTextResponse(f"{before} {exchange.whole(request.receive)}")


async def lost(request: Request) -> Response:
    return PlainTextResponse("\n".join(LOST))


def main() -> None:
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    settings = Settings(port=port, realtime_echo=True, request_timeout_seconds=0.5, shutdown_seconds=5)
    routes = [
        *echo_routes(settings),
        WebSocketRoute("/handed-over", HandedOver()),
        WebSocketRoute("/plain", plain),
        WebSocketRoute("/refuse", refuse),
        WebSocketRoute("/fail", fail),
        Route("/stream", Stream(), methods=["GET"]),
        Route("/hello", hello, methods=["GET", "POST"]),
        Route("/whole", whole, methods=["POST"]),
        Route("/slow", slow),
        Route("/waits", waits),
        Route("/waited", waited),
        Route("/lost", lost),
        WebSocketRoute("/late", Late()),
        Route("/waiting", waiting),
        Route("/let-in", let_in),
        Route("/used", used),
        Route("/garbage", garbage),
    ]
    sockets = listen(settings)
    print(sockets[0].getsockname()[1], flush=True)
    build_server(Before(Starlette(routes=routes)), settings).run(sockets=sockets)


if __name__ == "__main__":
    main()
