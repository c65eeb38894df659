"""The SQLite end of a move: a data folder that nobody else has open, read or newly made.

Promises: while it is read, no other process can open the file, and nothing in it is changed. A file that is written is
whole when it gets its name. It carries no epoch, so whoever opens it begins a new history.
"""

import contextlib
import os
from collections.abc import AsyncIterable, AsyncIterator, Iterator, Sequence
from pathlib import Path

import apsw

from snackbase.model import Collection, rfc3339
from snackbase.storage.asking import answered
from snackbase.storage.connection import storage_fault
from snackbase.storage.definitions import read_collections
from snackbase.storage.moving.tables import Moved, MoveRefused, Row, fitting, name_of
from snackbase.storage.schema import (
    APPLICATION_ID,
    MIGRATIONS,
    SQLITE,
    create_table,
    indexes,
    migrate,
    quoted,
    stored_version,
)
from snackbase.storage.statements import SET_VERSION

# ruff: noqa: S608 - every name in these texts is quoted and comes from a definition that was checked.

BUSY_MS = 2_000
PART = ".part"


class FolderSource:
    """A database file that is read."""

    dialect = SQLITE

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: apsw.Connection | None = None

    async def open(self) -> None:
        """Raises MoveRefused, ConfigError, Unavailable."""
        if not self._path.is_file():
            raise MoveRefused(f"There is no database at {self._path}; name the data folder with --from.")
        try:
            self._connection = apsw.Connection(str(self._path), flags=apsw.SQLITE_OPEN_READWRITE)
            self._connection.set_busy_timeout(BUSY_MS)
            # Set before the first look, it takes the file for itself alone, which fails while anybody has it open.
            for pragma in ("locking_mode=EXCLUSIVE", "query_only=1", "temp_store=MEMORY"):
                self._run(f"PRAGMA {pragma}")
            at = answered(self._run, stored_version(SQLITE))
        except apsw.BusyError:
            raise MoveRefused(
                f"{self._path} is in use: stop the server (and any other program) that has it open, then move again."
            ) from None
        except apsw.NotADBError:
            raise MoveRefused(f"{self._path} is not an SQLite database.") from None
        except apsw.Error as error:
            raise storage_fault(error) or error from error
        if at < len(MIGRATIONS):
            raise MoveRefused(
                f"{self._path} is of an older SnackBase (schema version {at}, this program's is {len(MIGRATIONS)}). "
                "Start this program's server on it once, which upgrades it, stop it, then move again."
            )

    async def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    async def epoch(self) -> str:
        rows = self._run("SELECT value FROM _meta WHERE key = 'epoch'")
        return str(rows[0][0]) if rows else ""

    async def definitions(self) -> tuple[int, tuple[Collection, ...]]:
        return answered(self._run, read_collections())

    async def count(self, table: Moved) -> int:
        return int(self._run(f"SELECT count(*) FROM {quoted(table.source)}")[0][0])

    async def rows(self, table: Moved) -> AsyncIterator[Row]:
        for row in read(self._connection, table):
            yield row

    def longest(self, table: Moved, columns: Sequence[str]) -> str:
        """The row with the longest values in these columns."""
        length = " + ".join(f"coalesce(octet_length({quoted(name)}), 0)" for name in columns)
        keys = ", ".join(map(quoted, table.columns[: table.keys]))
        rows = self._run(f"SELECT {keys} FROM {quoted(table.source)} ORDER BY {length} DESC LIMIT 1")
        return name_of(table, rows[0]) if rows else ""

    def _run(self, sql: str, args: Sequence[object] = ()) -> list[Row]:
        assert self._connection is not None  # noqa: S101 - opened first
        return self._connection.execute(sql, tuple(args)).fetchall()


class FolderTarget:
    """A database file that is made."""

    dialect = SQLITE

    def __init__(self, path: Path, *, now_us: int) -> None:
        self._path = path
        self._part = path.with_name(path.name + PART)
        self._now = rfc3339(now_us)
        self._connection: apsw.Connection | None = None

    async def open(self, origin: str) -> None:
        """Raises MoveRefused, OSError."""
        if self._path.exists():
            raise MoveRefused(f"{self._path} is there already; move it away, or name another file in DATABASE_URL.")
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._forget()
        os.close(os.open(self._part, os.O_CREAT | os.O_RDWR, 0o600))
        self._connection = apsw.Connection(str(self._part), flags=apsw.SQLITE_OPEN_READWRITE)
        for pragma in (f"application_id={APPLICATION_ID}", "synchronous=OFF", "journal_mode=OFF"):
            self._run(f"PRAGMA {pragma}")
        self._run("BEGIN")
        answered(self._run, migrate(SQLITE, now=self._now))
        for table in ("_roles", "_accounts", "_heads"):
            self._run(f"DELETE FROM {table}")

    async def columns(self, table: str) -> list[str]:
        return [str(row[1]) for row in self._run(f"PRAGMA table_info({quoted(table)})")]

    async def make(self, collection: Collection) -> None:
        self._run(create_table(collection, SQLITE))

    async def fill(self, table: Moved, rows: AsyncIterable[Row]) -> None:
        assert self._connection is not None  # noqa: S101 - opened first
        marks = ", ".join("?" * len(table.columns))
        sql = f"INSERT INTO {quoted(table.name)}({', '.join(map(quoted, table.columns))}) VALUES ({marks})"
        cursor = self._connection.cursor()
        async for row in rows:
            cursor.execute(sql, row)

    async def index(self, collection: Collection) -> None:
        for index in indexes(collection, SQLITE).values():
            self._run(index.sql)

    async def rows(self, table: Moved) -> AsyncIterator[Row]:
        for row in read(self._connection, table._replace(source=table.name, read=table.columns)):
            yield row

    async def finish(self, version: int) -> None:
        """Give the file its name."""
        assert self._connection is not None  # noqa: S101 - opened first
        self._run(SET_VERSION, (str(version),))
        self._run("COMMIT")
        self._connection.close()
        self._connection = None
        _settle(self._part)
        self._part.rename(self._path)
        _settle(self._path.parent)

    async def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._forget()

    def _forget(self) -> None:
        with contextlib.suppress(OSError):
            self._part.unlink()

    def _run(self, sql: str, args: Sequence[object] = ()) -> list[Row]:
        assert self._connection is not None  # noqa: S101 - opened first
        return self._connection.execute(sql, tuple(args)).fetchall()


def _settle(path: Path) -> None:
    """From here on it survives a power cut."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def read(connection: apsw.Connection | None, table: Moved) -> Iterator[Row]:
    """The rows of a table, a few at a time. Raises MoveRefused."""
    assert connection is not None  # noqa: S101 - opened first
    fit = fitting(table)
    columns = ", ".join(column if column.isdigit() else quoted(column) for column in table.read)
    rows = connection.execute(f"SELECT {columns} FROM {quoted(table.source)}")
    try:
        yield from map(fit, rows)
    except UnicodeDecodeError:
        raise MoveRefused(f"A text of {table.source} is not UTF-8. Correct it, then move again.") from None
