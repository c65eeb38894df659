"""Two nodes and a bus: events, rights and rules cross, with and without the broker."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from tests.e2e.support import TRANSPORTS, House, seen
from tests.nodes.conftest import MakeNodes, all_ready, beside, metric
from tests.support.nodes import Nodes


async def houses(nodes: Nodes, opened: AsyncExitStack) -> list[House]:
    return [await opened.enter_async_context(House(server)) for server in nodes.servers]


async def until_up(*houses: House) -> None:
    async with asyncio.timeout(30):
        for house in houses:
            while await metric(house, "bus_up") != 1:  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.02)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_what_one_node_commits_is_heard_at_the_other_without_reading_the_log(
    make_nodes: MakeNodes, postgres_url: str, transport: str
) -> None:
    nodes = await make_nodes(2, database_url=postgres_url)
    async with AsyncExitStack() as opened:
        here, there = await houses(nodes, opened)
        member, posts = await here.founder(), await here.collection("title")
        await until_up(here, there)
        away = beside(member, there)
        following = await there.follow(transport, away, posts)
        # The first may come before the broker knows that the account is followed there.
        await member.create(posts, title="first")
        await following.next()
        read = await metric(there, "log_rows_read_total")

        made = await member.create(posts, title="one")
        await member.update(posts, made["id"], title="two")
        await member.delete(posts, made["id"])
        events = await following.take(3)

        assert seen(events) == [("create", None, "one"), ("update", None, "two"), ("delete", None, "two")]
        assert await metric(there, "bus_hints_total", result="received") >= 3
        assert await metric(there, "log_rows_read_total") == read


async def test_a_client_moves_between_nodes_with_its_position(make_nodes: MakeNodes, postgres_url: str) -> None:
    nodes = await make_nodes(2, database_url=postgres_url)
    async with AsyncExitStack() as opened:
        here, there = await houses(nodes, opened)
        member, posts = await here.founder(), await here.collection("title")
        socket = await here.socket(member)
        await socket.subscribe(posts)
        away = beside(member, there)
        await away.create(posts, title="one")
        position = (await socket.next())["position"]
        await socket.connection.close()
        await member.create(posts, title="two")
        await away.create(posts, title="three")

        moved = await there.socket(away)
        await moved.subscribe(posts, since=position)
        told = await moved.until(lambda message: message["type"] == "caught_up")

        assert seen(told[:-1]) == [("create", None, "two"), ("create", None, "three")]


async def test_rights_and_rules_changed_at_one_node_hold_at_the_other(make_nodes: MakeNodes, postgres_url: str) -> None:
    nodes = await make_nodes(2, database_url=postgres_url)
    async with AsyncExitStack() as opened:
        here, there = await houses(nodes, opened)
        admin, posts = await here.founder(), await here.collection("title")
        member = await here.member(admin)
        await until_up(here, there)
        away = beside(member, there)
        socket = await there.socket(away)
        await socket.subscribe(posts)
        superadmin = await here.superadmin()

        rule = {"list_rule": "title != 'secret'"}
        await superadmin.request("PUT", f"/collections/{posts}/rules", json=rule)
        for title in ("secret", "plain"):
            await admin.create(posts, title=title)
        told = await socket.until(lambda message: message.get("data", {}).get("title") == "plain")
        assert [message["type"] for message in told] == ["resync", f"{posts}.create"]
        assert "secret" not in socket.raw.decode()

        await superadmin.request("PATCH", f"/users/{member.id}", json={"is_active": False})
        assert (await socket.ended())[1] == "user_disabled"


async def test_without_a_broker_every_event_still_comes_in_order(make_nodes: MakeNodes, postgres_url: str) -> None:
    nodes = await make_nodes(2, database_url=postgres_url)
    async with AsyncExitStack() as opened:
        here, there = await houses(nodes, opened)
        member, posts = await here.founder(), await here.collection("title")
        await until_up(here, there)
        away = beside(member, there)
        following = await there.follow("websocket", away, posts)
        await nodes.nats.kill()
        for number in range(20):
            await (member if number % 3 else away).create(posts, title=str(number))
        assert [event["data"]["title"] for event in await following.take(20)] == [str(n) for n in range(20)]
        await all_ready(nodes)
        assert await metric(there, "bus_up") == 0

        await nodes.nats.start()
        await until_up(here, there)
        await member.create(posts, title="again")
        assert (await following.next())["data"]["title"] == "again"


async def test_a_line_to_the_broker_that_swallows_everything_costs_time_and_no_event(
    make_nodes: MakeNodes, postgres_url: str
) -> None:
    nodes = await make_nodes(2, database_url=postgres_url)
    async with AsyncExitStack() as opened:
        here, there = await houses(nodes, opened)
        member, posts = await here.founder(), await here.collection("title")
        await until_up(here, there)
        following = await there.follow("websocket", beside(member, there), posts)
        nodes.lines[1].stall()
        for number in range(10):
            await member.create(posts, title=str(number))
        assert [event["data"]["title"] for event in await following.take(10)] == [str(n) for n in range(10)]
        nodes.lines[1].heal()
        await until_up(there)


async def test_hints_that_are_lost_doubled_and_late_leave_no_mark(make_nodes: MakeNodes, postgres_url: str) -> None:
    nodes = await make_nodes(3, database_url=postgres_url, hostile=0.2)
    async with AsyncExitStack() as opened:
        all_houses = await houses(nodes, opened)
        member, posts = await all_houses[0].founder(), await all_houses[0].collection("title")
        await until_up(*all_houses)
        members = [beside(member, house) for house in all_houses]
        followings = [await one.house.follow("websocket", one, posts) for one in members]

        async def write(one: int) -> None:
            for number in range(60):
                await members[one].create(posts, title=f"{one}-{number}")

        await asyncio.gather(*map(write, range(3)))
        told = [await following.take(180) for following in followings]

        assert told[0] == told[1] == told[2]
        titles = [event["data"]["title"] for event in told[0]]
        for one in range(3):
            assert [title for title in titles if title.startswith(f"{one}-")] == [f"{one}-{n}" for n in range(60)]
        assert [event["position"].split(".")[1] for event in told[0]] == sorted(
            {event["position"].split(".")[1] for event in told[0]}, key=lambda text: int(text, 36)
        )
