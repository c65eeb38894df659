"""The project's own examples of JavaScript clients make every move of the product's page, in Node and in Chromium."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.e2e.conftest import MakeHouse
from tests.e2e.stage import KINDS, everywhere, perform, run
from tests.e2e.support import House, Member
from tests.support.node import JS


def example(name: str, *names: str) -> str:
    """An import of one of the examples: as a data URL, which both Node and a page can import."""
    source = base64.b64encode((JS / "examples" / f"{name}.mjs").read_bytes()).decode()
    return f'const {{ {", ".join(names)} }} = await import("data:text/javascript;base64,{source}");\n'


def values(member: Member) -> dict[str, Any]:
    server = member.house.server
    return {"base": server.base_url, "address": server.ws_url, "token": member.token}


@pytest.fixture
async def collection(quick_house: House) -> str:
    return await quick_house.collection("title", {"name": "stars", "type": "number"})


LIVE_LIST = """
const list = new LiveList(address, token, collection, { filter: "stars > 2" });
const seen = [];
list.onchange = (records, message) => {
  seen.push([message.type.split(".")[1], message.change ?? null, records.length]);
  scene.look();
};
const answer = await list.open();
const made = await scene.create(collection, { title: "a", stars: 1 });
await scene.update(collection, made.id, { stars: 3 });
await scene.create(collection, { title: "b", stars: 5 });
await scene.update(collection, made.id, { title: "c" });
await scene.update(collection, made.id, { stars: 0 });
const last = await scene.create(collection, { title: "d", stars: 4 });
await scene.remove(collection, last.id);
await scene.until(() => seen.length === 6);
const pong = await list.ping();
await scene.until(() => list.heartbeats > 0);
await list.stop();
await scene.create(collection, { title: "unheard", stars: 9 });
await list.ping();
await list.close();
return { answer: answer.collection, pong: pong.type, seen, kept: [...list.records.values()].map((one) => one.title) };
"""


@everywhere
async def test_a_live_list_holds_exactly_what_its_filter_lets_through(
    request: pytest.FixtureRequest, quick_house: House, collection: str, kind: str
) -> None:
    me = await quick_house.founder()
    body = example("live_list", "LiveList") + LIVE_LIST
    told = await run(request, kind, body, collection=collection, **values(me))

    assert told == {
        "answer": collection,
        "pong": "pong",
        "seen": [
            ["create", "enter", 1],
            ["create", None, 2],
            ["update", None, 2],
            ["delete", "leave", 1],
            ["create", None, 2],
            ["delete", None, 1],
        ],
        "kept": ["b"],
    }


@everywhere
async def test_a_live_list_that_cannot_be_says_why(
    request: pytest.FixtureRequest, quick_house: House, kind: str
) -> None:
    body = example("live_list", "LiveList") + (
        'return new LiveList(address, token, "nowhere").open().then(() => "opened", (error) => error.message);'
    )
    told = await run(request, kind, body, **values(await quick_house.founder()))

    assert told == "There is no such collection."


STREAM = """
const found = { one: [], several: [], beats: 0 };
const ids = [];
const note = (name) => (operation, data, id) => {
  found[name].push([operation, data.title]);
  ids.push(id);
  scene.look();
};
const stopOne = follow(base, token, { [first]: note("one") });
const stopSeveral = follow(base, token, { [first]: note("several"), [second]: note("several") }, (message) => {
  found.beats += Number(message.event === "heartbeat");
  scene.look();
});
await scene.hears("subscribed", 3);
const made = await scene.create(first, { title: "a" });
await scene.create(second, { title: "b" });
await scene.update(first, made.id, { title: "c" });
await scene.remove(first, made.id);
await scene.until(() => found.several.length === 4 && found.one.length === 3 && found.beats > 0);
stopOne();
stopSeveral();
const closed = scene.streams.map((one) => one.readyState);
return { one: found.one, several: found.several, ids: ids.every((id) => id !== ""), closed };
"""


@everywhere
async def test_event_streams_of_one_and_of_several_collections(
    request: pytest.FixtureRequest, quick_house: House, collection: str, kind: str
) -> None:
    me, second = await quick_house.founder(), await quick_house.collection("title")
    body = example("event_stream", "follow") + STREAM
    told = await run(request, kind, body, first=collection, second=second, **values(me))

    assert told == {
        "one": [["create", "a"], ["update", "c"], ["delete", "c"]],
        "several": [["create", "a"], ["create", "b"], ["update", "c"], ["delete", "c"]],
        "ids": True,
        "closed": [2, 2],
    }


COMES_BACK = """
const states = [];
const titles = [];
const connection = new Persistent(address, token, {
  firstDelayMs: 100,
  onstate: (state) => { states.push(state); tell(state); },
  onmessage: (message) => {
    if (message.data?.title !== undefined) { titles.push(message.data.title); tell(message.data.title); }
  },
});
connection.subscribe(collection);
connection.connect();
await scene.until(() => titles.at(-1) === "after");
connection.close();
await scene.until(() => states.at(-1).startsWith("ended"));
return { titles, states, told: scene.heard.map((one) => one.type) };
"""


async def test_a_persistent_connection_survives_a_restart_and_misses_nothing(
    request: pytest.FixtureRequest, make_house: MakeHouse
) -> None:
    house = await make_house()
    me, collection = await house.founder(), await house.collection("title")
    body = example("comes_back", "Persistent") + COMES_BACK
    more = {"collection": collection, **values(me)}
    async with perform(request, KINDS[0], body, **more) as first, perform(request, KINDS[1], body, **more) as second:
        assert [await first.next(), await second.next()] == ["open", "open"]
        await me.create(collection, title="before")
        assert [await first.next(), await second.next()] == ["before", "before"]
        await house.server.stop()
        assert [await first.next(), await second.next()] == ["waiting", "waiting"]
        await house.server.start()
        await me.create(collection, title="between")
        await me.create(collection, title="after")
        for told in await asyncio.gather(first.result(), second.result()):
            assert told["titles"] == ["before", "between", "after"]
            assert told["states"][:2] == ["open", "waiting"]
            assert "closing" in told["told"]
            assert "resync" not in told["told"]


@everywhere
async def test_a_persistent_connection_stops_when_coming_back_is_pointless(
    request: pytest.FixtureRequest, quick_house: House, collection: str, kind: str
) -> None:
    me = await quick_house.founder()
    body = example("comes_back", "Persistent") + (
        "const ended = new Promise((resolve) => {\n"
        "  const onstate = (state) => { if (state === 'open') tell(state); else resolve(state); };\n"
        "  new Persistent(address, token, { onmessage: () => {}, onstate }).connect();\n"
        "});\n"
        "return ended;"
    )
    async with perform(request, kind, body, **values(me)) as stage:
        assert await stage.next() == "open"
        await me.request("POST", "/auth/logout")

        assert await stage.result() == "ended 4502"


STALE = """
let clock = 0;
const socket = await byQuery(address, token);
const watch = new StaleWatch(() => socket.close(), { now: () => clock });
socket.addEventListener("message", () => watch.sign());
clock = 60_000;
const first = watch.check();
await scene.hears("heartbeat", scene.heard.length + 1);
clock = 120_000;
const second = watch.check();
await scene.hears("heartbeat", scene.heard.length + 1);
const open = socket.readyState === WebSocket.OPEN;
clock = 180_001;
const third = watch.check();
await scene.until(() => socket.readyState === WebSocket.CLOSED);
return [first, second, open, third];
"""


@everywhere
async def test_a_connection_without_heartbeats_is_found_stale(
    request: pytest.FixtureRequest, quick_house: House, kind: str
) -> None:
    body = example("stale", "StaleWatch") + example("tokens", "byQuery") + STALE

    assert await run(request, kind, body, **values(await quick_house.founder())) == [False, False, True, True]


TOKENS = """
const ways = { bySubprotocol, byBareSubprotocol, byFirstMessage, byQuery };
const found = {};
for (const [name, way] of Object.entries(ways)) {
  const socket = await way(address, token);
  const answered = new Promise((resolve) => socket.addEventListener("message", resolve, { once: true }));
  socket.send(JSON.stringify({ action: "subscribe", collection }));
  const { type } = JSON.parse((await answered).data);
  found[name] = [type, socket.protocol.replace(token, "the token")];
  socket.close();
}
const stop = new AbortController();
found.byHeader = [];
for await (const message of byHeader(`${base}/api/v1/realtime/subscribe?collection=${collection}`, token, stop)) {
  found.byHeader.push(message.type.replace(collection, "things"));
  if (message.type === "subscribed") await scene.create(collection, { title: "x" });
  if (message.type.includes(".")) break;
}
stop.abort();
found.wrong = await byHeader(`${base}/api/v1/realtime/subscribe`, "nonsense").next().catch((error) => error.message);
return found;
"""


@everywhere
async def test_a_token_may_stand_in_every_place(
    request: pytest.FixtureRequest, quick_house: House, collection: str, kind: str
) -> None:
    names = ("bySubprotocol", "byBareSubprotocol", "byFirstMessage", "byQuery", "byHeader")
    body = example("tokens", *names) + TOKENS
    told = await run(request, kind, body, collection=collection, **values(await quick_house.founder()))

    told["byHeader"] = [one for one in told["byHeader"] if one != "heartbeat"]
    assert told == {
        "bySubprotocol": ["subscribed", "snackbase.v1"],
        "byBareSubprotocol": ["subscribed", "the token"],
        "byFirstMessage": ["subscribed", "snackbase.v1"],
        "byQuery": ["subscribed", ""],
        "byHeader": ["subscribed", "things.create"],
        "wrong": "token_invalid",
    }


@asynccontextmanager
async def front_end(host: str) -> AsyncIterator[str]:
    """Another server on this machine that serves nothing but an empty page, as a front end's own server does."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        page = b"<!doctype html><title>front end</title>"
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\nconnection: close\r\n")
        writer.write(b"content-length: %d\r\n\r\n%b" % (len(page), page))
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"http://{host}:{server.sockets[0].getsockname()[1]}"


OTHER_PORT = """
const list = new LiveList(address, token, collection);
const stop = follow(base, token, { [collection]: () => {} });
await list.open();
await scene.hears("subscribed", 2);
await scene.create(collection, { title: "x" });
await scene.hears(`${collection}.create`, 2);
stop();
await list.close();
return location.origin !== base;
"""


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
async def test_a_front_end_on_another_port_of_this_machine_needs_no_setting(
    request: pytest.FixtureRequest, quick_house: House, collection: str, host: str
) -> None:
    body = example("live_list", "LiveList") + example("event_stream", "follow") + OTHER_PORT
    async with front_end(host) as origin:
        more = {"collection": collection, **values(await quick_house.founder())}

        assert await run(request, "chromium", body, origin=origin, **more)
