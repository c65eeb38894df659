"""The shortcut past Starlette's router: the same endpoints for the same requests."""

from collections.abc import Sequence
from typing import Any

import pytest
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, Router, WebSocketRoute

from snackbase.web.direct import Direct


async def _echo(request: Request) -> Response:
    return PlainTextResponse(f"{request.path_params} {(await request.body()).decode()} {await request.body()!r}")


async def _first(request: Request) -> Response:
    return PlainTextResponse("first")


ROUTES = [
    Route("/records/{collection}/batch", _first, methods=["POST"]),
    Route("/records/{collection}", _echo, methods=["GET"]),
    Route("/records/{collection}", _echo, methods=["POST"]),
    Route("/records/{collection}/{record_id}", _echo, methods=["GET", "POST"]),
]


async def _asked(
    app: Any, method: str, path: str, pieces: Sequence[bytes] = (b"",), *, root_path: str = ""
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
    return await app(scope, receive, send), sent


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
@pytest.mark.parametrize("path", ["/records/a", "/records/a/batch", "/records/a/b%20c", "/records/é/d"])
async def test_what_it_answers_is_what_the_router_answers(method: str, path: str) -> None:
    pieces = (b"one, ", b"two")
    found, direct = await _asked(Direct("/records/", ROUTES), method, path, pieces)
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
    found, sent = await _asked(Direct("/records/", ROUTES), method, path, root_path=root_path)

    assert (found, sent) == (False, [])


async def test_a_client_that_goes_before_its_body_is_there_is_told_apart() -> None:
    with pytest.raises(ClientDisconnect):
        await _asked(Direct("/records/", ROUTES), "POST", "/records/a", ())


@pytest.mark.parametrize("route", [WebSocketRoute("/records/live", _echo), Route("/other", _first)])
def test_only_plain_routes_below_the_prefix_are_taken(route: Any) -> None:
    with pytest.raises(ValueError, match="no plain route"):
        Direct("/records/", [route])
