"""Carries out a schema change inside a transaction of the writer: the plan's DDL, the metadata, the global version."""

import apsw
import msgspec

from snackbase.errors import ValidationFailed
from snackbase.model import Collection
from snackbase.storage.alter import plan
from snackbase.storage.base import SchemaChange
from snackbase.storage.codec import encode
from snackbase.storage.definitions import read_collections
from snackbase.storage.schema import quoted
from snackbase.storage.statements import SET_VERSION
from snackbase.storage.transaction import violation

_SAVE = """INSERT INTO _collections(id, name, table_name, definition, version, schema_version, rules_version,
    created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT(id) DO UPDATE SET name = excluded.name,
    definition = excluded.definition, version = excluded.version, schema_version = excluded.schema_version,
    rules_version = excluded.rules_version, updated_at = excluded.updated_at"""


def carry_out(cursor: apsw.Cursor, change: SchemaChange, *, now: str) -> Collection | None:
    """Apply a change; the caller commits. Gives the new definition, None when it was dropped.

    Raises:
        ValidationFailed, Conflict, NotFound: refused; the caller rolls back. apsw.Error: a fault of the database.
    """
    version, collections = read_collections(cursor)
    version += 1
    tables = [str(name) for (name,) in cursor.execute("SELECT name FROM sqlite_master").fetchall()]
    stored = {collection.id: collection for collection in collections}
    decided = plan(change, stored, version=version, tables=tables, literal=apsw.format_sql_value)
    before = change.before
    if decided.must_be_empty and before is not None:
        table = quoted(stored[before.id].table)
        if cursor.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchall():  # noqa: S608 - quoted, from our own metadata
            raise ValidationFailed(decided.must_be_empty[0].message, details=decided.must_be_empty)
    for step in decided.steps:
        try:
            cursor.execute(step.sql, step.args).fetchall()
        except apsw.ConstraintError as error:
            raise violation(error, decided.after or stored[before.id if before else ""]) from None
    after = decided.after
    if after is None and before is not None:
        cursor.execute("DELETE FROM _collections WHERE id = ?", (before.id,))
    if after is not None:
        after = msgspec.structs.replace(after, created_at=after.created_at or now, updated_at=now)
        _save(cursor, after)
    for other in decided.others:
        _save(cursor, other)
    cursor.execute(SET_VERSION, (str(version),))
    return after


def _save(cursor: apsw.Cursor, collection: Collection) -> None:
    versions = (collection.version, collection.schema_version, collection.rules_version)
    definition = encode(collection).decode()
    names = (collection.id, collection.name, collection.table)
    cursor.execute(_SAVE, (*names, definition, *versions, collection.created_at, collection.updated_at))
