"""`SQLiteStore`: the embedded database behind the `Store` seam (step 4 of the path).

Owns the file, the writer thread and the readers. Short reads (a record by id, heads, log tails, system tables) run on
the event loop through one connection that cannot write, which is ten times cheaper than switching to a thread. Lists
run in a pool of threads. Every fault of the disk or the file is raised as Unavailable with a code of its own.
"""

import asyncio
import json
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw

from snackbase.errors import SnackBaseError, Unavailable
from snackbase.model import Change, Collection, Head, Record
from snackbase.storage.asking import drive
from snackbase.storage.base import Changes, Committed, Page, Query, Rows, SchemaChange, Transaction, Window
from snackbase.storage.changelog import change_of, enough
from snackbase.storage.codec import unstorable
from snackbase.storage.connection import DAMAGED, connect, make_file, storage_fault
from snackbase.storage.damage import Damage
from snackbase.storage.definitions import read_collections
from snackbase.storage.epoch import History
from snackbase.storage.group import Item
from snackbase.storage.lists import Lists
from snackbase.storage.retention import Pruner, Retention
from snackbase.storage.statements import (
    OLDEST_CHANGE,
    READ_CHANGES,
    READ_HEAD,
    READ_HEADS,
    READ_VERSION,
    READ_WINDOW,
    RIGHTS_CHANGED,
    Tables,
    window_of,
)
from snackbase.storage.upgrade import Upgrade
from snackbase.storage.waiting import Waiting
from snackbase.storage.writer import Writer

HEADS_AT_ONCE = 500
_EPOCH_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"


def wall_clock_us() -> int:
    return time.time_ns() // 1000


class SQLiteStore:
    """A data folder.

    Args:
        path: the database file; its folder is made (0700) if it is missing.
        synchronous: OFF | NORMAL | FULL | EXTRA; below FULL a power cut may lose acknowledged writes.
        queue_length, queue_bytes, queue_account_length: how much may wait for the writer, in all and of one account.
        query_timeout_s: deadline of one list. list_threads: lists that run at once.
        retention: what is kept of the change log. upgrade_backups: how many copies from before upgrades are kept.
        now_us: the wall clock, microseconds since the epoch.
    """

    dialect = "sqlite"

    def __init__(
        self,
        path: Path,
        *,
        synchronous: str = "FULL",
        queue_length: int = 10_000,
        queue_bytes: int = 64 << 20,
        queue_account_length: int = 5_000,
        query_timeout_s: float = 5.0,
        list_threads: int = 3,
        retention: Retention | None = None,
        upgrade_backups: int = 3,
        now_us: Callable[[], int] = wall_clock_us,
    ) -> None:
        self._path = path
        self.epoch = ""
        self.on_commit: Callable[[Sequence[Change]], None] = lambda _changes: None
        self.on_schema: Callable[[int, tuple[Collection, ...]], None] = lambda _version, _collections: None
        self.on_hint: Callable[[Mapping[str, int]], None] = lambda _heads: None
        self.on_break: Callable[[], None] = lambda: None
        self._tables = Tables()
        self._reader: apsw.Connection | None = None
        self._lists = Lists(self._connect_reader, threads=list_threads, timeout_s=query_timeout_s)
        waiting: Waiting[Item] = Waiting(length=queue_length, size=queue_bytes, account_length=queue_account_length)
        self._damage = Damage(self._connect_reader, self._forget_pages)
        self._history = History(path, synchronous=synchronous)
        self._writer = Writer(
            path,
            synchronous=synchronous,
            waiting=waiting,
            upgrade=Upgrade(path, kept=upgrade_backups),
            history=self._history,
            pruner=Pruner(retention or Retention(), now_us, oldest=OLDEST_CHANGE),
            now_us=now_us,
            on_commit=lambda changes: self.on_commit(changes),
            on_schema=lambda version, collections: self.on_schema(version, collections),
            on_damage=self._damage.found,
        )

    async def open(self) -> None:
        """Create or open the file, migrate it, start the writer.

        Raises:
            ConfigError: the file is not ours, or a newer program's. Unavailable: it cannot be opened.
        """
        try:
            make_file(self._path)
            new_epoch = "".join(secrets.choice(_EPOCH_ALPHABET) for _ in range(6))
            await self._writer.open(new_epoch=new_epoch)
            self._reader = self._connect_reader()
            self._cursor = self._reader.cursor()
            self.epoch = str(self._read("SELECT value FROM _meta WHERE key = 'epoch'", ())[0][0])
        except OSError as error:
            raise Unavailable(f"The data folder cannot be used: {error.strerror}.", code="storage_error") from error
        except apsw.Error as error:
            raise self._answer(error) from error

    @property
    def lineage(self) -> str:
        return self.epoch

    async def close(self) -> None:
        """Commit and announce what waits, then release the file."""
        await self._damage.close()
        await self._writer.close()
        self._lists.close()
        if self._reader is not None:
            self._reader.close()
            self._reader = None
            # SQLite deletes the WAL when the last connection of all processes closes it.
            if not self._path.with_name(f"{self._path.name}-wal").exists():
                self._history.closed()

    async def write(self, transaction: Transaction) -> Committed:
        return await self._writer.write(transaction)

    async def alter(self, change: SchemaChange) -> Collection | None:
        return await self._writer.alter(change)

    async def version(self) -> int:
        return int(self._read(READ_VERSION, ())[0][0])

    async def collections(self) -> tuple[int, tuple[Collection, ...]]:
        self._read("BEGIN", ())
        try:
            return drive(self._cursor, read_collections())
        finally:
            self._read("COMMIT", ())

    async def get(self, collection: Collection, account_id: str, record_id: str) -> Record | None:
        """The record, or None.

        Raises:
            Unavailable: code `schema_changed`: the definition is older than the table.
        """
        table = self._tables.of(collection)
        rows = self._read(table.select, (record_id, account_id), collection)
        return table.codec.record(rows[0]) if rows else None

    async def list(self, query: Query) -> Page:
        try:
            return await self._lists.run(query, self._tables.of(query.collection))
        except apsw.Error as error:
            raise self._answer(error, query.collection) from error
        except (UnicodeError, OverflowError) as error:
            raise unstorable(error) from None

    async def count(self, collection: Collection, account_id: str | None = None) -> int:
        try:
            return await self._lists.count(self._tables.of(collection), account_id)
        except apsw.Error as error:
            raise self._answer(error, collection) from error

    async def head(self, account_id: str) -> Head:
        rows = self._read(READ_HEAD, (account_id,))
        return Head(rows[0][1], rows[0][2]) if rows else Head(0, 0)

    async def heads(self, account_ids: Sequence[str]) -> dict[str, Head]:
        """Heads of those accounts that exist; thousands are read in slices, the loop turns in between."""
        found: dict[str, Head] = {}
        for start in range(0, len(account_ids), HEADS_AT_ONCE):
            if start:
                await asyncio.sleep(0)
            wanted = json.dumps(list(account_ids[start : start + HEADS_AT_ONCE]))
            rows = self._read(READ_HEADS, (wanted,))
            found.update({account_id: Head(seq, ts_us) for account_id, seq, ts_us in rows})
        return found

    async def read_changes(self, account_id: str, after: int, limit: int) -> Changes:
        return [change_of(account_id, row) for row in self._read(READ_CHANGES, (account_id, after, limit), take=_some)]

    async def window(self, account_id: str, seq: int) -> Window:
        return window_of(self._read(READ_WINDOW, (account_id, seq)))

    async def rights_changed(self, account_id: str, after: int, subject: str) -> bool:
        return bool(self._read(RIGHTS_CHANGED, (account_id, after, subject)))

    async def fetch(self, sql: str, args: Sequence[Any] = ()) -> Rows:
        return self._read(sql, args)

    async def scan(self, account_id: str | None, sql: str, args: Sequence[Any] = ()) -> Rows:
        try:
            return await self._lists.rows(account_id or "", sql, tuple(args))
        except apsw.Error as error:
            raise self._answer(error) from error
        except (UnicodeError, OverflowError) as error:
            raise unstorable(error) from None

    def stats(self) -> Mapping[str, float]:
        numbers = self._writer.stats()
        if self._damage.known:
            numbers["healthy"] = 0
        return {**numbers, "lists_waiting": self._lists.waiting}

    def _connect_reader(self) -> apsw.Connection:
        return connect(self._path)

    def _forget_pages(self) -> None:
        """The file was damaged and is sound again: no connection may go on with what it had read of it."""
        self._lists.forget_pages()
        self._writer.reopen()
        if self._reader is not None:
            self._reader.close()
            self._reader = self._connect_reader()
            self._cursor = self._reader.cursor()

    def _read(
        self,
        sql: str,
        args: Sequence[Any],
        collection: Collection | None = None,
        *,
        take: Callable[[apsw.Cursor], Rows] | None = None,
    ) -> Rows:
        if self._reader is None:
            raise Unavailable("The store is closed.", code="stopping", retry_after_s=1)
        try:
            if take is None:
                return self._cursor.execute(sql, tuple(args)).fetchall()
            with closing(self._reader.cursor()) as cursor:
                return take(cursor.execute(sql, tuple(args)))
        except apsw.Error as error:
            raise self._answer(error, collection) from error
        except (UnicodeError, OverflowError) as error:
            raise unstorable(error) from None

    def _answer(self, error: apsw.Error, collection: Collection | None = None) -> Exception:
        """A fault in words for the client; an error in our own SQL stays what it is."""
        fault: SnackBaseError | None = storage_fault(error)
        if fault is not None and fault.code == DAMAGED:
            self._damage.found()
        if fault is None and collection is not None and isinstance(error, apsw.SQLError):
            rows = self._cursor.execute("SELECT version FROM _collections WHERE id = ?", (collection.id,)).fetchall()
            if rows != [(collection.version,)]:
                name = collection.name
                fault = Unavailable(f"The collection {name} is being changed.", code="schema_changed", retry_after_s=1)
        return fault or error


def _some(found: apsw.Cursor) -> Rows:
    """The rest is left; the cursor is closed afterwards, so that its read transaction ends."""
    return list(enough(found))
