"""realtime/protocol.py: the messages of contract §3, both ways."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snackbase import errors
from snackbase.realtime import protocol
from snackbase.realtime.protocol import ProtocolError, SubscribeRequest


def refusal(payload: bytes | str) -> ProtocolError:
    raw = payload.encode() if isinstance(payload, str) else payload
    with pytest.raises(ProtocolError) as caught:
        protocol.subscribe_requests(protocol.decode(raw))
    return caught.value


def subscribe(**keys: object) -> str:
    return json.dumps({"action": "subscribe", **keys})


def test_the_pages_subscribe_message_is_understood() -> None:
    message = protocol.decode(subscribe(collection="posts", operations=["create", "update", "delete"]).encode())
    (request,) = protocol.subscribe_requests(message)
    assert (request.collection, request.operations, request.key) == ("posts", ("create", "update", "delete"), "posts")


def test_several_subscriptions_share_the_since_of_their_message_unless_they_have_their_own() -> None:
    message = protocol.decode(
        subscribe(
            since="p1", subscriptions=[{"collection": "posts"}, {"collection": "users_x", "since": "p2"}]
        ).encode()
    )
    assert [request.since for request in protocol.subscribe_requests(message)] == ["p1", "p2"]


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"{", "invalid_json"),
        (b"\xff\xfe", "invalid_json"),
        (b'{"action":NaN}', "invalid_json"),
        (b"[" * 100_000, "invalid_message"),
        (b"[]", "invalid_message"),
        (b"1", "invalid_message"),
        (b"{}", "invalid_message"),
        (b'{"action":1}', "invalid_message"),
        (b'{"action":"subscribe","operation":["create"]}', "invalid_message"),
        (b'{"action":"subscribe"}', "invalid_message"),
        (subscribe(subscriptions=[]), "invalid_message"),
        (subscribe(collection="posts", subscriptions=[{"collection": "posts"}]), "invalid_message"),
        (subscribe(collection="posts", snapshot=True, since="p"), "invalid_message"),
        (subscribe(collection="posts", operations=["created"]), "invalid_operations"),
        (subscribe(collection="posts", operations=[]), "invalid_operations"),
        (subscribe(collection="posts", operations=["create"] * 11), "invalid_operations"),
        (subscribe(collection="posts", fields=["title"] * 201), "invalid_fields"),
        (subscribe(collection="posts", fields="title," * 4000), "invalid_fields"),
        (subscribe(collection="posts", since="x" * 1001), "invalid_message"),
        (subscribe(collection="posts", operations="create"), "invalid_message"),
        (subscribe(collection="posts", filter="x" * 2001), "invalid_filter"),
        (subscribe(collection="posts", id="a b"), "invalid_id"),
        (subscribe(collection="posts", id=""), "invalid_id"),
        (subscribe(collection="posts", id="a" * 65), "invalid_id"),
    ],
)
def test_a_bad_message_is_refused_with_its_own_code(payload: bytes | str, code: str) -> None:
    assert refusal(payload).code == code


@pytest.mark.parametrize(
    "name",
    [
        "../x",
        "a.b",
        "po",
        "",
        "a%00",
        "x" * 65,
        "posts ",
        "\uff50\uff4f\uff53\uff54\uff53",
        "p\u043ests",
        "__proto__",
        "a' OR 1",
        "_users",
        "1posts",
        "**",
    ],
)
def test_a_crafted_collection_name_gets_the_one_answer_of_an_unknown_one(name: str) -> None:
    error = refusal(subscribe(collection=name))
    assert (error.code, error.message) == ("collection_not_found", "There is no such collection.")


@pytest.mark.parametrize(
    ("payload", "action", "name"),
    [
        ({"action": "subscribe", "id": "mine", "colection": "posts"}, "subscribe", "mine"),
        ({"action": "shout", "id": "mine"}, "shout", "mine"),
        ({"id": "mine"}, None, "mine"),
        ({"action": 7, "id": "mine", "more": {"deep": [1]}}, None, "mine"),
        ({"action": "subscribe", "id": 7}, "subscribe", None),
        ({"action": "x" * 65, "id": "a b"}, None, None),
        ([], None, None),
        ("nonsense", None, None),
    ],
)
def test_an_answer_repeats_action_and_id_also_of_what_could_not_be_understood(
    payload: object, action: str | None, name: str | None
) -> None:
    found = protocol.echo_of(json.dumps(payload).encode())
    assert (found.action, found.id) == (action, name)


@given(st.binary(max_size=300))
def test_looking_for_what_to_repeat_never_fails(payload: bytes) -> None:
    protocol.echo_of(payload)
    protocol.echo_of(b"[" * 5000)


def test_a_hook_is_shown_everything_that_was_sent_but_the_token() -> None:
    sent = {
        "action": "subscribe",
        "collection": "posts",
        "operations": ["create"],
        "filter": "title = 'x'",
        "fields": ["title"],
        "snapshot": {"limit": 5},
        "id": "mine",
    }
    assert protocol.shown(protocol.decode(json.dumps(sent).encode())) == sent
    several = {"action": "subscribe", "since": "p", "subscriptions": [{"collection": "posts", "id": "a"}]}
    whole = {"collection": None, "id": None, **several}
    assert protocol.shown(protocol.decode(json.dumps(several).encode())) == whole
    auth = protocol.decode(b'{"action":"auth","token":"secret","id":"a"}')
    assert protocol.shown(auth) == {"action": "auth", "collection": None, "id": "a"}


def test_over_http_an_error_of_the_store_keeps_its_status_and_a_wrong_request_is_400() -> None:
    busy = errors.Unavailable("The store is busy.", code="storage_busy", retry_after_s=1)
    assert ProtocolError.passing_on(busy).over_http() is busy
    statuses = {
        code: ProtocolError(code, "no").over_http().status
        for code in ("invalid_filter", "forbidden", "collection_not_found")
    }
    assert statuses == {"invalid_filter": 400, "forbidden": 403, "collection_not_found": 404}


@given(st.binary(max_size=300))
def test_no_bytes_of_a_client_raise_anything_but_a_protocol_error(payload: bytes) -> None:
    try:
        protocol.subscribe_requests(protocol.decode(payload))
    except ProtocolError as error:
        assert error.code


@pytest.mark.parametrize(
    ("asked", "fields"),
    [
        (None, None),
        (("*",), None),
        ("*", None),
        ("title, status", ("title", "status")),
        (("title", "title", " status "), ("title", "status")),
        ("", ()),
    ],
)
def test_fields_are_a_list_or_a_comma_list(asked: tuple[str, ...] | str | None, fields: tuple[str, ...] | None) -> None:
    assert protocol.field_names(asked) == fields


def test_every_server_message_has_a_type_and_replies_satisfy_the_page_and_the_sdk() -> None:
    payloads = {
        "subscribed": protocol.subscribed("posts", ["create"], "p", "t", name=None, action="subscribe"),
        "unsubscribed": protocol.unsubscribed("posts"),
        "resync": protocol.resync("posts", "rights", "p", name="a"),
        "caught_up": protocol.caught_up("posts", "p", name=None),
        "heartbeat": protocol.heartbeat("t", "p"),
        "pong": protocol.pong("t", name=None, action=None),
        "auth": protocol.authenticated("ok", "t"),
        "closing": protocol.closing(errors.RESTARTING, 1830),
        "error": protocol.error("invalid_json", "no", collection="posts"),
    }
    messages = {name: json.loads(payload) for name, payload in payloads.items()}
    assert {name: message["type"] for name, message in messages.items()} == {name: name for name in payloads}
    assert messages["subscribed"]["status"] == "subscribed"
    assert messages["unsubscribed"]["status"] == "unsubscribed"
    assert messages["heartbeat"]["event"] == "heartbeat"
    assert messages["error"]["data"] == {"message": "no", "code": "invalid_json", "collection": "posts"}
    assert messages["closing"]["retry_after_ms"] == 1830
    assert messages["resync"]["data"] == {"reason": "rights", "collection": "posts", "position": "p"}
    taken = {"connected", "connecting", "disconnected", "message", "auth_error"}
    assert not taken & set(messages), "these collide with the SDK's own events"


@pytest.mark.parametrize("closing", errors.CLOSINGS.values(), ids=lambda closing: closing.code)
def test_an_end_is_announced_as_closing_or_for_45xx_as_error(closing: errors.Closing) -> None:
    message = json.loads(protocol.closing(closing, 100))
    assert message["type"] == ("closing" if closing.close_code < 4500 else "error")
    assert (message["code"], message["close_code"]) == (closing.code, closing.close_code)
    assert message["retry"] is (closing.close_code < 4500)


def test_the_key_of_a_named_subscription_never_meets_a_collections() -> None:
    named = SubscribeRequest(collection="users_x", id="posts")
    assert named.key != SubscribeRequest(collection="posts").key
