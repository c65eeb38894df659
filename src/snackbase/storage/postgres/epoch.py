"""Whether the database still continues the history that clients hold positions of (invariant I8).

The history's name stands in the database, with the server's identity and timeline it was last seen under. Another
identity is a restored dump or a copy: a new history. Another timeline is a promotion or a restore to a point in time:
what was committed may be gone, which cannot be told from the outside. But each position carries a check of its row and
its time, so positions go on, and one whose row is gone or another is answered with `resync` by itself; live
connections are looked through in the same way (`broken`). The version of schemas and rules jumps ahead of what nodes
may have seen of a lost change, so no version is ever used twice. Works without any special right.
"""

import logging
from collections.abc import Callable
from time import monotonic

import asyncpg
import msgspec

from snackbase.storage.postgres.link import Connection, translated
from snackbase.storage.schema import SET_META
from snackbase.storage.statements import READ_VERSION, SET_VERSION

log = logging.getLogger("snackbase.storage")

CHANGING = 0x5B00_0003
"""Advisory lock: held by who changes a schema, from the first index on, or decides on a history."""
LOOK_S = 1.0
LEAP = 1000
"""Versions that a lost end of the history may have had: schemas are changed by hand."""
IDENTITY = "SELECT system_identifier::text FROM pg_control_system()"
TIMELINES = (
    "SELECT ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int",
    "SELECT timeline_id FROM pg_control_checkpoint()",
)


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a history was last seen: the server, its timeline, the database, its table; 0 and "" = cannot be known."""

    system: str
    timeline: int
    database: int
    table: int = 0


class History:
    """What one process knows of it.

    Args:
        broken: called when the timeline has changed under this process.
    """

    def __init__(self, broken: Callable[[], None]) -> None:
        self._broken = broken
        self._place: Place | None = None
        self._sql = ""
        self._next_look = 0.0

    @property
    def timeline(self) -> int:
        """As it was last seen; 0 = cannot be known."""
        return 0 if self._place is None else self._place.timeline

    async def begin(self, connection: Connection, new_epoch: str, *, created: bool) -> str:
        """Decide on the epoch, in the transaction that opens the database."""
        rows = await connection.fetch("SELECT key, value FROM _meta WHERE key IN ('epoch', 'place')")
        kept = {row["key"]: row["value"] for row in rows}
        now = await self._where(connection)
        before = msgspec.json.decode(kept["place"], type=Place) if "place" in kept else None
        epoch: str = kept.get("epoch", "")
        if not epoch or before is None or _another(before, now):
            if not created:
                log.warning("positions begin a new history, clients are told to fetch anew: another database")
            epoch = new_epoch
            await connection.execute(translated(SET_META), "epoch", epoch)
        elif before.timeline != now.timeline:
            log.warning("the database was promoted or restored; positions go on where their changes are still there")
            version = int(await connection.fetchval(READ_VERSION))
            await connection.execute(translated(SET_VERSION), str(version + LEAP))
        if now != before:
            await connection.execute(translated(SET_META), "place", msgspec.json.encode(now).decode())
        self._place = now
        return epoch

    async def continues(self, connection: Connection, *, fresh: bool) -> bool:
        """Whether the timeline is still the one; looks at most once a second, unless the connection is fresh.

        False: what this process remembers of the database may be gone. Raises asyncpg's errors.
        """
        if self._place is None or not self._sql or (not fresh and monotonic() < self._next_look):
            return True
        self._next_look = monotonic() + LOOK_S
        if int(await _tried(connection, self._sql) or 0) in (0, self._place.timeline):
            return True
        async with connection.transaction(isolation="read_committed"):
            await connection.execute(f"SELECT pg_advisory_xact_lock({CHANGING})")
            await self.begin(connection, "", created=False)
        return False

    def told(self) -> None:
        """What this process remembered is forgotten; now whoever else remembers something."""
        self._broken()

    async def _where(self, connection: Connection) -> Place:
        """Ask the server, as far as it tells this user."""
        database = int(await connection.fetchval("SELECT oid FROM pg_database WHERE datname = current_database()"))
        system = await _tried(connection, IDENTITY) or ""
        table = int(await connection.fetchval("SELECT '_meta'::regclass::oid"))
        timeline = 0
        for sql in TIMELINES:
            timeline = int(await _tried(connection, sql) or 0)
            if timeline:
                self._sql = sql
                break
        return Place(system=str(system), timeline=timeline, database=database, table=table)


async def _tried(connection: Connection, sql: str) -> str | int | None:
    try:
        async with connection.transaction():
            value: str | int | None = await connection.fetchval(sql)
            return value
    except asyncpg.InsufficientPrivilegeError:
        return None
    except asyncpg.ObjectNotInPrerequisiteStateError:
        # In recovery: a standby has no place to write at, and no timeline of its own.
        return None


def _another(before: Place, now: Place) -> bool:
    """A dump that was restored, elsewhere or in place of what was there, or a database made from a template."""
    moved = before.system != now.system and before.system != "" and now.system != ""
    replaced = before.table != now.table and before.table != 0
    return moved or replaced or before.database != now.database
