"""`python -m proof [--minutes 30] [--seed N]`: 0 when nothing differed, 1 with what differed."""

import argparse
import asyncio
import secrets
import signal
import sys
import tempfile
from pathlib import Path

from proof.javascript import missing
from proof.livelist import Difference
from proof.run import Plan, Run, explain, report
from tests.support.nginx import REMEDY, find_nginx


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m proof", description="The standing proof (see proof/__init__.py).")
    parser.add_argument("--minutes", type=float, default=30, help="how long (default 30)")
    parser.add_argument("--seed", type=int, default=None, help="repeat the choices of another run")
    parser.add_argument("--round", type=float, default=10, help="seconds between two checkpoints (default 10)")
    parser.add_argument("--writes", type=float, default=40, help="writes a second (default 40)")
    parser.add_argument("--keep", type=Path, default=None, help="folder for the server's data and output")
    parser.add_argument("--nodes", type=int, default=1, help="1: a server on SQLite; more share a PostgreSQL")
    parser.add_argument("--bus", choices=("none", "nats"), default=None, help="between nodes (default nats)")
    asked = parser.parse_args()
    if asked.nodes < 1 or (asked.nodes == 1 and asked.bus == "nats"):
        parser.error("one node has nobody to tell anything; --nodes is 1 or more")
    if find_nginx() is None:
        print(f"\n*** THE PROOF DID NOT RUN: nginx is missing; {REMEDY}.\n", file=sys.stderr)
        return 2
    for what in missing():
        print(f"\n*** {what}.\n", file=sys.stderr)
    seed = asked.seed if asked.seed is not None else secrets.randbelow(10**9)
    plan = Plan(
        seed=seed,
        seconds=asked.minutes * 60,
        round_s=asked.round,
        writes_per_s=asked.writes,
        nodes=asked.nodes,
        bus=asked.nodes > 1 and asked.bus != "none",
    )
    # What the operating system asks to end it ends in order: nothing is left behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="snackbase-proof-") as folder:
        run = Run(plan, asked.keep or Path(folder))
        try:
            outcome = asyncio.run(run.prove())
        except Difference as error:
            explain(error, plan)
            return 1
        report(outcome, plan, print)
    return 0


if __name__ == "__main__":
    sys.exit(main())
