"""`PostgresStore`: a PostgreSQL database behind the `Store` seam, shared by as many nodes as there are (step 4).

Owns a connection that writes, a pool that reads, one that listens and one that keeps the log in bounds. Promises what
the seam promises, over all nodes: numbers are gapless and in commit order whoever commits; a schema is one for all.
"""

import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import asyncpg

from snackbase.model import Change, Collection, Head, Record
from snackbase.storage.base import Changes, Committed, Page, Query, Rows, SchemaChange, Transaction, Window
from snackbase.storage.changelog import change_of, enough
from snackbase.storage.codec import unstorable
from snackbase.storage.definitions import read_collections
from snackbase.storage.group import Item
from snackbase.storage.postgres.alter import Changer, prepare_database
from snackbase.storage.postgres.epoch import History
from snackbase.storage.postgres.keeper import Keeper
from snackbase.storage.postgres.link import LOST, Connection, Server, closed, drive, fault_of, rows_of
from snackbase.storage.postgres.listener import Listener
from snackbase.storage.postgres.reads import OUTDATED, Reads, changing
from snackbase.storage.postgres.run import answer_to
from snackbase.storage.postgres.writer import Writer
from snackbase.storage.retention import Retention
from snackbase.storage.sqlite import wall_clock_us
from snackbase.storage.statements import (
    READ_CHANGES,
    READ_HEAD,
    READ_HEADS,
    READ_VERSION,
    READ_WINDOW,
    RIGHTS_CHANGED,
    Tables,
    window_of,
)
from snackbase.storage.waiting import Waiting

_EPOCH_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"


class PostgresStore:
    """A database.

    Args:
        url: postgresql://…; direct_url: past a transaction pooler that stands before it, "" = there is none.
        pool_size: connections for reads; lists: how many of them lists may have at once.
        queue_length, queue_bytes, queue_account_length, query_timeout_s, retention, now_us: as SQLiteStore's.
        notify: tell other nodes by NOTIFY; a bus may do it instead.
    """

    dialect = "postgres"

    def __init__(
        self,
        url: str,
        *,
        direct_url: str = "",
        pool_size: int = 10,
        lists: int = 6,
        queue_length: int = 10_000,
        queue_bytes: int = 64 << 20,
        queue_account_length: int = 5_000,
        query_timeout_s: float = 5.0,
        retention: Retention | None = None,
        now_us: Callable[[], int] = wall_clock_us,
    ) -> None:
        self.epoch = ""
        self.on_commit: Callable[[Sequence[Change]], None] = lambda _changes: None
        self.on_schema: Callable[[int, tuple[Collection, ...]], None] = lambda _version, _collections: None
        self.on_hint: Callable[[Mapping[str, int]], None] = lambda _heads: None
        self.on_break: Callable[[], None] = lambda: None
        self._now_us = now_us
        self._version = -1
        self._server = Server(url=url, direct_url=direct_url)
        self._tables = Tables(locks=True)
        self._reads = Reads(self._server, size=max(2, pool_size), lists=max(1, lists), timeout_s=query_timeout_s)
        waiting: Waiting[Item] = Waiting(length=queue_length, size=queue_bytes, account_length=queue_account_length)
        self._listener = Listener(
            self._server, secrets.token_hex(4), hint=lambda heads: self.on_hint(heads), schema=self._look_for_schema
        )
        self._history = History(lambda: self.on_break())
        self._keeper = Keeper(self._server, retention or Retention(), now_us)
        self._changer = Changer(self._server, now_us)
        self._writer = Writer(
            self._server,
            waiting=waiting,
            now_us=now_us,
            announce=self._listener.announcement,
            committed=self._committed,
            adopted=self._adopted,
            history=self._history,
        )

    async def open(self) -> None:
        """Connect; make or migrate what is missing; begin to write and to listen.

        Raises:
            ConfigError: the database is a newer program's, or cannot be used. Unavailable: it cannot be reached.
        """
        await self._server.check_sessions()
        new_epoch = "".join(secrets.choice(_EPOCH_ALPHABET) for _ in range(6))
        connection: Connection | None = None
        try:
            connection = await self._server.connect(direct=True)
            self.epoch, version, collections = await prepare_database(
                connection, self._history, new_epoch, self._now_us()
            )
        except (asyncpg.PostgresError, *LOST) as error:
            raise fault_of(error) or error from error
        finally:
            await closed(connection)
        self._version = version
        await self._writer.open(version, collections)
        await self._listener.open()
        await self._keeper.open()

    @property
    def lineage(self) -> str:
        return f"{self.epoch}.{self._history.timeline}"

    async def close(self) -> None:
        """Commit and announce what waits, then let go of every connection."""
        await self._keeper.close()
        await self._writer.close()
        await self._listener.close()
        await self._reads.close()

    async def write(self, transaction: Transaction) -> Committed:
        return await self._writer.write(transaction)

    async def alter(self, change: SchemaChange) -> Collection | None:
        try:
            after, version, collections = await self._changer.alter(change, self._listener.announce_schema)
        except (asyncpg.PostgresError, *LOST) as error:
            raise fault_of(error) or answer_to(error) from error
        self._writer.adopt(version, collections)
        return after

    async def version(self) -> int:
        return int((await self._reads.rows(READ_VERSION))[0][0])

    async def collections(self) -> tuple[int, tuple[Collection, ...]]:
        return await self._reads.snapshot("", lambda connection: drive(connection, read_collections()))

    async def get(self, collection: Collection, account_id: str, record_id: str) -> Record | None:
        """The record, or None.

        Raises:
            Unavailable: code `schema_changed`: the definition is older than the table.
        """
        table = self._tables.of(collection)
        try:
            rows = await self._read(table.select, (record_id, account_id))
        except OUTDATED as error:
            raise changing(collection) from error
        return table.codec.record(rows[0]) if rows else None

    async def list(self, query: Query) -> Page:
        try:
            return await self._reads.page(query, self._tables.of(query.collection))
        except OUTDATED as error:
            raise changing(query.collection) from error
        except (UnicodeError, OverflowError) as error:
            raise unstorable(error) from None
        except asyncpg.DataError as error:
            raise unstorable(error) from None

    async def count(self, collection: Collection, account_id: str | None = None) -> int:
        where, args = ("", ()) if account_id is None else (" WHERE account_id = ?", (account_id,))
        sql = f"SELECT count(*) FROM {self._tables.of(collection).name}{where}"  # noqa: S608 - quoted
        try:
            return int((await self.scan(account_id, sql, args))[0][0])
        except OUTDATED as error:
            raise changing(collection) from error

    async def head(self, account_id: str) -> Head:
        rows = await self._read(READ_HEAD, (account_id,))
        return Head(rows[0][1], rows[0][2]) if rows else Head(0, 0)

    async def heads(self, account_ids: Sequence[str]) -> dict[str, Head]:
        """Heads of those accounts that exist."""
        wanted = READ_HEADS.replace("json_each(?) wanted", "unnest(?::text[]) wanted(value)")
        rows = await self._read(wanted, (list(account_ids),))
        return {account_id: Head(seq, ts_us) for account_id, seq, ts_us in rows}

    async def read_changes(self, account_id: str, after: int, limit: int) -> Changes:
        rows = await self._read(READ_CHANGES, (account_id, after, limit))
        return [change_of(account_id, row) for row in enough(rows)]

    async def window(self, account_id: str, seq: int) -> Window:
        return window_of(await self._read(READ_WINDOW, (account_id, seq)))

    async def rights_changed(self, account_id: str, after: int, subject: str) -> bool:
        return bool(await self._read(RIGHTS_CHANGED, (account_id, after, subject)))

    async def fetch(self, sql: str, args: Sequence[Any] = ()) -> Rows:
        return await self._read(sql, args)

    async def scan(self, account_id: str | None, sql: str, args: Sequence[Any] = ()) -> Rows:
        if any(isinstance(value, str) and "\0" in value for value in args):
            # No text in the database has it, so no row is meant.
            return [(0,)] if sql.startswith("SELECT count(*)") else []

        async def read(connection: Connection) -> Rows:
            return await rows_of(connection, sql, args)

        return await self._reads.snapshot(account_id or "", read)

    def stats(self) -> Mapping[str, float]:
        return {
            **self._writer.stats(),
            **self._keeper.stats(),
            "lists_waiting": self._reads.waiting,
            "listening": int(self._listener.connected),
            "hints": self._listener.received,
        }

    async def _read(self, sql: str, args: Sequence[Any]) -> Rows:
        try:
            return await self._reads.rows(sql, args)
        except (UnicodeError, OverflowError) as error:
            raise unstorable(error) from None

    def _committed(self, changes: Sequence[Change], size: int) -> None:
        self._keeper.note(len(changes), size)
        self.on_commit(changes)

    def _adopted(self, version: int, collections: tuple[Collection, ...]) -> None:
        if version > self._version:
            self._version = version
            self.on_schema(version, collections)

    async def _look_for_schema(self) -> None:
        """Another node said that it changed something, or may have."""
        if await self.version() > self._version:
            self._writer.adopt(*await self.collections())
