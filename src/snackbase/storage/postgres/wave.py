"""Many transactions in a few round trips: those that touch different records are read, judged and written together.

First every record concerned is locked and read in one statement a table, then the rules judge in Python, then there is
one pipelined statement for each distinct text. A transaction that is refused has changed nothing, so it costs nobody
anything. What a wave cannot do (statements, kept answers, deletes that others refer to, a record twice) goes one by
one.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from snackbase.errors import SnackBaseError
from snackbase.model import Op, Record
from snackbase.storage.definitions import Definitions
from snackbase.storage.group import Item
from snackbase.storage.postgres.link import Connection, translated
from snackbase.storage.postgres.numbers import Numbering
from snackbase.storage.postgres.schema import POSTGRES
from snackbase.storage.schema import indexes
from snackbase.storage.statements import Table
from snackbase.storage.transaction import (
    Row,
    Work,
    account_missing,
    created,
    draft_of,
    finish,
    judged,
    missing_reference,
    note_references,
    refusal,
    updated,
)

Key = tuple[str, str, str]
"""A record: collection id, account id, record id."""


class Member:
    """One transaction of a wave, and what it wants."""

    __slots__ = ("item", "keys", "work", "writes")

    def __init__(self, item: Item, keys: Sequence[Key]) -> None:
        self.item = item
        self.keys = keys
        self.work: Work | None = None
        self.writes: list[tuple[Table, Op, str, Sequence[Any]]] = []


class Sorter:
    """Decides who goes into the next wave: in the order in which each account asked, and no record twice."""

    def __init__(self, definitions: Definitions) -> None:
        self._definitions = definitions
        self._unique = {collection.id for collection in definitions.collections if _has_unique(collection)}

    def simple(self, item: Item) -> Sequence[Key] | None:
        """The records a transaction touches; None: it goes by itself."""
        transaction = item.prepared.transaction
        if transaction.statements or transaction.receipt is not None:
            return None
        keys = [(row.write.collection.id, transaction.account_id, row.write.record_id) for row in item.prepared.rows]
        if len(set(keys)) < len(keys):
            return None
        for row in item.prepared.rows:
            if row.write.op is Op.DELETE and row.write.collection.id in self._definitions.referrers:
                return None
        return [*keys, *self._referred(transaction.account_id, item.prepared.rows)]

    def _referred(self, account_id: str, rows: Iterable[Row]) -> list[Key]:
        keys = []
        for row in rows:
            table = self._definitions.tables.get(row.write.collection.id)
            if table is None or not table.has_references:
                continue
            for name, value in row.values.items():
                target = self._definitions.targets.get((table.collection.id, name))
                if target is not None and value is not None:
                    keys.append((target.collection.id, account_id, value))
        return keys

    def split(self, items: Sequence[Item]) -> tuple[list[Member], list[Item], list[Item]]:
        """(the next wave, those that then go one by one, those that come later)."""
        wave: list[Member] = []
        alone: list[Item] = []
        later: list[Item] = []
        held: set[str] = set()
        touched: set[Key] = set()
        ways: dict[tuple[str, str], bool] = {}
        for item in items:
            account_id = item.prepared.transaction.account_id
            if account_id in held:
                later.append(item)
                continue
            keys = self.simple(item)
            if keys is None:
                alone.append(item)
                held.add(account_id)
            elif touched.isdisjoint(keys) and self._fits(item, ways):
                touched.update(keys)
                wave.append(Member(item, keys))
            else:
                later.append(item)
                held.add(account_id)
        return wave, alone, later

    def _fits(self, item: Item, ways: dict[tuple[str, str], bool]) -> bool:
        """Unique values may be freed by one and taken by the next, so among those that have any only creates share."""
        account_id = item.prepared.transaction.account_id
        wanted: dict[tuple[str, str], bool] = {}
        for row in item.prepared.rows:
            if row.write.collection.id in self._unique:
                place = (row.write.collection.id, account_id)
                wanted[place] = wanted.get(place, True) and row.write.op is Op.CREATE
        for place, creating in wanted.items():
            if place in ways and not (creating and ways[place]):
                return False
        ways.update(wanted)
        return True


def _has_unique(collection: Any) -> bool:
    return any(index.unique for index in indexes(collection, POSTGRES).values())


class Wave:
    """Carries out one wave, in the caller's transaction and under its savepoint."""

    def __init__(
        self, connection: Connection, definitions: Definitions, numbering: Numbering, members: Sequence[Member]
    ) -> None:
        self._connection = connection
        self._definitions = definitions
        self._numbering = numbering
        self._members = members
        self._records: dict[Key, Record] = {}

    async def read(self) -> None:
        """Lock and read every record that is changed, in the order of ids."""
        wanted: dict[str, list[Key]] = {}
        for member in self._members:
            for row, key in zip(member.item.prepared.rows, member.keys, strict=False):
                if row.write.op is not Op.CREATE and key[0] in self._definitions.tables:
                    wanted.setdefault(key[0], []).append(key)
        for collection_id in sorted(wanted):
            await self._lock(self._definitions.tables[collection_id], wanted[collection_id])

    async def _lock(self, table: Table, keys: Sequence[Key]) -> None:
        rows = await self._connection.fetch(lock_text(table, " FOR UPDATE"), *_pairs(keys))
        for row in rows:
            record = table.codec.record(tuple(row))
            self._records[table.collection.id, record["account_id"], record["id"]] = record

    def judge(self, now_us: int) -> list[Member]:
        """Have the rules judge; those that go on. The others have their error."""
        return [member for member in self._members if self._judge_one(member, now_us)]

    def _judge_one(self, member: Member, now_us: int) -> bool:
        prepared = member.item.prepared
        try:
            slot = self._numbering.place(prepared.transaction.account_id)
            if slot is None and (prepared.rows or prepared.transaction.controls):
                raise account_missing()
            work = Work.begin(prepared.transaction, slot, now_us)
            for part, row in enumerate(prepared.rows):
                try:
                    self._one(member, row, work)
                except SnackBaseError as error:
                    error.part = part
                    raise
            finish(work)
        except Exception as error:
            member.item.error = refusal(error)
            return False
        member.work = work
        return True

    def _one(self, member: Member, row: Row, work: Work) -> None:
        write = row.write
        table = self._definitions.current(write.collection)
        if write.op is Op.CREATE:
            record, columns = created(table, row, work)
            member.writes.append((table, Op.CREATE, table.insert, columns))
            note_references(table, row.values, work)
            work.note(draft_of(Op.CREATE, table, record))
            work.written.append(record)
            return
        key = (table.collection.id, work.transaction.account_id, write.record_id)
        before = judged(table, write, self._records.get(key))
        if write.op is Op.DELETE:
            where = (write.record_id, work.transaction.account_id)
            member.writes.append((table, Op.DELETE, table.delete, where))
            work.note(draft_of(Op.DELETE, table, before))
            work.written.append(before)
            return
        values = table.codec.changed(before, row.values)
        if values:
            bound = row.bound if len(values) == len(row.values) else table.codec.bind(values)
            note_references(table, values, work)
            before, sql, changes = updated(table, before, values, bound, work)
            member.writes.append((table, Op.UPDATE, sql, changes))
        work.written.append(before)

    async def refer(self, members: Sequence[Member]) -> list[Member]:
        """Look whether what they refer to is there, and keep it there; those that go on."""
        wanted: dict[str, set[Key]] = {}
        for member in members:
            for _, target, key in self._references(member):
                if target is not None:
                    wanted.setdefault(target.name, set()).add(key)
        there = set()
        for collection_id in sorted({key[0] for keys in wanted.values() for key in keys}):
            table = self._definitions.tables[collection_id]
            keys = sorted(wanted[table.name])
            text = reference_text(table)
            for record_id, account_id in await self._connection.fetch(text, *_pairs(keys)):
                there.add((collection_id, account_id, record_id))
        return [member for member in members if self._refers_well(member, there)]

    def _references(self, member: Member) -> Iterable[tuple[tuple[int, str], Table | None, Key]]:
        work = member.work
        for part, table, field, record_id in work.referring if work is not None else ():
            target = self._definitions.targets.get((table.collection.id, field))
            collection_id = "" if target is None else target.collection.id
            yield (part, field), target, (collection_id, member.item.prepared.transaction.account_id, record_id)

    def _refers_well(self, member: Member, there: set[Key]) -> bool:
        own = {
            key for key, row in zip(member.keys, member.item.prepared.rows, strict=False) if row.write.op is Op.CREATE
        }
        for (part, field), _, key in self._references(member):
            if key not in there and key not in own:
                member.item.error = missing_reference(field, part)
                return False
        return True

    async def write(self, members: Sequence[Member]) -> None:
        """Carry out what was judged well: what goes first, then what changes, then what is new."""
        texts: dict[tuple[int, str], list[Sequence[Any]]] = {}
        order = {Op.DELETE: 0, Op.UPDATE: 1, Op.CREATE: 2}
        for member in members:
            for _, op, sql, args in member.writes:
                texts.setdefault((order[op], sql), []).append(args)
        for key in sorted(texts, key=lambda key: key[0]):
            await self._connection.executemany(translated(key[1]), texts[key])


def _pairs(keys: Iterable[Key]) -> tuple[list[str], list[str]]:
    wanted = list(keys)
    return [record_id for _, _, record_id in wanted], [account_id for _, account_id, _ in wanted]


def lock_text(table: Table, lock: str) -> str:
    """Records by (ids, accounts), locked in the order of their ids."""
    return (
        f"SELECT {table.columns} FROM {table.name} WHERE (id, account_id) IN"  # noqa: S608 - quoted names
        f" (SELECT * FROM unnest($1::text[], $2::text[])) ORDER BY id, account_id{lock}"
    )


def reference_text(table: Table) -> str:
    """Whether records are there; they cannot go before the transaction ends."""
    return (
        f"SELECT id, account_id FROM {table.name} WHERE (id, account_id) IN"  # noqa: S608 - quoted names
        " (SELECT * FROM unnest($1::text[], $2::text[])) ORDER BY id, account_id FOR KEY SHARE"
    )
