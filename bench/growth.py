"""Does anything grow faster than linearly? CPU at sizes that double, and the exponent that fits them.

An exponent of 1 says: twice as many cost twice as much in all. Above 1 each one gets dearer the more there are.
"""

import math
from collections.abc import Callable, Iterator, Sequence

from bench.measures import Bench, spent
from bench.plan import Figure
from bench.programs import Heard, Subscribers
from bench.servers import OWNED, SnackBaseServer

GROUP = "growth"
EVENTS = 20
LISTENERS = 20
MOST_DISTINCT = 2000
"""SNACKBASE_REALTIME_MAX_JUDGED_PER_ACCOUNT: more views that every event must be judged for are refused."""


def growth(bench: Bench, server: SnackBaseServer) -> Iterator[Figure]:
    """Every quantity at the plan's sizes; the server runs and has enough members."""
    plans: dict[str, Callable[[Bench, SnackBaseServer, int], float]] = {
        "connecting n clients": _connecting,
        f"{EVENTS} events to n clients": _to_clients,
        f"{EVENTS} events among n owners": _among_owners,
        f"{EVENTS} events past n filters": _past_filters,
        "n events": _events,
    }
    for name, measure in plans.items():
        sizes = [size for size in bench.plan.growth if measure is not _past_filters or size <= MOST_DISTINCT]
        used = [measure(bench, server, size) for size in sizes]
        for size, seconds in zip(sizes, used, strict=True):
            yield Figure(group=GROUP, measure=name, server=f"n = {size}", unit="CPU ms", value=seconds * 1e3)
        yield Figure(group=GROUP, measure=name, server="exponent", unit="exponent", value=exponent(sizes, used))


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """The slope of the least-squares line through the logarithms; 0 = the cost does not depend on the size."""
    if len(sizes) < 2:
        return 0.0
    x, y = [math.log(size) for size in sizes], [math.log(max(cost, 1e-6)) for cost in costs]
    middle, height = sum(x) / len(x), sum(y) / len(y)
    slope = sum((one - middle) * (other - height) for one, other in zip(x, y, strict=True))
    return slope / sum((one - middle) ** 2 for one in x)


def _connecting(bench: Bench, server: SnackBaseServer, size: int) -> float:
    crowd = bench.subscribers(server, "snackbase-ws", size)
    try:
        used, _ = spent(server.pid, crowd.__enter__)
    finally:
        crowd.__exit__(None, None, None)
    return used


def _to_clients(bench: Bench, server: SnackBaseServer, size: int) -> float:
    with bench.subscribers(server, "snackbase-ws", size) as subscribers:
        return _heard_by(bench, server, subscribers, EVENTS)


def _among_owners(bench: Bench, server: SnackBaseServer, size: int) -> float:
    """Each client sees its own records only; one of them writes."""
    path = f"/api/v1/records/{OWNED}"
    with bench.subscribers(server, "snackbase-ws", size, collection=OWNED, sparse=True):
        used, done = spent(
            server.pid, lambda: bench.programs.create("snackbase", server.port, path, server.token, count=EVENTS)
        )
        bench.note_failures(server.name, done)
    return used


def _past_filters(bench: Bench, server: SnackBaseServer, size: int) -> float:
    """Each client has a filter of its own, which no event fits and no index can tell beforehand."""
    with bench.subscribers(server, "snackbase-ws", size, distinct=True):
        used, _ = spent(server.pid, lambda: bench.create(server, count=EVENTS))
    return used


def _events(bench: Bench, server: SnackBaseServer, size: int) -> float:
    with bench.subscribers(server, "snackbase-ws", min(LISTENERS, bench.plan.growth[0])) as subscribers:
        return _heard_by(bench, server, subscribers, size)


def _heard_by(bench: Bench, server: SnackBaseServer, subscribers: Subscribers, events: int) -> float:
    subscribers.mark()

    def write() -> Heard:
        bench.create(server, count=events)
        return subscribers.heard(events, within_s=bench.plan.wait_s)

    used, heard = spent(server.pid, write)
    bench.check(server.name, heard, events)
    return used
