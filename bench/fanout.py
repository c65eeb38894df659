"""Fan-out: what an event costs the server for each subscriber, and when it arrives.

Three shapes: spaced (each event goes out by itself), batches (the events of a transaction go out together), and fast
(single events so close that a server may join them). The same for SnackBase, its peers and the C floor.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Protocol

import msgspec

from bench.measures import SETTLE_S, Bench, figures, spent, transport
from bench.plan import Figure
from bench.process import resident_bytes, rested
from bench.programs import Floor, Heard, Subscribers
from bench.relays import Relay
from bench.servers import COLLECTION, Server

GROUP = "fan-out"


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """How events come: `requests` of `batch` events each, at `rate` requests a second (0: one after the other)."""

    name: str
    requests: int
    rate: float = 0
    batch: int = 1
    writers: int = 1


class Source(Protocol):
    """Something that events can be sent through.

    Attributes:
        record_server: whether its sending is also measured without anybody who hears it.
        fresh: whether nobody was connected to it before: later crowds find memory that the first one left.
    """

    name: str
    record_server: bool
    fresh: bool

    @property
    def pid(self) -> int: ...

    def publish(self, shape: Shape) -> int:
        """Send events of this shape; gives how many."""
        ...

    def subscribers(self, connections: int) -> Subscribers: ...


class Records:
    """A record server, subscribed to in one way."""

    record_server = True

    def __init__(self, bench: Bench, server: Server, kind: str) -> None:
        self.name = f"{server.name} {transport(kind)}"
        self._bench, self._server, self._kind = bench, server, kind
        self.fresh = kind == server.kinds[0]

    @property
    def pid(self) -> int:
        return self._server.pid

    def publish(self, shape: Shape) -> int:
        done = self._bench.create(
            self._server, count=shape.requests, rate=shape.rate, batch=shape.batch, clients=shape.writers
        )
        return done.created

    def subscribers(self, connections: int) -> Subscribers:
        return self._bench.subscribers(self._server, self._kind, connections)


class Passing:
    """A server that passes events on."""

    record_server = True

    def __init__(self, bench: Bench, relay: Relay, kind: str) -> None:
        self.name = f"{relay.name} {transport(kind)}"
        self._bench, self._relay, self._kind = bench, relay, kind
        self.fresh = kind == relay.kinds[0]

    @property
    def pid(self) -> int:
        return self._relay.pid

    def publish(self, shape: Shape) -> int:
        relay, batch = self._relay, shape.batch if self._relay.style == "nats" else 1
        done = self._bench.programs.create(
            relay.style,
            relay.publish_port,
            relay.path,
            "none",
            clients=shape.writers,
            count=shape.requests * shape.batch // batch,
            rate=shape.rate,
            batch=batch,
            pad=self._bench.event_bytes,
        )
        self._bench.note_failures(self.name, done)
        return done.created

    def subscribers(self, connections: int) -> Subscribers:
        bench, relay = self._bench, self._relay
        return bench.programs.load(
            self._kind, relay.port, connections, collection=relay.collection, tokens=bench.no_tokens
        )


class Sending:
    """The C floor: one send(2) for each event and connection, or a batch's events joined in one."""

    record_server = fresh = False

    def __init__(self, bench: Bench, floor: Floor, *, joined: bool) -> None:
        self.name = "C, joined" if joined else "C, send(2) each"
        self._bench, self._floor, self._joined = bench, floor, joined

    @property
    def pid(self) -> int:
        return self._floor.pid

    def publish(self, shape: Shape) -> int:
        events = shape.requests * shape.batch
        joined = shape.batch if self._joined else 1
        self._floor.send(events, joined=joined, size=self._bench.event_bytes, rate=shape.rate)
        return events

    def subscribers(self, connections: int) -> Subscribers:
        bench = self._bench
        return bench.programs.load(
            "floor-ws",
            self._floor.port,
            connections,
            collection=COLLECTION,
            tokens=bench.no_tokens,
            addresses=bench.plan.addresses if connections > 1000 else 1,
        )


class Shapes:
    """The plan's shapes."""

    def __init__(self, bench: Bench) -> None:
        plan = bench.plan
        self.spaced = Shape(name=f"spaced, {plan.rate:g}/s", requests=plan.spaced, rate=plan.rate)
        self.batches = Shape(name=f"batches of {plan.batch}", requests=plan.batches, batch=plan.batch)
        self.fast = Shape(
            name=f"fast, {plan.fast_rate:g}/s", requests=plan.fast, rate=plan.fast_rate, writers=plan.fast_writers
        )
        # Slow enough that one send(2) an event and connection, some 8 us each, uses half a core.
        rate = max(1.0, round(50_000 / plan.large)) if plan.large > 1000 else plan.rate
        self.wide = Shape(name=f"spaced, {rate:g}/s", requests=plan.large_spaced, rate=rate)
        self.wide_batches = Shape(name=f"batches of {plan.batch}", requests=plan.large_batches, batch=plan.batch)


def of_server(bench: Bench, server: Server, *, only_fast: bool = False) -> Iterator[Figure]:
    """Everything for one record server."""
    plan, shapes = bench.plan, Shapes(bench)
    ours = server.style == "snackbase"
    for kind in server.kinds[:1] if only_fast else server.kinds:
        source = Records(bench, server, kind)
        if only_fast:
            yield from deliveries(bench, source, plan.crowd, [shapes.fast])
            continue
        for audience in plan.audiences:
            chosen = [shapes.spaced]
            if ours or (audience == min(plan.audiences) and bench.aside):
                chosen.append(shapes.batches)
            yield from deliveries(bench, source, audience, chosen)
        if ours:
            yield from deliveries(bench, source, plan.crowd, [shapes.fast])
        if ours and bench.aside:
            yield from deliveries(bench, source, plan.large, [shapes.wide, shapes.wide_batches])


def of_relay(bench: Bench, relay: Relay) -> Iterator[Figure]:
    plan, shapes = bench.plan, Shapes(bench)
    for kind in relay.kinds:
        source = Passing(bench, relay, kind)
        for audience in plan.audiences:
            yield from deliveries(bench, source, audience, [shapes.spaced, shapes.batches])
        yield from deliveries(bench, source, plan.crowd, [shapes.fast])


def of_floor(bench: Bench, floor: Floor) -> Iterator[Figure]:
    plan, shapes = bench.plan, Shapes(bench)
    each, joined = Sending(bench, floor, joined=False), Sending(bench, floor, joined=True)
    for audience in plan.audiences:
        yield from deliveries(bench, each, audience, [shapes.spaced, shapes.batches])
        yield from deliveries(bench, joined, audience, [shapes.batches])
    yield from deliveries(bench, each, plan.crowd, [shapes.fast])
    if bench.aside:
        yield from deliveries(bench, each, plan.large, [shapes.wide])
        yield from deliveries(bench, joined, plan.large, [shapes.wide_batches])


def control(source: Source, shape: Shape) -> float:
    """CPU seconds that sending takes when nobody hears it."""
    if not source.record_server:
        return 0.0
    rested(source.pid)
    used, _ = spent(source.pid, lambda: source.publish(shape))
    return used


def deliveries(bench: Bench, source: Source, audience: int, shapes: Sequence[Shape]) -> Iterator[Figure]:
    """The shapes to one audience; memory of an idle connection of the largest crowd of each kind.

    A control is measured right before and right after, since what a create costs drifts by more than a crowd adds to
    it: an hour's noise, a warm server, a larger database.
    """
    before = [control(source, shape) for shape in shapes]
    with crowd(source, audience) as (subscribers, kb_each):
        if source.fresh and audience in (max(bench.plan.audiences), bench.plan.large):
            yield Figure(group="memory", measure=f"{audience} idle", server=source.name, unit="KB each", value=kb_each)
        measured = [delivery(bench, source, subscribers, shape) for shape in shapes]
    for shape, delivered, first in zip(shapes, measured, before, strict=True):
        plain = (first + control(source, shape)) / 2
        yield from figures(GROUP, f"{shape.name} to {audience}", source.name, delivered.beyond(source, plain))


@contextmanager
def crowd(source: Source, audience: int) -> Iterator[tuple[Subscribers, float]]:
    """Subscribers, and by how many KB each of them made the server larger."""
    before = resident_bytes(source.pid)
    with ExitStack() as stack:
        subscribers = stack.enter_context(source.subscribers(audience))
        time.sleep(SETTLE_S)
        yield subscribers, (resident_bytes(source.pid) - before) / 1024 / audience


class Delivered(msgspec.Struct, frozen=True):
    """What one shape cost with subscribers, in CPU seconds, and what they heard."""

    used: float
    events: int
    heard: Heard

    def beyond(self, source: Source, plain: float) -> dict[str, float]:
        """The figures, if the same costs `plain` CPU seconds without subscribers."""
        received = max(1, self.heard.received)
        values = {"CPU µs/delivery": (self.used - plain) * 1e6 / received}
        if source.record_server:
            values["with the write"] = self.used * 1e6 / received
            values["control, µs/event"] = plain * 1e6 / max(1, self.events)
        return values | {"p50 ms": self.heard.p50_us / 1e3, "p99 ms": self.heard.p99_us / 1e3}


def delivery(bench: Bench, source: Source, subscribers: Subscribers, shape: Shape) -> Delivered:
    """One shape to those who are there."""
    subscribers.mark()

    def send() -> tuple[int, Heard]:
        events = source.publish(shape)
        return events, subscribers.heard(events, within_s=bench.plan.wait_s)

    used, (events, heard) = spent(source.pid, send)
    bench.check(source.name, heard, events)
    if source.name.startswith("SnackBase") and shape.batch == 1:
        bench.event_bytes = heard.bytes // max(1, heard.received)
    return Delivered(used, events, heard)
