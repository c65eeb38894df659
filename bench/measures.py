"""What every scene needs: a plan, the compiled programs, what went wrong so far, and CPU beside what was done.

CPU is that of the server's whole process tree. A delivery's CPU is what the same writes cost with subscribers beyond
what they cost without (the control), divided by the deliveries; so everything that fan-out adds is in it.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from bench.plan import Figure, Plan
from bench.process import cpu_s
from bench.programs import Created, Heard, Programs, Subscribers
from bench.servers import COLLECTION, Server

SETTLE_S = 0.2
"""For what a server does after its last answer; the same in measurement and control."""
T = TypeVar("T")


class Bench:
    """Measures one server after the other; remembers what was not as it should be.

    Args:
        folder: for the data of the servers, and for what is kept for the whole run.

    Attributes:
        problems: events that did not arrive, or not in order; requests that failed.
        event_bytes: size of the events that SnackBase sends, so that others can send the same.
        aside: whether this round measures the peers without a target and the large crowds too.
    """

    def __init__(self, programs: Programs, plan: Plan, folder: Path) -> None:
        self.programs = programs
        self.plan = plan
        self.folder = folder
        self.problems: list[str] = []
        self.event_bytes = 600
        self.aside = True
        self.no_tokens = folder / "no-tokens.txt"
        self.no_tokens.write_text("none\n")

    def warm(self, server: Server) -> None:
        """What happens once after a start must not stand in the first figure."""
        self.create(server, count=30)
        self.create(server, count=1, batch=self.plan.batch)
        # The first thousand writes cost a fifth more than those after them; a control must not be measured among them.
        self.create(server, count=self.plan.fast, rate=self.plan.fast_rate, clients=self.plan.fast_writers)

    def subscribers(
        self, server: Server, kind: str, connections: int, *, collection: str = COLLECTION, **how: bool
    ) -> Subscribers:
        """Subscribers of a record server, from several addresses when they are many."""
        return self.programs.load(
            kind,
            server.port,
            connections,
            collection=collection,
            tokens=server.tokens,
            addresses=self.plan.addresses if connections > 1000 else 1,
            **how,
        )

    def create(self, server: Server, **how: float) -> Created:
        done = self.programs.create(server.style, server.port, server.path, server.token, **how)  # type: ignore[arg-type]  # numbers, by name
        self.note_failures(server.name, done)
        return done

    def note_failures(self, name: str, done: Created) -> None:
        if done.failed:
            self.problems.append(f"{name}: {done.failed} of {done.requests} requests failed: {done.note}")

    def check(self, name: str, heard: Heard, events: int) -> None:
        """Every event on every connection, once and in order, and nobody sent away."""
        expected = events * heard.connections
        if heard.received != expected or heard.gaps or heard.repeats or heard.others or heard.lost:
            text = (
                f"{name}: {heard.received} of {expected} events heard, {heard.gaps} skipped, "
                f"{heard.repeats} out of order, {heard.lost} connections lost, {heard.others} other messages"
            )
            self.problems.append(f"{text} {heard.note}".rstrip())


def spent(pid: int, work: Callable[[], T]) -> tuple[float, T]:
    """CPU seconds of a process tree while `work` was done, and what it gave."""
    before = cpu_s(pid)
    result = work()
    time.sleep(SETTLE_S)
    return cpu_s(pid) - before, result


def figures(group: str, measure: str, server: str, values: Mapping[str, float]) -> Iterator[Figure]:
    """Several units of one measure."""
    for unit, value in values.items():
        yield Figure(group=group, measure=measure, server=server, unit=unit, value=value)


def transport(kind: str) -> str:
    return "WebSocket" if kind.endswith("-ws") else "SSE"
