"""What was promised, and whether this run kept it: one row a promise, each with target, figure and verdict.

A ratio is taken within each round and then the median over the rounds: what else the machine did meanwhile hits both
sides of a round alike.
"""

import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping

import msgspec

from bench.plan import Plan
from bench.report import Summary, number

FULL, NORMAL = "SnackBase FULL", "SnackBase NORMAL"
WS, SSE = f"{FULL} WebSocket", f"{FULL} SSE"
EACH, JOINED, PEER = "C, send(2) each", "C, joined", "PocketBase"
CPU = "CPU µs/delivery"
CORE_CASES = 247


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One promise.

    Attributes:
        part: the number it has in the list of promises. limit: None = only to be reported.
        low, high: over the rounds. verdict: reached, missed, reported or not measured.
    """

    part: int
    what: str
    target: str
    limit: float | None
    figure: float | None
    low: float | None = None
    high: float | None = None
    verdict: str


Series = Mapping[tuple[str, str, str], Summary]
Values = list[float] | None


def rows(summaries: Iterable[Summary], plan: Plan) -> list[Row]:
    """Every promise, in order; those of servers that were not measured say so."""
    found = {(one.measure, one.server, one.unit): one for one in summaries}
    makers: tuple[Callable[[Series, Plan], Iterator[Row]], ...] = (
        _fanout,
        _connections,
        _against_pocketbase,
        _open_loop,
        _large,
        _storm,
        _rest,
    )
    return [row for make in makers for row in make(found, plan)]


def table(rows: Iterable[Row]) -> str:
    """As Markdown."""
    lines = ["| | promise | target | figure | |", "|---:|---|---:|---:|---|"]
    for row in rows:
        spread = "" if row.low is None or row.high is None or row.low == row.high else f" ({_span(row.low, row.high)})"
        figure = "" if row.figure is None else f"{number(row.figure)}{spread}"
        verdict = f"**{row.verdict}**" if row.verdict == "missed" else row.verdict
        lines.append(f"| {row.part} | {row.what} | {row.target} | {figure} | {verdict} |")
    return "\n".join(lines)


def _span(low: float, high: float) -> str:
    return f"{number(low)}-{number(high)}"


def _row(part: int, what: str, values: Values, *, most: float | None = None, least: float | None = None) -> Row:
    limit = most if most is not None else least
    target = "" if limit is None else f"{'≤' if most is not None else '≥'} {limit:g}"
    if not values:
        return Row(part=part, what=what, target=target, limit=limit, figure=None, verdict="not measured")
    figure = statistics.median(values)
    kept = (most is None or figure <= most) and (least is None or figure >= least)
    verdict = "reported" if limit is None else "reached" if kept else "missed"
    return Row(
        part=part,
        what=what,
        target=target,
        limit=limit,
        figure=round(figure, 4),
        low=round(min(values), 4),
        high=round(max(values), 4),
        verdict=verdict,
    )


def _values(found: Series, measure: str, server: str, unit: str) -> Values:
    one = found.get((measure, server, unit))
    return None if one is None else list(one.values)


def _ratio(found: Series, unit: str, above: tuple[str, str], below: tuple[str, str]) -> Values:
    """(measure, server) against (measure, server), round by round."""
    over, under = _values(found, *above, unit), _values(found, *below, unit)
    if not over or not under:
        return None
    if len(over) != len(under):
        return [statistics.median(over) / max(1e-9, statistics.median(under))]
    return [one / max(1e-9, other) for one, other in zip(over, under, strict=True)]


def _fanout(found: Series, plan: Plan) -> Iterator[Row]:
    spaced, batches = f"spaced, {plan.rate:g}/s to {max(plan.audiences)}", f"batches of {plan.batch} to "
    for server, word in ((WS, "WebSocket"), (SSE, "SSE")):
        values = _ratio(found, CPU, (spaced, server), (spaced, EACH))
        yield _row(1, f"{spaced}, {word}: CPU of a delivery : C floor", values, most=1.5)
    for audience in sorted({*plan.audiences, plan.large}):
        for server, word in ((WS, "WebSocket"), (SSE, "SSE")):
            measure = f"{batches}{audience}"
            values = _ratio(found, CPU, (measure, server), (measure, JOINED))
            yield _row(1, f"{measure}, {word}: CPU of a delivery : C floor, joined", values, most=2.5)
    fast = f"fast, {plan.fast_rate:g}/s to {plan.crowd}"
    for server, word in ((WS, "WebSocket"), (SSE, "SSE")):
        values = _ratio(found, CPU, (fast, server), (fast, EACH))
        yield _row(1, f"{fast}, {word}: CPU of a delivery : C floor, one send(2) an event", values, most=0.7)
    theirs = _values(found, fast, EACH, "p99 ms")
    limit = max(25.0, 2 * statistics.median(theirs)) if theirs else 25.0
    for server, word in ((WS, "WebSocket"), (SSE, "SSE"), (f"{NORMAL} WebSocket", "WebSocket, NORMAL")):
        what = f"{fast}, {word}: p99 in ms (25, or twice the C server's)"
        yield _row(1, what, _values(found, fast, server, "p99 ms"), most=round(limit, 1))


def _connections(found: Series, plan: Plan) -> Iterator[Row]:
    measure = f"{plan.users} users, owner rule"
    yield _row(2, f"{measure}: KB of resident memory each", _values(found, measure, FULL, "KB each"), most=6)
    values = _ratio(found, "CPU µs/connect", (measure, FULL), (measure, "Starlette on uvicorn"))
    yield _row(2, f"{measure}: CPU of a connect : stock Starlette on uvicorn", values, most=0.75)


def _against_pocketbase(found: Series, plan: Plan) -> Iterator[Row]:
    for audience in plan.audiences:
        measure = f"spaced, {plan.rate:g}/s to {audience}"
        values = _ratio(found, CPU, (measure, f"{PEER} SSE"), (measure, SSE))
        yield _row(3, f"{measure}, SSE: CPU of a delivery, PocketBase : SnackBase", values, least=10)
    for audience in (0, plan.crowd):
        for clients in plan.writers:
            measure = f"{audience} subscribers, {clients} client{'s' * (clients > 1)}"
            least = 1.0 if not audience else 10.0 if clients > 1 else None
            values = _ratio(found, "creates/s", (measure, NORMAL), (measure, PEER))
            yield _row(3, f"{measure}: creates/s, SnackBase : PocketBase, both NORMAL", values, least=least)
            values = _ratio(found, "creates/s", (measure, FULL), (measure, PEER))
            yield _row(3, f"{measure}: the same with FULL", values)


def _open_loop(found: Series, plan: Plan) -> Iterator[Row]:
    for rate in plan.open_rates:
        with_, without = f"{rate:g}/s, {plan.crowd} subscribers", f"{rate:g}/s, 0 subscribers"
        values = _ratio(found, "p50 ms", (with_, FULL), (without, FULL))
        yield _row(4, f"{rate:g} creates/s: median latency with {plan.crowd} subscribers : without", values, most=1.5)


def _large(found: Series, plan: Plan) -> Iterator[Row]:
    measure = f"{plan.large} subscribers, {plan.large_rate:g} events/s"

    def of(unit: str) -> Values:
        return _values(found, measure, FULL, unit)

    yield _row(5, f"{measure}: events missing, twice or out of order", of("missing"), most=0)
    yield _row(5, f"{measure}: connections closed", of("closed"), most=0)
    yield _row(5, f"{measure}: p99 in ms", of("p99 ms"), most=1000)
    for unit in ("longest hold ms", "of it CPU ms", "/live p99 ms", "create p99 ms"):
        yield _row(5, f"{measure}: {unit}", of(unit))
    for connections in plan.ceiling:
        for unit in ("events/s", "deliveries/s"):
            values = _values(found, f"{connections} connections", FULL, unit)
            yield _row(5, f"ceiling of one process at {connections} connections: {unit}", values)


def _storm(found: Series, plan: Plan) -> Iterator[Row]:
    measure = f"{plan.large} clients"

    def of(unit: str) -> Values:
        return _values(found, measure, FULL, unit)

    yield _row(6, f"{measure} back after a restart: refused for good", of("refused for good"), most=0)
    yield _row(6, f"{measure}: events missing or twice", of("missing"), most=0)
    for unit in ("caught up s", "create p99 ms", "read p99 ms", "peak KB each"):
        yield _row(6, f"{measure}: {unit}", of(unit))


def _rest(found: Series, plan: Plan) -> Iterator[Row]:
    yield _row(
        7, "core cases of the Autobahn suite passed", _values(found, "Autobahn", FULL, "cases"), least=CORE_CASES
    )
    for (measure, server, unit), one in found.items():
        if (server, unit) == ("exponent", "exponent"):
            yield _row(8, f"growth, {measure}: exponent of the CPU used", list(one.values), most=1.1)
