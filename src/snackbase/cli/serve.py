"""`snackbase serve`: settings, log, sockets, server; and what a newcomer is told at the first start."""

import asyncio
import errno
import gc
import importlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import click
import uvloop

from snackbase import log
from snackbase.app import SnackBase, Started
from snackbase.cli.dev import Lifeline, ignore_interrupts
from snackbase.cli.supervisor import Supervisor, check_workers, work
from snackbase.config import ConfigError, Settings
from snackbase.gateway.sockets import limit_unacknowledged, listen
from snackbase.gateway.systemd import NOTIFY, inherited, notify
from snackbase.gateway.takeover import NAME, Desk, Handover, take_over
from snackbase.gateway.uvicorn_server import build_server

FAILED, MISUSED = 1, 2


def run(
    reference: str | None,
    *,
    host: str | None,
    port: int | None,
    takeover: bool = False,
    dev: bool = False,
    supervised: int | None = None,
    workers: int = 1,
    worker: int | None = None,
    place: Path | None = None,
    announcing: bool = False,
) -> int:
    """Serve until a signal comes, or another process takes over. Returns the exit code.

    Args:
        dev: tell everybody what is wrong. supervised: the file descriptor that leads to the supervisor of `--dev`.
        workers: processes that serve. worker: this is one, and the file descriptor leads to what accepts for it;
            `place`: its number in the folder of all workers; `announcing`: it tells where the server is.

    Raises:
        ConfigError: a setting cannot be used, or `reference` names no application.
        SnackBaseError: the database cannot be opened.
    """
    lifeline = None if supervised is None else Lifeline(supervised)
    app = imported(reference) if reference else SnackBase()
    app.dev = dev
    settings = app.configure(host=host, port=port)
    log.set_up(level=settings.log_level, format=_log_format(settings, dev))
    if worker is not None:
        app.announce = announce
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(work(app, settings, worker, place=place, told=not announcing))
        return 0
    if workers > 1:
        check_workers(settings)
    try:
        handover = take_over(settings.data_dir) if takeover else None
        sockets = handover.sockets if handover else inherited(os.environ) or listen(settings)
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno == errno.EADDRINUSE and not takeover and (settings.data_dir / NAME).exists():
            reason += "; `serve --takeover` takes over from a server on this data folder"
        click.echo(f"snackbase: cannot listen on {settings.host}:{settings.port}: {reason}", err=True)
        return FAILED
    taken = _port_of(sockets[0])
    if handover is not None and settings.port not in (0, taken):
        raise ConfigError(f"SNACKBASE_PORT={settings.port}: a takeover keeps the port of the running server, {taken}")
    settings = app.configure(port=taken)
    for one in sockets:
        limit_unacknowledged(one, settings)
    # A successor is on the same sockets, wherever these came from.
    kept = [] if taken is None else ["--port", str(taken)]
    again = [*([reference] if reference else []), *([] if host is None else ["--host", host]), *kept]
    if workers > 1:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(Supervisor(settings, again, workers, sockets, handover).run())
    app.announce = announce
    process = Process(settings.data_dir, sockets, handover, lifeline, again)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(process.serve(app, settings))
    return 0


def _log_format(settings: Settings, dev: bool) -> str:
    return "console" if dev and settings.log_format == "auto" else settings.log_format


def _port_of(listener: socket.socket) -> int | None:
    """None for a Unix socket."""
    return listener.getsockname()[1] if listener.family in (socket.AF_INET, socket.AF_INET6) else None


class Process:
    """One server process among those that come before and after it on the same sockets.

    Args:
        folder: the data folder. sockets: what it listens on. handover: from the process before, if any.
        lifeline: to the supervisor of `--dev`, if any. again: the arguments of `snackbase serve` for a successor.
    """

    def __init__(
        self,
        folder: Path,
        sockets: list[socket.socket],
        handover: Handover | None,
        lifeline: Lifeline | None,
        again: Sequence[str],
    ) -> None:
        self._sockets = sockets
        self._handover = handover
        self._lifeline = lifeline
        self._again = list(again)
        self._desk = Desk(folder, sockets)
        self._tasks: list[asyncio.Future[None]] = []
        self._replaced = False

    async def serve(self, app: SnackBase, settings: Settings) -> None:
        """To the end.

        Raises:
            ConfigError, SnackBaseError: it cannot start.
        """
        # Started here and not by the server's lifespan, so that what is wrong arrives as what it is.
        await app.start()

        def leave() -> None:
            self._desk.close()
            if not self._replaced:
                notify(os.environ, "STOPPING=1")
            app.leave()

        self._server = build_server(app, settings, leave=leave, drain=app.drain, listening=self._listening)
        try:
            await self._server.serve(self._sockets)
        finally:
            for task in self._tasks:
                task.cancel()
            self._desk.close()

    def _listening(self) -> None:
        loop = asyncio.get_running_loop()
        self._desk.open()
        if self._handover is not None:
            self._handover.ready()
        notify(os.environ, f"MAINPID={os.getpid()}", "READY=1")
        if NOTIFY in os.environ:
            loop.add_signal_handler(signal.SIGUSR2, self._succeed)
        if self._lifeline is not None:
            ignore_interrupts()  # uvicorn has just begun to listen to them
            self._lifeline.ready()
            loop.add_reader(self._lifeline.socket, self._abandoned)
        # Code and definitions stay to the end: the collector need not look at them again, 30 ms each time.
        gc.collect()
        gc.freeze()
        self._tasks.append(asyncio.ensure_future(self._until_replaced()))

    async def _until_replaced(self) -> None:
        await self._desk.successor()
        self._replaced = True
        self._server.replaced()

    def _abandoned(self) -> None:
        """The supervisor is gone."""
        assert self._lifeline is not None  # noqa: S101 - it is what was read from
        asyncio.get_running_loop().remove_reader(self._lifeline.socket)
        self._server.replaced()

    def _succeed(self) -> None:
        """Start the program anew, as it is on the disk now; it takes over when it is ready."""
        command = [sys.executable, "-m", "snackbase", "serve", *self._again, "--takeover"]
        self._successor = subprocess.Popen(command, stdin=subprocess.DEVNULL)  # noqa: S603 - ourselves


def imported(reference: str) -> SnackBase:
    """The application that `module:name` stands for, looked for from the current folder.

    Raises:
        ConfigError: there is none. Whatever the module raises while it is imported.
    """
    module_name, _, name = reference.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise
        raise ConfigError(f"{reference}: there is no module {module_name!r} here") from None
    app = getattr(module, name or "app", None)
    if not isinstance(app, SnackBase):
        raise ConfigError(f"{reference}: {name or 'app'!r} in {module_name!r} is not a SnackBase()")
    return app


def command() -> str:
    """How this program is called from the current folder."""
    called = Path(sys.argv[0])
    if called.name != "snackbase":
        return f"{Path(sys.executable).name} -m snackbase"
    found = shutil.which("snackbase")
    if found is not None and Path(found).resolve() == called.resolve():
        return "snackbase"
    here = Path.cwd()
    absolute = called.absolute()
    return str(absolute.relative_to(here) if absolute.is_relative_to(here) else absolute)


def announce(started: Started) -> None:
    """Say where the server is; after the first start also how to get in and what to try."""
    settings, new = started.settings, started.superadmin
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}.get(settings.host, settings.host)  # noqa: S104
    url = f"http://{host}:{settings.port}"
    me = command()
    lines = [f"SnackBase is running: {url}  (Ctrl+C stops it)"]
    if new is not None:
        lines += [
            "",
            *([f"  console       {url}/_/"] if settings.console_enabled else []),
            f"  data folder   {settings.data_dir.resolve()}",
            f"  superadmin    {new.email}",
            f"  password      {new.password or 'as set by SNACKBASE_SUPERADMIN_PASSWORD'}",
            *(["                (shown this once; keep it)"] if new.password else []),
            "",
            "To see a live event, paste this into a second terminal, in this folder:",
            "",
            f"  TOKEN=$({me} token {new.email})",
            f'  curl {url}/api/v1/collections -H "Authorization: Bearer $TOKEN" \\',
            "    -H 'Content-Type: application/json' \\",
            '    -d \'{"name": "hello", "schema": [{"name": "text", "type": "text"}]}\'',
            f'  {me} tail hello --url {url} --token "$TOKEN"',
            "",
            "and then this into a third one:",
            "",
            f"  TOKEN=$({me} token {new.email})",
            f'  curl {url}/api/v1/records/hello -H "Authorization: Bearer $TOKEN" \\',
            "    -H 'Content-Type: application/json' -d '{\"text\": \"It works\"}'",
            "",
            f"The API: {url}/docs",
            "",
        ]
    click.echo("\n".join(lines))
