"""`snackbase serve --dev`: starts the server anew whenever the developer's own code or `.env` changes.

The new process takes the place of the old one as with `--takeover`, so no request fails and clients go on from their
positions; one that does not start, because of a syntax error say, leaves the old one serving. Owns the child processes:
Ctrl+C reaches them through this process only, and they end when it does, however it ends.
"""

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import click

from snackbase.cli.sources import Sources

LOOK_S = 0.25
"""How often files are looked at. A change is acted on when the next look finds no further one."""
READY = b"ready"
STOP_S = 30.0


class Child:
    """One run of the server.

    Args:
        arguments: of `snackbase serve`.
    """

    def __init__(self, arguments: Sequence[str]) -> None:
        self._line, theirs = socket.socketpair()
        command = [sys.executable, "-m", "snackbase", "serve", *arguments, "--supervised", str(theirs.fileno())]
        # Python takes a compiled file for fresh whose source has the same size and second: not so while one types.
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
        self.process = subprocess.Popen(command, pass_fds=[theirs.fileno()], env=environment)  # noqa: S603 - ourselves
        theirs.close()
        self._ready = False

    @property
    def ready(self) -> bool:
        """It accepts connections, or did."""
        if not self._ready and select.select([self._line], [], [], 0)[0]:
            with contextlib.suppress(OSError):
                self._ready = self._line.recv(len(READY)) == READY
        return self._ready

    @property
    def over(self) -> bool:
        return self.process.poll() is not None

    def stop(self) -> None:
        """Ask it to end."""
        if not self.over:
            self.process.terminate()

    def end(self) -> None:
        """It ends now."""
        self.process.kill()
        self.process.wait()
        self._line.close()


class Supervisor:
    """
    Args:
        arguments: of `snackbase serve`, without --takeover.
    """

    def __init__(self, arguments: Sequence[str]) -> None:
        self._arguments = list(arguments)
        self._sources = Sources(Path.cwd())
        self._serving: Child | None = None
        self._starting: Child | None = None
        self._leaving: list[Child] = []
        self._stopping = threading.Event()
        self._hurry = False

    def run(self) -> int:
        """Until a signal comes. Returns the exit code."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._signalled)
        say("development mode: every refusal says why; not for production")
        self._starting = Child(self._arguments)
        changed: list[str] = []
        while not self._stopping.wait(LOOK_S):
            self._look_after_children()
            more = self._sources.changed()
            if changed and not more:
                self._start_anew(changed)
                changed = []
            changed = sorted({*changed, *more})
        self._stop()
        return 0

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        self._hurry = self._stopping.is_set()
        self._stopping.set()

    def _start_anew(self, changed: Sequence[str]) -> None:
        if self._starting is not None:
            self._starting.end()
        say(f"{', '.join(changed[:3])}{' and others' if changed[3:] else ''} changed")
        self._starting = Child([*self._arguments, "--takeover"])

    def _look_after_children(self) -> None:
        if self._starting is not None and self._starting.ready:
            if self._serving is not None:
                self._leaving.append(self._serving)
            self._serving, self._starting = self._starting, None
        if self._starting is not None and self._starting.over:
            self._starting = None
            goes_on = self._serving is not None and not self._serving.over
            what = "the old server keeps serving" if goes_on else "nothing is served"
            say(f"it did not start, see above: {what}; waiting for a change")
        if self._serving is not None and self._serving.over and self._starting is None:
            say(f"the server ended with exit code {self._serving.process.returncode}; waiting for a change")
            self._serving = None
        self._leaving = [child for child in self._leaving if not child.over]

    def _stop(self) -> None:
        children = [child for child in (self._serving, self._starting, *self._leaving) if child is not None]
        for child in children:
            child.stop()
        for _ in range(int(STOP_S / 0.05)):
            if self._hurry or all(child.over for child in children):
                break
            threading.Event().wait(0.05)
        for child in children:
            child.end()


def say(text: str) -> None:
    """To the developer's terminal, between what the server says."""
    click.secho(f"[dev] {text}", err=True, fg="yellow")


class Lifeline:
    """The child's side: tells that it is ready, and notices when its supervisor is gone.

    Args:
        number: of the file descriptor.
    """

    def __init__(self, number: int) -> None:
        self.socket = socket.socket(fileno=number)
        self.socket.setblocking(False)
        ignore_interrupts()

    def ready(self) -> None:
        with contextlib.suppress(OSError):
            self.socket.send(READY)


def ignore_interrupts() -> None:
    """Ctrl+C goes to all processes of a terminal; the supervisor passes it on in order."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
