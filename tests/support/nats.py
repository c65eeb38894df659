"""Runs a real NATS, out of the wheel that the tests install."""

import asyncio
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.server import free_port


def find_nats() -> Path | None:
    """The program, or None."""
    beside = Path(sys.executable).parent / "nats-server"
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    return Path(found) if found else None


class NatsServer:
    """A NATS on loopback, on a port of its own that it keeps; `async with NatsServer(folder) as nats:`.

    Args:
        arguments: more of its command line, such as `--user`.
    """

    def __init__(self, folder: Path, *, arguments: Sequence[str] = ()) -> None:
        self.port = free_port()
        self._folder = folder
        self._arguments = list(arguments)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    @property
    def output(self) -> str:
        log = self._folder / "nats-output.txt"
        return log.read_text(errors="replace") if log.exists() else ""

    async def start(self) -> None:
        """Returns when it accepts connections."""
        await asyncio.to_thread(self._start)

    def _start(self) -> None:
        program = find_nats()
        if program is None:
            raise RuntimeError("nats-server is missing: `make test` installs it")
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / "nats-output.txt").open("ab") as log:
            self._process = subprocess.Popen(
                [program, "--addr", "127.0.0.1", "--port", str(self.port), *self._arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._wait(time.monotonic() + 20)

    async def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            await asyncio.to_thread(self._process.wait)
            self._process = None

    def pause(self) -> None:
        """It holds its connections and says nothing (SIGSTOP)."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.kill()

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def _wait(self, deadline: float) -> None:
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            if time.monotonic() > deadline or (self._process is not None and self._process.poll() is not None):
                raise RuntimeError(f"NATS did not start:\n{self.output}")
            time.sleep(0.02)
