"""Says loudly which tests did not run because a program that is not Python is not here.

A test that needs such a program asks for the fixture `node` or `browser`; the end of the pytest output then names every
test that was left out and what to install. It works under xdist: the words travel in the skip reason.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Protocol

PREFIX = "NOT RUN, "


class SkipReport(Protocol):
    """What this module reads of a pytest report."""

    nodeid: str
    longrepr: object


def reason(program: str, remedy: str) -> str:
    """The skip reason that `blocks` finds again."""
    return f"{PREFIX}{program} is missing: {remedy}"


def blocks(reports: Iterable[SkipReport]) -> Sequence[str]:
    """One block of text for each missing program, with the tests that did not run."""
    left_out: dict[str, list[str]] = defaultdict(list)
    for report in reports:
        where = report.longrepr
        text = str(where[2]) if isinstance(where, tuple) and len(where) == 3 else ""
        text = text.removeprefix("Skipped: ")
        if text.startswith(PREFIX):
            left_out[text].append(report.nodeid)
    return [_block(text, sorted(names)) for text, names in sorted(left_out.items())]


def _block(text: str, names: Sequence[str]) -> str:
    count = f"{len(names)} test{'s' if len(names) != 1 else ''}"
    return "\n".join([f"{count} {text}", *(f"    {name}" for name in names)])
