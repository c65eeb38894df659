"""The outermost layer of a request: bodies, limits, errors in one shape, CORS, request ids, the access log."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import httpx
import msgspec
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, Router
from structlog.testing import capture_logs

from snackbase import errors
from snackbase.config import Settings
from snackbase.errors import FieldError, SnackBaseError
from snackbase.hooks import HookAbort
from snackbase.metrics import Counters
from snackbase.origins import Origins
from snackbase.web import middleware
from snackbase.web.http import MAX_JSON_DEPTH, json_response, read_json
from snackbase.web.middleware import Http, not_found, note_user

PAGE = "http://localhost:5173"


class Author(msgspec.Struct):
    name: str


class Post(msgspec.Struct, forbid_unknown_fields=True):
    title: str
    views: int = 0
    authors: list[Author] = []
    extra: dict[str, Any] = {}


class Boom:
    """Raises what it was told to."""

    error: Exception = RuntimeError("not set")

    async def handle(self, request: Request) -> Response:
        raise self.error


async def echo(request: Request) -> Response:
    return json_response(await read_json(request, Post), status=201, headers={"X-SnackBase-Position": "p1"})


async def noted(request: Request) -> Response:
    note_user(request.scope, "u1")
    return PlainTextResponse("ok", headers={"Cache-Control": "max-age=5"})


async def breaks_off(request: Request) -> Response:
    class Breaks(Response):
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            raise RuntimeError("half way")

    return Breaks()


@pytest.fixture
def boom() -> Boom:
    return Boom()


@pytest.fixture
def counters() -> Counters:
    return Counters()


@pytest.fixture
def make_app(boom: Boom, counters: Counters) -> Callable[..., Http]:
    def make(**settings: Any) -> Http:
        chosen = Settings(**{"max_body_bytes": 8192, "request_timeout_seconds": 30, **settings})
        routes = [
            Route("/posts", echo, methods=["POST"]),
            Route("/posts", noted, methods=["GET"]),
            Route("/posts/{id}", noted, methods=["GET"]),
            Route("/boom", boom.handle, methods=["GET", "POST"]),
            Route("/breaks", breaks_off),
        ]
        router = Router(routes, redirect_slashes=False, default=not_found)
        return Http(router, settings=chosen, origins=Origins(chosen), counters=counters)

    return make


@pytest.fixture
async def client(make_app: Callable[..., Http]) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(make_app()), base_url="http://sb.test") as client:
        yield client


async def exchange(
    app: Http, *, headers: dict[str, str], chunks: Sequence[bytes], hang: bool = False
) -> tuple[dict[str, Any], dict[str, Any], int]:
    """One POST /posts by hand: (start message, decoded body, how many chunks were taken)."""
    taken = 0
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        nonlocal taken
        if taken >= len(chunks):
            if hang:
                await asyncio.Event().wait()
            return {"type": "http.disconnect"}
        taken += 1
        return {"type": "http.request", "body": chunks[taken - 1], "more_body": hang or taken < len(chunks)}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/posts",
        "raw_path": b"/posts",
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 1),
        "scheme": "http",
    }
    await app(scope, receive, send)
    return sent[0], json.loads(sent[1]["body"]), taken


async def test_a_json_body_arrives_as_the_type_asked_for(client: httpx.AsyncClient) -> None:
    answer = await client.post("/posts", json={"title": "é", "extra": {"a": [1, None, True]}})

    assert answer.status_code == 201
    assert answer.json() == {"title": "é", "views": 0, "authors": [], "extra": {"a": [1, None, True]}}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"not json",
        b'{"title": NaN}',
        b'{"title": Infinity}',
        b'{"title": "\\ud800"}',
        b'{"title": "\xff"}',
        b'{"title": "a"} more',
        b'{"title": "a",}',
        b"\xef\xbb\xbf{}",
        b'{"title": "a", "extra": {"a": ' + b"[" * 900 + b"]" * 900 + b"}}",
        b'{"title": "a", "extra": ' + b'{"a":' * MAX_JSON_DEPTH + b"1" + b"}" * MAX_JSON_DEPTH + b"}",
    ],
)
async def test_a_body_that_is_not_json_or_too_deep_is_400(client: httpx.AsyncClient, body: bytes) -> None:
    answer = await client.post("/posts", content=body)

    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_json")


@pytest.mark.parametrize(
    "body",
    [
        {"title": "[" * 100 + '"{{' * 100},
        {"title": "a", "extra": {str(number): [[number]] for number in range(100)}},
        {"title": '\\"[' * 100, "extra": {"a": {"b": ["}"] * 10}}},
    ],
)
async def test_many_brackets_are_not_depth(client: httpx.AsyncClient, body: dict[str, Any]) -> None:
    assert (await client.post("/posts", json=body)).status_code == 201


@pytest.mark.parametrize(
    ("body", "field", "code"),
    [
        ({"title": 1}, "title", "invalid"),
        ({}, "title", "required"),
        ({"title": "a", "titel": "b"}, "titel", "unknown_field"),
        ({"title": "a", "views": 1.5}, "views", "invalid"),
        ({"title": "a", "authors": [{"name": "x"}, {"name": None}]}, "authors[1].name", "invalid"),
        ({"title": "a", "authors": [{}]}, "authors[0].name", "required"),
    ],
)
async def test_json_of_another_shape_is_422_and_names_the_field(
    client: httpx.AsyncClient, body: dict[str, Any], field: str, code: str
) -> None:
    answer = await client.post("/posts", json=body)

    assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")
    assert [(entry["field"], entry["code"]) for entry in answer.json()["details"]] == [(field, code)]
    assert answer.json()["details"][0]["message"]


async def test_another_root_than_an_object_is_422(client: httpx.AsyncClient) -> None:
    answer = await client.post("/posts", json=[1])

    assert (answer.status_code, answer.json()["code"], answer.json()["details"]) == (422, "validation_failed", [])


async def test_numbers_out_of_range_and_duplicate_keys_never_cause_a_500(client: httpx.AsyncClient) -> None:
    for text in ('{"title":"a","extra":{"n":1e999}}', '{"title":"a","extra":{"n":' + "9" * 5000 + "}}"):
        assert (await client.post("/posts", content=text)).status_code == 422
    assert (await client.post("/posts", content='{"title":"a","title":"b"}')).json()["title"] == "b"


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json", 201),
        ("Application/JSON; charset=utf-8", 201),
        ("application/merge-patch+json", 201),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("application/jsonp", 415),
    ],
)
async def test_only_json_content_types_are_taken(client: httpx.AsyncClient, content_type: str, status: int) -> None:
    answer = await client.post("/posts", content=b'{"title":"a"}', headers={"content-type": content_type})

    assert answer.status_code == status
    if status == 415:
        assert answer.json()["code"] == "unsupported_media_type"


async def test_a_missing_content_type_is_taken_as_json(client: httpx.AsyncClient) -> None:
    request = client.build_request("POST", "/posts", content=b'{"title":"a"}')
    assert "content-type" not in request.headers

    assert (await client.send(request)).status_code == 201


async def test_a_body_declared_too_long_is_413_without_being_handled(make_app: Callable[..., Http]) -> None:
    start, body, _ = await exchange(make_app(), headers={"content-length": "99999999999999999999999"}, chunks=[b"x"])

    assert (start["status"], body["code"]) == (413, "too_large")
    assert (b"Connection", b"close") in [(name.title(), value) for name, value in start["headers"]]


async def test_a_streamed_body_is_413_as_soon_as_it_is_too_long_and_is_read_on_only_for_a_while(
    make_app: Callable[..., Http],
) -> None:
    chunks = [b"x" * (1 << 20)] * 100
    start, body, taken = await exchange(make_app(), headers={"transfer-encoding": "chunked"}, chunks=chunks)

    assert (start["status"], body["code"]) == (413, "too_large")
    assert taken < 20


async def test_a_client_that_waits_for_permission_to_send_is_answered_at_once(make_app: Callable[..., Http]) -> None:
    headers = {"content-length": "9000", "expect": "100-continue"}
    start, _, taken = await exchange(make_app(), headers=headers, chunks=[b"x" * 9000])

    assert (start["status"], taken) == (413, 0)


async def test_bodies_that_never_end_leave_room_for_small_ones(
    make_app: Callable[..., Http], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(middleware, "MOST_BODY_BYTES", 10_000)
    monkeypatch.setattr(middleware, "SMALL_BODY_BYTES", 100)
    app = make_app()
    chunked = {"transfer-encoding": "chunked"}
    unfinished = asyncio.ensure_future(exchange(app, headers=chunked, chunks=[b'"' + b"x" * 5_999], hang=True))
    while not app.body_bytes:  # noqa: ASYNC110 - nothing tells of it
        await asyncio.sleep(0)

    start, body, _ = await exchange(app, headers=chunked, chunks=[b'{"title":"' + b"x" * 4_500 + b'"}'])
    assert (start["status"], body["code"]) == (503, "overloaded")
    assert (await exchange(app, headers=chunked, chunks=[b'{"title":"small"}']))[0]["status"] == 201
    unfinished.cancel()
    await asyncio.gather(unfinished, return_exceptions=True)
    assert (await exchange(app, headers=chunked, chunks=[b'{"title":"' + b"x" * 6_000 + b'"}']))[0]["status"] == 201
    assert app.body_bytes == 0


async def test_a_body_that_does_not_arrive_in_time_is_408(make_app: Callable[..., Http]) -> None:
    app = make_app(request_timeout_seconds=0.1)
    start, body, _ = await exchange(app, headers={"content-length": "100"}, chunks=[b'{"title"'], hang=True)

    assert (start["status"], body["code"]) == (408, "request_timeout")


@pytest.mark.parametrize(
    "error", [kind for kind in SnackBaseError.__subclasses__() if kind.__module__ == errors.__name__]
)
async def test_every_error_leaves_in_the_one_shape(
    client: httpx.AsyncClient, boom: Boom, error: type[SnackBaseError]
) -> None:
    detail = FieldError(field="title", message="Too long.", code="too_long")
    boom.error = error("What is wrong.", details=[detail])
    answer = await client.get("/boom")

    assert answer.status_code == error.status
    assert answer.json() == {
        "error": error.title,
        "message": "What is wrong.",
        "detail": "What is wrong.",
        "code": error.code,
        "details": [{"field": "title", "message": "Too long.", "code": "too_long"}],
    }


async def test_a_401_asks_for_a_bearer_token(client: httpx.AsyncClient, boom: Boom) -> None:
    boom.error = errors.Unauthorized("No.", code="token_expired")

    assert (await client.get("/boom")).headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("error", [errors.RateLimited, errors.Unavailable])
@pytest.mark.parametrize(("retry_after_s", "text"), [(None, "1"), (0.2, "1"), (17.4, "17")])
async def test_429_and_503_say_when_to_come_back(
    client: httpx.AsyncClient, boom: Boom, error: type[SnackBaseError], retry_after_s: float | None, text: str
) -> None:
    boom.error = error("Later.", retry_after_s=retry_after_s)

    assert (await client.get("/boom")).headers["retry-after"] == text


async def test_an_unknown_path_is_404_and_a_wrong_method_405_in_the_same_shape(client: httpx.AsyncClient) -> None:
    missing = await client.get("/nowhere")
    wrong = await client.delete("/posts")

    assert (missing.status_code, missing.json()["code"]) == (404, "route_not_found")
    assert (wrong.status_code, wrong.json()["code"]) == (405, "method_not_allowed")
    assert wrong.headers["allow"] == "GET, HEAD, POST"


async def test_a_bug_is_a_500_with_a_request_id_only_and_a_stack_trace_in_the_log(
    client: httpx.AsyncClient, boom: Boom
) -> None:
    boom.error = RuntimeError("secret detail of the inside")
    with capture_logs() as lines:
        answer = await client.get("/boom?token=abc")

    body = answer.json()
    assert (answer.status_code, body["code"]) == (500, "internal_error")
    assert body["request_id"] == answer.headers["x-request-id"]
    assert "secret" not in answer.text
    [failure] = [line for line in lines if line["event"] == "request_failed"]
    assert failure["exc_info"] is boom.error
    assert "abc" not in str(lines)


async def test_a_hook_that_refuses_is_answered_with_its_own_code(client: httpx.AsyncClient, boom: Boom) -> None:
    boom.error = HookAbort("Not on Sundays.", "closed_on_sundays", status=409)
    answer = await client.get("/boom")

    assert (answer.status_code, answer.json()["code"], answer.json()["message"]) == (
        409,
        "closed_on_sundays",
        "Not on Sundays.",
    )


async def test_an_error_after_the_head_is_logged_and_nothing_is_sent_after_it(make_app: Callable[..., Http]) -> None:
    sent: list[str] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request"}

    async def send(message: Any) -> None:
        sent.append(message["type"])

    scope = {"type": "http", "method": "GET", "path": "/breaks", "query_string": b"", "headers": [], "scheme": "http"}
    with capture_logs() as lines:
        await make_app()(scope, receive, send)

    assert [line["event"] for line in lines] == ["request_failed", "request"]
    assert sent == ["http.response.start"]


async def test_a_sane_request_id_is_kept_and_any_other_replaced(client: httpx.AsyncClient) -> None:
    async def given(request_id: str) -> str:
        return (await client.get("/posts", headers={"x-request-id": request_id})).headers["x-request-id"]

    assert await given("0123abcd-trace") == "0123abcd-trace"
    for bad in ("short", "a b c d e f g h", "x" * 200, '"quoted"-and-more', "<script>alert</script>"):
        assert await given(bad) != bad
    assert await given("short") != await given("short")


async def test_the_access_log_has_one_line_a_request_without_the_query_string(client: httpx.AsyncClient) -> None:
    with capture_logs() as lines:
        await client.get("/posts/7?token=abc")

    [line] = lines
    assert line.pop("duration_ms") >= 0
    assert line == {
        "event": "request",
        "log_level": "info",
        "method": "GET",
        "path": "/posts/7",
        "status": 200,
        "client": "127.0.0.1",
        "user_id": "u1",
    }


async def test_requests_are_counted_by_route_not_by_path(client: httpx.AsyncClient, counters: Counters) -> None:
    for path in ("/posts/1", "/posts/2", "/nowhere/1", "/nowhere/2"):
        await client.get(path)
    await client.request("BREW", "/posts/1")

    assert counters.requests == {
        ("GET", "/posts/{id}", "200"): 2,
        ("GET", "unmatched", "404"): 2,
        ("OTHER", "/posts/{id}", "405"): 1,
    }
    assert counters.errors == {"route_not_found": 2, "method_not_allowed": 1}
    assert sum(counters.request_seconds.counts) == 5


async def test_every_answer_carries_the_security_headers(client: httpx.AsyncClient) -> None:
    for answer in (await client.post("/posts", json={"title": "a"}), await client.get("/nowhere")):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"] == "no-store"
    assert (await client.get("/posts")).headers["cache-control"] == "max-age=5"


async def test_an_allowed_origin_is_echoed_exactly_and_never_as_a_star(client: httpx.AsyncClient) -> None:
    for answer in (
        await client.get("/posts", headers={"origin": PAGE}),
        await client.get("/nowhere", headers={"origin": PAGE}),
    ):
        assert answer.headers["access-control-allow-origin"] == PAGE
        assert answer.headers["access-control-allow-credentials"] == "true"
        exposed = "X-SnackBase-Position, Idempotency-Replayed, X-Request-ID, Retry-After"
        assert answer.headers["access-control-expose-headers"] == exposed
        assert "Origin" in answer.headers["vary"]


async def test_a_foreign_origin_gets_no_permission_to_read_the_answer(client: httpx.AsyncClient) -> None:
    answer = await client.get("/posts", headers={"origin": "https://evil.example"})

    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert "Origin" in answer.headers["vary"]


async def test_a_preflight_of_an_allowed_origin_is_answered_without_a_token(client: httpx.AsyncClient) -> None:
    headers = {"origin": PAGE, "access-control-request-method": "PATCH"}
    answer = await client.options("/posts/1", headers=headers)

    assert answer.status_code == 204
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert "PATCH" in answer.headers["access-control-allow-methods"]
    assert int(answer.headers["access-control-max-age"]) > 0
    allowed = set(answer.headers["access-control-allow-headers"].split(", "))
    assert allowed == {
        "authorization",
        "content-type",
        "idempotency-key",
        "last-event-id",
        "x-account-id",
        "x-api-key",
        "x-request-id",
    }


async def test_a_preflight_of_a_foreign_origin_is_403(client: httpx.AsyncClient) -> None:
    headers = {"origin": "https://evil.example", "access-control-request-method": "POST"}
    answer = await client.options("/posts", headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (403, "origin_refused")
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("denial", [True, False])
async def test_a_websocket_to_an_unknown_path_is_denied_with_404(make_app: Callable[..., Http], denial: bool) -> None:
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    extensions: dict[str, Any] = {"websocket.http.response": {}} if denial else {}
    await make_app()({"type": "websocket", "path": "/ws", "headers": [], "extensions": extensions}, receive, send)

    if denial:
        assert (sent[0]["status"], json.loads(sent[1]["body"])["code"]) == (404, "route_not_found")
    else:
        assert [message["type"] for message in sent] == ["websocket.close"]
