"""`python -m bench.visibility`: what permissions on every event cost, and how soon a change of rights is in force.

1. One event that one subscriber may see, among many who see their own records only; PocketBase beside it.
2. An event past a thousand views that no index finds and none of which it fits, beside their bare predicates.
3. From the request that changes rights to its effect on open connections.
4. A changed rule and very many subscriptions: how long the event loop is held by its own work.

CPU from the commit to the last write is metered in the server itself (metered.py), and what the same takes with nobody
connected is subtracted; of PocketBase it is that of the process, without the same writes and the same time alone.
"""

import argparse
import base64
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import msgspec

from bench.crowd import Client, Crowd
from bench.measures import SETTLE_S
from bench.owners import PocketBaseOwners
from bench.process import cpu_s
from bench.programs import BenchError, Programs
from bench.servers import OWNED, Api, SnackBaseServer
from snackbase.rules import Auth, Kind, check, parse, predicate
from tests.support.server import ServerProcess

BUILD = Path(__file__).resolve().parent.parent / "build" / "bench"
FREE, GUARDED = "bench_free", "bench_guarded"
GUARD = "@has_role('admin') || @has_group('acme') || created_by = @request.auth.id"
GUARD_AGAIN = "@has_role('admin') || @has_group('acme') || created_by = @request.auth.id || seqno < 0"
TARGETS = {"owners": 3.0, "past": 8.0, "rights": 1000.0, "hold": 50.0}
PATIENCE_S = 60.0
MOST_IDLE_S = 3.0


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How much is measured.

    Attributes:
        few, many: owners connected. rounds, events: of each. peer_events: of PocketBase with `many`.
        views: that no event fits. connections: whose rights change; changes: of one user each.
    """

    few: int = 10
    many: int = 10_000
    rounds: int = 3
    events: int = 400
    peer_events: int = 4
    views: int = 1000
    connections: int = 1000
    changes: int = 200


PLANS = {"default": Plan(), "tiny": Plan(few=2, many=12, rounds=1, events=10, views=8, connections=6, changes=2)}


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the table. `target`: at most so much; None = only to look at."""

    what: str
    value: float
    unit: str
    target: float | None = None
    note: str = ""

    @property
    def reached(self) -> bool:
        return self.target is None or self.value <= self.target


class Meter:
    """What one event takes from its commit to the last write, by the server's own meter (metered.py)."""

    def __init__(self, programs: Programs, server: SnackBaseServer, collection: str, events: int) -> None:
        self._programs, self._server, self._events = programs, server, events
        self._path = f"/api/v1/records/{collection}"
        self._api = Api(server.port, "")

    def event(self) -> float:
        """CPU microseconds of one, as things stand."""
        self._api.get("/bench/meter")
        self._programs.create("snackbase", self._server.port, self._path, self._server.token, count=self._events)
        time.sleep(SETTLE_S)
        return float(self._api.get("/bench/meter")["seconds"]) * 1e6 / self._events


class Cost:
    """CPU of events by the clock of the whole process, without what time costs by itself.

    Args:
        write: makes so many records.
    """

    def __init__(self, pid: int, write: Callable[[int], object], events: int) -> None:
        self._pid, self._write, self._events = pid, write, events

    def event(self) -> float:
        """CPU microseconds of one event as things stand, its create among them, idling subtracted."""
        before, began = cpu_s(self._pid), time.monotonic()
        self._write(self._events)
        time.sleep(SETTLE_S)
        used, took = cpu_s(self._pid) - before, time.monotonic() - began
        before = cpu_s(self._pid)
        time.sleep(min(took, MOST_IDLE_S))
        return (used - (cpu_s(self._pid) - before) * took / min(took, MOST_IDLE_S)) * 1e6 / self._events


def owners(programs: Programs, server: SnackBaseServer, plan: Plan, problems: list[str]) -> Iterator[Row]:
    """Everybody sees their own records; the first of them writes."""
    meter = Meter(programs, server, OWNED, plan.events)
    alone, found = list[float](), {plan.few: list[float](), plan.many: list[float]()}
    meter.event()
    for size in [plan.few, plan.many] * plan.rounds:
        alone.append(meter.event())
        with programs.load(
            "snackbase-ws", server.port, size, collection=OWNED, tokens=server.tokens, sparse=True, addresses=8
        ) as crowd:
            time.sleep(SETTLE_S)
            crowd.mark()
            found[size].append(meter.event())
            heard = crowd.heard_in_all(plan.events, within_s=PATIENCE_S)
        if heard.received != plan.events or heard.most != plan.events or heard.lost:
            problems.append(f"of {plan.events} events for one of {size} owners {heard.received} were heard")
    control = statistics.median(alone)
    few, many = (statistics.median(found[size]) - control for size in (plan.few, plan.many))
    yield Row(what="from the commit on, nobody connected (subtracted below)", value=control, unit="CPU µs")
    for size, value in ((plan.few, few), (plan.many, many)):
        yield Row(what=f"from the commit to the last write, to the one of {size} owners", value=value, unit="CPU µs")
    yield Row(what=f"{plan.many} owners beside {plan.few}", value=many / few, unit="times", target=TARGETS["owners"])


def beside(programs: Programs, server: PocketBaseOwners, plan: Plan) -> Iterator[Row]:
    """The same on PocketBase, which asks its database once for each subscriber and event.

    All from one address: it takes what a stream subscribes to from the address of the stream only.
    """
    events = {plan.few: plan.events // 4, plan.many: plan.peer_events}
    for size in (plan.few, plan.many):
        cost = Cost(server.pid, server.write, events[size])
        server.write(10)
        alone = Cost(server.pid, server.write, plan.events // 4).event()
        try:
            with programs.load(
                "pocketbase-sse", server.port, size, collection=OWNED, tokens=server.tokens, sparse=True
            ) as crowd:
                time.sleep(SETTLE_S)
                crowd.mark()
                used = cost.event()
                heard = crowd.heard_in_all(events[size], within_s=PATIENCE_S)
        except BenchError as error:
            yield Row(what=f"PocketBase, {size} owners", value=0, unit="CPU µs", note=str(error)[:200])
            continue
        note = f"{heard.received} of {events[size]} events heard"
        yield Row(what=f"PocketBase, the one of {size} owners", value=used - alone, unit="CPU µs", note=note)


def past(programs: Programs, server: SnackBaseServer, plan: Plan) -> Iterator[Row]:
    """Views that are judged for every event, and never show one."""
    meter = Meter(programs, server, FREE, plan.events)
    alone, found, bare = list[float](), list[float](), list[float]()
    for _ in range(plan.rounds):
        alone.append(meter.event())
        bare.append(_bare(plan.views))
        with programs.load(
            "snackbase-ws", server.port, plan.views, collection=FREE, tokens=server.tokens, distinct=True
        ):
            time.sleep(SETTLE_S)
            found.append(meter.event())
        bare.append(_bare(plan.views))
    used, least = statistics.median(found) - statistics.median(alone), statistics.median(bare)
    yield Row(what=f"an event past {plan.views} views that no index finds", value=used, unit="CPU µs")
    yield Row(what=f"{plan.views} bare predicates", value=least, unit="CPU µs")
    yield Row(what="views beside bare predicates", value=used / least, unit="times", target=TARGETS["past"])


def _bare(views: int) -> float:
    """CPU microseconds of calling so many predicates on one record."""
    auth = Auth("someone", None, "user", "acme")
    record = {"id": "x", "seqno": 7, "writer": 1, "tenant": "acme", "body": "x" * 100}
    judges = [
        predicate(check(parse(f"seqno < -{number}"), {"seqno": Kind.NUMBER}), auth) for number in range(1, views + 1)
    ]
    times = []
    for _ in range(50):
        began = time.thread_time()
        for judge in judges:
            judge(record)
        times.append(time.thread_time() - began)
    return statistics.median(times) * 1e6


def rights(server: SnackBaseServer, root: Api, plan: Plan) -> Iterator[Row]:
    """Each user has one connection. Counted from the sending of the request, so the commit itself is in it."""
    tokens = server.tokens.read_text().split()[: plan.connections]
    with Crowd(server.port, tokens, plan.connections) as crowd, ThreadPoolExecutor(1) as aside:
        crowd.subscribe(collection=GUARDED)
        everybody: list[float] = []
        for turn in range(plan.rounds):
            rule: dict[str, object] = {"list_rule": (GUARD, GUARD_AGAIN)[turn % 2]}
            everybody += _effect(crowd, crowd.clients, aside, partial(root.send, "PUT", _rules(GUARDED), rule))
        yield _p99(f"a rule, {plan.connections} connections", everybody)
        users = list(zip(crowd.clients, map(_user_of, tokens), strict=True))
        changes: tuple[tuple[str, dict[str, object], list[tuple[Client, str]]], ...] = (
            ("a role", {"role_id": 1}, users[: plan.changes]),
            ("groups", {"groups": []}, users[: plan.changes]),
            ("a deactivation", {"is_active": False}, users[-plan.changes :]),
        )
        for what, body, chosen in changes:
            found = []
            for client, user in chosen:
                change = partial(root.send, "PATCH", f"/api/v1/users/{user}", body)
                found += _effect(crowd, [client], aside, change)
            yield _p99(f"{what} of one user, {plan.connections} connections", found)
        left = [client for client in crowd.clients if not client.ended and client.code is None]
        account = root.get("/api/v1/accounts?search=acme")["items"][0]["id"]
        path = f"/api/v1/accounts/{account}"
        closed = _effect(crowd, left, aside, partial(root.send, "PATCH", path, {"is_active": False}))
        yield _p99(f"the account closed, {len(left)} connections", closed)
        root.send("PATCH", path, {"is_active": True})


def _effect(
    crowd: Crowd, concerned: Sequence[Client], aside: ThreadPoolExecutor, change: Callable[[], object]
) -> list[float]:
    """Milliseconds until each was told."""
    began = time.monotonic()
    made = aside.submit(change)
    crowd.until(
        lambda: all(client.told_at >= began for client in concerned), within_s=PATIENCE_S, what="everybody was told"
    )
    made.result()
    return [(client.told_at - began) * 1e3 for client in concerned]


def _p99(what: str, found: list[float]) -> Row:
    ordered = sorted(found)
    value = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    note = f"p50 {statistics.median(ordered):.0f}, most {ordered[-1]:.0f}, {len(ordered)} measured"
    return Row(what=f"{what}: p99 to the effect", value=value, unit="ms", target=TARGETS["rights"], note=note)


def storm(programs: Programs, server: SnackBaseServer, root: Api, plan: Plan) -> Iterator[Row]:
    """One rule changes, and everybody's list with it. The server is a watched one (watched.py)."""
    watch = Api(server.port, "")
    with programs.load(
        "snackbase-ws", server.port, plan.many, collection=GUARDED, tokens=server.tokens, sparse=True, addresses=8
    ) as crowd:
        time.sleep(SETTLE_S)
        crowd.mark()
        watch.get("/bench/watch")
        began = time.monotonic()
        root.send("PUT", _rules(GUARDED), {"list_rule": GUARD_AGAIN})
        while crowd.heard_in_all(0, within_s=0).others < plan.many:
            if time.monotonic() - began > PATIENCE_S:
                raise BenchError("not everybody was told of the changed rule")
            time.sleep(0.005)
        took, held = time.monotonic() - began, watch.get("/bench/watched")
    note = "none is judged by the old rule meanwhile"
    yield Row(what=f"a rule, {plan.many} subscriptions: the last is told", value=took * 1e3, unit="ms", note=note)
    note = f"by the clock {held['clock_ms']:.0f}"
    yield Row(
        what="longest hold of the event loop by its own CPU meanwhile",
        value=held["cpu_ms"],
        unit="ms",
        target=TARGETS["hold"],
        note=note,
    )


def _rules(collection: str) -> str:
    return f"/api/v1/collections/{collection}/rules"


def _user_of(token: str) -> str:
    payload = token.split(".")[1]
    return str(msgspec.json.decode(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["user_id"])


def _prepared(server: SnackBaseServer) -> Api:
    """A superadmin's requests, and the collections of this benchmark."""
    root = Api(server.port, "Bearer ")
    login = {
        "account": "system",
        "email": ServerProcess.SUPERADMIN_EMAIL,
        "password": ServerProcess.SUPERADMIN_PASSWORD,
    }
    root.token = root.post("/api/v1/auth/login", login)["token"]
    fields = ("seqno", "number"), ("writer", "number"), ("sent_us", "number"), ("tenant", "text"), ("body", "text")
    schema = [{"name": name, "type": kind} for name, kind in fields]
    for name, rule in ((FREE, '@request.auth.id != ""'), (GUARDED, GUARD)):
        root.post("/api/v1/collections", {"name": name, "schema": schema, "list_rule": rule})
    return root


def measure(plan: Plan, *, peer: bool) -> tuple[list[Row], list[str]]:
    """Everything, on servers of their own."""
    programs, problems, rows = Programs(BUILD / "bin"), list[str](), list[Row]()
    with tempfile.TemporaryDirectory(prefix="visibility-", dir=BUILD) as folder:
        server = SnackBaseServer("FULL", watched="bench.metered:app", members=plan.many)
        try:
            server.start(Path(folder) / "snackbase")
            root = _prepared(server)
            rows += _told(owners(programs, server, plan, problems))
            rows += _told(past(programs, server, plan))
            rows += _told(storm(programs, server, root, plan))
            rows += _told(rights(server, root, plan))
        finally:
            server.stop()
        if peer:
            other = PocketBaseOwners(plan.many)
            try:
                other.start(Path(folder) / "pocketbase")
                rows += _told(beside(programs, other, plan))
            finally:
                other.stop()
    return rows, problems


def _told(rows: Iterator[Row]) -> list[Row]:
    found = []
    for row in rows:
        print(f"{row.what}: {row.value:.1f} {row.unit} {row.note}", file=sys.stderr, flush=True)
        found.append(row)
    return found


def table(rows: Sequence[Row]) -> str:
    lines = ["| What | Measured | | At most | |", "|---|---:|---|---:|---|"]
    for row in rows:
        target = "" if row.target is None else f"{row.target:g}"
        note = row.note if row.reached else f"**missed** {row.note}"
        lines.append(f"| {row.what} | {row.value:.1f} | {row.unit} | {target} | {note} |")
    return "\n".join(lines)


def main(words: Sequence[str]) -> int:
    """Returns the exit code: 1 when a target was missed or something was not as it should be."""
    parser = argparse.ArgumentParser(prog="python -m bench.visibility", description=__doc__)
    parser.add_argument("--output", type=Path, default=BUILD / "visibility.json")
    parser.add_argument("--tiny", dest="plan", action="store_const", const="tiny", default="default")
    parser.add_argument("--alone", action="store_true", help="without PocketBase")
    chosen = parser.parse_args(words)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    BUILD.mkdir(parents=True, exist_ok=True)
    try:
        rows, problems = measure(PLANS[chosen.plan], peer=not chosen.alone)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    chosen.output.write_bytes(msgspec.json.encode({"rows": rows, "problems": problems}))
    print("\n".join([table(rows), *problems, str(chosen.output)]))
    return 0 if not problems and all(row.reached for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
