"""Why a change reached a client, in moments that a test over the network cannot hold: slow, not yet, judged anew."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from snackbase.hub.explain import Explained
from snackbase.model import Change, Collection, Field
from snackbase.storage.base import Control
from tests.storage.support import creating

from .support import OPEN, Client, House, house, person


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path, realtime_heartbeat_seconds=3600) as made:
        yield made


async def scene(home: House, **rules: Any) -> tuple[Collection, str, Client]:
    posts = await home.collection("posts", Field(name="title"), rules=rules.get("rules", OPEN))
    account = await home.account("acme")
    client = await home.client(person("ann", account))
    client.send(action="subscribe", collection="posts", filter=rules.get("filter"))
    return posts, account, client


def asked(home: House, change: Change, client: Client, user: str = "ann") -> Explained:
    return home.hub.explainer.explain(change, [client.connection], user_id=user, connection_id=None)


def only(found: Explained) -> Any:
    return found.connections[0]["subscriptions"][0]


async def test_a_client_that_does_not_take_its_bytes_is_called_slow(home: House) -> None:
    posts, account, client = await scene(home)
    change = (await home.write(account, creating(posts, {"title": "a"}))).changes[0]
    await client.until_types("posts.create")
    assert only(asked(home, change, client)).message == "It was delivered as create."
    client.link.stuck = 700
    found = asked(home, change, client)
    assert (only(found).reason, found.connections[0]["unsent_bytes"]) == ("delivered", 700)
    assert only(found).message.endswith(
        "700 bytes of this connection are not sent yet: its client or the network is slow."
    )


async def test_what_was_not_routed_yet_is_said_to_be_on_its_way(home: House) -> None:
    posts, account, client = await scene(home)
    change = (await home.write(account, creating(posts, {"title": "a"}))).changes[0]
    await client.until_types("posts.create")
    later = change.__class__(**{name: getattr(change, name) for name in change.__struct_fields__} | {"seq": 99})
    assert only(asked(home, later, client)).reason == "not_yet"


async def test_a_subscription_that_is_judged_anew_says_so(home: House) -> None:
    posts, account, client = await scene(home, filter="@request.auth.role = 'user' && title = 'a'")
    home.reloaded.shut()
    await home.write(account, controls=(Control(what="user_rights", subject="ann"),))
    change = (await home.write(account, creating(posts, {"title": "a"}))).changes[0]
    await home.reloaded.met.wait()
    assert only(asked(home, change, client)).reason == "rights"
    home.reloaded.open()
    await client.until_types("resync")


async def test_a_user_is_found_by_email_too_and_others_are_not(home: House) -> None:
    posts, account, client = await scene(home)
    change = (await home.write(account, creating(posts, {"title": "a"}))).changes[0]
    await client.until_types("posts.create")
    assert asked(home, change, client, "ann@x.y").summary == "delivered"
    assert asked(home, change, client, "bob@x.y").summary == "not_connected"
