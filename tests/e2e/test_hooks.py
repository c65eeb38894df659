"""Code of one's own in a running server: every hook of the contract fires, and a bad one harms nobody (contract §9)."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Self

import httpx
import pytest
import websockets

from tests.support.server import ServerProcess

MakeServer = Callable[..., Awaitable[ServerProcess]]

TELLING = """
import json
from pathlib import Path
from snackbase import HookAbort, SnackBase

app = SnackBase()

def tell(event, **values):
    with Path("told.jsonl").open("a") as file:
        file.write(json.dumps({"event": event, **values}, default=str) + "\\n")

@app.hook.on_realtime_connect()
async def connected(connection_id, user_id, account_id, transport):
    tell("connect", connection=connection_id, user=user_id, account=account_id, transport=transport)

@app.hook.on_realtime_subscribe()
async def subscribed(connection_id, user_id, collection, operations, filter):
    tell("subscribe", connection=connection_id, user=user_id, of=collection, operations=operations, filter=filter)

@app.hook.on_realtime_unsubscribe()
def unsubscribed(connection_id, collection):
    tell("unsubscribe", connection=connection_id, of=collection)

@app.hook.on_realtime_message()
async def messaged(connection_id, message):
    tell("message", connection=connection_id, message=message)

@app.hook.on_realtime_disconnect()
async def disconnected(connection_id, code, reason, transport):
    tell("disconnect", connection=connection_id, code=code, reason=reason, transport=transport)

@app.hook.on_record_before_create(collection="posts", priority=10)
async def clean(data, context):
    data["title"] = data["title"].strip()

@app.hook.on_record_before_create()
def no_spam(data, collection):
    if "spam" in data["title"]:
        raise HookAbort("No spam, please.", "spam", status=422)

for name in ("create", "update", "delete"):
    def after(record, data, collection, context, name=name):
        tell("after_" + name, of=collection, id=record["id"], title=record["title"], user=context.user_id)
    getattr(app.hook, f"on_record_after_{name}")()(after)

@app.hook.on_collection_after_create()
def made(collection):
    tell("collection", of=collection)

@app.hook.on_auth_login()
def came(user_id, account_id, email):
    tell("login", user=user_id, email=email)

@app.hook.on_auth_register()
def new(email):
    tell("register", email=email)
"""

REFUSING = """
import asyncio, time
from snackbase import HookAbort, SnackBase

app = SnackBase()

@app.hook.on_realtime_connect(priority=3)
async def guard(transport, account_id):
    if transport == "sse":
        raise HookAbort("No streams here.", "no_streams")

@app.hook.on_realtime_connect(priority=2)
async def fails():
    raise LookupError("a bug of the hook's own")

@app.hook.on_realtime_connect(priority=1)
async def hangs():
    await asyncio.Event().wait()

@app.hook.on_realtime_connect()
async def blocks():
    time.sleep(0.15)

@app.hook.on_realtime_subscribe(collection="secrets")
async def hidden():
    raise HookAbort("These are not for you.", "not_for_you")

@app.hook.on_realtime_message()
def picky(message):
    if message.get("action") == "ping":
        raise HookAbort("No pings.", "no_pings")

@app.hook.on_record_before_create()
def broken():
    raise LookupError("a bug of the hook's own")
"""


class Client:
    """The superadmin over REST; `async with Client(server) as client:` is logged in."""

    def __init__(self, server: ServerProcess) -> None:
        self.server = server
        self.http = httpx.AsyncClient(base_url=f"{server.base_url}/api/v1")
        self.token = ""
        self.user: dict[str, Any] = {}

    async def post(self, path: str, body: dict[str, Any]) -> httpx.Response:
        return await self.http.post(path, json=body)

    async def __aenter__(self) -> Self:
        body = {"email": self.server.SUPERADMIN_EMAIL, "password": self.server.SUPERADMIN_PASSWORD}
        login = (await self.post("/auth/login", body)).json()
        self.token, self.user = login["token"], login["user"]
        self.http.headers["authorization"] = f"Bearer {self.token}"
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.http.aclose()

    async def make(self, collection: str) -> None:
        body = {"name": collection, "schema": [{"name": "title", "type": "text"}]}
        assert (await self.post("/collections", body)).status_code == 201

    @property
    def ws(self) -> str:
        return f"{self.server.ws_url}?token={self.token}"


class Told:
    """What the hooks wrote."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "told.jsonl"

    async def until(self, event: str, count: int = 1) -> list[dict[str, Any]]:
        """Every line about `event`, once there are so many: hooks after the fact run behind the answer."""
        async with asyncio.timeout(30):
            while True:
                text = self._file.read_text() if self._file.exists() else ""
                # The last line may still be on its way.
                lines = text.rpartition("\n")[0].splitlines()
                found = [line for line in map(json.loads, lines) if line.pop("event") == event]
                if len(found) >= count:
                    return found
                await asyncio.sleep(0.01)


@pytest.fixture
async def client(make_server: MakeServer, tmp_path: Path) -> AsyncIterator[Client]:
    """Of a server that runs TELLING."""
    (tmp_path / "main.py").write_text(TELLING)
    server = await make_server(arguments=("serve", "main:app"), folder=tmp_path)
    async with Client(server) as client:
        yield client


@pytest.fixture
def told(tmp_path: Path) -> Told:
    return Told(tmp_path)


async def test_the_realtime_hooks_of_a_websocket_fire_with_their_values(client: Client, told: Told) -> None:
    user = client.user
    await client.make("posts")
    subscribe = {"action": "subscribe", "collection": "posts", "operations": ["create"], "filter": 'title != "x"'}
    async with websockets.connect(client.ws) as socket:
        await socket.send(json.dumps(subscribe))
        await socket.recv()
        await socket.send(json.dumps({"action": "unsubscribe", "collection": "posts"}))
        await socket.recv()
        await socket.close(code=4321, reason="enough")

    [connect] = await told.until("connect")
    connection = connect.pop("connection")
    assert connect == {"user": user["id"], "account": user["account_id"], "transport": "websocket"}
    assert await told.until("subscribe") == [
        {
            "connection": connection,
            "user": user["id"],
            "of": "posts",
            "operations": ["create"],
            "filter": 'title != "x"',
        }
    ]
    assert await told.until("unsubscribe") == [{"connection": connection, "of": "posts"}]
    messages = await told.until("message", 2)
    assert [line["message"]["action"] for line in messages] == ["subscribe", "unsubscribe"]
    [disconnect] = await told.until("disconnect")
    assert disconnect == {"connection": connection, "code": 4321, "reason": "enough", "transport": "websocket"}


async def test_the_realtime_hooks_of_an_event_stream_fire_with_their_values(client: Client, told: Told) -> None:
    await client.make("posts")
    async with client.http.stream("GET", "/realtime/subscribe?collection=posts") as stream:
        await anext(stream.aiter_lines())

    assert [line["transport"] for line in await told.until("connect")] == ["sse"]
    assert [line["of"] for line in await told.until("subscribe")] == ["posts"]
    assert [line["transport"] for line in await told.until("disconnect")] == ["sse"]


async def test_the_hooks_of_records_collections_and_logins_fire(client: Client, told: Told) -> None:
    registration = {"email": "ann@example.com", "password": "correct horse", "account_name": "Acme"}
    assert (await client.post("/auth/register", registration)).status_code == 201
    user = client.user
    await client.make("posts")
    record = (await client.post("/records/posts", {"title": "  one  "})).json()
    refused = await client.post("/records/posts", {"title": "spam"})
    await client.http.patch(f"/records/posts/{record['id']}", json={"title": "two"})
    await client.http.delete(f"/records/posts/{record['id']}")

    assert record["title"] == "one"
    assert (refused.status_code, refused.json()["code"], refused.json()["message"]) == (422, "spam", "No spam, please.")
    assert await told.until("register") == [{"email": "ann@example.com"}]
    assert await told.until("login") == [{"user": user["id"], "email": user["email"]}]
    assert await told.until("collection") == [{"of": "posts"}]
    for event, title in (("after_create", "one"), ("after_update", "two"), ("after_delete", "two")):
        expected = {"of": "posts", "id": record["id"], "title": title, "user": user["id"]}
        assert await told.until(event) == [expected]


async def test_hooks_can_refuse_and_bad_ones_harm_nobody(make_server: MakeServer, tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(REFUSING)
    server = await make_server(
        arguments=("serve", "main:app"),
        folder=tmp_path,
        settings={"HOOK_TIMEOUT_SECONDS": 0.3, "LOG_FORMAT": "json"},
    )
    async with Client(server) as client:
        for name in ("posts", "secrets"):
            await client.make(name)

        stream = await client.http.get("/realtime/subscribe?collection=posts")
        assert (stream.status_code, stream.json()["code"]) == (403, "no_streams")
        answers = []
        async with websockets.connect(client.ws) as socket:
            for message in (
                {"action": "subscribe", "collection": "secrets"},
                {"action": "ping"},
                {"action": "subscribe", "collection": "posts"},
            ):
                await socket.send(json.dumps(message))
                answers.append(json.loads(await socket.recv()))
        failed = await client.post("/records/posts", {"title": "a"})
        numbers = (await client.http.get(f"{server.base_url}/metrics")).text
    await server.stop()

    assert [(answer["type"], answer.get("code")) for answer in answers] == [
        ("error", "not_for_you"),
        ("error", "no_pings"),
        ("subscribed", None),
    ]
    assert (failed.status_code, failed.json()["code"]) == (500, "hook_failed")
    assert "LookupError" not in failed.text
    lines = [json.loads(line) for line in server.output.splitlines() if line.startswith("{")]
    named = {(line["event"], line["hook"]) for line in lines if "hook" in line}
    assert named >= {
        ("hook_failed", "main.fails"),
        ("hook_timeout", "main.hangs"),
        ("hook_blocks_event_loop", "main.blocks"),
        ("hook_failed", "main.broken"),
    }
    assert 'snackbase_hook_failures_total{event="on_realtime_connect"} 2.0' in numbers
    assert 'snackbase_hook_timeouts_total{event="on_realtime_connect"} 1.0' in numbers
