"""What the routes of collections and rules take and give."""

from collections.abc import Mapping
from typing import Any

from snackbase.catalog import OPERATIONS as RULES
from snackbase.model import Field, FieldType, Index, OnDelete
from snackbase.services.collections import Validation
from snackbase.services.definitions import MAX_FIELDS, MAX_INDEXES
from snackbase.services.porting import Report
from snackbase.web.collections import MAX_PAGE_SIZE, SORTED_BY, RuleToTest, RuleToValidate, ToImport
from snackbase.web.documents.operation import (
    FLAG,
    INTEGER,
    TEXT,
    TIME,
    Operation,
    Operations,
    Parameter,
    Schema,
    array_of,
    object_of,
    page_of,
)

TAG = "collections"
EVERY = "/api/v1/collections"
ONE = EVERY + "/{collection}"

_RULE = {"type": ["string", "null"], "description": 'null: superadmins only. "": everybody.'}
_RULES: dict[str, Any] = {f"{operation}_rule": _RULE for operation in RULES}
_SHOWN = {"type": ["string", "array", "null"], "items": TEXT, "description": "* or names, with commas or as a list."}
_RIGHTS = object_of({**_RULES, **dict.fromkeys(("list_fields", "view_fields", "create_fields", "update_fields"), TEXT)})
_NEW_FIELD = object_of(
    {
        "name": TEXT,
        "type": {"enum": [kind.value for kind in FieldType]},
        "required": {"type": "boolean"},
        "default": {},
        "unique": {"type": "boolean"},
        "options": {},
        "collection": {"type": ["string", "null"]},
        "on_delete": {"enum": [*(word.value for word in OnDelete), None]},
    },
    required=("name",),
)
_NEW_INDEX = object_of({"fields": array_of(TEXT), "unique": {"type": "boolean"}}, required=("fields",))
_CHANGED_RIGHTS: dict[str, Any] = {**_RULES, "list_fields": _SHOWN, "view_fields": _SHOWN}
_DEFINED: dict[str, Any] = {
    "name": {"type": "string", "pattern": "^[A-Za-z][A-Za-z0-9_]{2,63}$"},
    "schema": {"type": "array", "items": _NEW_FIELD, "maxItems": MAX_FIELDS},
    "indexes": {"type": "array", "items": _NEW_INDEX, "maxItems": MAX_INDEXES},
    **_CHANGED_RIGHTS,
}
_DESCRIBED = object_of(
    {
        **dict.fromkeys(("id", "name", "table_name"), TEXT),
        **dict.fromkeys(("schema", "fields"), array_of(Field)),
        "indexes": array_of(Index),
        **_RIGHTS["properties"],
        **dict.fromkeys(("fields_count", "field_count", "records_count", "record_count"), INTEGER),
        "has_public_access": {"type": "boolean"},
        "created_at": TIME,
        "updated_at": TIME,
    }
)


class CollectionDefinition:
    """Stands for a collection as it is answered: `SCHEMAS` has the schema."""


class RightsDefinition:
    """Stands for a collection's rules and shown fields."""


_EXPORTED = object_of(
    {
        "version": TEXT,
        "exported_at": TIME,
        "exported_by": TEXT,
        "collections": array_of(
            object_of({"name": TEXT, "schema": array_of(Field), "indexes": array_of(Index), "rules": RightsDefinition})
        ),
    }
)

SCHEMAS: Mapping[type[object], Schema] = {CollectionDefinition: _DESCRIBED, RightsDefinition: _RIGHTS}

_UPDATE = Operation(
    summary="Change a collection; a field that is missing in schema is dropped",
    tag=TAG,
    body=object_of(_DEFINED, required=()),
    answer=CollectionDefinition,
    errors=(409,),
)
_UPDATE_RULES = Operation(
    summary="Change rules and shown fields",
    tag=TAG,
    body=object_of(_CHANGED_RIGHTS, required=()),
    answer=RightsDefinition,
    errors=(409,),
)

OPERATIONS: Operations = {
    ("GET", EVERY): Operation(
        summary="All collections",
        tag=TAG,
        query=(
            Parameter("page", {"type": "integer", "minimum": 1, "default": 1}),
            Parameter(
                "page_size", {"type": "integer", "minimum": 1, "maximum": MAX_PAGE_SIZE, "default": MAX_PAGE_SIZE}
            ),
            Parameter("sort_by", {"enum": list(SORTED_BY)}),
            Parameter("sort_order", {"enum": ["asc", "desc"]}),
            Parameter("search", TEXT, "Part of a name."),
        ),
        answer=page_of(CollectionDefinition, page=INTEGER, page_size=INTEGER, total_pages=INTEGER),
    ),
    ("POST", EVERY): Operation(
        summary="Make a collection",
        tag=TAG,
        body=object_of(_DEFINED, required=("name",)),
        answer=CollectionDefinition,
        status=201,
        errors=(409,),
    ),
    ("GET", EVERY + "/names"): Operation(
        summary="The names of all collections", tag=TAG, answer=object_of({"names": array_of(TEXT), "total": INTEGER})
    ),
    ("GET", ONE): Operation(summary="One collection, by name or id", tag=TAG, answer=CollectionDefinition),
    ("PUT", ONE): _UPDATE,
    ("PATCH", ONE): _UPDATE,
    ("DELETE", ONE): Operation(
        summary="Drop a collection with its records, in all accounts", tag=TAG, status=204, errors=(409,)
    ),
    ("GET", ONE + "/rules"): Operation(summary="Rules and shown fields", tag=TAG, answer=RightsDefinition),
    ("PUT", ONE + "/rules"): _UPDATE_RULES,
    ("PATCH", ONE + "/rules"): _UPDATE_RULES,
    ("POST", "/api/v1/rules/validate"): Operation(
        summary="Whether a text is a rule, where the mistake is, and what the rule costs",
        tag=TAG,
        body=RuleToValidate,
        answer=Validation,
    ),
    ("POST", "/api/v1/rules/test"): Operation(
        summary="Whether a rule is true of a made-up case", tag=TAG, body=RuleToTest, answer=object_of({"result": FLAG})
    ),
    ("GET", EVERY + "/export"): Operation(
        summary="Definitions as a document for import",
        tag=TAG,
        query=(Parameter("collection_ids", TEXT, "Only these, separated by commas."),),
        answer=_EXPORTED,
    ),
    ("POST", EVERY + "/import"): Operation(
        summary="Create or change collections from a document", tag=TAG, body=ToImport, answer=Report, errors=(409,)
    ),
}
