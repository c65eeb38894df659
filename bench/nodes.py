"""`python -m bench.nodes`: how soon other nodes hear of a write and of a change of rights, with and without a broker.

Real nodes over a real PostgreSQL (fsync on) and a real NATS on this machine; clients of the others hear what is created
at the first, and have to hear it once and in order. Times are from the request's sending to the arrival at a client.
In each round trouble comes in the middle of the writes (or is there before) and is over at the end. "Deaf": neither
hints of a broker nor notifications of the database arrive, and nobody notices; only looking at the log is left.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec

from bench.programs import BenchError
from bench.report import machine
from proof.faults import FaultProxy
from tests.e2e.support import House, Member, Messages
from tests.nodes.conftest import beside, known, metric
from tests.support.nodes import Nodes
from tests.support.postgres import Cluster
from tests.support.server import ServerProcess, Setting, free_port

PAUSE_S = 0.02
UP_S = 60.0
GUARD = ("@has_role('admin') || @has_group('crew') || n >= 0", "@has_role('admin') || @has_group('crew') || n > -1")
MOST_MS = {"with": 10.0, "without": 3000.0, "rights": 1000.0}


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How much is measured: rounds of writes, heard by clients on each other node; changes of each kind of right."""

    nodes: int = 3
    rounds: int = 5
    writes: int = 100
    clients: int = 5
    changes: int = 10


PLANS = {"default": Plan(), "tiny": Plan(nodes=2, rounds=1, writes=6, clients=1, changes=1)}


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a table; milliseconds. `node`: the one that heard it, or "all" but the first.

    Attributes:
        most: the worst of all rounds; typical_most: the median of the rounds' worst. limit: of p50, or of most.
    """

    what: str
    node: str
    count: int
    p50: float
    p99: float
    typical_most: float
    most: float
    on: str = ""
    limit: float | None = None

    @property
    def reached(self) -> bool:
        return self.limit is None or (self.p50 if self.on == "p50" else self.most) <= self.limit


class Scene(msgspec.Struct, frozen=True, kw_only=True):
    """`before`: once; `middle`: in each round; `after` each round: what they do to the nodes."""

    what: str
    limit: str
    before: Callable[[], Awaitable[None]] | None = None
    middle: Callable[[], Awaitable[None]] | None = None
    after: Callable[[], Awaitable[None]] | None = None


class Site:
    """Running nodes, and who is known there.

    Attributes:
        problems: events that were missing, repeated or out of order.
    """

    def __init__(self, nodes: Nodes, houses: list[House], plan: Plan) -> None:
        self.nodes, self.houses, self.plan = nodes, houses, plan
        self.problems: list[str] = []

    async def until_bus(self, up: int) -> None:
        """Until every node knows that the broker is there, or is not."""
        async with asyncio.timeout(UP_S):
            for house in self.houses:
                while await metric(house, "bus_up") != up:  # noqa: ASYNC110 - another process
                    await asyncio.sleep(0.05)

    async def events(self, scene: Scene) -> AsyncIterator[Row]:
        """One scene."""
        if scene.before is not None:
            await scene.before()
        first = self.houses[0]
        member: Member = await first.founder()
        posts = await first.collection({"name": "n", "type": "number"})
        await known(posts, *(beside(member, house) for house in self.houses))
        listeners = [
            (number, await house.follow("websocket", beside(member, house), posts))
            for number, house in enumerate(self.houses[1:], 1)
            for _ in range(self.plan.clients)
        ]
        # The first may come before the broker knows that the account is followed.
        await member.create(posts, n=-1)
        for _, listener in listeners:
            await listener.next()
        rounds = [await self._round(scene, member, posts, listeners) for _ in range(self.plan.rounds)]
        for node in range(1, len(self.houses)):
            yield _row(scene.what, str(node), [times[node] for times in rounds], scene.limit)

    async def _round(
        self, scene: Scene, member: Member, posts: str, listeners: list[tuple[int, Messages]]
    ) -> dict[int, list[float]]:
        sent: list[float] = []

        async def hear(listener: Messages) -> list[float]:
            times = []
            for number in range(self.plan.writes):
                event = await listener.next()
                if event.get("data", {}).get("n") != number:
                    self.problems.append(f"{scene.what}: {event} instead of number {number}")
                times.append((time.perf_counter() - sent[number]) * 1000)
            return times

        hearing = [asyncio.create_task(hear(listener)) for _, listener in listeners]
        for number in range(self.plan.writes):
            if number == self.plan.writes // 3 and scene.middle is not None:
                await scene.middle()
            sent.append(time.perf_counter())
            await member.create(posts, n=number)
            await asyncio.sleep(PAUSE_S)
        found: dict[int, list[float]] = {}
        for (node, _), times in zip(listeners, await asyncio.gather(*hearing), strict=True):
            found.setdefault(node, []).extend(times)
        if scene.after is not None:
            await scene.after()
        return found

    async def rights(self, what: str) -> AsyncIterator[Row]:
        """Changes made at the first node, and when connections of the second are told of them."""
        here, there = self.houses[:2]
        founder, posts = await here.founder(), await here.collection({"name": "n", "type": "number"})
        superadmin = await here.superadmin()
        await superadmin.request("PUT", f"/collections/{posts}/rules", json={"list_rule": GUARD[1]})
        member = await here.member(founder)
        await known(posts, beside(member, there))
        listeners = [
            await there.follow("websocket", beside(member, there), posts) for _ in range(max(2, self.plan.clients))
        ]
        user = f"/users/{member.id}"
        for kind, path, bodies in (
            ("a role", user, ({"role_id": 1}, {"role_id": 2})),
            ("groups", user, ({"groups": ["crew"]}, {"groups": []})),
            ("a rule", f"/collections/{posts}/rules", ({"list_rule": GUARD[0]}, {"list_rule": GUARD[1]})),
        ):
            method = "PUT" if path.endswith("rules") else "PATCH"
            rounds = []
            for number in range(self.plan.changes):
                told = [asyncio.create_task(_told(one, "resync")) for one in listeners]
                began = time.perf_counter()
                await superadmin.request(method, path, json=bodies[number % 2])
                rounds.append([(at - began) * 1000 for at in await asyncio.gather(*told)])
                # Some time of its own for each, so that looks at the log fall anywhere.
                await asyncio.sleep(0.037 * (number + 1))
            yield _row(f"{kind}, {what}", "1", rounds, "rights")
        rounds = []
        for number in range(self.plan.changes):
            gone = await here.member(founder)
            socket = await there.socket(beside(gone, there))
            await socket.subscribe(posts)
            told = [asyncio.create_task(_ended(socket))]
            await asyncio.sleep(0.037 * (number + 1))
            began = time.perf_counter()
            await superadmin.request("PATCH", f"/users/{gone.id}", json={"is_active": False})
            rounds.append([(at - began) * 1000 for at in await asyncio.gather(*told)])
        yield _row(f"a deactivation, {what}", "1", rounds, "rights")


async def _told(listener: Messages, kind: str) -> float:
    """When a message of this kind came."""
    while (await listener.next())["type"] != kind:
        pass
    return time.perf_counter()


async def _ended(listener: Messages) -> float:
    """When the connection was ended."""
    await listener.rest()
    return time.perf_counter()


def _row(what: str, node: str, rounds: Sequence[Sequence[float]], limit: str) -> Row:
    times = sorted(one for found in rounds for one in found)
    return Row(
        what=what,
        node=node,
        count=len(times),
        p50=statistics.median(times),
        p99=times[min(len(times) - 1, int(len(times) * 0.99))],
        typical_most=statistics.median(max(found) for found in rounds),
        most=times[-1],
        on="p50" if limit == "with" else "most",
        limit=MOST_MS[limit],
    )


class Deaf(Nodes):
    """All nodes but the first listen to the database through a line that can be cut."""

    def __init__(self, folder: Path, count: int, *, database_url: str, ears: str) -> None:
        super().__init__(folder, count, database_url=database_url, bus=False)
        self._ears = ears

    def server(self, settings: Mapping[str, Setting], number: int) -> ServerProcess:
        more: dict[str, Setting] = {"DATABASE_DIRECT_URL": self._ears} if number else {}
        return super().server({**settings, **more}, number)


@asynccontextmanager
async def site(plan: Plan, folder: Path, url: str, *, bus: bool, ears: str = "") -> AsyncIterator[Site]:
    async with AsyncExitStack() as opened:
        deaf = Deaf(folder, plan.nodes, database_url=url, ears=ears)
        nodes = deaf if ears else Nodes(folder, plan.nodes, database_url=url, bus=bus)
        await opened.enter_async_context(nodes)
        yield Site(nodes, [await opened.enter_async_context(House(server)) for server in nodes.servers], plan)


def scenes(place: Site) -> list[Scene]:
    """With the broker, and three ways to be without it; the last leaves it stopped."""
    nodes = place.nodes

    async def back() -> None:
        await nodes.nats.start()
        await place.until_bus(1)

    async def cut() -> None:
        nodes.lines[1].stall()

    async def healed() -> None:
        nodes.lines[1].heal()
        await place.until_bus(1)

    async def stopped() -> None:
        await nodes.nats.kill()
        await asyncio.gather(*(server.restart() for server in nodes.servers))
        await place.until_bus(0)

    return [
        Scene(what="with the broker", limit="with", before=lambda: place.until_bus(1)),
        Scene(what="one node cut off from the broker (node 1)", limit="without", middle=cut, after=healed),
        Scene(what="the broker stopped in the middle", limit="without", middle=nodes.nats.kill, after=back),
        Scene(what="the broker stopped before the nodes start", limit="without", before=stopped),
    ]


async def measure(plan: Plan, cluster: Cluster, folder: Path) -> tuple[list[Row], list[str]]:
    """Everything; prints each row as soon as it is there."""
    rows, problems = list[Row](), list[str]()

    async def take(found: AsyncIterator[Row]) -> None:
        async for row in found:
            print(_line(row), flush=True)
            rows.append(row)

    print(
        "| What | Node | Count | p50 ms | p99 ms | Most ms, median of rounds | Most ms | At most |\n|---|---|"
        + "---:|" * 6
    )
    async with site(plan, folder / "bus", cluster.url(cluster.create()), bus=True) as place:
        with_, *without = scenes(place)
        await take(place.events(with_))
        await take(place.rights("with the broker"))
        for scene in without:
            await take(place.events(scene))
        await take(place.rights("the broker stopped"))
        problems += place.problems
    async with site(plan, folder / "alone", cluster.url(cluster.create()), bus=False) as place:
        await take(place.events(Scene(what="without a broker", limit="without")))
        await take(place.rights("without a broker"))
        problems += place.problems
    async with FaultProxy(cluster.port) as ears:
        url = cluster.url(cluster.create())
        direct = url.partition("?")[0].replace("@/", f"@127.0.0.1:{ears.port}/")
        async with site(plan, folder / "deaf", url, bus=False, ears=direct) as place:

            async def deaf() -> None:
                ears.stall()

            async def healed() -> None:
                ears.heal()

            await take(place.events(Scene(what="deaf", limit="without", middle=deaf, after=healed)))
            ears.stall()
            await take(place.rights("deaf"))
            ears.heal()
            problems += place.problems
    return rows, problems


def _line(row: Row) -> str:
    numbers = " | ".join(f"{value:.1f}" for value in (row.p50, row.p99, row.typical_most, row.most))
    limit = "" if row.limit is None else f"{row.on} {row.limit:g}"
    return f"| {row.what} | {row.node} | {row.count} | {numbers} | {limit}{'' if row.reached else ' **missed**'} |"


def main(words: Sequence[str]) -> int:
    """Returns the exit code: 1 when a target was missed or an event was not as it should be."""
    parser = argparse.ArgumentParser(prog="python -m bench.nodes", description=__doc__)
    parser.add_argument("--tiny", dest="plan", action="store_const", const="tiny", default="default")
    parser.add_argument("--output", type=Path, help="a JSON file for the results")
    asked = parser.parse_args(words)
    cluster = Cluster(port=free_port(), settings={"fsync": "on", "full_page_writes": "on"})
    try:
        cluster.start()
        with tempfile.TemporaryDirectory(prefix="snackbase-nodes-") as folder:
            rows, problems = asyncio.run(measure(PLANS[asked.plan], cluster, Path(folder)))
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    finally:
        cluster.remove()
    print("\n".join([*problems, str(machine())]))
    if asked.output is not None:
        asked.output.write_bytes(msgspec.json.encode({"rows": rows, "problems": problems, "machine": machine()}))
    return 0 if not problems and all(row.reached for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
