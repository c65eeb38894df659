"""A restart with everybody connected: all clients come back in the same moment and resume where they were."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from bench.measures import SETTLE_S, Bench, figures
from bench.plan import Figure
from bench.process import Peak, resident_bytes
from bench.programs import Created
from bench.servers import SnackBaseServer

GROUP = "reconnect storm"
EVENTS = 20
"""Written before the restart and again while the clients come back."""
RATE = 20.0


def storm(bench: Bench, server: SnackBaseServer) -> Iterator[Figure]:
    """The server runs; afterwards it runs again, as a new process."""
    plan = bench.plan
    with bench.subscribers(server, "snackbase-ws", plan.large) as subscribers:
        subscribers.mark()
        first = bench.create(server, count=EVENTS)
        bench.check(server.name, subscribers.heard(first.created, within_s=plan.wait_s), first.created)
        server.stop()
        server.again()
        before, peak = resident_bytes(server.pid), Peak(server.pid)
        began = time.monotonic()
        with ThreadPoolExecutor(2) as beside:
            reads = beside.submit(_reads, bench, server)
            # From its second writer on, so that every subscriber can tell this run's events from the first one's.
            writes = beside.submit(_writes, bench, server)
            back = subscribers.rejoin(at_once=plan.large, within_s=plan.wait_s * 2)
            done, read = writes.result(), reads.result()
        heard = subscribers.heard(first.created + done.created, within_s=plan.wait_s)
        time.sleep(SETTLE_S)
        after, most = resident_bytes(server.pid), peak.grown()
    missing = (first.created + done.created) * plan.large - heard.received + heard.gaps + heard.repeats
    if missing or back.returned != plan.large:
        bench.problems.append(
            f"{server.name}: after a restart {back.returned} of {plan.large} came back, {missing} events missing or "
            f"twice {back.note} {heard.note}"
        )
    values = {
        "caught up s": back.back_us / 1e6 - began,
        "missing": float(missing),
        "refused for good": float(plan.large - back.returned),
        "sent away once": float(back.refusals),
        "create p99 ms": done.p99_us / 1e3,
        "read p99 ms": read.p99_us / 1e3,
        "peak KB each": most / 1024 / plan.large,
        "KB each": (after - before) / 1024 / plan.large,
    }
    yield from figures(GROUP, f"{plan.large} clients", server.name, values)


def _writes(bench: Bench, server: SnackBaseServer) -> Created:
    return bench.create(server, count=EVENTS, rate=RATE, clients=1, first=EVENTS)


def _reads(bench: Bench, server: SnackBaseServer) -> Created:
    """One list after the other is due, as those do who look at a page meanwhile."""
    path = f"{server.path}?limit=1&total=false"
    return bench.programs.create("get", server.port, path, server.token, clients=8, count=EVENTS * 2, rate=RATE)
