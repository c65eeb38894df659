"""Carries out a schema change inside a transaction of the writer: the plan's DDL, the metadata, the global version."""

import msgspec

from snackbase.errors import ValidationFailed
from snackbase.model import Collection
from snackbase.storage.alter import Literal, Plan, plan
from snackbase.storage.asking import Ask, Asking, Taken, violation
from snackbase.storage.base import SchemaChange
from snackbase.storage.codec import encode
from snackbase.storage.definitions import read_collections
from snackbase.storage.schema import Dialect, quoted
from snackbase.storage.statements import SET_VERSION

_SAVE = """INSERT INTO _collections(id, name, table_name, definition, version, schema_version, rules_version,
    created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT(id) DO UPDATE SET name = excluded.name,
    definition = excluded.definition, version = excluded.version, schema_version = excluded.schema_version,
    rules_version = excluded.rules_version, updated_at = excluded.updated_at"""


def decide(change: SchemaChange, dialect: Dialect, literal: Literal) -> Asking[Plan]:
    """What a change does, by the definitions that are stored now. Raises ValidationFailed, Conflict, NotFound."""
    version, collections = yield from read_collections()
    tables = yield Ask(dialect.table_names)
    stored = {collection.id: collection for collection in collections}
    names = [str(name) for (name,) in tables]
    decided = plan(change, stored, version=version + 1, tables=names, dialect=dialect, literal=literal)
    before = change.before
    if decided.must_be_empty and before is not None:
        table = quoted(stored[before.id].table)
        if (yield Ask(f"SELECT 1 FROM {table} LIMIT 1")):  # noqa: S608 - quoted, from our own metadata
            raise ValidationFailed(decided.must_be_empty[0].message, details=decided.must_be_empty)
    return decided


def carry_out(
    decided: Plan, change: SchemaChange, *, now: str, skip: frozenset[str] = frozenset()
) -> Asking[Collection | None]:
    """Apply a plan that was decided in the same transaction; the caller commits. Gives the new definition, None when
    it was dropped.

    Args:
        skip: statements of the plan that were carried out before.

    Raises:
        Conflict: refused; the caller rolls back.
    """
    before, after = change.before, decided.after
    for step in decided.steps:
        if step.sql in skip:
            continue
        try:
            yield Ask(step.sql, step.args)
        except Taken as taken:
            raise violation(taken, decided.after or decided.kept) from None  # type: ignore[arg-type]  # a new one, else kept
    if after is None and before is not None:
        yield Ask("DELETE FROM _collections WHERE id = ?", (before.id,))
    if after is not None:
        after = msgspec.structs.replace(after, created_at=after.created_at or now, updated_at=now)
        yield from _save(after)
    for other in decided.others:
        yield from _save(other)
    yield Ask(SET_VERSION, (str(decided.version),))
    return after


def _save(collection: Collection) -> Asking[None]:
    versions = (collection.version, collection.schema_version, collection.rules_version)
    definition = encode(collection).decode()
    names = (collection.id, collection.name, collection.table)
    yield Ask(_SAVE, (*names, definition, *versions, collection.created_at, collection.updated_at))
