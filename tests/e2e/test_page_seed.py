"""The JavaScript of the product's own realtime page, run as it stands there: only host and token are filled in.

The page is the order this project is built to and no part of it, so there is no copy: its blocks are read from beside
the checkout. Where it is not, `test_page_examples.py` makes the same moves with the project's own examples.
"""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.conftest import MakeServer
from tests.e2e.stage import KINDS, everywhere, perform, run
from tests.e2e.support import House, Member
from tests.support.server import ROOT

PAGE = ROOT.parent / "shared" / "spec" / "realtime.md"
if not PAGE.is_file():
    pytest.skip(
        "the product page is not beside this checkout; test_page_examples.py makes the same moves",
        allow_module_level=True,
    )

CREATED, UPDATED, DELETED = "New post created:", "Post updated:", "Post deleted:"


def read_page(text: str) -> dict[tuple[str, str], str]:
    """(heading, sub-heading) -> the JavaScript under it."""
    found: dict[tuple[str, str], str] = {}
    heading = sub = ""
    for part in re.split(r"(?m)^(#{2,3} .*|```javascript\n(?:.*\n)*?```)$", text):
        if part.startswith("## "):
            heading, sub = part[3:], ""
        elif part.startswith("### "):
            sub = part[4:]
        elif part.startswith("```"):
            assert (heading, sub) not in found
            found[heading, sub] = part.removeprefix("```javascript\n").removesuffix("```")
    return found


BLOCKS = read_page(PAGE.read_text())
WS, SSE, BEST = "WebSocket", "Server-Sent Events (SSE)", "Best Practices"
SCRIPTS: dict[str, str] = {}
"""What the tests below run, so that one of them can look whether a block was left out."""


@dataclass(frozen=True, slots=True)
class Somebody:
    """A member of an account of their own, in which `posts` and `comments` are theirs alone."""

    house: House
    member: Member

    def filled_in(self, heading: str, sub: str) -> str:
        """A block with the host and the token of this person."""
        host = self.house.server.base_url.removeprefix("http://")
        text = BLOCKS[heading, sub]
        return text.replace("localhost:8000", host).replace("your_jwt_access_token", self.member.token)

    async def run(self, request: pytest.FixtureRequest, kind: str, body: str) -> Any:
        return await run(request, kind, self.script(body), **self.values)

    def script(self, body: str) -> str:
        """The body with every `<<heading | sub-heading>>` replaced by the page's block."""
        return re.sub(r"<<(.*?) \| (.*?)>>", lambda match: self.filled_in(match[1], match[2]), body)

    @property
    def values(self) -> dict[str, str]:
        return {"base": self.house.server.base_url, "token": self.member.token}


async def somebody_in(house: House) -> Somebody:
    for name in ("posts", "comments"):
        await house.collection("title", "status", name=name, missing_ok=True)
    return Somebody(house, await house.founder())


@pytest.fixture
async def somebody(quick_house: House) -> AsyncIterator[Somebody]:
    yield await somebody_in(quick_house)


def script(name: str, body: str) -> str:
    SCRIPTS[name] = body
    return body


WALK = script(
    "walk",
    """
<<WebSocket | Connecting>>
await scene.says("Connected to SnackBase realtime");
<<WebSocket | Receiving Events>>
<<WebSocket | Subscribing to Collections>>
await scene.until(() => scene.heard.find((one) => one.status === "subscribed" && one.collection === "posts"));
const made = await scene.create("posts", { title: "Hello", status: "published" });
const changed = await scene.update("posts", made.id, { title: "Bye" });
await scene.remove("posts", made.id);
await scene.says("Post deleted:");
await scene.says("Heartbeat received at");
<<WebSocket | Ping/Pong>>
await scene.hears("pong");
<<WebSocket | Unsubscribing>>
await scene.hears("unsubscribed");
await scene.create("posts", { title: "unheard" });
<<Best Practices | 2. Filter Events on the Server>>
await scene.hears("subscribed", 2);
const second = await scene.create("posts", { title: "heard" });
await scene.update("posts", second.id, { title: "unheard" });
await scene.remove("posts", second.id);
await scene.create("posts", { title: "last" });
await scene.until(() => scene.said.some((one) => one[1]?.title === "last"));
ws.close();
await scene.says("Disconnected from SnackBase realtime");
return { made, changed, said: scene.said, heard: scene.heard };
""",
)


@everywhere
async def test_connect_subscribe_receive_ping_and_unsubscribe(
    request: pytest.FixtureRequest, somebody: Somebody, kind: str
) -> None:
    told = await somebody.run(request, kind, WALK)

    said = [words for words in told["said"] if not words[0].startswith("Heartbeat")]
    assert said[:4] == [
        ["Connected to SnackBase realtime"],
        [CREATED, told["made"]],
        [UPDATED, told["changed"]],
        [DELETED, told["changed"]],
    ]
    assert [(words[0], words[1]["title"]) for words in said[4:-1]] == [(CREATED, "heard"), (CREATED, "last")]
    assert said[-1] == ["Disconnected from SnackBase realtime"]
    created = next(one for one in told["heard"] if one["type"] == "posts.create")
    assert {"type", "timestamp", "data"} <= created.keys()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", created["timestamp"])


COMPLETE = script(
    "complete",
    """
<<WebSocket | Complete WebSocket Example>>
await scene.hears("subscribed");
const made = await scene.create("posts", { title: "Hello" });
const changed = await scene.update("posts", made.id, { title: "Bye" });
const gone = [];
await realtime.subscribe("comments", ["delete"], (data) => { gone.push(data); scene.look(); });
await scene.hears("subscribed", 2);
await scene.remove("posts", made.id);
const comment = await scene.create("comments", { title: "x" });
await scene.remove("comments", comment.id);
await scene.until(() => gone.length);
await scene.hears("heartbeat");
const before = scene.said.length;
realtime.unsubscribe("posts");
await scene.hears("unsubscribed");
await scene.create("posts", { title: "unheard" });
realtime.ws.send(JSON.stringify({ action: "ping" }));
await scene.hears("pong");
const quiet = scene.said.length === before;
realtime.disconnect();
await scene.says("Disconnected from SnackBase realtime");
return { made, changed, gone, comment, quiet, said: scene.said };
""",
)


@everywhere
async def test_the_complete_websocket_example(request: pytest.FixtureRequest, somebody: Somebody, kind: str) -> None:
    told = await somebody.run(request, kind, COMPLETE)

    assert told["said"] == [
        ["Connected to SnackBase realtime"],
        ["Post event:", told["made"]],
        ["Post event:", told["changed"]],
        ["Disconnected from SnackBase realtime"],
    ]
    assert told["gone"] == [told["comment"]]
    assert told["quiet"]


STREAM = script(
    "stream",
    """
<<Server-Sent Events (SSE) | Connecting>>
<<Server-Sent Events (SSE) | Receiving Events>>
await scene.says("Connected to SnackBase SSE");
await scene.hears("subscribed");
const made = await scene.create("posts", { title: "Hello" });
await scene.create("comments", { title: "unheard" });
const changed = await scene.update("posts", made.id, { title: "Bye" });
await scene.remove("posts", made.id);
await scene.hears("posts.delete");
await scene.says("Heartbeat received");
<<Server-Sent Events (SSE) | Disconnecting>>
return { made, changed, said: scene.said, closed: eventSource.readyState === EventSource.CLOSED };
""",
)


@everywhere
async def test_an_event_stream_of_one_collection(request: pytest.FixtureRequest, somebody: Somebody, kind: str) -> None:
    told = await somebody.run(request, kind, STREAM)

    events = [one[1] for one in told["said"] if one[0] == "Event received:" and "." in one[1]["type"]]
    assert [(event["type"], event["data"]) for event in events] == [
        ("posts.create", told["made"]),
        ("posts.update", told["changed"]),
        ("posts.delete", told["changed"]),
    ]
    assert ["Heartbeat received"] in told["said"]
    assert told["closed"]


SEVERAL = script(
    "several",
    """
<<Server-Sent Events (SSE) | Subscribing via Query Parameters>>
const heard = scene.streams.map((stream) => {
  const types = [];
  stream.addEventListener("message", (event) => { types.push(JSON.parse(event.data).type); });
  return types;
});
await scene.hears("subscribed", 3);
await scene.create("comments", { title: "c" });
await scene.create("posts", { title: "p" });
await scene.hears("posts.create", 2);
for (const stream of scene.streams) stream.close();
return heard.map((types) => types.filter((type) => type.includes(".")));
""",
)


@everywhere
async def test_event_streams_of_one_and_of_several_collections(
    request: pytest.FixtureRequest, somebody: Somebody, kind: str
) -> None:
    told = await somebody.run(request, kind, SEVERAL)

    assert told == [["posts.create"], ["comments.create", "posts.create"]]


COMPLETE_STREAM = script(
    "complete stream",
    """
<<Server-Sent Events (SSE) | Complete SSE Example>>
const comments = [];
sse.on("comments.update", (data) => { comments.push(data); scene.look(); });
await scene.hears("subscribed", 2);
const post = await scene.create("posts", { title: "p" });
await scene.update("posts", post.id, { title: "not listened to" });
const comment = await scene.create("comments", { title: "c" });
const changed = await scene.update("comments", comment.id, { title: "d" });
await scene.until(() => comments.length);
await scene.hears("heartbeat");
sse.disconnect();
return { post, changed, comments, said: scene.said, closed: sse.eventSource.readyState === EventSource.CLOSED };
""",
)


@everywhere
async def test_the_complete_sse_example(request: pytest.FixtureRequest, somebody: Somebody, kind: str) -> None:
    told = await somebody.run(request, kind, COMPLETE_STREAM)

    assert told["said"] == [["New post:", told["post"]]]
    assert told["comments"] == [told["changed"]]
    assert told["closed"]


RECONNECTING = script(
    "reconnecting",
    """
<<Best Practices | 1. Handle Reconnections>>
const realtime = new ReconnectingRealtime(token);
realtime.connect();
await scene.until(() => scene.sockets[0].readyState === WebSocket.OPEN);
tell("connected");
await scene.until(() => scene.sockets.length > 1 && realtime.ws.readyState === WebSocket.OPEN);
realtime.ws.send(JSON.stringify({ action: "subscribe", collection: "posts" }));
await scene.hears("subscribed");
const made = await scene.create("posts", { title: "after the restart" });
await scene.until(() => scene.heard.some((one) => one.data?.id === made.id));
return { closing: scene.heard[0], delay: realtime.reconnectDelay };
""",
)


async def test_the_reconnecting_example_survives_a_restart(
    request: pytest.FixtureRequest, make_server: MakeServer
) -> None:
    server = await make_server()
    async with House(server) as house:
        somebody = await somebody_in(house)
        body = somebody.script(RECONNECTING)
        node, chromium = (perform(request, kind, body, **somebody.values) for kind in KINDS)
        async with node as first, chromium as second:
            assert [await first.next(), await second.next()] == ["connected", "connected"]
            await server.restart()
            for stage in (first, second):
                told = await stage.result()
                assert (told["closing"]["type"], told["closing"]["code"]) == ("closing", "restarting")
                assert told["delay"] == 1000


HEALTH = script(
    "health",
    """
let clock = 0;
const checks = [];
const reconnects = [];
const Clock = { now: () => clock };
const every = (check, ms) => checks.push({ check, ms });
const ws = new WebSocket(`${base.replace("http", "ws")}/api/v1/realtime/ws?token=${token}`);
await scene.until(() => ws.readyState === WebSocket.OPEN);
(function (Date, setInterval) {
<<Best Practices | 4. Monitor Connection Health>>
}).call({ connect: () => reconnects.push("connect") }, Clock, every);
clock = 59_000;
await scene.hears("heartbeat", 2);
clock = 118_000;
checks[0].check();
const kept = [ws.readyState === WebSocket.OPEN, reconnects.length, scene.said.length];
await scene.hears("heartbeat", scene.heard.length + 1);
clock = 179_000;
checks[0].check();
await scene.until(() => ws.readyState === WebSocket.CLOSED);
return { kept, checks: checks.map((one) => one.ms), reconnects, said: scene.said };
""",
)


@everywhere
async def test_the_stale_connection_example_keeps_a_live_connection_and_leaves_a_dead_one(
    request: pytest.FixtureRequest, somebody: Somebody, kind: str
) -> None:
    """The example's clock is turned by hand, so that a minute passes at once."""
    told = await somebody.run(request, kind, HEALTH)

    assert told["kept"] == [True, 0, 0]
    assert told["checks"] == [60_000]
    assert told["reconnects"] == ["connect"]
    assert told["said"] == [["No heartbeat received, connection may be stale"]]


LIMIT = script(
    "limit",
    """
const ws = new WebSocket(`${base.replace("http", "ws")}/api/v1/realtime/ws?token=${token}`);
await scene.until(() => ws.readyState === WebSocket.OPEN);
<<Best Practices | 5. Limit Subscriptions>>
for (let number = 0; number < 101; number += 1) subscribe(number % 2 ? "posts" : "comments");
await scene.hears("subscribed", 100);
ws.close();
return { said: scene.said, heard: scene.heard.filter((one) => one.type !== "heartbeat").length };
""",
)


@everywhere
async def test_the_limiting_example_stays_within_the_limit(
    request: pytest.FixtureRequest, somebody: Somebody, kind: str
) -> None:
    told = await somebody.run(request, kind, LIMIT)

    assert told == {"said": [["Maximum subscriptions reached"]], "heard": 100}


def test_no_block_of_the_page_is_left_out() -> None:
    used = {match for body in SCRIPTS.values() for match in re.findall(r"<<(.*?) \| (.*?)>>", body)}

    assert used == set(BLOCKS)


TOKENS = """
const url = `${base}/api/v1/realtime`;
const selected = [];
const open = async (query, protocols) => {
  const socket = new WebSocket(`${url.replace("http", "ws")}/ws${query}`, protocols);
  await scene.until(() => socket.readyState === WebSocket.OPEN);
  selected.push(socket.protocol);
  socket.send(JSON.stringify({ action: "subscribe", collection: "posts" }));
};
await open(`?token=${token}`, []);
await open("", [token]);
await open("", ["snackbase.v1", token]);
await scene.hears("subscribed", 3);
const headers = { Authorization: `Bearer ${token}` };
const answer = await fetch(`${url}/subscribe?collection=posts`, { headers });
const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
let text = "";
const readTo = async (word) => { while (!text.includes(word)) text += (await reader.read()).value; };
await readTo("subscribed");
new EventSource(`${url}/subscribe?token=${token}&collection=posts`);
await scene.hears("subscribed", 4);
const made = await scene.create("posts", { title: "x" });
await scene.hears("posts.create", 4);
await readTo("posts.create");
return { selected: selected.map((one) => one.replace(token, "the token")), type: answer.headers.get("content-type") };
"""


@everywhere
async def test_the_pages_ways_to_present_a_token(request: pytest.FixtureRequest, somebody: Somebody, kind: str) -> None:
    """Query on both transports, header on SSE, subprotocol on WebSocket; the page shows them without JavaScript."""
    told = await somebody.run(request, kind, TOKENS)

    assert told["selected"] == ["", "the token", "snackbase.v1"]
    assert told["type"].startswith("text/event-stream")
