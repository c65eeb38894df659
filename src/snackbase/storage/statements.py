"""The SQL of one collection's table, built once per definition and reused as the same text for every write.

The same text each time is what the database's statement cache keys on; nothing is concatenated per write, except
updates, whose text is kept per set of changed columns. `?` placeholders; another dialect translates once, here.
"""

# ruff: noqa: S608 - every name in these texts is quoted and comes from a definition that was checked; values are bound.
from collections.abc import Iterable, Sequence
from typing import Any

from snackbase.model import Collection, FieldType, Head
from snackbase.storage.base import Window
from snackbase.storage.codec import Codec
from snackbase.storage.schema import quoted

READ_HEADS = """SELECT a.id, coalesce(h.seq, 0), coalesce(h.ts_us, 0) FROM json_each(?) wanted
    JOIN _accounts a ON a.id = wanted.value LEFT JOIN _heads h ON h.account = a.num"""
READ_HEAD = """SELECT a.num, coalesce(h.seq, 0), coalesce(h.ts_us, 0) FROM _accounts a
    LEFT JOIN _heads h ON h.account = a.num WHERE a.id = ?"""
READ_PLACE = """SELECT coalesce(h.seq, 0), coalesce(h.ts_us, 0), m.value FROM _accounts a CROSS JOIN _meta m
    LEFT JOIN _heads h ON h.account = a.num WHERE a.id = ? AND m.key = 'version'"""
"""An account's head and the version of schemas and rules: what a list is put beside."""
READ_CHANGES = """SELECT c.seq, c.ts_us, c.op, c.collection_id, c.schema_version, c.record_id, c.data, c.prev, c.tx_id,
    c.tx_index, c.tx_size, c.actor FROM _changes c
    WHERE c.account = (SELECT num FROM _accounts WHERE id = ?) AND c.seq > ? ORDER BY c.seq LIMIT ?"""
READ_WINDOW = """SELECT h.seq, h.ts_us, h.floor_seq, h.floor_ts_us, c.ts_us FROM _heads h
    LEFT JOIN _changes c ON c.account = h.account AND c.seq = ?2
    WHERE h.account = (SELECT num FROM _accounts WHERE id = ?1)"""
RIGHTS_CHANGED = """SELECT 1 FROM _changes WHERE account = (SELECT num FROM _accounts WHERE id = ?) AND seq > ?
    AND record_id = ? AND op = 'control' LIMIT 1"""
APPEND_CHANGE = """INSERT INTO _changes(account, seq, ts_us, op, collection_id, schema_version, record_id, data, prev,
    tx_id, tx_index, tx_size, actor) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
SET_HEAD = """INSERT INTO _heads(account, seq, ts_us, bytes) VALUES (?, ?, ?, ?)
    ON CONFLICT(account) DO UPDATE SET seq = excluded.seq, ts_us = excluded.ts_us,
    bytes = _heads.bytes + excluded.bytes"""
ROW_BYTES = 200
"""What a log row takes besides its two images: ids, numbers, the index."""
READ_LOG_SIZES = """SELECT h.account, h.seq, h.floor_seq, h.bytes, CASE WHEN h.seq - h.floor_seq > ?3 THEN
    (SELECT ts_us FROM _changes WHERE account = h.account AND seq = h.floor_seq + 1) END
    FROM _heads h WHERE h.account > ?1 ORDER BY h.account LIMIT ?2"""
LARGEST_LOGS = "SELECT account FROM _heads WHERE seq - floor_seq > ? ORDER BY bytes DESC LIMIT 16"
OLDEST_CHANGE = "SELECT ts_us FROM _changes ORDER BY id LIMIT 1"
READ_ENDS = "SELECT seq, floor_seq FROM _heads WHERE account = ?"
READ_CUT = """SELECT seq, tx_index, tx_size FROM _changes WHERE account = ? AND seq > ? AND seq <= ? AND ts_us < ?
    ORDER BY seq DESC LIMIT 1"""
_SIZE = f"sum({ROW_BYTES} + coalesce(octet_length(data), 0) + coalesce(octet_length(prev), 0))"
READ_SIZE = f"SELECT CAST({_SIZE} AS BIGINT), max(ts_us) FROM _changes WHERE account = ? AND seq > ? AND seq <= ?"
PRUNE_CHANGES = "DELETE FROM _changes WHERE account = ? AND seq <= ?"
SET_FLOOR = """UPDATE _heads SET floor_seq = ?1, floor_ts_us = ?2,
    bytes = CASE WHEN bytes > ?3 THEN bytes - ?3 ELSE 0 END WHERE account = ?4"""
READ_VERSION = "SELECT value FROM _meta WHERE key = 'version'"
SET_VERSION = "UPDATE _meta SET value = ? WHERE key = 'version'"
READ_COLLECTIONS = "SELECT definition FROM _collections ORDER BY lower(name)"
MOST_UPDATE_TEXTS = 64
MOST_TABLES = 2000


class Table:
    """One definition with its codec and its SQL texts.

    Args:
        locks: rows that a transaction reads are locked one by one (PostgreSQL); SQLite has locked everything.
    """

    __slots__ = (
        "_locking",
        "_updates",
        "codec",
        "collection",
        "delete",
        "exists",
        "has_references",
        "insert",
        "locked",
        "name",
        "select",
    )

    def __init__(self, collection: Collection, *, locks: bool = False) -> None:
        self.collection = collection
        self._locking = " FOR UPDATE" if locks else ""
        self.codec = Codec(collection.fields)
        self.name = quoted(collection.table)
        self.has_references = any(field.type is FieldType.REFERENCE for field in collection.fields)
        written = ("id", "account_id", "created_at", "created_by", "updated_at", "updated_by", *self.codec.names)
        columns, marks = ", ".join(map(quoted, written)), ", ".join("?" * len(written))
        self.insert = f"INSERT INTO {self.name}({columns}) VALUES ({marks})"
        self.select = f"SELECT {self.columns} FROM {self.name} WHERE id = ? AND account_id = ?"
        self.locked = self.select + self._locking
        # Whoever deletes what is referred to comes before or after, never beside.
        self.exists = f"SELECT 1 FROM {self.name} WHERE id = ? AND account_id = ?{' FOR KEY SHARE' if locks else ''}"
        self.delete = f"DELETE FROM {self.name} WHERE id = ? AND account_id = ?"
        self._updates: dict[tuple[str, ...], str] = {}

    @property
    def columns(self) -> str:
        """The selected columns, in the order the codec reads them."""
        return ", ".join(map(quoted, self.codec.columns))

    def update(self, names: Iterable[str]) -> str:
        """`UPDATE` of these columns, then updated_at and updated_by, of the record with id and account."""
        key = tuple(names)
        sql = self._updates.get(key)
        if sql is None:
            if len(self._updates) >= MOST_UPDATE_TEXTS:
                self._updates.clear()
            columns = ", ".join(f"{quoted(name)} = ?" for name in (*key, "updated_at", "updated_by"))
            sql = self._updates[key] = f"UPDATE {self.name} SET {columns} WHERE id = ? AND account_id = ?"
        return sql

    def referring(self, field: str) -> str:
        """The records of an account whose `field` holds an id, at most so many."""
        where = f"account_id = ? AND {quoted(field)} = ?"
        return f"SELECT {self.columns} FROM {self.name} WHERE {where} ORDER BY id LIMIT ?{self._locking}"


class Tables:
    """Tables by definition and version, so that hot paths build nothing. One per thread."""

    __slots__ = ("_known", "_locks")

    def __init__(self, *, locks: bool = False) -> None:
        self._locks = locks
        self._known: dict[tuple[str, int], Table] = {}

    def of(self, collection: Collection) -> Table:
        key = (collection.id, collection.version)
        table = self._known.get(key)
        if table is None:
            if len(self._known) >= MOST_TABLES:
                self._known.clear()
            table = self._known[key] = Table(collection, locks=self._locks)
        return table


def window_of(rows: Sequence[Sequence[Any]]) -> Window:
    """The rows of READ_WINDOW."""
    if not rows:
        return Window(head=Head(0, 0), floor=Head(0, 0), ts_us=None)
    head_seq, head_us, floor_seq, floor_us, ts_us = rows[0]
    return Window(head=Head(head_seq, head_us), floor=Head(floor_seq, floor_us), ts_us=ts_us)
