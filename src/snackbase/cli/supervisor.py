"""`snackbase serve --workers N`: one process accepts connections, N others serve them, each a node of its own.

The supervisor serves nothing and knows no database, so it hardly has a reason to fail. It hands every connection to the
worker that has the fewest, starts a worker anew that ended (with a pause that grows), and replaces them one by one at
SIGHUP: a fresh one serves before the old one leaves. When the supervisor dies, its workers leave in order.
"""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Coroutine, Sequence
from time import monotonic
from typing import Any

import structlog

from snackbase.app import SnackBase
from snackbase.app.snackbase import tell_generated_password
from snackbase.config import ConfigError, Settings
from snackbase.gateway.handing import Line, Taker
from snackbase.gateway.takeover import Desk, Handover
from snackbase.gateway.uvicorn_server import build_server

log = structlog.get_logger("snackbase.supervisor")

START_S = 300.0
LONGEST_PAUSE_S = 10.0
STEADY_S = 30.0
LOOK_S = 0.05
ACCEPT_AT_ONCE = 64
STOPS = (signal.SIGTERM, signal.SIGINT)


def check_workers(settings: Settings) -> None:
    """Raises ConfigError on SQLite."""
    if settings.database_url.startswith("sqlite:"):
        raise ConfigError(
            "--workers needs PostgreSQL: SQLite admits one writer at a time, so more processes would wait for each "
            "other instead of doing more (docs/howto/scale-out.md)"
        )


class Worker:
    """One worker process. Args: command: what it runs; ` --worker FD` is added. first: it announces the server."""

    def __init__(self, command: Sequence[str], *, first: bool) -> None:
        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self.line = Line(mine)
        words = [*command, "--worker", str(theirs.fileno()), *(["--announcing"] if first else [])]
        # In a group of its own: Ctrl+C is the supervisor's business.
        self.process = subprocess.Popen(words, pass_fds=[theirs.fileno()], process_group=0)  # noqa: S603 - ourselves
        theirs.close()
        self.began = monotonic()
        self.leaving = False
        self.line.listen()

    @property
    def over(self) -> bool:
        return self.process.poll() is not None

    def leave(self) -> None:
        """Serve what it has, take no more, end."""
        self.leaving = True
        self.line.finish()

    async def ready(self) -> bool:
        """Whether it serves; False = it ended instead."""
        ends = monotonic() + START_S
        while not self.line.ready.is_set() and not self.over and monotonic() < ends:  # noqa: ASYNC110 - another process
            await asyncio.sleep(LOOK_S)
        return self.line.ready.is_set() and not self.over


class Supervisor:
    """
    Args:
        command: starts a worker. sockets: the listening ones. handover: from the server before, if any.
    """

    def __init__(
        self,
        settings: Settings,
        command: Sequence[str],
        count: int,
        sockets: Sequence[socket.socket],
        handover: Handover | None,
    ) -> None:
        self._settings = settings
        self._command = command
        self._count = count
        self._sockets = sockets
        self._handover = handover
        self._desk = Desk(settings.data_dir, sockets)
        self._workers: list[Worker] = []
        self._stopping = asyncio.Event()
        self._signals = 0
        self._renewing = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting: list[socket.socket] = []

    async def run(self) -> int:
        """To the end; the exit code."""
        loop = asyncio.get_running_loop()
        for number in STOPS:
            loop.add_signal_handler(number, self._stop)
        first = self._start(first=True)
        if not await first.ready():
            return first.process.poll() or 1
        others = [self._start() for _ in range(self._count - 1)]
        await asyncio.gather(*(worker.ready() for worker in others))
        loop.add_signal_handler(signal.SIGHUP, lambda: self._spawn(self._renew()))
        for listener in self._sockets:
            loop.add_reader(listener, self._accept, listener)
        self._desk.open()
        if self._handover is not None:
            self._handover.ready()
        self._spawn(self._until_replaced())
        self._spawn(self._watch())
        log.info("workers_started", workers=self._count)
        await self._stopping.wait()
        await self._end()
        return 0

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _start(self, *, first: bool = False) -> Worker:
        worker = Worker(self._command, first=first)
        self._workers.append(worker)
        return worker

    # Connections -----------------------------------------------------------------------------------------------------

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(ACCEPT_AT_ONCE):
            try:
                connection, _ = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                # Out of descriptors: what waits is accepted later.
                log.warning("accept_failed", reason=error.strerror)
                self._rest(listener)
                return
            if not self._hand(connection):
                self._waiting.append(connection)
                self._rest(listener)
                return

    def _hand(self, connection: socket.socket) -> bool:
        usable = [worker.line for worker in self._workers if worker.line.usable]
        for line in sorted(usable, key=lambda line: (line.silent, line.load)):
            if line.give(connection):
                connection.close()
                return True
        return False

    def _rest(self, listener: socket.socket) -> None:
        """No worker can take one, or none can be accepted: look again in a moment; the kernel keeps them."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(listener)
        loop.call_later(0.1, self._again, listener)

    def _again(self, listener: socket.socket) -> None:
        self._waiting = [connection for connection in self._waiting if not self._hand(connection)]
        if self._waiting:
            asyncio.get_running_loop().call_later(0.1, self._again, listener)
        elif not self._stopping.is_set():
            asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    # Workers ---------------------------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        """Start workers anew that ended; for ever."""
        failures, due = 0, 0.0
        while True:
            await asyncio.sleep(LOOK_S)
            for worker in [worker for worker in self._workers if worker.over]:
                self._workers.remove(worker)
                worker.line.close()
                if not worker.leaving:
                    failures = 0 if monotonic() - worker.began > STEADY_S else failures + 1
                    due = monotonic() + min(LONGEST_PAUSE_S, 0.1 * 2.0 ** min(failures, 10))
                    log.error("worker_ended", code=worker.process.returncode, again_in_s=round(due - monotonic(), 1))
            serving = sum(not worker.leaving for worker in self._workers)
            if serving < self._count and monotonic() >= due and not self._renewing:
                self._start()

    async def _renew(self) -> None:
        """Replace every worker, one after another."""
        if self._renewing:
            return
        self._renewing = True
        try:
            for old in [worker for worker in self._workers if not worker.leaving]:
                fresh = self._start()
                if not await fresh.ready():
                    log.error("renewal_failed", code=fresh.process.poll())
                    fresh.leave()
                    return
                old.leave()
                while not old.over:  # noqa: ASYNC110 - another process
                    await asyncio.sleep(LOOK_S)
            log.info("workers_renewed")
        finally:
            self._renewing = False

    # The end ---------------------------------------------------------------------------------------------------------

    def _stop(self) -> None:
        self._signals += 1
        self._stopping.set()
        if self._signals > 1:
            self._signal_all()

    def _signal_all(self) -> None:
        for worker in self._workers:
            if not worker.over:
                worker.process.send_signal(signal.SIGTERM)

    async def _until_replaced(self) -> None:
        await self._desk.successor()
        self._stopping.set()

    async def _end(self) -> None:
        for task in tuple(self._tasks):
            task.cancel()
        self._desk.close()
        loop = asyncio.get_running_loop()
        if self._signals and self._settings.shutdown_delay_seconds:
            # They say that they are not ready any more, and still get connections.
            self._signal_all()
            ends = monotonic() + self._settings.shutdown_delay_seconds
            while self._signals < 2 and monotonic() < ends:  # noqa: ASYNC110 - set by a signal
                await asyncio.sleep(LOOK_S)
        for listener in self._sockets:
            loop.remove_reader(listener)
            listener.close()
        for worker in self._workers:
            worker.leave()
        ends = monotonic() + self._settings.shutdown_seconds + 10
        while not all(worker.over for worker in self._workers) and monotonic() < ends:  # noqa: ASYNC110 - others
            await asyncio.sleep(LOOK_S)
        for worker in self._workers:
            if not worker.over:
                worker.process.kill()
                worker.process.wait()


def worker_command(reference: str | None, *, host: str | None, port: int | None) -> list[str]:
    """What starts a worker of this server."""
    words = [sys.executable, "-m", "snackbase", "serve", *([reference] if reference else [])]
    return words + ([] if host is None else ["--host", host]) + ([] if port is None else ["--port", str(port)])


async def work(app: SnackBase, settings: Settings, file: int, *, told: bool) -> None:
    """Serve what the supervisor hands over, to the end. `told`: somebody else announced the server."""
    if told:
        app.announce = tell_generated_password
    await app.start()
    server = build_server(app, settings, leave=app.leave, drain=app.drain, taker=Taker(file))
    log.info("worker_serves", pid=os.getpid())
    await server.serve([])
