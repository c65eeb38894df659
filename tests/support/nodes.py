"""Several real servers that share one database and a real NATS, each with a line to it that can be cut."""

import asyncio
import os
import signal
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Self

from proof.faults import FaultProxy
from tests.support.nats import NatsServer
from tests.support.server import ROOT, ServerProcess, Setting

SECRET = "a-secret-of-the-tests-that-all-nodes-share"


class Nodes:
    """`async with Nodes(folder, 2, database_url=...) as nodes:` starts everything.

    Args:
        bus: whether there is a NATS. hostile: the share of hints that each node loses, doubles and delays.
        application: what the nodes serve, instead of one that is only hostile. environment: more variables of theirs.

    Attributes:
        servers: the nodes. nats: the broker. lines: between each node and the broker.
    """

    def __init__(
        self,
        folder: Path,
        count: int,
        *,
        database_url: str,
        settings: Mapping[str, Setting] | None = None,
        bus: bool = True,
        hostile: float = 0.0,
        arguments: tuple[str, ...] = (),
        application: str = "",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.count = count
        self.servers: list[ServerProcess] = []
        self.lines: list[FaultProxy] = []
        self.nats = NatsServer(folder / "nats")
        self._bus = bus
        self._settings: dict[str, Setting] = {
            "DATABASE_URL": database_url,
            "SECRET_KEY": SECRET,
            "REALTIME_HEARTBEAT_SECONDS": 1,
            **(settings or {}),
        }
        self._hostile = hostile
        self._arguments = arguments
        self._environment = dict(environment or {})
        self._application = application or ("tests.support.hostile:app" if hostile else "")
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        try:
            if self._bus:
                await self._open.enter_async_context(self.nats)
            for _ in range(self.count):
                await self._line()
            # At once, as when a whole cluster is switched on.
            await asyncio.gather(*(server.start() for server in self.servers))
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *error: object) -> None:
        for server in self.servers:
            if server.running:
                os.kill(server.pid, signal.SIGCONT)
                await server.stop()
        await self._open.aclose()

    async def _line(self) -> None:
        settings = dict(self._settings)
        if self._bus:
            line = await self._open.enter_async_context(FaultProxy(self.nats.port))
            self.lines.append(line)
            settings["BUS_URL"] = f"nats://127.0.0.1:{line.port}"
        self.servers.append(self.server(settings, len(self.servers)))

    def server(self, settings: Mapping[str, Setting], number: int) -> ServerProcess:
        environment = dict(self._environment)
        arguments: tuple[str, ...] = ("serve", *self._arguments)
        if self._application:
            arguments = ("serve", self._application, *self._arguments)
            environment["HOSTILE"] = str(self._hostile)
            environment["PYTHONPATH"] = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
        folder = self.folder / f"node-{number}"
        return ServerProcess(folder, settings=settings, arguments=arguments, environment=environment)

    def pause(self, number: int) -> None:
        """A node does nothing any more, and its connections stay (SIGSTOP)."""
        os.kill(self.servers[number].pid, signal.SIGSTOP)

    def resume(self, number: int) -> None:
        os.kill(self.servers[number].pid, signal.SIGCONT)

    @property
    def output(self) -> str:
        return "\n".join(server.output for server in self.servers)
