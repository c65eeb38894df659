"""The schemas of records, made from a collection's definition: as they are read, and as they are sent.

What is read is described as loosely as it is kept: a select keeps a value whose option was taken away since.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from snackbase.catalog import Definition
from snackbase.model import SYSTEM_FIELDS, Field, FieldType
from snackbase.services.values import MAX_EMAIL_CHARACTERS, MAX_TEXT_CHARACTERS, MAX_URL_CHARACTERS, options_of
from snackbase.web.documents.operation import (
    ListedRecord,
    NewRecord,
    RecordChanges,
    Schema,
    ViewedRecord,
    WrittenRecord,
)

_TIME = {"type": "string", "format": "date-time"}
_UUID = {"type": "string", "format": "uuid"}
_READ: Mapping[FieldType, dict[str, Any]] = {
    FieldType.NUMBER: {"type": "number"},
    FieldType.BOOLEAN: {"type": "boolean"},
    FieldType.DATETIME: _TIME,
    FieldType.DATE: {"type": "string", "format": "date"},
    FieldType.REFERENCE: _UUID,
}
_SENT: Mapping[FieldType, dict[str, Any]] = {
    **_READ,
    FieldType.TEXT: {"type": "string", "maxLength": MAX_TEXT_CHARACTERS},
    FieldType.EMAIL: {"type": "string", "format": "email", "maxLength": MAX_EMAIL_CHARACTERS},
    FieldType.URL: {"type": "string", "format": "uri", "maxLength": MAX_URL_CHARACTERS},
}
_ACTOR = {"type": ["string", "null"]}
_SYSTEM: Mapping[str, dict[str, Any]] = {
    "id": _UUID,
    "account_id": _UUID,
    "created_at": _TIME,
    "created_by": _ACTOR,
    "updated_at": _TIME,
    "updated_by": _ACTOR,
}
_OWN_ID = {**_UUID, "description": "An id of your own; made by the server when left out."}
_EXPANDED = {"type": "object", "description": "The records that were asked for with expand, by field."}
_SUFFIXES = {
    ListedRecord: "Listed",
    ViewedRecord: "Viewed",
    WrittenRecord: "Written",
    NewRecord: "New",
    RecordChanges: "Changes",
}


def placed(kind: type[object], collection: str | None) -> dict[str, str]:
    """The reference to what a placeholder means for one collection; None = for any."""
    prefix = "Any" if collection is None else f"{collection}."
    return {"$ref": f"#/components/schemas/{prefix}{_SUFFIXES[kind]}"}


def general_schemas() -> dict[str, Schema]:
    """Records of no collection in particular."""
    read = {"type": "object", "properties": {**_SYSTEM, "expand": _EXPANDED}}
    sent = {"type": "object", "properties": {"id": _OWN_ID}}
    return {
        "AnyListed": read,
        "AnyViewed": read,
        "AnyWritten": {**read, "required": ["id"]},
        "AnyNew": sent,
        "AnyChanges": {"type": "object"},
    }


def collection_schemas(definition: Definition, *, everything: bool) -> dict[str, Schema]:
    """The five schemas of a collection. `everything`: for those whom list_fields and view_fields do not limit."""
    collection = definition.collection
    listed = _read(definition, None if everything else definition.list_fields)
    viewed = _read(definition, None if everything else definition.view_fields)
    sent = {field.name: _sent(field) for field in collection.fields}
    needed = [field.name for field in collection.fields if field.required and field.default is None]
    return {
        f"{collection.name}.Listed": listed,
        f"{collection.name}.Viewed": viewed,
        f"{collection.name}.Written": {**viewed, "required": ["id"]},
        f"{collection.name}.New": {
            "type": "object",
            "properties": {"id": _OWN_ID, **sent},
            "required": needed,
            "additionalProperties": False,
        },
        f"{collection.name}.Changes": {"type": "object", "properties": sent, "additionalProperties": False},
    }


def _read(definition: Definition, shown: Iterable[str] | None) -> Schema:
    fields = {field.name: field for field in definition.collection.fields}
    names = [name for name in definition.names if shown is None or name in shown]
    properties = {name: _SYSTEM[name] if name in SYSTEM_FIELDS else _kept(fields[name]) for name in names}
    if any(field.type is FieldType.REFERENCE for field in fields.values()):
        properties["expand"] = _EXPANDED
    return {"type": "object", "properties": properties}


def _kept(field: Field) -> dict[str, Any]:
    if field.type is FieldType.JSON:
        return {}
    return _nullable(field, _READ.get(field.type, {"type": "string"}))


def _sent(field: Field) -> dict[str, Any]:
    if field.type is FieldType.JSON:
        schema: dict[str, Any] = {}
    elif field.type is FieldType.SELECT:
        schema = {"enum": [*options_of(field), *([] if field.required else [None])]}
    else:
        schema = _nullable(field, _SENT[field.type])
    return schema if field.default is None else {**schema, "default": field.default}


def _nullable(field: Field, schema: dict[str, Any]) -> dict[str, Any]:
    return schema if field.required else {**schema, "type": [schema["type"], "null"]}
