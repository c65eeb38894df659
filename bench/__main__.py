"""`make bench`, `python -m bench`: measure, print tables, write a results file."""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from bench.measures import Bench, Figure, Plan
from bench.programs import BenchError, Programs
from bench.report import Results, machine, ratios, summaries, tables, write
from bench.servers import PocketBaseServer, Server, SnackBaseServer

BUILD = Path(__file__).resolve().parent.parent / "build" / "bench"
PLANS = {
    "default": Plan(pairs=3, create_s=1.2),
    "full": Plan(pairs=7, create_s=2, spaced=100, batches=8),
    "quick": Plan(pairs=1, create_s=0.8, spaced=40, batches=2),
    "tiny": Plan(
        pairs=1, create_s=0.2, crowd=5, writers=(1, 4), audiences=(4,), spaced=5, rate=50, batches=1, batch=5, wait_s=10
    ),
}


def main(words: list[str]) -> int:
    """Returns the exit code: 1 when SnackBase was not as it should be."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--output", type=Path, default=BUILD / "results.json", help="the results file")
    parser.add_argument("--only", choices=("snackbase", "pocketbase", "floor"), help="one server alone")
    sizes = parser.add_mutually_exclusive_group()
    for name, text in (("full", "7 pairs"), ("quick", "one pair, about a minute"), ("tiny", "proves that it runs")):
        sizes.add_argument(f"--{name}", dest="plan", action="store_const", const=name, default="default", help=text)
    chosen = parser.parse_args(words)
    try:
        results = measure(PLANS[chosen.plan], only=chosen.only)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    write(results, chosen.output)
    print(f"\n{tables(results)}\n\n{ratios(results)}\n\n{chosen.output}")
    return 1 if any(problem.startswith("SnackBase") for problem in results.problems) else 0


def measure(plan: Plan, *, only: str | None = None) -> Results:
    """Run the whole plan, all servers in turn, as often as it says."""
    at, about = datetime.now(UTC).isoformat(timespec="seconds"), machine()
    bench = Bench(Programs(BUILD / "bin"), plan)
    servers: list[Server] = [SnackBaseServer("FULL"), SnackBaseServer("NORMAL"), PocketBaseServer()]
    if only is not None:
        servers = [server for server in servers if server.style == only]
    figures: list[Figure] = []
    for pair in range(1, plan.pairs + 1):
        for server in servers:
            note(f"{pair}/{plan.pairs} {server.name}", lambda server=server: figures.extend(one(bench, server)))  # type: ignore[misc]  # called at once
        if only in (None, "floor"):
            note(f"{pair}/{plan.pairs} C floor", lambda: figures.extend(floor(bench)))
    about["event_bytes"] = bench.event_bytes
    names = {server.name: server.durability for server in servers}
    return Results(at=at, machine=about, servers=names, problems=bench.problems, figures=summaries(figures))


def one(bench: Bench, server: Server) -> Iterator[Figure]:
    """Everything that is measured on one server, started for it. Of SnackBase's two, one shows the fan-out."""
    with tempfile.TemporaryDirectory(prefix="data-", dir=BUILD) as folder:
        try:
            server.start(Path(folder))
            bench.warm(server)
            if server.durability != "synchronous=NORMAL" or server.style != "snackbase":
                for kind in server.kinds:
                    yield from bench.fanout(server, kind)
            yield from bench.creates(server)
        finally:
            server.stop()


def floor(bench: Bench) -> Iterator[Figure]:
    tokens = BUILD / "no-tokens.txt"
    tokens.write_text("none\n")
    with bench.programs.floor() as program:
        yield from bench.floor(program, tokens)


def note(what: str, work: Callable[[], None]) -> None:
    started = time.monotonic()
    work()
    print(f"{what}: {time.monotonic() - started:.1f} s", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
