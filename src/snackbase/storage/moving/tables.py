"""What is moved, in which words both databases mean the same, and how two copies of a table are compared.

Owns the list of tables. Promises: a row in this form is equal on both sides exactly when its values are, to the last
bit; the sum of a table does not depend on the order in which it is read. Must not know a database.
"""

from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

import msgspec

from snackbase.model import SYSTEM_FIELDS, Collection, FieldType
from snackbase.storage.schema import Dialect

Row = tuple[Any, ...]

SYSTEM = (
    "_accounts",
    "_roles",
    "_users",
    "_logins",
    "_groups",
    "_invitations",
    "_api_keys",
    "_idempotency",
    "_heads",
    "_collections",
)
LEFT = ("_changes", "_meta")
"""Not moved: a new history begins, in which the log's positions are not good."""
PRUNED = {"floor_seq": "seq", "floor_ts_us": "ts_us", "bytes": "0"}
"""Of a head: numbers and times go on from where they were, but nothing before is kept."""
MEANT_FOR = {FieldType.NUMBER: float, FieldType.BOOLEAN: bool}


class MoveRefused(Exception):
    """Nothing was moved; the message says why and what to do."""


class Moved(NamedTuple):
    """One table.

    Attributes:
        name, columns: as in the database that is written. source: the table's name where it is read.
        types: what a value of each column is, besides None; None = as it comes.
        keys: how many of the columns name a row. read: what is selected for each column where it is read.
    """

    name: str
    source: str
    columns: tuple[str, ...]
    types: tuple[type | None, ...]
    keys: int
    read: tuple[str, ...]


class Sum(NamedTuple):
    """How many rows, and the sum of their hashes."""

    rows: int
    hashes: int


Report = Callable[[str, str, int, int], None]
"""moving | moved | comparing | compared, the table, its rows so far and in all: for somebody who waits."""


def table_of(collection: Collection, name: str) -> Moved:
    """The table of a collection, `name` where it is written."""
    fields = {field.name: field for field in collection.fields}
    columns = ("id", *SYSTEM_FIELDS[1:], *fields)
    types = tuple(MEANT_FOR.get(fields[name].type, str) if name in fields else str for name in columns)
    return Moved(name, collection.table, columns, types, 2, columns)


def system_table(name: str, columns: Sequence[str]) -> Moved:
    """A table that both databases have under one name; its first column names a row well enough."""
    read = tuple(PRUNED.get(column, column) if name == "_heads" else column for column in columns)
    return Moved(name, name, tuple(columns), (None,) * len(columns), 1, read)


def moved_collection(collection: Collection, dialect: Dialect) -> Collection:
    """The definition where it is written: a table's name may have to be shorter."""
    return msgspec.structs.replace(collection, table=dialect.named(collection.table))


def collection_row(collection: Collection, columns: Sequence[str]) -> Row:
    """The row of `_collections` of a definition."""
    values = msgspec.structs.asdict(collection)
    values["table_name"] = collection.table
    values["definition"] = msgspec.json.encode(collection).decode()
    return tuple(values[column] for column in columns)


def fitting(table: Moved) -> Callable[[Row], Row]:
    """Brings a row as a database gives it into the form that is compared and written. Raises MoveRefused."""
    types = table.types

    def fit(row: Row) -> Row:
        return tuple(
            value if value is None or meant is None or type(value) is meant else _as_meant(table, row, place, value)
            for place, (value, meant) in enumerate(zip(row, types, strict=True))
        )

    return fit


def _as_meant(table: Moved, row: Row, place: int, value: Any) -> Any:
    meant = table.types[place]
    if type(value) in (int, float) and meant in (float, bool):
        return meant(value)
    where = f"{table.source}, {name_of(table, row)}, {table.columns[place]}"
    kind = {str: "text", float: "a number", bool: "true or false"}.get(meant or str)
    raise MoveRefused(f"A value is not {kind} as its field says: {where}. Correct it, then move again.")


def name_of(table: Moved, row: Row) -> str:
    """How a row is named to somebody who looks for it."""
    pairs = zip(table.columns[: table.keys], row, strict=False)
    return " ".join(f"{column} {str(value)[:64]!r}" for column, value in pairs)


class Summing:
    """Adds up the rows of a table."""

    __slots__ = ("_encode", "_hashes", "rows")

    def __init__(self) -> None:
        self._encode = msgspec.msgpack.Encoder().encode
        self._hashes = 0
        self.rows = 0

    def add(self, row: Row) -> None:
        self.rows += 1
        self._hashes += int.from_bytes(blake2b(self._encode(row), digest_size=16).digest())

    @property
    def sum(self) -> Sum:
        return Sum(self.rows, self._hashes % 2**128)
