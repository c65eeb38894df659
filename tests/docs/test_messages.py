"""The JSON that the pages show has the keys that real messages have, and what clients shall send is understood."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect

from snackbase.realtime import protocol
from tests.conftest import MakeServer
from tests.docs import pages, running
from tests.docs.pages import Snippet
from tests.docs.running import World

SHOWN = [snippet for page in pages.pages() for snippet in page.snippets if snippet.language == "json"]
FROM_CLIENTS = [snippet for snippet in SHOWN if snippet.wishes.get("message") == "client"]
FROM_SERVERS = [snippet for snippet in SHOWN if snippet.wishes.get("message") == "server"]


@pytest.mark.docs
@pytest.mark.parametrize("snippet", FROM_CLIENTS, ids=lambda snippet: snippet.where)
def test_what_a_client_shall_send_is_understood(snippet: Snippet) -> None:
    message = protocol.decode(snippet.code.encode())

    if message.action == "subscribe":
        for request in protocol.subscribe_requests(message):
            protocol.check_request(request)


@pytest.mark.docs
def test_every_json_snippet_says_what_kind_of_message_it_is() -> None:
    assert [one.where for one in SHOWN if one.wishes.get("message") not in ("client", "server", "rest")] == []


@pytest.mark.docs
def test_every_message_of_the_server_is_shown() -> None:
    page = pages.page("docs/reference/protocol.md")
    listed = {row[0].split(",")[0].strip("`") for row in page.rows(under="What the server sends")}
    shown = {json.loads(snippet.code)["type"] for snippet in FROM_SERVERS}

    assert listed == shown


async def test_the_servers_messages_have_the_shown_keys(make_server: MakeServer) -> None:
    async with running.world(make_server, settings={"REALTIME_HEARTBEAT_SECONDS": 0.2}) as made:
        await made.prepare()
        async with _conversation(made) as messages:
            found = [message async for message in messages]

    for snippet in FROM_SERVERS:
        wanted = json.loads(snippet.code)
        assert any(_alike(wanted, message) for message in found), (
            f"{snippet.where}: no real message is like it; of that type there are "
            f"{[message for message in found if message['type'] == wanted['type']]}"
        )


async def test_a_refused_record_is_answered_as_shown(make_server: MakeServer) -> None:
    [snippet] = [one for one in SHOWN if one.wishes.get("message") == "rest"]
    async with running.world(make_server) as made:
        await made.prepare()
        answer = await made.ada.post("/records/posts", json={})

    assert answer.status_code == 422
    assert answer.json() == json.loads(snippet.code)


def _alike(wanted: dict[str, Any], real: dict[str, Any]) -> bool:
    """The same keys, and kinds of values, at the top and in `data`; a shown record may leave fields out."""
    if wanted["type"] != real["type"] or wanted.keys() != real.keys():
        return False
    shown, data = wanted.get("data"), real.get("data")
    if isinstance(shown, dict) and isinstance(data, dict) and not shown.keys() <= data.keys():
        return False
    return all(type(value) is type(real[key]) for key, value in wanted.items())


@asynccontextmanager
async def _conversation(made: World) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
    """Everything a server says, provoked one after the other; the last is its goodbye."""

    async def messages() -> AsyncIterator[dict[str, Any]]:
        async with connect(f"{made.server.ws_url}?token={made.token}") as socket:
            subscribed = await _ask(socket, {"action": "subscribe", "collection": "posts"}, until="subscribed")
            yield subscribed
            yield await _ask(socket, {"action": "ping"}, until="pong")
            yield await _ask(socket, {"action": "auth", "token": made.token}, until="auth")
            wrong = {"action": "subscribe", "collection": "posts", "filter": "titel = 'x'"}
            yield await _ask(socket, wrong, until="error")
            await made.ada.post("/records/posts", json={"title": "Hello"})
            yield await _next(socket, "posts.create")
            await made.ada.post("/records/posts/batch", json={"records": [{"title": "First"}, {"title": "Second"}]})
            yield await _next(socket, "posts.create")
            yield await _next(socket, "heartbeat")
            since = {"action": "subscribe", "collection": "posts", "since": subscribed["position"]}
            yield await _ask(socket, since, until="caught_up")
            yield await _ask(socket, {**since, "since": "not-a-position"}, until="resync")
            snapshot = {"action": "subscribe", "collection": "posts", "snapshot": True}
            yield await _ask(socket, snapshot, until="snapshot")
            yield await _ask(socket, {"action": "unsubscribe", "collection": "posts"}, until="unsubscribed")
            await made.server.stop()
            yield await _next(socket, "closing")

    yield messages()


async def _ask(socket: ClientConnection, message: dict[str, Any], *, until: str) -> dict[str, Any]:
    await socket.send(json.dumps(message))
    return await _next(socket, until)


async def _next(socket: ClientConnection, kind: str) -> dict[str, Any]:
    while True:
        message: dict[str, Any] = json.loads(await socket.recv())
        if message["type"] == kind:
            return message
