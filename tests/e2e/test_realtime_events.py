"""Events (contract §2): their form, who gets which, transactions and cascades; over both transports of a server."""

import json
from typing import Any

import pytest

from tests.e2e.support import TRANSPORTS, WHEN, WHERE, House, place, seen

both = pytest.mark.parametrize("transport", TRANSPORTS)


@both
async def test_create_update_and_delete_arrive_in_the_form_of_the_page(house: House, transport: str) -> None:
    posts = await house.collection("title", {"name": "stars", "type": "number"})
    me = await house.founder()
    listener = await house.follow(transport, me, posts)

    made = await me.create(posts, title="Hello", stars=1.5)
    changed = await me.update(posts, made["id"], title="Bye")
    await me.delete(posts, made["id"])
    events = await listener.take(3)

    assert [event["type"] for event in events] == [f"{posts}.create", f"{posts}.update", f"{posts}.delete"]
    for event, record in zip(events, (made, changed, changed), strict=True):
        assert event == {"type": event["type"], "timestamp": WHEN, "position": WHERE, "data": record}
    assert set(made) == {"id", "title", "stars", "account_id", "created_at", "created_by", "updated_at", "updated_by"}
    assert [place(event["position"]) for event in events] == [1, 2, 3]
    assert sorted(event["timestamp"] for event in events) == [event["timestamp"] for event in events]


async def test_every_subscriber_gets_the_same_timestamp_position_and_data(house: House) -> None:
    posts = await house.collection("title")
    me = await house.founder()
    them = [await house.follow(transport, me, posts) for transport in (*TRANSPORTS, *TRANSPORTS)]
    await me.create(posts, title="x")

    first, *others = [await one.next() for one in them]
    assert all(other == first for other in others)


@both
async def test_a_list_and_the_events_after_its_position_make_one_history(house: House, transport: str) -> None:
    posts = await house.collection("title")
    me = await house.founder()
    await me.create(posts, title="before")
    listener = await house.follow(transport, me, posts)
    answer = await me.request("POST", f"/records/{posts}", json={"title": "after"})
    event = await listener.next()
    listing = (await me.request("GET", f"/records/{posts}")).json()

    assert listing["position"] == answer.headers["x-snackbase-position"] == event["position"]
    assert event["data"] == answer.json()


# Which events --------------------------------------------------------------------------------------------------------


@both
async def test_operations_leave_out_the_others(house: House, transport: str) -> None:
    posts = await house.collection("title")
    me = await house.founder()
    listener = await house.follow(transport, me, {"collection": posts, "operations": ["create", "delete"]})
    made = await me.create(posts, title="a")
    await me.update(posts, made["id"], title="b")
    await me.delete(posts, made["id"])

    assert seen(await listener.take(2)) == [("create", None, "a"), ("delete", None, "b")]


@both
async def test_a_filter_makes_records_enter_and_leave(house: House, transport: str) -> None:
    posts = await house.collection("title", {"name": "stars", "type": "number"})
    me = await house.founder()
    good = {"collection": posts, "filter": "stars >= 3 && title !~ 'secret'"}
    listener = await house.follow(transport, me, good)
    made = await me.create(posts, title="low", stars=1)
    await me.create(posts, title="a secret", stars=5)
    await me.update(posts, made["id"], title="up", stars=3)
    await me.update(posts, made["id"], title="higher", stars=4)
    await me.update(posts, made["id"], title="null", stars=None)
    await me.create(posts, title="second", stars=3)

    assert seen(await listener.take(4)) == [
        ("create", "enter", "up"),
        ("update", None, "higher"),
        ("delete", "leave", made["id"]),
        ("create", None, "second"),
    ]
    assert listener.all[-2]["data"] == {"id": made["id"]}


@both
async def test_fields_cut_the_data_and_never_the_membership(house: House, transport: str) -> None:
    posts = await house.collection("title", "body")
    me = await house.founder()
    listener = await house.follow(transport, me, {"collection": posts, "fields": ["title"]})
    made = await me.create(posts, title="t", body="b")
    await me.update(posts, made["id"], body="other")
    await me.delete(posts, made["id"])

    assert [m["data"] for m in await listener.take(3)] == [{"id": made["id"], "title": "t"}] * 3


@both
async def test_list_fields_hide_a_field_from_members_and_not_from_a_superadmin(house: House, transport: str) -> None:
    posts = await house.collection("title", "hidden", list_fields=["title"])
    me = await house.founder()
    mine = await house.follow(transport, me, posts)
    theirs = await house.follow(transport, await house.superadmin(), posts, account=me.account["slug"])
    await me.create(posts, title="t", hidden="h")

    assert (await mine.next())["data"].keys() == {"id", "title"}
    assert (await theirs.next())["data"]["hidden"] == "h"


@both
async def test_a_list_rule_decides_who_hears_of_a_record(house: House, transport: str) -> None:
    posts = await house.collection("title", list_rule="@owns_record() || title = 'for all'")
    me = await house.founder()
    other = await house.member(me)
    mine, theirs = [await house.follow(transport, one, posts) for one in (me, other)]
    made = await me.create(posts, title="mine")
    await me.update(posts, made["id"], title="for all")
    await me.update(posts, made["id"], title="mine again")
    await other.create(posts, title="theirs")

    assert seen(await mine.take(3)) == [
        ("create", None, "mine"),
        ("update", None, "for all"),
        ("update", None, "mine again"),
    ]
    assert seen(await theirs.take(3)) == [
        ("create", "enter", "for all"),
        ("delete", "leave", made["id"]),
        ("create", None, "theirs"),
    ]


@both
async def test_every_named_subscription_gets_its_own_event_with_its_name(house: House, transport: str) -> None:
    posts = await house.collection("title")
    me = await house.founder()
    listener = await house.follow(
        transport,
        me,
        {"collection": posts},
        {"collection": posts, "id": "a", "filter": "title = 'x'"},
        {"collection": posts, "id": "b", "fields": ["id"]},
    )
    made = await me.create(posts, title="x")
    events = await listener.take(3)

    by_name = {event.get("subscription"): event["data"] for event in events}
    assert by_name == {None: made, "a": made, "b": {"id": made["id"]}}


@both
async def test_a_star_covers_every_collection_present_and_future_and_gives_way_to_unnamed_ones(
    house: House, transport: str
) -> None:
    posts, notes = await house.collection("title"), await house.collection("title")
    locked = await house.collection("title", list_rule=None, create_rule="")
    me = await house.founder()
    listener = await house.follow(transport, me, "*", {"collection": posts})
    later = await house.collection("title")
    for name in (posts, notes, locked, later):
        await me.create(name, title=name)

    found = [(m["type"], m.get("subscription")) for m in await listener.take(3)]
    assert found == [(f"{posts}.create", None), (f"{notes}.create", "*"), (f"{later}.create", "*")]


@both
async def test_a_star_takes_filters_and_fields_on_system_fields(house: House, transport: str) -> None:
    posts = await house.collection("title")
    silent = await house.collection("title", list_fields=["title"])
    me = await house.founder()
    other = await house.member(me)
    listener = await house.follow(
        transport,
        me,
        {"collection": "*", "filter": "created_by = @request.auth.id"},
        {"collection": "*", "id": "cut", "fields": ["created_by"]},
    )
    theirs = await other.create(posts, title="theirs")
    hidden = await me.create(silent, title="its author may not be known")
    made = await me.create(posts, title="mine")

    found = [(m["subscription"], m["data"]) for m in await listener.take(4)]
    assert sorted(found, key=str) == sorted(
        [
            ("*", made),
            ("cut", {"id": theirs["id"], "created_by": other.id}),
            ("cut", {"id": hidden["id"]}),
            ("cut", {"id": made["id"], "created_by": me.id}),
        ],
        key=str,
    )


async def test_unsubscribing_the_star_or_one_name_leaves_the_others(house: House) -> None:
    posts = await house.collection("title")
    me = await house.founder()
    socket = await house.socket(me)
    await socket.subscribe("*")
    await socket.subscribe(posts, id="named")
    await socket.subscribe(posts)
    await socket.ask("unsubscribe", collection=posts)
    await me.create(posts, title="1")
    assert {m.get("subscription") for m in await socket.take(2)} == {"*", "named"}

    await socket.ask("unsubscribe", collection="*")
    await me.create(posts, title="2")
    await me.create(posts, title="3")
    assert [(m["subscription"], m["data"]["title"]) for m in await socket.take(2)] == [("named", "2"), ("named", "3")]


async def test_subscribing_again_replaces_operations_filter_and_fields(house: House) -> None:
    posts = await house.collection("title")
    me = await house.founder()
    socket = await house.socket(me)
    await socket.subscribe(posts, operations=["delete"], filter="title = 'never'")
    await socket.subscribe(posts, fields=["title"])
    made = await me.create(posts, title="x")
    await me.update(posts, made["id"], title="y")

    assert [m["data"] for m in await socket.take(2)] == [{"id": made["id"], "title": t} for t in "xy"]


# Transactions --------------------------------------------------------------------------------------------------------


def assert_one_transaction(events: list[dict[str, Any]]) -> None:
    """Counted for this subscription; only the last one has a position."""
    assert len({event["tx"] for event in events}) == 1
    assert {event["tx_size"] for event in events} == {len(events)}
    assert ["position" in event for event in events] == [False] * (len(events) - 1) + [True]
    assert len({event["timestamp"] for event in events}) == 1


@both
async def test_a_batch_comes_as_one_group_whose_last_event_alone_has_a_position(house: House, transport: str) -> None:
    posts = await house.collection("title")
    me = await house.founder()
    listener = await house.follow(transport, me, posts)
    made = await me.create_all(posts, *({"title": str(n)} for n in range(100)))
    await me.batch("PATCH", posts, records=[{"id": one["id"], "data": {"title": "new"}} for one in made[:3]])
    await me.batch("DELETE", posts, ids=[one["id"] for one in made[:2]])

    for operation, records in (("create", made), ("update", made[:3]), ("delete", made[:2])):
        events = await listener.take(len(records))
        assert [(e["type"], e["data"]["id"]) for e in events] == [(f"{posts}.{operation}", r["id"]) for r in records]
        assert_one_transaction(events)
    assert place(listener.all[-1]["position"]) == 105


@both
async def test_a_transaction_counts_what_this_subscription_receives(house: House, transport: str) -> None:
    posts = await house.collection("title")
    me = await house.founder()
    listener = await house.follow(transport, me, {"collection": posts, "filter": "title = 'a' || title = 'b'"})
    await me.create_all(posts, {"title": "x"}, {"title": "a"}, {"title": "y"}, {"title": "b"}, {"title": "z"})
    await me.create_all(posts, {"title": "x"}, {"title": "a"}, {"title": "y"})

    two = await listener.take(2)
    assert_one_transaction(two)
    one = await listener.next()
    assert "tx" not in one and "tx_size" not in one and place(one["position"]) == 8


@both
async def test_a_batch_that_fails_at_its_last_record_announces_nothing(house: House, transport: str) -> None:
    posts = await house.collection({"name": "title", "type": "text", "required": True})
    me = await house.founder()
    listener = await house.follow(transport, me, posts)
    await me.request("POST", f"/records/{posts}/batch", json={"records": [{"title": "a"}, {"title": None}]}, status=422)
    await me.create(posts, title="next")

    event = await listener.next()
    assert (event["data"]["title"], place(event["position"])) == ("next", 1)


@both
async def test_what_a_deletion_takes_with_it_is_announced_in_the_same_transaction(house: House, transport: str) -> None:
    authors = await house.collection("title")

    def reference(on_delete: str) -> dict[str, Any]:
        return {"name": "author", "type": "reference", "collection": authors, "on_delete": on_delete}

    posts = await house.collection("title", reference("cascade"))
    notes = await house.collection("title", reference("set_null"))
    me = await house.founder()
    author = await me.create(authors, title="author")
    post = await me.create(posts, title="post", author=author["id"])
    note = await me.create(notes, title="note", author=author["id"])
    listener = await house.follow(transport, me, "*")
    await me.delete(authors, author["id"])

    events = await listener.take(3)
    assert_one_transaction(events)
    assert {(e["type"], e["data"]["id"]) for e in events} == {
        (f"{authors}.delete", author["id"]),
        (f"{posts}.delete", post["id"]),
        (f"{notes}.update", note["id"]),
    }
    assert next(e for e in events if e["type"] == f"{notes}.update")["data"]["author"] is None


@both
async def test_a_transaction_larger_than_what_may_wait_unsent_arrives_live_and_on_return(
    house: House, transport: str
) -> None:
    """Eight times the limit of a connection: who reads gets it whole, and nobody is ended for it again and again."""
    rooms = await house.collection("title")
    room = {"name": "room", "type": "reference", "collection": rooms, "on_delete": "cascade"}
    notes = await house.collection("text", room)
    me = await house.founder()
    full = await me.create(rooms, title="full")
    ids = {(await me.create(notes, room=full["id"], text="x" * 200_000))["id"] for _ in range(40)}
    listener = await house.follow(transport, me, notes)
    before = listener.all[-1]["position"]
    await me.delete(rooms, full["id"])
    await me.create(notes, text="small")

    back = await house.follow(transport, me, {"collection": notes, "since": before})
    for one in (listener, back):
        told = await one.take(40)
        assert {event["data"]["id"] for event in told} == ids
        assert {(event["type"], event["tx_size"]) for event in told} == {(f"{notes}.delete", 40)}
        assert ["position" in event for event in told] == [False] * 39 + [True]
        assert (await one.next())["data"]["text"] == "small"
    assert (await back.next())["type"] == "caught_up"


@both
async def test_a_restricted_deletion_announces_nothing(house: House, transport: str) -> None:
    authors = await house.collection("title")
    posts = await house.collection(
        "title", {"name": "author", "type": "reference", "collection": authors, "on_delete": "restrict"}
    )
    me = await house.founder()
    author = await me.create(authors, title="author")
    await me.create(posts, title="post", author=author["id"])
    listener = await house.follow(transport, me, "*")
    await me.request("DELETE", f"/records/{authors}/{author['id']}", status=409)
    await me.update(authors, author["id"], title="still here")

    assert seen([await listener.next()]) == [("update", None, "still here")]


# Accounts ------------------------------------------------------------------------------------------------------------


@both
async def test_a_superadmins_records_and_events_belong_to_the_account_acted_in(house: House, transport: str) -> None:
    posts = await house.collection("title")
    me, root = await house.founder(), await house.superadmin()
    mine = await house.follow(transport, me, posts)
    home = await house.follow(transport, root, posts)
    watching = await house.follow(transport, root, posts, account=me.account["account_code"])
    for reference in (me.account["slug"], me.account["account_code"]):
        answer = await root.request(
            "POST", f"/records/{posts}", json={"title": reference}, headers={"x-account-id": reference}
        )
        assert answer.json()["account_id"] == me.account_id
    await root.create(posts, title="at home")

    for listener in (mine, watching):
        assert [m["data"]["title"] for m in await listener.take(2)] == [me.account["slug"], me.account["account_code"]]
    assert (await home.next())["data"]["title"] == "at home"


@both
async def test_a_superadmin_passes_rules_and_hidden_fields_but_not_a_filter(house: House, transport: str) -> None:
    posts = await house.collection("title", "hidden", list_rule=None, list_fields=["title"])
    me, root = await house.founder(), await house.superadmin()
    slug, filter_ = me.account["slug"], "hidden = 'yes'"
    watching = await house.follow(transport, root, {"collection": posts, "filter": filter_}, account=slug)
    await me.create(posts, title="left out", hidden="no")
    await me.create(posts, title="wanted", hidden="yes")

    assert (await watching.next())["data"]["title"] == "wanted"
    acting = {"x-account-id": slug}
    listing = await root.request("GET", f"/records/{posts}", params={"filter": filter_}, headers=acting)
    assert [one["title"] for one in listing.json()["items"]] == ["wanted"]


@both
async def test_nobody_else_watches_another_account(house: House, transport: str) -> None:
    me, stranger = await house.founder(), await house.founder()
    account = {"account": stranger.account["slug"]}
    refused = await (
        house.refused_stream(me, *account.items()) if transport == "sse" else house.refused_socket(me, query=account)
    )

    assert (refused.status, refused.code) == (403, "forbidden")


async def test_a_superadmin_who_names_an_account_that_is_not_there_is_told_so(house: House) -> None:
    root, nowhere = await house.superadmin(), {"account": "nowhere-at-all"}
    for refused in (
        await house.refused_socket(root, query=nowhere),
        await house.refused_stream(root, *nowhere.items()),
    ):
        assert (refused.status, refused.code) == (404, "account_not_found")

    at_once = await house.socket(root, query=nowhere, subprotocols=["snackbase.v1"])
    by_message = await house.socket(None, query=nowhere, subprotocols=["snackbase.v1"])
    await by_message.send({"action": "auth", "token": root.token})
    for socket in (at_once, by_message):
        told = (await socket.rest())[-1]
        assert (told["type"], told["code"], told["close_code"]) == ("error", "account_disabled", 4504)
        assert await socket.ended() == (4504, "account_disabled")


async def test_nothing_but_json_objects_with_a_type_is_ever_sent(house: House) -> None:
    posts = await house.collection("title")
    me = await house.founder()
    socket = await house.socket(me)
    for message in ("x", {"action": "ping"}, {"action": "subscribe", "collection": posts}, {"action": "nothing"}):
        await socket.send(message if isinstance(message, str) else json.dumps(message))
    await me.create(posts, title="line\u2028break\n\r\t\U0001f600")

    messages = await socket.take(5)
    assert all(isinstance(m["type"], str) for m in messages)
    assert messages[-1]["data"]["title"] == "line\u2028break\n\r\t\U0001f600"
