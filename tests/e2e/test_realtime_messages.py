"""What a WebSocket client may say and what it hears back (contract §3), against a running server."""

import json
from typing import Any

import pytest

from tests.e2e.conftest import MakeHouse
from tests.e2e.support import OPEN_RULES, WHEN, WHERE, House, Socket, matches

# Replies -------------------------------------------------------------------------------------------------------------


async def test_subscribed_echoes_what_was_asked_with_type_and_status(house: House) -> None:
    posts = await house.collection("title")
    socket = await house.socket(await house.founder())

    assert await socket.ask("subscribe", collection=posts) == {
        "type": "subscribed",
        "status": "subscribed",
        "collection": posts,
        "operations": ["create", "update", "delete"],
        "position": WHERE,
        "timestamp": WHEN,
        "action": "subscribe",
    }
    named = await socket.ask("subscribe", collection=posts, id="mine", operations=["delete", "create"])
    assert (named["id"], named["operations"]) == ("mine", ["create", "delete"])


async def test_unsubscribed_is_acknowledged_by_collection_and_by_id_known_or_not(house: House) -> None:
    posts = await house.collection("title")
    socket = await house.socket(await house.founder())
    await socket.subscribe(posts)
    await socket.subscribe(posts, id="mine")

    for keys in ({"collection": posts}, {"collection": "never_heard_of"}, {"collection": posts}):
        assert await socket.ask("unsubscribe", **keys) == {
            "type": "unsubscribed",
            "status": "unsubscribed",
            "action": "unsubscribe",
            **keys,
        }
    for name in ("mine", "mine", "other"):
        answer = await socket.ask("unsubscribe", id=name)
        assert (answer["type"], answer["id"]) == ("unsubscribed", name)


async def test_ping_is_answered_with_pong(house: House) -> None:
    socket = await house.socket(await house.founder())

    assert await socket.ask("ping") == {"type": "pong", "timestamp": WHEN, "action": "ping"}
    assert await socket.ask("ping", id="p-1") == {"type": "pong", "timestamp": WHEN, "action": "ping", "id": "p-1"}


async def test_several_subscriptions_in_one_message_are_acknowledged_each(house: House) -> None:
    posts, notes = await house.collection("title"), await house.collection("title")
    me = await house.founder()
    socket = await house.socket(me)
    await socket.send(
        {"action": "subscribe", "subscriptions": [{"collection": posts}, {"collection": notes, "id": "n"}]}
    )

    assert [(m["type"], m["collection"], m.get("id")) for m in await socket.take(2)] == [
        ("subscribed", posts, None),
        ("subscribed", notes, "n"),
    ]
    await me.create(notes, title="x")
    await me.create(posts, title="y")
    assert [m["type"] for m in await socket.take(2)] == [f"{notes}.create", f"{posts}.create"]


@pytest.mark.parametrize("resuming", [False, True])
async def test_of_several_subscriptions_in_one_message_the_refused_are_named_and_the_others_served(
    house: House, resuming: bool
) -> None:
    posts, locked = await house.collection("title"), await house.collection("title", list_rule=None)
    me = await house.founder()
    more = {"since": (await me.request("GET", f"/records/{posts}")).json()["position"]} if resuming else {}
    socket = await house.socket(me)
    wanted = [{"collection": name, "id": f"s{n}"} for n, name in enumerate((posts, locked, "nothing_here", posts))]
    await socket.send({"action": "subscribe", "subscriptions": wanted, **more})

    told = [m for m in await socket.take(6 if resuming else 4) if m["type"] != "caught_up"]
    assert [(m["type"], m.get("code"), m["id"], m["collection"]) for m in told] == [
        ("subscribed", None, "s0", posts),
        ("error", "forbidden", "s1", locked),
        ("error", "collection_not_found", "s2", "nothing_here"),
        ("subscribed", None, "s3", posts),
    ]
    await me.create(posts, title="x")
    assert [m["subscription"] for m in await socket.take(2)] == ["s0", "s3"]


async def test_a_message_that_has_every_form_of_an_error_keeps_the_connection(house: House) -> None:
    socket = await house.socket(await house.founder())

    answer = await socket.ask("subscribe", collection="nowhere", id="mine")
    assert answer == {
        "type": "error",
        "status": "error",
        "code": "collection_not_found",
        "error": answer["message"],
        "message": matches(".{5,}"),
        "collection": "nowhere",
        "data": {"message": answer["message"], "code": "collection_not_found", "collection": "nowhere"},
        "id": "mine",
        "action": "subscribe",
    }
    assert (await socket.ask("ping"))["type"] == "pong"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("invalid_message", {"action": "subscribe", "id": "mine", "colection": "posts"}),
        ("invalid_message", {"action": "subscribe", "id": "mine"}),
        ("unknown_action", {"action": "shout", "id": "mine"}),
        ("invalid_message", {"action": "unsubscribe", "collection": ["posts"], "id": "mine"}),
        ("invalid_message", {"action": "auth", "id": "mine"}),
    ],
)
async def test_an_error_repeats_the_id_and_the_action_whatever_was_wrong(
    house: House, code: str, message: dict[str, Any]
) -> None:
    socket = await house.socket(await house.founder())
    await socket.send(message)
    answer = await socket.next()

    assert (answer["code"], answer["action"], answer["id"]) == (code, message["action"], "mine")


ERRORS: list[tuple[str, Any]] = [
    ("invalid_json", "not json"),
    ("invalid_json", ""),
    ("invalid_json", '{"action":"ping"'),
    ("invalid_message", '{"action":' + "[" * 3000),
    ("invalid_message", "[" * 3000),
    ("invalid_json", '{"action":"ping"}{"action":"ping"}'),
    ("invalid_message", '["action"]'),
    ("invalid_message", "null"),
    ("invalid_message", {}),
    ("invalid_message", {"action": 7}),
    ("invalid_message", {"action": "subscribe"}),
    ("invalid_message", {"action": "subscribe", "collection": ["POSTS"]}),
    ("invalid_message", {"action": "subscribe", "collection": "POSTS", "operation": ["create"]}),
    ("invalid_message", {"action": "subscribe", "collection": "POSTS", "subscriptions": [{"collection": "POSTS"}]}),
    ("invalid_message", {"action": "subscribe", "subscriptions": []}),
    ("invalid_message", {"action": "subscribe", "collection": "POSTS", "snapshot": True, "since": "x"}),
    ("invalid_message", {"action": "unsubscribe"}),
    ("invalid_message", {"action": "auth"}),
    ("unknown_action", {"action": "subscribed", "collection": "POSTS"}),
    ("unknown_action", {"action": ""}),
    ("collection_not_found", {"action": "subscribe", "collection": "nowhere"}),
    ("collection_not_found", {"action": "subscribe", "collection": ""}),
    ("collection_not_found", {"action": "subscribe", "collection": "a.b"}),
    ("collection_not_found", {"action": "subscribe", "collection": "posts'; DROP TABLE _users --"}),
    ("collection_not_found", {"action": "subscribe", "collection": "_users"}),
    ("collection_not_found", {"action": "subscribe", "collection": "x" * 5000}),
    ("invalid_id", {"action": "subscribe", "collection": "POSTS", "id": ""}),
    ("invalid_id", {"action": "subscribe", "collection": "POSTS", "id": "a b"}),
    ("invalid_id", {"action": "subscribe", "collection": "POSTS", "id": "x" * 65}),
    ("invalid_operations", {"action": "subscribe", "collection": "POSTS", "operations": []}),
    ("invalid_operations", {"action": "subscribe", "collection": "POSTS", "operations": ["create", "read"]}),
    ("invalid_filter", {"action": "subscribe", "collection": "POSTS", "filter": "title ="}),
    ("invalid_filter", {"action": "subscribe", "collection": "POSTS", "filter": "nothing = 1"}),
    ("invalid_filter", {"action": "subscribe", "collection": "POSTS", "filter": "author.name = 'x'"}),
    ("invalid_filter", {"action": "subscribe", "collection": "POSTS", "filter": "(" * 500}),
    ("invalid_filter", {"action": "subscribe", "collection": "POSTS", "filter": "title = '" + "x" * 3000 + "'"}),
    ("invalid_filter", {"action": "subscribe", "collection": "POSTS", "filter": "hidden = 'x'"}),
    ("invalid_filter", {"action": "subscribe", "collection": "*", "filter": "title = 'x'"}),
    ("invalid_fields", {"action": "subscribe", "collection": "POSTS", "fields": ["nothing"]}),
    ("invalid_fields", {"action": "subscribe", "collection": "POSTS", "fields": "title,nothing"}),
    ("invalid_fields", {"action": "subscribe", "collection": "POSTS", "fields": ["hidden"]}),
    ("invalid_fields", {"action": "subscribe", "collection": "*", "fields": ["title"]}),
    ("forbidden", {"action": "subscribe", "collection": "LOCKED"}),
    ("token_invalid", {"action": "auth", "token": "nonsense"}),
]


@pytest.mark.parametrize(("code", "message"), ERRORS, ids=[f"{n}-{code}" for n, (code, _) in enumerate(ERRORS)])
async def test_a_bad_message_is_answered_with_its_code_and_the_connection_stays(
    house: House, code: str, message: Any
) -> None:
    posts = await house.collection(
        "title", "hidden", name="error_posts", missing_ok=True, list_fields=["title"], view_fields=["title"]
    )
    locked = await house.collection("title", name="error_locked", missing_ok=True, list_rule=None)
    text = message if isinstance(message, str) else json.dumps(message)
    socket = await house.socket(await house.founder())

    await socket.send(text.replace("POSTS", posts).replace("LOCKED", locked))
    answer = await socket.next()

    assert (answer["type"], answer["status"], answer["code"]) == ("error", "error", code), answer
    assert answer["message"] == answer["error"] == answer["data"]["message"]
    assert len(answer["message"]) < 500
    assert (await socket.ask("ping"))["type"] == "pong"


@pytest.mark.parametrize("lead", [b"", b" \n"])
async def test_a_binary_frame_is_read_as_utf8_json(house: House, lead: bytes) -> None:
    socket = await house.socket(await house.founder())
    await socket.send(lead + b'{"action":"ping","id":"b"}')

    assert (await socket.next())["id"] == "b"


async def test_invalid_utf8_ends_with_1007(house: House) -> None:
    socket = await house.socket(await house.founder())
    await socket.connection.send(b'{"action":"ping\xff"}', text=True)

    assert (await socket.ended())[0] == 1007


async def test_a_message_over_64_kib_ends_with_1009_and_one_of_64_kib_is_read(house: House) -> None:
    socket = await house.socket(await house.founder())
    ping = '{"action":"ping"}'
    await socket.send(ping + " " * (65536 - len(ping)))
    assert (await socket.next())["type"] == "pong"

    await socket.send(ping + " " * (65537 - len(ping)))
    assert (await socket.ended())[0] == 1009


async def test_repeated_nonsense_ends_with_4500(make_house: MakeHouse) -> None:
    house = await make_house()
    socket = await house.socket(await house.founder())
    for _ in range(200):
        await socket.send("nonsense")

    told = await socket.rest()
    assert (told[-1]["type"], told[-1]["code"], told[-1]["close_code"]) == ("error", "bad_request", 4500)
    assert await socket.ended() == (4500, "bad_request")


async def test_too_many_messages_end_with_4006(make_house: MakeHouse) -> None:
    house = await make_house(REALTIME_MESSAGES_PER_SECOND=1, REALTIME_MESSAGE_BURST=5)
    socket = await house.socket(await house.founder())
    for _ in range(6):
        await socket.send({"action": "ping"})

    told = await socket.rest()
    assert [m["type"] for m in told] == ["pong"] * 5 + ["closing"]
    assert (told[-1]["code"], told[-1]["close_code"], told[-1]["retry"]) == ("rate_limited", 4006, True)
    assert told[-1]["data"]["retry_after_ms"] == told[-1]["retry_after_ms"] > 0
    assert await socket.ended() == (4006, "rate_limited")


# The limit of subscriptions ------------------------------------------------------------------------------------------


async def test_at_most_100_subscriptions_and_a_replacement_never_counts_twice(house: House) -> None:
    posts = await house.collection("title")
    me = await house.founder()
    socket = await house.socket(me)
    await socket.send(
        {"action": "subscribe", "subscriptions": [{"collection": posts, "id": f"s{n}"} for n in range(99)]}
    )
    await socket.take(99)

    assert (await socket.ask("subscribe", collection=posts))["type"] == "subscribed"
    for again in ({"collection": posts}, {"collection": posts, "id": "s7"}):
        assert (await socket.ask("subscribe", **again))["type"] == "subscribed"
    refused = await socket.ask("subscribe", collection=posts, id="one-too-many")
    assert (refused["code"], refused["id"]) == ("subscription_limit", "one-too-many")
    assert "100" in refused["message"]

    await me.create(posts, title="x")
    names = [event.get("subscription") for event in await socket.take(100)]
    assert sorted(names, key=str) == sorted([None, *(f"s{n}" for n in range(99))], key=str)
    await socket.ask("unsubscribe", id="s7")
    assert (await socket.ask("subscribe", collection=posts, id="one-too-many"))["type"] == "subscribed"


async def test_realtime_max_subscriptions_is_the_limit_on_both_transports(make_house: MakeHouse) -> None:
    house = await make_house(REALTIME_MAX_SUBSCRIPTIONS=2)
    me, posts = await house.founder(), await house.collection("title")
    socket = await house.socket(me)
    await socket.subscribe(posts)
    await socket.subscribe("*")

    assert (await socket.ask("subscribe", collection=posts, id="third"))["code"] == "subscription_limit"
    three = [("subscription", json.dumps({"collection": posts, "id": name})) for name in "abc"]
    refused = await house.refused_stream(me, *three)
    assert (refused.status, refused.code) == (400, "subscription_limit")
    await house.follow("sse", me, *[{"collection": posts, "id": name} for name in "ab"])


# A token in a message ------------------------------------------------------------------------------------------------


async def test_a_first_message_with_a_token_opens_a_connection_that_offered_the_version_alone(house: House) -> None:
    posts = await house.collection("title")
    me = await house.founder()
    socket = await house.socket(None, subprotocols=["snackbase.v1"])
    assert (await socket.ask("subscribe", collection=posts))["code"] == "not_authenticated"

    answer = await socket.ask("auth", token=me.token, id="a")
    assert {**answer, "data": None} == {
        "type": "auth",
        "status": "ok",
        "expires_at": WHEN,
        "id": "a",
        "action": "auth",
        "data": None,
    }
    assert answer["data"]["expires_at"] == answer["expires_at"]
    await socket.subscribe(posts)
    await me.create(posts, title="x")
    assert (await socket.next())["type"] == f"{posts}.create"


async def test_a_fresh_token_of_the_same_user_is_taken_in_place_and_anothers_is_refused(house: House) -> None:
    posts = await house.collection("title")
    me = await house.founder()
    other, stranger = await house.member(me), await house.founder()
    socket = await house.socket(me)
    await socket.subscribe(posts)

    for somebody in (other, stranger):
        assert (await socket.ask("auth", token=somebody.token))["code"] == "auth_mismatch"
    assert (await socket.ask("auth", token=me.refresh_token))["code"] == "token_invalid"
    again = await me.login_again()
    assert (await socket.ask("auth", token=again.token))["status"] == "ok"
    await me.create(posts, title="x")
    assert (await socket.next())["type"] == f"{posts}.create"


# Collisions ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["connected", "connecting", "disconnected", "message", "auth_error"])
async def test_a_type_never_collides_with_the_sdks_own_events(house: House, name: str) -> None:
    """Only types with a dot come from names that people choose."""
    collection = await house.collection("title", name=name, missing_ok=True, **OPEN_RULES)
    me = await house.founder()
    socket: Socket = await house.socket(me)
    await socket.subscribe(collection)
    await me.create(collection, title="x")

    assert (await socket.next())["type"] == f"{name}.create"
