"""Opening the database and changing its shape, by one node at a time.

Migrations run in one transaction under an advisory lock, so of nodes that start at once on an empty database one makes
it and the others find it. A collection changes in a transaction that holds the groups of all nodes off for a moment; an
index over records that are there already is built beforehand without stopping anybody (CONCURRENTLY), and a half-built
one is removed. Locks are waited for briefly, that of the table before that of the groups: who is in the way of one
collection's change keeps nobody from writing into the others.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from time import monotonic
from typing import Any

import asyncpg

from snackbase.config import ConfigError
from snackbase.errors import Unavailable
from snackbase.model import Collection, rfc3339
from snackbase.storage.alter import Plan
from snackbase.storage.asking import violation
from snackbase.storage.base import SchemaChange
from snackbase.storage.definitions import read_collections
from snackbase.storage.postgres.epoch import CHANGING, History
from snackbase.storage.postgres.link import LOCKED, LOST, Connection, Server, closed, drive, taken_of
from snackbase.storage.postgres.numbers import SCHEMA
from snackbase.storage.postgres.partitions import make_partitions
from snackbase.storage.postgres.schema import POSTGRES
from snackbase.storage.schema import indexes, migrate, quoted
from snackbase.storage.schemachange import carry_out, decide

log = logging.getLogger("snackbase.storage")

# A node that stands still in the middle must not keep all others from writing.
BEGIN = """BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL lock_timeout = %d;
    SET LOCAL idle_in_transaction_session_timeout = 5000"""
# What the database's owner allows a statement of users is too little to build an index or to migrate.
PATIENT = "SET statement_timeout = 0; SET lock_timeout = 0"
LOCK_MS = 1000
TRIES = 8
PAUSE_S = 0.25
SMALL_ROWS = 5000
"""A table of fewer is indexed inside the transaction, in milliseconds."""
SWEEP_MS = 2000
"""How long a start waits for those who read a table, to remove an index from it; else the next one does it."""
OURS = """SELECT c.relname::text FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
    JOIN pg_class t ON t.oid = i.indrelid WHERE c.relnamespace = current_schema()::regnamespace
    AND c.relname LIKE 'c\\_%' AND NOT i.indisprimary
    AND (NOT i.indisvalid OR c.relname LIKE '%:%' AND t.relname = ANY($1::text[]) AND c.relname <> ALL($2::text[]))"""
"""Indexes that are half built, or of no definition: what a change left that did not come to its end."""
THERE = """SELECT c.relname::text FROM pg_class c WHERE c.relnamespace = current_schema()::regnamespace
    AND c.relkind = 'i' AND c.relname = ANY($1::text[])"""

Announce = Callable[[Connection, int], Any]
Outcome = tuple[Collection | None, int, tuple[Collection, ...]]


async def prepare_database(
    connection: Connection, history: History, new_epoch: str, now_us: int
) -> tuple[str, int, tuple[Collection, ...]]:
    """Migrate if need be; the epoch, the version and the definitions. Raises ConfigError."""
    encoding = await connection.fetchval("SHOW server_encoding")
    if encoding != "UTF8":
        raise ConfigError(f"The database's encoding is {encoding}; make one with ENCODING 'UTF8'.")
    await connection.execute(PATIENT)
    async with connection.transaction(isolation="read_committed"):
        await connection.execute(f"SELECT pg_advisory_xact_lock({CHANGING})")
        created = await drive(connection, migrate(POSTGRES, now=rfc3339(now_us)))
        epoch = await history.begin(connection, new_epoch, created=created)
        version, collections = await drive(connection, read_collections())
        await make_partitions(connection, now_us)
    await _sweep(connection)
    return epoch, version, collections


async def _sweep(connection: Connection) -> None:
    """Remove what a node that died left half built, or built for nothing. Nobody builds while the lock is free."""
    if not await connection.fetchval(f"SELECT pg_try_advisory_lock({CHANGING})"):
        return
    await connection.execute(f"SET lock_timeout = {SWEEP_MS}")
    try:
        _, collections = await drive(connection, read_collections())
        wanted = [name for collection in collections for name in indexes(collection, POSTGRES)]
        for (name,) in await connection.fetch(OURS, [collection.table for collection in collections], wanted):
            await _remove(connection, name)
    except LOCKED:
        log.warning("an index that no definition has stays until the next start: its table is in use")
    finally:
        await connection.execute(f"SELECT pg_advisory_unlock({CHANGING})")


async def _remove(connection: Connection, name: str) -> None:
    await connection.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {quoted(name)}")
    log.warning("an index of a change that did not come to its end is removed: %s", name)


class Changer:
    """Carries out schema changes, one at a time on this node and on all others."""

    def __init__(self, server: Server, now_us: Callable[[], int]) -> None:
        self._server = server
        self._now_us = now_us
        self._turn = asyncio.Lock()

    async def alter(self, change: SchemaChange, announce: Announce) -> Outcome:
        """Change; the new definition, the version and all definitions.

        Args:
            announce: tells other nodes, in the transaction.

        Raises:
            ValidationFailed, Conflict, NotFound. Unavailable: the table is in use for too long. asyncpg's errors.
        """
        async with self._turn:
            connection = await self._server.connect(direct=True)
            built: dict[str, str] = {}
            try:
                await connection.execute(f"{PATIENT}; SELECT pg_advisory_lock({CHANGING})")
                table = await self._build(connection, change, built)
                return await self._change(connection, change, table, built, announce)
            except BaseException:
                # What cannot be removed now is found by the next change or start.
                with contextlib.suppress(asyncpg.PostgresError, *LOST):
                    if connection.is_in_transaction():
                        await connection.execute("ROLLBACK")
                    for name in built.values():
                        await connection.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {quoted(name)}")
                raise
            finally:
                await closed(connection)

    async def _change(
        self,
        connection: Connection,
        change: SchemaChange,
        table: str | None,
        built: dict[str, str],
        announce: Announce,
    ) -> Outcome:
        for attempt in range(TRIES):
            try:
                await connection.execute(BEGIN % LOCK_MS)
                if table is not None:
                    await connection.execute(f"LOCK TABLE {quoted(table)} IN ACCESS EXCLUSIVE MODE")
                await connection.execute(f"SELECT pg_advisory_xact_lock({SCHEMA})")
                plan = await drive(connection, decide(change, POSTGRES, literal))
                now = rfc3339(self._now_us())
                after = await drive(connection, carry_out(plan, change, now=now, skip=frozenset(built)))
                version, collections = await drive(connection, read_collections())
                await announce(connection, version)
                await connection.execute("COMMIT")
                return after, version, collections
            except LOCKED:
                await connection.execute("ROLLBACK")
                await asyncio.sleep(PAUSE_S * (attempt + 1))
        message = "The collection is in use by another session of the database; nothing was changed."
        raise Unavailable(message, code="storage_busy", retry_after_s=5)

    async def _build(self, connection: Connection, change: SchemaChange, built: dict[str, str]) -> str | None:
        """Indexes over fields and records that are there already, noted in `built`: statement of the plan -> name. The
        table that the rest of the change has to have for itself."""
        if change.before is None:
            return None
        plan = await drive(connection, decide(change, POSTGRES, literal))
        if plan.kept is None:
            return None
        if plan.after is not None:
            await self._build_for(plan, plan.kept, plan.after, connection, built)
        return plan.kept.table if {step.sql for step in plan.steps} - built.keys() else None

    async def _build_for(
        self, plan: Plan, kept: Collection, after: Collection, connection: Connection, built: dict[str, str]
    ) -> None:
        made = indexes(after, POSTGRES).keys() - indexes(kept, POSTGRES).keys()
        for (name,) in await connection.fetch(THERE, list(made)):
            await _remove(connection, name)
        wanted = _indexes_to_build(plan)
        if not wanted or await self._small(connection, kept):
            return
        for sql, name in wanted.items():
            built[sql] = name
            await self._one(connection, sql, name, kept)

    async def _one(self, connection: Connection, sql: str, name: str, collection: Collection) -> None:
        began = monotonic()
        log.warning("building an index of %s: %s", collection.name, name)
        try:
            await connection.execute(sql.replace("INDEX ", "INDEX CONCURRENTLY ", 1))
        except asyncpg.UniqueViolationError as error:
            raise violation(taken_of(error), collection) from None
        log.warning("built an index of %s in %.1f s: %s", collection.name, monotonic() - began, name)

    async def _small(self, connection: Connection, kept: Collection) -> bool:
        sql = f"SELECT count(*) FROM (SELECT 1 FROM {quoted(kept.table)} LIMIT {SMALL_ROWS}) AS first"  # noqa: S608
        return int(await connection.fetchval(sql)) < SMALL_ROWS


def _indexes_to_build(plan: Plan) -> dict[str, str]:
    """Those of the plan's indexes whose every column exists before the plan."""
    if plan.after is None or plan.kept is None:
        return {}
    old = {field.name for field in plan.kept.fields}
    steps = {step.sql for step in plan.steps}
    added = {field.name for field in plan.after.fields} - old
    return {
        index.sql: index.name
        for index in indexes(plan.after, POSTGRES).values()
        if index.sql in steps and not added & set(index.fields)
    }


def literal(value: Any) -> str:
    """A value as SQL, for defaults."""
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, int | float):
        return repr(value)
    return "'" + str(value).replace("'", "''") + "'"
