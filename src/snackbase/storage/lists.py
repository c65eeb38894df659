"""Lists of records, in a few threads with a connection each: what is user-shaped must not hold the event loop.

A list is items, total and head in one read transaction (invariant I4), under a deadline that counts from the request:
an unindexed filter over many rows ends with Unavailable (`query_timeout`) instead of holding a thread. Accounts take
turns, so that one whose lists are slow does not hold all threads.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import apsw

from snackbase.errors import BadRequest, Unavailable
from snackbase.model import Head
from snackbase.storage.base import WEIGHED_FROM, Page, Query, Scales
from snackbase.storage.deadline import Deadline, Late
from snackbase.storage.schema import quoted
from snackbase.storage.statements import READ_PLACE, Table
from snackbase.storage.turns import Turns

T = TypeVar("T")

PROGRESS_STEPS = 20_000
"""Instructions of SQLite's machine between two looks at the clock: well under a millisecond."""
MOST_WAITING = 256
MOST_WAITING_EACH = 64
"""Of one account."""


class Select:
    """The SQL of one query: numbered placeholders, so that `where` may bind in any order."""

    def __init__(self, query: Query, table: Table) -> None:
        self.args: list[Any] = [query.account_id]
        self._known = frozenset(table.codec.columns)
        conditions = ["account_id = ?1"]
        if query.where is not None:
            conditions.append(f"({query.where(self._column, self._param)})")
        source = f"FROM {table.name} WHERE {' AND '.join(conditions)}"
        order = [f"{self._column(name)} {'DESC' if down else 'ASC'}" for name, down in query.sort]
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
        self.args.append(value)
        return f"?{len(self.args)}"


class Lists:
    """The pool."""

    def __init__(self, open_reader: Callable[[], apsw.Connection], *, threads: int, timeout_s: float) -> None:
        self._open_reader = open_reader
        self._timeout_s = timeout_s
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="snackbase-list")
        self._idle: deque[apsw.Connection] = deque()
        self._turns = Turns(at_once=threads, waiting=MOST_WAITING, waiting_each=MOST_WAITING_EACH)
        self.waiting = 0

    async def run(self, query: Query, table: Table) -> Page:
        """The page.

        Raises:
            Unavailable: `query_timeout`, or `overloaded` when too many lists wait. TooLarge: `page_too_large`.
            apsw.Error: a fault.
        """
        select = Select(query, table)
        return await self._call(query.account_id, lambda cursor: _page(cursor, query, table, select))

    async def count(self, table: Table, account_id: str | None) -> int:
        """How many records the table holds, of one account or of all. Raises as `run` does."""
        where, args = ("", ()) if account_id is None else (" WHERE account_id = ?", (account_id,))
        sql = f"SELECT count(*) FROM {table.name}{where}"  # noqa: S608 - quoted
        return await self._call(account_id or "", lambda cursor: _number(cursor.execute(sql, args).fetchall()))

    async def rows(self, owner: str, sql: str, args: Sequence[Any]) -> list[Any]:
        """The rows of a statement. Raises as `run` does."""
        return await self._call(owner, lambda cursor: cursor.execute(sql, args).fetchall())

    async def _call(self, owner: str, work: Callable[[apsw.Cursor], T]) -> T:
        deadline = Deadline(self._timeout_s)
        self.waiting += 1
        try:
            async with self._turns.turn(owner):
                return await asyncio.get_running_loop().run_in_executor(self._threads, self._read, work, deadline)
        finally:
            deadline.given_up = True
            self.waiting -= 1

    def forget_pages(self) -> None:
        """Go on with fresh connections."""
        # IndexError: a thread took the last one.
        with contextlib.suppress(IndexError):
            while True:
                self._idle.pop().close()

    def close(self) -> None:
        self._threads.shutdown(wait=True)
        while self._idle:
            self._idle.pop().close()

    def _read(self, work: Callable[[apsw.Cursor], T], deadline: Deadline) -> T:
        """On a thread of the pool: one read transaction on a connection of its own."""
        late = Unavailable("The query took too long.", code="query_timeout", retry_after_s=1)
        if deadline.passed():
            raise late
        connection = self._idle.pop() if self._idle else self._open_reader()
        try:
            connection.set_progress_handler(deadline.passed, PROGRESS_STEPS)
            cursor = connection.cursor()
            cursor.execute("BEGIN")
            with deadline.watched():
                return work(cursor)
        except (apsw.InterruptError, Late):
            raise late from None
        finally:
            connection.set_progress_handler(None)
            with contextlib.suppress(apsw.Error):
                if connection.in_transaction:
                    connection.execute("COMMIT")
            self._idle.append(connection)


def _number(rows: list[Any]) -> int:
    return int(rows[0][0])


def _rows(found: apsw.Cursor, limit: int) -> list[Any]:
    """Raises TooLarge."""
    if limit <= WEIGHED_FROM:
        return found.fetchall()
    rows, scales = [], Scales()
    for row in found:
        scales.add(row)
        rows.append(row)
    return rows


def _page(cursor: apsw.Cursor, query: Query, table: Table, select: Select) -> Page:
    places: list[Any] = cursor.execute(READ_PLACE, (query.account_id,)).fetchall()
    rows = _rows(cursor.execute(select.items, select.args), query.limit)
    total: int | None = None
    if query.total:
        if query.beyond is None and len(rows) < query.limit and (rows or not query.skip):
            total = query.skip + len(rows)
        else:
            total = _number(cursor.execute(select.count, select.count_args).fetchall())
    seq, ts_us, version = places[0] if places else (0, 0, 0)
    items = tuple(map(table.codec.record, rows))
    return Page(items=items, total=total, head=Head(seq, ts_us), version=int(version))
