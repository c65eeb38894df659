"""`python -m bench.workers`: what two workers on PostgreSQL cost beside one, and how evenly connections lie.

`snackbase serve` and `snackbase serve --workers 2`, each on a database of its own of one real PostgreSQL (fsync on), in
turn. In each round the same creates are made without subscribers (the control) and with them; CPU is that of the
server's whole process tree, supervisor included and PostgreSQL not, and what the control used is subtracted. Every
event has to reach every subscriber once and in order; /metrics says what was judged and read from the log.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from bench.measures import SETTLE_S, spent
from bench.programs import BenchError, Programs
from bench.report import machine
from bench.servers import COLLECTION, Api, SnackBaseServer
from tests.support.postgres import Cluster

BUILD = Path(__file__).resolve().parent.parent / "build" / "bench"
MOST_TIMES, MOST_UNEVEN = 1.3, 0.10
PATIENCE_S = 60.0


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    rounds: int = 7
    connections: int = 400
    events: int = 200
    rate: float = 50


PLANS = {"default": Plan(), "tiny": Plan(rounds=1, connections=8, events=5)}


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """One server in one round.

    Attributes:
        us: CPU microseconds of a delivery. control_us: of an event that nobody hears. p50_ms, p99_ms: to a subscriber.
        judged, read: events judged and log rows read for each event, by the worker that did most.
    """

    us: float
    control_us: float
    p50_ms: float
    p99_ms: float
    judged: float
    read: float


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """`spreads`: connections of each worker, a round each."""

    one: list[Round]
    two: list[Round]
    spreads: list[list[int]]
    problems: list[str]
    machine: dict[str, str | int | float]

    @property
    def times(self) -> float:
        """What a delivery of two workers costs beside one of one: the median of pairs."""
        return statistics.median(two.us / one.us for one, two in zip(self.one, self.two, strict=True))

    @property
    def uneven(self) -> float:
        """How far the fullest worker was above its share, at worst."""
        return max(max(spread) * len(spread) / max(1, sum(spread)) - 1 for spread in self.spreads)


class Workers(SnackBaseServer):
    """`snackbase serve` on PostgreSQL, with so many workers."""

    def __init__(self, url: str, count: int) -> None:
        super().__init__("FULL", DATABASE_URL=url)
        self.count = count
        self.name = f"{count} worker{'s' * (count > 1)}"

    def _arguments(self) -> list[str]:
        return ["serve", *(["--workers", str(self.count)] if self.count > 1 else [])]

    def numbers(self, name: str) -> dict[str, float]:
        """Worker -> a metric, summed over its other labels."""
        found: dict[str, float] = {}
        for family in text_string_to_metric_families(Api(self.port, "").text("/metrics")):
            for sample in family.samples:
                if sample.name == f"snackbase_{name}":
                    worker = sample.labels.get("worker", "")
                    found[worker] = found.get(worker, 0) + sample.value
        return found


def measure(plan: Plan, programs: Programs, one: Workers, two: Workers) -> Found:
    found = Found(one=[], two=[], spreads=[], problems=[], machine=machine())
    for server in (one, two):
        _write(programs, server, plan)
    for _ in range(plan.rounds):
        found.one.append(_round(plan, programs, one, found))
        found.two.append(_round(plan, programs, two, found))
        print(f"{found.one[-1].us:.2f} {found.two[-1].us:.2f} {found.spreads[-1]}", file=sys.stderr, flush=True)
    return found


def _write(programs: Programs, server: Workers, plan: Plan) -> None:
    done = programs.create(
        server.style, server.port, server.path, server.token, count=plan.events, rate=plan.rate, clients=2
    )
    if done.failed:
        raise BenchError(f"{server.name}: {done.failed} of {done.requests} requests failed: {done.note}")


def _round(plan: Plan, programs: Programs, server: Workers, found: Found) -> Round:
    control, _ = spent(server.pid, lambda: _write(programs, server, plan))
    with programs.load(
        server.kinds[0], server.port, plan.connections, collection=COLLECTION, tokens=server.tokens
    ) as crowd:
        time.sleep(SETTLE_S)
        if server.count > 1:
            found.spreads.append([int(one) for one in server.numbers("realtime_connections").values()])
        before = [server.numbers(name) for name in ("realtime_judgements_total", "log_rows_read_total")]
        crowd.mark()
        used, _ = spent(server.pid, lambda: _write(programs, server, plan))
        heard = crowd.heard(plan.events, within_s=PATIENCE_S)
        after = [server.numbers(name) for name in ("realtime_judgements_total", "log_rows_read_total")]
    expected = plan.events * plan.connections
    if heard.received != expected or heard.gaps or heard.repeats or heard.others or heard.lost:
        found.problems.append(f"{server.name}: {heard.received} of {expected} events heard, {heard}")
    judged, read = (
        max(then[worker] - now[worker] for worker in now) / plan.events for now, then in zip(before, after, strict=True)
    )
    return Round(
        us=(used - control) * 1e6 / expected,
        control_us=control * 1e6 / plan.events,
        p50_ms=heard.p50_us / 1000,
        p99_ms=heard.p99_us / 1000,
        judged=judged,
        read=read,
    )


def table(found: Found, plan: Plan) -> str:
    """Medians, then lowest and highest."""
    lines = ["| | One worker | Two workers |", "|---|---:|---:|"]
    for name, what in (
        ("us", "CPU µs of a delivery"),
        ("control_us", "CPU µs of an event that nobody hears"),
        ("p50_ms", "p50 to a subscriber, ms"),
        ("p99_ms", "p99 to a subscriber, ms"),
        ("judged", "events judged for each event, by the worker that did most"),
        ("read", "log rows read for each event, by the worker that did most"),
    ):
        cells = []
        for rounds in (found.one, found.two):
            values = [getattr(one, name) for one in rounds]
            cells.append(f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})")
        lines.append(f"| {what} | {' | '.join(cells)} |")
    verdict = "" if found.times <= MOST_TIMES else " **missed**"
    lines.append(f"| two beside one, median of pairs (at most {MOST_TIMES:g}) | | {found.times:.2f}{verdict} |")
    verdict = "" if found.uneven <= MOST_UNEVEN else " **missed**"
    spreads = ", ".join("+".join(map(str, spread)) for spread in found.spreads)
    lines.append(f"| {plan.connections} connections (at most {MOST_UNEVEN:.0%} uneven) | | {spreads}{verdict} |")
    return "\n".join(lines)


def main(words: Sequence[str]) -> int:
    """Returns the exit code: 1 when a target was missed or an event was not as it should be."""
    parser = argparse.ArgumentParser(prog="python -m bench.workers", description=__doc__)
    parser.add_argument("--tiny", dest="plan", action="store_const", const="tiny", default="default")
    parser.add_argument("--output", type=Path, default=BUILD / "workers.json")
    asked = parser.parse_args(words)
    plan = PLANS[asked.plan]
    BUILD.mkdir(parents=True, exist_ok=True)
    cluster = Cluster(settings={"fsync": "on", "full_page_writes": "on"})
    servers: list[Workers] = []
    try:
        cluster.start()
        with tempfile.TemporaryDirectory(prefix="workers-", dir=BUILD) as folder:
            try:
                for count in (1, 2):
                    servers.append(Workers(cluster.url(cluster.create()), count))
                    servers[-1].start(Path(folder) / str(count))
                found = measure(plan, Programs(BUILD / "bin"), *servers)
            finally:
                for server in servers:
                    server.stop()
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    finally:
        cluster.remove()
    asked.output.write_bytes(msgspec.json.encode(found))
    print("\n".join([table(found, plan), *found.problems, str(found.machine), str(asked.output)]))
    once = all(one.judged <= 1 and one.read <= 1 for one in found.two)
    return 0 if not found.problems and once and found.times <= MOST_TIMES and found.uneven <= MOST_UNEVEN else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
