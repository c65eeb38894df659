"""What is measured, on one freshly started server at a time: creates, fan-out, memory. Yields figures, judges nothing.

CPU is that of the server's whole process tree. A delivery's CPU is what the same writes cost with subscribers beyond
what they cost without (the control), divided by the deliveries; so everything that fan-out adds is in it.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from bench.process import cpu_s, resident_bytes
from bench.programs import Created, Floor, Heard, Programs, Subscribers
from bench.servers import COLLECTION, Server

SETTLE_S = 0.2
"""For what a server does after its last answer; the same in measurement and control."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How much is measured.

    Attributes:
        pairs: how often everything is repeated, all servers in turn.
        create_s: how long writers write for one figure. crowd: subscribers meanwhile. writers: clients at once.
        audiences: subscribers of spaced events; batches go to them too, as far as they are below `batch_to`.
        spaced, rate: events, and events a second. batches: of `batch` records each.
        wait_s: how long subscribers may take to hear the last event.
    """

    pairs: int
    create_s: float
    crowd: int = 200
    writers: tuple[int, ...] = (1, 16)
    audiences: tuple[int, ...] = (200, 1000)
    spaced: int = 40
    rate: float = 20
    batches: int = 4
    batch: int = 50
    wait_s: float = 30


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One measured value. `group` is the table it stands in."""

    group: str
    measure: str
    server: str
    unit: str
    value: float


class Bench:
    """Measures one server after the other; remembers what was not as it should be.

    Attributes:
        problems: events that did not arrive, or not in order; requests that failed.
        event_bytes: size of the events that SnackBase sends, so that the floor can send the same.
    """

    def __init__(self, programs: Programs, plan: Plan) -> None:
        self.programs = programs
        self.plan = plan
        self.problems: list[str] = []
        self.event_bytes = 400

    def creates(self, server: Server) -> Iterator[Figure]:
        """Creates a second, their latency and CPU, with and without a crowd that hears them."""
        for crowd in (0, self.plan.crowd):
            if not crowd:
                yield from self._creates(server, None)
                continue
            with self._subscribers(server, server.kinds[0], crowd) as subscribers:
                yield from self._creates(server, subscribers)

    def _creates(self, server: Server, crowd: Subscribers | None) -> Iterator[Figure]:
        plan, heard = self.plan, 0 if crowd is None else crowd.connections
        for clients in plan.writers:
            if crowd is not None:
                crowd.mark()
            before = cpu_s(server.pid)
            done = self._create(server, clients=clients, seconds=plan.create_s)
            if crowd is not None:
                self._check(server, crowd.heard(done.created, within_s=plan.wait_s), done)
            time.sleep(SETTLE_S)
            spent = cpu_s(server.pid) - before
            name = f"{heard} subscribers, {clients} client{'s' * (clients > 1)}"
            values = {
                "creates/s": done.created / done.seconds,
                "p50 ms": done.p50_us / 1e3,
                "p99 ms": done.p99_us / 1e3,
            }
            values["CPU µs/create"] = spent * 1e6 / max(1, done.created)
            for unit, value in values.items():
                yield Figure(group="creates", measure=name, server=server.name, unit=unit, value=value)

    def fanout(self, server: Server, kind: str) -> Iterator[Figure]:
        """CPU and latency of a delivery, spaced and in batches; and memory of an idle connection."""
        plan, name = self.plan, f"{server.name} {transport(kind)}"
        single = self._cost(server, None, batch=1)
        batched = self._cost(server, None, batch=plan.batch)
        for audience in plan.audiences:
            before = resident_bytes(server.pid)
            with self._subscribers(server, kind, audience) as subscribers:
                time.sleep(SETTLE_S)
                idle = (resident_bytes(server.pid) - before) / 1024 / audience
                if audience == max(plan.audiences):
                    yield Figure(group="memory", measure=f"{audience} idle", server=name, unit="KB each", value=idle)
                yield from self._delivery(server, name, subscribers, control=single, batch=1)
                if server.style == "snackbase" or audience == min(plan.audiences):
                    yield from self._delivery(server, name, subscribers, control=batched, batch=plan.batch)

    def _delivery(
        self, server: Server, name: str, subscribers: Subscribers, *, control: float, batch: int
    ) -> Iterator[Figure]:
        heard: list[Heard] = []
        spent = self._cost(server, subscribers, batch=batch, heard=heard)
        deliveries = max(1, heard[0].received)
        measure = f"{self._shape(batch)} to {subscribers.connections}"
        if batch == 1 and server.style == "snackbase":
            self.event_bytes = heard[0].bytes // deliveries
        values = {
            "CPU µs/delivery": (spent - control) * 1e6 / deliveries,
            "with the create": spent * 1e6 / deliveries,
            "p50 ms": heard[0].p50_us / 1e3,
            "p99 ms": heard[0].p99_us / 1e3,
        }
        for unit, value in values.items():
            yield Figure(group="fan-out", measure=measure, server=name, unit=unit, value=value)

    def _cost(
        self, server: Server, subscribers: Subscribers | None, *, batch: int, heard: list[Heard] | None = None
    ) -> float:
        """CPU seconds of the writes of one fan-out measurement."""
        plan = self.plan
        if subscribers is not None:
            subscribers.mark()
        before = cpu_s(server.pid)
        count, rate = (plan.spaced, plan.rate) if batch == 1 else (plan.batches, 0.0)
        done = self._create(server, count=count, rate=rate, batch=batch)
        if subscribers is not None and heard is not None:
            heard.append(subscribers.heard(done.created, within_s=plan.wait_s))
            self._check(server, heard[-1], done)
        time.sleep(SETTLE_S)
        return cpu_s(server.pid) - before

    def floor(self, floor: Floor, tokens: Path) -> Iterator[Figure]:
        """The same fan-out by a C server: one send(2) an event and connection, and a batch's events joined in one."""
        plan = self.plan
        for audience in plan.audiences:
            with self.programs.load(
                "floor-ws", floor.port, audience, collection=COLLECTION, tokens=tokens
            ) as subscribers:
                for name, batch, joined in (
                    ("C, send(2) each", 1, 1),
                    ("C, send(2) each", plan.batch, 1),
                    ("C, joined", plan.batch, plan.batch),
                ):
                    subscribers.mark()
                    events, rate = (plan.spaced, plan.rate) if batch == 1 else (plan.batches * batch, 0.0)
                    before = cpu_s(floor.pid)
                    floor.send(events, joined=joined, size=self.event_bytes, rate=rate)
                    heard = subscribers.heard(events, within_s=plan.wait_s)
                    spent = cpu_s(floor.pid) - before
                    measure = f"{self._shape(batch)} to {audience}"
                    values = {"CPU µs/delivery": spent * 1e6 / max(1, heard.received)}
                    values |= {"p50 ms": heard.p50_us / 1e3, "p99 ms": heard.p99_us / 1e3}
                    for unit, value in values.items():
                        yield Figure(group="fan-out", measure=measure, server=name, unit=unit, value=value)

    def warm(self, server: Server) -> None:
        """What happens once after a start must not stand in the first figure."""
        self._create(server, count=30)
        self._create(server, count=1, batch=self.plan.batch)

    def _shape(self, batch: int) -> str:
        return f"spaced, {self.plan.rate:g}/s" if batch == 1 else f"batches of {batch}"

    def _subscribers(self, server: Server, kind: str, connections: int) -> Subscribers:
        return self.programs.load(kind, server.port, connections, collection=COLLECTION, tokens=server.tokens)

    def _create(self, server: Server, **how: float) -> Created:
        done = self.programs.create(server.style, server.port, server.path, server.token, **how)  # type: ignore[arg-type]  # numbers, by name
        if done.failed:
            self.problems.append(f"{server.name}: {done.failed} of {done.requests} requests failed: {done.note}")
        return done

    def _check(self, server: Server, heard: Heard, done: Created) -> None:
        expected = done.created * heard.connections
        if heard.received != expected or heard.gaps or heard.repeats or heard.others or heard.lost:
            text = (
                f"{server.name}: {heard.received} of {expected} events heard, {heard.gaps} skipped, "
                f"{heard.repeats} out of order, {heard.lost} connections lost, {heard.others} other messages"
            )
            self.problems.append(f"{text} {heard.note}".rstrip())


def transport(kind: str) -> str:
    return "WebSocket" if kind.endswith("-ws") else "SSE"
