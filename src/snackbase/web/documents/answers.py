"""The answers of an operation: the one that went well, and every refusal that may come, all in the one shape."""

from typing import Any

from snackbase import errors
from snackbase.errors import SnackBaseError
from snackbase.web.documents.operation import Operation, Schema

ALWAYS = (400, 405, 408, 413, 503)
"""Whatever is asked: what HTTP itself refuses, and a server that cannot now."""
WITH_TOKEN = (401, 403, 404)
WITH_BODY = (415,)
WITH_JSON = (422,)

_KINDS: dict[int, type[SnackBaseError]] = {
    kind.status: kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, SnackBaseError) and kind is not SnackBaseError
}
_MEANINGS = {
    400: "The request does not have the required form.",
    401: "The token is missing or no longer valid.",
    403: "You may not do this.",
    404: "It does not exist, or you may not see it.",
    405: "This path does not support this method.",
    408: "The request did not arrive in time.",
    409: "The present state does not allow it.",
    410: "The server cannot say exactly what changed after this position.",
    413: "The body or the record is larger than allowed.",
    415: "The body is not JSON.",
    422: "Some values are not acceptable; details says which.",
    426: "This path is a WebSocket.",
    429: "Too many requests; Retry-After says when to try again.",
    503: "The server cannot do it now; Retry-After says when to try again.",
}
ERROR: dict[str, Any] = {
    "type": "object",
    "properties": {
        **{name: {"type": "string"} for name in ("error", "message", "detail")},
        "code": {"type": "string", "pattern": "^[a-z][a-z0-9_]*$"},
        "details": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {name: {"type": "string"} for name in ("field", "message", "code")},
                "required": ["field", "message", "code"],
            },
        },
    },
    "required": ["error", "message", "detail", "code", "details"],
}
_TEXT = {"schema": {"type": "string"}}
HEADERS: dict[str, Any] = {
    "Position": {**_TEXT, "description": "The position right after the write."},
    "RetryAfter": {"schema": {"type": "integer", "minimum": 1}, "description": "Seconds."},
    "Allow": {**_TEXT, "description": "The methods that this path supports."},
    "WWW-Authenticate": _TEXT,
    "Upgrade": _TEXT,
    "Replayed": {**_TEXT, "description": "true when the write had been done before under this Idempotency-Key."},
}
_CARRIED = {
    401: {"WWW-Authenticate": "WWW-Authenticate"},
    405: {"Allow": "Allow"},
    426: {"Upgrade": "Upgrade"},
    429: {"Retry-After": "RetryAfter"},
    503: {"Retry-After": "RetryAfter"},
}
_WRITTEN = {"X-SnackBase-Position": "Position", "Idempotency-Replayed": "Replayed"}


def _refusal(status: int) -> dict[str, Any]:
    described: dict[str, Any] = {
        "description": _MEANINGS[status],
        "content": {"application/json": {"schema": ERROR}},
    }
    if status in _CARRIED:
        described["headers"] = _headers(_CARRIED[status])
    return described


def _headers(names: dict[str, str]) -> dict[str, Any]:
    return {header: {"$ref": f"#/components/headers/{name}"} for header, name in names.items()}


RESPONSES = {_KINDS[status].__name__: _refusal(status) for status in _MEANINGS}


def responses(operation: Operation, answer: Schema) -> dict[str, Any]:
    """Every answer by its status."""
    well: dict[str, Any] = {"description": "It went well."}
    if answer is not None:
        well["content"] = {operation.media_type: {"schema": answer}}
    if operation.writes:
        well["headers"] = _headers(_WRITTEN)
    return {str(operation.status): well, **{str(status): _ref(status) for status in sorted(statuses(operation))}}


def statuses(operation: Operation) -> set[int]:
    """The statuses of every refusal."""
    return {
        *ALWAYS,
        *operation.errors,
        *(() if operation.access == "open" else WITH_TOKEN),
        *(() if operation.body is None else WITH_BODY),
        *(WITH_JSON if operation.body is not None and operation.body_type == "application/json" else ()),
    }


def _ref(status: int) -> dict[str, str]:
    return {"$ref": f"#/components/responses/{_KINDS[status].__name__}"}
