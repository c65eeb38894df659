"""The compiled part of the benchmark, as Python sees it: compile, start, talk in lines of JSON."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import msgspec

SOURCES = Path(__file__).resolve().parent
NAMES = ("load", "create", "floor")
T = TypeVar("T")


class BenchError(Exception):
    """The benchmark could not measure; the text says why."""


class Heard(msgspec.Struct, frozen=True):
    """What subscribers heard since the mark. Times in microseconds; `first_us`, `last_us` on CLOCK_MONOTONIC.

    Attributes:
        least, most: events that a single connection heard.
        gaps, repeats: events that were skipped, and that came again or late, over all connections.
        others: messages that are neither events nor heartbeats. bytes: of the events' payloads.
        p50_us, p99_us, max_us: from the writer's send to the arrival here.
        returned, refusals: since the last `rejoin`: connections that came back, and answers that sent one away again.
        back_us: when the last of them had what it missed, on CLOCK_MONOTONIC.
    """

    connections: int
    live: int
    lost: int
    received: int
    least: int
    most: int
    gaps: int
    repeats: int
    others: int
    bytes: int
    p50_us: int
    p99_us: int
    max_us: int
    first_us: int
    last_us: int
    returned: int
    refusals: int
    back_us: int
    note: str


class Created(msgspec.Struct, frozen=True):
    """What writers did. Times in microseconds, from a request's sending (or from when it was due) to its answer."""

    requests: int
    created: int
    failed: int
    seconds: float
    p50_us: int
    p99_us: int
    max_us: int
    note: str


class Programs:
    """Compiles what is out of date.

    Args:
        folder: holds the programs; made when absent.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            raise BenchError("The benchmark's clients are C programs: install gcc.")
        folder.mkdir(parents=True, exist_ok=True)
        headers = max(header.stat().st_mtime for header in SOURCES.glob("*.h"))
        for name in NAMES:
            source, made = SOURCES / f"{name}.c", folder / name
            newest = max(source.stat().st_mtime, headers)
            if not made.exists() or made.stat().st_mtime < newest:
                flags = ["-O2", "-std=gnu11", "-Wall", "-Wextra", "-Werror"]
                # Others may compile or run the same at this moment.
                new = folder / f"{name}.{os.getpid()}"
                subprocess.run([compiler, *flags, "-o", str(new), str(source)], check=True)
                new.replace(made)

    def load(
        self,
        kind: str,
        port: int,
        connections: int,
        *,
        collection: str,
        tokens: Path,
        sparse: bool = False,
        addresses: int = 1,
        at_once: int = 50,
        distinct: bool = False,
    ) -> "Subscribers":
        """Subscribers of `kind`; they are connected once entered as a context.

        Args:
            tokens: a file with one token a line; each connection takes the next one, from the top again after the last.
            sparse: each hears but a part of what is written: numbers have to rise, and may leave some out.
            addresses: how many addresses they come from (127.0.0.1 and the following).
            at_once: connections being made at any time.
            distinct: each has a filter of its own that no event fits.
        """
        words = [kind, str(port), str(connections), collection, str(tokens)]
        words += [f"sparse={sparse:d}", f"addresses={addresses}", f"at_once={at_once}", f"distinct={distinct:d}"]
        return Subscribers([str(self._folder / "load"), *words], connections)

    def create(
        self,
        style: str,
        port: int,
        path: str,
        token: str | Path,
        *,
        clients: int = 1,
        seconds: float = 0,
        count: int = 0,
        rate: float = 0,
        batch: int = 1,
        pad: int = 100,
        first: int = 0,
    ) -> Created:
        """Create records; returns when every request was answered. See create.c for the arguments.

        Args:
            token: or a file with one token a line, which the requests use in turn.
            first: the number before the first record's.
        """
        numbers = [clients, seconds, count, rate, batch, pad, first]
        words = [style, str(port), path, f"@{token}" if isinstance(token, Path) else token, *map(str, numbers)]
        done = subprocess.run([str(self._folder / "create"), *words], capture_output=True, timeout=180)
        if done.returncode:
            raise BenchError(f"create: {done.stderr.decode()}")
        return msgspec.json.decode(done.stdout, type=Created)

    def floor(self) -> "Floor":
        return Floor([str(self._folder / "floor")])


class Talking:
    """A program that obeys lines on stdin and answers with lines of JSON; it ends when it is left."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        return self._running().pid

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        try:
            self._entered()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        process = self._running()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _entered(self) -> None:
        """The first answers."""

    def _ask(self, line: str, type: type[T]) -> T:
        stdin = self._running().stdin
        if stdin is not None:
            stdin.write(f"{line}\n".encode())
            stdin.flush()
        return self._answer(type)

    def _answer(self, type: type[T]) -> T:
        process = self._running()
        line = process.stdout.readline() if process.stdout is not None else b""
        if not line:
            process.kill()
            reason = process.stderr.read().decode(errors="replace") if process.stderr is not None else ""
            raise BenchError(f"{Path(self._command[0]).name} ended: {reason.strip()}")
        return msgspec.json.decode(line, type=type)

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise BenchError("The program was not started.")
        return self._process


class Subscribers(Talking):
    """N connections that listen. `with …:` connects and subscribes all of them."""

    def __init__(self, command: Sequence[str], connections: int) -> None:
        super().__init__(command)
        self.connections = connections

    def _entered(self) -> None:
        self._answer(dict[str, int])

    def mark(self) -> None:
        """Forget what was heard: the next event of each writer has the sequence number 1."""
        self._ask("mark", dict[str, bool])

    def heard(self, events: int, *, within_s: float) -> Heard:
        """What was heard since the mark, once everybody heard `events`, or after `within_s`."""
        return self._ask(f"await {events} {within_s}", Heard)

    def heard_in_all(self, events: int, *, within_s: float) -> Heard:
        """What was heard since the mark, once `events` were heard by all together, or after `within_s`."""
        return self._ask(f"total {events} {within_s}", Heard)

    def rejoin(self, *, at_once: int, within_s: float) -> Heard:
        """Have those come back whose connections are lost, each resuming where it was; a report when all have."""
        return self._ask(f"rejoin {at_once} {within_s}", Heard)


class Floor(Talking):
    """The C server that only sends."""

    port = 0

    def _entered(self) -> None:
        self.port = self._answer(dict[str, int])["port"]

    def send(self, events: int, *, joined: int = 1, size: int = 400, rate: float = 0, skipped: int = 0) -> None:
        """Send `events` to every connection; see floor.c."""
        self._ask(f"send {events} {joined} {size} {rate} {skipped}", dict[str, int])
