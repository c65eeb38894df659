"""The move itself: read, write, read back, compare, and only then commit.

Promises: the target is whole or empty, whenever this ends and however; what is committed was read back from the target
and is equal to what was read at the source, row by row; no more than a few records are in memory at once.
"""

from collections.abc import AsyncIterator, Iterable

from snackbase.model import Collection
from snackbase.storage.moving.folder import FolderSource, FolderTarget
from snackbase.storage.moving.server import ServerSource, ServerTarget, TooLongForIndex
from snackbase.storage.moving.tables import (
    SYSTEM,
    Moved,
    MoveRefused,
    Report,
    Row,
    Sum,
    Summing,
    collection_row,
    moved_collection,
    name_of,
    system_table,
    table_of,
)
from snackbase.storage.postgres.schema import POSTGRES

EVERY = 1000
Source = FolderSource | ServerSource
Target = FolderTarget | ServerTarget


class Move:
    """One move.

    Args:
        report: told how far it is.
    """

    def __init__(self, source: Source, target: Target, report: Report) -> None:
        self._source = source
        self._target = target
        self._strict = target.dialect is POSTGRES
        self._report = report
        self._sums: dict[str, Sum] = {}

    async def run(self) -> dict[str, Sum]:
        """Carry it out; the sum of every table.

        Raises:
            MoveRefused, ConfigError, Unavailable, OSError: nothing was kept of it. Unavailable with
                code `outcome_unknown`: nobody knows.
        """
        source, target = self._source, self._target
        try:
            await source.open()
            version, definitions = await source.definitions()
            moved = [moved_collection(one, target.dialect) for one in definitions]
            tables = [table_of(was, one.table) for was, one in zip(definitions, moved, strict=True)]
            await target.open(await source.epoch())
            system = await self._system(moved)
            for one, table in zip(moved, tables, strict=True):
                await target.make(one)
                await self._fill(table, source.rows(table), await source.count(table))
                await self._index(one, table)
            for table in (*system, *tables):
                await self._compare(table)
            await target.finish(version)
        finally:
            await target.close()
            await source.close()
        return self._sums

    async def _system(self, moved: list[Collection]) -> list[Moved]:
        tables = []
        for name in SYSTEM:
            columns = await self._target.columns(name)
            table = system_table(name, columns)
            if name == "_collections":
                await self._fill(table, _each([collection_row(one, columns) for one in moved]), len(moved))
            else:
                await self._fill(table, self._source.rows(table), await self._source.count(table))
            tables.append(table)
        return tables

    async def _fill(self, table: Moved, rows: AsyncIterator[Row], total: int) -> None:
        summing = Summing()

        async def passing() -> AsyncIterator[Row]:
            async for row in rows:
                if self._strict and any(type(value) is str and "\0" in value for value in row):
                    raise MoveRefused(
                        f"A text of {table.source} holds U+0000, which PostgreSQL cannot keep: {name_of(table, row)}. "
                        "Correct it, then move again."
                    )
                summing.add(row)
                if summing.rows % EVERY == 0:
                    self._report("moving", table.name, summing.rows, total)
                yield row

        await self._target.fill(table, passing())
        self._sums[table.name] = summing.sum
        self._report("moved", table.name, summing.rows, summing.rows)

    async def _index(self, collection: Collection, table: Moved) -> None:
        try:
            await self._target.index(collection)
        except TooLongForIndex as error:
            named = self._source.longest(table, error.fields) if isinstance(self._source, FolderSource) else ""
            raise MoveRefused(
                f"A value of {collection.name} is too long for PostgreSQL's index over {', '.join(error.fields)}, "
                f"which takes about 2,700 bytes: {named}. Shorten it, or drop that index or `unique`, then move again."
            ) from None

    async def _compare(self, table: Moved) -> None:
        summing, sent = Summing(), self._sums[table.name]
        async for row in self._target.rows(table):
            summing.add(row)
            if summing.rows % EVERY == 0:
                self._report("comparing", table.name, summing.rows, sent.rows)
        if summing.sum != sent:
            counts = f"{sent.rows} rows were sent and {summing.rows} arrived"
            raise MoveRefused(f"{table.name} arrived changed ({counts}); nothing was kept of the move.")
        self._report("compared", table.name, summing.rows, sent.rows)


async def _each(rows: Iterable[Row]) -> AsyncIterator[Row]:
    for row in rows:
        yield row
