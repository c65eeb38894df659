"""Two nodes with nothing between them but PostgreSQL: what one commits is told by NOTIFY and read from the log."""

import asyncio
import itertools
from contextlib import AsyncExitStack

import httpx

from proof.faults import FaultProxy
from tests.conftest import MakeCluster
from tests.e2e.support import House, Member
from tests.nodes.conftest import MakeNodes, beside
from tests.support.nodes import Nodes
from tests.support.server import free_port


async def houses(nodes: Nodes, opened: AsyncExitStack) -> list[House]:
    return [await opened.enter_async_context(House(server)) for server in nodes.servers]


async def ready(house: House) -> None:
    async with asyncio.timeout(30), httpx.AsyncClient() as client:
        while (await client.get(f"{house.server.base_url}/ready")).status_code != 200:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.05)


async def test_what_one_node_commits_the_other_hears_from_the_database(
    make_nodes: MakeNodes, postgres_url: str
) -> None:
    nodes = await make_nodes(2, database_url=postgres_url, bus=False)
    async with AsyncExitStack() as opened:
        here, there = await houses(nodes, opened)
        member, posts = await here.founder(), await here.collection("title")
        away = beside(member, there)
        following = [await house.follow("websocket", one, posts) for house, one in ((here, member), (there, away))]

        for number in range(30):
            await (member if number % 2 else away).create(posts, title=str(number))

        for one in following:
            assert [event["data"]["title"] for event in await one.take(30)] == [str(n) for n in range(30)]


async def test_a_database_that_is_killed_and_restarted_costs_time_and_no_event(
    make_nodes: MakeNodes, make_cluster: MakeCluster
) -> None:
    cluster = await asyncio.to_thread(make_cluster, settings={"fsync": "on", "full_page_writes": "on"})
    nodes = await make_nodes(2, database_url=cluster.url(), bus=False)
    async with AsyncExitStack() as opened:
        both = await houses(nodes, opened)
        member, posts = await both[0].founder(), await both[0].collection("title")
        people = (member, beside(member, both[1]))
        following = [await house.follow("websocket", one, posts) for house, one in zip(both, people, strict=True)]
        acknowledged: list[str] = []
        refused: set[int] = set()
        stop = asyncio.Event()

        async def writer(name: str, one: Member) -> None:
            headers = {"authorization": f"Bearer {one.token}"}
            for number in itertools.count():
                title = f"{name}{number}"
                path = f"/api/v1/records/{posts}"
                answer = await one.house.client.post(path, json={"title": title}, headers=headers)
                if answer.status_code == 201:
                    acknowledged.append(title)
                else:
                    refused.add(answer.status_code)
                    await asyncio.sleep(0.05)
                if stop.is_set():
                    return

        writers = [asyncio.ensure_future(writer(name, one)) for name, one in zip("ab", people, strict=True)]
        for end in (cluster.kill, cluster.stop):
            await asyncio.sleep(0.3)
            await asyncio.to_thread(end)
            await asyncio.sleep(0.3)
            await asyncio.to_thread(cluster.start)
            for house in both:
                await ready(house)
        await asyncio.sleep(0.3)
        stop.set()
        await asyncio.gather(*writers)
        assert refused <= {503}

        await member.create(posts, title="last")
        heard = []
        for follower in following:
            titles: list[str] = []
            while not titles or titles[-1] != "last":
                titles.append((await follower.next())["data"]["title"])
            heard.append(titles)
        assert heard[0] == heard[1]
        assert len(set(heard[0])) == len(heard[0])
        assert set(acknowledged) <= set(heard[0])
        assert "Traceback" not in nodes.output


async def test_what_one_node_makes_is_known_at_once_at_another_that_has_not_heard_of_it(
    make_nodes: MakeNodes, make_cluster: MakeCluster
) -> None:
    port = free_port()
    cluster = await asyncio.to_thread(make_cluster, port=port)
    async with AsyncExitStack() as opened:
        ears = await opened.enter_async_context(FaultProxy(port))
        nodes = await make_nodes(1, database_url=cluster.url(), bus=False)
        deaf = await make_nodes(
            1,
            database_url=cluster.url(),
            bus=False,
            settings={"DATABASE_DIRECT_URL": f"postgresql://postgres@127.0.0.1:{ears.port}/postgres"},
        )
        [here], [there] = await houses(nodes, opened), await houses(deaf, opened)
        member = await here.founder()
        away = beside(member, there)
        socket = await there.socket(away)
        ears.stall()
        for number in range(5):
            posts = await here.collection("title")
            if number % 2:
                assert (await away.create(posts, title="one"))["title"] == "one"
            else:
                await socket.subscribe(posts)
        answer = await there.stream(away, ("collection", await here.collection("title")))
        assert (await answer.next())["type"] == "subscribed"
        assert (await socket.ask("subscribe", collection="nowhere"))["code"] == "collection_not_found"
        await away.request("GET", "/records/nowhere", status=404)
        ears.heal()
