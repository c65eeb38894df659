"""One run of the proof: everything started, rounds of trouble and checkpoints, and what came of it."""

import asyncio
import random
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from proof.checkpoint import Comparison, Held, Holder, compare
from proof.clients import Client, SocketClient, StreamClient
from proof.faults import FaultProxy
from proof.javascript import STATIC, ScriptHolder, Spec, in_chromium, in_node
from proof.livelist import EVERY, Difference, LiveList, State
from proof.people import Login, Person
from proof.polling import PollingClient
from proof.schedule import Schedule
from proof.world import ACCOUNTS, COLLECTIONS, FILTERS, World
from proof.writers import Gate, Writer
from tests.support.browser import find_browser
from tests.support.nginx import Nginx
from tests.support.node import find_node

LONG_S = 5.0
"""A checkpoint that takes longer says for whom it waited."""


@dataclass(frozen=True)
class Plan:
    """How a run is made. Equal seeds make equal choices; what they meet depends on the moment.

    Attributes:
        seconds: how long, at least. round_s: trouble between two checkpoints.
        nodes: 1 is a server on SQLite, more share a PostgreSQL. bus: whether these have a NATS as well.
        pause_s: for how long a node is paused at most.
        sockets, streams, pollers: how many Python clients of each kind, for each account.
        writes_per_s: of all writers together, roughly.
        token_s: lifetime of access tokens.
    """

    seed: int
    seconds: float
    round_s: float = 10.0
    nodes: int = 1
    bus: bool = False
    pause_s: float = 30.0
    sockets: int = 4
    streams: int = 3
    pollers: int = 1
    writers: int = 3
    writes_per_s: float = 40.0
    token_s: float = 20.0
    node: bool = True
    browser: bool = True
    quiet: bool = False


@dataclass
class Outcome:
    """What a run did and compared."""

    checkpoints: int = 0
    lists: int = 0
    answers: int = 0
    records: int = 0
    acknowledged: int = 0
    counts: Counter[str] = field(default_factory=Counter)


class PythonHolder:
    """The lists of a client in Python, as a checkpoint wants them."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def held(self) -> Sequence[Held]:
        return [self._held(one) for one in self.client.lists]

    def _held(self, one: LiveList) -> Held:
        return Held(
            name=one.name,
            client=self.client.name,
            kind=self.client.kind,
            login=self.client.login,
            collection=one.collection,
            filter=one.filter,
            fields=one.fields,
            settled=one.state in (State.LIVE, State.REFUSED),
            refused=one.state is State.REFUSED,
            cursor=one.cursor,
            records=one.records,
            story="    " + "\n    ".join(one.seen),
        )


class Run:
    """One run. `await Run(plan, folder).prove()` returns what was compared or raises Difference."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self.plan = plan
        self.outcome = Outcome()
        self._folder = folder
        self._chance = random.Random(plan.seed)
        self._began = time.monotonic()
        self._world = World(folder / "server", token_s=plan.token_s, nodes=plan.nodes, bus=plan.bus)
        self._gate = Gate()
        self._clients: list[Client] = []
        self._holders: list[Holder] = []
        self._writers: list[Writer] = []

    def say(self, text: str) -> None:
        if not self.plan.quiet:
            print(f"{time.monotonic() - self._began:8.1f}s  {text}", flush=True)

    async def prove(self) -> Outcome:
        """The whole run. Raises Difference with the seed and what the list saw last."""
        async with AsyncExitStack() as opened:
            opened.push_async_callback(self._world.close)
            await self._world.open()
            servers = self._world.site.servers
            backs = [await opened.enter_async_context(FaultProxy(server.port)) for server in servers]
            nginx = Nginx(self._folder / "nginx", upstream=[back.port for back in backs], more=STATIC)
            await opened.enter_async_context(nginx)
            front = await opened.enter_async_context(FaultProxy(nginx.port))
            self._make(f"127.0.0.1:{front.port}")
            await self._make_scripts(opened, f"http://127.0.0.1:{front.port}")
            schedule = Schedule(
                self._world,
                self._clients,
                front=front,
                backs=backs,
                chance=self._fork(),
                say=self.say,
                most_s=self.plan.pause_s,
            )
            for client in self._clients:
                opened.push_async_callback(client.close)
            tasks = await opened.enter_async_context(_Watched())
            for client in self._clients:
                tasks.start(client.run())
            for writer in self._writers:
                tasks.start(writer.run())
            named = ", ".join(holder.name for holder in self._holders if isinstance(holder, ScriptHolder))
            self.say(
                f"seed {self.plan.seed}: {self._what()}, {len(self._clients)} clients in Python, "
                f"{named or 'none'} in JavaScript, {len(self._writers)} writers"
            )
            try:
                await self._rounds(schedule, tasks)
            except Difference:
                await self._tell_stories()
                raise
        return self.outcome

    def _what(self) -> str:
        if self.plan.nodes == 1:
            return "one server"
        return f"{self.plan.nodes} nodes on PostgreSQL with {'NATS' if self.plan.bus else 'no bus'}"

    async def _tell_stories(self) -> None:
        """Write down what every list saw, into `stories.txt` beside the server's output."""
        lines = []
        for holder in self._holders:
            with suppress(Difference):
                for one in await holder.held():
                    lines += [f"{one.label} cursor={one.cursor} settled={one.settled} refused={one.refused}", one.story]
        (self._folder / "stories.txt").write_text("\n".join(lines))

    async def _rounds(self, schedule: Schedule, tasks: "_Watched") -> None:
        ends = time.monotonic() + self.plan.seconds
        await tasks.during(self._checkpoint())
        while time.monotonic() < ends:
            await tasks.during(schedule.run(min(self.plan.round_s, max(1.0, ends - time.monotonic()))))
            await tasks.during(self._checkpoint())
            if self._chance.random() < 0.3:
                await tasks.during(self._world.open_rules())
        self._count(schedule)

    async def _checkpoint(self) -> None:
        await self._gate.close()
        nodes = range(self.plan.nodes)
        done = await compare(self._holders, self._world.heads, nodes=nodes)
        acknowledged = await self._acknowledged()
        self._gate.open()
        complaints = self._world.site.complaints()
        if complaints:
            raise Difference(f"the servers logged {len(complaints)} errors, the first:\n{complaints[0]}")
        self.outcome.checkpoints += 1
        self.outcome.lists += done.lists
        self.outcome.answers += done.answers
        self.outcome.records += done.records
        self.outcome.acknowledged += acknowledged
        self.say(_sentence(self.outcome.checkpoints, done, acknowledged))

    async def _acknowledged(self) -> int:
        """Every acknowledged write is in the database; how many records that were."""
        compared = 0
        for slug in ACCOUNTS:
            for collection in COLLECTIONS:
                records = await self._world.everything(slug, collection)
                truth = {one: msgspec.json.decode(record) for one, record in records.items()}
                for writer in self._writers:
                    if writer.login.person.account == slug:
                        compared += writer.settle(collection, truth)
        return compared

    # What takes part -------------------------------------------------------------------------------------------------

    def _fork(self) -> random.Random:
        return random.Random(self._chance.getrandbits(64))

    def _make(self, base: str) -> None:
        plan = self.plan
        for slug in ACCOUNTS:
            people = self._world.people[slug]
            kinds = ((SocketClient, plan.sockets), (StreamClient, plan.streams), (PollingClient, plan.pollers))
            for kind, count in kinds:
                for number in range(count):
                    person = people[number % len(people)]
                    name = f"{kind.kind}{number}-{person.name}"
                    lists = self._lists(person)
                    if kind is SocketClient and number % 2:
                        lists.append(LiveList("every", EVERY, account_id=person.account_id))
                    client = kind(name, Login(person), lists, base=base, chance=self._fork())
                    self._clients.append(client)
                    self._holders.append(PythonHolder(client))
            pause_s = plan.writers * len(ACCOUNTS) / plan.writes_per_s
            for number in range(plan.writers):
                login = Login(people[number % len(people)])
                self._writers.append(Writer(login, self._gate, chance=self._fork(), pause_s=pause_s))

    async def _make_scripts(self, opened: AsyncExitStack, base: str) -> None:
        """Clients in JavaScript, as far as Node and a browser are here."""
        if self.plan.node and find_node() is not None:
            specs = self._specs("node", ("websocket", "websocket", "sse", "auto"))
            self._holders.append(await opened.enter_async_context(in_node(base, specs)))
        if self.plan.browser and find_node() is not None and find_browser() is not None:
            specs = self._specs("page", ("eventsource", "eventsource", "websocket", "sse"))
            self._holders.append(await opened.enter_async_context(in_chromium(base, specs)))

    def _specs(self, where: str, transports: Sequence[str]) -> list[Spec]:
        specs = []
        for number, transport in enumerate(transports):
            person = self._chance.choice(self._world.people[ACCOUNTS[number % len(ACCOUNTS)]])
            [drawn, *_] = self._lists(person)
            spec = Spec(
                name=f"{where}{number}-{transport}",
                person=person,
                login=Login(person),
                transport=transport,
                collection=drawn.collection,
                filter=drawn.filter,
                fields=drawn.fields,
            )
            specs.append(spec)
        return specs

    def _lists(self, person: Person) -> list[LiveList]:
        """One to three lists with drawn filters; now and then only some fields."""
        lists = []
        for number in range(self._chance.randint(1, 3)):
            collection = self._chance.choice(("tasks", "tasks", "notes"))
            fields = "title,points" if self._chance.random() < 0.2 else None
            wanted = self._chance.choice(FILTERS[collection])
            name = f"list{number}"
            made = LiveList(name, collection, account_id=person.account_id, filter=wanted, fields=fields)
            lists.append(made)
        return lists

    def _count(self, schedule: Schedule) -> None:
        counts = self.outcome.counts
        for name, number in schedule.counts.items():
            counts[f"trouble: {name}"] += number
        for writer in self._writers:
            counts.update({f"write: {name}": number for name, number in writer.counts.items()})
        for client in self._clients:
            counts.update({f"{client.kind}: {name}": number for name, number in client.counts.items()})
            for one in client.lists:
                counts.update({f"{client.kind}: {name}": number for name, number in one.counts.items()})


class _Watched:
    """Tasks that run beside the rounds; the first that fails ends the run with its own error."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> "_Watched":
        return self

    async def __aexit__(self, *error: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def start(self, work: Any) -> None:
        self._tasks.append(asyncio.create_task(work))

    async def during(self, work: Awaitable[None]) -> None:
        """Do one thing, unless a task fails meanwhile."""
        doing = asyncio.ensure_future(work)
        try:
            await asyncio.wait([doing, *self._tasks], return_when=asyncio.FIRST_COMPLETED)
            for task in self._tasks:
                if task.done():
                    task.result()
            await doing
        finally:
            doing.cancel()


def _sentence(number: int, done: Comparison, acknowledged: int) -> str:
    waited = f"after {done.waited_s:.1f} s" + (f", for {done.waited_for}" if done.waited_s > LONG_S else "")
    refused = f", {done.refused} refused alike" if done.refused else ""
    return (
        f"== checkpoint {number}: {done.lists} lists equal to {done.answers} answers{refused}, "
        f"{done.records} records byte for byte, {acknowledged} acknowledged ones there ({waited})"
    )


def report(outcome: Outcome, plan: Plan, say: Callable[[str], None]) -> None:
    """What was done and compared, as a table."""
    say(f"{outcome.checkpoints} checkpoints: {outcome.lists} lists, {outcome.records} records, all equal to REST")
    say(f"({outcome.answers} answers of {plan.nodes} {'nodes' if plan.nodes > 1 else 'server'});")
    say(f"{outcome.acknowledged} acknowledged records were there.")
    for name, number in sorted(outcome.counts.items()):
        say(f"  {number:8}  {name}")


def explain(error: Difference, plan: Plan) -> None:
    """Print a difference so that it can be looked into."""
    print(f"\nDIFFERENCE (seed {plan.seed}):\n{error}", file=sys.stderr, flush=True)
