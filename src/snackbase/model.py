"""The value types that cross seams: accounts, users, principals, collections, changes, positions.

Values only: nothing here does I/O, knows SQL or holds state. Every time is either microseconds since the epoch (`*_us`,
int) or RFC 3339 UTC text with milliseconds and `Z` (everything a client sees; contract §1).
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from typing import Any

import msgspec

Record = dict[str, Any]
"""A record in the JSON form REST returns it: `id`, the collection's fields, then the system fields (contract §8)."""

COLLECTION_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{2,63}\Z")
FIELD_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,62}\Z")
SYSTEM_FIELDS = ("id", "account_id", "created_at", "created_by", "updated_at", "updated_by")
SYSTEM_ACCOUNT_ID = "00000000-0000-0000-0000-000000000000"
SYSTEM_ACCOUNT_CODE = "SY0000"
SYSTEM_ACCOUNT_SLUG = "system"
MAX_RECORD_BYTES = 512 * 1024
"""The values of one record as JSON. Above it one event would fill half of a connection's outbox."""
MAX_SAFE_INTEGER = 2**53 - 1
"""The largest integer every IEEE 754 double, and so every JavaScript client, holds exactly (RFC 8259 §6)."""


class FieldType(StrEnum):
    TEXT = "text"
    NUMBER = "number"
    BOOLEAN = "boolean"
    DATETIME = "datetime"
    DATE = "date"
    EMAIL = "email"
    URL = "url"
    JSON = "json"
    REFERENCE = "reference"
    SELECT = "select"


class OnDelete(StrEnum):
    """What happens to a record when the record it refers to is deleted."""

    CASCADE = "cascade"
    SET_NULL = "set_null"
    RESTRICT = "restrict"


class Field(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=False):
    """One field of a collection. `options` of a select: the allowed values; of others: reserved."""

    name: str
    type: FieldType = FieldType.TEXT
    required: bool = False
    default: Any = None
    unique: bool = False
    options: Any = None
    collection: str | None = None
    on_delete: OnDelete | None = None


class Index(msgspec.Struct, frozen=True, kw_only=True):
    """An index over fields of a collection, per account."""

    fields: tuple[str, ...]
    unique: bool = False


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """The five rules as text (contract §7). None = locked (superadmin only), "" = public."""

    list_rule: str | None
    view_rule: str | None
    create_rule: str | None
    update_rule: str | None
    delete_rule: str | None


MEMBERS_RULE = '@request.auth.id != ""'
"""What an omitted rule means when a collection is made: any member of the account."""


class Collection(msgspec.Struct, frozen=True, kw_only=True):
    """A collection's definition. One real table, shared by all accounts; rows belong to accounts.

    Attributes:
        table: the name of the real table, fixed for the collection's life.
        list_fields, view_fields: what a list and a single read may show; None = every field.
        schema_version: the global version at which the rows were last altered (field with default added, field
            dropped): positions issued before it answer `resync` with reason `schema`.
        rules_version: the global version at which a rule or `*_fields` last changed: reason `rights`.
        version: the global version of the last change of any kind to this definition.
    """

    id: str
    name: str
    table: str
    fields: tuple[Field, ...]
    indexes: tuple[Index, ...] = ()
    rules: Rules
    list_fields: tuple[str, ...] | None = None
    view_fields: tuple[str, ...] | None = None
    schema_version: int = 0
    rules_version: int = 0
    version: int = 0
    created_at: str
    updated_at: str

    def field(self, name: str) -> Field | None:
        for field in self.fields:
            if field.name == name:
                return field
        return None


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """A tenant. `registration`: closed | invite | open (contract §8)."""

    id: str
    account_code: str
    slug: str
    name: str
    is_active: bool = True
    registration: str = "closed"
    created_at: str
    updated_at: str


class User(msgspec.Struct, frozen=True, kw_only=True):
    """A user's row, without the password hash."""

    id: str
    account_id: str
    email: str
    role: str
    role_id: int
    groups: tuple[str, ...] = ()
    is_active: bool = True
    created_at: str
    last_login: str | None = None


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """Who a request or connection acts for, as the current rows say (never as the token claims).

    Attributes:
        kind: "user" | "api_key" | "guest" | "system" (the process itself: hooks, CLI).
        account_id: the account acted in; a superadmin's may differ from their own.
        actor_id: what `created_by`/`updated_by` hold: the user's or the key's id; None for a guest.
        session_id: the login (`sid`) the token belongs to; None for keys and guests.
        superadmin: bypasses rules and fields, not filters.
    """

    kind: str
    account_id: str
    actor_id: str | None = None
    email: str | None = None
    role: str | None = None
    groups: tuple[str, ...] = ()
    session_id: str | None = None
    superadmin: bool = False


class Position(msgspec.Struct, frozen=True):
    """A place in one account's change log, before it becomes an opaque token (realtime/position.py).

    `seq` 0 is the beginning; `ts_us` is the time of the row at `seq` (0 at the beginning); `version` is the global
    version of rules and schemas it was issued under.
    """

    seq: int
    ts_us: int
    version: int


class Head(msgspec.Struct, frozen=True):
    """The newest committed place of one account's log: its sequence number and that row's time in µs."""

    seq: int
    ts_us: int


class Op(StrEnum):
    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"
    CONTROL = "control"
    """Not a record: a change of somebody's rights, in the account's log so that every node sees it in order."""


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One committed row of an account's change log.

    Attributes:
        seq: gapless per account, in commit order, from 1 (storage invariants I2, I3).
        ts_us: set by the writer, never runs backwards within an account.
        collection_id, schema_version: "" and 0 for a control row.
        record_id: the record's id; for a control row the id of the user, key or account concerned.
        data: the record after the change (delete: its last state); for a control row {"what": ...}. Never mutated.
        prev: the old values of the changed fields (update only), so the state before is `data | prev`.
        raw: the JSON bytes of `data`, spliced into events as they are when nothing has to be cut.
        tx_id, tx_index, tx_size: the transaction it was part of; index counts from 0, size counts every row of the
            transaction in this account.
        actor: who did it (user id, key id) or None.
    """

    account_id: str
    seq: int
    ts_us: int
    op: Op
    collection_id: str
    schema_version: int
    record_id: str
    data: Mapping[str, Any]
    prev: Mapping[str, Any] | None = None
    raw: bytes
    tx_id: str
    tx_index: int = 0
    tx_size: int = 1
    actor: str | None = None


def rfc3339(us: int) -> str:
    """Microseconds since the epoch as RFC 3339 UTC text with milliseconds and `Z` (contract §1)."""
    seconds, rest = divmod(us, 1_000_000)
    return f"{_second_text(seconds)}.{rest // 1000:03d}Z"


@lru_cache(maxsize=64)
def _second_text(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
