"""The values of one record: checked, brought into their one JSON form, or refused field by field.

Owns what each field type accepts and how its accepted forms are normalised, so that a record reads the same from the
response of its write, from every later read and from every event. Pure: no I/O, no clock, no identity beyond the ids
that are given. It must not decide who may write. Part of step 3 of the path.

System fields in a body: `id` may be given when a record is created; after that `id`, `account_id` and the four stamps
are ignored when they come along with a change, so that a record can be read, edited and sent back as it is.
"""

import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import msgspec

from snackbase.errors import FieldError, TooLarge, ValidationFailed
from snackbase.model import MAX_RECORD_BYTES, MAX_SAFE_INTEGER, SYSTEM_FIELDS, Collection, Field, FieldType
from snackbase.rules import normal_date, normal_datetime

MAX_TEXT_CHARACTERS = 200_000
MAX_JSON_BYTES = 256 * 1024
MAX_JSON_DEPTH = 64
MAX_EMAIL_CHARACTERS = 254
"""RFC 5321 §4.5.3.1.3, less the angle brackets."""
MAX_URL_CHARACTERS = 2048
MOST_HINTS = 3
"""Unknown fields for which a known one is guessed: each costs some milliseconds, and a body may have thousands."""
URL_SCHEMES = ("http", "https", "ftp", "ws", "wss")

_UUID = re.compile(r"[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}\Z")
_EMAIL = re.compile(r"[^\s@<>()\[\],;:\\\"\x00-\x1f\x7f]{1,64}@(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.)+[^\W_]{2,63}\Z")
_URL_FORBIDDEN = re.compile(r"[\s\x00-\x20\x7f<>\"\\^`{|}]")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


class Invalid(Exception):
    """Why one value is not acceptable: becomes one FieldError."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def canonical_id(text: object) -> str | None:
    """The lower-case form of a UUID written with hyphens (RFC 9562 §4), or None when it is not one."""
    if isinstance(text, UUID):
        return str(text)
    if isinstance(text, str) and _UUID.match(text):
        return text.lower()
    return None


class Reading:
    """What a body says about one record.

    Attributes:
        record_id: the id the client brought, in its canonical form, or None.
        values: the fields that will be written and are acceptable; complete only when there are no errors.
        given: the acceptable ones among the fields that stood in the body: what a rule sees as `@request.data`.
        errors: one entry a field that is not acceptable.
    """

    __slots__ = ("errors", "given", "record_id", "values")

    def __init__(self) -> None:
        self.record_id: str | None = None
        self.values: dict[str, Any] = {}
        self.given: dict[str, Any] = {}
        self.errors: list[FieldError] = []

    def accept(self) -> dict[str, Any]:
        """The values to write.

        Raises:
            ValidationFailed: one detail a field: required, invalid_*, unknown_field, read_only, ...
            TooLarge: the record is over MAX_RECORD_BYTES.
        """
        if self.errors:
            message = self.errors[0].message if len(self.errors) == 1 else "Some fields are not valid."
            raise ValidationFailed(message, details=self.errors)
        size = len(msgspec.json.encode(self.values))
        if size > MAX_RECORD_BYTES:
            raise TooLarge(f"The record has {size} bytes as JSON; at most {MAX_RECORD_BYTES} are kept.")
        return self.values

    def take(self, field: Field, value: object) -> None:
        """Check one value."""
        try:
            self.values[field.name] = check(field, value)
        except Invalid as error:
            self.errors.append(FieldError(field=field.name, message=error.message, code=error.code))

    def note_given(self, data: Mapping[str, Any]) -> None:
        """Remember which of the checked values came from the body."""
        self.given = {name: value for name, value in self.values.items() if name in data}


def for_create(collection: Collection, data: Mapping[str, Any], *, account_id: str) -> Reading:
    """Every field of a new record, defaults filled in for what is missing."""
    reading = Reading()
    if data.get("id") is not None:
        reading.record_id = canonical_id(data["id"])
        if reading.record_id is None:
            reading.errors.append(FieldError(field="id", message="id must be a UUID.", code="invalid_id"))
    for name in SYSTEM_FIELDS[1:]:
        if name in data and not (name == "account_id" and data[name] == account_id):
            reading.errors.append(FieldError(field=name, message=f"{name} is set by the server.", code="read_only"))
    return _every_field(reading, collection, data)


def for_replace(collection: Collection, data: Mapping[str, Any]) -> Reading:
    """Every field of a record that is replaced (PUT): what is not given becomes its default or null."""
    return _every_field(Reading(), collection, data)


def for_patch(collection: Collection, data: Mapping[str, Any]) -> Reading:
    """The given fields of a record that is changed (PATCH)."""
    reading = Reading()
    for field in collection.fields:
        if field.name in data:
            reading.take(field, data[field.name])
    reading.note_given(data)
    _refuse_unknown(collection, data, reading.errors)
    return reading


def check(field: Field, value: object) -> Any:
    """One value in its normal form; null passes unless the field is required.

    Raises:
        Invalid: with the code and the sentence for the client.
    """
    if value is None:
        if field.required:
            raise Invalid("required", f"{field.name} is required.")
        return None
    if value == "" and field.required and isinstance(value, str):
        raise Invalid("required", f"{field.name} is required and may not be empty.")
    return _CHECKS[field.type](field, value)


def options_of(field: Field) -> tuple[str, ...]:
    """What a select field may hold."""
    return tuple(field.options) if isinstance(field.options, list | tuple) else ()


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """` Did you mean 'x'?` for the nearest known name, else nothing."""
    near = difflib.get_close_matches(name[:64], list(known), n=1, cutoff=0.6)
    return f" Did you mean '{near[0]}'?" if near else ""


def unusable_character(text: str) -> str | None:
    """Why a text cannot be stored in every database or sent as UTF-8: a sentence's end, or None."""
    if "\x00" in text:
        return "contains the character U+0000, which cannot be stored"
    if _LONE_SURROGATE.search(text):
        return "contains half of a surrogate pair, which is not text"
    return None


def _every_field(reading: Reading, collection: Collection, data: Mapping[str, Any]) -> Reading:
    for field in collection.fields:
        reading.take(field, data.get(field.name, field.default))
    reading.note_given(data)
    _refuse_unknown(collection, data, reading.errors)
    return reading


def _refuse_unknown(collection: Collection, data: Mapping[str, Any], errors: list[FieldError]) -> None:
    known = {field.name for field in collection.fields}
    hinted = 0
    for name in data:
        if name not in known and name not in SYSTEM_FIELDS:
            shown = name[:64].encode("utf-8", "replace").decode()
            hinted += 1
            hint = did_you_mean(shown, known) if hinted <= MOST_HINTS else ""
            message = f"{collection.name} has no field '{shown}'.{hint}"
            errors.append(FieldError(field=shown, message=message, code="unknown_field"))
            if len(errors) >= 100:
                return


def _text(field: Field, value: object, *, limit: int = MAX_TEXT_CHARACTERS) -> str:
    if not isinstance(value, str):
        raise Invalid("invalid_text", f"{field.name} must be text.")
    if len(value) > limit:
        raise Invalid("too_long", f"{field.name} has {len(value)} characters; at most {limit} are allowed.")
    reason = unusable_character(value)
    if reason is not None:
        raise Invalid("invalid_character", f"{field.name} {reason}.")
    return value


def _finite(name: str, value: float) -> int | float:
    """The one form of a number: whole ones without a fraction, as JavaScript writes them; no negative zero."""
    if isinstance(value, int):
        if not -MAX_SAFE_INTEGER <= value <= MAX_SAFE_INTEGER:
            raise Invalid("number_out_of_range", f"{name}: integers beyond 9007199254740991 (2^53-1) are not exact.")
        return value
    if not math.isfinite(value):
        raise Invalid("invalid_number", f"{name} must be a finite number.")
    if value.is_integer() and -MAX_SAFE_INTEGER <= value <= MAX_SAFE_INTEGER:
        return int(value)
    return value


def _number(field: Field, value: object) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Invalid("invalid_number", f"{field.name} must be a number.")
    return _finite(field.name, value)


def _boolean(field: Field, value: object) -> bool:
    if not isinstance(value, bool):
        raise Invalid("invalid_boolean", f"{field.name} must be true or false.")
    return value


def _datetime(field: Field, value: object) -> str:
    """RFC 3339 with any offset; none means UTC, a date alone its midnight; kept in UTC to the millisecond."""
    text = value.isoformat() if isinstance(value, date) else value
    kept = normal_datetime(text) if isinstance(text, str) else None
    if kept is None:
        raise Invalid("invalid_datetime", f"{field.name} must be a time that exists, such as 2026-01-17T12:34:56.789Z.")
    return kept


def _date(field: Field, value: object) -> str:
    text = value.isoformat() if isinstance(value, date) and not isinstance(value, datetime) else value
    kept = normal_date(text) if isinstance(text, str) else None
    if kept is None:
        raise Invalid("invalid_date", f"{field.name} must be a date that exists, such as 2026-01-17.")
    return kept


def _email(field: Field, value: object) -> str:
    if not isinstance(value, str) or len(value) > MAX_EMAIL_CHARACTERS or not _EMAIL.match(value):
        raise Invalid("invalid_email", f"{field.name} must be an e-mail address.")
    return _text(field, value)


def _url(field: Field, value: object) -> str:
    wanted = f"{field.name} must be an absolute URL with one of {', '.join(URL_SCHEMES)}."
    text = value if isinstance(value, str) else ""
    if not text or len(text) > MAX_URL_CHARACTERS or _URL_FORBIDDEN.search(text):
        raise Invalid("invalid_url", wanted)
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise Invalid("invalid_url", wanted) from None
    if parts.scheme not in URL_SCHEMES or not host:
        raise Invalid("invalid_url", wanted)
    return _text(field, text)


def _json(field: Field, value: object) -> Any:
    plain = _json_value(field.name, value, 1)
    size = len(msgspec.json.encode(plain))
    if size > MAX_JSON_BYTES:
        raise Invalid("too_long", f"{field.name} has {size} bytes as JSON; at most {MAX_JSON_BYTES} are allowed.")
    return plain


def _json_value(name: str, value: object, depth: int) -> Any:
    """A copy that shares nothing with the request, holding only what JSON can say and every database can store."""
    if depth > MAX_JSON_DEPTH:
        raise Invalid("too_deep", f"{name} is nested deeper than {MAX_JSON_DEPTH} levels.")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return _finite(name, value)
    if isinstance(value, str):
        return _json_text(name, value)
    if isinstance(value, list | tuple):
        return [_json_value(name, item, depth + 1) for item in value]
    if isinstance(value, Mapping):
        return {_json_text(name, key): _json_value(name, item, depth + 1) for key, item in value.items()}
    raise Invalid("invalid_json", f"{name} holds something that is not JSON.")


def _json_text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise Invalid("invalid_json", f"{name}: the keys of an object must be text.")
    reason = unusable_character(value)
    if reason is not None:
        raise Invalid("invalid_character", f"{name} {reason}.")
    return value


def _reference(field: Field, value: object) -> str:
    record_id = canonical_id(value)
    if record_id is None:
        raise Invalid("invalid_reference", f"{field.name} must be the id (a UUID) of a record of {field.collection}.")
    return record_id


def _select(field: Field, value: object) -> str:
    allowed = options_of(field)
    if not isinstance(value, str) or value not in allowed:
        shown = ", ".join(allowed[:10]) + (", …" if len(allowed) > 10 else "")
        raise Invalid("invalid_option", f"{field.name} must be one of: {shown}.")
    return value


_CHECKS: Mapping[FieldType, Callable[[Field, object], Any]] = {
    FieldType.TEXT: _text,
    FieldType.NUMBER: _number,
    FieldType.BOOLEAN: _boolean,
    FieldType.DATETIME: _datetime,
    FieldType.DATE: _date,
    FieldType.EMAIL: _email,
    FieldType.URL: _url,
    FieldType.JSON: _json,
    FieldType.REFERENCE: _reference,
    FieldType.SELECT: _select,
}
