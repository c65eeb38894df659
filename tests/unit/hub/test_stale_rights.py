"""Rights that change while somebody connects, subscribes or reads: nothing goes on under the old ones."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from snackbase import errors
from snackbase.errors import Unauthorized, Unavailable
from snackbase.hub import Opening
from snackbase.model import Collection, Field, FieldType, Rules
from snackbase.storage.base import Control
from tests.storage.support import creating

from .support import WEBSOCKET, Client, Gate, House, RecordingLink, house, person

EDITORS = Rules(
    list_rule="@has_role('editor') || open = true", view_rule="", create_rule="", update_rule="", delete_rule=""
)
RIGHTS = Control(what="user_rights", subject="ann")
LOGOUT = Control(what="login_ended", subject="login of ann")


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path, realtime_heartbeat_seconds=3600) as made:
        yield made


async def posts_of(home: House) -> tuple[Collection, str]:
    posts = await home.collection("posts", Field(name="open", type=FieldType.BOOLEAN), rules=EDITORS)
    return posts, await home.account("acme")


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - the hub tells nobody when its state changes
            await asyncio.sleep(0)


def slow_connects(home: House) -> Gate:
    gate = Gate()

    @home.hooks.on_realtime_connect()
    async def wait() -> None:
        await gate.passed()

    gate.shut()
    return gate


async def test_a_login_that_ends_while_its_connection_opens_leaves_no_connection(home: House) -> None:
    account, gate = await home.account("acme"), slow_connects(home)
    opening = asyncio.create_task(home.client(person("ann", account)))
    await gate.met.wait()
    del home.people["ann"]
    await home.write(account, controls=(LOGOUT,))
    gate.open()
    with pytest.raises(Unauthorized):
        await opening
    assert (home.hub.size, list(home.hub.feeds.all())) == (0, [])


async def test_a_login_that_ends_while_its_rights_are_read_leaves_no_connection(home: House) -> None:
    account = await home.account("acme")
    home.reloaded.shut()
    opening = asyncio.create_task(home.client(person("ann", account)))
    await home.reloaded.met.wait()
    await home.write(account, controls=(LOGOUT,))
    await eventually(lambda: all(live.at.seq == 1 for live in home.hub.feeds.all()))
    home.reloaded.open()
    ann = await opening
    assert ann.link.closed is errors.TOKEN_REVOKED
    assert home.hub.size == 0


async def test_a_client_that_goes_while_its_first_token_is_taken_leaves_nothing_behind(home: House) -> None:
    account, gate = await home.account("acme"), slow_connects(home)
    home.people["a token"] = home.people["ann"] = person("ann", account)
    client = await home.client(None)
    client.send(action="auth", token="a token")
    await gate.met.wait()
    client.connection.lost(1006, "")
    gate.open()
    await eventually(lambda: not any(task.get_name() == "realtime-messages" for task in home.tasks))
    assert (home.hub.size, list(home.hub.feeds.all())) == (0, [])


async def test_a_connection_that_ends_before_its_transport_is_there_ends_with_it(home: House) -> None:
    account = await home.account("acme")
    ann = home.people["ann"] = person("ann", account)
    connection = await home.hub.open(Opening(wire=WEBSOCKET, address="127.0.0.1", authenticated=ann))
    await home.write(account, controls=(LOGOUT,))
    await eventually(lambda: home.hub.size == 0)
    link = RecordingLink(WEBSOCKET)
    connection.attach(link)
    assert link.closed is errors.TOKEN_REVOKED
    assert Client(connection, link).messages()[-1]["code"] == "token_revoked"


async def test_a_subscription_made_while_rights_change_does_not_keep_the_old_ones(home: House) -> None:
    posts, account = await posts_of(home)
    ann = await home.client(person("ann", account, role="editor"))
    home.people["ann"] = person("ann", account)
    home.reloaded.shut()
    await home.write(account, controls=(RIGHTS,))
    await home.reloaded.met.wait()
    ann.send(action="subscribe", collection="posts")
    home.reloaded.open()
    await ann.until_types("subscribed", "resync")
    await home.write(account, creating(posts, {"open": False}))
    await home.write(account, creating(posts, {"open": True}))
    await ann.until_types("posts.create")
    assert [event["data"]["open"] for event in ann.events()] == [True]


async def test_rights_that_change_twice_end_as_the_newest(home: House) -> None:
    posts, account = await posts_of(home)
    ann = await home.client(person("ann", account))
    ann.send(action="subscribe", collection="posts")
    home.people["ann"] = person("ann", account, role="editor")
    home.reloaded.shut()
    await home.write(account, controls=(RIGHTS,))
    await home.reloaded.met.wait()
    home.people["ann"] = person("ann", account)
    await home.write(account, controls=(RIGHTS,))
    home.reloaded.open()
    await ann.until_types("resync")
    await home.write(account, creating(posts, {"open": False}))
    await home.write(account, creating(posts, {"open": True}))
    await ann.until_types("posts.create")
    assert [event["data"]["open"] for event in ann.events()] == [True]


async def test_who_cannot_be_looked_up_now_is_sent_away_for_now(home: House) -> None:
    _, account = await posts_of(home)
    ann = await home.client(person("ann", account))

    async def away() -> None:
        raise Unavailable("The database is away.", code="storage_error", retry_after_s=1)

    home.reloaded.passed = away  # type: ignore[method-assign]  # the look-up fails
    await home.write(account, controls=(RIGHTS,))
    await ann.until(lambda: ann.link.closed is not None)
    assert ann.link.closed is errors.OVERLOADED


async def test_a_snapshot_is_read_again_when_rights_change_under_it(home: House) -> None:
    posts, account = await posts_of(home)
    await home.write(account, creating(posts, {"open": False}))
    await home.write(account, creating(posts, {"open": True}))
    ann = await home.client(person("ann", account, role="editor"))
    home.read.shut()
    ann.send(action="subscribe", collection="posts", snapshot=True)
    await home.read.met.wait()
    home.people["ann"] = person("ann", account)
    await home.write(account, controls=(RIGHTS,))
    await eventually(lambda: ann.connection.principal == home.people["ann"].principal)
    home.read.open()
    await ann.until_types("caught_up")
    (page,) = ann.messages("snapshot")
    assert [record["open"] for record in page["data"]] == [True]


async def test_a_record_that_is_shown_whole_is_sent_as_the_log_holds_it(home: House) -> None:
    """The log's own bytes, made once with the write: they hold what a record shows, in its order."""
    posts, account = await posts_of(home)
    written = await home.write(account, creating(posts, {"open": True}))
    definition = home.catalog.by_id(posts.id)
    assert definition is not None
    assert tuple(written.changes[0].data) == definition.names
