"""What the routes of records take and give; described once in general and once for each collection."""

from typing import get_args

from snackbase.model import MAX_SAFE_INTEGER
from snackbase.services.listing import DEFAULT_LIMIT, MAX_LIMIT, MAX_SKIP
from snackbase.services.records import MAX_BATCH
from snackbase.services.transfer import Fault, Strategy
from snackbase.web.documents.operation import (
    FLAG,
    INTEGER,
    TEXT,
    ListedRecord,
    NewRecord,
    Operation,
    Operations,
    Parameter,
    RecordChanges,
    ViewedRecord,
    WrittenRecord,
    array_of,
    object_of,
)
from snackbase.web.transfer import JSON_LINES

TAG = "records"
COLLECTION = "/api/v1/records/{collection}"
BATCH = COLLECTION + "/batch"
RECORD = COLLECTION + "/{record_id}"

_FIELDS = Parameter("fields", TEXT, "Only these fields, separated by commas.")
_EXPAND = Parameter("expand", TEXT, "Reference fields whose records to include, separated by commas.")
_LIST = (
    Parameter("filter", TEXT, "A filter, such as status = 'published' && views > 3."),
    Parameter("sort", TEXT, "Up to five fields: -created_at,+title. Newest first when left out."),
    _FIELDS,
    _EXPAND,
    Parameter("skip", {"type": "integer", "minimum": 0, "maximum": MAX_SKIP, "default": 0}),
    Parameter("limit", {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT}),
    Parameter("total", FLAG, "false saves counting."),
    Parameter("include_count", FLAG, "Another word for total."),
    Parameter("cursor", TEXT, "A next_cursor: the page after it."),
    Parameter("cursor_before", TEXT, "A prev_cursor: the page before it."),
)
_LISTED = object_of(
    {
        "items": array_of(ListedRecord),
        "total": {"type": ["integer", "null"], "minimum": 0, "maximum": MAX_SAFE_INTEGER},
        "skip": INTEGER,
        "limit": INTEGER,
        "position": {"type": "string", "description": "Subscribe with it as since, and you miss nothing."},
        "next_cursor": {"type": ["string", "null"]},
        "prev_cursor": {"type": ["string", "null"]},
        "has_more": {"type": "boolean"},
    },
    required=("items", "total", "skip", "limit", "position"),
)


def _batch(key: str, item: object) -> object:
    return object_of({key: {"type": "array", "items": item, "minItems": 1, "maxItems": MAX_BATCH}})


def _done(key: str, item: object) -> object:
    return object_of({key: array_of(item), "count": INTEGER})


_EDIT = object_of({"id": TEXT, "data": RecordChanges})

_REPORT = object_of(
    {
        **{name: INTEGER for name in ("lines", "created", "updated", "skipped")},
        **{name: FLAG for name in ("success", "stopped")},
        "errors": array_of(Fault),
    }
)

OPERATIONS: Operations = {
    ("GET", COLLECTION + "/export"): Operation(
        summary="All records of the account as JSON lines, for superadmins", tag=TAG, answer=TEXT, media_type=JSON_LINES
    ),
    ("POST", COLLECTION + "/import"): Operation(
        summary="JSON lines into the account, for superadmins",
        tag=TAG,
        query=(
            Parameter("strategy", {"enum": list(get_args(Strategy))}, "What to do with a record that exists."),
            Parameter("keep_going", FLAG, "Continue after a line that cannot be imported."),
        ),
        body=TEXT,
        body_type=JSON_LINES,
        answer=_REPORT,
        errors=(409,),
    ),
    ("GET", COLLECTION): Operation(
        summary="A page of records", tag=TAG, query=_LIST, answer=_LISTED, access="guest", rule="list"
    ),
    ("POST", COLLECTION): Operation(
        summary="Create a record",
        tag=TAG,
        body=NewRecord,
        answer=WrittenRecord,
        status=201,
        access="guest",
        rule="create",
        writes=True,
        errors=(409,),
    ),
    ("POST", BATCH): Operation(
        summary="Create all of these records or none",
        tag=TAG,
        body=_batch("records", NewRecord),
        answer=_done("created", WrittenRecord),
        status=201,
        access="guest",
        rule="create",
        writes=True,
        errors=(409,),
    ),
    ("PATCH", BATCH): Operation(
        summary="Change all of these records or none",
        tag=TAG,
        body=_batch("records", _EDIT),
        answer=_done("updated", WrittenRecord),
        access="guest",
        rule="update",
        writes=True,
        errors=(409,),
    ),
    ("DELETE", BATCH): Operation(
        summary="Delete all of these records or none",
        tag=TAG,
        body=_batch("ids", TEXT),
        answer=_done("deleted", TEXT),
        access="guest",
        rule="delete",
        writes=True,
        errors=(409,),
    ),
    ("GET", RECORD): Operation(
        summary="One record", tag=TAG, query=(_FIELDS, _EXPAND), answer=ViewedRecord, access="guest", rule="view"
    ),
    ("PUT", RECORD): Operation(
        summary="Replace all fields of a record",
        tag=TAG,
        body=NewRecord,
        answer=WrittenRecord,
        access="guest",
        rule="update",
        writes=True,
        errors=(409,),
    ),
    ("PATCH", RECORD): Operation(
        summary="Change some fields of a record",
        tag=TAG,
        body=RecordChanges,
        answer=WrittenRecord,
        access="guest",
        rule="update",
        writes=True,
        errors=(409,),
    ),
    ("DELETE", RECORD): Operation(
        summary="Delete a record",
        tag=TAG,
        status=204,
        access="guest",
        rule="delete",
        writes=True,
        errors=(409, 422),
    ),
}
