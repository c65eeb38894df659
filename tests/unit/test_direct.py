"""The shortcut past Starlette's router: the same endpoints for the same requests."""

from collections.abc import Sequence
from typing import Any

import pytest
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, Router, WebSocketRoute
from starlette.types import Receive, Send

from snackbase.config import Settings
from snackbase.gateway.link import EXTENSION as NAMED_BY_THE_GATEWAY
from snackbase.metrics import Counters
from snackbase.origins import Origins
from snackbase.web.direct import Direct
from snackbase.web.middleware import EXTENSION, Http


async def _echo(request: Request) -> Response:
    text = f"{request.path_params} {(await request.body()).decode()} {await request.body()!r}"
    return Response(text, headers={"x-more": "1"}, media_type="text/plain")


async def _first(request: Request) -> Response:
    return PlainTextResponse("first")


ROUTES = [
    Route("/records/{collection}/batch", _first, methods=["POST"]),
    Route("/records/{collection}", _echo, methods=["GET"]),
    Route("/records/{collection}", _echo, methods=["POST"]),
    Route("/records/{collection}/{record_id}", _echo, methods=["GET", "POST"]),
]


def _through(direct: Direct) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> bool:
        response = await direct(scope, receive, send)
        if response is not None:
            await response(scope, receive, send)
        return response is not None

    return app


async def _asked(
    app: Any, method: str, path: str, pieces: Sequence[bytes] = (b"",), *, root_path: str = "", **more: Any
) -> tuple[Any, list[Any]]:
    waiting = [
        {"type": "http.request", "body": piece, "more_body": index + 1 < len(pieces)}
        for index, piece in enumerate(pieces)
    ] or [{"type": "http.disconnect"}]
    sent: list[Any] = []

    async def receive() -> Any:
        return waiting.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "root_path": root_path, "headers": [], "query_string": b""}
    return await app(scope | more, receive, send), sent


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
@pytest.mark.parametrize("path", ["/records/a", "/records/a/batch", "/records/a/b%20c", "/records/é/d"])
async def test_what_it_answers_is_what_the_router_answers(method: str, path: str) -> None:
    pieces = (b"one, ", b"two")
    found, direct = await _asked(_through(Direct("/records/", ROUTES)), method, path, pieces)
    _, routed = await _asked(Router(ROUTES), method, path, pieces)

    assert found
    assert direct == routed


@pytest.mark.parametrize(
    ("method", "path", "root_path"),
    [
        ("DELETE", "/records/a", ""),
        ("GET", "/records/", ""),
        ("GET", "/records/a/b/c", ""),
        ("GET", "/other/a", ""),
        ("GET", "/backend/records/a", "/backend"),
        ("GET", "/records/a", "/records"),
    ],
)
async def test_everything_else_is_left_to_the_router(method: str, path: str, root_path: str) -> None:
    found, sent = await _asked(_through(Direct("/records/", ROUTES)), method, path, root_path=root_path)

    assert (found, sent) == (False, [])


async def test_a_client_that_goes_before_its_body_is_there_is_told_apart() -> None:
    with pytest.raises(ClientDisconnect):
        await _asked(_through(Direct("/records/", ROUTES)), "POST", "/records/a", ())


@pytest.mark.parametrize("route", [WebSocketRoute("/records/live", _echo), Route("/other", _first)])
def test_only_plain_routes_below_the_prefix_are_taken(route: Any) -> None:
    with pytest.raises(ValueError, match="no plain route"):
        Direct("/records/", [route])


class OneGo:
    """The server's side of an exchange."""

    def __init__(self, *, takes: bool) -> None:
        self._takes = takes
        self.answers: list[tuple[int, list[tuple[bytes, bytes]], bytes]] = []

    def whole(self, receive: Receive) -> bool:
        return True

    def answer(self, send: Send, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> bool:
        if self._takes:
            self.answers.append((status, list(headers), body))
        return self._takes


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("origin", [[], [(b"origin", b"https://app.example")]])
async def test_an_answer_in_one_go_is_the_one_that_the_long_way_gives(
    method: str, origin: list[tuple[bytes, bytes]]
) -> None:
    settings = Settings(cors_origins="https://app.example")
    app = Http(
        Router(ROUTES),
        settings=settings,
        origins=Origins(settings),
        counters=Counters(),
        direct=Direct("/records/", ROUTES),
    )
    given = [*origin, (b"x-request-id", b"0123abcd-trace")]
    one_go, long_way = OneGo(takes=True), OneGo(takes=False)
    _, [*at_once] = await _asked(app, method, "/records/a", headers=given, extensions={EXTENSION: one_go})
    _, [start, body] = await _asked(app, method, "/records/a", headers=given, extensions={EXTENSION: long_way})

    expected = (start["status"], start["headers"], body["body"])
    if method == "HEAD":
        assert [(at_once[0]["status"], at_once[0]["headers"], at_once[1]["body"])] == [expected]
    else:
        assert (at_once, one_go.answers) == ([], [expected])


def test_both_sides_call_the_exchange_by_one_name() -> None:
    assert EXTENSION == NAMED_BY_THE_GATEWAY
