"""Our JavaScript client's records, its work in Chromium, its own unit tests and its types."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.clients.support import CLIENT, begun, both, in_page, listed, script
from tests.e2e.conftest import MakeHouse
from tests.e2e.support import House
from tests.support.node import JS, MODULES

pytestmark = pytest.mark.usefixtures("node")
TYPES = CLIENT / "src" / "index.d.ts"


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


# Chromium ------------------------------------------------------------------------------------------------------------


@both
@pytest.mark.usefixtures("browser")
async def test_a_live_list_in_chromium_is_the_servers_list_also_after_a_kill(
    make_house: MakeHouse, transport: str, tmp_path: Path
) -> None:
    house = await make_house()
    posts = await house.collection("title")
    me = await house.founder()
    (tmp_path / "page").mkdir()
    async with in_page(house.server.base_url, tmp_path / "page") as js:
        await begun(js, me, transport=transport)
        await js.follow("all", posts, sort="title")
        made = await me.create_all(posts, *({"title": str(n)} for n in range(9)))
        await js.same("all", await listed(me, posts, sort="title"))
        await house.server.kill()
        await js("await S.until(() => S.clients.main.state === 'waiting')")
        await house.server.start()
        await me.batch("DELETE", posts, ids=[one["id"] for one in made[::2]])
        await me.update(posts, made[1]["id"], title="9")
        await js.same("all", await listed(me, posts, sort="title"))
        await me.create(posts, title="live")
        await js.same("all", await listed(me, posts, sort="title"))


@pytest.mark.usefixtures("browser")
async def test_a_page_comes_back_at_once_when_the_network_does(make_house: MakeHouse, tmp_path: Path) -> None:
    house = await make_house()
    posts = await house.collection("title")
    me = await house.founder()
    (tmp_path / "page").mkdir()
    async with in_page(house.server.base_url, tmp_path / "page") as js:
        options = {"token": me.token, "reconnect": {"minMs": 3_600_000, "maxMs": 3_600_000}}
        await js("S.client({ ...o, reconnect: { ...o.reconnect, random: () => 1 } })", o=options)
        await js.follow("all", posts)
        await house.server.kill()
        await js("await S.until(() => S.clients.main.state === 'waiting')")
        await house.server.start()
        made = await me.create(posts, title="meanwhile")
        await js("window.dispatchEvent(new Event('online'))")
        await js.same("all", [made])


# Its own parts -------------------------------------------------------------------------------------------------------


def test_its_parts_do_what_they_say() -> None:
    command = ["node", "--test", "--test-timeout=30000", "--test-reporter=spec"]
    done = subprocess.run(command, cwd=CLIENT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "pass 0" not in done.stdout


def test_its_types_say_what_it_takes() -> None:
    compiler = MODULES / "typescript" / "bin" / "tsc"
    done = subprocess.run(["node", compiler, "-p", JS / "tsconfig.client.json"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


async def test_everything_its_types_promise_is_there(house: House) -> None:
    promised = {}
    for kind, name, body in re.findall(
        r"^export (class|interface) (\w+).*?\{\n(.*?)^\}", TYPES.read_text(), re.M | re.S
    ):
        if name in ("Client", "Feed", "LiveQuery", "Records") or (kind, name) == ("class", "SnackBaseError"):
            promised[name] = sorted(set(re.findall(r"^  (?:readonly )?(\w+)[(<:]", body, re.M)) - {"constructor"})
    assert len(promised) == 5
    me = await house.founder()
    posts = await house.collection("title")
    async with script(house.server.base_url) as js:
        await begun(js, me)
        absent = await js(
            """
            const client = S.clients.main;
            const made = {
              Client: client, Feed: client.subscribe(posts, () => {}), LiveQuery: client.liveQuery(posts),
              Records: client.records(posts), SnackBaseError: new snackbase.SnackBaseError("a", "b"),
            };
            return Object.entries(promised).flatMap(([name, all]) => all.filter((one) => !(one in made[name])));
            """,
            promised=promised,
            posts=posts,
        )
        assert absent == []
