"""Our JavaScript client against a real server: its lists are the server's, whatever happens in between."""

import asyncio
import os
import signal
import subprocess
from typing import Any

import pytest

from tests.clients.support import CLIENT, Script, listed, script
from tests.e2e.conftest import MakeHouse
from tests.e2e.support import API, PATIENCE_S, House, Member

pytestmark = pytest.mark.usefixtures("node")
TRANSPORTS = ("websocket", "sse")
both = pytest.mark.parametrize("transport", TRANSPORTS)


async def begun(js: Script, me: Member, *, transport: str = "websocket", **options: Any) -> None:
    await js("S.client(options)", options={"token": me.token, "transport": transport, **options})


@both
async def test_a_live_list_is_the_servers_list_through_every_kind_of_write(house: House, transport: str) -> None:
    posts = await house.collection("title", {"name": "stars", "type": "number"})
    me = await house.founder()
    old = await me.create(posts, title="old", stars=2)
    async with script(house.server.base_url) as js:
        await begun(js, me, transport=transport)
        queries = {
            "all": {},
            "good": {"filter": "stars >= 3", "sort": "-stars,title"},
            "titles": {"fields": "title", "sort": "title"},
        }
        for name, query in queries.items():
            await js.follow(name, posts, **query)
        made = await me.create_all(posts, *({"title": f"t{n}", "stars": n} for n in range(6)))
        await me.update(posts, old["id"], stars=9, title="\N{GRINNING FACE}")
        await me.update(posts, made[5]["id"], stars=1)
        await me.batch("PATCH", posts, records=[{"id": one["id"], "data": {"stars": 4.5}} for one in made[:3]])
        await me.delete(posts, made[1]["id"])
        await me.batch("DELETE", posts, ids=[made[2]["id"], made[3]["id"]])
        await me.create(posts, title="\ufb01", stars=None)
        for name, query in queries.items():
            await js.same(name, await listed(me, posts, **query))
        assert await js("return [S.clients.main.transport, S.errors]") == [transport, []]


class History:
    """Every list that the server had, in order, as the scene notes what a live query shows."""

    def __init__(self, me: Member, collection: str, **query: Any) -> None:
        self._me, self._collection, self._query = me, collection, query
        self.states: list[list[list[Any]]] = [[]]

    async def note(self) -> None:
        records = await listed(self._me, self._collection, **self._query)
        self.states.append([[one["id"], one["updated_at"], one["title"]] for one in records])

    def check(self, shown: list[list[list[Any]]]) -> None:
        """Each list shown was the server's at some moment, and they came in the order of those moments."""
        at = 0
        for number, one in enumerate(shown):
            later = [index for index, state in enumerate(self.states) if index >= at and state == one]
            assert later, f"list {number} was never the server's, or it went back: {one}"
            at = later[0]


@both
async def test_a_list_is_always_a_past_one_and_comes_back_after_kills_and_restarts(
    make_house: MakeHouse, transport: str
) -> None:
    house = await make_house()
    posts = await house.collection("title", {"name": "stars", "type": "number"})
    me = await house.founder()
    history = History(me, posts, filter="stars > 1", sort="title")
    async with script(house.server.base_url) as js:
        await begun(js, me, transport=transport)
        await js.follow("good", posts, filter="stars > 1", sort="title")
        for turn in range(4):
            connections = await js("return S.states.filter((one) => one.state === 'open').length")
            await (house.server.kill() if turn % 2 else house.server.stop())
            await js("await S.until(() => S.clients.main.state === 'waiting')")
            await house.server.start()
            made = await me.create_all(posts, *({"title": f"{n}-{turn}", "stars": n} for n in range(5)))
            await history.note()
            await me.batch("PATCH", posts, records=[{"id": one["id"], "data": {"stars": 5}} for one in made[:2]])
            await history.note()
            await me.batch("DELETE", posts, ids=[made[0]["id"], made[4]["id"]])
            await history.note()
            await js.same("good", await listed(me, posts, filter="stars > 1", sort="title"))
            assert await js("return S.states.filter((one) => one.state === 'open').length") > connections
            for number in range(3):
                await me.update(posts, made[1]["id"], title=f"live {turn} {number}")
                await history.note()
        await js.same("good", await listed(me, posts, filter="stars > 1", sort="title"))
        history.check(await js("return S.queries.good.shown"))


@both
async def test_a_batch_is_shown_at_once_and_never_in_halves(house: House, transport: str) -> None:
    posts = await house.collection("title")
    me = await house.founder()
    async with script(house.server.base_url) as js:
        await begun(js, me, transport=transport)
        await js.follow("all", posts)
        await js("await S.listen('feed', posts)", posts=posts)
        await me.create_all(posts, *({"title": str(n)} for n in range(50)))
        await js("await S.until(() => S.queries.all.shown.length === 2)")
        assert await js("return S.queries.all.shown.map((one) => one.length)") == [0, 50]
        [together] = await js("return S.heard('feed', 'transaction')")
        assert [event["data"]["title"] for event in together] == [str(n) for n in range(50)]
        assert len(await js("return S.heard('feed', 'event', 50)")) == 50


# Tokens --------------------------------------------------------------------------------------------------------------

REFRESHING = """
let refresh = refresh_token;
S.client({ transport, getToken: async ({ fresh, reason }) => {
  S.tokens.push(reason);
  if (!fresh) return token;
  const answer = await fetch(`${url}/api/v1/auth/refresh`, {
    method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ refresh_token: refresh }),
  });
  if (!answer.ok) return null;
  const body = await answer.json();
  refresh = body.refresh_token;
  S.look();
  return body.token;
}});
"""


async def refreshing(js: Script, me: Member, *, transport: str) -> None:
    """A client that keeps itself logged in, as an app does."""
    url = me.house.server.base_url
    await js(REFRESHING, url=url, token=me.token, refresh_token=me.refresh_token, transport=transport)


@both
async def test_a_token_is_replaced_before_it_expires_and_nothing_is_lost(make_house: MakeHouse, transport: str) -> None:
    house = await make_house(ACCESS_TOKEN_EXPIRE_MINUTES=0.07)
    posts = await house.collection("title")
    me = await house.founder()
    async with script(house.server.base_url) as js:
        await refreshing(js, me, transport=transport)
        await js.follow("all", posts)
        await js("await S.until(() => S.tokens.filter((one) => one === 'expiring').length >= 2)")
        me = await me.login_again()
        await me.create(posts, title="after two more tokens")
        await js.same("all", await listed(me, posts))
        states = await js("return S.states.map((one) => one.state)")
        assert "waiting" not in states
        if transport == "websocket":
            assert states == ["connecting", "open"], "the fresh token is taken over in place"


@both
async def test_an_expired_token_is_replaced_when_the_client_comes_back(make_house: MakeHouse, transport: str) -> None:
    house = await make_house(ACCESS_TOKEN_EXPIRE_MINUTES=0.02)
    posts = await house.collection("title")
    me = await house.founder()
    async with asyncio.timeout(PATIENCE_S):
        while (await house.client.get(f"{API}/auth/me", headers={"authorization": f"Bearer {me.token}"})).is_success:
            await asyncio.sleep(0.05)
    async with script(house.server.base_url) as js:
        await refreshing(js, me, transport=transport)
        await js.follow("all", posts)
        assert (await js("return S.tokens"))[:2] == [None, "token_expired"]
        assert await js("return S.states.slice(0, 2).map((one) => one.state)") == ["connecting", "waiting"]


@both
async def test_a_login_that_ended_stops_the_client_until_the_app_brings_another(house: House, transport: str) -> None:
    posts = await house.collection("title")
    me = await house.founder()
    other = await me.login_again()
    async with script(house.server.base_url) as js:
        await refreshing(js, other, transport=transport)
        await js.follow("all", posts)
        await other.request("POST", "/auth/logout")
        await js("await S.until(() => S.clients.main.state === 'stopped')")
        assert await js("return S.tokens") == [None, "token_revoked"]
        assert await js("return S.errors.at(-1).code") == "token_missing"
        made = await me.create(posts, title="meanwhile")
        await js("S.clients.main.setToken(token)", token=me.token)
        await js.same("all", [made])


@both
@pytest.mark.parametrize("token", ["nonsense", "refresh"])
async def test_a_token_that_never_works_is_said_once_and_not_tried_again(
    house: House, transport: str, token: str
) -> None:
    me = await house.founder()
    async with script(house.server.base_url) as js:
        await js(
            "S.client(options)",
            options={"token": me.refresh_token if token == "refresh" else "x.y.z", "transport": transport},
        )
        await js("void S.follow('all', 'posts'); await S.until(() => S.clients.main.state === 'stopped')")
        assert [one["code"] for one in await js("return S.errors")] == ["token_invalid"]
        assert await js("return S.states.map((one) => one.state)") == ["connecting", "stopped"]


# Rights and the whole set again --------------------------------------------------------------------------------------


@both
async def test_changed_rules_and_schemas_bring_the_list_to_what_it_is_now(house: House, transport: str) -> None:
    posts = await house.collection("title", {"name": "stars", "type": "number"})
    me = await house.founder()
    boss = await house.superadmin()
    await me.create_all(posts, *({"title": str(n), "stars": n} for n in range(6)))
    async with script(house.server.base_url) as js:
        await begun(js, me, transport=transport)
        await js.follow("all", posts)
        for rule in ("stars < 3", "stars > 1", "@owns_record()"):
            await boss.request("PUT", f"/collections/{posts}/rules", json={"list_rule": rule})
            await js.same("all", await listed(me, posts))
        schema = [{"name": name, "type": kind} for name, kind in (("title", "text"), ("stars", "number"))]
        more = [*schema, {"name": "state", "type": "text", "default": "new"}]
        await boss.request("PUT", f"/collections/{posts}", json={"schema": more})
        await js.same("all", await listed(me, posts))
        await me.create(posts, title="x", stars=2, state="y")
        await js.same("all", await listed(me, posts))
        assert await js("return S.errors") == []


@both
async def test_a_list_that_may_not_be_seen_any_more_is_emptied_said_and_can_be_tried_again(
    house: House, transport: str
) -> None:
    posts, notes = await house.collection("title"), await house.collection("title")
    me = await house.founder()
    boss = await house.superadmin()
    await me.create(posts, title="x")
    async with script(house.server.base_url) as js:
        await begun(js, me, transport=transport)
        await js.follow("all", posts)
        await js.follow("notes", notes)
        await boss.request("PUT", f"/collections/{posts}/rules", json={"list_rule": None})
        await js("await S.reaches('all', 'failed')")
        assert await js("return [S.queries.all.live.records, S.queries.all.states.at(-1)]") == [[], "failed:forbidden"]
        await me.create(notes, title="the others go on")
        await js.same("notes", await listed(me, notes))
        await boss.request("PUT", f"/collections/{posts}/rules", json={"list_rule": "@request.auth.id != ''"})
        await js("S.queries.all.live.retry()")
        await js.same("all", await listed(me, posts))


@both
async def test_of_several_subscriptions_only_the_impossible_ones_fail(house: House, transport: str) -> None:
    posts, locked = await house.collection("title"), await house.collection("title", list_rule=None)
    me = await house.founder()
    wanted = {
        "good": (posts, {}),
        "locked": (locked, {}),
        "absent": ("nothing_here", {}),
        "wrong": (posts, {"filter": "titel = 'x'"}),
        "also": (posts, {"sort": "title"}),
        "unsorted": (posts, {"sort": "titel"}),
    }
    async with script(house.server.base_url) as js:
        await begun(js, me, transport=transport)
        await js(
            "for (const [name, [c, q]] of Object.entries(wanted)) S.follow(name, c, q).catch(() => {})", wanted=wanted
        )
        for name, code in (
            ("locked", "forbidden"),
            ("absent", "collection_not_found"),
            ("wrong", "invalid_filter"),
            ("unsorted", "invalid_sort"),
        ):
            await js("await S.reaches(name, 'failed')", name=name)
            assert await js("return S.queries[name].states.at(-1)", name=name) == f"failed:{code}"
        made = await me.create(posts, title="x")
        await js.same("good", [made])
        await js.same("also", [made])


@both
async def test_a_set_too_large_for_a_snapshot_is_read_in_pages_while_it_changes(house: House, transport: str) -> None:
    posts = await house.collection("title", "body")
    me = await house.founder()
    body = "x" * 45_000
    made: list[dict[str, Any]] = []
    for _ in range(25):
        made += await me.create_all(posts, *({"title": str(len(made) + n), "body": body} for n in range(10)))
    async with script(house.server.base_url) as js:
        await begun(js, me, transport=transport)
        await js("void S.follow('all', posts, { sort: 'title' })", posts=posts)
        for n in range(0, 200, 10):
            await me.update(posts, made[n]["id"], title=f"changed {n}")
            await me.delete(posts, made[n + 1]["id"])
            await me.create(posts, title=f"new {n}", body="short")
        await js("await S.reaches('all', 'live')")
        wanted = await listed(me, posts, sort="title", fields="title")
        shown = "return S.queries.all.live.records.map(({ id, title }) => ({ id, title }))"
        await js(
            f"await S.until(() => JSON.stringify((() => {{ {shown} }})()) === JSON.stringify(wanted))", wanted=wanted
        )
        assert await js("return S.errors") == []
        # Taken up again by its cursor, not by another reading of everything.
        await me.delete(posts, made[249]["id"])
        await js(
            "S.clients.main.reconnect(); await S.until(() => S.queries.all.live.records.length === count)",
            count=len(wanted) - 1,
        )


# Connections ---------------------------------------------------------------------------------------------------------


async def test_where_websockets_do_not_get_through_an_event_stream_does(house: House) -> None:
    posts = await house.collection("title")
    me = await house.founder()
    async with script(house.server.base_url) as js:
        # What a proxy that knows no WebSocket does: every handshake fails.
        await js(
            "S.client({ token, transport: 'auto', WebSocket: class extends WebSocket {"
            " constructor(url, p) { super(url.replace('/ws', '/health'), p); } } })",
            token=me.token,
        )
        await js.follow("all", posts)
        assert await js("return S.clients.main.transport") == "sse"
        await js.same("all", [await me.create(posts, title="x")])
        # Another subscription is another stream: nothing is lost between the two.
        await js("void S.follow('more', posts, { sort: 'title' })", posts=posts)
        await me.create(posts, title="y")
        for name, sort in (("all", ""), ("more", "title")):
            await js.same(name, await listed(me, posts, sort=sort))


async def test_without_a_websocket_it_begins_with_an_event_stream(house: House) -> None:
    posts = await house.collection("title")
    me = await house.founder()
    async with script(house.server.base_url) as js:
        await js("S.client({ token, WebSocket: undefined })", token=me.token)
        await js.follow("all", posts)
        assert await js("return S.clients.main.transport") == "sse"


@both
async def test_a_server_that_went_silent_is_left_and_found_again(quick_house: House, transport: str) -> None:
    house = quick_house
    posts = await house.collection("title")
    me = await house.founder()
    async with script(house.server.base_url) as js:
        options = {"token": me.token, "transport": transport}
        await js("S.client({ ...options, ...S.counting(WebSocket) })", options=options)
        await js.follow("all", posts)
        # The time between two heartbeats tells how often they come.
        await js("await S.until(() => S.beats >= 3)")
        os.kill(house.server.pid, signal.SIGSTOP)
        try:
            await js(
                "await S.until(() => S.states.some((one) => one.state === 'waiting' && one.error.code === 'timeout'))"
            )
        finally:
            os.kill(house.server.pid, signal.SIGCONT)
        await js.same("all", [await me.create(posts, title="x")])


async def test_a_hundred_subscriptions_fit_and_end_without_breaking_the_servers_limits(house: House) -> None:
    posts = await house.collection("title", {"name": "stars", "type": "number"})
    me = await house.founder()
    long = " || ".join(f"title = 'a title of some length {n}'" for n in range(30))
    async with script(house.server.base_url) as js:
        await begun(js, me)
        await js(
            "await Promise.all(Array.from({ length: 100 }, (_, n) =>"
            " S.listen(`f${n}`, posts, { filter: `stars = ${n} || ${long}` })))",
            posts=posts,
            long=long,
        )
        await me.create_all(posts, *({"title": "x", "stars": n} for n in range(100)))
        await js("for (let n = 0; n < 100; n += 1) await S.heard(`f${n}`, 'event')")
        await js("for (let n = 1; n < 100; n += 1) S.feeds[`f${n}`].feed.unsubscribe()")
        await me.create_all(posts, *({"title": "x", "stars": n} for n in range(100)))
        assert len(await js("return S.heard('f0', 'event', 2)")) == 2
        assert await js("return [S.errors, S.states.map((one) => one.state)]") == [[], ["connecting", "open"]]


@both
async def test_a_feed_goes_on_from_a_position_and_hears_of_what_it_cannot_go_on_from(
    house: House, transport: str
) -> None:
    posts = await house.collection("title")
    me = await house.founder()
    since = (await me.request("GET", f"/records/{posts}")).json()["position"]
    await me.create_all(posts, *({"title": str(n)} for n in range(3)))
    async with script(house.server.base_url) as js:
        await begun(js, me, transport=transport)
        await js(
            "await S.listen('feed', posts, { since, operations: ['create'], fields: ['title'] })",
            posts=posts,
            since=since,
        )
        events = await js("return S.heard('feed', 'event', 3)")
        assert [event["data"]["title"] for event in events] == ["0", "1", "2"]
        await js("await S.heard('feed', 'caughtUp')")
        position = await js("return S.feeds.feed.feed.position")
        assert position == (await me.request("GET", f"/records/{posts}")).json()["position"]
        await js("await S.listen('lost', posts, { since: 'a-position-of-nobody' })", posts=posts)
        [told] = await js("return S.heard('lost', 'resync')")
        assert told["reason"] == "unknown"
        await me.create(posts, title="live")
        assert (await js("return S.heard('lost', 'event')"))[0]["data"]["title"] == "live"


async def test_nobody_holds_a_connection_when_the_last_query_is_closed(house: House) -> None:
    posts = await house.collection("title")
    me = await house.founder()
    async with script(house.server.base_url) as js:
        await begun(js, me)
        await js.follow("all", posts)
        await js("S.queries.all.live.close(); await S.until(() => S.clients.main.state === 'idle')")
        await js.follow("again", posts)
        await js.same("again", [await me.create(posts, title="x")])


# Records -------------------------------------------------------------------------------------------------------------


async def test_records_are_written_read_and_refused_in_the_servers_words(house: House) -> None:
    posts = await house.collection({"name": "title", "type": "text", "required": True}, "body")
    me = await house.founder()
    async with script(house.server.base_url) as js:
        await begun(js, me)
        told = await js(
            """
            const records = S.clients.main.records(posts);
            const made = await records.create({ title: "a" }, { idempotencyKey: "one-and-only" });
            const patched = await records.update(made.id, { body: "b" });
            const replaced = await records.replace(made.id, { title: "c" });
            const { created } = await records.batch.create([{ title: "x" }, { title: "y" }]);
            await records.batch.update(created.map(({ id }) => ({ id, data: { body: "z" } })));
            const page = await records.list({ sort: "title", limit: 2, fields: ["title"] });
            await records.batch.delete([created[0].id]);
            await records.delete(made.id);
            const last = await records.get(created[1].id, { fields: "title,body" });
            const refused = await records.create({}).catch((error) => error);
            return { patched, replaced, page, last, refused: [refused.code, refused.status, refused.details[0].field] };
            """,
            posts=posts,
        )
        assert told["patched"]["body"] == "b"
        assert (told["replaced"]["title"], told["replaced"]["body"]) == ("c", None)
        assert [one["title"] for one in told["page"]["items"]] == ["c", "x"]
        assert (told["last"]["title"], told["last"]["body"]) == ("y", "z")
        assert told["refused"] == ["validation_failed", 422, "title"]


def test_its_parts_do_what_they_say() -> None:
    command = ["node", "--test", "--test-reporter=spec"]
    done = subprocess.run(command, cwd=CLIENT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "pass 0" not in done.stdout
