"""`python -m bench.nodes`: how long a write takes to the clients of another node, with the bus and without.

Two nodes over a real PostgreSQL and a real NATS on this machine; clients on the second hear what is created at the
first. Times are from the request's sending to the arrival at a client, median and 99th percentile.
"""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.e2e.support import House, Member, Messages
from tests.nodes.conftest import beside, metric
from tests.support.nodes import Nodes
from tests.support.postgres import Cluster

PAUSE_S = 0.02


async def one(listener: Messages, count: int, arrived: dict[int, float]) -> None:
    for _ in range(count):
        event = await listener.next()
        arrived[int(event["data"]["n"])] = time.perf_counter()


async def measure(folder: Path, url: str, *, bus: bool, writes: int, clients: int) -> dict[str, object]:
    """Milliseconds from a write at one node to the clients of the other."""
    async with (
        Nodes(folder, 2, database_url=url, bus=bus) as nodes,
        House(nodes.servers[0]) as here,
        House(nodes.servers[1]) as there,
    ):
        member: Member = await here.founder()
        posts = await here.collection({"name": "n", "type": "number"})
        away = beside(member, there)
        listeners = [await there.follow("websocket", away, posts) for _ in range(clients)]
        await member.create(posts, n=-1)
        for listener in listeners:
            await listener.next()
        read = await metric(there, "log_rows_read_total")
        arrived: list[dict[int, float]] = [{} for _ in listeners]
        hearing = [
            asyncio.create_task(one(listener, writes, times))
            for listener, times in zip(listeners, arrived, strict=True)
        ]
        sent: list[float] = []
        for number in range(writes):
            sent.append(time.perf_counter())
            await member.create(posts, n=number)
            await asyncio.sleep(PAUSE_S)
        await asyncio.gather(*hearing)
        times = sorted((one[n] - sent[n]) * 1000 for one in arrived for n in range(writes))
        return {
            "bus": bus,
            "clients": clients,
            "writes": writes,
            "p50_ms": round(statistics.median(times), 2),
            "p99_ms": round(times[int(len(times) * 0.99)], 2),
            "read_from_the_log": await metric(there, "log_rows_read_total") - read,
        }


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.nodes", description=__doc__)
    parser.add_argument("--writes", type=int, default=200)
    parser.add_argument("--clients", type=int, default=10)
    asked = parser.parse_args(words)
    cluster = Cluster(settings={"fsync": "on"})
    cluster.start()
    try:
        with tempfile.TemporaryDirectory(prefix="snackbase-nodes-") as folder:
            for bus in (True, False):
                url = cluster.url(cluster.create())
                work = measure(Path(folder) / str(bus), url, bus=bus, writes=asked.writes, clients=asked.clients)
                print(json.dumps(asyncio.run(work)), flush=True)
    finally:
        cluster.remove()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
