"""Tokens of every kind in every place, and pages of every origin, at the doors of both transports (contract §3, §8)."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from tests.e2e.conftest import MakeHouse
from tests.e2e.support import TRANSPORTS, House, Member, Messages, Refusal, remember

both = pytest.mark.parametrize("transport", TRANSPORTS)
PLACES = ["query", "authorization", "x-api-key"]


def segment(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def claims_of(token: str) -> dict[str, Any]:
    payload = token.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return claims


def signed(claims: dict[str, Any], secret: bytes, *, alg: str = "HS256", **header: Any) -> str:
    """A token as somebody who knows or guesses a secret would make it."""
    parts = [json.dumps({"alg": alg, "typ": "JWT", **header}), json.dumps(claims)]
    text = ".".join(segment(part.encode()) for part in parts)
    digest = {"HS256": hashlib.sha256, "HS384": hashlib.sha384, "HS512": hashlib.sha512}.get(alg)
    signature = hmac.new(secret, text.encode(), digest).digest() if digest else b""
    return remember(f"{text}.{segment(signature)}")


def in_place(place: str, token: str) -> dict[str, Any]:
    """The arguments of `House.socket` or `House.stream` that present a token."""
    given: dict[str, dict[str, Any]] = {
        "query": {"query": {"token": token}},
        "authorization": {"headers": {"authorization": f"Bearer {token}"}},
        "x-api-key": {"headers": {"x-api-key": token}},
        "subprotocol": {"subprotocols": [token]},
        "subprotocols": {"subprotocols": ["snackbase.v1", token]},
    }
    return given[place]


async def admitted(house: House, transport: str, given: dict[str, Any]) -> Messages:
    if transport == "websocket":
        return await house.socket(None, **given)
    return await house.stream(None, *given.get("query", {}).items(), headers=given.get("headers"))


async def turned_away(house: House, transport: str, given: dict[str, Any]) -> Refusal:
    if transport == "websocket":
        return await house.refused_socket(None, **given)
    return await house.refused_stream(None, *given.get("query", {}).items(), headers=given.get("headers"))


# Places --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [*PLACES, "subprotocol", "subprotocols"])
async def test_a_token_opens_a_websocket_from_any_one_place(house: House, place: str) -> None:
    token = (await house.founder()).token
    socket = await house.socket(None, **in_place(place, token))

    assert (await socket.ask("ping"))["type"] == "pong"
    selected = {"subprotocol": token, "subprotocols": "snackbase.v1"}.get(place)
    assert socket.connection.subprotocol == selected


@pytest.mark.parametrize("place", PLACES)
async def test_a_token_opens_a_stream_from_any_one_place(house: House, place: str) -> None:
    stream = await admitted(house, "sse", in_place(place, (await house.founder()).token))

    assert (await stream.next(beats=True))["type"] == "heartbeat"


@both
async def test_two_different_tokens_are_a_400_and_the_same_one_twice_is_one(house: House, transport: str) -> None:
    me = await house.founder()
    other = await me.login_again()
    first = in_place("query", me.token)
    refused = await turned_away(house, transport, first | in_place("authorization", other.token))

    assert (refused.status, refused.code) == (400, "token_conflict")
    await admitted(house, transport, first | in_place("authorization", me.token))


# Bad ones ------------------------------------------------------------------------------------------------------------

SECRET = "the-secret-of-this-one-server-0123456789"
KINDS = [
    "none",
    "none in capitals",
    "hs384",
    "hs512",
    "another secret",
    "wrong signature",
    "no signature",
    "changed payload",
    "key of the header",
    "refresh token",
    "expired",
    "from the future",
    "too long a life",
    "another issuer",
    "an audience",
    "without exp",
    "without sid",
    "without user_id",
    "another subject",
    "unknown user",
    "unknown login",
    "text as exp",
    "a list",
    "garbage",
    "too long",
    "not ascii",
]


def bad_token(kind: str, me: Member) -> str:
    """A token that must not be accepted; each but the last few differs from a good one in a single point."""
    good, secret = claims_of(me.token), SECRET.encode()
    now = int(time.time())
    head, body, signature = me.token.split(".")
    without = {f"without {name}": {k: v for k, v in good.items() if k != name} for name in ("exp", "sid", "user_id")}
    changed: dict[str, dict[str, Any]] = {
        "expired": {"iat": now - 7200, "exp": now - 3600},
        "from the future": {"iat": now + 600, "exp": now + 1200},
        "too long a life": {"exp": now + 10 * 365 * 86400},
        "another issuer": {"iss": "somebody"},
        "an audience": {"aud": "elsewhere"},
        "another subject": {"sub": me.account_id},
        "unknown user": {
            "sub": "11111111-1111-4111-8111-111111111111",
            "user_id": "11111111-1111-4111-8111-111111111111",
        },
        "unknown login": {"sid": "nobody"},
        "text as exp": {"exp": str(now + 600)},
    }
    if kind in changed:
        return signed(good | changed[kind], secret)
    if kind in without:
        return signed(without[kind], secret)
    made: dict[str, Callable[[], str]] = {
        "none": lambda: signed(good, b"", alg="none"),
        "none in capitals": lambda: signed(good, b"", alg="NONE"),
        "hs384": lambda: signed(good, secret, alg="HS384"),
        "hs512": lambda: signed(good, secret, alg="HS512"),
        "another secret": lambda: signed(good, b"another-secret-of-some-other-server-0123"),
        "key of the header": lambda: signed(
            good, b"mine", jwk={"kty": "oct", "k": segment(b"mine")}, kid="../../dev/null"
        ),
        "wrong signature": lambda: f"{head}.{body}.{segment(b'x' * 32)}",
        "no signature": lambda: f"{head}.{body}.",
        "changed payload": lambda: f"{head}.{segment(json.dumps(good | {'role': 'root'}).encode())}.{signature}",
        "refresh token": lambda: me.refresh_token,
        "a list": lambda: signed([good], secret),  # type: ignore[arg-type]  # that is the point
        "garbage": lambda: "nonsense",
        "too long": lambda: "x" * 5000,
        "not ascii": lambda: "tökén",
    }
    return made[kind]()


async def test_bad_tokens_of_each_kind_are_a_401_before_the_upgrade_and_over_rest(make_house: MakeHouse) -> None:
    """One server, whose secret the forger even knows: only what the secret signed as it should be is believed."""
    house = await make_house(SECRET_KEY=SECRET)
    me = await house.founder()
    accepted = signed(claims_of(me.token), SECRET.encode())
    assert (await me.request("GET", "/auth/me", headers={"authorization": f"Bearer {accepted}"})).status_code == 200

    for kind in KINDS:
        token = bad_token(kind, me)
        code = {"expired": "token_expired", "unknown user": "user_disabled", "unknown login": "token_revoked"}
        expected = (401, code.get(kind, "token_invalid"), "Bearer")
        for transport in TRANSPORTS:
            refused = await turned_away(house, transport, in_place("query", token))
            assert (refused.status, refused.code, refused.headers["www-authenticate"]) == expected, (kind, transport)
            assert refused.body.keys() == {"error", "message", "detail", "code", "details"}
            assert token[-12:] not in json.dumps(refused.body)
        answer = await house.client.get("/api/v1/auth/me", headers=[(b"authorization", b"Bearer " + token.encode())])
        assert (answer.status_code, answer.json()["code"]) == expected[:2], kind


CLOSES = {
    "garbage": ("token_invalid", 4501),
    "refresh token": ("token_invalid", 4501),
    "none": ("token_invalid", 4501),
    "another secret": ("token_invalid", 4501),
    "expired": ("token_expired", 4001),
    "unknown login": ("token_revoked", 4502),
    "unknown user": ("user_disabled", 4503),
}


async def test_a_client_that_offers_the_version_is_accepted_told_and_closed(make_house: MakeHouse) -> None:
    house = await make_house(SECRET_KEY=SECRET)
    me = await house.founder()
    for kind, (code, close_code) in CLOSES.items():
        socket = await house.socket(None, subprotocols=["snackbase.v1", bad_token(kind, me)])
        told = await socket.next()

        assert socket.connection.subprotocol == "snackbase.v1"
        assert (told["type"], told["code"], told["close_code"]) == (
            "closing" if close_code < 4500 else "error",
            code,
            close_code,
        )
        assert told["retry"] is (close_code < 4500)
        assert await socket.ended() == (close_code, code)


@pytest.mark.parametrize("kind", ["garbage", "refresh token", "unknown login"])
async def test_a_first_message_with_a_bad_token_ends_the_connection(make_house: MakeHouse, kind: str) -> None:
    house = await make_house(SECRET_KEY=SECRET)
    socket = await house.socket(None, subprotocols=["snackbase.v1"])
    await socket.send({"action": "auth", "token": bad_token(kind, await house.founder())})

    assert await socket.ended() == tuple(reversed(CLOSES[kind]))
    assert socket.all[-1]["code"] == CLOSES[kind][0]


@both
async def test_no_token_at_all_is_a_401(house: House, transport: str) -> None:
    refused = await turned_away(house, transport, {})

    assert (refused.status, refused.code, refused.headers["www-authenticate"]) == (401, "token_missing", "Bearer")


# Origins -------------------------------------------------------------------------------------------------------------

FOREIGN = [
    "https://evil.example",
    "null",
    "http://localhost.evil.example",
    "http://127.0.0.1.evil.example:80",
    "file://",
]
HOME = [
    "http://localhost:5173",
    "http://127.0.0.1:3000",
    "https://localhost",
    "http://[::1]:8080",
    "http://app.localhost",
]


async def answers(house: House, member: Member, origin: str) -> dict[str, tuple[int, str | None]]:
    """What each door answers to a page of this origin: the status, and the origin that CORS allows."""
    try:
        await house.socket(member, origin=origin)
        upgraded = 101
    except InvalidStatus as refused:
        upgraded = refused.response.status_code
    bearer = {"authorization": f"Bearer {member.token}", "origin": origin}
    asked = {"access-control-request-method": "GET", "access-control-request-headers": "last-event-id, authorization"}
    rest = await house.client.get("/api/v1/auth/me", headers=bearer)
    preflight = await house.client.options("/api/v1/realtime/subscribe", headers={"origin": origin, **asked})
    stream = await house.stream(member, headers={"origin": origin})
    allowed = "access-control-allow-origin"
    return {
        "websocket": (upgraded, None),
        "rest": (rest.status_code, rest.headers.get(allowed)),
        "preflight": (preflight.status_code, preflight.headers.get(allowed)),
        "sse": (stream.response.status_code, stream.response.headers.get(allowed)),
    }


@pytest.mark.parametrize("origin", FOREIGN)
async def test_a_foreign_origin_may_not_call(house: House, origin: str) -> None:
    """A browser keeps the answer from a page that CORS does not allow; a WebSocket it would let through, so 403."""
    assert await answers(house, await house.founder(), origin) == {
        "websocket": (403, None),
        "rest": (200, None),
        "preflight": (403, None),
        "sse": (200, None),
    }
    assert "SNACKBASE_CORS_ORIGINS" in house.server.output


@pytest.mark.parametrize("origin", HOME)
async def test_any_loopback_origin_may_call_a_server_on_loopback(house: House, origin: str) -> None:
    assert await answers(house, await house.founder(), origin) == {
        "websocket": (101, None),
        "rest": (200, origin),
        "preflight": (204, origin),
        "sse": (200, origin),
    }


async def test_a_server_that_others_can_reach_allows_no_origin_just_for_being_on_loopback(
    make_house: MakeHouse,
) -> None:
    house = await make_house(HOST="0.0.0.0")  # noqa: S104  # that is what is tested
    me = await house.founder()

    assert (await answers(house, me, "http://localhost:5173"))["websocket"] == (403, None)
    assert (await answers(house, me, house.server.base_url))["websocket"] == (101, None)


async def test_cors_origins_are_allowed_by_exact_match(make_house: MakeHouse) -> None:
    house = await make_house(CORS_ORIGINS="https://app.example.com,https://other.example.com:8443")
    me = await house.founder()
    for origin in ("https://app.example.com", "https://other.example.com:8443"):
        assert (await answers(house, me, origin))["websocket"] == (101, None)
        assert (await answers(house, me, origin))["rest"] == (200, origin)
    for origin in ("http://app.example.com", "https://app.example.com:8443", "https://sub.app.example.com"):
        assert (await answers(house, me, origin))["websocket"] == (403, None)


async def test_the_servers_own_origin_is_judged_by_what_a_trusted_proxy_forwards(make_house: MakeHouse) -> None:
    plain, proxied = await make_house(), await make_house(TRUSTED_PROXIES="127.0.0.1")
    forwarded = {"x-forwarded-host": "app.example.com", "x-forwarded-proto": "https"}
    origin = "https://app.example.com"

    assert (await plain.refused_socket(await plain.founder(), headers=forwarded, origin=origin)).status == 403
    await proxied.socket(await proxied.founder(), headers=forwarded, origin=origin)


async def test_who_sends_no_origin_is_no_browser_and_may_call(house: House) -> None:
    await house.socket(await house.founder(), origin=None)


async def test_a_preflight_of_a_stream_allows_the_headers_of_the_contract(house: House) -> None:
    asked = {"origin": "http://localhost:5173", "access-control-request-method": "GET"}
    answer = await house.client.options("/api/v1/realtime/subscribe", headers=asked)

    assert answer.status_code == 204
    allowed = {name.strip() for name in answer.headers["access-control-allow-headers"].lower().split(",")}
    assert {"authorization", "last-event-id", "x-api-key"} <= allowed
