"""Pictures of a run, as SVG written by hand: bars for servers beside each other, lines for what grows."""

import math
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from bench.growth import GROUP as GROWTH
from bench.report import Results, Summary, number

WIDTH, BAR, LEFT, TOP = 760, 22, 250, 46
OURS, OTHERS, RANGE = "#2563eb", "#9ca3af", "#111827"
LINES = ("#2563eb", "#dc2626", "#059669", "#d97706", "#7c3aed")
STYLE = "font-family:sans-serif;font-size:12px;fill:#111827"
PANEL = 300


def draw(results: Results, folder: Path) -> list[Path]:
    """One file a picture; gives the files."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures: dict[str, str] = {}
    for group, unit, name in (
        ("fan-out", "CPU µs/delivery", "fanout"),
        ("fan-out", "p99 ms", "fanout-p99"),
        ("creates", "creates/s", "creates"),
        ("connecting", "CPU µs/connect", "connecting"),
        ("memory", "KB each", "memory"),
    ):
        chosen = [one for one in results.figures if (one.group, one.unit) == (group, unit)]
        if chosen:
            pictures[name] = bars(f"{group}: {unit}", chosen)
    growing = [one for one in results.figures if (one.group, one.unit) == (GROWTH, "CPU ms")]
    if growing:
        pictures["growth"] = curves("growth: CPU ms of the server, both axes logarithmic", growing)
    files = []
    for name, text in pictures.items():
        path = folder / f"{name}.svg"
        path.write_text(text, encoding="utf-8")
        files.append(path)
    return files


def bars(title: str, figures: Sequence[Summary]) -> str:
    """A bar a measure and server on a logarithmic scale, with its range."""
    low = min(max(one.low, 1e-3) for one in figures)
    high = max(max(one.high, 1e-3) for one in figures)
    bottom, top = math.floor(math.log10(low)), math.ceil(math.log10(high) + 1e-9)
    span = max(1, top - bottom)

    def x(value: float) -> float:
        return LEFT + (WIDTH - LEFT - 70) * (math.log10(max(value, 10.0**bottom)) - bottom) / span

    parts, y = [], TOP
    for power in range(bottom, bottom + span + 1):
        at = x(10.0**power)
        parts.append(f'<line x1="{at:.1f}" y1="{TOP - 12}" x2="{at:.1f}" y2="HEIGHT" stroke="#e5e7eb"/>')
        parts.append(_text(at, TOP - 16, f"{10.0**power:g}", anchor="middle"))
    for measure in dict.fromkeys(one.measure for one in figures):
        parts.append(_text(8, y + 14, measure, weight="bold"))
        y += BAR
        for one in (one for one in figures if one.measure == measure):
            colour = OURS if one.server.startswith("SnackBase") else OTHERS
            parts.append(_text(LEFT - 8, y + 14, one.server, anchor="end"))
            parts.append(
                f'<rect x="{LEFT}" y="{y + 3}" width="{max(1, x(one.median) - LEFT):.1f}" height="{BAR - 7}" '
                f'fill="{colour}"/>'
            )
            middle = y + BAR / 2
            parts.append(
                f'<line x1="{x(one.low):.1f}" y1="{middle}" x2="{x(one.high):.1f}" y2="{middle}" stroke="{RANGE}"/>'
            )
            parts.append(_text(max(x(one.high), x(one.median)) + 6, y + 14, number(one.median)))
            y += BAR
    return _picture(title, [part.replace("HEIGHT", str(y)) for part in parts], y + 10)


def curves(title: str, figures: Sequence[Summary]) -> str:
    """A line a measure over its sizes, which stand in the server's column as `n = …`."""
    series: dict[str, list[tuple[float, float]]] = {}
    for one in figures:
        size = float(one.server.removeprefix("n = "))
        series.setdefault(one.measure, []).append((size, max(one.median, 1e-3)))
    points = [point for line in series.values() for point in line]
    across = _scale([size for size, _ in points], 70, WIDTH - 260)
    up = _scale([cost for _, cost in points], TOP + PANEL, TOP)
    parts = []
    for size in sorted({size for size, _ in points}):
        parts.append(_text(across(size), TOP + PANEL + 20, f"{size:g}", anchor="middle"))
    for cost in (min(cost for _, cost in points), max(cost for _, cost in points)):
        parts.append(_text(60, up(cost) + 4, number(cost), anchor="end"))
    for index, (measure, line) in enumerate(series.items()):
        colour = LINES[index % len(LINES)]
        path = " ".join(f"{across(size):.1f},{up(cost):.1f}" for size, cost in line)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        y = TOP + 14 + index * 20
        parts.append(f'<rect x="{WIDTH - 240}" y="{y - 9}" width="10" height="10" fill="{colour}"/>')
        parts.append(_text(WIDTH - 224, y, measure))
    return _picture(title, parts, TOP + PANEL + 40)


class _scale:
    """Logarithmic, from the smallest value at one place to the largest at another."""

    def __init__(self, values: Iterable[float], start: float, end: float) -> None:
        known = [math.log(value) for value in values]
        self._low, self._span = min(known), (max(known) - min(known)) or 1.0
        self._start, self._length = start, end - start

    def __call__(self, value: float) -> float:
        return self._start + self._length * (math.log(value) - self._low) / self._span


def _text(x: float, y: float, words: str, *, anchor: str = "start", weight: str = "normal") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}">{escape(words)}</text>'


def _picture(title: str, parts: Sequence[str], height: float) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height:.0f}" style="{STYLE}">'
    paper = f'<rect width="{WIDTH}" height="{height:.0f}" fill="white"/>'
    return "\n".join([head, paper, _text(8, 18, title, weight="bold"), *parts, "</svg>", ""])
