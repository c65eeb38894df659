"""`python -m bench.stalled`: 5 of 50 readers stop reading for 20,000 events of 1 KB.

What the server needs for it (memory, CPU for each delivery to the others, beside the same writes to 45 readers who all
read), what the five are told, what the metrics and the hook say, and whether the five, when they come back with the
position of the last event they had, get all the rest. The two kinds of run alternate; a figure is the median of pairs.
"""

import argparse
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from bench.crowd import Client, Crowd
from bench.process import Peak, cpu_s
from bench.programs import BenchError, Programs
from bench.resumers import metrics
from bench.servers import Api, SnackBaseServer

BUILD = Path(__file__).resolve().parent.parent / "build" / "bench"
READERS, STALLED, EVENTS, WRITERS = 50, 5, 20_000, 4
RATE = 1000.0
"""Creates a second: a pace that the readers here keep up with, so that only those stall who are meant to."""
PAD = 560
"""Characters of filling in each record, so that an event has 1 KB."""
SLOW = 'snackbase_realtime_closes_total{code="slow_consumer"}'
PATIENCE_S = 300.0
SETTLE_S = 1.0


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One run.

    Attributes:
        cpu_us: of the server, for each event delivered to a reader who reads, the writes among it.
        net_us: the same beyond what the writes alone cost: a small difference of large numbers.
        grown: bytes of memory. event_bytes: of one event.
        told: close codes that the stalled ones found. metric, hook: ends with 4003 by either. resumed: stalled readers
            that had every event in the end. wrong: what was missing or out of order.
    """

    stalled: int
    cpu_us: float
    net_us: float
    grown: int
    event_bytes: int
    told: list[int | None] = []
    metric: int = 0
    hook: int = 0
    resumed: int = 0
    wrong: list[str] = []


class Stall:
    """Runs on one server, one after the other."""

    def __init__(self, programs: Programs, server: SnackBaseServer, events: int) -> None:
        self._programs = programs
        self._server = server
        self._events = events
        self._api = Api(server.port, "Bearer ")
        self._tokens = server.tokens.read_text().split()

    def control(self) -> float:
        """CPU seconds of the writes alone."""
        before = cpu_s(self._server.pid)
        self._write()
        return cpu_s(self._server.pid) - before

    def run(self, stalled: int, control: float) -> Run:
        """One measurement with 45 readers that read, and so many that do not."""
        with Crowd(self._server.port, self._tokens, READERS - STALLED + stalled) as crowd:
            crowd.subscribe()
            still, reading = crowd.clients[:stalled], crowd.clients[stalled:]
            for client in still:
                crowd.stand_still(client)
            time.sleep(SETTLE_S)
            self._api.get("/bench/watch")
            slow, sent = metrics(self._api).get(SLOW, 0.0), metrics(self._api)["snackbase_realtime_bytes_sent_total"]
            peak, before = Peak(self._server.pid), cpu_s(self._server.pid)
            writing = threading.Thread(target=self._write)
            writing.start()
            crowd.until(lambda: all(one.heard >= self._events for one in reading), within_s=PATIENCE_S, what="all read")
            writing.join()
            spent, grown = cpu_s(self._server.pid) - before, peak.grown()
            after = metrics(self._api)
            wrong = [
                f"{one.heard} heard, {one.gaps} gaps, {one.code}"
                for one in reading
                if one.heard != self._events or one.gaps
            ]
            run = Run(
                stalled=stalled,
                cpu_us=spent * 1e6 / (self._events * len(reading)),
                net_us=(spent - control) * 1e6 / (self._events * len(reading)),
                grown=grown,
                event_bytes=int((after["snackbase_realtime_bytes_sent_total"] - sent) / (len(reading) * self._events)),
                wrong=wrong,
            )
            return self._afterwards(run, crowd, still, after.get(SLOW, 0.0) - slow) if stalled else run

    def _afterwards(self, run: Run, crowd: Crowd, still: Sequence[Client], metric: float) -> Run:
        """The stalled ones read what is left for them, then come back for the rest."""
        for client in still:
            crowd.go_on(client)
        crowd.until(lambda: all(one.ended for one in still), within_s=30, what="the stalled ones find their end")
        closed = self._api.get("/bench/watched")["closed"]
        wrong, resumed = list(run.wrong), 0
        with Crowd(self._server.port, self._tokens, len(still)) as back:
            for client, old in zip(back.clients, still, strict=True):
                client.at = old.at
                client.subscribe(old.position)
            back.until(lambda: all(one.caught_up for one in back.clients), within_s=60, what="they caught up")
            for client, old in zip(back.clients, still, strict=True):
                resumed += client.heard + old.heard == self._events and not client.gaps + old.gaps
                wrong += [f"resumed: {client.others[:2]}"] if client.others else []
        told = [one.code for one in still]
        hook = int(closed.get("4003", 0))
        return msgspec.structs.replace(run, told=told, metric=int(metric), hook=hook, resumed=resumed, wrong=wrong)

    def _write(self) -> None:
        server = self._server
        done = self._programs.create(
            server.style,
            server.port,
            server.path,
            server.token,
            clients=WRITERS,
            count=self._events,
            rate=RATE,
            pad=PAD,
        )
        if done.failed:
            raise BenchError(f"{done.failed} creates failed: {done.note}")


def table(pairs: Sequence[tuple[Run, Run]]) -> str:
    """A Markdown table of all pairs."""
    with_, without = [stalled for stalled, _ in pairs], [control for _, control in pairs]
    ratio = statistics.median(one.cpu_us / other.cpu_us for one, other in pairs)
    net = statistics.median([one.net_us for one in with_]) / statistics.median([one.net_us for one in without])
    rows = [
        ("bytes of an event", _range([one.event_bytes for one in without])),
        ("CPU µs of a delivery with its write, 45 readers who all read", _range([one.cpu_us for one in without])),
        ("the same, with 5 more who do not read", _range([one.cpu_us for one in with_])),
        ("ratio, median of pairs", f"{ratio:.2f}"),
        ("CPU µs of a delivery without its write, 45 readers who all read", _range([one.net_us for one in without])),
        ("the same, with 5 more who do not read", _range([one.net_us for one in with_])),
        ("ratio of the medians", f"{net:.2f}"),
        ("more memory, MB, without", _range([one.grown / 2**20 for one in without])),
        ("more memory, MB, with the five", _range([one.grown / 2**20 for one in with_])),
        ("ends with 4003 by the metric, by the hook", _texts(f"{one.metric}, {one.hook}" for one in with_)),
        ("close codes the five received", _texts(str(one.told) for one in with_)),
        ("of the five, came back and had every event", _texts(str(one.resumed) for one in with_)),
        ("readers with anything missing or out of order", str(sum(len(one.wrong) for pair in pairs for one in pair))),
    ]
    return "\n".join(["| | |", "|---|---:|", *(f"| {name} | {text} |" for name, text in rows)])


def _range(values: Sequence[float]) -> str:
    return f"{statistics.median(values):,.1f} ({min(values):,.1f}-{max(values):,.1f})"


def _texts(values: object) -> str:
    return "; ".join(dict.fromkeys(values))  # type: ignore[call-overload]  # texts


def main(words: list[str]) -> int:
    """Returns the exit code: 1 when somebody missed something, or the five were not told."""
    parser = argparse.ArgumentParser(prog="python -m bench.stalled", description=__doc__)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--events", type=int, default=EVENTS)
    chosen = parser.parse_args(words)
    programs, pairs = Programs(BUILD / "bin"), []
    with tempfile.TemporaryDirectory(prefix="data-", dir=BUILD) as folder:
        server = SnackBaseServer("NORMAL", watched=True)
        try:
            server.start(Path(folder))
            stall = Stall(programs, server, chosen.events)
            stall.control()
            for number in range(chosen.pairs):
                control = stall.control()
                runs = {stalled: stall.run(stalled, control) for stalled in ((0, STALLED), (STALLED, 0))[number % 2]}
                pairs.append((runs[STALLED], runs[0]))
                print(*pairs[-1], sep="\n", file=sys.stderr)
        except BenchError as error:
            print(f"bench.stalled: {error}", file=sys.stderr)
            return 2
        finally:
            server.stop()
    print(table(pairs))
    whole = all(not one.wrong and not other.wrong and one.resumed == STALLED for one, other in pairs)
    return 0 if whole else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
