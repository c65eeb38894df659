"""Our JavaScript client's live lists are the server's, whatever happens in between."""

from typing import Any

import pytest

from tests.clients.support import begun, both, listed, script
from tests.e2e.conftest import MakeHouse
from tests.e2e.support import House, Member

pytestmark = pytest.mark.usefixtures("node")


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
