"""`SnackBase`: an ASGI application with a life: settings, start, requests, an orderly stop.

Works under `snackbase serve`, under any ASGI server (`uvicorn main:app`), and mounted in another application, which
runs its `lifespan`. A parent that does not makes it start with the first request; the log says so, since then nothing
stops it but the end of the process, which the store survives as it survives a crash.

Order of a stop: not ready any more -> the server stops listening -> realtime connections are ended in batches
(`drain`) -> requests under way are answered -> after-hooks -> `on_terminate` -> background tasks -> store.
"""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from time import monotonic
from typing import Any

import msgspec
import structlog
from starlette.types import Receive, Scope, Send

from snackbase.app.graph import Graph, build, open_core
from snackbase.app.signals import Signals
from snackbase.app.tasks import AfterHooks, Tasks, probe_lag, write_now_and_then
from snackbase.config import ConfigError, Settings, load
from snackbase.errors import GOING_AWAY, RESTARTING, SnackBaseError, Unavailable
from snackbase.hooks import Hooks
from snackbase.log import configure_structlog, mask_foreign_loggers
from snackbase.metrics import Counters, Metrics
from snackbase.services.members import NewSuperadmin
from snackbase.services.own import OwnRecords
from snackbase.web.colleagues import Colleagues
from snackbase.web.own import Auth, Handler, OwnRoutes

log = structlog.get_logger("snackbase.app")

SWITCH_INTERVAL_S = 0.0005
"""How long a thread keeps the interpreter while others wait; at Python's 5 ms the writer thread's turn comes so late
that p99 of a write under a busy loop is 868 ms instead of 47 (measured)."""

KEY_USES_S = 60.0
"""How often it is written down when API keys were last used."""


class Started(msgspec.Struct, frozen=True, kw_only=True):
    """What a start has to tell. `superadmin` is given when this start made the first one."""

    settings: Settings
    superadmin: NewSuperadmin | None


def tell_generated_password(started: Started) -> None:
    """Print a generated password, once: nobody will ever see it again."""
    new = started.superadmin
    if new is not None and new.password is not None:
        print(f"SnackBase made the superadmin {new.email} with the password {new.password}", flush=True)


class SnackBase:
    """The application.

    Args:
        settings: used instead of the environment and `.env`.
        overrides: single settings by name, over all others: `SnackBase(realtime_heartbeat_seconds=5)`.

    Raises:
        ConfigError: an override that is no setting, or cannot be used.

    Attributes:
        hook: decorators for your own code (contract §9). records: records for it (`services/own.py`).
        announce: called with what a start has to tell. dev: set by `serve --dev`; no setting turns it on.
        colleagues: set by `serve --workers`: the other workers.
    """

    def __init__(self, settings: Settings | None = None, **overrides: Any) -> None:
        self.hook = Hooks()
        self.records = OwnRecords()
        self._own_routes = OwnRoutes()
        self.announce: Callable[[Started], None] = tell_generated_password
        self.dev = False
        self.colleagues: Colleagues | None = None
        load({}, **overrides)  # a wrong name or value is told where it stands, not at the start
        self._given = settings
        self._overrides = overrides
        self._settings: Settings | None = None
        self._graph: Graph | None = None
        self._tasks = Tasks()
        self._after_hooks = AfterHooks(Counters())
        self._signals = Signals(self._end_streams)
        self._starting = asyncio.Lock()
        self._stopping = False

    @property
    def settings(self) -> Settings:
        """The settings in force, read on first use.

        Raises:
            ConfigError: unknown name, or a value that cannot be used.
        """
        return self._settings or self.configure()

    def route(
        self, path: str, *, methods: Sequence[str] = ("GET",), auth: Auth = "required"
    ) -> Callable[[Handler], Handler]:
        """A decorator that makes a function an endpoint: it takes Starlette's Request and returns its Response or JSON.

        Args:
            auth: required | optional | none: who may call; `request.state.principal` is who does.

        Raises:
            ValueError: the path or another argument cannot be used. RuntimeError: the application runs already.
        """
        return self._own_routes.add(path, methods=methods, auth=auth)

    def configure(self, **overrides: Any) -> Settings:
        """Read the settings (anew), with `overrides` over everything else; before the start."""
        if self._graph is not None:
            raise RuntimeError("settings cannot change while the application runs")
        self._overrides.update({name: value for name, value in overrides.items() if value is not None})
        if self._given is None:
            self._settings = load(os.environ, dotenv=Path(".env"), **self._overrides)
        else:
            self._settings = load({}, **{**msgspec.structs.asdict(self._given), **self._overrides})
        return self._settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        graph = self._graph
        if graph is None:
            await self._start_late()
            graph = self._graph
        assert graph is not None  # noqa: S101 - start() sets it or raises
        await graph.http(scope, receive, send)

    @contextlib.asynccontextmanager
    async def lifespan(self, parent: object = None) -> AsyncIterator[None]:
        """Started inside, stopped at the end; for the application that this one is mounted in.

            api = FastAPI(lifespan=backend.lifespan)
            api.mount("/backend", backend)

        Raises:
            ConfigError, Unavailable: as `start`.
        """
        await self._start_hosted()
        try:
            yield
        finally:
            await self.stop()

    async def start(self) -> None:
        """Open everything and begin to serve. Idempotent.

        Raises:
            ConfigError: a setting, the secret or the data folder cannot be used. Unavailable: the database cannot.
        """
        async with self._starting:
            if self._graph is not None:
                return
            if self._stopping:
                raise Unavailable("The server is stopping.", code="stopping", retry_after_s=1)
            began = monotonic()
            settings = self.settings
            self._prepare_process(settings)
            metrics = Metrics()
            self.hook.configure(
                timeout_s=settings.hook_timeout_seconds, threads=settings.hook_threads, counters=metrics.counters
            )
            self._after_hooks = after_hooks = AfterHooks(metrics.counters)
            core = await open_core(settings)
            try:
                await core.load()
                superadmin = await core.bootstrap()
                graph = build(
                    core,
                    hooks=self.hook,
                    metrics=metrics,
                    spawn=self._tasks.spawn,
                    later=after_hooks,
                    stopping=lambda: self._stopping,
                    own=self._own_routes,
                    colleagues=self.colleagues,
                    dev=self.dev,
                )
                self.records.bind(graph.records, core.store)
                if self.colleagues is not None:
                    await self.colleagues.open(metrics.numbers)
                await self.hook.fire("on_bootstrap", refusing=False, app=self)
            except BaseException:
                await core.close()
                raise
            graph.hub.start()
            key_uses = write_now_and_then(core.key_uses.flush, every_s=KEY_USES_S)
            self._tasks.spawn(key_uses, name="api-key-uses")
            self._tasks.spawn(probe_lag(metrics.counters.loop_lag), name="event-loop-lag")
            self._graph = graph
        log.info("started", data_folder=str(settings.data_dir), seconds=round(monotonic() - began, 3))
        self.announce(Started(settings=settings, superadmin=superadmin))
        await self.hook.fire("on_serve", refusing=False, app=self)

    def leave(self) -> None:
        """`/ready` says 503 from here on. For servers: before they stop listening."""
        self._stopping = True

    async def drain(self) -> None:
        """Refuse new realtime connections and end the others in batches. For servers: before waiting for requests."""
        self._stopping = True
        if self._graph is not None and self._graph.hub.draining is None:
            closing = RESTARTING if self.settings.shutdown_seconds else GOING_AWAY
            await self._graph.hub.drain(self.settings.shutdown_seconds, closing=closing)

    async def stop(self) -> None:
        """End everything in order. Idempotent; what is not done within the set time is cut off."""
        graph = self._graph
        if graph is None:
            return
        await self.drain()
        self._graph = None
        self._signals.restore()
        await self._after_hooks.finish(self.settings.hook_timeout_seconds)
        await self.hook.fire("on_terminate", refusing=False, app=self)
        self.hook.close()
        await graph.bus.close()
        await self._tasks.cancel()
        with contextlib.suppress(SnackBaseError):
            await graph.core.key_uses.flush()
        await graph.core.close()
        if self.colleagues is not None:
            await self.colleagues.close()
        log.info("stopped")

    async def _live(self, receive: Receive, send: Send) -> None:
        """The ASGI lifespan protocol."""
        await receive()
        try:
            await self._start_hosted()
        except (ConfigError, SnackBaseError) as error:
            await send({"type": "lifespan.startup.failed", "message": f"SnackBase cannot start: {error}"})
            return
        except Exception as error:
            log.error("start_failed", exc_info=error)
            await send({"type": "lifespan.startup.failed", "message": ""})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        try:
            await self.stop()
        except Exception as error:
            log.error("stop_failed", exc_info=error)
            await send({"type": "lifespan.shutdown.failed", "message": ""})
            return
        await send({"type": "lifespan.shutdown.complete"})

    async def _start_hosted(self) -> None:
        """Start under somebody else's server: it will wait for all streams before it tells of its stop."""
        if self._graph is None:
            self._stopping = False  # a parent may run its lifespan again, as tests do
            await self.start()
            self._signals.listen()

    async def _start_late(self) -> None:
        if not self._stopping:
            hint = "pass it on: FastAPI(lifespan=backend.lifespan); without it, nothing stops SnackBase in order"
            log.warning("started_without_lifespan", hint=hint)
        await self.start()

    def _end_streams(self) -> None:
        self._tasks.spawn(self.drain(), name="drain")

    def _prepare_process(self, settings: Settings) -> None:
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        mask_foreign_loggers()
        if not structlog.is_configured():
            json = settings.log_format == "json" or (settings.log_format == "auto" and not sys.stderr.isatty())
            configure_structlog(level=settings.log_level, json=json)
