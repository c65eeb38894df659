"""The numbers of several workers: one answer tells those of all, and what they say about the work each has done."""

import asyncio
import os
import signal
from collections import Counter, defaultdict
from collections.abc import Callable

from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.support import House, Messages
from tests.nodes.test_workers import open_connections, server, workers_of
from tests.support.server import ServerProcess

__all__ = ["server"]

FILTERS = ("n >= 0", "n >= 0 || n < -1", "n < 1000000", "n < 500000 && n >= 0")
"""Everything passes each of them, and no index finds them: a worker has to judge each once an event."""
CONNECTIONS = 24
EVENTS = 40
Numbers = dict[str, Counter[str]]


async def numbers(house: House) -> Numbers:
    """Worker -> what /metrics says of it, summed over other labels."""
    found: Numbers = defaultdict(Counter)
    answer = await house.client.get("/metrics")
    assert answer.status_code == 200
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            assert "worker" in sample.labels, sample
            found[sample.labels["worker"]][sample.name.removeprefix("snackbase_")] += sample.value  # type: ignore[assignment]  # whole numbers
    return found


async def until(house: House, condition: Callable[[Numbers], bool]) -> Numbers:
    async with asyncio.timeout(60):
        while not condition(found := await numbers(house)):  # noqa: ASYNC110 - other processes
            await asyncio.sleep(0.05)
    return found


async def test_a_scrape_tells_every_worker_whichever_answers(server: ServerProcess) -> None:
    async with House(server) as house:
        member, posts = await house.founder(), await house.collection("title")
        for _ in range(10):
            await house.follow("websocket", member, posts)
        await member.create(posts, title="one")
        for _ in range(6):
            found = await numbers(house)
            assert found.keys() == {"0", "1"}
            assert sum(one["realtime_connections"] for one in found.values()) == 10
            assert sum(one["store_changes"] for one in found.values()) >= 1
            assert [one["worker_up"] for one in found.values()] == [1, 1]
            assert len({one["process_start_time_seconds"] for one in found.values()}) == 2


async def test_a_worker_that_hangs_is_told_as_such_and_one_that_died_comes_back_under_its_number(
    server: ServerProcess,
) -> None:
    first, second = workers_of(server)
    async with House(server) as house:
        assert (await numbers(house)).keys() == {"0", "1"}
        # This connection has its worker; the other one is to hang.
        mine = (await house.client.get("/live")).extensions["network_stream"].get_extra_info("client_addr")[1]
        hanging = second if mine in open_connections(first, server.port) else first
        os.kill(hanging, signal.SIGSTOP)
        found = await numbers(house)
        assert sorted(one["worker_up"] for one in found.values()) == [0, 1]
        os.kill(hanging, signal.SIGKILL)
        back = await until(house, lambda now: [one["worker_up"] for one in now.values()] == [1, 1])
        assert back.keys() == {"0", "1"}
        assert hanging not in workers_of(server)


async def test_no_event_is_judged_or_read_from_the_log_more_than_once_a_worker(
    server: ServerProcess,
) -> None:
    async with House(server) as house:
        member, posts = await house.founder(), await house.collection({"name": "n", "type": "number"})
        followings: list[Messages] = [
            await house.follow("websocket", member, {"collection": posts, "filter": FILTERS[number % len(FILTERS)]})
            for number in range(CONNECTIONS)
        ]
        before = await until(
            house, lambda now: sum(one["realtime_subscriptions"] for one in now.values()) == CONNECTIONS
        )
        for number in range(EVENTS):
            await member.create(posts, n=number)
        for one in followings:
            assert [event["data"]["n"] for event in await one.take(EVENTS)] == list(range(EVENTS))
        after = await numbers(house)

        told = 0
        for worker, had in before.items():
            made = Counter({name: value - had[name] for name, value in after[worker].items()})
            groups, members = had["realtime_groups"], had["realtime_subscriptions"]
            assert 0 < groups <= len(FILTERS)
            assert made["realtime_events_total"] == EVENTS
            assert made["realtime_judgements_total"] == EVENTS * groups
            assert made["realtime_deliveries_total"] == EVENTS * members
            assert made["log_rows_read_total"] <= EVENTS
            # What it committed itself it need not read; what the other one did it reads once.
            assert made["log_rows_read_total"] + made["store_changes"] >= EVENTS
            assert made["realtime_replay_rows_total"] == 0
            told += made["store_changes"]
        assert told == EVENTS
