"""Runs a real `snackbase serve` as its own process: what the end-to-end tests talk to."""

import asyncio
import http.client
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.stores import url_of

ROOT = Path(__file__).resolve().parent.parent.parent
PREFIX = "SNACKBASE_"
TAKEOVER = "--takeover"
Setting = str | int | float | bool


class ServerFailed(AssertionError):
    """The server did not start or did not stop; the text holds what it printed."""


class ServerProcess:
    """A server on loopback with its own data folder; `async with ServerProcess(folder) as server:` starts and stops it.

    Args:
        folder: holds the database, the secret and the output; starting again on the same folder finds the same data.
        settings: settings by the name of the documented table, without the prefix: {"REALTIME_HEARTBEAT_SECONDS": 1}.
        arguments: what follows `snackbase` on the command line.
        environment: other variables; this process's own SNACKBASE_* ones are never handed on.
        port: a fixed port; by default a free one, kept over `restart`.
        module: what is run with `python -m`. prefix: where SnackBase is mounted in what runs there.
    """

    SUPERADMIN_EMAIL = "root@example.com"
    SUPERADMIN_PASSWORD = "a-password-for-tests-only"

    def __init__(
        self,
        folder: Path,
        *,
        settings: Mapping[str, Setting] | None = None,
        arguments: Sequence[str] = ("serve",),
        environment: Mapping[str, str] | None = None,
        port: int | None = None,
        module: str = "snackbase",
        prefix: str = "",
    ) -> None:
        self.folder = folder
        self.prefix = prefix
        self._module = module
        self.arguments = list(arguments)
        self.settings: dict[str, Setting] = {**(settings or {})}
        self.port = port if port is not None else free_port()
        self._environment = dict(environment or {})
        self._log = folder / "server-output.txt"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def base_url(self) -> str:
        """http://host:port without a path, or with that of the mount."""
        return f"http://127.0.0.1:{self.port}{self.prefix}"

    @property
    def database_url(self) -> str:
        """Of the database it uses, for who looks beside it."""
        chosen = self.settings.get("DATABASE_URL")
        return url_of(self.folder / "snackbase.db") if chosen is None else _text(chosen)

    @property
    def ws_url(self) -> str:
        """The WebSocket endpoint."""
        return f"ws://127.0.0.1:{self.port}{self.prefix}/api/v1/realtime/ws"

    @property
    def pid(self) -> int:
        """The server's process id. Raises ServerFailed when it is not running."""
        return self._running().pid

    @property
    def returncode(self) -> int | None:
        """None while it runs or before it was started, then its exit code (negative: the signal)."""
        return self._process.poll() if self._process else None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def output(self) -> str:
        """Everything that was printed, over all its starts."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    async def start(self, *, timeout_s: float = 60) -> None:
        """Starts it and returns when `/ready` answers 200. Raises ServerFailed with its output."""
        await asyncio.to_thread(self.start_now, timeout_s=timeout_s)

    async def stop(self, *, timeout_s: float = 30) -> int:
        """Asks it to end (SIGTERM) and returns its exit code. Raises ServerFailed when it had to be killed instead."""
        return await asyncio.to_thread(self.stop_now, timeout_s=timeout_s)

    async def kill(self) -> None:
        """Ends it without a chance to tidy up (SIGKILL), as a crash does."""
        await asyncio.to_thread(self.kill_now)

    async def restart(self) -> None:
        """Stops it if it runs, and starts it on the same port and folder."""
        if self.returncode is None and self._process is not None:
            await self.stop()
        await self.start()

    def successor(self) -> "ServerProcess":
        """A process like this one, for the same folder and port, that takes over from it when it is started."""
        arguments = [*(word for word in self.arguments if word != TAKEOVER), TAKEOVER]
        return ServerProcess(
            self.folder,
            settings=self.settings,
            arguments=arguments,
            environment=self._environment,
            port=self.port,
            module=self._module,
            prefix=self.prefix,
        )

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            await self.kill()
        else:
            await self.stop()

    def start_now(self, *, timeout_s: float = 60) -> None:
        """`start` for code without an event loop."""
        if self._process is not None and self._process.poll() is None:
            raise ServerFailed("The server runs already.")
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", self._module, *self.arguments],
                cwd=self.folder,
                env=self._variables(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._wait_until_ready(time.monotonic() + timeout_s)

    def stop_now(self, *, timeout_s: float = 30) -> int:
        """`stop` for code without an event loop."""
        process = self._process
        if process is None:
            return 0
        process.terminate()
        try:
            return process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill_now()
            raise ServerFailed(f"It did not stop within {timeout_s} s of SIGTERM:\n{self.output}") from None

    def kill_now(self) -> None:
        """`kill` for code without an event loop."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            raise ServerFailed(f"The server is not running:\n{self.output}")
        return self._process

    def _wait_until_ready(self, deadline: float) -> None:
        pause_s = 0.02
        while not self._answers():
            if self.returncode is not None:
                raise ServerFailed(f"It ended with {self.returncode} instead of starting:\n{self.output}")
            if time.monotonic() > deadline:
                self.kill_now()
                raise ServerFailed(f"It never became ready on port {self.port}:\n{self.output}")
            time.sleep(pause_s)
            pause_s = min(pause_s * 1.5, 0.25)

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", f"{self.prefix}/ready")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _variables(self) -> dict[str, str]:
        defaults: dict[str, Setting] = {
            "HOST": "127.0.0.1",
            "PORT": self.port,
            "DATABASE_URL": self.database_url,
            "SUPERADMIN_EMAIL": self.SUPERADMIN_EMAIL,
            "SUPERADMIN_PASSWORD": self.SUPERADMIN_PASSWORD,
        }
        chosen = {PREFIX + name: _text(value) for name, value in (defaults | self.settings).items()}
        # The server refuses unknown names with its prefix, and a developer's own settings must not reach a test.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        return {**inherited, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT / "src"), **chosen, **self._environment}


def free_port() -> int:
    """A port that nobody listens on.

    It lies below the range out of which the kernel serves outgoing connections: a client that keeps dialling a stopped
    server's port in that range now and then gets it for itself, and the server cannot come back.
    """
    try:
        low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError):
        low = 0
    choices = random.SystemRandom().sample(range(12_000, low), 50) if low > 20_000 else []
    for port in [*choices, 0]:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise ServerFailed("no free port on loopback")


def _text(value: Setting) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
