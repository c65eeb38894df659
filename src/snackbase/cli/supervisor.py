"""`snackbase serve --workers N`: one process accepts connections, N others serve them, each a node of its own.

The supervisor serves nothing and knows no database, so it hardly has a reason to fail. It hands every connection to the
worker that has the fewest, starts a worker anew that ended (with a pause that grows), and replaces them one by one at
SIGHUP: a fresh one serves before the old one leaves. When workers end again and again and none stays, it gives up, so
that whoever watches it learns of it. When the supervisor dies, its workers leave in order.
"""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Coroutine, Sequence
from pathlib import Path
from time import monotonic
from typing import Any

import structlog

from snackbase.app import SnackBase
from snackbase.app.snackbase import tell_generated_password
from snackbase.config import ConfigError, Settings
from snackbase.gateway.handing import Line, Taker
from snackbase.gateway.systemd import NOTIFY, notify
from snackbase.gateway.takeover import Desk, Handover
from snackbase.gateway.uvicorn_server import build_server
from snackbase.web.colleagues import Colleagues

log = structlog.get_logger("snackbase.supervisor")

START_S = 300.0
LONGEST_PAUSE_S = 10.0
STEADY_S = 30.0
MOST_FAILURES = 5
"""Ends in a row of workers that had served for less than STEADY_S; then, if nobody else serves steadily, it is over."""
LAST_S = 10.0
"""What a worker may take beyond SHUTDOWN_SECONDS; then it is killed. After a second signal: HURRY_S."""
HURRY_S = 3.0
LOOK_S = 0.05
LONGEST_FOLDER = 64
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
    """One worker process.

    Args:
        command: what it runs. place: its number in the folder where workers meet. first: it announces the server.

    Raises:
        OSError: the system has no room for another process.
    """

    def __init__(self, command: Sequence[str], place: Path, *, first: bool) -> None:
        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self.number = int(place.name)
        own = ["--worker", str(theirs.fileno()), "--place", str(place)]
        words = [*command, *own, *(["--announcing"] if first else [])]
        with theirs:
            try:
                # In a group of its own: Ctrl+C is the supervisor's business.
                self.process = subprocess.Popen(words, pass_fds=[theirs.fileno()], process_group=0)  # noqa: S603 - ourselves
            except OSError:
                mine.close()
                raise
        self.line = Line(mine)
        self.began = monotonic()
        self.leaving = False
        self.line.listen()

    @property
    def over(self) -> bool:
        return self.process.poll() is not None

    @property
    def steady(self) -> bool:
        """It serves, and has done so for a while."""
        return not self.over and self.line.ready.is_set() and monotonic() - self.began > STEADY_S

    def leave(self) -> None:
        """Serve what it has, take no more, end."""
        self.leaving = True
        self.line.finish()

    def kill(self) -> None:
        if not self.over:
            log.error("worker_killed", hint="it did not leave in time", worker=self.number)
            self.process.kill()
            self.process.wait()

    async def ready(self, stopping: asyncio.Event) -> bool:
        """Whether it serves; False = it ended instead, or nobody wants it any more."""
        ends = monotonic() + START_S
        while monotonic() < ends:
            if self.line.ready.is_set() or self.over or stopping.is_set():
                break
            await asyncio.sleep(LOOK_S)
        return self.line.ready.is_set() and not self.over


class Supervisor:
    """
    Args:
        words: what follows `snackbase serve` for a worker, and for a successor of the whole.
        sockets: the listening ones. handover: from the server before, if any.
    """

    def __init__(
        self,
        settings: Settings,
        words: Sequence[str],
        count: int,
        sockets: Sequence[socket.socket],
        handover: Handover | None,
    ) -> None:
        self._settings = settings
        self._command = [sys.executable, "-m", "snackbase", "serve", *words]
        self._count = count
        self._folder = _meeting_place()
        self._sockets = sockets
        self._handover = handover
        self._desk = Desk(settings.data_dir, sockets)
        self._workers: list[Worker] = []
        self._stopping = asyncio.Event()
        self._signals = 0
        self._code = 0
        self._replaced = False
        self._renewing = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting: list[socket.socket] = []

    async def run(self) -> int:
        """To the end; the exit code."""
        try:
            return await self._run()
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    async def _run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in STOPS:
            loop.add_signal_handler(number, self._stop)
        # Until all of them serve there is nothing to replace; left alone, the signal would end this process.
        loop.add_signal_handler(signal.SIGHUP, lambda: None)
        first = self._start(first=True)
        if not await first.ready(self._stopping):
            if not self._stopping.is_set():
                return first.process.poll() or 1
            await self._end()
            return 0
        others = [self._start() for _ in range(self._count - 1)]
        await asyncio.gather(*(worker.ready(self._stopping) for worker in others))
        loop.add_signal_handler(signal.SIGHUP, lambda: self._spawn(self._renew()))
        for listener in self._sockets:
            loop.add_reader(listener, self._accept, listener)
        self._desk.open()
        if self._handover is not None:
            self._handover.ready()
        notify(os.environ, f"MAINPID={os.getpid()}", "READY=1")
        if NOTIFY in os.environ:
            loop.add_signal_handler(signal.SIGUSR2, self._succeed)
        self._spawn(self._until_replaced())
        self._spawn(self._watch())
        log.info("workers_started", workers=self._count)
        await self._stopping.wait()
        await self._end()
        return self._code

    def _succeed(self) -> None:
        """Start the program anew, as it is on the disk now; it takes over when it is ready."""
        command = [*self._command, "--workers", str(self._count), "--takeover"]
        self._successor = subprocess.Popen(command, stdin=subprocess.DEVNULL)  # noqa: S603 - ourselves

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _start(self, *, first: bool = False) -> Worker:
        taken = {worker.number for worker in self._workers}
        number = next(number for number in range(len(taken) + 1) if number not in taken)
        worker = Worker(self._command, self._folder / str(number), first=first)
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
        """Start workers anew that ended, until that is of no use."""
        failures, due = 0, 0.0

        def pause(failures: int) -> float:
            return min(LONGEST_PAUSE_S, 0.1 * 2.0 ** min(failures, 10))

        while True:
            await asyncio.sleep(LOOK_S)
            for worker in [worker for worker in self._workers if worker.over]:
                self._workers.remove(worker)
                worker.line.close()
                if not worker.leaving:
                    failures = 0 if monotonic() - worker.began > STEADY_S else failures + 1
                    due = monotonic() + pause(failures)
                    code = worker.process.returncode
                    log.error("worker_ended", code=code, again_in_s=round(due - monotonic(), 1), in_a_row=failures)
                    if failures >= MOST_FAILURES and not any(one.steady for one in self._workers):
                        self._give_up(code)
                        return
            serving = sum(not worker.leaving for worker in self._workers)
            if serving < self._count and monotonic() >= due and not self._renewing:
                try:
                    self._start()
                except OSError as error:
                    # No memory or no file descriptors: the others serve on, and there may be room again.
                    failures += 1
                    due = monotonic() + pause(failures)
                    log.error("worker_not_started", reason=error.strerror, again_in_s=round(pause(failures), 1))
                    if failures >= MOST_FAILURES and not self._workers:
                        self._give_up(1)
                        return

    def _give_up(self, code: int) -> None:
        """No worker stays: say so and end, instead of trying for ever while nobody looks."""
        log.error("workers_do_not_stay", code=code, hint="their last log lines say why")
        self._code = code if code > 0 else 1
        self._stopping.set()

    async def _renew(self) -> None:
        """Replace every worker, one after another."""
        if self._renewing:
            return
        self._renewing = True
        try:
            for old in [worker for worker in self._workers if not worker.leaving]:
                try:
                    fresh = self._start()
                except OSError as error:
                    log.error("renewal_failed", reason=error.strerror)
                    return
                if not await fresh.ready(self._stopping):
                    log.error("renewal_failed", code=fresh.process.poll())
                    fresh.leave()
                    return
                old.leave()
                await self._gone([old])
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
        self._replaced = True
        self._stopping.set()

    async def _end(self) -> None:
        for task in tuple(self._tasks):
            task.cancel()
        self._desk.close()
        if not self._replaced:
            notify(os.environ, "STOPPING=1")
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
            if not worker.line.ready.is_set() and not worker.over:
                # It does not serve yet, so it has nothing to finish.
                worker.process.terminate()
        await self._gone(self._workers)

    async def _gone(self, leaving: Sequence[Worker]) -> None:
        """Until they have ended; who does not in time is killed."""
        ends = monotonic() + self._settings.shutdown_seconds + LAST_S
        while [worker for worker in leaving if not worker.over] and monotonic() < ends:
            if self._signals > 1:
                ends = min(ends, monotonic() + HURRY_S)
            await asyncio.sleep(LOOK_S)
        for worker in leaving:
            worker.kill()


def _meeting_place() -> Path:
    """A folder for sockets, whose paths have room for some hundred bytes (unix(7))."""
    folder = tempfile.gettempdir()
    return Path(tempfile.mkdtemp(prefix="snackbase-", dir=folder if len(folder) < LONGEST_FOLDER else "/tmp"))  # noqa: S108 - made for this user alone


async def work(app: SnackBase, settings: Settings, file: int, *, place: Path | None, told: bool) -> None:
    """Serve what the supervisor hands over, to the end.

    Args:
        place: this worker's number in the folder where they meet. told: somebody else announced the server.
    """
    if told:
        app.announce = tell_generated_password
    if place is not None:
        app.colleagues = Colleagues(place.parent, int(place.name))
    await app.start()
    server = build_server(app, settings, leave=app.leave, drain=app.drain, taker=Taker(file))
    log.info("worker_serves", pid=os.getpid())
    await server.serve([])
