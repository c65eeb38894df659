"""How a route is described: the words of the tables beside this module, which say what every route takes and gives.

A schema here is JSON Schema (2020-12) in which a Python type stands for its own schema. Tests hold the tables against
the router: a route without its row fails them, as does a row without a route.
"""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from snackbase.catalog import Operation as Rule

Schema = Any
Access = Literal["token", "guest", "open"]
"""Who may ask: somebody with a token; a guest of the account in X-Account-ID as well; everybody."""

TEXT: Mapping[str, Any] = {"type": "string"}
INTEGER: Mapping[str, Any] = {"type": "integer"}
TIME: Mapping[str, Any] = {"type": "string", "format": "date-time"}
FLAG: Mapping[str, Any] = {"type": "boolean"}
MESSAGE: Mapping[str, Any] = {
    "type": "object",
    "properties": {"message": {"type": "string"}},
    "required": ["message"],
}


class ListedRecord:
    """Stands for a record as a list shows it; one schema for each collection."""


class ViewedRecord:
    """A record as it is read by itself."""


class WrittenRecord:
    """A record as a write answers it: as viewed, or its id alone for those who may not view it."""


class NewRecord:
    """A whole record, to be created or to replace another."""


class RecordChanges:
    """Some fields of a record."""


PLACEHOLDERS = (ListedRecord, ViewedRecord, WrittenRecord, NewRecord, RecordChanges)


class Parameter(msgspec.Struct, frozen=True):
    name: str
    schema: Schema
    description: str = ""


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One method of one path.

    Attributes:
        answer: the schema of the answer that went well; None = it has no body.
        errors: the statuses of refusals besides those that come with the access, the body and the parameters.
        rule: the rule that decides who may do it, for what is described once for each collection.
        writes: whether the answer carries X-SnackBase-Position, and the request may carry Idempotency-Key.
    """

    summary: str
    tag: str
    answer: Schema = None
    status: int = 200
    body: Schema = None
    query: tuple[Parameter, ...] = ()
    access: Access = "token"
    errors: tuple[int, ...] = ()
    rule: Rule | None = None
    writes: bool = False
    media_type: str = "application/json"
    body_type: str = "application/json"


Key = tuple[str, str]
"""(method, path as the router has it)."""
Operations = Mapping[Key, Operation]


def object_of(properties: Mapping[str, Schema], *, required: tuple[str, ...] | None = None) -> Schema:
    """An object; everything is required unless said otherwise."""
    names = list(properties) if required is None else list(required)
    return {"type": "object", "properties": dict(properties), "required": names}


def array_of(item: Schema) -> Schema:
    return {"type": "array", "items": item}


def page_of(item: Schema, **more: Schema) -> Schema:
    """`{"items": […], "total": …}`, and more."""
    return object_of({"items": array_of(item), "total": INTEGER, **more})
