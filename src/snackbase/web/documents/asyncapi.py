"""The AsyncAPI 3.0 document of both transports: channels, operations and messages, the same for every server.

Seen from the server: it receives what clients send. Collections are not named in it: /openapi.json describes records.

Source: AsyncAPI Specification 3.0.0.
"""

from typing import Any

from snackbase.realtime.protocol import SUBPROTOCOL
from snackbase.web.documents.messages import FROM_CLIENT, FROM_SERVER, SHARED, TEXT

WEBSOCKET, EVENTS = "websocket", "events"
ANSWERS = {
    "subscribe": ("subscribed", "snapshot", "caught_up", "resync", "error"),
    "unsubscribe": ("unsubscribed", "error"),
    "auth": ("auth", "error"),
    "ping": ("pong",),
}
NOT_OVER_SSE = ("pong", "auth")
SUMMARIES = {
    "event": "A record was created, updated or deleted, or entered or left the list",
    "subscribed": "The first answer to a subscribe; its position is where the subscription begins",
    "unsubscribed": "The answer to an unsubscribe; with a reason when the server ended the subscription",
    "snapshot": "A page of the whole list",
    "caught_up": "After since or snapshot: from here on it is live",
    "resync": "The list may be wrong: load it again; live events continue from the position",
    "heartbeat": "At least every 30 seconds; everything up to its position was sent",
    "pong": "The answer to a ping",
    "auth": "ok after an auth message; expiring a minute before the token ends",
    "error": "A message could not be served; the connection stays, unless close_code is given",
    "closing": "The last message before the server ends the connection",
    "subscribe": "Follow a collection, or several",
    "unsubscribe": "End a subscription",
    "token": "A fresh token of the same user, in place; or the first one",
    "ping": "Ask for a pong",
}
_QUERY = {
    "type": "object",
    "properties": {"token": TEXT, "account": {**TEXT, "description": "For superadmins: the account to watch."}},
}
_STREAM_QUERY = {
    "type": "object",
    "properties": {
        **_QUERY["properties"],  # type: ignore[dict-item]  # it is a dictionary, one line above
        "collection": {"type": "array", "items": TEXT},
        "collections": {"type": "array", "items": TEXT},
        "subscription": {"type": "array", "items": TEXT, "description": "The content of a subscribe message, as JSON."},
        "since": TEXT,
    },
}


def document(version: str, *, root: str = "") -> dict[str, Any]:
    """The whole document. `root`: where the application is mounted."""
    server = {name: _payload(name, name) for name in FROM_SERVER}
    client = {f"{name}Request": _payload(f"{name}Request", _word(name)) for name in FROM_CLIENT}
    schemas = {**FROM_SERVER, **{f"{name}Request": schema for name, schema in FROM_CLIENT.items()}, **SHARED}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "SnackBase realtime",
            "version": version,
            "description": "Every committed change of a record that a subscriber may see, once and in order. "
            "Clients ignore types and keys that they do not know.",
        },
        "defaultContentType": "application/json",
        "servers": {WEBSOCKET: _server("ws", root), EVENTS: _server("http", root)},
        "channels": {
            WEBSOCKET: {
                "address": "/api/v1/realtime/ws",
                "title": "WebSocket",
                "description": "A token by ?token=, Authorization: Bearer, X-API-Key, as subprotocol "
                f"({SUBPROTOCOL} and the token), or in the first message.",
                "servers": [_ref("servers", WEBSOCKET)],
                "messages": {name: _component(name) for name in (*server, *client)},
                "bindings": {"ws": {"method": "GET", "query": _QUERY, "bindingVersion": "0.1.0"}},
            },
            EVENTS: {
                "address": "/api/v1/realtime/subscribe",
                "title": "Server-Sent Events",
                "description": "Each message is the data of a default event. id is a position to resume from.",
                "servers": [_ref("servers", EVENTS)],
                "messages": {name: _component(name) for name in server if name not in NOT_OVER_SSE},
            },
        },
        "operations": _operations(),
        "components": {
            "schemas": schemas,
            "messages": {**server, **client},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
                "apiKey": {"type": "httpApiKey", "name": "X-API-Key", "in": "header"},
                "token": {"type": "httpApiKey", "name": "token", "in": "query"},
            },
        },
    }


def _operations() -> dict[str, Any]:
    asked = {
        name: {
            "action": "receive",
            "channel": _ref("channels", WEBSOCKET),
            "summary": SUMMARIES[_word(name)],
            "messages": [_in_channel(WEBSOCKET, f"{name}Request")],
            "reply": {
                "channel": _ref("channels", WEBSOCKET),
                "messages": [_in_channel(WEBSOCKET, answer) for answer in answers],
            },
        }
        for name, answers in ANSWERS.items()
    }
    return {
        **asked,
        "sendOverWebSocket": {
            "action": "send",
            "channel": _ref("channels", WEBSOCKET),
            "summary": "Everything that the server sends over a WebSocket",
            "messages": [_in_channel(WEBSOCKET, name) for name in FROM_SERVER],
        },
        "sendOverEvents": {
            "action": "send",
            "channel": _ref("channels", EVENTS),
            "summary": "Everything that the server sends over an event stream",
            "messages": [_in_channel(EVENTS, name) for name in FROM_SERVER if name not in NOT_OVER_SSE],
            "bindings": {"http": {"method": "GET", "query": _STREAM_QUERY, "bindingVersion": "0.3.0"}},
        },
    }


def _word(action: str) -> str:
    """The key of the summary of what a client sends: `auth` exists in both directions."""
    return "token" if action == "auth" else action


def _payload(name: str, summary: str) -> dict[str, Any]:
    return {"name": name, "summary": SUMMARIES[summary], "payload": _ref("components", "schemas", name)}


def _server(protocol: str, root: str) -> dict[str, Any]:
    return {
        "host": "{host}",
        **({"pathname": root} if root else {}),
        "protocol": protocol,
        "variables": {"host": {"default": "127.0.0.1:8000", "description": "Where this server is reached."}},
        "security": [_ref("components", "securitySchemes", name) for name in ("bearer", "apiKey", "token")],
    }


def _component(name: str) -> dict[str, str]:
    return _ref("components", "messages", name)


def _in_channel(channel: str, name: str) -> dict[str, str]:
    return _ref("channels", channel, "messages", name)


def _ref(*path: str) -> dict[str, str]:
    return {"$ref": "#/" + "/".join(path)}
