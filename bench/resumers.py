"""`python -m bench.resumers`: 1,000 clients resume at once from 1,000 positions back, while others listen live.

What it costs: log rows read, memory, how long the event loop was held; and whether everybody got everything in order.
Three times: all from the same place on connections that are open, each from another place, and all from the same place
with the connecting on top, as after a restart.
"""

import argparse
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from bench.crowd import Crowd
from bench.process import Peak, cpu_s
from bench.programs import BenchError, Programs
from bench.servers import COLLECTION, Api, SnackBaseServer

BUILD = Path(__file__).resolve().parent.parent / "build" / "bench"
CLIENTS, BACK, LIVE = 1000, 1000, 50
LIVE_EVENTS, LIVE_RATE = 150, 50.0
PATIENCE_S = 180.0
SETTLE_S = 0.5
FORGOTTEN_S = 6.0
"""Longer than the server keeps what it read of the log, so that what is measured reads it again."""
SHAPES = {"same": "from one place", "spread": "each from another place", "connecting": "from one place, connecting too"}


class Resumed(msgspec.Struct, frozen=True, kw_only=True):
    """One measurement.

    Attributes:
        events: replayed, all clients added. rows: log rows read for it.
        grown: bytes of memory. clock_ms, cpu_ms: the longest the loop was held, and of that by its own work.
        holds: how often the loop's thread used so much CPU in one go. lags: the same by the clock, from /metrics.
        seconds: until everybody had caught up. cpu_us: of the server, for an event, the live ones among them.
        wrong: what was missing, doubled or out of order.
    """

    shape: str
    clients: int
    events: int
    rows: int
    grown: int
    clock_ms: float
    cpu_ms: float
    holds: dict[str, int]
    lags: dict[str, float]
    seconds: float
    cpu_us: float
    wrong: list[str]


def measure(programs: Programs, server: SnackBaseServer, *, clients: int, back: int, shape: str) -> Resumed:
    """One storm on a server that runs."""
    api = Api(server.port, "Bearer ")
    api.token = server.token
    programs.create(server.style, server.port, server.path, server.token, count=20)
    start = _position(api)
    programs.create(server.style, server.port, server.path, server.token, count=back)
    places = _places(api, start, back) if shape == "spread" else [start]
    tokens = server.tokens.read_text().split()
    with Crowd(server.port, tokens, LIVE) as listeners, Crowd(server.port, tokens, 0) as nobody:
        listeners.subscribe()
        resumers = nobody if shape == "connecting" else Crowd(server.port, tokens, clients)
        time.sleep(FORGOTTEN_S)
        api.get("/bench/watch")
        before, peak, cpu, began = metrics(api), Peak(server.pid), cpu_s(server.pid), time.monotonic()
        with _Aside(lambda: _write(programs, server)), _Aside(lambda: _listen(listeners)):
            if shape == "connecting":
                resumers = Crowd(server.port, tokens, clients, since=start)
            for number, client in enumerate(resumers.clients if shape != "connecting" else ()):
                client.subscribe(places[number % len(places)])
            caught_up = lambda: all(one.caught_up for one in resumers.clients)  # noqa: E731
            resumers.until(caught_up, within_s=PATIENCE_S, what="all caught up")
            seconds = time.monotonic() - began
            expected = _expected(resumers, places, back)
            resumers.until(
                lambda: all(one.heard >= wanted for one, wanted in zip(resumers.clients, expected, strict=True)),
                within_s=PATIENCE_S,
                what="all heard what was written meanwhile",
            )
        spent, after, held = cpu_s(server.pid) - cpu, metrics(api), api.get("/bench/watched")
        grown = peak.grown()
        resumers.close()
    events = sum(one.heard for one in resumers.clients)
    return Resumed(
        shape=SHAPES[shape],
        clients=clients,
        events=events,
        rows=int(_grown(before, after, "snackbase_realtime_replay_rows_total")),
        grown=grown,
        clock_ms=held["clock_ms"],
        cpu_ms=held["cpu_ms"],
        holds=held["holds"],
        lags=_lags(before, after),
        seconds=seconds,
        cpu_us=spent * 1e6 / (events + LIVE * LIVE_EVENTS),
        wrong=_wrong("live", listeners, [LIVE_EVENTS] * LIVE) + _wrong("resuming", resumers, expected),
    )


def _expected(crowd: Crowd, places: Sequence[str], back: int) -> list[int]:
    """Of `back` places the n-th is n events behind the start."""
    return [back - number % len(places) + LIVE_EVENTS for number in range(len(crowd.clients))]


def _wrong(who: str, crowd: Crowd, expected: Sequence[int]) -> list[str]:
    found = []
    for client, wanted in zip(crowd.clients, expected, strict=True):
        if client.heard != wanted or client.gaps or client.others or client.ended:
            found.append(f"{who}: {client.heard} of {wanted}, {client.gaps} gaps, {client.code} {client.others[:2]}")
    return found


class _Aside:
    """Work in a thread of its own, finished when left; what it raises is raised there."""

    def __init__(self, work: Any) -> None:
        self._work = work
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as error:
            self._error = error

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, kind: object, *error: object) -> None:
        self._thread.join()
        if self._error is not None and kind is None:
            raise self._error


def _write(programs: Programs, server: SnackBaseServer) -> None:
    done = programs.create(
        server.style, server.port, server.path, server.token, count=LIVE_EVENTS, rate=LIVE_RATE, clients=1
    )
    if done.failed:
        raise BenchError(f"{done.failed} creates failed: {done.note}")


def _listen(crowd: Crowd) -> None:
    crowd.until(lambda: all(one.heard >= LIVE_EVENTS for one in crowd.clients), within_s=PATIENCE_S, what="live ones")


def _position(api: Api) -> str:
    return str(api.get(f"/api/v1/records/{COLLECTION}?limit=1")["position"])


def _places(api: Api, start: str, back: int) -> list[str]:
    """The start, and the place after each event but the last."""
    found = [start]
    while len(found) < back:
        page = api.get(f"/api/v1/realtime/changes?collection={COLLECTION}&since={found[-1]}&limit=1000")
        found += [event["position"] for event in page["events"]]
    return found[:back]


def metrics(api: Api) -> dict[str, float]:
    """The numbers of /metrics by their names with labels."""
    lines = [line.rsplit(" ", 1) for line in api.text("/metrics").splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in lines}


def _grown(before: dict[str, float], after: dict[str, float], name: str) -> float:
    return after.get(name, 0) - before.get(name, 0)


def _lags(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    """The loop-lag histogram of /metrics, meanwhile: bound in seconds -> observations up to it."""
    names = [name for name in after if name.startswith("snackbase_event_loop_lag_seconds_bucket")]
    return {name.partition('le="')[2].rstrip('"}'): _grown(before, after, name) for name in names}


def table(found: Sequence[Resumed]) -> str:
    """A Markdown table, a column a shape."""
    rows = [
        ("events heard by those who resume", [f"{one.events:,}" for one in found]),
        ("log rows read", [f"{one.rows:,}" for one in found]),
        ("more memory, MB", [f"{one.grown / 2**20:.1f}" for one in found]),
        ("loop held at most, ms of its own CPU", [f"{one.cpu_ms:.1f}" for one in found]),
        ("loop held at most, ms by the clock", [f"{one.clock_ms:.1f}" for one in found]),
        ("seconds until all had caught up", [f"{one.seconds:.1f}" for one in found]),
        ("CPU µs an event", [f"{one.cpu_us:.2f}" for one in found]),
        ("clients with anything missing, doubled or out of order", [f"{len(one.wrong)}" for one in found]),
    ]
    lines = ["| | " + " | ".join(one.shape for one in found) + " |", "|---|" + "---:|" * len(found)]
    return "\n".join([*lines, *(f"| {name} | " + " | ".join(cells) + " |" for name, cells in rows)])


def main(words: list[str]) -> int:
    """Returns the exit code: 1 when somebody did not get everything, once and in order."""
    parser = argparse.ArgumentParser(prog="python -m bench.resumers", description=__doc__)
    parser.add_argument("--clients", type=int, default=CLIENTS)
    parser.add_argument("--back", type=int, default=BACK)
    parser.add_argument("--shape", choices=SHAPES, nargs="+", default=list(SHAPES))
    chosen = parser.parse_args(words)
    programs, found = Programs(BUILD / "bin"), []
    for shape in chosen.shape:
        with tempfile.TemporaryDirectory(prefix="data-", dir=BUILD) as folder:
            server = SnackBaseServer("NORMAL", watched=True)
            try:
                server.start(Path(folder))
                found.append(measure(programs, server, clients=chosen.clients, back=chosen.back, shape=shape))
            except BenchError as error:
                print(f"bench.resumers: {error}", file=sys.stderr)
                return 2
            finally:
                server.stop()
    print(table(found))
    for one in found:
        print(f"{one.shape}: holds {one.holds}, lags {one.lags}", *one.wrong[:5], sep="\n", file=sys.stderr)
    return 1 if any(one.wrong for one in found) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
