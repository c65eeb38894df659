"""hub/: subscriptions, events, rights and ends of connections, over a real store."""

import asyncio
import time
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from snackbase import errors
from snackbase.hooks import HookAbort
from snackbase.hub import Refused
from snackbase.hub.hub import PART_AT_ONCE
from snackbase.model import Field, FieldType, Position, Rules
from snackbase.storage.base import Control
from tests.storage.support import creating, deleting, text, updating

from .support import SSE, Client, House, house, person

RULES_OWNER = Rules(list_rule="owner = @request.auth.id", view_rule="", create_rule="", update_rule="", delete_rule="")


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path, realtime_heartbeat_seconds=3600) as made:
        yield made


async def subscribed(home: House, name: str = "ann", account: str | None = None, **request: Any) -> Client:
    client = await home.client(person(name, account or await home.account(f"of-{name}")))
    client.send(action="subscribe", collection="posts", **request)
    return client


async def test_a_subscriber_receives_what_commits_after_its_acknowledgement(home: House) -> None:
    posts = await home.collection("posts", text("title"))
    account = await home.account("acme")
    await home.write(account, creating(posts, {"title": "before"}))
    client = await subscribed(home, account=account)
    (ack,) = client.messages()
    assert (ack["type"], ack["status"], ack["collection"]) == ("subscribed", "subscribed", "posts")
    assert ack["operations"] == ["create", "update", "delete"]
    committed = await home.write(account, creating(posts, {"title": "New Post"}))
    await client.until_types("posts.create")
    (event,) = client.events()
    assert event["data"] == committed.written[0]
    parsed = home.positions.parse(event["position"])
    assert parsed is not None
    assert parsed.seq == 2


async def test_who_was_told_of_a_commit_and_then_subscribes_begins_after_it(home: House) -> None:
    posts = await home.collection("posts", text("title"))
    account = await home.account("acme")
    client = await home.client(person("ann", account))
    await home.write(account, creating(posts, {"title": "before"}))
    await asyncio.sleep(0)  # the announcement is made but not yet routed: a client's message may come in between
    client.send(action="subscribe", collection="posts")
    await home.write(account, creating(posts, {"title": "after"}))
    await client.until_types("posts.create")
    ack, event = client.messages()
    parsed = home.positions.parse(ack["position"])
    assert parsed is not None
    assert (parsed.seq, event["data"]["title"]) == (1, "after")


async def test_events_never_cross_accounts(home: House) -> None:
    posts = await home.collection("posts", text("title"))
    one, two = await home.account("one"), await home.account("two")
    first, second = await subscribed(home, "ann", one), await subscribed(home, "bob", two)
    await home.write(one, creating(posts, {"title": "1"}))
    await home.write(two, creating(posts, {"title": "2"}))
    await first.until_types("posts.create")
    await second.until_types("posts.create")
    assert [e["data"]["title"] for e in first.events()] == ["1"]
    assert [e["data"]["title"] for e in second.events()] == ["2"]


async def test_a_resubscribe_replaces_and_never_counts_twice(home: House) -> None:
    posts = await home.collection("posts", text("title"))
    account = await home.account("acme")
    client = await subscribed(home, account=account)
    for _ in range(150):
        client.send(action="ping")
        client.send(action="subscribe", collection="posts", operations=["delete"])
        client.connection._bucket = type(client.connection._bucket)(0.0, 200)
    assert len(client.connection.subscriptions) == 1
    committed = await home.write(account, creating(posts))
    await home.write(account, deleting(posts, committed.written[0]["id"]))
    await client.until_types("posts.delete")
    assert [e["type"] for e in client.events()] == ["posts.delete"]


async def test_the_101st_subscription_is_refused_and_the_connection_stays(home: House) -> None:
    await home.collection("posts")
    client = await subscribed(home)
    for number in range(100):
        client.send(action="subscribe", collection="posts", id=f"s{number}")
    await client.until(lambda: client.connection.inbox is None)
    error = client.messages("error")[0]
    assert (error["code"], error["collection"], error["id"]) == ("subscription_limit", "posts", "s99")
    assert len(client.connection.subscriptions) == 100
    client.send(action="subscribe", collection="posts", id="s5")
    client.send(action="ping")
    await client.until_types("pong")
    assert len(client.messages("error")) == 1


async def test_unsubscribing_ends_the_events_and_unknown_ones_are_acknowledged(home: House) -> None:
    posts = await home.collection("posts")
    account = await home.account("acme")
    client = await subscribed(home, account=account, id="mine")
    client.send(action="unsubscribe", collection="posts")
    client.send(action="unsubscribe", id="mine")
    replies = client.messages("unsubscribed")
    assert [(r["collection"], r.get("id"), r["status"]) for r in replies] == [
        ("posts", None, "unsubscribed"),
        ("posts", "mine", "unsubscribed"),
    ]
    await home.write(account, creating(posts))
    await asyncio.sleep(0)
    assert client.events() == []


async def test_one_list_over_everything_covers_collections_that_come_later_and_gives_way_to_unnamed_ones(
    home: House,
) -> None:
    posts = await home.collection("posts")
    account = await home.account("acme")
    client = await home.client(person("ann", account))
    client.send(action="subscribe", collection="*")
    client.send(action="subscribe", collection="posts")
    notes = await home.collection("notes")
    await home.write(account, creating(posts), creating(notes))
    await client.until(lambda: len(client.events()) == 2)
    assert sorted((e["type"], e.get("subscription")) for e in client.events()) == [
        ("notes.create", "*"),
        ("posts.create", None),
    ]
    client.send(action="unsubscribe", collection="posts")
    await home.write(account, creating(posts))
    await client.until(lambda: len(client.events()) == 3)
    assert client.events()[-1]["subscription"] == "*"


async def test_members_under_the_default_rule_share_one_group(home: House) -> None:
    members = '@request.auth.id != ""'
    rules = Rules(list_rule=members, view_rule=members, create_rule=None, update_rule=None, delete_rule=None)
    await home.collection("posts", rules=rules)
    account = await home.account("acme")
    clients = [await subscribed(home, name, account) for name in ("ann", "bob", "cid")]
    live = home.hub.feeds.get(account)
    assert live is not None
    assert len(list(live.groups())) == 1
    assert live.members == len(clients)


async def test_only_the_owner_hears_of_a_record_under_an_owner_rule(home: House) -> None:
    posts = await home.collection("posts", text("owner"), rules=RULES_OWNER)
    account = await home.account("acme")
    ann, bob = await subscribed(home, "ann", account), await subscribed(home, "bob", account)
    committed = await home.write(account, creating(posts, {"owner": "ann"}))
    await home.write(account, updating(posts, committed.written[0]["id"], {"owner": "bob"}))
    await bob.until_types("posts.create")
    assert [(e["type"], e.get("change")) for e in ann.events()] == [("posts.create", None), ("posts.delete", "leave")]
    assert [(e["type"], e.get("change")) for e in bob.events()] == [("posts.create", "enter")]


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ({"collection": "nothere"}, "collection_not_found"),
        ({"collection": "locked"}, "forbidden"),
        ({"collection": "posts", "filter": "titel = 'x'"}, "invalid_filter"),
        ({"collection": "posts", "filter": "hidden = 'x'"}, "invalid_filter"),
        ({"collection": "posts", "fields": ["nope"]}, "invalid_fields"),
        ({"collection": "posts", "fields": ["hidden"]}, "invalid_fields"),
        ({"collection": "*", "filter": "title = 'x'"}, "invalid_filter"),
    ],
)
async def test_a_subscription_that_cannot_be_is_refused_and_the_connection_stays(
    home: House, request_: dict[str, Any], code: str
) -> None:
    await home.collection("posts", text("title"), text("hidden"), list_fields=("title",))
    locked = Rules(list_rule=None, view_rule=None, create_rule=None, update_rule=None, delete_rule=None)
    await home.collection("locked", rules=locked)
    client = await home.client(person("ann", await home.account("acme")))
    client.send(action="subscribe", **request_)
    # A collection that is not known is looked for first.
    await client.until_types("error")
    error = client.messages()[-1]
    assert (error["type"], error["code"], error["action"]) == ("error", code, "subscribe")
    client.send(action="ping")
    await client.until_types("error", "pong")


async def test_a_filter_and_fields_cut_what_a_subscriber_receives(home: House) -> None:
    posts = await home.collection("posts", text("title"), text("hidden"), list_fields=("title", "created_at"))
    account = await home.account("acme")
    client = await subscribed(home, account=account, filter="title ~ 'a%'", fields=["title"], id="some")
    plain = await subscribed(home, "bob", account)
    await home.write(account, creating(posts, {"title": "abc", "hidden": "s3cret"}), creating(posts, {"title": "b"}))
    await plain.until(lambda: len(plain.events()) == 2)
    (event,) = client.events()
    assert set(event["data"]) == {"id", "title"}
    assert set(plain.events()[0]["data"]) == {"id", "title", "created_at"}
    assert b"s3cret" not in b"".join(client.link.written + plain.link.written)


async def test_a_changed_rule_is_in_force_at_once_and_told_as_resync(home: House) -> None:
    posts = await home.collection("posts", text("owner"))
    account = await home.account("acme")
    ann = await subscribed(home, "ann", account)
    posts = await home.alter(posts, rules=RULES_OWNER)
    await ann.until_types("resync")
    (resync,) = ann.messages("resync")
    assert (resync["reason"], resync["collection"]) == ("rights", "posts")
    await home.write(account, creating(posts, {"owner": "bob"}), creating(posts, {"owner": "ann"}))
    await ann.until_types("posts.create")
    assert [e["data"]["owner"] for e in ann.events()] == ["ann"]


async def test_a_locked_rule_and_a_deleted_collection_end_the_subscription_with_the_reason(home: House) -> None:
    posts, notes = await home.collection("posts"), await home.collection("notes")
    client = await subscribed(home)
    client.send(action="subscribe", collection="notes")
    await home.alter(posts, rules=Rules(list_rule=None, view_rule="", create_rule="", update_rule="", delete_rule=""))
    await client.until_types("unsubscribed")
    await home.drop(notes)
    await client.until_types("unsubscribed", "unsubscribed")
    replies = client.messages("unsubscribed")
    assert [(r["collection"], r["reason"]) for r in replies] == [
        ("posts", "forbidden"),
        ("notes", "collection_deleted"),
    ]
    assert client.connection.subscriptions == {}
    assert client.connection.held == 0


async def test_a_schema_change_that_alters_rows_is_a_resync_and_one_that_does_not_is_none(home: House) -> None:
    posts = await home.collection("posts", text("title"))
    account = await home.account("acme")
    client = await subscribed(home, account=account)
    posts = await home.alter(posts, fields=(*posts.fields, Field(name="more")))
    posts = await home.alter(posts, fields=(*posts.fields, Field(name="n", type=FieldType.NUMBER, default=3)))
    await client.until_types("resync")
    assert [m["reason"] for m in client.messages("resync")] == ["schema"]
    await home.write(account, creating(posts, {"title": "t", "more": None, "n": 4}))
    await client.until_types("posts.create")


async def test_a_changed_role_is_judged_anew_and_told_as_resync(home: House) -> None:
    rules = Rules(
        list_rule="@has_role('editor') || open = true", view_rule="", create_rule="", update_rule="", delete_rule=""
    )
    posts = await home.collection("posts", Field(name="open", type=FieldType.BOOLEAN), rules=rules)
    account = await home.account("acme")
    ann = await subscribed(home, "ann", account)
    home.people["ann"] = person("ann", account, role="editor")
    await home.write(account, controls=(Control(what="user_rights", subject="ann"),))
    await ann.until_types("resync")
    assert ann.messages("resync")[0]["reason"] == "rights"
    await home.write(account, creating(posts, {"open": False}))
    await ann.until_types("posts.create")


@pytest.mark.parametrize(
    ("control", "closing"),
    [
        (Control(what="user_disabled", subject="ann"), errors.USER_DISABLED),
        (Control(what="login_ended", subject="login of ann"), errors.TOKEN_REVOKED),
        (Control(what="logins_ended", subject="ann", data={"except": "another"}), errors.TOKEN_REVOKED),
        (Control(what="key_revoked", subject="ann"), errors.TOKEN_REVOKED),
    ],
)
async def test_when_a_principal_is_gone_its_connections_end_and_nobody_elses(
    home: House, control: Control, closing: errors.Closing
) -> None:
    await home.collection("posts")
    account = await home.account("acme")
    ann, bob = await subscribed(home, "ann", account), await subscribed(home, "bob", account)
    await home.write(account, controls=(control,))
    await ann.until(lambda: ann.link.closed is not None)
    assert ann.link.closed is closing
    assert ann.messages()[-1]["code"] == closing.code
    assert bob.link.closed is None
    assert home.hub.counts()["websocket"] == 1


async def test_a_kept_login_survives_the_end_of_the_others_and_a_disabled_account_ends_everybody(home: House) -> None:
    account = await home.account("acme")
    ann = await home.client(person("ann", account))
    await home.write(account, controls=(Control(what="logins_ended", subject="ann", data={"except": "login of ann"}),))
    await asyncio.sleep(0)
    assert ann.link.closed is None
    await home.write(account, controls=(Control(what="account_disabled", subject=account),))
    await ann.until(lambda: ann.link.closed is not None)
    assert ann.link.closed is errors.ACCOUNT_DISABLED


async def test_a_superadmin_watching_an_account_ends_when_their_own_row_says_so(home: House) -> None:
    posts = await home.collection("posts")
    own, watched = await home.account("own"), await home.account("watched")
    boss = person("boss", own, superadmin=True)
    boss.principal = type(boss.principal)(**{**_facts(boss.principal), "account_id": watched})
    client = await home.client(boss, account="watched")
    client.send(action="subscribe", collection="posts")
    await home.write(watched, creating(posts))
    await client.until_types("posts.create")
    await home.write(own, controls=(Control(what="user_disabled", subject="boss"),))
    await client.until(lambda: client.link.closed is not None)
    assert client.link.closed is errors.USER_DISABLED


def _facts(value: Any) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__struct_fields__}


async def test_the_first_message_may_carry_the_token(home: House) -> None:
    await home.collection("posts")
    client = await home.client(None)
    home.people["ann"] = person("ann", await home.account("acme"))
    client.send(action="subscribe", collection="posts")
    assert client.messages()[-1]["code"] == "not_authenticated"
    client.send(action="auth", token="ann", id="1")
    client.send(action="subscribe", collection="posts")
    await client.until_types("auth", "subscribed")
    assert client.messages("auth")[0]["status"] == "ok"


async def test_a_wrong_first_token_ends_the_connection(home: House) -> None:
    client = await home.client(None)
    client.send(action="auth", token="nobody")
    await client.until(lambda: client.link.closed is not None)
    assert client.link.closed is errors.TOKEN_INVALID


async def test_a_fresh_token_is_taken_in_place_and_anothers_is_refused_while_the_old_one_stays(home: House) -> None:
    account = await home.account("acme")
    client = await home.client(person("ann", account))
    home.people["bob"] = person("bob", account)
    client.send(action="auth", token="bob")
    await client.until_types("error")
    assert client.messages()[-1]["code"] == "auth_mismatch"
    client.send(action="auth", token="ann")
    await client.until_types("auth")
    assert client.link.closed is None


async def test_a_heartbeat_carries_the_position_up_to_which_everything_was_sent(tmp_path: Path) -> None:
    async with house(tmp_path, realtime_heartbeat_seconds=0.2) as home:
        posts = await home.collection("posts")
        account = await home.account("acme")
        client = await home.client(person("ann", account), wire=SSE)
        client.send(action="subscribe", collection="posts", operations=["delete"])
        await home.write(account, creating(posts), creating(posts))
        await client.until(lambda: _seqs(home, client)[-1:] == [2])
        assert client.events() == []
        assert client.lines()[-1].startswith(b"id ")


def _seqs(home: House, client: Client) -> list[int]:
    tokens = [home.positions.parse(m["position"]) for m in client.messages("heartbeat")]
    return [token.seq for token in tokens if token is not None]


async def test_an_expired_token_ends_the_connection(home: House) -> None:
    who = person("ann", await home.account("acme"))
    who.claims = type(who.claims)(**{**_facts(who.claims), "expires_at": 1.0})
    client = await home.client(who)
    await client.until(lambda: client.link.closed is not None)
    assert client.link.closed is errors.TOKEN_EXPIRED


async def test_one_who_reads_too_slowly_is_ended_and_the_others_feel_nothing(home: House) -> None:
    posts = await home.collection("posts", text("title"))
    account = await home.account("acme")
    slow, quick = await subscribed(home, "ann", account), await subscribed(home, "bob", account)
    slow.link.stuck = (1 << 20) + 1000  # the last write itself does not count
    await home.write(account, creating(posts, {"title": "x"}))
    await quick.until_types("posts.create")
    await slow.until(lambda: slow.link.closed is not None)
    assert slow.link.closed is errors.SLOW_CONSUMER
    assert home.counters.closes == {"slow_consumer": 1}


async def test_who_was_left_out_because_too_much_was_made_is_ended_and_comes_back_for_it(
    home: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    posts = await home.collection("posts", text("title"))
    account = await home.account("acme")
    first, second = [await subscribed(home, "ann", account, id=name) for name in ("one", "two")]
    position = first.messages("subscribed")[0]["position"]
    monkeypatch.setattr("snackbase.realtime.fanout.MOST_MADE", 1)
    await home.write(account, creating(posts, {"title": "x"}))
    await second.until(lambda: second.link.closed is not None)
    assert second.link.closed is errors.SLOW_CONSUMER
    assert (len(first.events()), len(second.events())) == (1, 0)

    again = await home.client(person("ann", account))
    again.send(action="subscribe", collection="posts", id="two", since=position)
    await again.until_types("caught_up")
    assert [event["data"]["title"] for event in again.events()] == ["x"]


async def test_unsent_bytes_without_progress_end_a_connection(tmp_path: Path) -> None:
    async with house(tmp_path, realtime_stall_seconds=0.1, realtime_heartbeat_seconds=3600) as home:
        await home.collection("posts")
        client = await subscribed(home)
        client.link.stuck = 10
        client.send(action="ping")
        await client.until(lambda: client.link.closed is not None)
        assert client.link.closed is errors.SLOW_CONSUMER


async def test_whoever_still_takes_what_was_sent_is_not_asked_for_a_sign_of_life(tmp_path: Path) -> None:
    """A ping would stand behind the unsent bytes: a large transaction on a slow line took longer than a pong may."""
    often = {"realtime_ping_seconds": 0.05, "realtime_pong_seconds": 0.05, "realtime_heartbeat_seconds": 0.1}
    async with house(tmp_path, **often) as home:
        account = await home.account("acme")
        taking, silent = [await home.client(person(name, account)) for name in ("ann", "bob")]
        taking.link.pings = silent.link.pings = True
        taking.link.stuck = 10
        await silent.until(lambda: silent.link.closed is not None)
        seen = len(taking.messages("heartbeat"))
        await taking.until(lambda: len(taking.messages("heartbeat")) > seen + 3)
        assert (silent.link.closed, taking.link.closed) == (errors.HEARTBEAT_TIMEOUT, None)


async def test_the_budget_of_the_process_ends_the_worst_first(tmp_path: Path) -> None:
    settings = {"realtime_outbox_total_bytes": 1 << 20, "realtime_outbox_bytes": 1 << 20}
    async with house(tmp_path, realtime_heartbeat_seconds=3600, **settings) as home:
        account = await home.account("acme")
        clients = [await home.client(person(name, account)) for name in ("ann", "bob", "cid")]
        for client, stuck in zip(clients, (400_000, 500_000, 600_000), strict=True):
            client.link.stuck = stuck
            client.send(action="ping")
        await clients[2].until(lambda: clients[2].link.aborted)
        assert [client.link.closed is not None for client in clients] == [False, False, True]


async def test_the_limit_of_a_user_refuses_the_next_connection(tmp_path: Path) -> None:
    async with house(tmp_path, realtime_max_connections_per_user=2) as home:
        ann = person("ann", await home.account("acme"))
        first = await home.client(ann)
        await home.client(ann)
        with pytest.raises(Refused) as refused:
            await home.client(ann)
        assert refused.value.error.status == 429
        assert refused.value.closing is errors.CONNECTION_LIMIT
        first.connection.lost(1000, "")
        await home.client(ann)


async def test_a_transport_that_fails_takes_nobody_else_down(home: House) -> None:
    posts = await home.collection("posts")
    account = await home.account("acme")
    broken, sound = await subscribed(home, "ann", account), await subscribed(home, "bob", account)

    def fails(frames: object) -> int:
        raise RuntimeError("a defect of the transport")

    broken.link.write = fails  # type: ignore[method-assign]  # what no transport may do
    for _ in range(2):
        await home.write(account, creating(posts))
    await sound.until(lambda: len(sound.events()) == 2)
    assert broken.link.aborted
    assert home.hub.counts()["websocket"] == 1


async def test_subscriptions_that_every_event_is_judged_for_have_a_budget(tmp_path: Path) -> None:
    settings = {"realtime_max_judged_per_user": 3, "realtime_max_judged_per_account": 4}
    async with house(tmp_path, realtime_heartbeat_seconds=3600, **settings) as home:
        await home.collection("posts", text("title"))
        account = await home.account("acme")
        ann, bob = await home.client(person("ann", account)), await home.client(person("bob", account))

        async def ask(client: Client, number: int, filter_text: str) -> str:
            before = len(client.messages())
            client.send(action="subscribe", collection="posts", id=f"s{number}", filter=filter_text)
            await client.until(lambda: len(client.messages()) > before)
            return str(client.messages()[-1].get("code", client.messages()[-1]["type"]))

        assert [await ask(ann, n, f"title ~ '{n}%'") for n in range(4)] == ["subscribed"] * 3 + ["too_costly"]
        assert [await ask(ann, n, f"title = '{n}'") for n in range(10, 30)] == ["subscribed"] * 20, (
            "indexed ones are free"
        )
        assert [await ask(bob, n, f"title ~ '{n}%'") for n in (7, 8)] == ["subscribed", "too_costly"]
        assert await ask(bob, 9, "title ~ '1%'") == "subscribed", "a view that is judged anyway costs nothing more"
        ann.send(action="unsubscribe", id="s0")
        assert await ask(bob, 10, "title ~ '8%'") == "subscribed"
        live = home.hub.feeds.get(account)
        assert live is not None
        assert (live.costly, live.judged) == (4, {"ann": 2, "bob": 3})
        for client in (ann, bob):
            client.connection.lost(1000, "")
        assert (live.costly, live.judged) == (0, {})


async def test_the_budget_of_a_user_holds_also_for_what_begins_in_the_past(tmp_path: Path) -> None:
    async with house(tmp_path, realtime_heartbeat_seconds=3600, realtime_max_judged_per_user=3) as home:
        posts = await home.collection("posts", text("title"))
        account = await home.account("acme")
        await home.write(account, creating(posts, {"title": "x"}))
        client = await home.client(person("ann", account))
        start = home.positions.token(account, Position(0, 0, home.catalog.version))
        wanted = [{"collection": "posts", "id": f"s{n}", "filter": f"title ~ '{n}%'"} for n in range(6)]
        client.send(action="subscribe", since=start, subscriptions=wanted)
        await client.until(lambda: len(client.messages("caught_up")) == 3)

        assert [error["code"] for error in client.messages("error")] == ["too_costly"] * 3
        assert len(client.connection.subscriptions) == 3
        client.send(action="subscribe", since=start, collection="posts", id="s1", filter="title ~ 'other%'")
        await client.until(lambda: len(client.messages("caught_up")) == 4)
        assert len(client.messages("error")) == 3, "who replaces one has room for it"
        client.connection.lost(1000, "")
        await asyncio.sleep(0)
        assert home.hub.feeds.get(account) is None


async def test_what_a_filter_looks_through_counts_also_where_an_index_finds_the_view(tmp_path: Path) -> None:
    async with house(tmp_path, realtime_heartbeat_seconds=3600, realtime_max_judged_per_user=3) as home:
        await home.collection("posts", text("title"), text("owner"), Field(name="tags", type=FieldType.JSON))
        account = await home.account("acme")
        client = await home.client(person("ann", account))

        async def ask(name: str, *conditions: str) -> str:
            filter_text = " && ".join(("owner = @request.auth.id", *conditions))
            before = len(client.messages())
            client.send(action="subscribe", collection="posts", id=name, filter=filter_text)
            await client.until(lambda: len(client.messages()) > before)
            return str(client.messages()[-1].get("code", client.messages()[-1]["type"]))

        assert await ask("a", "title ~ 'x'", "'x' IN tags") == "subscribed"
        assert await ask("b", "title ~ 'x'", "title ~ 'y'") == "too_costly"
        assert await ask("b", "1 IN tags") == "too_costly", "numbers are compared one by one"
        assert await ask("b", "title ~ 'a_b%'") == "too_costly", "every place of the text may begin it"
        assert await ask("b", "created_by ~ 'x'", "title = 'y'", "id ~ 'z'") == "subscribed"
        assert await ask("a", "title ~ 'x'", "title ~ 'y'", "title ~ 'z'") == "subscribed", "it replaces the first"
        assert await ask("c", "title ~ 'x'") == "too_costly"
        client.send(action="unsubscribe", id="a")
        assert await ask("c", "title ~ 'x'") == "subscribed"


async def test_of_many_subscriptions_in_one_piece_a_few_are_made_in_one_turn_of_the_loop(home: House) -> None:
    await home.collection("posts", text("title"))
    client = await home.client(person("ann", await home.account("acme")))
    for number in range(60):
        client.send(action="subscribe", collection="posts", id=f"s{number}", filter=f"title = '{number}'")
    assert len(client.messages("subscribed")) < 20
    client.send(action="ping")
    await client.until_types("pong")
    assert [ack["id"] for ack in client.messages("subscribed")] == [f"s{number}" for number in range(60)]

    long = " || ".join(f"title = '{number}'" for number in range(100))
    client.send(action="subscribe", collection="posts", id="long", filter=long)
    assert len(client.messages("subscribed")) == 60
    await client.until(lambda: client.messages("subscribed")[-1]["id"] == "long")

    many = [{"collection": "posts", "id": "one", "filter": f"title = '{number}'"} for number in range(200)]
    client.send(action="subscribe", subscriptions=many)
    for _ in range(2):
        await asyncio.sleep(0)
    assert len(client.messages("subscribed")) < 61 + 40
    await client.until(lambda: len(client.messages("subscribed")) == 61 + 200)
    assert len(client.connection.subscriptions) == 62


async def test_large_messages_that_wait_for_an_earlier_one_stop_the_reading_long_before_small_ones_do(
    home: House,
) -> None:
    await home.collection("posts", text("title"))
    client = await home.client(person("ann", await home.account("acme")))
    home.read.shut()
    client.send(action="subscribe", collection="posts", snapshot=True)
    await asyncio.wait_for(home.read.met.wait(), 10)
    many = [{"collection": "posts", "id": "one", "filter": f"title = '{number}'"} for number in range(800)]
    paused = []
    for _ in range(4):
        client.send(action="subscribe", subscriptions=many)
        paused.append(client.link.paused)
    assert paused == [False, False, True, True]

    home.read.open()
    await client.until(lambda: client.connection.inbox is None)
    assert not client.link.paused
    assert len(client.connection.subscriptions) == 2


async def test_a_connection_that_is_lost_is_forgotten_once(home: House) -> None:
    await home.collection("posts")
    client = await subscribed(home)
    client.connection.lost(1006, "")
    client.connection.lost(1006, "")
    assert home.counters.closes == {"lost": 1}
    assert home.hub.counts() == {"websocket": 0, "sse": 0}
    assert len(home.hub.feeds) == 0


async def test_draining_ends_everybody_with_the_time_to_come_back_and_refuses_new_ones(home: House) -> None:
    client = await home.client(person("ann", await home.account("acme")))
    await home.hub.drain(0.2)
    assert client.link.closed is errors.RESTARTING
    assert client.messages()[-1]["retry_after_ms"] >= 200
    with pytest.raises(Refused):
        await home.client(person("ann", await home.account("other")))


async def test_repeated_nonsense_ends_the_connection(home: House) -> None:
    client = await home.client(person("ann", await home.account("acme")))
    for _ in range(20):
        client.connection.receive(b"nonsense")
    assert client.link.closed is errors.BAD_REQUEST
    assert len(client.messages("error")) == 21


async def test_hooks_of_the_page_fire_with_their_parameters(home: House) -> None:
    seen: list[tuple[Any, ...]] = []

    @home.hooks.on_realtime_connect()
    async def connected(connection_id: str, user_id: str, account_id: str, transport: str) -> None:
        seen.append(("connect", connection_id, user_id, account_id, transport))

    @home.hooks.on_realtime_subscribe()
    async def subscribes(connection_id: str, user_id: str, collection: str, operations: list[str]) -> None:
        seen.append(("subscribe", connection_id, user_id, collection, operations))

    @home.hooks.on_realtime_message()
    async def message(connection_id: str, message: dict[str, Any]) -> None:
        seen.append(("message", message["action"]))

    unsubscribed, left = asyncio.Event(), asyncio.Event()

    @home.hooks.on_realtime_unsubscribe()
    async def unsubscribes(connection_id: str, collection: str) -> None:
        seen.append(("unsubscribe", connection_id, collection))
        unsubscribed.set()

    @home.hooks.on_realtime_disconnect()
    async def disconnected(connection_id: str, user_id: str, code: int, reason: str) -> None:
        seen.append(("disconnect", connection_id, user_id, code, reason))
        left.set()

    await home.collection("posts")
    account = await home.account("acme")
    client = await subscribed(home, "ann", account, operations=["create"])
    client.send(action="unsubscribe", collection="posts")
    async with asyncio.timeout(5):
        await unsubscribed.wait()
        client.connection.lost(1000, "bye")
        await left.wait()
    own = client.connection.id
    assert seen == [
        ("connect", own, "ann", account, "websocket"),
        ("message", "subscribe"),
        ("subscribe", own, "ann", "posts", ["create"]),
        ("message", "unsubscribe"),
        ("unsubscribe", own, "posts"),
        ("disconnect", own, "ann", 1000, "bye"),
    ]


async def test_many_who_go_at_once_are_taken_off_a_few_in_each_turn_of_the_loop_and_their_hooks_run(
    home: House,
) -> None:
    left: list[int] = []

    @home.hooks.on_realtime_disconnect()
    def disconnected(code: int) -> None:
        left.append(code)

    account = await home.account("acme")
    clients = [await home.client(person(f"user{number}", account)) for number in range(300)]
    following = clients[0].connection.feed.connections
    for number, client in enumerate(clients):
        client.connection.lost(number, "")
    assert home.hub.size == 0
    sizes = [len(following)]
    while following:
        await asyncio.sleep(0)
        sizes.append(len(following))

    assert max(before - after for before, after in pairwise([300, *sizes])) == PART_AT_ONCE
    async with asyncio.timeout(5):
        while len(left) < len(clients):  # noqa: ASYNC110 - they run in threads
            await asyncio.sleep(0.01)
    assert sorted(left) == list(range(300))


async def test_the_place_of_one_who_went_is_free_at_once_however_many_went(tmp_path: Path) -> None:
    async with house(tmp_path, realtime_max_connections_per_user=5) as home:
        account = await home.account("acme")
        clients = [await home.client(person(f"user{number}", account)) for number in range(20) for _ in range(5)]
        for client in clients:
            client.connection.lost(1006, "")

        for number in range(20):
            for _ in range(5):
                await home.client(person(f"user{number}", account))
        assert home.hub.size == 100


async def test_of_one_whose_connection_was_cut_nothing_more_is_served(home: House) -> None:
    served: list[str] = []

    @home.hooks.on_realtime_message()
    async def message(message: dict[str, Any]) -> None:
        served.append(message["id"])

    account = await home.account("acme")
    others = [await home.client(person(f"user{number}", account)) for number in range(100)]
    client = await home.client(person("ann", account))
    for number in range(3):
        client.send(action="ping", id=f"{number}")
    for other in others:
        other.connection.lost(1006, "")
    client.connection.cut()
    while any(task.get_name() == "realtime-messages" for task in home.tasks):  # noqa: ASYNC110 - it ends by itself
        await asyncio.sleep(0)

    assert served == []


async def test_who_sent_a_token_in_time_is_not_ended_for_how_long_it_is_looked_at(tmp_path: Path) -> None:
    async with house(tmp_path, realtime_auth_seconds=0.2) as home:
        who = person("ann", await home.account("acme"))
        home.people["ann"] = who
        asked, looked_at = asyncio.Event(), asyncio.Event()

        @home.hooks.on_realtime_connect()
        async def slow() -> None:
            asked.set()
            await looked_at.wait()

        client = await home.client(None)
        client.send(action="auth", token="ann")
        await asked.wait()
        assert client.connection.tick(time.monotonic() + 3600, time.time()) is None
        looked_at.set()

        await client.until_types("auth")
        assert client.link.closed is None


async def test_connect_subscribe_and_message_hooks_can_refuse(home: House) -> None:
    await home.collection("posts")
    account = await home.account("acme")

    @home.hooks.on_realtime_connect()
    async def connect(user_id: str) -> None:
        if user_id == "eve":
            raise HookAbort("Not you.", "not_you")

    @home.hooks.on_realtime_subscribe(collection="posts")
    async def subscribe(filter: str | None) -> None:
        if filter is None:
            raise HookAbort("Give a filter.", "filter_needed")

    @home.hooks.on_realtime_message()
    def message(message: dict[str, Any]) -> None:
        if message["action"] == "ping":
            raise HookAbort("No pings.", "no_pings")

    with pytest.raises(Refused) as refused:
        await home.client(person("eve", account))
    assert (refused.value.error.code, refused.value.error.status) == ("not_you", 403)
    assert refused.value.closing == errors.Closing("not_you", 4501, "Not you.")
    client = await subscribed(home, "ann", account)
    client.send(action="ping")
    await client.until_types("error", "error")
    assert [m["code"] for m in client.messages("error")] == ["filter_needed", "no_pings"]
    assert client.connection.subscriptions == {}


async def test_a_hook_that_raises_or_hangs_takes_nothing_down(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        home.hooks.configure(timeout_s=0.05, threads=2, counters=home.counters)

        @home.hooks.on_realtime_connect()
        async def broken() -> None:
            raise RuntimeError("a defect of the app")

        @home.hooks.on_realtime_subscribe()
        async def hangs() -> None:
            await asyncio.Event().wait()

        await home.collection("posts")
        client = await subscribed(home)
        client.send(action="ping")
        await client.until_types("subscribed", "pong")
        assert home.counters.hook_failures
        assert home.counters.hook_timeouts


async def test_a_burst_of_commits_is_one_write_a_connection(home: House) -> None:
    posts = await home.collection("posts", text("title"))
    account = await home.account("acme")
    client = await subscribed(home, account=account)
    before = client.link.writes
    await home.write(account, *(creating(posts, {"title": str(n)}) for n in range(50)))
    await client.until(lambda: len(client.events()) == 50)
    assert client.link.writes == before + 1
    assert [e["data"]["title"] for e in client.events()] == [str(n) for n in range(50)]
