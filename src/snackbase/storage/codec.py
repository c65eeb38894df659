"""Records as rows: the JSON form of a record to what SQL columns hold, and back, once per collection's shape.

Promises: a record read back equals the one written, key for key in the same order (`id`, the fields in schema order,
the system fields), so the log, a response and a later read show the same bytes. Values were validated before; what a
column still cannot hold (a lone surrogate, an integer over 64 bits) is ValidationFailed, never a fault of the writer.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from snackbase.errors import ValidationFailed
from snackbase.model import MAX_SAFE_INTEGER, SYSTEM_FIELDS, Field, FieldType, Record

encode = msgspec.json.encode
_decode = msgspec.json.decode


def _number(value: Any) -> Any:
    """1.0 and 1 are one number in JSON; the integer spelling is the one everybody sees, and -0 is 0."""
    if type(value) is float and value.is_integer() and -MAX_SAFE_INTEGER <= value <= MAX_SAFE_INTEGER:
        return int(value)
    return value


class NulError(UnicodeError):
    """A text with U+0000, which PostgreSQL cannot hold."""


def unstorable(error: Exception) -> ValidationFailed:
    """What a value that no column can hold is answered with; never repeats the value."""
    if isinstance(error, NulError):
        return ValidationFailed("The record holds text with U+0000.", code="invalid_value")
    what = "text with half of a surrogate pair" if isinstance(error, UnicodeError) else "a number too large to store"
    return ValidationFailed(f"The record holds {what}.", code="invalid_value")


class Codec:
    """Translates between records and rows of one shape of a collection."""

    __slots__ = ("_booleans", "_json", "_numbers", "columns", "names")

    def __init__(self, fields: Sequence[Field]) -> None:
        self.names = tuple(field.name for field in fields)
        self.columns = ("id", *self.names, *SYSTEM_FIELDS[1:])
        self._numbers = tuple(field.name for field in fields if field.type is FieldType.NUMBER)
        self._booleans = tuple(field.name for field in fields if field.type is FieldType.BOOLEAN)
        self._json = frozenset(field.name for field in fields if field.type is FieldType.JSON)

    def whole(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Every field in schema order, missing ones null, numbers in their one spelling."""
        get = values.get
        result = {name: get(name) for name in self.names}
        for name in self._numbers:
            result[name] = _number(result[name])
        return result

    def part(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The given fields only, in schema order, numbers in their one spelling."""
        result = {name: values[name] for name in self.names if name in values}
        for name in self._numbers:
            if name in result:
                result[name] = _number(result[name])
        return result

    def bind(self, values: Mapping[str, Any]) -> list[Any]:
        """What the columns get, in the order of `values`.

        Raises:
            ValidationFailed: code `invalid_value`: JSON that cannot be written as text.
        """
        if not self._json:
            return list(values.values())
        try:
            return [
                encode(value).decode() if name in self._json and value is not None else value
                for name, value in values.items()
            ]
        except (UnicodeError, OverflowError) as error:
            raise unstorable(error) from None

    def record(self, row: Sequence[Any]) -> Record:
        """The record of a row that was selected as `columns`."""
        record: Record = dict(zip(self.columns, row, strict=True))
        for name in self._numbers:
            record[name] = _number(record[name])
        for name in self._booleans:
            if record[name] is not None:
                record[name] = record[name] != 0
        for name in self._json:
            if record[name] is not None:
                record[name] = _decode(record[name])
        return record

    def changed(self, before: Record, values: Mapping[str, Any]) -> dict[str, Any]:
        """Those of `values` that differ from the record. JSON is compared as text: true and 1 are equal to Python."""
        result = {}
        for name, value in values.items():
            old = before[name]
            if name in self._json and old is not None and value is not None:
                if encode(old) != encode(value):
                    result[name] = value
            elif old != value:
                result[name] = value
        return result


def size_of(bound: Sequence[Any]) -> int:
    """Roughly the bytes a row takes while it waits: text by its length, anything else 8."""
    size = 64
    for value in bound:
        size += len(value) if type(value) is str else 8
    return size
