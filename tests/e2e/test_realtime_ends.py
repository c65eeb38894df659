"""How connections end (contract §5): the word, the close code, and whether to come back; heartbeats and expiry (§3)."""

import asyncio
import json
import re
import time
from datetime import datetime
from itertools import pairwise

import pytest

from tests.e2e.conftest import HEARTBEAT_S, MakeHouse
from tests.e2e.support import TRANSPORTS, WHEN, WHERE, House, Member, Messages, Socket, place
from tests.protocol.raw import CLOSE, PING, Frame, Raw

both = pytest.mark.parametrize("transport", TRANSPORTS)


async def assert_ended(listener: Messages, code: str, close_code: int) -> None:
    """The last message says why, and whether coming back makes sense; then the connection is over."""
    told = (await listener.rest())[-1]
    expected = ("closing", True) if close_code < 4500 else ("error", False)
    assert (told["type"], told["retry"], told["code"], told["close_code"]) == (*expected, code, close_code)
    assert told["data"]["code"] == code and told["data"]["message"]
    if close_code < 4500:
        assert told["retry_after_ms"] >= 0
    if isinstance(listener, Socket):
        assert await listener.ended() == (close_code, code)


# Heartbeats ----------------------------------------------------------------------------------------------------------


@both
async def test_heartbeats_come_at_the_set_interval_also_when_busy(quick_house: House, transport: str) -> None:
    posts = await quick_house.collection("title")
    me = await quick_house.founder()
    listener = await quick_house.follow(transport, me, posts)
    busy = asyncio.create_task(write_until_cancelled(me, posts))
    beats = [await listener.beat() for _ in range(3)]
    busy.cancel()

    for beat in beats:
        assert beat == {"type": "heartbeat", "event": "heartbeat", "timestamp": WHEN, "position": WHERE}
    assert any("." in message["type"] for message in listener.all)
    times = [datetime.fromisoformat(beat["timestamp"]).timestamp() for beat in beats]
    # Jittered 80 to 100 %, looked at in steps of a quarter; a machine may be late, but never early.
    assert all(later - earlier >= 0.75 * HEARTBEAT_S for earlier, later in pairwise(times))


async def write_until_cancelled(member: Member, collection: str) -> None:
    while True:
        await member.create(collection, title="busy")


@both
async def test_a_heartbeats_position_is_where_everything_before_it_was_sent(quick_house: House, transport: str) -> None:
    posts, others = await quick_house.collection("title"), await quick_house.collection("title")
    me = await quick_house.founder()
    listener = await quick_house.follow(transport, me, posts)
    assert place((await listener.beat())["position"]) == 0
    await me.create(posts, title="heard")
    await me.create(others, title="unheard, and yet it moves the position")

    await listener.until(lambda message: message["type"] == f"{posts}.create")
    while place((beat := await listener.beat())["position"]) != 2:
        assert place(beat["position"]) == 1


async def test_the_default_interval_is_30_seconds(house: House) -> None:
    """Nothing in between: the first heartbeat of a busy connection with default settings is not there yet."""
    posts = await house.collection("title")
    me = await house.founder()
    socket = await house.socket(me)
    await socket.subscribe(posts)
    for number in range(20):
        await me.create(posts, title=str(number))
        await socket.next(beats=True)

    assert "heartbeat" not in {message["type"] for message in socket.all}


# Expiry --------------------------------------------------------------------------------------------------------------

SHORT = {"ACCESS_TOKEN_EXPIRE_MINUTES": 0.03}


@both
async def test_expiry_is_told_before_and_ends_the_connection_at_exp_with_4001(
    make_house: MakeHouse, transport: str
) -> None:
    house = await make_house(**SHORT)
    me, posts = await house.founder(), "posts"
    await house.collection("title", name=posts)
    me = await me.login_again()
    listener = await house.follow(transport, me, posts)
    expiring = await listener.next()

    facts = {"status": "expiring", "expires_at": WHEN}
    assert expiring == {"type": "auth", **facts, "data": facts}
    await assert_ended(listener, "token_expired", 4001)
    assert time.time() >= datetime.fromisoformat(expiring["expires_at"]).timestamp()
    answer = await house.client.get("/api/v1/auth/me", headers={"authorization": f"Bearer {me.token}"})
    assert (answer.status_code, answer.json()["code"]) == (401, "token_expired")


async def test_a_fresh_token_in_place_keeps_the_connection_beyond_the_first_ones_end(make_house: MakeHouse) -> None:
    house = await make_house(**SHORT)
    me = await house.founder()
    socket = await house.socket(me)
    first = await socket.next()
    answer = await house.client.post("/api/v1/auth/refresh", json={"refresh_token": me.refresh_token})
    await socket.send({"action": "auth", "token": answer.json()["token"]})
    told = await socket.until(lambda message: message.get("status") == "expiring")

    assert [one["status"] for one in told] == ["ok", "expiring"]
    assert told[0]["expires_at"] >= first["expires_at"]
    await assert_ended(socket, "token_expired", 4001)
    assert time.time() >= datetime.fromisoformat(told[0]["expires_at"]).timestamp()


# The principal is gone -----------------------------------------------------------------------------------------------

GONE = [
    ("logout", "token_revoked", 4502),
    ("password", "token_revoked", 4502),
    ("password_set_by_an_admin", "token_revoked", 4502),
    ("refresh_token_used_twice", "token_revoked", 4502),
    ("user_disabled", "user_disabled", 4503),
    ("user_deleted", "user_disabled", 4503),
    ("account_disabled", "account_disabled", 4504),
]


async def end_by(how: str, house: House, admin: Member, me: Member) -> None:
    root, ok = await house.superadmin(), {"status": None}
    if how == "logout":
        await me.request("POST", "/auth/logout", **ok)
    elif how == "password":
        body = {"old_password": me.password, "new_password": "another-long-password"}
        await (await me.login_again()).request("POST", "/auth/password", json=body)
    elif how == "password_set_by_an_admin":
        await admin.request("PUT", f"/users/{me.id}/password", json={"new_password": "another-long-password"})
    elif how == "refresh_token_used_twice":
        for _ in range(2):
            await house.client.post("/api/v1/auth/refresh", json={"refresh_token": me.refresh_token})
    elif how == "user_disabled":
        await admin.request("PATCH", f"/users/{me.id}", json={"is_active": False})
    elif how == "user_deleted":
        await admin.request("DELETE", f"/users/{me.id}")
    elif how == "account_disabled":
        await root.request("PATCH", f"/accounts/{me.account_id}", json={"is_active": False})


@both
@pytest.mark.parametrize(("how", "code", "close_code"), GONE, ids=[how for how, _, _ in GONE])
async def test_when_the_principal_is_gone_its_connections_end_at_once(
    house: House, transport: str, how: str, code: str, close_code: int
) -> None:
    posts = await house.collection("title")
    admin, stranger = await house.founder(), await house.founder()
    me = await house.member(admin)
    mine = await house.follow(transport, me, posts)
    others = [await house.follow(transport, one, posts) for one in (admin, stranger)]
    await end_by(how, house, admin, me)

    await assert_ended(mine, code, close_code)
    refused = await (house.refused_socket(me) if transport == "websocket" else house.refused_stream(me))
    assert (refused.status, refused.code) == (401, code)
    for one, listener in zip((admin, stranger), others, strict=True):
        if how == "account_disabled" and one is admin:
            await assert_ended(listener, code, close_code)
            continue
        await one.create(posts, title="still here")
        assert (await listener.next())["data"]["title"] == "still here"


@both
async def test_who_logs_in_again_is_let_in_however_many_connections_the_logout_ended(
    house: House, transport: str
) -> None:
    me = await house.founder()
    many = [await house.follow(transport, me, "*") for _ in range(8)]
    await me.request("POST", "/auth/logout")
    for listener in many:
        await assert_ended(listener, "token_revoked", 4502)

    await house.follow(transport, await me.login_again(), "*")


@both
async def test_a_logout_is_told_within_a_second(house: House, transport: str) -> None:
    """The fastest of three, since another program may hold the machine for a second, but hardly each time."""
    me, took = await house.founder(), []
    for _ in range(3):
        login = await me.login_again()
        listener = await house.follow(transport, login, "*")
        await login.request("POST", "/auth/logout")
        answered = time.monotonic()
        await listener.rest()
        took.append(time.monotonic() - answered)

    assert min(took) < 1


@both
async def test_a_changed_password_keeps_the_login_that_changed_it(house: House, transport: str) -> None:
    posts = await house.collection("title")
    me = await house.founder()
    other = await me.login_again()
    kept, ended = [await house.follow(transport, one, posts) for one in (me, other)]
    body = {"old_password": me.password, "new_password": "another-long-password"}
    await me.request("POST", "/auth/password", json=body)

    await assert_ended(ended, "token_revoked", 4502)
    await me.create(posts, title="still here")
    assert (await kept.next())["data"]["title"] == "still here"


async def test_a_logout_ends_that_login_alone(house: House) -> None:
    posts = await house.collection("title")
    me = await house.founder()
    other = await me.login_again()
    kept, ended = [await house.follow("websocket", one, posts) for one in (me, other)]
    await other.request("POST", "/auth/logout")

    await assert_ended(ended, "token_revoked", 4502)
    await me.create(posts, title="still here")
    assert (await kept.next())["data"]["title"] == "still here"


# The server's own reasons --------------------------------------------------------------------------------------------


@both
async def test_a_stopping_server_tells_everybody_to_come_back_and_they_do(
    make_house: MakeHouse, transport: str
) -> None:
    house = await make_house()
    posts = await house.collection("title")
    me = await house.founder()
    listeners = [await house.follow(transport, me, posts) for _ in range(5)]
    await me.create(posts, title="before")
    last = [await listener.next() for listener in listeners][-1]
    await house.server.stop()

    for listener in listeners:
        await assert_ended(listener, "restarting", 1012)
    await house.server.start()
    back = await house.follow(transport, me, {"collection": posts, "since": last["position"]})
    assert (await back.next())["type"] == "caught_up"
    await me.create(posts, title="after")
    assert (await back.next())["data"]["title"] == "after"


async def test_connections_that_are_merely_kept_alive_do_not_hold_a_stopping_server(make_house: MakeHouse) -> None:
    """After a request whose body came in a packet of its own, as every HTTP client sends it."""
    house = await make_house()
    await house.founder()
    await house.server.stop()

    assert "graceful shutdown exceeded" not in house.server.output


@both
async def test_a_server_that_may_take_no_time_to_stop_says_going_away(make_house: MakeHouse, transport: str) -> None:
    house = await make_house(SHUTDOWN_SECONDS=0)
    listener = await house.follow(transport, await house.founder(), "*")
    await house.server.stop()

    await assert_ended(listener, "going_away", 1001)


async def test_who_ignores_the_codes_and_comes_back_at_once_is_slowed(make_house: MakeHouse) -> None:
    house = await make_house(REALTIME_MESSAGES_PER_SECOND=1, REALTIME_MESSAGE_BURST=2)
    me, other = await house.founder(), await house.founder()

    async def offend() -> None:
        socket = await house.socket(me)
        for _ in range(3):
            await socket.send({"action": "ping"})
        await assert_ended(socket, "rate_limited", 4006)

    await offend()
    await offend()
    refused = await house.refused_socket(me)
    assert (refused.status, refused.code) == (429, "rate_limited")
    assert int(refused.headers["retry-after"]) >= 1
    await house.socket(other)


async def test_an_address_whose_connections_end_before_they_have_a_user_is_slowed_but_no_good_token_with_it(
    make_house: MakeHouse,
) -> None:
    house = await make_house(REALTIME_AUTH_SECONDS=0.3)
    posts = await house.collection("title")
    me = await house.founder()
    silent = [await house.socket(None, subprotocols=["snackbase.v1"]) for _ in range(7)]
    for socket in silent:
        await assert_ended(socket, "auth_timeout", 4507)

    told = await house.socket(None, subprotocols=["snackbase.v1"])
    await assert_ended(told, "rate_limited", 4006)
    known = await house.socket(me)
    await known.subscribe(posts)


async def test_who_offers_no_version_that_is_spoken_ends_with_4506(make_house: MakeHouse) -> None:
    house = await make_house()
    socket = await house.socket(await house.founder(), subprotocols=["snackbase.v9"])

    await assert_ended(socket, "unsupported_version", 4506)


async def test_who_sends_no_token_in_time_ends_with_4507(make_house: MakeHouse) -> None:
    house = await make_house(REALTIME_AUTH_SECONDS=0.2)
    socket = await house.socket(None, subprotocols=["snackbase.v1"])

    await assert_ended(socket, "auth_timeout", 4507)


@both
async def test_the_connections_of_a_user_are_limited(make_house: MakeHouse, transport: str) -> None:
    house = await make_house(REALTIME_MAX_CONNECTIONS_PER_USER=2)
    me, other = await house.founder(), await house.founder()
    for _ in range(2):
        await house.socket(me)
    refused = await (house.refused_socket(me) if transport == "websocket" else house.refused_stream(me))

    assert (refused.status, refused.code) == (429, "connection_limit")
    assert int(refused.headers["retry-after"]) >= 1
    await house.socket(other)
    if transport == "websocket":
        told = await house.socket(me, subprotocols=["snackbase.v1"])
        await assert_ended(told, "connection_limit", 4505)


@both
async def test_a_server_without_room_says_so_and_when_to_come_back(make_house: MakeHouse, transport: str) -> None:
    house = await make_house(REALTIME_MAX_CONNECTIONS=1)
    me = await house.founder()
    await house.socket(me)
    if transport == "sse":
        stream = await house.stream(me)
        await assert_ended(stream, "overloaded", 1013)
        assert (stream.blocks[0].retry or 0) >= 1000
    else:
        refused = await house.refused_socket(me)
        assert (refused.status, refused.code) == (503, "overloaded")
        assert int(refused.headers["retry-after"]) >= 1
        told = await house.socket(me, subprotocols=["snackbase.v1"])
        await assert_ended(told, "overloaded", 1013)


async def test_a_client_that_answers_no_ping_ends_with_4004_and_one_that_does_stays(make_house: MakeHouse) -> None:
    house = await make_house(REALTIME_PING_SECONDS=0.2, REALTIME_PONG_SECONDS=0.2)
    me = await house.founder()
    alive = await house.socket(me)

    def hear_and_say_nothing() -> list[Frame]:
        with Raw(house.server.port) as dumb:
            dumb.upgrade(f"/api/v1/realtime/ws?token={me.token}")
            frames = [dumb.frame()]
            while frames[-1].opcode != CLOSE:
                frames.append(dumb.frame())
            return frames

    ping, told, close = await asyncio.to_thread(hear_and_say_nothing)
    assert ping.opcode == PING
    assert json.loads(told.payload)["code"] == "heartbeat_timeout"
    assert close.close_code == 4004
    assert (await alive.ask("ping"))["type"] == "pong"


@both
async def test_a_client_that_does_not_read_ends_with_4003_and_its_neighbour_feels_nothing(
    make_house: MakeHouse, transport: str
) -> None:
    house = await make_house()
    posts = await house.collection("title")
    me = await house.founder()
    stuck, reading = await house.follow(transport, me, posts), await house.follow("websocket", me, posts)
    if isinstance(stuck, Socket):
        stuck.connection.transport.pause_reading()
    closes = 'snackbase_realtime_closes_total{code="slow_consumer"} 1.0'
    written = 0
    while closes not in (await house.client.get("/metrics")).text:
        await me.create_all(posts, *({"title": "x" * 9000} for _ in range(50)))
        await reading.take(50)
        written += 50
        assert written < 5_000, "the unsent bytes have no bound"
    await me.create(posts, title="last")
    assert (await reading.next())["data"]["title"] == "last"

    numbers = (await house.client.get("/metrics")).text
    assert "snackbase_realtime_unsent_bytes" in numbers
    assert re.search(r"^snackbase_realtime_event_lag_seconds_count [1-9]", numbers, re.MULTILINE)
    (line,) = (line for line in house.server.output.splitlines() if "connection_ended" in line)
    ended = json.loads(line)
    assert (ended["reason"], ended["transport"], ended["user_id"]) == ("slow_consumer", transport, me.id)
    assert ended["unsent_bytes"] > 1 << 20

    if isinstance(stuck, Socket):
        stuck.connection.transport.resume_reading()
    told = await stuck.rest()
    # Whoever reads on soon enough still gets what was sent, and the reason; later the connection is simply cut.
    assert "last" not in {message.get("data", {}).get("title") for message in told}
    if told[-1]["type"] == "closing":
        assert (told[-1]["code"], told[-1]["close_code"]) == ("slow_consumer", 4003)


async def test_realtime_switched_off_is_a_404_on_both_doors(make_house: MakeHouse) -> None:
    house = await make_house(REALTIME_ENABLED=False)
    me = await house.founder()
    for refused in (
        await house.refused_socket(me),
        await house.refused_socket(me, subprotocols=["snackbase.v1"]),
        await house.refused_stream(me),
    ):
        assert refused.status == 404
    posts = await house.collection("title")
    assert (await me.create(posts, title="records work"))["title"] == "records work"
