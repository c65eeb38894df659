"""Keeps the change log in bounds on PostgreSQL: prunes as SQLite's writer does, and looks after the log's partitions.

Every node looks, one at a time deletes (an advisory lock): pieces of one account's log with its floor, each in a short
transaction of its own. A day's partition is made ahead and attached without stopping anybody, and dropped when pruning
has emptied it.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from time import monotonic

import asyncpg

from snackbase.config import ConfigError
from snackbase.errors import Unavailable
from snackbase.storage.postgres.link import LOST, Connection, Server, closed, drive
from snackbase.storage.retention import Pruner, Retention

log = logging.getLogger("snackbase.storage")

KEEPING = 0x5B00_0004
"""Advisory lock: held by the one node that deletes."""
DAY_US = 86_400_000_000
DAYS_AHEAD = 2
PARTITIONS_S = 600.0
LONGEST_SLEEP_S = 5.0
# A node that stands still must not hold heads for ever.
BEGIN = """BEGIN; SET LOCAL lock_timeout = 1000; SET LOCAL synchronous_commit = off;
    SET LOCAL idle_in_transaction_session_timeout = 5000"""
OLDEST = """SELECT min(c.ts_us) FROM (SELECT account, floor_seq FROM _heads WHERE seq > floor_seq
    ORDER BY floor_ts_us LIMIT 1000) h JOIN LATERAL
    (SELECT ts_us FROM _changes WHERE account = h.account AND seq = h.floor_seq + 1) c ON true"""
PARTITIONS = """SELECT c.relname::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = '_changes'::regclass"""


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
                await self._step(self._connection)
            except (asyncpg.PostgresError, Unavailable, ConfigError, *LOST):
                # The next sweep finds it again; the writer says what is wrong with the database.
                self._pruner.give_up()
                await closed(self._connection)
                self._connection = None

    async def _step(self, connection: Connection) -> None:
        if monotonic() > self._next_partitions:
            self._next_partitions = monotonic() + PARTITIONS_S
            await self.tidy(connection)
        if self._pruner.patience() or not await drive(connection, self._pruner.wanted()):
            return
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

    async def tidy(self, connection: Connection) -> None:
        """Partitions for the days to come; none for days of which nothing is kept."""
        names = [str(name) for (name,) in await connection.fetch(PARTITIONS)]
        await make_partitions(connection, self._now_us())
        before = (self._now_us() - self._age_us) // DAY_US
        for name in names:
            day = name.removeprefix("_changes_d")
            if not day.isdigit() or int(day) >= before:
                continue
            with contextlib.suppress(asyncpg.LockNotAvailableError):
                async with connection.transaction():
                    await connection.execute("SET LOCAL lock_timeout = 200")
                    if not await connection.fetch(f"SELECT 1 FROM {name} LIMIT 1"):  # noqa: S608 - our own table
                        await connection.execute(f"DROP TABLE {name}")


async def make_partitions(connection: Connection, now_us: int) -> None:
    """Make and attach the partitions of today and the days to come, as far as they are not there."""
    names = {str(name) for (name,) in await connection.fetch(PARTITIONS)}
    today = now_us // DAY_US
    for day in range(today, today + DAYS_AHEAD + 1):
        name = f"_changes_d{day}"
        if name in names:
            continue
        try:
            async with connection.transaction():
                await connection.execute("SET LOCAL lock_timeout = 500")
                await connection.execute(f"SELECT pg_advisory_xact_lock({KEEPING})")
                await connection.execute(f"CREATE TABLE IF NOT EXISTS {name} (LIKE _changes INCLUDING ALL)")
                ends = f"FROM ({day * DAY_US}) TO ({(day + 1) * DAY_US})"
                await connection.execute(f"ALTER TABLE _changes ATTACH PARTITION {name} FOR VALUES {ends}")
        except asyncpg.CheckViolationError:
            # Rows of that day are in _changes_rest already: a clock that was ahead. They are kept there.
            continue
        except (asyncpg.LockNotAvailableError, asyncpg.WrongObjectTypeError, asyncpg.InvalidObjectDefinitionError):
            # Somebody reads for long, or another node attached it; the next time will do.
            continue
