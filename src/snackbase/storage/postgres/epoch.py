"""Whether the database still continues the history that clients hold positions of (invariant I8).

The history's name stands in the database, with the server's identity and timeline it was last seen under. Another
identity is a restored dump or a copy: a new history. Another timeline is a promotion or a restore to a point in time:
what was committed may be gone, which nobody can tell from the outside, but each position carries a check of its row and
time; so positions go on, and one whose row is gone or another is answered with `resync` by itself. Only a timeline that
began before what this database says it had reached is a new history at once. Works without any special right.
"""

import logging

import asyncpg
import msgspec

from snackbase.storage.postgres.link import Connection, translated
from snackbase.storage.schema import SET_META

log = logging.getLogger("snackbase.storage")

IDENTITY = "SELECT system_identifier::text FROM pg_control_system()"
TIMELINES = (
    "SELECT ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int",
    "SELECT timeline_id FROM pg_control_checkpoint()",
)


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a history was last seen: the server, its timeline, the database; 0 and "" = cannot be known."""

    system: str
    timeline: int
    database: int


async def where(connection: Connection) -> Place:
    """Ask the server, as far as it tells this user."""
    database = int(await connection.fetchval("SELECT oid FROM pg_database WHERE datname = current_database()"))
    system = await _tried(connection, IDENTITY) or ""
    timeline = 0
    for sql in TIMELINES:
        timeline = int(await _tried(connection, sql) or 0)
        if timeline:
            break
    return Place(system=str(system), timeline=timeline, database=database)


async def _tried(connection: Connection, sql: str) -> str | int | None:
    try:
        async with connection.transaction():
            value: str | int | None = await connection.fetchval(sql)
            return value
    except asyncpg.PostgresError:
        return None


async def begin(connection: Connection, new_epoch: str, *, created: bool) -> str:
    """Decide on the epoch, in the transaction that opens the database."""
    rows = await connection.fetch("SELECT key, value FROM _meta WHERE key IN ('epoch', 'place')")
    kept = {row["key"]: row["value"] for row in rows}
    now = await where(connection)
    before = msgspec.json.decode(kept["place"], type=Place) if "place" in kept else None
    epoch: str = kept.get("epoch", "")
    if not epoch or before is None or _another(before, now):
        if not created:
            log.warning("positions begin a new history, clients are told to fetch anew: another database")
        epoch = new_epoch
        await connection.execute(translated(SET_META), "epoch", epoch)
    elif before.timeline != now.timeline:
        log.warning("the database was promoted or restored; positions go on where their changes are still there")
    if now != before:
        await connection.execute(translated(SET_META), "place", msgspec.json.encode(now).decode())
    return epoch


def _another(before: Place, now: Place) -> bool:
    """A dump that was restored elsewhere, or a database made from a template."""
    moved = before.system != now.system and before.system != "" and now.system != ""
    return moved or before.database != now.database
