"""The public JavaScript SDK, `@snackbase/sdk` 0.9.0 from npm, unchanged: one whole session, in Node and in Chromium."""

import base64
import json
from typing import Any

import pytest

from tests.e2e.stage import everywhere, perform, run
from tests.e2e.support import House, Member, fresh, remember
from tests.support.node import MODULES

PACKAGE = MODULES / "@snackbase" / "sdk"


def sdk(kind: str) -> str:
    """An import of the package: by its name in Node, as the file's own text in a page."""
    if kind == "node":
        return 'const { SnackBaseClient } = await import("@snackbase/sdk");\n'
    source = base64.b64encode((PACKAGE / "dist" / "index.mjs").read_bytes()).decode()
    return f'const {{ SnackBaseClient }} = await import("data:text/javascript;base64,{source}");\n'


CLIENT = """
const open = async (credentials, more = {}) => {
  const settings = { baseUrl: base, storageBackend: "memory", realTimeReconnectionDelay: 50 };
  const client = new SnackBaseClient({ ...settings, ...more });
  await client.login(credentials);
  return client;
};
const listen = (realtime, ...events) => {
  const found = [];
  for (const event of events) realtime.on(event, (data) => { found.push([event, data]); scene.look(); });
  return found;
};
"""

SESSION = """
const root = await open(superadmin);
const made = await root.collections.create({
  name: collection,
  fields: [{ name: "title", type: "text", required: true }, { name: "stars", type: "number", default: 1 }],
});
const client = await open(credentials);
const records = client.records;
const realtime = client.realtime;
const found = listen(realtime, ...["create", "update", "delete", "*"].map((operation) => `${collection}.${operation}`));
const states = ["connecting", "connected", "disconnected", "error", "auth_error"];
const told = [];
for (const state of states) realtime.on(state, () => told.push(state));
if (sse) await realtime.subscribe(collection);
await realtime.connect();
if (!sse) await realtime.subscribe(collection);
else await scene.hears("subscribed");

const first = await records.create(collection, { title: "it's first" });
const changed = await records.update(collection, first.id, { title: "it's changed", stars: 2 });
const patched = await records.patch(collection, first.id, { stars: 3 });
const batch = await records.batchCreate(collection, [{ title: "b" }, { title: "c" }]);
const ids = batch.created.map((one) => one.id);
await records.batchUpdate(collection, ids.map((id) => ({ id, data: { stars: 9 } })));
const query = await records.query(collection).select(["id", "title"]).filter("title", "=", "it's changed")
  .filterRaw("stars > 2").sort("created_at", "desc").limit(5).get();
const one = await records.query(collection).filter("stars", "IN", [9]).sort("title").first();
await records.batchDelete(collection, ids);
await records.delete(collection, first.id);
await scene.until(() => found.filter(([event]) => event.endsWith("delete")).length === 3);

const before = found.length;
await client.refreshToken();
await scene.until(() => realtime.getState() === "connected" && told.filter((one) => one === "connected").length === 2);
await scene.hears("subscribed", 2);
const last = await records.create(collection, { title: "after the refresh" });
await scene.until(() => found.length > before + 1);

if (!sse) await realtime.unsubscribe(collection);
realtime.disconnect();
await client.logout();
const own = found.filter(([event]) => !event.endsWith("*"));
return {
  fields: made.fields.map((field) => field.name),
  own: own.map(([event, data]) => [event.split(".")[1], data.title, data.stars]),
  stars: found.filter(([event]) => event.endsWith("*")).length,
  same: JSON.stringify(found[0][1]) === JSON.stringify(first),
  query: [query.total, query.items, one.title],
  first, changed, patched, last, told, state: realtime.getState(), open: client.isAuthenticated,
  sockets: scene.sockets.length, streams: scene.streams.length,
};
"""


def facts(member: Member, **more: Any) -> dict[str, Any]:
    house = member.house
    system = {"account": "system", "email": house.server.SUPERADMIN_EMAIL, "password": house.server.SUPERADMIN_PASSWORD}
    credentials = {"account": member.account["slug"], "email": member.email, "password": member.password}
    tokens = {"base": house.server.base_url, "token": member.token}
    return {**tokens, "superadmin": system, "credentials": credentials, **more}


@everywhere
@pytest.mark.parametrize("transport", ["websocket", "sse where there is no WebSocket"])
async def test_a_whole_session_of_the_sdk(
    request: pytest.FixtureRequest, quick_house: House, kind: str, transport: str
) -> None:
    sse = transport != "websocket"
    me, collection = await quick_house.founder(), fresh("sdk")
    body = ("delete globalThis.WebSocket;\n" if sse else "") + sdk(kind) + CLIENT + SESSION
    told = await run(request, kind, body, collection=collection, sse=sse, **facts(me))

    assert told["fields"] == ["title", "stars"]
    assert told["same"]
    assert told["own"] == [
        ["create", "it's first", 1],
        ["update", "it's changed", 2],
        ["update", "it's changed", 3],
        ["create", "b", 1],
        ["create", "c", 1],
        ["update", "b", 9],
        ["update", "c", 9],
        ["delete", "b", 9],
        ["delete", "c", 9],
        ["delete", "it's changed", 3],
        ["create", "after the refresh", 1],
    ]
    assert told["stars"] == len(told["own"])
    assert told["query"] == [1, [{"id": told["first"]["id"], "title": "it's changed"}], "b"]
    assert told["told"] == ["connecting", "connected", "connecting", "connected", "disconnected"]
    assert (told["state"], told["open"]) == ("disconnected", False)
    assert (told["sockets"], told["streams"]) == ((0, 2) if sse else (2, 0))


RESTART = """
const client = await open(credentials);
const found = listen(client.realtime, `${collection}.create`, "closing", "error", "auth_error");
await client.realtime.connect();
await client.realtime.subscribe(collection);
tell("subscribed");
await scene.hears("subscribed", 2);
tell("subscribed again");
await scene.until(() => found.some(([event]) => event.endsWith(".create")));
client.realtime.disconnect();
return found.map(([event, data]) => [event, data?.code ?? data?.title]);
"""


@everywhere
async def test_the_sdk_comes_back_after_a_restart(request: pytest.FixtureRequest, kind: str, make_house: Any) -> None:
    house: House = await make_house()
    me, collection = await house.founder(), await house.collection("title")
    async with perform(request, kind, sdk(kind) + CLIENT + RESTART, collection=collection, **facts(me)) as stage:
        assert await stage.next() == "subscribed"
        await house.server.restart()
        assert await stage.next() == "subscribed again"
        await me.create(collection, title="after")

        found = await stage.result()
    assert found[0] == ["closing", "restarting"]
    assert found[-1] == [f"{collection}.create", "after"]


REGISTER = """
const client = new SnackBaseClient({ baseUrl: base, storageBackend: "memory", enableAutoRefresh: false });
const made = await client.register({ email, password, account_name: "Made by the SDK" });
await client.login({ account: made.account.slug, email, password });
await client.realtime.connect();
await client.realtime.subscribe(collection);
const events = listen(client.realtime, `${collection}.create`);
client.realtime.on("error", () => {});
client.realtime.subscribe("nowhere").catch(() => {}); // the SDK itself only knows that no acknowledgement came
await scene.hears("error");
await client.records.create(collection, { title: "x" });
await scene.until(() => events.length);
client.realtime.disconnect();
const errors = scene.heard.filter((one) => one.type === "error");
return { title: events[0][1].title, errors: errors.map((one) => one.data.code) };
"""


async def test_who_registers_by_the_sdk_is_at_home_at_once(request: pytest.FixtureRequest, house: House) -> None:
    collection = await house.collection("title")
    me = await house.founder()
    more = {
        "email": f"{fresh('zoe')}@example.com",
        "password": remember("a-password-for-the-sdk"),
        "collection": collection,
    }
    told = await run(request, "node", sdk("node") + CLIENT + REGISTER, **facts(me, **more))

    assert told == {"title": "x", "errors": ["collection_not_found"]}


def test_it_is_the_published_version(request: pytest.FixtureRequest) -> None:
    request.getfixturevalue("node")

    assert json.loads((PACKAGE / "package.json").read_text())["version"] == "0.9.0"
