"""The partitions of the change log: made ahead for each day, dropped when they are empty, and old ones put together.

The newest changes of each account stay whatever their age, so few days ever become empty; a log of some years would
have a thousand partitions, and every read of it looks into each. Days that are past retention are therefore put
together, a few at a time: copied beside the readers and put in place in a moment. Promises: no row is lost or seen
twice; nobody waits for longer than it takes to drop and attach a table, whatever somebody else holds.
"""

import asyncio
import contextlib
import re
from typing import NamedTuple

import asyncpg

from snackbase.storage.postgres.link import LOCKED, Connection

KEEPING = 0x5B00_0004
"""Advisory lock: held by the one node that deletes from the log or puts it together."""
DAY_US = 86_400_000_000
DAYS_AHEAD = 2
MOST_OLD = 8
"""Partitions of days past retention; of more of them, some are put together."""
TOGETHER = 5
COPY_S = 3600.0
"""At most 2 GB are kept by default, a minute's work."""
TRIES, PAUSE_S = 20, 0.5
LOCK = "SET LOCAL lock_timeout = 50"
"""Whoever comes while the log is waited for waits as well."""
PARTITIONS = """SELECT c.relname::text, pg_total_relation_size(c.oid) FROM pg_inherits i
    JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = '_changes'::regclass"""
# Whoever reads or writes the log has a lock on it as well as on the partition: behind this one nobody is in any.
CLOSE = "LOCK TABLE ONLY _changes IN ACCESS EXCLUSIVE MODE"


class Partition(NamedTuple):
    """Days since 1970, `end` not included. `size`: bytes."""

    first: int
    end: int
    name: str
    size: int


def partition_of(name: str, size: int) -> Partition | None:
    """None: the one for what no partition was made for."""
    found = re.fullmatch(r"_changes_d(\d+)(?:_(\d+))?", name)
    if found is None:
        return None
    first = int(found[1])
    return Partition(first, int(found[2] or first + 1), name, size)


async def make_partitions(connection: Connection, now_us: int) -> None:
    """Make and attach the partitions of today and the days to come, as far as they are not there."""
    names = {str(name) for name, _ in await connection.fetch(PARTITIONS)}
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
                await connection.execute(f"ALTER TABLE _changes ATTACH PARTITION {name} {_span(day, day + 1)}")
        except asyncpg.CheckViolationError:
            # Rows of that day are in _changes_rest already: a clock that was ahead. They are kept there.
            continue
        except (LOCKED, asyncpg.WrongObjectTypeError, asyncpg.InvalidObjectDefinitionError):
            # Somebody reads for long, or another node attached it; the next time will do.
            continue


async def tidy_partitions(connection: Connection, now_us: int, age_us: int) -> None:
    """Partitions for the days to come; none that are empty, and few, of days past retention."""
    await make_partitions(connection, now_us)
    before = (now_us - age_us) // DAY_US
    found = [partition_of(str(name), int(size)) for name, size in await connection.fetch(PARTITIONS)]
    old = sorted(one for one in found if one is not None and one.end <= before)
    left = [one for one in old if not await _dropped(connection, one.name)]
    # Of the last of these days, some rows may still be about to be pruned.
    together = _together([one for one in left if one.end < before])
    if together and await connection.fetchval(f"SELECT pg_try_advisory_lock({KEEPING})"):
        try:
            await _put_together(connection, together)
        finally:
            await connection.execute(f"SELECT pg_advisory_unlock({KEEPING})")


async def _dropped(connection: Connection, name: str) -> bool:
    """Drop a partition if it is empty and nobody is in the way."""
    look = f"SELECT 1 FROM {name} LIMIT 1"  # noqa: S608 - our own table
    if await connection.fetch(look):
        return False
    with contextlib.suppress(LOCKED):
        async with connection.transaction(isolation="read_committed"):
            await connection.execute(f"{LOCK}; {CLOSE}")
            # Once more: a node whose clock is behind may have written since, and not committed until now.
            if await connection.fetch(look):
                return False
            await connection.execute(f"DROP TABLE {name}")
            return True
    return False


def _together(old: list[Partition]) -> list[Partition]:
    """Which neighbours to put together: those that are the smallest; none while there are few."""
    if len(old) <= MOST_OLD:
        return []
    choices = [old[start : start + TOGETHER] for start in range(len(old) - TOGETHER + 1)]
    return min(choices, key=lambda choice: sum(one.size for one in choice))


async def _put_together(connection: Connection, parts: list[Partition]) -> None:
    """One partition in place of several, in one transaction. Nobody prunes meanwhile."""
    first, end = parts[0].first, parts[-1].end
    name, names = f"_changes_d{first}_{end}", ", ".join(one.name for one in parts)
    inside = f"ts_us IS NOT NULL AND ts_us >= {first * DAY_US} AND ts_us < {end * DAY_US}"
    with contextlib.suppress(LOCKED):
        async with connection.transaction():
            # While somebody reads the log for long, a copy of it would be of no use.
            await connection.execute(f"{LOCK}; {CLOSE}")
        async with connection.transaction(isolation="read_committed"):
            await connection.execute(f"SET LOCAL statement_timeout = 0; {LOCK}")
            # They are read on; only a clock that is days behind would write into them.
            await connection.execute(f"LOCK TABLE {names} IN SHARE MODE")
            # With the constraint, attaching it needs no look at the rows.
            await connection.execute(
                f"CREATE TABLE {name} (LIKE _changes INCLUDING ALL, CONSTRAINT {name}_days CHECK ({inside}))"
            )
            for one in parts:
                await connection.execute(f"INSERT INTO {name} SELECT * FROM {one.name}", timeout=COPY_S)  # noqa: S608 - ours
            await _closed(connection)
            # What came while one of these days had no partition of its own.
            await connection.execute(
                f"WITH rest AS (DELETE FROM _changes_rest WHERE {inside} RETURNING *) "  # noqa: S608 - ours
                f"INSERT INTO {name} SELECT * FROM rest"
            )
            await connection.execute(f"DROP TABLE {names}")
            await connection.execute(f"ALTER TABLE _changes ATTACH PARTITION {name} {_span(first, end)}")
            await connection.execute(f"ALTER TABLE {name} DROP CONSTRAINT {name}_days")


async def _closed(connection: Connection) -> None:
    """Wait for a moment in which nobody is in the log, without keeping anybody out for long. Raises LOCKED."""
    for attempt in range(TRIES):
        try:
            async with connection.transaction():
                await connection.execute(CLOSE)
        except LOCKED:
            if attempt + 1 == TRIES:
                raise
            await asyncio.sleep(PAUSE_S)
        else:
            return


def _span(first: int, end: int) -> str:
    return f"FOR VALUES FROM ({first * DAY_US}) TO ({end * DAY_US})"
