"""Reads on PostgreSQL: a pool of connections, one statement for what is short, one snapshot for a list.

A list is items, total and head in one REPEATABLE READ transaction (invariant I4), under a deadline that the server
keeps; accounts take turns. A statement that met a table being changed is read again once.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import asyncpg

from snackbase.config import ConfigError
from snackbase.errors import BadRequest, TooLarge, Unavailable
from snackbase.model import Collection, Head
from snackbase.storage.base import WEIGHED_FROM, Page, Query, Rows, Scales
from snackbase.storage.lists import MOST_WAITING, MOST_WAITING_EACH
from snackbase.storage.postgres.link import (
    AGAIN,
    LATE,
    LOST,
    Connection,
    Server,
    closed,
    fault_of,
    rows_of,
    translated,
    unsearchable,
)
from snackbase.storage.schema import quoted
from snackbase.storage.statements import READ_PLACE, Table
from snackbase.storage.turns import Turns

T = TypeVar("T")

# A node that stands still in the middle of a list must not keep the database from tidying up after everybody's writes.
SNAPSHOT = """BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = %d;
    SET LOCAL idle_in_transaction_session_timeout = 5000"""
PREFETCH = 200
SHORT_S = 5.0
"""A short read takes longer only when the server does not answer."""


class Pool:
    """Connections for reads, made when needed, at most so many; who finds none free waits a while."""

    def __init__(self, server: Server, *, size: int) -> None:
        self._server = server
        self._free = asyncio.Semaphore(size)
        self._idle: list[Connection] = []
        self._open = True
        self.waiting = 0

    async def close(self) -> None:
        self._open = False
        while self._idle:
            await closed(self._idle.pop())

    async def use(self, work: Callable[[Connection], Awaitable[T]], *, within_s: float = SHORT_S) -> T:
        """Run something on a connection that nobody else uses meanwhile.

        Raises:
            Unavailable: `overloaded`: none became free. What `work` raises; the connection is closed then, unless the
            server answered with an error of that statement.
        """
        if not self._open:
            raise Unavailable("The store is closed.", code="stopping", retry_after_s=1)
        self.waiting += 1
        try:
            async with asyncio.timeout(within_s):
                await self._free.acquire()
        except TimeoutError:
            raise Unavailable("Too many reads are waiting.", code="overloaded", retry_after_s=1) from None
        finally:
            self.waiting -= 1
        connection: Connection | None = None
        sound = False
        try:
            connection = await self._take()
            result = await work(connection)
            sound = True
            return result
        except asyncpg.PostgresError as error:
            sound = not isinstance(error, LOST) and fault_of(error) is None
            raise
        except (BadRequest, TooLarge, UnicodeError, OverflowError):
            sound = True
            raise
        finally:
            self._free.release()
            await self._give_back(connection, sound=sound)

    async def _take(self) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed():
                return connection
        return await self._server.connect(timeout_s=None)

    async def _give_back(self, connection: Connection | None, *, sound: bool) -> None:
        if connection is None:
            return
        if sound and self._open and not connection.is_closed() and not connection.is_in_transaction():
            self._idle.append(connection)
        else:
            connection.terminate()


class Select:
    """The SQL of one query. Null comes before every value, as in SQLite; texts are compared by code point."""

    def __init__(self, query: Query, table: Table) -> None:
        self.args: list[Any] = [query.account_id]
        self._known = frozenset(table.codec.columns)
        conditions = ["account_id = $1"]
        if query.where is not None:
            conditions.append(f"({query.where(self._column, self._param)})")
        source = f"FROM {table.name} WHERE {' AND '.join(conditions)}"
        order = [
            f"{self._column(name)} {'DESC NULLS LAST' if down else 'ASC NULLS FIRST'}" for name, down in query.sort
        ]
        if all(name != "id" for name, _ in query.sort):
            order.append("id")
        self.count = f"SELECT count(*) {source}"
        self.count_args = tuple(self.args)
        if query.beyond is not None:
            source += f" AND ({query.beyond(self._column, self._param)})"
        place = f"LIMIT {self._param(query.limit)} OFFSET {self._param(query.skip)}"
        self.items = f"SELECT {table.columns} {source} ORDER BY {', '.join(order)} {place}"

    def _column(self, name: str) -> str:
        if name not in self._known:
            raise BadRequest(f"There is no field {name}.", code="unknown_field")
        return quoted(name)

    def _param(self, value: object) -> str:
        if isinstance(value, str) and "\0" in value:
            raise unsearchable()
        self.args.append(value)
        return f"${len(self.args)}"


class Reads:
    """Everything that is read."""

    def __init__(self, server: Server, *, size: int, lists: int, timeout_s: float) -> None:
        self._pool = Pool(server, size=size)
        self._pooled = server.pooled
        self._timeout_s = timeout_s
        self._turns = Turns(at_once=lists, waiting=MOST_WAITING, waiting_each=MOST_WAITING_EACH)

    @property
    def waiting(self) -> int:
        return self._pool.waiting + self._turns.waiting

    async def close(self) -> None:
        await self._pool.close()

    async def rows(self, sql: str, args: Sequence[Any] = ()) -> Rows:
        """One short statement."""
        for value in args:
            if isinstance(value, str) and "\0" in value:
                # No text in the database has it, so no row is meant.
                return []

        async def read(connection: Connection) -> Rows:
            if not self._pooled:
                return [tuple(row) for row in await connection.fetch(translated(sql), *args, timeout=SHORT_S)]
            # A pooler gives a statement and its values to one server only within a transaction.
            async with connection.transaction(readonly=True):
                return [tuple(row) for row in await connection.fetch(translated(sql), *args, timeout=SHORT_S)]

        try:
            return await self._answered(self._pool.use(read))
        except LATE:
            # By the database's owner: a limit for all statements, or a hand.
            raise _late() from None

    async def snapshot(self, owner: str, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Several statements over one state of the database, under the deadline, in turn between owners."""

        async def read(connection: Connection) -> T:
            await connection.execute(SNAPSHOT % int(self._timeout_s * 1000))
            try:
                return await work(connection)
            except AGAIN:
                await connection.reload_schema_state()
                raise
            finally:
                if not connection.is_closed():
                    await connection.execute("ROLLBACK")

        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeout_s
        try:
            async with asyncio.timeout_at(deadline + 1), self._turns.turn(owner):
                try:
                    return await self._answered(self._pool.use(read, within_s=self._timeout_s))
                except AGAIN:
                    return await self._answered(self._pool.use(read, within_s=self._timeout_s))
        except (LATE, TimeoutError):
            raise _late() from None

    async def page(self, query: Query, table: Table) -> Page:
        """A list. Raises Unavailable: `query_timeout`, `overloaded`, a fault."""
        select = Select(query, table)

        async def read(connection: Connection) -> Page:
            places = await rows_of(connection, READ_PLACE, (query.account_id,))
            rows = await _rows(connection, select, query.limit)
            total: int | None = None
            if query.total:
                if query.beyond is None and len(rows) < query.limit and (rows or not query.skip):
                    total = query.skip + len(rows)
                else:
                    total = int(await connection.fetchval(select.count, *select.count_args))
            seq, ts_us, version = places[0] if places else (0, 0, 0)
            items = tuple(table.codec.record(tuple(row)) for row in rows)
            return Page(items=items, total=total, head=Head(seq, ts_us), version=int(version))

        return await self.snapshot(query.account_id, read)

    async def _answered(self, reading: Awaitable[T]) -> T:
        """A fault of the server in words for the client."""
        try:
            return await reading
        except (LATE, ConfigError, *AGAIN):
            raise
        except (asyncpg.PostgresError, *LOST) as error:
            fault = fault_of(error)
            if fault is None:
                raise
            raise fault from error


async def _rows(connection: Connection, select: Select, limit: int) -> list[Any]:
    """The rows of a list's items, in pieces where they may be too large. Raises TooLarge."""
    if limit <= WEIGHED_FROM:
        return list(await connection.fetch(select.items, *select.args))
    rows, scales = [], Scales()
    async for row in connection.cursor(select.items, *select.args, prefetch=PREFETCH):
        scales.add(row)
        rows.append(row)
    return rows


def _late() -> Unavailable:
    return Unavailable("The query took too long.", code="query_timeout", retry_after_s=1)


def changing(collection: Collection) -> Unavailable:
    """A definition is older than the table."""
    name = collection.name
    return Unavailable(f"The collection {name} is being changed.", code="schema_changed", retry_after_s=1)


OUTDATED = (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError, *AGAIN)
