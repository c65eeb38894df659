"""Keeps the change log in bounds on PostgreSQL: prunes as SQLite's writer does, and looks after the log's partitions.

Every node looks, one at a time deletes (an advisory lock): pieces of one account's log with its floor, each in a short
transaction of its own. Now and then it looks after the log's partitions.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from time import monotonic

import asyncpg

from snackbase.config import ConfigError
from snackbase.errors import Unavailable
from snackbase.storage.postgres.link import AGAIN, LOCKED, LOST, Connection, Server, closed, drive, reason_of
from snackbase.storage.postgres.partitions import KEEPING, tidy_partitions
from snackbase.storage.retention import Pruner, Retention

log = logging.getLogger("snackbase.storage")

PARTITIONS_S = 600.0
LONGEST_SLEEP_S = 5.0
# A node that stands still must not hold heads for ever.
BEGIN = """BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL lock_timeout = 1000; SET LOCAL synchronous_commit = off;
    SET LOCAL idle_in_transaction_session_timeout = 5000"""
OLDEST = """SELECT min(c.ts_us) FROM (SELECT account, floor_seq FROM _heads WHERE seq > floor_seq
    ORDER BY floor_ts_us LIMIT 1000) h JOIN LATERAL
    (SELECT ts_us FROM _changes WHERE account = h.account AND seq = h.floor_seq + 1) c ON true"""
PASSING = (Unavailable, ConfigError, LOCKED, *AGAIN, *LOST, asyncpg.OperatorInterventionError)
"""Somebody is in the way, or the database is away, which the writer says; the next sweep finds what is left to do."""


class Keeper:
    """Runs from `open` to `close`."""

    def __init__(self, server: Server, retention: Retention, now_us: Callable[[], int]) -> None:
        self._server = server
        self._age_us = int(retention.age_s * 1_000_000)
        self._now_us = now_us
        self._pruner = Pruner(retention, now_us, oldest=OLDEST)
        self._connection: Connection | None = None
        self._task: asyncio.Task[None] | None = None
        self._next_partitions = monotonic() + PARTITIONS_S
        self._failing = False

    async def open(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run(), name="log-keeper")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await closed(self._connection)

    def note(self, rows: int, size: int) -> None:
        """The log grew."""
        self._pruner.rows += rows
        self._pruner.size += size

    def stats(self) -> dict[str, float]:
        oldest_us = self._pruner.oldest_us
        return {
            "log_rows": self._pruner.rows,
            "log_bytes": self._pruner.size,
            "pruned_rows": self._pruner.pruned,
            "log_sweeps": self._pruner.sweeps,
            "oldest_change_seconds": max(0, self._now_us() - oldest_us) / 1_000_000 if oldest_us else 0.0,
        }

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(min(self._pruner.patience(), LONGEST_SLEEP_S))
            try:
                if self._connection is None or self._connection.is_closed():
                    self._connection = await self._server.connect(direct=True, timeout_s=60)
                looked = await self._step(self._connection)
            except PASSING:
                await self._give_up()
            except Exception as error:
                # Whatever it is, a log that is not pruned any more fills the disk.
                if not self._failing:
                    log.error("the change log cannot be pruned; it is tried again: %s", reason_of(error))
                self._failing = True
                await self._give_up()
            else:
                if looked and self._failing:
                    self._failing = False
                    log.warning("the change log is pruned again")

    async def _give_up(self) -> None:
        self._pruner.give_up()
        await closed(self._connection)
        self._connection = None

    async def _step(self, connection: Connection) -> bool:
        """Whether it was time to look, and what was found is done."""
        if monotonic() > self._next_partitions:
            self._next_partitions = monotonic() + PARTITIONS_S
            await tidy_partitions(connection, self._now_us(), self._age_us)
        if self._pruner.patience():
            return False
        if not await drive(connection, self._pruner.wanted()):
            return True
        began = monotonic()
        # A piece that a crash undoes is found again, so nobody waits for the disk while the head is locked.
        await connection.execute(BEGIN)
        try:
            if await connection.fetchval(f"SELECT pg_try_advisory_xact_lock({KEEPING})"):
                await drive(connection, self._pruner.delete())
            else:
                self._pruner.give_up()
            await connection.execute("COMMIT")
        except BaseException:
            if not connection.is_closed():
                await connection.execute("ROLLBACK")
            raise
        self._pruner.over(monotonic() - began)
        return True
