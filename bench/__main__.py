"""`make bench`, `python -m bench`: measure, print tables, write a results file and pictures."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from bench.plan import PLANS
from bench.plots import draw
from bench.programs import BenchError
from bench.report import Results, tables
from bench.run import BUILD, PLAYERS, SCENES, Run
from bench.targets import Row, rows, table


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The results file."""

    promises: list[Row]
    results: Results


def main(words: list[str]) -> int:
    """Returns the exit code: 1 when SnackBase was not as it should be, 2 when nothing could be measured."""
    chosen = _parser().parse_args(words)
    plan = PLANS[chosen.plan]

    def save(results: Results) -> None:
        report = Report(promises=rows(results.figures, plan), results=results)
        chosen.output.parent.mkdir(parents=True, exist_ok=True)
        chosen.output.write_bytes(msgspec.json.format(msgspec.json.encode(report)) + b"\n")

    run = Run(plan, scenes=chosen.scenes, players=chosen.only, save=save)
    try:
        results = run.measure()
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    save(results)
    draw(results, chosen.output.with_suffix(""))
    print(f"\n{table(rows(results.figures, plan))}\n\n{tables(results)}\n\n{chosen.output}")
    return 1 if any(problem.startswith("SnackBase") for problem in results.problems) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "--output", type=Path, default=BUILD / "results.json", help="the results file; pictures go beside it"
    )
    parser.add_argument("--only", type=_some(PLAYERS), default=PLAYERS, help=f"of {', '.join(PLAYERS)}")
    parser.add_argument("--scenes", type=_some(SCENES), default=SCENES, help=f"of {', '.join(SCENES)}")
    sizes = parser.add_mutually_exclusive_group()
    for name, text in (("full", "7 pairs"), ("quick", "one pair, smaller crowds"), ("tiny", "proves that it runs")):
        sizes.add_argument(f"--{name}", dest="plan", action="store_const", const=name, default="default", help=text)
    return parser


def _some(known: Sequence[str]) -> Callable[[str], list[str]]:
    """Reads words with commas between them."""

    def read(text: str) -> list[str]:
        words = text.split(",")
        if not set(words) <= set(known):
            raise argparse.ArgumentTypeError(f"choose of {', '.join(known)}, with commas between them")
        return words

    return read


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
