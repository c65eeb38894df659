"""The event stream endpoint of a real server: parameters, headers, refusals, ends (contract §4, §5)."""

import json
from collections.abc import Awaitable, Callable, Iterator
from urllib.parse import quote

import pytest

from tests.protocol.raw import Raw
from tests.protocol.realtime import SSE, WS, Stream, get, message_of, register, stream_path
from tests.support.server import ServerProcess

MakeServer = Callable[..., Awaitable[ServerProcess]]


@pytest.fixture
def client(server: ServerProcess) -> Iterator[Raw]:
    with Raw(server.port) as raw:
        yield raw


def test_a_stream_without_subscriptions_begins_with_a_heartbeat(client: Raw, token: str) -> None:
    stream = Stream(client, stream_path(token))

    assert stream.head.startswith("http/1.1 200 ")
    assert "\r\ncontent-type: text/event-stream\r\n" in stream.head
    assert "\r\ncache-control: no-store, no-transform\r\n" in stream.head
    assert "\r\nx-accel-buffering: no\r\n" in stream.head
    retry, position, data = stream.block()
    assert 1000 <= int(retry.removeprefix("retry: ")) <= 5100
    heartbeat = json.loads(data.removeprefix("data: "))
    assert heartbeat["type"] == heartbeat["event"] == "heartbeat"
    assert position == f"id: {heartbeat['position']}"


@pytest.mark.parametrize("place", ["query", "authorization", "x_api_key"])
def test_a_stream_takes_its_token_from_any_one_place(client: Raw, token: str, place: str) -> None:
    headers = {"authorization": {"authorization": f"Bearer {token}"}, "x_api_key": {"x_api_key": token}}
    stream = Stream(client, f"{SSE}?token={token}" if place == "query" else SSE, **headers.get(place, {}))

    assert stream.message()["type"] == "heartbeat"


@pytest.mark.parametrize(
    "parameter",
    [
        ("collection", "*"),
        ("collections", "*"),
        ("collection", "*:create,update"),
        ("subscription", '{"collection":"*"}'),
    ],
    ids=["collection", "collections", "with operations", "as an object"],
)
def test_a_subscription_may_be_spelled_in_every_way(client: Raw, token: str, parameter: tuple[str, str]) -> None:
    subscribed = Stream(client, stream_path(token, parameter)).message()

    assert (subscribed["type"], subscribed["collection"]) == ("subscribed", "*")
    assert subscribed["operations"] == (
        ["create", "update"] if ":create" in parameter[1] else ["create", "update", "delete"]
    )


def test_what_a_library_adds_to_the_url_is_none_of_our_business(client: Raw, token: str) -> None:
    assert (
        Stream(client, stream_path(token, ("lastEventId", "x"), ("_", "1700000000"))).message()["type"] == "heartbeat"
    )


def test_what_is_acknowledged_carries_no_id_line(client: Raw, token: str) -> None:
    assert not any(line.startswith("id:") for line in Stream(client, stream_path(token, ("collection", "*"))).block())


REFUSED_STREAMS: dict[str, tuple[list[tuple[str, str]], int, str]] = {
    "an unknown collection": ([("collection", "nowhere")], 404, "collection_not_found"),
    "no name at all": ([("collection", "../x")], 404, "collection_not_found"),
    "an operation that is none": ([("collection", "*:creat")], 400, "invalid_operations"),
    "no operation": ([("collection", "*:")], 400, "invalid_operations"),
    "both spellings": ([("collection", "*"), ("subscription", '{"collection":"*"}')], 400, "invalid_message"),
    "an object that is no JSON": ([("subscription", "{")], 400, "invalid_json"),
    "a filter beside a collection": ([("collection", "*"), ("filter", "id = 'x'")], 400, "invalid_message"),
    "a slip": ([("collectoin", "posts")], 400, "invalid_message"),
    "an object with an unknown key": ([("subscription", '{"collection":"*","op":[]}')], 400, "invalid_message"),
    "an object nested too deep": ([("subscription", '{"collection":' + "[" * 9000)], 400, "invalid_message"),
    "since with snapshot": (
        [("subscription", '{"collection":"posts","snapshot":true}'), ("since", "x")],
        400,
        "invalid_message",
    ),
    "101 subscriptions": ([("collection", f"posts{number}") for number in range(101)], 400, "subscription_limit"),
    "another account": ([("account", "system")], 403, "forbidden"),
}


@pytest.mark.parametrize(("parameters", "status", "code"), REFUSED_STREAMS.values(), ids=REFUSED_STREAMS.keys())
def test_a_stream_that_can_never_work_is_refused(
    client: Raw, token: str, parameters: list[tuple[str, str]], status: int, code: str
) -> None:
    client.send(get(stream_path(token, *parameters)))
    found, _, body = client.response()

    assert (found, json.loads(body)["code"]) == (status, code)


@pytest.mark.parametrize(("query", "code"), [("", "token_missing"), ("?token=nonsense", "token_invalid")])
def test_a_stream_without_a_good_token_is_a_401(client: Raw, query: str, code: str) -> None:
    client.send(get(SSE + query))
    status, headers, body = client.response()

    assert (status, json.loads(body)["code"]) == (401, code)
    assert headers["www-authenticate"] == "Bearer"


def test_a_resuming_stream_whose_collection_is_gone_is_told_so_in_the_stream(client: Raw, token: str) -> None:
    stream = Stream(client, stream_path(token, ("collection", "nowhere")), last_event_id="abc.1.deadbeef.1")
    told = stream.message()

    assert (told["type"], told["collection"], told["reason"]) == ("unsubscribed", "nowhere", "collection_deleted")


def test_the_last_event_id_wins_over_since(client: Raw, token: str) -> None:
    position = Stream(client, stream_path(token)).message()["position"]
    with Raw(client.socket.getpeername()[1]) as again:
        stream = Stream(again, stream_path(token, ("collection", "*"), ("since", "unreadable")), last_event_id=position)

        assert [stream.message()["type"], stream.message()["type"]] == ["subscribed", "caught_up"]


def test_an_unreadable_last_event_id_is_a_resync_and_not_an_error(client: Raw, token: str) -> None:
    stream = Stream(client, stream_path(token, ("collection", "*")), last_event_id=quote("was weiß ich"))
    stream.message()

    assert (stream.message() | {"data": None})["reason"] == "unknown"


def test_a_stream_for_http_1_0_is_closed_and_not_chunked(client: Raw, token: str) -> None:
    client.send(get(stream_path(token), version="1.0"))
    head = client.read_until(b"\r\n\r\n").lower()

    assert b"transfer-encoding" not in head
    assert b"connection: close" in head
    assert client.read_until(b"\n").startswith(b"retry: ")


def test_head_tells_the_headers_and_opens_nothing(client: Raw, token: str) -> None:
    client.send(get(stream_path(token), method="HEAD") + get("/live"))
    head = client.read_until(b"\r\n\r\n").lower()

    assert b"200" in head.split(b"\r\n")[0]
    assert b"content-type: text/event-stream" in head
    assert client.response()[0] == 200


def test_other_methods_on_the_stream_are_a_405(client: Raw, token: str) -> None:
    client.send(get(stream_path(token), method="POST", content_length="0"))
    status, headers, _ = client.response()

    assert status == 405
    assert "GET" in headers["allow"]


def test_a_preflight_allows_what_a_reconnecting_stream_sends(client: Raw) -> None:
    wanted = {"access_control_request_method": "GET", "access_control_request_headers": "last-event-id"}
    client.send(get(SSE, method="OPTIONS", origin="http://localhost:5173", **wanted))
    status, headers, _ = client.response()

    assert status == 204
    assert {"authorization", "last-event-id", "x-api-key"} <= set(headers["access-control-allow-headers"].split(", "))


def test_a_stream_of_an_allowed_origin_may_be_read_by_it(client: Raw, token: str) -> None:
    stream = Stream(client, stream_path(token), origin="http://localhost:5173")

    assert "\r\naccess-control-allow-origin: http://localhost:5173\r\n" in stream.head
    assert "\r\nvary: origin\r\n" in stream.head


async def test_a_full_server_ends_a_stream_with_200_so_that_browsers_come_back(make_server: MakeServer) -> None:
    server = await make_server(settings={"REALTIME_MAX_CONNECTIONS": 1})
    token = register(server, "full@example.com", "Full")["token"]
    with Raw(server.port) as first, Raw(server.port) as second:
        first.upgrade(f"{WS}?token={token}")
        for version in ("1.1", "1.0"):
            with Raw(server.port) as client:
                client.send(get(stream_path(token), version=version))
                status, _, body = client.response()
                retry, data = body.decode().strip().split("\n")
                told = json.loads(data.removeprefix("data: "))
                assert (status, told["type"], told["code"], told["retry"]) == (200, "closing", "overloaded", True)
                assert int(retry.removeprefix("retry: ")) >= told["retry_after_ms"]
        second.upgrade(WS, sec_websocket_protocol=f"snackbase.v1, {token}")
        assert message_of(second)["close_code"] == 1013
        assert second.frame().close_code == 1013


async def test_sigterm_tells_every_realtime_client_and_exits_with_0(make_server: MakeServer) -> None:
    server = await make_server()
    token = register(server, "drain@example.com", "Drain")["token"]
    with Raw(server.port) as socket, Raw(server.port) as raw:
        socket.upgrade(f"{WS}?token={token}")
        stream = Stream(raw, stream_path(token))
        assert stream.message()["type"] == "heartbeat"

        assert await server.stop() == 0
        closing = message_of(socket)
        assert (closing["type"], closing["code"], closing["close_code"]) == ("closing", "restarting", 1012)
        assert socket.frame().close_code == 1012
        assert stream.message()["code"] == "restarting"
        assert raw.read_all() == b"0\r\n\r\n"
    assert "Traceback" not in server.output
