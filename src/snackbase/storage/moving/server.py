"""The PostgreSQL end of a move: an empty database that is filled in one transaction, or a full one that is read.

Promises: until the commit nobody sees anything, and a crash on either side leaves the database empty as it was. A node
that starts meanwhile waits, then finds the whole. A database that nodes work on is refused.
"""

import contextlib
from collections.abc import AsyncIterable, AsyncIterator, Iterator

import asyncpg
import msgspec

from snackbase.config import ConfigError
from snackbase.errors import Unavailable
from snackbase.model import Collection, rfc3339
from snackbase.storage.definitions import read_collections
from snackbase.storage.moving.tables import Moved, MoveRefused, Row, fitting
from snackbase.storage.postgres.epoch import CHANGING, History
from snackbase.storage.postgres.link import LOST, Connection, Server, closed, drive, fault_of, translated
from snackbase.storage.postgres.numbers import SCHEMA
from snackbase.storage.postgres.partitions import make_partitions
from snackbase.storage.postgres.schema import POSTGRES
from snackbase.storage.schema import MIGRATIONS, SET_META, create_table, indexes, migrate, quoted, stored_version
from snackbase.storage.statements import SET_VERSION

# ruff: noqa: S608 - every name in these texts is quoted and comes from a definition that was checked.

AT_ONCE = 50
"""Rows fetched at once; a record has at most half a megabyte."""
NO_LIMITS = (
    "SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0; SET LOCAL lock_timeout = 0"
)
COLUMNS = """SELECT attname::text FROM pg_attribute WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped
    ORDER BY attnum"""
NODES = """SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
    AND application_name = 'snackbase'"""


class Origin(msgspec.Struct, frozen=True):
    """Where a database came from, kept in it: the epoch of the other one, and when."""

    epoch: str
    at: str


class ServerTarget:
    """An empty database that is filled."""

    dialect = POSTGRES

    def __init__(self, server: Server, *, new_epoch: str, now_us: int) -> None:
        self._server = server
        self._epoch = new_epoch
        self._now_us = now_us
        self._connection: Connection = None

    async def open(self, origin: str) -> None:
        """Raises MoveRefused, ConfigError, Unavailable."""
        self._connection = connection = await self._server.connect(direct=True)
        with faults():
            encoding = await connection.fetchval("SHOW server_encoding")
            if encoding != "UTF8":
                raise ConfigError(f"The database's encoding is {encoding}; make one with ENCODING 'UTF8'.")
            self._transaction = connection.transaction()
            await self._transaction.start()
            await connection.execute(NO_LIMITS)
            await connection.execute(f"SELECT pg_advisory_xact_lock({CHANGING})")
            await self._empty(origin)
            now = rfc3339(self._now_us)
            await drive(connection, migrate(POSTGRES, now=now))
            await connection.execute("DELETE FROM _roles; DELETE FROM _accounts; DELETE FROM _heads")
            await History(lambda: None).begin(connection, self._epoch, created=True)
            told = msgspec.json.encode(Origin(origin, now)).decode()
            await connection.execute(translated(SET_META), "moved", told)
            await make_partitions(connection, self._now_us)

    async def columns(self, table: str) -> list[str]:
        return [str(name) for (name,) in await self._connection.fetch(COLUMNS, quoted(table))]

    async def make(self, collection: Collection) -> None:
        with faults():
            await self._connection.execute(create_table(collection, POSTGRES))

    async def fill(self, table: Moved, rows: AsyncIterable[Row]) -> None:
        with faults():
            await self._connection.copy_records_to_table(table.name, records=rows, columns=list(table.columns))

    async def index(self, collection: Collection) -> None:
        """Raises TooLongForIndex."""
        for index in indexes(collection, POSTGRES).values():
            try:
                with faults():
                    await self._connection.execute(index.sql)
            except asyncpg.ProgramLimitExceededError:
                raise TooLongForIndex(index.fields) from None

    async def rows(self, table: Moved) -> AsyncIterator[Row]:
        columns = ", ".join(map(quoted, table.columns))
        with faults():
            async for row in self._connection.cursor(f"SELECT {columns} FROM {quoted(table.name)}", prefetch=AT_ONCE):
                yield tuple(row)

    async def finish(self, version: int) -> None:
        """Commit. Raises Unavailable: also when nobody knows whether it is committed."""
        with faults():
            await self._connection.execute(translated(SET_VERSION), str(version))
        try:
            await self._transaction.commit()
        except (asyncpg.PostgresError, *LOST) as error:
            raise Unavailable(
                "The connection was lost while everything was committed. Run the same command again: it says whether "
                "the data has arrived.",
                code="outcome_unknown",
                retry_after_s=5,
            ) from error
        with contextlib.suppress(asyncpg.PostgresError, *LOST):
            # For good plans from the first query on; the database would come to it by itself.
            await self._connection.execute("ANALYZE")

    async def close(self) -> None:
        """What was not finished is undone."""
        await closed(self._connection)

    async def _empty(self, origin: str) -> None:
        connection = self._connection
        if await drive(connection, stored_version(POSTGRES)):
            kept = await connection.fetchval("SELECT value FROM _meta WHERE key = 'moved'")
            moved = msgspec.json.decode(kept, type=Origin) if kept else None
            if moved is not None and moved.epoch == origin != "":
                raise MoveRefused(f"All this was moved here at {moved.at}; there is nothing left to do.")
            raise MoveRefused(
                "SnackBase's tables are in the target already, and only an empty database can be moved to. Name "
                "another one in DATABASE_URL, or drop this one and make it anew."
            )
        names = [str(name) for (name,) in await connection.fetch(POSTGRES.table_names)]
        ours = [name for name in names if name.startswith("c_")]
        if ours:
            raise MoveRefused(f"The target has a table {ours[0]} already; names that begin with c_ are SnackBase's.")


class TooLongForIndex(Exception):
    """A value that PostgreSQL's indexes do not take. `fields`: of the index."""

    def __init__(self, fields: tuple[str, ...]) -> None:
        super().__init__(", ".join(fields))
        self.fields = fields


class ServerSource:
    """A database that is read, in one snapshot."""

    dialect = POSTGRES

    def __init__(self, server: Server) -> None:
        self._server = server
        self._connection: Connection = None

    async def open(self) -> None:
        """Raises MoveRefused, ConfigError, Unavailable."""
        self._connection = connection = await self._server.connect(direct=True)
        with faults():
            # No node starts, changes a schema or writes until this connection ends.
            for lock in (CHANGING, SCHEMA):
                if not await connection.fetchval(f"SELECT pg_try_advisory_lock({lock})"):
                    raise MoveRefused("A node is at work on the database; stop all of them, then move again.")
            if await connection.fetchval(NODES):
                raise MoveRefused("Nodes are connected to the database; stop all of them, then move again.")
            await connection.transaction(isolation="repeatable_read", readonly=True).start()
            await connection.execute(NO_LIMITS)
            at = await drive(connection, stored_version(POSTGRES))
        if at == 0:
            raise MoveRefused("There is nothing of SnackBase in that database.")
        if at < len(MIGRATIONS):
            raise MoveRefused(
                f"The database is of an older SnackBase (schema version {at}); start this one on it once."
            )

    async def close(self) -> None:
        await closed(self._connection)

    async def epoch(self) -> str:
        return str(await self._connection.fetchval("SELECT value FROM _meta WHERE key = 'epoch'"))

    async def definitions(self) -> tuple[int, tuple[Collection, ...]]:
        return await drive(self._connection, read_collections())

    async def count(self, table: Moved) -> int:
        return int(await self._connection.fetchval(f"SELECT count(*) FROM {quoted(table.source)}"))

    async def rows(self, table: Moved) -> AsyncIterator[Row]:
        fit = fitting(table)
        columns = ", ".join(column if column.isdigit() else quoted(column) for column in table.read)
        with faults():
            async for row in self._connection.cursor(f"SELECT {columns} FROM {quoted(table.source)}", prefetch=AT_ONCE):
                yield fit(tuple(row))


@contextlib.contextmanager
def faults() -> Iterator[None]:
    """Words for what happens to the server or on the way to it."""
    try:
        yield
    except asyncpg.ProgramLimitExceededError:
        raise
    except (asyncpg.PostgresError, *LOST) as error:
        refused = MoveRefused(f"PostgreSQL refused it: {error}. Nothing was moved.")
        raise fault_of(error) or refused from error
