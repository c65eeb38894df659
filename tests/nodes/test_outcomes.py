"""A COMMIT whose answer is lost on the way to one node, and the same write sent again to the other one."""

import uuid
from contextlib import AsyncExitStack

import httpx
import pytest

from tests.e2e.support import API, House, Member, seen
from tests.nodes.conftest import MakeNodes, beside, known
from tests.support.database_line import DatabaseLine, Lost
from tests.support.postgres import Cluster


async def sent(member: Member, collection: str, key: str) -> httpx.Response:
    """A write, whatever it is answered."""
    headers = {"authorization": f"Bearer {member.token}", "idempotency-key": key}
    client = member.house.client
    return await client.post(f"{API}/records/{collection}", json={"title": "once"}, headers=headers, timeout=60)


@pytest.mark.parametrize(
    ("lost", "silent", "first", "replayed"),
    [
        # The node reaches the database again at once and finds out; or it does not, and says so.
        ("answer", False, "", "true"),
        ("commit", False, "storage_error", None),
        ("answer", True, "outcome_unknown", "true"),
        ("commit", True, "outcome_unknown", None),
    ],
)
async def test_a_write_sent_again_to_another_node_finds_what_became_of_it(
    make_nodes: MakeNodes,
    postgres: Cluster,
    postgres_url: str,
    lost: Lost,
    silent: bool,
    first: str,
    replayed: str | None,
) -> None:
    async with DatabaseLine(postgres) as line, AsyncExitStack() as opened:
        nodes = await make_nodes(2, database_url=postgres_url)
        nodes.servers[0].settings["DATABASE_URL"] = line.url(postgres_url)
        await nodes.servers[0].restart()
        here, there = [await opened.enter_async_context(House(server)) for server in nodes.servers]
        member, posts = await here.founder(), await here.collection("title")
        away = beside(member, there)
        await known(posts, member, away)
        following = await there.follow("websocket", away, posts)

        line.lose, line.then_refuses, key = lost, silent, str(uuid.uuid4())
        answer = await sent(member, posts, key)
        again = await sent(away, posts, key)
        assert line.lost.is_set()
        line.heal()

        assert (answer.status_code, answer.json().get("code", "")) == (503 if first else 201, first)
        assert (again.status_code, again.headers.get("idempotency-replayed")) == (201, replayed)
        await away.create(posts, title="after")
        assert seen(await following.take(2)) == [("create", None, "once"), ("create", None, "after")]
        items = (await away.request("GET", f"/records/{posts}")).json()["items"]
        assert sorted(item["title"] for item in items) == ["after", "once"]
