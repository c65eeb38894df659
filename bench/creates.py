"""Creates: how many a second when each writer waits for its answer, and how long one takes at a fixed rate."""

import statistics
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

from bench.measures import Bench, figures, spent
from bench.plan import Figure
from bench.programs import Created, Subscribers
from bench.servers import Server


def closed_loop(bench: Bench, server: Server, *, alone: bool = True) -> Iterator[Figure]:
    """Creates a second, their latency and CPU, with a crowd that hears them and (`alone`) without one."""
    for audience in (0, bench.plan.crowd) if alone else (bench.plan.crowd,):
        with ExitStack() as stack:
            subscribers = None
            if audience:
                subscribers = stack.enter_context(bench.subscribers(server, server.kinds[0], audience))
            for clients in bench.plan.writers:
                name = f"{audience} subscribers, {clients} client{'s' * (clients > 1)}"
                how = {"clients": clients, "seconds": bench.plan.create_s}
                used, done = _written(bench, server, subscribers, how)
                values = {"creates/s": done.created / done.seconds, **_latency(done)}
                values["CPU µs/create"] = used * 1e6 / max(1, done.created)
                yield from figures("creates", name, server.name, values)


def in_turns(bench: Bench, servers: Sequence[Server]) -> Iterator[Figure]:
    """The same without a crowd, of servers that all run: each has a short turn, again and again.

    What a shared machine gives changes from one ten seconds to the next by more than the servers differ in.
    """
    for clients in bench.plan.writers:
        name = f"0 subscribers, {clients} client{'s' * (clients > 1)}"
        how = {"clients": clients, "seconds": bench.plan.create_s / 4}
        turns: list[list[tuple[float, Created]]] = [[] for _ in servers]
        for number in range(bench.plan.turns):
            order = list(zip(servers, turns, strict=True))
            for server, its in order[:: 1 if number % 2 else -1]:
                its.append(_written(bench, server, None, how))
        for server, its in zip(servers, turns, strict=True):
            created, seconds = sum(done.created for _, done in its), sum(done.seconds for _, done in its)
            latency = [_latency(done) for _, done in its]
            values = {"creates/s": created / seconds}
            values |= {unit: statistics.median(one[unit] for one in latency) for unit in latency[0]}
            values["CPU µs/create"] = sum(used for used, _ in its) * 1e6 / max(1, created)
            yield from figures("creates", name, server.name, values)


def open_loop(bench: Bench, server: Server) -> Iterator[Figure]:
    """How long a create takes, from the moment at which it was due, at rates well below what is possible."""
    for audience in (0, bench.plan.crowd):
        with ExitStack() as stack:
            subscribers = None
            if audience:
                subscribers = stack.enter_context(bench.subscribers(server, server.kinds[0], audience))
            for rate in bench.plan.open_rates:
                how = {"clients": 16, "rate": rate, "count": max(5, round(rate * bench.plan.open_s))}
                _, done = _written(bench, server, subscribers, how)
                name = f"{rate:g}/s, {audience} subscribers"
                yield from figures("creates at a fixed rate", name, server.name, _latency(done))


def _written(
    bench: Bench, server: Server, subscribers: Subscribers | None, how: dict[str, float]
) -> tuple[float, Created]:
    """CPU seconds and what was done; whoever listens has heard it."""
    if subscribers is not None:
        subscribers.mark()

    def write() -> Created:
        done = bench.create(server, **how)
        if subscribers is not None:
            bench.check(server.name, subscribers.heard(done.created, within_s=bench.plan.wait_s), done.created)
        return done

    return spent(server.pid, write)


def _latency(done: Created) -> dict[str, float]:
    return {"p50 ms": done.p50_us / 1e3, "p99 ms": done.p99_us / 1e3}
