"""The workers of one supervisor among themselves: whichever is asked for /metrics tells the numbers of all.

Each listens at a Unix socket with its number in a folder that only this user may enter, and writes its numbers to
whoever connects. Nothing of it is on the path of a request but /metrics. A worker that does not answer in time is told
as such, so a scrape never waits for one that hangs.
"""

import asyncio
import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import structlog

log = structlog.get_logger("snackbase.web")

SUFFIX = ".sock"
ANSWER_S = 2.0
MOST_BYTES = 16 << 20


class Colleagues:
    """
    Args:
        folder: of all workers of one supervisor. number: this worker's; no other process has it at the same time.
    """

    def __init__(self, folder: Path, number: int) -> None:
        self._folder = folder
        self._number = number
        self._tell: Callable[[], bytes] | None = None
        self._server: asyncio.Server | None = None

    async def open(self, tell: Callable[[], bytes]) -> None:
        """Answer the others from now on; where that cannot be, this worker speaks for itself alone."""
        self._tell = tell
        own, fresh = self._path, self._folder / f"{self._number}.{os.getpid()}"
        try:
            # Under its name only once it answers, in place of what a killed worker left there.
            self._server = await asyncio.start_unix_server(self._serve, fresh)
            fresh.replace(own)
        except OSError as error:
            log.warning("workers_do_not_meet", reason=error.strerror or str(error), hint="/metrics tells one worker's")

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
            self._path.unlink(missing_ok=True)
            # The last one tidies up where the supervisor cannot.
            with contextlib.suppress(OSError):
                self._folder.rmdir()

    async def ask(self) -> dict[str, bytes | None]:
        """What every worker tells, by its number; None = it does not answer."""
        found = {path.name.removesuffix(SUFFIX) for path in self._folder.glob(f"*{SUFFIX}")}
        names = sorted(found | {str(self._number)}, key=int)
        told = await asyncio.gather(*(self._ask(name) for name in names))
        return dict(zip(names, told, strict=True))

    @property
    def _path(self) -> Path:
        return self._folder / f"{self._number}{SUFFIX}"

    async def _ask(self, name: str) -> bytes | None:
        if name == str(self._number) and self._tell is not None:
            return self._tell()
        try:
            async with asyncio.timeout(ANSWER_S):
                reader, writer = await asyncio.open_unix_connection(self._folder / f"{name}{SUFFIX}", limit=MOST_BYTES)
                try:
                    return await reader.read() or None
                finally:
                    writer.close()
        except (OSError, TimeoutError):
            return None

    async def _serve(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(ANSWER_S):
                if self._tell is not None:
                    writer.write(self._tell())
                    await writer.drain()
        writer.close()
