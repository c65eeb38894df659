"""`snackbase serve`: settings, log, sockets, server; and what a newcomer is told at the first start."""

import asyncio
import errno
import gc
import importlib
import shutil
import socket
import sys
from pathlib import Path

import click
import uvloop

from snackbase import log
from snackbase.app import SnackBase, Started
from snackbase.config import ConfigError, Settings
from snackbase.gateway.sockets import listen
from snackbase.gateway.takeover import NAME, Desk, Handover, take_over
from snackbase.gateway.uvicorn_server import build_server

FAILED, MISUSED = 1, 2


def run(reference: str | None, *, host: str | None, port: int | None, takeover: bool = False) -> int:
    """Serve until a signal comes, or another process takes over. Returns the exit code.

    Raises:
        ConfigError: a setting cannot be used, or `reference` names no application.
        SnackBaseError: the database cannot be opened.
    """
    app = imported(reference) if reference else SnackBase()
    settings = app.configure(host=host, port=port)
    log.set_up(level=settings.log_level, format=settings.log_format)
    try:
        handover = take_over(settings.data_dir) if takeover else None
        sockets = handover.sockets if handover else listen(settings)
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno == errno.EADDRINUSE and not takeover and (settings.data_dir / NAME).exists():
            reason += "; `serve --takeover` takes over from a server on this data folder"
        click.echo(f"snackbase: cannot listen on {settings.host}:{settings.port}: {reason}", err=True)
        return FAILED
    taken = sockets[0].getsockname()[1]
    if settings.port not in (0, taken):
        raise ConfigError(f"SNACKBASE_PORT={settings.port}: a takeover keeps the port of the running server, {taken}")
    settings = app.configure(port=taken)
    app.announce = announce
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(app, settings, sockets, handover))
    return 0


async def _serve(app: SnackBase, settings: Settings, sockets: list[socket.socket], handover: Handover | None) -> None:
    # Started here and not by the server's lifespan, so that what is wrong arrives as what it is.
    await app.start()
    desk = Desk(settings.data_dir, sockets)

    def listening() -> None:
        desk.open()
        if handover is not None:
            handover.ready()
        # Code and definitions stay to the end: the collector need not look at them again, 30 ms each time.
        gc.collect()
        gc.freeze()
        tasks.append(asyncio.ensure_future(replaced()))

    async def replaced() -> None:
        await desk.successor()
        server.replaced()

    def leave() -> None:
        desk.close()
        app.leave()

    tasks: list[asyncio.Future[None]] = []
    server = build_server(app, settings, leave=leave, drain=app.drain, listening=listening)
    try:
        await server.serve(sockets)
    finally:
        for task in tasks:
            task.cancel()
        desk.close()


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
            f"  data folder   {settings.data_dir.resolve()}",
            f"  superadmin    {new.email}",
            f"  password      {new.password or 'as set by SNACKBASE_SUPERADMIN_PASSWORD'}",
            *(["                (shown this once; keep it)"] if new.password else []),
            "",
            "Next, in another terminal and in this folder:",
            "",
            f"  TOKEN=$({me} token {new.email})",
            f'  curl {url}/api/v1/collections -H "Authorization: Bearer $TOKEN" \\',
            "    -H 'Content-Type: application/json' \\",
            '    -d \'{"name": "posts", "schema": [{"name": "title", "type": "text"}]}\'',
            f'  {me} tail posts --url {url} --token "$TOKEN"',
            "",
        ]
    click.echo("\n".join(lines))
