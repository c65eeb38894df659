"""What a change of a collection's definition does to the database: decided here, without touching it.

`plan` compares the definition before and after, refuses what cannot be, and gives the DDL, the new definition with its
versions, and the other definitions that have to follow (a rename). Fields are known by name: a renamed one is one
dropped and one added. Times, versions and the table's name are the store's to assign.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from snackbase.errors import Conflict, FieldError, NotFound, SnackBaseError, ValidationFailed
from snackbase.model import SYSTEM_FIELDS, Collection, Field, FieldType
from snackbase.storage.base import SchemaChange
from snackbase.storage.codec import Codec
from snackbase.storage.definitions import target_of
from snackbase.storage.schema import Dialect, create_table, indexes, quoted

Literal = Callable[[Any], str]


class Step(msgspec.Struct, frozen=True):
    """One statement of a plan."""

    sql: str
    args: tuple[Any, ...] = ()


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to run, in order, and which definitions are stored afterwards.

    Attributes:
        version: the new global version. kept: the definition before; None = there was none.
        must_be_empty: fields that existing records could not fill; refused when the table has any.
        after: the new definition; None = dropped. others: further definitions with a new version.
    """

    version: int
    kept: Collection | None
    steps: tuple[Step, ...]
    after: Collection | None
    others: tuple[Collection, ...] = ()
    must_be_empty: tuple[FieldError, ...] = ()


def plan(
    change: SchemaChange,
    stored: Mapping[str, Collection],
    *,
    version: int,
    tables: Sequence[str],
    dialect: Dialect,
    literal: Literal,
) -> Plan:
    """Decide what a change does.

    Args:
        stored: every definition by id. version: the global version it gets.
        tables: the names of all tables there are.
        literal: writes a value as an SQL literal, for DDL, where no placeholder may stand.

    Raises:
        ValidationFailed, Conflict, NotFound.
    """
    before, after = change.before, change.after
    if before is None:
        if after is None:
            raise ValueError("a schema change needs a definition before or after")
        return _create(after, stored, version=version, tables=tables, dialect=dialect)
    kept = stored.get(before.id)
    if kept is None:
        raise NotFound(f"The collection {before.name} does not exist.", code="collection_not_found")
    if kept.version != before.version:
        raise Conflict(f"The collection {kept.name} was changed meanwhile; read it again.", code="changed_meanwhile")
    if after is None:
        return _drop(kept, stored, version=version)
    return _change(kept, after, stored, version=version, dialect=dialect, literal=literal)


def _create(
    after: Collection, stored: Mapping[str, Collection], *, version: int, tables: Sequence[str], dialect: Dialect
) -> Plan:
    _check(after, stored)
    wanted = "c_" + after.name.lower()
    table = dialect.named(wanted)
    number = 1
    while table in tables:
        number += 1
        table = dialect.named(f"{wanted}_{number}")
    after = msgspec.structs.replace(after, table=table, version=version, schema_version=version, rules_version=version)
    steps = [Step(create_table(after, dialect)), *(Step(index.sql) for index in indexes(after, dialect).values())]
    return Plan(version=version, kept=None, steps=tuple(steps), after=after)


def _drop(kept: Collection, stored: Mapping[str, Collection], *, version: int) -> Plan:
    for other in stored.values():
        for field in other.fields:
            if other.id != kept.id and field.type is FieldType.REFERENCE and target_of(field, [kept]) is not None:
                raise Conflict(
                    f"The field {field.name} of {other.name} refers to {kept.name}; drop that field first.",
                    code="referenced",
                )
    return Plan(version=version, kept=kept, steps=(Step(f"DROP TABLE {quoted(kept.table)}"),), after=None)


def _change(
    kept: Collection,
    after: Collection,
    stored: Mapping[str, Collection],
    *,
    version: int,
    dialect: Dialect,
    literal: Literal,
) -> Plan:
    if after.id != kept.id:
        raise ValueError("a schema change cannot move a definition to another id")
    after = msgspec.structs.replace(after, table=kept.table)
    renamed = {**stored, kept.id: after}
    _check(after, stored)
    old, new = {field.name: field for field in kept.fields}, {field.name: field for field in after.fields}
    _refuse_type_changes(old, new, stored, renamed)
    dropped = [field for name, field in old.items() if name not in new]
    added = [field for name, field in new.items() if name not in old]
    had, wanted = indexes(kept, dialect), indexes(after, dialect)
    stale = {field.name for field in dropped}
    # An index over a field that is dropped and added again (another spelling) names the same columns: made anew.
    kept_indexes = {name for name in had.keys() & wanted.keys() if not stale & set(had[name].fields)}
    steps = [Step(f"DROP INDEX {quoted(name)}") for name in had if name not in kept_indexes]
    steps += [Step(f"ALTER TABLE {quoted(kept.table)} DROP COLUMN {quoted(field.name)}") for field in dropped]
    for field in added:
        steps += _add(kept.table, field, dialect, literal)
    steps += [Step(index.sql) for name, index in wanted.items() if name not in kept_indexes]
    altered = bool(dropped) or any(field.default is not None for field in added)
    rights = (kept.rules, kept.list_fields, kept.view_fields) != (after.rules, after.list_fields, after.view_fields)
    after = msgspec.structs.replace(
        after,
        version=version,
        schema_version=version if altered else kept.schema_version,
        rules_version=version if rights else kept.rules_version,
        created_at=kept.created_at,
    )
    return Plan(
        version=version,
        kept=kept,
        steps=tuple(steps),
        after=after,
        others=_followers(kept, after, stored, version=version) if kept.name != after.name else (),
        must_be_empty=tuple(_unfillable(field) for field in added if field.required and field.default is None),
    )


def _refuse_type_changes(
    old: Mapping[str, Field],
    new: Mapping[str, Field],
    stored: Mapping[str, Collection],
    renamed: Mapping[str, Collection],
) -> None:
    details = []
    for name in old.keys() & new.keys():
        was, target = old[name], target_of(old[name], stored.values())
        now_target = target_of(new[name], renamed.values()) or target_of(new[name], stored.values())
        moved = was.type is FieldType.REFERENCE and target is not None and now_target is not None
        if was.type is not new[name].type or (moved and target.id != now_target.id):  # type: ignore[union-attr]  # moved
            message = f"The type of {name} cannot be changed; drop the field and add another."
            details.append(FieldError(field=name, message=message, code="type_change"))
    if details:
        raise ValidationFailed(details[0].message, code="type_change", details=details)


def _add(table: str, field: Field, dialect: Dialect, literal: Literal) -> list[Step]:
    column = f"ALTER TABLE {quoted(table)} ADD COLUMN {quoted(field.name)} {dialect.column_type(field)}"
    if field.default is None:
        return [Step(column)]
    codec = Codec([field])
    (value,) = codec.bind(codec.whole({field.name: field.default}))
    if isinstance(value, str) and "\0" in value:
        return [Step(column), Step(f"UPDATE {quoted(table)} SET {quoted(field.name)} = ?", (value,))]  # noqa: S608 - quoted
    # A column default fills the existing rows without touching them; new rows always name every column.
    return [Step(f"{column} DEFAULT {literal(value)}")]


def _unfillable(field: Field) -> FieldError:
    message = f"{field.name} is required and has no default, but there are records that would lack it."
    return FieldError(field=field.name, message=message, code="required_without_default")


def _followers(
    kept: Collection, after: Collection, stored: Mapping[str, Collection], *, version: int
) -> tuple[Collection, ...]:
    """The other definitions that name the renamed collection, with its new name."""
    followers = []
    for other in stored.values():
        if other.id == kept.id:
            continue
        fields = tuple(
            msgspec.structs.replace(field, collection=after.name)
            if field.type is FieldType.REFERENCE and (field.collection or "").casefold() == kept.name.casefold()
            else field
            for field in other.fields
        )
        if fields != other.fields:
            followers.append(msgspec.structs.replace(other, fields=fields, version=version))
    return tuple(followers)


def _check(after: Collection, stored: Mapping[str, Collection]) -> None:
    """What no definition may have. Column names are unique without regard to case, as SQL's are."""
    others = [other for other in stored.values() if other.id != after.id]
    if any(other.name.casefold() == after.name.casefold() for other in others):
        message = f"A collection named {after.name} exists already."
        detail = FieldError(field="name", message=message, code="name_taken")
        raise Conflict(message, code="name_taken", details=[detail])
    counts = Counter([*SYSTEM_FIELDS, *(field.name.lower() for field in after.fields)])
    for field in after.fields:
        if counts[field.name.lower()] > 1:
            raise _invalid(field.name, f"There is a field {field.name} already.", "duplicate_field")
        if field.type is FieldType.REFERENCE and target_of(field, [*others, after]) is None:
            what = f"The collection that {field.name} refers to does not exist."
            raise _invalid(field.name, what, "collection_not_found")
    known = {field.name for field in after.fields} | set(SYSTEM_FIELDS)
    for index in after.indexes:
        for name in index.fields:
            if name not in known:
                raise _invalid("indexes", f"An index names the field {name}, which does not exist.", "unknown_field")


def _invalid(field: str, message: str, code: str) -> SnackBaseError:
    return ValidationFailed(message, details=[FieldError(field=field, message=message, code=code)])
