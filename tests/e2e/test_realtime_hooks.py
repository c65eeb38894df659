"""The realtime hooks of the product's page (contract §9), in an application of one's own that the server serves."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import MakeHouse
from tests.e2e.support import TRANSPORTS, House, Socket, Stream

both = pytest.mark.parametrize("transport", TRANSPORTS)

APPLICATION = """
import json
from snackbase import SnackBase
from snackbase.hooks import HookAbort

app = SnackBase()

def said(event, **facts):
    print("HOOK " + json.dumps({"event": event, **facts}), flush=True)

@app.hook.on_realtime_connect()
async def connect(connection_id, user_id, account_id, transport):
    said("connect", connection=connection_id, user=user_id, account=account_id, transport=transport)

@app.hook.on_realtime_disconnect()
async def disconnect(connection_id, code, reason):
    said("disconnect", connection=connection_id, code=code)

@app.hook.on_realtime_subscribe()
async def subscribe(connection_id, user_id, collection, operations, filter):
    said("subscribe", connection=connection_id, collection=collection, operations=operations, filter=filter)
    if filter == "title = 'forbidden'":
        raise HookAbort("Not this one.", code="not_this_one")
    if filter == "title = 'broken'":
        raise ValueError("a defect of the hook")

@app.hook.on_realtime_unsubscribe()
def unsubscribe(connection_id, collection):
    said("unsubscribe", connection=connection_id, collection=collection)

@app.hook.on_realtime_message()
async def message(connection_id, message):
    said("message", connection=connection_id, action=message["action"])
"""


CLOSED = """
from snackbase import SnackBase
from snackbase.hooks import HookAbort

app = SnackBase()

@app.hook.on_realtime_connect()
async def connect():
    raise HookAbort("Closed on Sundays.", "closed_today")
"""
SEEING = """
import json
from snackbase import SnackBase

app = SnackBase()

@app.hook.on_realtime_message()
async def message(message):
    print("HOOK " + json.dumps({"event": message["action"], "message": message}), flush=True)
"""


def application(folder: Path, code: str) -> Path:
    folder.mkdir()
    (folder / "main.py").write_text(code)
    return folder


async def served(make_house: MakeHouse, folder: Path, code: str) -> House:
    return await make_house(folder=application(folder, code), arguments=("serve", "main:app"))


@pytest.fixture
async def hooked(make_house: MakeHouse, tmp_path: Path) -> House:
    return await served(make_house, tmp_path / "hooked", APPLICATION)


async def told_by_hooks(house: House, *until: str) -> list[dict[str, Any]]:
    """What the hooks printed, once they printed `until`, in whatever order: each runs by itself."""
    async with asyncio.timeout(10):
        while True:
            lines = [line[5:] for line in house.server.output.splitlines() if line.startswith("HOOK ")]
            found: list[dict[str, Any]] = [json.loads(line) for line in lines]
            if set(until) <= {one["event"] for one in found}:
                return found
            await asyncio.sleep(0.02)  # another process prints it: there is nothing to await


@both
async def test_every_realtime_hook_of_the_page_fires(hooked: House, transport: str) -> None:
    posts = await hooked.collection("title")
    me = await hooked.founder()
    asked = {"collection": posts, "operations": ["create"], "filter": "title = 'x'"}
    listener = await hooked.follow(transport, me, asked)
    if isinstance(listener, Socket):
        await listener.ask("unsubscribe", collection=posts)
        await listener.connection.close(1000)
    elif isinstance(listener, Stream):
        await listener.response.aclose()
    expected = ["connect", "subscribe", "disconnect"]
    if transport == "websocket":
        expected = ["connect", "message", "subscribe", "message", "unsubscribe", "disconnect"]
    found = await told_by_hooks(hooked, *expected)

    events = [one.pop("event") for one in found]
    assert sorted(events) == sorted(expected)
    assert events[0] == "connect"
    by_event = dict(zip(events, found, strict=True))
    assert len({one["connection"] for one in found}) == 1
    assert {"user": me.id, "account": me.account_id, "transport": transport}.items() <= by_event["connect"].items()
    assert by_event["subscribe"] == {
        "connection": found[0]["connection"],
        "collection": posts,
        "operations": ["create"],
        "filter": "title = 'x'",
    }


@both
async def test_a_hook_may_refuse_a_subscription_and_one_that_breaks_stops_nothing(
    hooked: House, transport: str
) -> None:
    posts = await hooked.collection("title")
    me = await hooked.founder()
    await hooked.follow(transport, me, {"collection": posts, "filter": "title = 'broken'"})
    assert "a defect of the hook" in hooked.server.output
    asked = {"collection": posts, "filter": "title = 'forbidden'"}
    if transport == "websocket":
        socket = await hooked.socket(me)
        answer = await socket.ask("subscribe", **asked)
        assert (answer["type"], answer["code"], answer["message"]) == ("error", "not_this_one", "Not this one.")
        assert (await socket.ask("ping"))["type"] == "pong"
    else:
        refused = await hooked.refused_stream(me, ("subscription", json.dumps(asked)))
        assert (refused.status, refused.code) == (403, "not_this_one")


async def test_a_connection_that_a_hook_refuses_hears_the_hooks_own_words(
    make_house: MakeHouse, tmp_path: Path
) -> None:
    house = await served(make_house, tmp_path / "closed", CLOSED)
    me = await house.founder()
    for refused in (await house.refused_socket(me), await house.refused_stream(me)):
        assert (refused.status, refused.code, refused.body["message"]) == (403, "closed_today", "Closed on Sundays.")

    at_once = await house.socket(me, subprotocols=["snackbase.v1"])
    by_message = await house.socket(None, subprotocols=["snackbase.v1"])
    await by_message.send({"action": "auth", "token": me.token})
    for socket in (at_once, by_message):
        told = (await socket.rest())[0]
        assert (told["type"], told["code"], told["message"]) == ("error", "closed_today", "Closed on Sundays.")
        assert (told["close_code"], told["retry"]) == (4501, False)
        assert await socket.ended() == (4501, "closed_today")


async def test_a_message_hook_sees_the_whole_message_but_no_token(make_house: MakeHouse, tmp_path: Path) -> None:
    house = await served(make_house, tmp_path / "seeing", SEEING)
    posts, me = await house.collection("title"), await house.founder()
    socket = await house.socket(me)
    wish = {"operations": ["create"], "filter": "title = 'x'"}
    one = {"action": "subscribe", "collection": posts, "id": "mine", **wish}
    several = {"action": "subscribe", "since": "x", "subscriptions": [{"collection": posts, "fields": ["title"]}]}
    for message in (one, several, {"action": "auth", "token": me.token}, {"action": "unsubscribe", "id": "mine"}):
        await socket.send(message)
    found = [told["message"] for told in await told_by_hooks(house, "unsubscribe")]

    nothing = {"collection": None, "id": None}
    left = {"action": "unsubscribe", "collection": None, "id": "mine"}
    assert found == [one, {**nothing, **several}, {"action": "auth", **nothing}, left]
