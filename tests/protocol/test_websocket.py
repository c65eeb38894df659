"""The WebSocket endpoint of a real server: tokens, subprotocols, origins, refusals (contract §3, §5)."""

import json
from collections.abc import Awaitable, Callable, Iterator

import pytest

from tests.protocol.raw import CLOSE, TEXT, Raw, client_frame, handshake
from tests.protocol.realtime import SSE, WS, get, message_of, ping, refused, register
from tests.support.server import ServerProcess

MakeServer = Callable[..., Awaitable[ServerProcess]]


@pytest.fixture
def client(server: ServerProcess) -> Iterator[Raw]:
    with Raw(server.port) as raw:
        yield raw


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
    assert ping(client)["type"] == "pong"


def test_the_token_beside_our_version_is_never_reflected_whatever_the_order(client: Raw, token: str) -> None:
    client.send(handshake(WS, sec_websocket_protocol=f"{token}, snackbase.v1"))

    assert token.encode() not in client.read_until(b"\r\n\r\n")


def test_the_same_token_in_two_places_is_one_token(client: Raw, token: str) -> None:
    client.upgrade(f"{WS}?token={token}", authorization=f"Bearer {token}", sec_websocket_protocol=token)

    assert ping(client)["type"] == "pong"


@pytest.mark.parametrize(
    "headers",
    [{"authorization": "Bearer another"}, {"x_api_key": "another"}, {"sec_websocket_protocol": "another"}],
    ids=lambda headers: next(iter(headers)),
)
def test_two_different_tokens_are_a_400(client: Raw, token: str, headers: dict[str, str]) -> None:
    assert refused(client, f"{WS}?token={token}", **headers)[:2] == (400, "token_conflict")


def test_two_tokens_among_the_subprotocols_are_a_400(client: Raw, token: str) -> None:
    assert refused(client, sec_websocket_protocol=f"{token}, another")[:2] == (400, "token_conflict")


def test_the_version_alone_is_accepted_and_the_token_comes_in_the_first_message(client: Raw, token: str) -> None:
    assert client.upgrade(WS, sec_websocket_protocol="snackbase.v1")["sec-websocket-protocol"] == "snackbase.v1"
    client.send(client_frame(TEXT, json.dumps({"action": "auth", "token": token}).encode()))
    answer = message_of(client)

    assert (answer["type"], answer["status"]) == ("auth", "ok")
    assert ping(client) | {"timestamp": ""} == {"type": "pong", "id": "p", "action": "ping", "timestamp": ""}


async def test_who_sends_no_token_in_time_is_closed_with_4507(make_server: MakeServer) -> None:
    server = await make_server(settings={"REALTIME_AUTH_SECONDS": 0.2})
    with Raw(server.port) as client:
        client.upgrade(WS, sec_websocket_protocol="snackbase.v1")

        assert message_of(client)["code"] == "auth_timeout"
        assert client.frame().close_code == 4507


# WebSocket: refusals -------------------------------------------------------------------------------------------------


def test_no_token_is_a_401_that_names_the_scheme(client: Raw) -> None:
    status, code, headers = refused(client)

    assert (status, code) == (401, "token_missing")
    assert headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("bad", ["nonsense", "a.b.c", "eyJhbGciOiJub25lIn0.e30."])
def test_a_bad_token_is_a_401(client: Raw, bad: str) -> None:
    assert refused(client, f"{WS}?token={bad}")[:2] == (401, "token_invalid")


def test_a_refresh_token_is_not_an_access_token(client: Raw, refresh_token: str) -> None:
    assert refused(client, f"{WS}?token={refresh_token}")[:2] == (401, "token_invalid")


async def test_a_client_that_offers_our_version_is_accepted_told_and_closed(make_server: MakeServer) -> None:
    server = await make_server()  # of its own: clients of an address that comes back after such an end are slowed
    with Raw(server.port) as client:
        client.upgrade(WS, sec_websocket_protocol="snackbase.v1, nonsense")
        told = message_of(client)

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
    assert message_of(client)["code"] == "unsupported_version"
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
    assert refused(client, sec_websocket_protocol=offered)[0] == status
    with Raw(server.port) as another:
        another.upgrade(f"{WS}?token={token}")


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "https://localhost.evil.example", "file://"])
def test_a_foreign_origin_is_a_403_even_for_who_offers_our_version(client: Raw, token: str, origin: str) -> None:
    found = refused(client, origin=origin, sec_websocket_protocol=f"snackbase.v1, {token}")

    assert found[:2] == (403, "origin_refused")


def test_an_allowed_origin_may_connect(client: Raw, token: str) -> None:
    client.upgrade(f"{WS}?token={token}", origin="http://localhost:5173")


def test_another_account_is_a_403_for_who_is_no_superadmin(client: Raw, token: str) -> None:
    assert refused(client, f"{WS}?token={token}&account=system")[0] == 403


async def test_too_many_connections_of_a_user_are_a_429_that_says_when(make_server: MakeServer) -> None:
    server = await make_server(settings={"REALTIME_MAX_CONNECTIONS_PER_USER": 1})
    token = register(server, "many@example.com", "Many")["token"]
    with Raw(server.port) as first, Raw(server.port) as second, Raw(server.port) as third:
        first.upgrade(f"{WS}?token={token}")
        status, code, headers = refused(second, f"{WS}?token={token}")
        assert (status, code) == (429, "connection_limit")
        assert int(headers["retry-after"]) >= 1

        third.upgrade(WS, sec_websocket_protocol=f"snackbase.v1, {token}")
        assert message_of(third)["code"] == "connection_limit"
        assert third.frame().close_code == 4505


def test_a_plain_get_is_told_to_upgrade(client: Raw) -> None:
    client.send(f"GET {WS} HTTP/1.1\r\nhost: a\r\n\r\n".encode())
    status, headers, body = client.response()

    assert (status, headers["sec-websocket-version"]) == (426, "13")
    assert json.loads(body)["code"] == "upgrade_required"


def test_a_token_of_a_refused_handshake_is_not_logged(client: Raw, server: ServerProcess) -> None:
    secret = "eyJhbGciOiJIUzI1NiJ9.do-not-log-this.signature"
    assert refused(client, f"{WS}?token={secret}", authorization=f"Bearer {secret}")[0] == 401

    assert "do-not-log-this" not in server.output
    assert "websocket_refused" in server.output


async def test_realtime_switched_off_is_a_404_on_both_endpoints(make_server: MakeServer) -> None:
    server = await make_server(settings={"REALTIME_ENABLED": False})
    for request in (handshake(WS), handshake(WS, sec_websocket_protocol="snackbase.v1"), get(WS), get(SSE)):
        with Raw(server.port) as client:
            client.send(request)
            assert client.response()[0] == 404
