"""The realtime endpoints of a real server: tokens, subprotocols, origins, refusals, parameters (contract §3 to §5)."""

import json
from collections.abc import Awaitable, Callable, Iterator
from http.client import HTTPConnection
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from tests.protocol.raw import CLOSE, TEXT, Raw, client_frame, handshake
from tests.support.server import ServerProcess

WS = "/api/v1/realtime/ws"
SSE = "/api/v1/realtime/subscribe"
MakeServer = Callable[..., Awaitable[ServerProcess]]


@pytest.fixture(scope="module")
def token(session_server: ServerProcess) -> str:
    """An access token of an account's first user: of its own account, and no superadmin."""
    return _register(session_server, "endpoints@example.com", "Endpoints")["token"]


@pytest.fixture(scope="module")
def refresh_token(session_server: ServerProcess) -> str:
    return _register(session_server, "refreshing@example.com", "Refreshing")["refresh_token"]


@pytest.fixture
def client(server: ServerProcess) -> Iterator[Raw]:
    with Raw(server.port) as raw:
        yield raw


def _register(server: ServerProcess, email: str, account: str) -> dict[str, str]:
    connection = HTTPConnection("127.0.0.1", server.port)
    body = json.dumps({"email": email, "password": "correct horse battery", "account_name": account})
    connection.request("POST", "/api/v1/auth/register", body, {"content-type": "application/json"})
    response = connection.getresponse()
    answer: dict[str, str] = json.loads(response.read())
    connection.close()
    assert response.status == 201, answer
    return answer


def _ping(client: Raw) -> dict[str, Any]:
    client.send(client_frame(TEXT, b'{"action":"ping","id":"p"}'))
    return _message(client)


def _message(client: Raw) -> dict[str, Any]:
    frame = client.frame()
    assert frame.opcode == TEXT, frame
    message: dict[str, Any] = json.loads(frame.payload)
    return message


def _refused(client: Raw, path: str = WS, **headers: str) -> tuple[int, str, dict[str, str]]:
    client.send(handshake(path, **headers))
    status, found, body = client.response()
    return status, json.loads(body)["code"], found


# WebSocket: where a token may stand ----------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["query", "authorization", "x_api_key", "subprotocol", "subprotocols"])
def test_a_token_is_taken_from_any_of_its_places(client: Raw, token: str, place: str) -> None:
    given = {
        "authorization": {"authorization": f"Bearer {token}"},
        "x_api_key": {"x_api_key": token},
        "subprotocol": {"sec_websocket_protocol": token},
        "subprotocols": {"sec_websocket_protocol": f"snackbase.v1, {token}"},
    }
    answered = client.upgrade(f"{WS}?token={token}" if place == "query" else WS, **given.get(place, {}))

    selected = {"subprotocol": token, "subprotocols": "snackbase.v1"}.get(place)
    assert answered.get("sec-websocket-protocol") == selected
    assert _ping(client)["type"] == "pong"


def test_the_token_beside_our_version_is_never_reflected_whatever_the_order(client: Raw, token: str) -> None:
    client.send(handshake(WS, sec_websocket_protocol=f"{token}, snackbase.v1"))

    assert token.encode() not in client.read_until(b"\r\n\r\n")


def test_the_same_token_in_two_places_is_one_token(client: Raw, token: str) -> None:
    client.upgrade(f"{WS}?token={token}", authorization=f"Bearer {token}", sec_websocket_protocol=token)

    assert _ping(client)["type"] == "pong"


@pytest.mark.parametrize(
    "headers",
    [{"authorization": "Bearer another"}, {"x_api_key": "another"}, {"sec_websocket_protocol": "another"}],
    ids=lambda headers: next(iter(headers)),
)
def test_two_different_tokens_are_a_400(client: Raw, token: str, headers: dict[str, str]) -> None:
    assert _refused(client, f"{WS}?token={token}", **headers)[:2] == (400, "token_conflict")


def test_two_tokens_among_the_subprotocols_are_a_400(client: Raw, token: str) -> None:
    assert _refused(client, sec_websocket_protocol=f"{token}, another")[:2] == (400, "token_conflict")


def test_the_version_alone_is_accepted_and_the_token_comes_in_the_first_message(client: Raw, token: str) -> None:
    assert client.upgrade(WS, sec_websocket_protocol="snackbase.v1")["sec-websocket-protocol"] == "snackbase.v1"
    client.send(client_frame(TEXT, json.dumps({"action": "auth", "token": token}).encode()))
    answer = _message(client)

    assert (answer["type"], answer["status"]) == ("auth", "ok")
    assert _ping(client) | {"timestamp": ""} == {"type": "pong", "id": "p", "timestamp": ""}


async def test_who_sends_no_token_in_time_is_closed_with_4507(make_server: MakeServer) -> None:
    server = await make_server(settings={"REALTIME_AUTH_SECONDS": 0.2})
    with Raw(server.port) as client:
        client.upgrade(WS, sec_websocket_protocol="snackbase.v1")

        assert _message(client)["code"] == "auth_timeout"
        assert client.frame().close_code == 4507


# WebSocket: refusals -------------------------------------------------------------------------------------------------


def test_no_token_is_a_401_that_names_the_scheme(client: Raw) -> None:
    status, code, headers = _refused(client)

    assert (status, code) == (401, "token_missing")
    assert headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("bad", ["nonsense", "a.b.c", "eyJhbGciOiJub25lIn0.e30."])
def test_a_bad_token_is_a_401(client: Raw, bad: str) -> None:
    assert _refused(client, f"{WS}?token={bad}")[:2] == (401, "token_invalid")


def test_a_refresh_token_is_not_an_access_token(client: Raw, refresh_token: str) -> None:
    assert _refused(client, f"{WS}?token={refresh_token}")[:2] == (401, "token_invalid")


async def test_a_client_that_offers_our_version_is_accepted_told_and_closed(make_server: MakeServer) -> None:
    server = await make_server()  # of its own: clients of an address that comes back after such an end are slowed
    with Raw(server.port) as client:
        client.upgrade(WS, sec_websocket_protocol="snackbase.v1, nonsense")
        told = _message(client)

        assert (told["type"], told["code"], told["close_code"], told["retry"]) == (
            "error",
            "token_invalid",
            4501,
            False,
        )
        assert client.frame() == (CLOSE, (4501).to_bytes(2, "big") + b"token_invalid")


def test_a_version_that_is_not_spoken_is_accepted_told_and_closed_with_4506(client: Raw, token: str) -> None:
    answered = client.upgrade(WS, sec_websocket_protocol=f"snackbase.v9, {token}")

    assert answered["sec-websocket-protocol"] == "snackbase.v9"
    assert _message(client)["code"] == "unsupported_version"
    assert client.frame().close_code == 4506


def test_a_client_that_also_offers_our_version_gets_it(client: Raw, token: str) -> None:
    answered = client.upgrade(WS, sec_websocket_protocol=f"snackbase.v9, snackbase.v1, {token}")

    assert answered["sec-websocket-protocol"] == "snackbase.v1"


@pytest.mark.parametrize(
    ("offered", "status"),
    [
        ("t\xf6ken", 400),
        ("\xff\xfe", 400),
        ("a" * 9000, 431),
        ("a" * 32_768, 431),
        (",".join(map(str, range(1000))), 400),
    ],
    ids=["umlaut", "no UTF-8", "9 KB", "32 KB", "1000 items"],
)
def test_odd_subprotocols_are_refused_and_the_server_lives(
    client: Raw, server: ServerProcess, token: str, offered: str, status: int
) -> None:
    assert _refused(client, sec_websocket_protocol=offered)[0] == status
    with Raw(server.port) as another:
        another.upgrade(f"{WS}?token={token}")


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "https://localhost.evil.example", "file://"])
def test_a_foreign_origin_is_a_403_even_for_who_offers_our_version(client: Raw, token: str, origin: str) -> None:
    found = _refused(client, origin=origin, sec_websocket_protocol=f"snackbase.v1, {token}")

    assert found[:2] == (403, "origin_refused")


def test_an_allowed_origin_may_connect(client: Raw, token: str) -> None:
    client.upgrade(f"{WS}?token={token}", origin="http://localhost:5173")


def test_another_account_is_a_403_for_who_is_no_superadmin(client: Raw, token: str) -> None:
    assert _refused(client, f"{WS}?token={token}&account=system")[0] == 403


async def test_too_many_connections_of_a_user_are_a_429_that_says_when(make_server: MakeServer) -> None:
    server = await make_server(settings={"REALTIME_MAX_CONNECTIONS_PER_USER": 1})
    token = _register(server, "many@example.com", "Many")["token"]
    with Raw(server.port) as first, Raw(server.port) as second, Raw(server.port) as third:
        first.upgrade(f"{WS}?token={token}")
        status, code, headers = _refused(second, f"{WS}?token={token}")
        assert (status, code) == (429, "connection_limit")
        assert int(headers["retry-after"]) >= 1

        third.upgrade(WS, sec_websocket_protocol=f"snackbase.v1, {token}")
        assert _message(third)["code"] == "connection_limit"
        assert third.frame().close_code == 4505


def test_a_plain_get_is_told_to_upgrade(client: Raw) -> None:
    client.send(f"GET {WS} HTTP/1.1\r\nhost: a\r\n\r\n".encode())
    status, headers, body = client.response()

    assert (status, headers["sec-websocket-version"]) == (426, "13")
    assert json.loads(body)["code"] == "upgrade_required"


def test_a_token_of_a_refused_handshake_is_not_logged(client: Raw, server: ServerProcess) -> None:
    secret = "eyJhbGciOiJIUzI1NiJ9.do-not-log-this.signature"
    assert _refused(client, f"{WS}?token={secret}", authorization=f"Bearer {secret}")[0] == 401

    assert "do-not-log-this" not in server.output
    assert "websocket_refused" in server.output


async def test_realtime_switched_off_is_a_404_on_both_endpoints(make_server: MakeServer) -> None:
    server = await make_server(settings={"REALTIME_ENABLED": False})
    for request in (handshake(WS), handshake(WS, sec_websocket_protocol="snackbase.v1"), _get(WS), _get(SSE)):
        with Raw(server.port) as client:
            client.send(request)
            assert client.response()[0] == 404


# Server-Sent Events --------------------------------------------------------------------------------------------------


def _get(path: str, *, version: str = "1.1", method: str = "GET", **headers: str) -> bytes:
    lines = [f"{method} {path} HTTP/{version}", "host: testserver"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


class Stream:
    """The blocks of a chunked event stream."""

    def __init__(self, client: Raw, path: str, **headers: str) -> None:
        self.client = client
        client.send(_get(path, **headers))
        self.head = client.read_until(b"\r\n\r\n").decode().lower()
        self._body = b""

    def block(self) -> list[str]:
        """The lines of the next block."""
        while b"\n\n" not in self._body:
            size = int(self.client.read_until(b"\r\n"), 16)
            assert size, "the stream is over"
            self._body += self.client.read(size)
            self.client.read(2)
        text, _, self._body = self._body.partition(b"\n\n")
        return text.decode().split("\n")

    def message(self) -> dict[str, Any]:
        (data,) = [line.removeprefix("data: ") for line in self.block() if line.startswith("data: ")]
        message: dict[str, Any] = json.loads(data)
        return message


def _path(token: str, *parameters: tuple[str, str]) -> str:
    return f"{SSE}?{urlencode([('token', token), *parameters])}"


def test_a_stream_without_subscriptions_begins_with_a_heartbeat(client: Raw, token: str) -> None:
    stream = Stream(client, _path(token))

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
    subscribed = Stream(client, _path(token, parameter)).message()

    assert (subscribed["type"], subscribed["collection"]) == ("subscribed", "*")
    assert subscribed["operations"] == (
        ["create", "update"] if ":create" in parameter[1] else ["create", "update", "delete"]
    )


def test_what_is_acknowledged_carries_no_id_line(client: Raw, token: str) -> None:
    assert not any(line.startswith("id:") for line in Stream(client, _path(token, ("collection", "*"))).block())


REFUSED_STREAMS: dict[str, tuple[list[tuple[str, str]], int, str]] = {
    "an unknown collection": ([("collection", "nowhere")], 404, "collection_not_found"),
    "no name at all": ([("collection", "../x")], 404, "collection_not_found"),
    "an operation that is none": ([("collection", "*:creat")], 400, "invalid_operations"),
    "no operation": ([("collection", "*:")], 400, "invalid_operations"),
    "both spellings": ([("collection", "*"), ("subscription", '{"collection":"*"}')], 400, "invalid_message"),
    "an object that is no JSON": ([("subscription", "{")], 400, "invalid_json"),
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
    client.send(_get(_path(token, *parameters)))
    found, _, body = client.response()

    assert (found, json.loads(body)["code"]) == (status, code)


@pytest.mark.parametrize(("query", "code"), [("", "token_missing"), ("?token=nonsense", "token_invalid")])
def test_a_stream_without_a_good_token_is_a_401(client: Raw, query: str, code: str) -> None:
    client.send(_get(SSE + query))
    status, headers, body = client.response()

    assert (status, json.loads(body)["code"]) == (401, code)
    assert headers["www-authenticate"] == "Bearer"


def test_a_resuming_stream_whose_collection_is_gone_is_told_so_in_the_stream(client: Raw, token: str) -> None:
    stream = Stream(client, _path(token, ("collection", "nowhere")), last_event_id="abc.1.deadbeef.1")
    told = stream.message()

    assert (told["type"], told["collection"], told["reason"]) == ("unsubscribed", "nowhere", "collection_deleted")


def test_the_last_event_id_wins_over_since(client: Raw, token: str) -> None:
    position = Stream(client, _path(token)).message()["position"]
    with Raw(client.socket.getpeername()[1]) as again:
        stream = Stream(again, _path(token, ("collection", "*"), ("since", "unreadable")), last_event_id=position)

        assert [stream.message()["type"], stream.message()["type"]] == ["subscribed", "caught_up"]


def test_an_unreadable_last_event_id_is_a_resync_and_not_an_error(client: Raw, token: str) -> None:
    stream = Stream(client, _path(token, ("collection", "*")), last_event_id=quote("was weiß ich"))
    stream.message()

    assert (stream.message() | {"data": None})["reason"] == "unknown"


def test_a_stream_for_http_1_0_is_closed_and_not_chunked(client: Raw, token: str) -> None:
    client.send(_get(_path(token), version="1.0"))
    head = client.read_until(b"\r\n\r\n").lower()

    assert b"transfer-encoding" not in head
    assert b"connection: close" in head
    assert client.read_until(b"\n").startswith(b"retry: ")


def test_head_tells_the_headers_and_opens_nothing(client: Raw, token: str) -> None:
    client.send(_get(_path(token), method="HEAD") + _get("/live"))
    head = client.read_until(b"\r\n\r\n").lower()

    assert b"200" in head.split(b"\r\n")[0]
    assert b"content-type: text/event-stream" in head
    assert client.response()[0] == 200


def test_other_methods_on_the_stream_are_a_405(client: Raw, token: str) -> None:
    client.send(_get(_path(token), method="POST", content_length="0"))
    status, headers, _ = client.response()

    assert status == 405
    assert "GET" in headers["allow"]


def test_a_preflight_allows_what_a_reconnecting_stream_sends(client: Raw) -> None:
    wanted = {"access_control_request_method": "GET", "access_control_request_headers": "last-event-id"}
    client.send(_get(SSE, method="OPTIONS", origin="http://localhost:5173", **wanted))
    status, headers, _ = client.response()

    assert status == 204
    assert {"authorization", "last-event-id", "x-api-key"} <= set(headers["access-control-allow-headers"].split(", "))


def test_a_stream_of_an_allowed_origin_may_be_read_by_it(client: Raw, token: str) -> None:
    stream = Stream(client, _path(token), origin="http://localhost:5173")

    assert "\r\naccess-control-allow-origin: http://localhost:5173\r\n" in stream.head
    assert "\r\nvary: origin\r\n" in stream.head


async def test_a_full_server_ends_a_stream_with_200_so_that_browsers_come_back(make_server: MakeServer) -> None:
    server = await make_server(settings={"REALTIME_MAX_CONNECTIONS": 1})
    token = _register(server, "full@example.com", "Full")["token"]
    with Raw(server.port) as first, Raw(server.port) as second:
        first.upgrade(f"{WS}?token={token}")
        for version in ("1.1", "1.0"):
            with Raw(server.port) as client:
                client.send(_get(_path(token), version=version))
                status, _, body = client.response()
                retry, data = body.decode().strip().split("\n")
                told = json.loads(data.removeprefix("data: "))
                assert (status, told["type"], told["code"], told["retry"]) == (200, "closing", "overloaded", True)
                assert int(retry.removeprefix("retry: ")) >= told["retry_after_ms"]
        second.upgrade(WS, sec_websocket_protocol=f"snackbase.v1, {token}")
        assert _message(second)["close_code"] == 1013
        assert second.frame().close_code == 1013


async def test_sigterm_tells_every_realtime_client_and_exits_with_0(make_server: MakeServer) -> None:
    server = await make_server()
    token = _register(server, "drain@example.com", "Drain")["token"]
    with Raw(server.port) as socket, Raw(server.port) as raw:
        socket.upgrade(f"{WS}?token={token}")
        stream = Stream(raw, _path(token))
        assert stream.message()["type"] == "heartbeat"

        assert await server.stop() == 0
        closing = _message(socket)
        assert (closing["type"], closing["code"], closing["close_code"]) == ("closing", "restarting", 1012)
        assert socket.frame().close_code == 1012
        assert stream.message()["code"] == "restarting"
        assert raw.read_all() == b"0\r\n\r\n"
    assert "Traceback" not in server.output
