"""Whether a damaged page of the database was met, and whether it is there still.

A write to another table may go well beside a damaged page, so the writer's own success says nothing. Once damage was
met, the whole file is looked through (`PRAGMA quick_check`) from time to time, in a thread and on a connection of its
own, until it is sound: repaired in place, or it was the memory that failed and not the disk.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable

import apsw

log = logging.getLogger("snackbase.storage")

RECHECK_S = 5.0


class Damage:
    """
    Args:
        connect: opens a reader. mended: called on the loop when the file is sound again; caches are to be dropped.
    """

    def __init__(self, connect: Callable[[], apsw.Connection], mended: Callable[[], None]) -> None:
        self._connect = connect
        self._mended = mended
        self._task: asyncio.Task[None] | None = None
        self.known = False

    def found(self) -> None:
        """A damaged page was met; on the loop."""
        if not self.known:
            log.error("the database file is damaged: restore a backup, or repair it; see `snackbase doctor`")
        self.known = True
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._recheck(), name="damage-recheck")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _recheck(self) -> None:
        while self.known:
            await asyncio.sleep(RECHECK_S)
            if not await asyncio.to_thread(self._sound):
                continue
            with contextlib.suppress(apsw.Error):
                self._mended()
                self.known = False
                log.warning("the database file is sound again")

    def _sound(self) -> bool:
        try:
            with contextlib.closing(self._connect()) as connection:
                return connection.execute("PRAGMA quick_check(1)").fetchall() == [("ok",)]
        except apsw.Error:
            return False
