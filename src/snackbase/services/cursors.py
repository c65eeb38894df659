"""Cursors: places in a sorted list, as clients hold them, and the condition for what lies beyond one.

A cursor holds the values by which the list is sorted, of the record at which it stands, so that going on costs the same
on every page and neither a record that was added nor one that was removed shifts what follows. It is readable and not
signed: it tells nothing that its holder has not read, and a forged one is only a filter over fields they may sort by.
Where the values are too long for an address, or not for the holder's eyes, the cursor holds none; then the record has
to be there still, and unchanged.
"""

import base64
import binascii
import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from snackbase.catalog import Definition
from snackbase.errors import BadRequest, FieldError
from snackbase.model import Record
from snackbase.rules import Kind
from snackbase.services.listing import NEWEST_FIRST, Sort, Where

MAX_CURSOR_CHARACTERS = 2000
MAX_VALUES_BYTES = 1000
"""Of the values as JSON; longer ones are replaced by their digest."""

_KINDS: dict[Kind, type | tuple[type, ...]] = {Kind.NUMBER: (int, float), Kind.BOOLEAN: bool}


class Cursor(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """
    Attributes:
        collection: the collection's id. sort: as in a query string, with every key and its sign.
        record_id: the record it stands at. values: of the sort's keys; None = those of the record.
        digest: of values that were too long.
    """

    collection: str
    sort: str
    record_id: str
    values: list[Any] | None
    digest: str = ""


def encode(definition: Definition, sort: Sort, record: Record, readable: frozenset[str] | None) -> str:
    """The cursor that stands at a record of a list. `readable`: the fields its holder may read; None = every one."""
    values = [record[name] for name, _ in sort]
    cursor = Cursor(definition.collection.id, text_of(sort), record["id"], values)
    if readable is not None and not readable.issuperset(name for name, _ in sort):
        # The default order, by a time that is not shown.
        cursor = msgspec.structs.replace(cursor, values=None)
    elif len(msgspec.json.encode(values)) > MAX_VALUES_BYTES:
        cursor = msgspec.structs.replace(cursor, values=None, digest=digest_of(values))
    return base64.urlsafe_b64encode(msgspec.json.encode(cursor)).rstrip(b"=").decode()


def decode(text: str, definition: Definition) -> Cursor:
    """Read a cursor that somebody sent.

    Raises:
        BadRequest: `invalid_cursor`: it is none, or one of another collection.
    """
    try:
        if len(text) > MAX_CURSOR_CHARACTERS:
            raise ValueError
        cursor = msgspec.json.decode(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), type=Cursor)
    except (ValueError, binascii.Error, UnicodeError, RecursionError, msgspec.MsgspecError):
        raise refused("The cursor does not come from a list.") from None
    if cursor.collection != definition.collection.id:
        raise refused("The cursor belongs to another collection.")
    return cursor


def sort_in(cursor: Cursor) -> str:
    """The sort to go on with, as a client would send it."""
    return "" if cursor.sort == text_of(NEWEST_FIRST) else cursor.sort


def check_values(cursor: Cursor, sort: Sort, definition: Definition, readable: frozenset[str] | None) -> None:
    """Refuse values that no record could have given, or not to this holder: guessing the values of a hidden field, page
    by page, would tell them. Raises BadRequest (`invalid_cursor`)."""
    values = cursor.values or []
    fits = len(values) == len(sort) and values[-1] == cursor.record_id if cursor.values is not None else True
    fits = fits and (not (values or cursor.digest) or readable is None or readable.issuperset(name for name, _ in sort))
    for (name, _), value in zip(sort, values, strict=False):
        kind = _KINDS.get(definition.kinds[name], str)
        # A boolean is an int to Python, and an integer over 64 bits cannot be bound.
        wrong = isinstance(value, bool) and kind is not bool
        too_large = isinstance(value, int) and abs(value) >= 2**63
        fits = fits and (value is None or (isinstance(value, kind) and not wrong and not too_large))
    if not fits:
        raise refused("The cursor does not come from a list.")


def digest_of(values: Sequence[Any]) -> str:
    """What stands for values that are too long."""
    return hashlib.sha256(msgspec.json.encode(list(values))).hexdigest()


def text_of(sort: Sort) -> str:
    """The sort in the form of a query string."""
    return ",".join(f"{'-' if down else '+'}{name}" for name, down in sort)


def turned(sort: Sort) -> Sort:
    """The same order from its end."""
    return tuple((name, not down) for name, down in sort)


def beyond(sort: Sort, values: Sequence[Any]) -> Where:
    """The condition for what follows, in this order, a record with these values; null comes before every value.

    The last key is the id, so that no two records stand at one place.
    """

    def where(column: Callable[[str], str], param: Callable[[object], str]) -> str:
        alternatives: list[str] = []
        equal: list[str] = []
        for (name, down), value in zip(sort, values, strict=True):
            after = _after(column(name), value, param, down=down, nullable=name not in _NEVER_NULL)
            if after is not None:
                alternatives.append(" AND ".join([*equal, after]))
            if name != sort[-1][0]:
                equal.append(f"{column(name)} IS NULL" if value is None else f"{column(name)} = {param(value)}")
        bound = _bound(sort, values, column, param)
        return f"{bound}({' OR '.join(f'({one})' for one in alternatives)})"

    return where


_NEVER_NULL = frozenset({"id", "account_id", "created_at", "updated_at"})


def _after(column: str, value: Any, param: Callable[[object], str], *, down: bool, nullable: bool) -> str | None:
    """The values that come after this one; None = there are none."""
    if value is None:
        return None if down else f"{column} IS NOT NULL"
    if not down:
        return f"{column} > {param(value)}"
    before = f"{column} < {param(value)}"
    return f"({before} OR {column} IS NULL)" if nullable else before


def _bound(sort: Sort, values: Sequence[Any], column: Callable[[str], str], param: Callable[[object], str]) -> str:
    """What follows from the first key alone: repeats what the alternatives say, in a form that an index can seek by."""
    (name, down), value = sort[0], values[0]
    if value is None or (down and name not in _NEVER_NULL):
        return ""
    return f"{column(name)} {'<=' if down else '>='} {param(value)} AND "


def refused(message: str) -> BadRequest:
    """The one answer to a cursor that cannot be used."""
    detail = FieldError(field="cursor", message=message, code="invalid_cursor")
    return BadRequest(message, code="invalid_cursor", details=[detail])
