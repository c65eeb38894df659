"""While a subscription is judged anew changes are routed past it: it is told them afterwards, or told to refetch."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from snackbase.hub.rights import SLICE
from snackbase.model import Change, Collection, Field, Rules
from tests.storage import support as rows
from tests.storage.support import creating, text

from .support import SSE, WEBSOCKET, Client, House, house, person

OWNED = Rules(list_rule="owner = @request.auth.id", view_rule="", create_rule="", update_rule="", delete_rule="")


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path, realtime_heartbeat_seconds=3600) as made:
        yield made


class Outbox:
    """Keeps what the store tells, and tells the hub all of it within one turn of the loop, rules and schemas first.

    So it comes from another node, whose rows are read from the log and routed with no pause after its rules.
    """

    def __init__(self, home: House) -> None:
        self._home = home
        self._changes: list[Sequence[Change]] = []
        self._schemas: list[tuple[int, tuple[Collection, ...]]] = []
        self._told = asyncio.Event()
        home.store.on_commit = self._committed
        home.store.on_schema = self._changed

    def _committed(self, changes: Sequence[Change]) -> None:
        self._changes.append(changes)
        self._told.set()

    def _changed(self, version: int, collections: tuple[Collection, ...]) -> None:
        self._schemas.append((version, collections))
        self._told.set()

    async def has(self, *, changes: int, schemas: int) -> None:
        async with asyncio.timeout(10):
            while len(self._changes) < changes or len(self._schemas) < schemas:
                self._told.clear()
                await self._told.wait()

    def tell(self, client: Client) -> None:
        for version, collections in self._schemas:
            self._home.hub.schema_changed(version, collections)
        for changes in self._changes:
            self._home.hub.deliver(changes)
        # Before a client's message everything that waits is routed.
        client.send(action="ping")


async def subscribed(home: House, account: str, name: str = "ann", **request: Any) -> Client:
    client = await home.client(person(name, account), wire=request.pop("wire", WEBSOCKET))
    client.send(action="subscribe", **request)
    await client.until(lambda: client.messages("subscribed"))
    return client


def titles(client: Client) -> list[str]:
    return [event["data"]["title"] for event in client.events()]


@pytest.mark.parametrize("collection", ["*", "posts"])
@pytest.mark.parametrize("wire", [WEBSOCKET, SSE])
async def test_what_comes_right_behind_a_new_field_reaches_everybody_once(
    home: House, collection: str, wire: Any
) -> None:
    posts = await home.collection("posts", text("title"))
    account = await home.account("acme")
    client = await subscribed(home, account, collection=collection, wire=wire)
    outbox = Outbox(home)
    posts = await rows.altered(home.store, posts, fields=(*posts.fields, Field(name="more")))
    for title in ("a", "b"):
        await home.write(account, creating(posts, {"title": title}))
    await outbox.has(changes=2, schemas=1)
    outbox.tell(client)
    assert titles(client) == []

    await client.until(lambda: len(client.events()) == 2)
    home.store.on_commit = home.hub.deliver
    await home.write(account, creating(posts, {"title": "c"}))
    await client.until(lambda: len(client.events()) == 3)

    assert titles(client) == ["a", "b", "c"]
    assert [event["data"].get("more", "missing") for event in client.events()] == [None] * 3
    assert client.messages("resync", "caught_up") == []
    assert client.connection.held == 0


async def test_more_connections_than_are_judged_in_one_turn_miss_nothing_of_what_is_routed_meanwhile(
    home: House,
) -> None:
    posts = await home.collection("posts", text("title"))
    account = await home.account("acme")
    clients = [await subscribed(home, account, f"u{number}", collection="*") for number in range(2 * SLICE + 1)]
    outbox = Outbox(home)
    notes = await rows.collection(home.store, "notes", text("title"))
    await home.write(account, creating(posts, {"title": "a"}))
    await home.write(account, creating(notes, {"title": "b"}))
    await outbox.has(changes=2, schemas=1)
    outbox.tell(clients[0])

    for client in clients:
        await client.until(lambda client=client: len(client.events()) == 2)
        assert titles(client) == ["a", "b"]
        assert client.messages("resync", "caught_up") == []


async def test_a_replay_goes_on_where_it_is_when_a_collection_is_made(home: House) -> None:
    posts = await home.collection("posts", text("title"))
    account = await home.account("acme")
    before = await subscribed(home, account, "bob", collection="*")
    start = before.messages("subscribed")[0]["position"]
    for number in range(100):
        await home.write(account, creating(posts, {"title": f"{number}"}))
    await before.until(lambda: len(before.events()) == 100)
    client = await home.client(person("ann", account))
    client.link.stuck = 1 << 20
    client.send(action="subscribe", collection="*", since=start)
    await client.until(lambda: client.messages("subscribed"))
    notes = await home.collection("notes", text("title"))
    await home.write(account, creating(notes, {"title": "note"}))
    assert client.events() == []

    client.link.stuck = 0
    await client.until_types("caught_up")

    assert titles(client) == [*map(str, range(100)), "note"]
    assert client.messages("resync") == []
    assert len(client.messages("caught_up")) == 1


async def test_of_two_changes_the_one_that_asks_for_a_refetch_is_told(home: House) -> None:
    posts = await home.collection("posts", text("title"), text("owner"))
    account = await home.account("acme")
    everything = await subscribed(home, account, collection="*")
    one = await subscribed(home, account, collection="posts")
    outbox = Outbox(home)
    posts = await rows.altered(home.store, posts, fields=(*posts.fields, Field(name="more")))
    await rows.altered(home.store, posts, rules=OWNED)
    await outbox.has(changes=0, schemas=2)
    outbox.tell(one)

    for client in (everything, one):
        await client.until(lambda client=client: client.messages("resync"))
        assert [message["reason"] for message in client.messages("resync")] == ["rights"]


async def test_a_version_that_changed_nothing_disturbs_nobody(home: House) -> None:
    """As after a promotion, whose version leaps."""
    posts = await home.collection("posts", text("title"))
    account = await home.account("acme")
    client = await subscribed(home, account, collection="*")
    collections = tuple(definition.collection for definition in home.catalog.all())

    home.hub.schema_changed(home.catalog.version + 1000, collections)

    assert client.connection.held == 0
    await home.write(account, creating(posts, {"title": "a"}))
    await client.until(lambda: len(client.events()) == 1)


async def test_a_stream_of_several_subscriptions_is_no_resume_point_while_one_of_them_is_told_what_it_missed(
    home: House,
) -> None:
    posts = await home.collection("posts", text("title"))
    await home.collection("notes", text("title"))
    account = await home.account("acme")
    client = await home.client(person("ann", account), wire=SSE, subscriptions=2)
    client.send(action="subscribe", collection="posts")
    client.send(action="subscribe", collection="notes")
    outbox = Outbox(home)
    posts = await rows.altered(home.store, posts, fields=(*posts.fields, Field(name="more")))
    await home.write(account, creating(posts, {"title": "a"}))
    await outbox.has(changes=1, schemas=1)
    outbox.tell(client)
    await client.until(lambda: len(client.events()) == 1)
    home.store.on_commit = home.hub.deliver
    await home.write(account, creating(posts, {"title": "b"}))
    await client.until(lambda: len(client.events()) == 2)

    assert [line.startswith(b"id ") for line in client.lines() if b'"posts.create"' in line] == [False, True]
