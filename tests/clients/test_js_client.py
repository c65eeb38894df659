"""Our JavaScript client against a real server: its lists are the server's, whatever happens in between."""

import subprocess
from typing import Any

import pytest

from tests.clients.support import CLIENT, Script, listed, script
from tests.e2e.conftest import MakeHouse
from tests.e2e.support import House, Member

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
