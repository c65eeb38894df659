"""What a subscriber hears when rights, rules or schemas change, or a position leads nowhere (contract §2, §3)."""

from typing import Any

import pytest

from tests.e2e.support import OPEN_RULES, TRANSPORTS, WHERE, House, Member, Messages, seen

both = pytest.mark.parametrize("transport", TRANSPORTS)


# Rights that change --------------------------------------------------------------------------------------------------


async def rules(root: Member, collection: str, **changed: Any) -> None:
    await root.request("PUT", f"/collections/{collection}", json=changed)


def assert_resync(message: dict[str, Any], collection: str, reason: str) -> None:
    facts = {"reason": reason, "collection": collection, "position": WHERE}
    assert message == {"type": "resync", **facts, "data": facts}


@both
async def test_a_changed_rule_is_told_as_resync_and_in_force_at_once(house: House, transport: str) -> None:
    posts = await house.collection("title")
    me = await house.founder()
    listener = await house.follow(transport, me, posts)
    await rules(await house.superadmin(), posts, list_rule="title = 'seen'")
    await me.create(posts, title="unseen")
    await me.create(posts, title="seen")

    resync, event = await listener.take(2)
    assert_resync(resync, posts, "rights")
    assert seen([event]) == [("create", None, "seen")]


@both
async def test_a_rule_that_is_locked_ends_the_subscription_as_forbidden(house: House, transport: str) -> None:
    posts, notes = await house.collection("title"), await house.collection("title")
    me = await house.founder()
    listener = await house.follow(transport, me, posts, notes)
    await rules(await house.superadmin(), posts, list_rule=None)
    await me.create(posts, title="unheard")
    await me.create(notes, title="heard")

    ended, event = await listener.take(2)
    assert ended == {"type": "unsubscribed", "status": "unsubscribed", "collection": posts, "reason": "forbidden"}
    assert seen([event]) == [("create", None, "heard")]


@both
async def test_a_deleted_collection_ends_its_subscription_and_a_new_one_of_its_name_is_another(
    house: House, transport: str
) -> None:
    posts, notes = await house.collection("title"), await house.collection("title")
    me, root = await house.founder(), await house.superadmin()
    listener = await house.follow(transport, me, posts, notes)
    await root.request("DELETE", f"/collections/{posts}")
    await house.collection("title", name=posts)
    await me.create(posts, title="unheard")
    await me.create(notes, title="heard")

    ended, event = await listener.take(2)
    assert (ended["type"], ended["collection"], ended["reason"]) == ("unsubscribed", posts, "collection_deleted")
    assert seen([event]) == [("create", None, "heard")]


@both
async def test_a_schema_change_that_alters_rows_is_a_resync(house: House, transport: str) -> None:
    posts = await house.collection("title")
    me = await house.founder()
    await me.create(posts, title="old")
    listener = await house.follow(transport, me, posts)
    stars = {"name": "stars", "type": "number", "default": 3}
    await rules(await house.superadmin(), posts, schema=[{"name": "title", "type": "text"}, stars])
    await me.create(posts, title="new")

    resync, event = await listener.take(2)
    assert_resync(resync, posts, "schema")
    assert event["data"]["stars"] == 3


@both
async def test_a_changed_role_is_told_as_resync_only_where_it_matters(house: House, transport: str) -> None:
    posts = await house.collection("title", list_rule="@has_role('admin') || @has_group('editors')")
    notes = await house.collection("title")
    me = await house.founder()
    other = await house.member(me)
    listener = await house.follow(transport, other, posts, notes)
    await me.create(posts, title="unseen")
    await me.request("PATCH", f"/users/{other.id}", json={"groups": ["editors"]})

    assert_resync(await listener.next(), posts, "rights")
    await me.create(notes, title="as before")
    await me.create(posts, title="seen")
    assert [m["data"]["title"] for m in await listener.take(2)] == ["as before", "seen"]


# Positions that cannot be replayed -----------------------------------------------------------------------------------


async def foreign_position(house: House) -> str:
    stranger, posts = await house.founder(), await house.collection("title", **OPEN_RULES)
    for _ in range(2):
        await stranger.create(posts, title="x")
    return str((await stranger.request("GET", f"/records/{posts}")).json()["position"])


@both
@pytest.mark.parametrize("kind", ["unreadable", "another_accounts", "another_historys"])
async def test_a_position_that_is_not_of_this_history_is_one_resync(house: House, transport: str, kind: str) -> None:
    posts = await house.collection("title")
    me = await house.founder()
    for _ in range(3):
        await me.create(posts, title="x")
    mine = (await me.request("GET", f"/records/{posts}")).json()["position"]
    since, reason = {
        "unreadable": ("nonsense!", "unknown"),
        "another_accounts": (await foreign_position(house), "unknown"),
        "another_historys": (".".join(["f" * 12, *mine.split(".")[1:]]), "epoch"),
    }[kind]
    listener: Messages
    if transport == "sse":
        listener = await house.stream(me, ("collection", posts), ("since", since))
    else:
        listener = socket = await house.socket(me)
        await socket.send({"action": "subscribe", "collection": posts, "since": since})

    subscribed, resync = await listener.take(2)
    assert subscribed["type"] == "subscribed"
    assert_resync(resync, posts, reason)
    await me.create(posts, title="live")
    assert seen([await listener.next()]) == [("create", None, "live")]


@both
async def test_the_newest_position_is_caught_up_at_once(house: House, transport: str) -> None:
    posts = await house.collection("title")
    me = await house.founder()
    await me.create(posts, title="x")
    since = (await me.request("GET", f"/records/{posts}")).json()["position"]
    listener = await house.follow(transport, me, {"collection": posts, "since": since, "id": "mine"})

    told = await listener.next()
    assert (told["type"], told["collection"], told["position"], told["id"]) == ("caught_up", posts, since, "mine")
