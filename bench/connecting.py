"""Connecting and idling: many users, one subscription each under an owner rule; beside stock Starlette on uvicorn."""

import time
from collections.abc import Iterator
from pathlib import Path

from bench.measures import SETTLE_S, Bench, figures, spent
from bench.plan import Figure
from bench.process import resident_bytes
from bench.programs import Subscribers
from bench.relays import StockServer
from bench.servers import COLLECTION, OWNED, SnackBaseServer

GROUP = "connecting"
WARMING = 100
WRITES = 200


def ours(bench: Bench, server: SnackBaseServer) -> Iterator[Figure]:
    """The server runs and has as many members as the plan says."""
    users = bench.plan.users
    with bench.subscribers(server, "snackbase-ws", min(users, WARMING), collection=OWNED):
        pass
    crowd = bench.subscribers(server, "snackbase-ws", users, collection=OWNED, sparse=True)
    yield from _entered(server.name, server.pid, crowd, users)
    with crowd as subscribers:
        _only_their_own(bench, server, subscribers)


def stock(bench: Bench, server: StockServer, tokens: Path) -> Iterator[Figure]:
    users = bench.plan.users
    crowds = [
        bench.programs.load(
            "snackbase-ws", server.port, count, collection=COLLECTION, tokens=tokens, addresses=bench.plan.addresses
        )
        for count in (min(users, WARMING), users)
    ]
    with crowds[0]:
        pass
    yield from _entered(server.name, server.pid, crowds[1], users)


def _entered(name: str, pid: int, crowd: Subscribers, users: int) -> Iterator[Figure]:
    before = resident_bytes(pid)
    try:
        used, _ = spent(pid, crowd.__enter__)
        time.sleep(SETTLE_S)
        values = {"CPU µs/connect": used * 1e6 / users, "KB each": (resident_bytes(pid) - before) / 1024 / users}
        yield from figures(GROUP, f"{users} users, owner rule", name, values)
    finally:
        crowd.__exit__(None, None, None)


def _only_their_own(bench: Bench, server: SnackBaseServer, subscribers: Subscribers) -> None:
    """Different users write: each event reaches its writer and nobody else."""
    count = min(WRITES, bench.plan.users)
    subscribers.mark()
    path = f"/api/v1/records/{OWNED}"
    done = bench.programs.create("snackbase", server.port, path, server.tokens, count=count)
    bench.note_failures(server.name, done)
    heard = subscribers.heard_in_all(count, within_s=bench.plan.wait_s)
    if heard.received != done.created or heard.most != 1 or heard.lost or heard.others:
        bench.problems.append(
            f"{server.name}: of {done.created} events for one user each {heard.received} were heard, up to "
            f"{heard.most} by one; {heard.lost} connections lost {heard.note}"
        )
