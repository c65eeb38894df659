"""From single figures to what is read: medians with their ranges, as JSON for machines and as tables for people."""

import os
import platform
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from bench.plan import Figure

UNIT_ORDER = (
    *("creates/s", "CPU µs/create", "CPU µs/connect", "CPU µs/delivery", "with the write", "control, µs/event"),
    *("KB each", "p50 ms", "p99 ms", "events/s", "deliveries/s", "CPU ms", "exponent"),
)


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """All rounds of one figure. `values`: one a round, in order."""

    group: str
    measure: str
    server: str
    unit: str
    median: float
    low: float
    high: float
    runs: int
    values: tuple[float, ...] = ()


class Results(msgspec.Struct, frozen=True, kw_only=True):
    """One run of the benchmark. `missing`: servers that were not measured, and what has to be installed for them."""

    at: str
    machine: dict[str, str | int | float]
    servers: dict[str, str]
    problems: list[str]
    figures: list[Summary]
    missing: dict[str, str] = {}


def summaries(figures: Iterable[Figure]) -> list[Summary]:
    """Medians and ranges, in the order of first appearance."""
    found: dict[tuple[str, str, str, str], list[float]] = {}
    for figure in figures:
        found.setdefault((figure.group, figure.measure, figure.server, figure.unit), []).append(figure.value)
    return [
        Summary(
            group=group,
            measure=measure,
            server=server,
            unit=unit,
            median=round(statistics.median(values), 4),
            low=round(min(values), 4),
            high=round(max(values), 4),
            runs=len(values),
            values=tuple(round(value, 6) for value in values),
        )
        for (group, measure, server, unit), values in found.items()
    ]


def machine() -> dict[str, str | int | float]:
    """What the figures were taken on."""
    model = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), ""
    )
    return {
        "cpu": model or platform.machine(),
        "cores": os.cpu_count() or 0,
        "kernel": platform.release().partition("-")[0],
        "python": platform.python_version(),
        "load_at_start": round(os.getloadavg()[0], 2),
    }


def tables(results: Results) -> str:
    """Markdown: one table a group, a row for each measure and server, `median (lowest-highest)` in the cells."""
    parts = []
    for group in dict.fromkeys(summary.group for summary in results.figures):
        rows = [summary for summary in results.figures if summary.group == group]
        present = dict.fromkeys(row.unit for row in rows)
        units = [unit for unit in UNIT_ORDER if unit in present] + [unit for unit in present if unit not in UNIT_ORDER]
        lines = [f"| {' | '.join([group, 'server', *units])} |", "|---|---|" + "---:|" * len(units)]
        order = list(dict.fromkeys(row.measure for row in rows))
        places = sorted(
            dict.fromkeys((row.measure, row.server) for row in rows), key=lambda place: order.index(place[0])
        )
        for measure, server in places:
            cells = [_cell(rows, measure, server, unit) for unit in units]
            lines.append(f"| {' | '.join([measure, server, *cells])} |")
        parts.append("\n".join(lines))
    if results.missing:
        parts.append(
            "Not measured:\n\n" + "\n".join(f"- {name}: needs {what}" for name, what in results.missing.items())
        )
    if results.problems:
        parts.append("Not as it should be:\n\n" + "\n".join(f"- {problem}" for problem in results.problems))
    return "\n\n".join(parts)


def _cell(rows: Sequence[Summary], measure: str, server: str, unit: str) -> str:
    for row in rows:
        if (row.measure, row.server, row.unit) == (measure, server, unit):
            spread = "" if row.runs == 1 else f" ({number(row.low)}-{number(row.high)})"
            return f"{number(row.median)}{spread}"
    return ""


def number(value: float) -> str:
    """Three digits that mean something."""
    if abs(value) >= 100 or value == int(value):
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
