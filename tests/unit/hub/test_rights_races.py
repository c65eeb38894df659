"""hub/: rights that change while somebody connects or subscribes. Never is anything judged by the old ones for good."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from snackbase.errors import Unauthorized
from snackbase.hub import Opening
from snackbase.model import Change, Collection, Field, FieldType, Op, Rules
from snackbase.storage.base import Control
from tests.storage.support import creating
from tests.unit.hub.support import WEBSOCKET, Client, House, house, person

EDITORS = Rules(
    list_rule="@has_role('editor') || open = true", view_rule="", create_rule="", update_rule="", delete_rule=""
)
RIGHTS_OF_ANN = (Control(what="user_rights", subject="ann"),)


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path) as made:
        yield made


@pytest.fixture
async def account(home: House) -> str:
    return await home.account("acme")


@pytest.fixture
async def posts(home: House) -> Collection:
    return await home.collection("posts", Field(name="open", type=FieldType.BOOLEAN), rules=EDITORS)


def demote(home: House, account: str) -> None:
    """From here on ann is no editor, as the store knows; the control row is still to be written."""
    home.people["ann"] = person("ann", account, role="user")


def lists(client: Client) -> list[bool | None]:
    """What a client holds that fetches its list anew after a `resync`: None = it has yet to do so."""
    held: list[bool | None] = []
    for message in client.messages():
        if message["type"] == "snapshot":
            held += [record["open"] for record in message["data"]]
        elif message["type"] == "resync":
            held = [None]
        elif message["type"] == "posts.create":
            held.append(message["data"]["open"])
    return held


def settled(client: Client) -> bool:
    connection = client.connection
    return not connection.renewals and not connection.held and bool(client.messages("caught_up", "resync"))


async def subscribes_as_soon_as_it_commits(home: House, client: Client, account: str, **request: Any) -> None:
    """The message arrives in the very turn in which the change of rights is announced."""
    deliver = home.store.on_commit

    def delivered(changes: Sequence[Change]) -> None:
        deliver(changes)
        if changes[0].op is not Op.CONTROL:
            return
        home.store.on_commit = deliver
        client.send(action="subscribe", collection="posts", **request)

    home.store.on_commit = delivered
    demote(home, account)
    await home.write(account, controls=RIGHTS_OF_ANN)
    await client.until(lambda: bool(client.messages("subscribed", "error")))


async def test_who_subscribes_while_rights_change_sees_only_what_the_new_ones_allow(
    home: House, account: str, posts: Collection
) -> None:
    ann = await home.client(person("ann", account, role="editor"))
    await subscribes_as_soon_as_it_commits(home, ann, account)

    await home.write(account, creating(posts, {"open": False}))
    await home.write(account, creating(posts, {"open": True}))

    await ann.until(lambda: True in lists(ann))
    assert False not in lists(ann)
    assert ann.connection.held == 0


async def test_who_resumes_while_rights_change_is_told_to_fetch_the_list_again(
    home: House, account: str, posts: Collection
) -> None:
    ann = await home.client(person("ann", account, role="editor"))
    since = home.hub.position(ann.connection.feed)
    await home.write(account, creating(posts, {"open": False}))
    await subscribes_as_soon_as_it_commits(home, ann, account, since=since)

    await ann.until(lambda: bool(ann.messages("resync")))
    await home.write(account, creating(posts, {"open": False}))
    await home.write(account, creating(posts, {"open": True}))
    await ann.until(lambda: bool(ann.events()))

    assert [message["data"]["open"] for message in ann.events()] == [True]
    assert ann.messages("resync")[-1]["reason"] == "rights"
    assert ann.connection.held == 0


async def test_a_snapshot_that_was_read_by_old_rights_is_never_the_last_word(
    home: House, account: str, posts: Collection
) -> None:
    await home.write(account, *(creating(posts, {"open": number % 2 == 0}) for number in range(300)))
    ann = await home.client(person("ann", account, role="editor"))
    ann.send(action="subscribe", collection="posts", snapshot={"limit": 1})
    demote(home, account)
    told = await home.write(account, controls=RIGHTS_OF_ANN)

    def done() -> bool:
        return ann.connection.feed.at.seq >= told.head.seq and settled(ann)

    await ann.until(done)

    assert False not in lists(ann)


async def test_a_snapshot_that_was_read_by_an_old_rule_is_never_the_last_word(
    home: House, account: str, posts: Collection
) -> None:
    await home.write(account, *(creating(posts, {"open": number % 2 == 0}) for number in range(300)))
    ann = await home.client(person("ann", account, role="editor"))
    ann.send(action="subscribe", collection="posts", snapshot={"limit": 1})
    await asyncio.sleep(0)
    await home.alter(posts, rules=msgspec.structs.replace(EDITORS, list_rule="open = true"))

    await ann.until(lambda: settled(ann))

    assert False not in lists(ann)


async def test_rights_that_changed_before_the_feed_was_followed_count(
    home: House, account: str, posts: Collection
) -> None:
    """The token was checked, then the rights changed, then the connection began to hear of changes."""
    checked = person("ann", account, role="editor")
    demote(home, account)
    await home.write(account, controls=RIGHTS_OF_ANN)
    ann = await home.client(checked)
    ann.send(action="subscribe", collection="posts")

    await home.write(account, creating(posts, {"open": False}))
    await home.write(account, creating(posts, {"open": True}))
    await ann.until(lambda: bool(ann.events()))

    assert [message["data"]["open"] for message in ann.events()] == [True]


async def test_who_was_disabled_before_the_feed_was_followed_does_not_come_in(home: House, account: str) -> None:
    checked = person("ann", account)

    with pytest.raises(Unauthorized):
        await home.hub.open(Opening(wire=WEBSOCKET, address="127.0.0.1", authenticated=checked))

    assert home.hub.size == 0


async def test_rights_are_asked_for_once_when_the_feed_was_followed_before(home: House, account: str) -> None:
    """What changes them from then on comes as a change of the feed; only what changed in between is asked for again."""
    bob = await home.client(person("bob", account))
    home.reloaded.shut()

    await home.client(person("ann", account))
    checked = person("ann", account)
    await home.write(account, controls=(Control(what="user_rights", subject="somebody else"),))
    while bob.connection.feed.at.seq == 0:  # noqa: ASYNC110 - nobody is told of it
        await asyncio.sleep(0)
    opening = asyncio.create_task(home.client(checked))
    await home.reloaded.met.wait()
    home.reloaded.open()
    await opening
