"""One process and many subscribers: events at a steady rate, and the most that goes (the ceiling)."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from bench.measures import Bench, figures, spent
from bench.plan import Figure
from bench.programs import Created, Heard, Subscribers
from bench.servers import Api, Server, SnackBaseServer

GROUP = "a large crowd"
WRITERS = 16
PROBES = 100
"""Requests of /live a second."""
LATE_MS = 1000
BEHIND = 1.2
"""A run that took longer than its timetable by this factor was too much."""


def steady(bench: Bench, server: SnackBaseServer) -> Iterator[Figure]:
    """Is everything complete and in order, is nobody closed, and what do others feel meanwhile?

    The server is a watched one (watched.py): a hold of its loop is told by the clock and by the CPU it used itself.
    """
    plan = bench.plan
    with bench.subscribers(server, "snackbase-ws", plan.large) as subscribers, ThreadPoolExecutor(1) as beside:
        api = Api(server.port, "Bearer ")
        api.get("/bench/watch")
        alive = beside.submit(_alive, bench, server, plan.large_s)
        used, (done, heard) = spent(
            server.pid, lambda: _sent(bench, server, subscribers, plan.large_rate, plan.large_s, plan.wait_s)
        )
        bench.check(server.name, heard, done.created)
        live, held = alive.result(), api.get("/bench/watched")
    expected = done.created * plan.large
    values = {
        "missing": float(expected - heard.received + heard.gaps + heard.repeats),
        "closed": float(heard.lost),
        "p50 ms": heard.p50_us / 1e3,
        "p99 ms": heard.p99_us / 1e3,
        "longest hold ms": held["clock_ms"],
        "of it CPU ms": held["cpu_ms"],
        "/live p99 ms": live.p99_us / 1e3,
        "create p99 ms": done.p99_us / 1e3,
        "CPU µs/delivery": used * 1e6 / max(1, heard.received),
    }
    yield from figures(GROUP, f"{plan.large} subscribers, {plan.large_rate:g} events/s", server.name, values)


def ceiling(bench: Bench, server: Server, connections: int) -> Iterator[Figure]:
    """Faster and faster, until events are late by a second or the writers cannot keep their timetable."""
    best: dict[str, float] = {}
    with bench.subscribers(server, "snackbase-ws", connections) as subscribers:
        for rate in bench.plan.ceiling_rates:
            done, heard = _sent(bench, server, subscribers, rate, bench.plan.ceiling_s, bench.plan.wait_s)
            kept = done.seconds <= max(bench.plan.ceiling_s * BEHIND, bench.plan.ceiling_s + 1)
            whole = heard.received == done.created * connections and not (heard.gaps or heard.repeats or heard.lost)
            if not (kept and whole and heard.p99_us < LATE_MS * 1000):
                break
            best = {"events/s": rate, "deliveries/s": rate * connections, "p99 ms": heard.p99_us / 1e3}
    yield from figures("ceiling", f"{connections} connections", server.name, best)


def _sent(
    bench: Bench, server: Server, subscribers: Subscribers, rate: float, seconds: float, within_s: float
) -> tuple[Created, Heard]:
    subscribers.mark()
    done = bench.create(server, count=max(5, round(rate * seconds)), rate=rate, clients=WRITERS)
    return done, subscribers.heard(done.created, within_s=within_s)


def _alive(bench: Bench, server: Server, seconds: float) -> Created:
    return bench.programs.create("get", server.port, "/live", "none", clients=8, seconds=seconds, rate=PROBES)
