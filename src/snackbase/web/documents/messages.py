"""The messages of realtime as JSON Schema, beside their one source: realtime/protocol.py.

What clients send comes from the structs that read it; what the server sends is written down here, since builders of
bytes have no types, and tests hold every real message against it. New keys may be added: nothing here forbids them.
"""

from typing import Any

import msgspec

from snackbase.errors import CLOSINGS
from snackbase.model import COLLECTION_NAME
from snackbase.realtime.protocol import EVERY_COLLECTION, OPERATIONS, SUBSCRIPTION_ID, SnapshotOptions, SubscribeRequest

POSITION: dict[str, Any] = {"type": "string", "pattern": r"^[A-Za-z0-9._-]{1,128}$"}
TIMESTAMP: dict[str, Any] = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$"}
NAME: dict[str, Any] = {"type": "string", "pattern": "^" + SUBSCRIPTION_ID.pattern.replace(r"\Z", "$")}
_PLAIN = COLLECTION_NAME.pattern.replace(r"\Z", "")
COLLECTION: dict[str, Any] = {"type": "string", "pattern": rf"^({_PLAIN}|\{EVERY_COLLECTION})$"}
WORD: dict[str, Any] = {"type": "string", "pattern": "^[a-z][a-z0-9_]*$"}
TEXT: dict[str, Any] = {"type": "string"}
MILLISECONDS: dict[str, Any] = {"type": "integer", "minimum": 0}
REASONS = ("expired", "epoch", "ahead", "unknown", "rights", "schema")
RETURNING = {one.close_code: one.code for one in CLOSINGS.values() if one.retry}
STAYING_AWAY = {one.close_code: one.code for one in CLOSINGS.values() if not one.retry}
EVENT_NAME = "event"


def _message(required: dict[str, Any], optional: dict[str, Any] | None = None) -> dict[str, Any]:
    properties = {**required, **(optional or {})}
    return {"type": "object", "properties": properties, "required": list(required)}


def _server(kind: str, required: dict[str, Any], optional: dict[str, Any] | None = None) -> dict[str, Any]:
    return _message({"type": {"const": kind}, **required}, optional)


_ECHO = {"id": NAME, "action": TEXT}
_NAMED = {"id": NAME, "subscription": NAME}
_LOST = {"reason": {"enum": list(REASONS)}, "collection": COLLECTION, "position": POSITION}
_TOKEN = {"status": {"enum": ["ok", "expiring"]}, "expires_at": TIMESTAMP}
_END = {
    "code": {"enum": list(RETURNING.values())},
    "close_code": {"enum": list(RETURNING)},
    "retry": {"const": True},
    "retry_after_ms": MILLISECONDS,
}

EVENT: dict[str, Any] = _message(
    {
        "type": {"type": "string", "pattern": rf"^{_PLAIN}\.({'|'.join(OPERATIONS)})$"},
        "timestamp": TIMESTAMP,
        "data": {"type": "object", "properties": {"id": TEXT}, "required": ["id"]},
    },
    {
        "position": {**POSITION, "description": "Missing on all but the last event of a transaction."},
        "subscription": {**TEXT, "description": "The id of a named subscription, or *."},
        "change": {"enum": ["enter", "leave"], "description": "The record came into view, or left it."},
        "tx": TEXT,
        "tx_size": {"type": "integer", "minimum": 2},
    },
)

FROM_SERVER: dict[str, dict[str, Any]] = {
    EVENT_NAME: EVENT,
    "subscribed": _server(
        "subscribed",
        {
            "status": {"const": "subscribed"},
            "collection": COLLECTION,
            "operations": {"type": "array", "items": {"enum": list(OPERATIONS)}},
            "position": POSITION,
            "timestamp": TIMESTAMP,
        },
        _ECHO,
    ),
    "unsubscribed": _server(
        "unsubscribed",
        {"status": {"const": "unsubscribed"}},
        {"collection": TEXT, "reason": {"enum": ["forbidden", "collection_deleted"]}, **_ECHO},
    ),
    "snapshot": _server(
        "snapshot",
        {
            "collection": COLLECTION,
            "data": {"type": "array", "items": {"type": "object"}},
            "complete": {"type": "boolean"},
        },
        _NAMED,
    ),
    "caught_up": _server("caught_up", {"collection": COLLECTION, "position": POSITION}, _NAMED),
    "resync": _server("resync", {**_LOST, "data": _message(_LOST)}, _NAMED),
    "heartbeat": _server("heartbeat", {"event": {"const": "heartbeat"}, "timestamp": TIMESTAMP, "position": POSITION}),
    "pong": _server("pong", {"timestamp": TIMESTAMP}, _ECHO),
    "auth": _server("auth", {**_TOKEN, "data": _message(_TOKEN)}, _ECHO),
    "error": _server(
        "error",
        {
            "status": {"const": "error"},
            "code": WORD,
            "error": TEXT,
            "message": TEXT,
            "data": _message({"message": TEXT, "code": WORD}, {"collection": TEXT}),
        },
        {
            "collection": TEXT,
            "close_code": {"enum": list(STAYING_AWAY), "description": "Given when the connection ends with it."},
            "retry": {"const": False},
            **_ECHO,
        },
    ),
    "closing": _server("closing", {**_END, "data": _message({"message": TEXT, **_END})}),
}
"""By the `type`; every event under one name."""


def _definitions() -> dict[str, Any]:
    """What the structs say, with the limits that `check_request` adds."""
    _, found = msgspec.json.schema_components((SubscribeRequest, SnapshotOptions), ref_template=REF)
    properties = found[SubscribeRequest.__name__]["properties"]
    properties["collection"] = COLLECTION
    properties["operations"] = {
        "anyOf": [{"type": "array", "items": {"enum": list(OPERATIONS)}, "minItems": 1}, {"type": "null"}],
        "default": None,
    }
    properties["id"] = {"anyOf": [NAME, {"type": "null"}], "default": None}
    return found


REF = "#/components/schemas/{name}"
SHARED = _definitions()


def _subscribe() -> dict[str, Any]:
    keys = SHARED[SubscribeRequest.__name__]["properties"]
    one = {**_client("subscribe", {}, keys), "required": ["action", "collection"]}
    several = {
        "type": "array",
        "items": {"$ref": REF.format(name=SubscribeRequest.__name__)},
        "minItems": 1,
    }
    return {"oneOf": [one, _client("subscribe", {"subscriptions": several}, {"since": keys["since"]})]}


def _client(action: str, required: dict[str, Any], optional: dict[str, Any] | None = None) -> dict[str, Any]:
    """A message of a client: unknown keys are refused."""
    return {**_message({"action": {"const": action}, **required}, optional), "additionalProperties": False}


FROM_CLIENT: dict[str, dict[str, Any]] = {
    "subscribe": _subscribe(),
    "unsubscribe": {
        **_client("unsubscribe", {}, {"collection": COLLECTION, "id": NAME}),
        "anyOf": [{"required": ["collection"]}, {"required": ["id"]}],
    },
    "auth": _client("auth", {"token": TEXT}, {"id": NAME}),
    "ping": _client("ping", {}, {"id": NAME}),
}
"""By the `action`."""
