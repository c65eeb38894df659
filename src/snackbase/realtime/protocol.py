"""The messages of contract §3, both ways: JSON in, typed requests out; typed facts in, JSON bytes out.

Every server message has a `type`, whatever the transport. Replies are a superset of what the product's page shows and
of what the public SDK reads (`status` as well as `type`). Unknown keys of a client message are refused by name: a slip
such as `operation` would otherwise silently subscribe to everything.
"""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import msgspec

from snackbase.errors import BadRequest, Closing, Forbidden, NotFound, SnackBaseError
from snackbase.model import COLLECTION_NAME

OPERATIONS = ("create", "update", "delete")
SUBSCRIPTION_ID = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
SUBPROTOCOL = "snackbase.v1"
EVERY_COLLECTION = "*"
MAX_FILTER_LENGTH = 2000
MAX_ECHO_CHARACTERS = 64
MOST_OPERATIONS, MOST_FIELDS, MAX_FIELDS_LENGTH, MAX_SINCE_LENGTH = 10, 200, 20_000, 1000
"""What is asked for is kept as long as the subscription, so nothing of it may be as large as a message."""

_encode = msgspec.json.Encoder().encode


class ProtocolError(Exception):
    """A client message that cannot be served; the connection stays. `code` is a word of docs/reference/errors.md.

    Attributes:
        origin: the error of the store or a service that it passes on; None = the message itself is wrong, or what it
            asks for is not the client's to have.
    """

    def __init__(
        self, code: str, message: str, *, collection: str | None = None, origin: SnackBaseError | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.collection = collection
        self.origin = origin

    @classmethod
    def passing_on(cls, error: SnackBaseError, *, collection: str | None = None) -> "ProtocolError":
        """What the store or a service said."""
        return cls(error.code, error.message, collection=collection, origin=error)

    def over_http(self) -> SnackBaseError:
        """The same as an answer to an HTTP request; of a store that is busy its own, which a browser may try again."""
        if self.origin is not None:
            return self.origin
        kinds: dict[str, type[SnackBaseError]] = {"collection_not_found": NotFound, "forbidden": Forbidden}
        return kinds.get(self.code, BadRequest)(self.message, code=self.code)


class SnapshotOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """`snapshot` in its long form: sort as in a list, limit = page size."""

    sort: str | None = None
    limit: int | None = None


class SubscribeRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One subscription as asked for: by a WebSocket message, in its `subscriptions`, or by an SSE parameter."""

    collection: str
    operations: tuple[str, ...] | None = None
    filter: str | None = None
    fields: tuple[str, ...] | str | None = None
    since: str | None = None
    snapshot: bool | SnapshotOptions | None = None
    id: str | None = None

    @property
    def key(self) -> str:
        """What it replaces: a name of its own, or the collection's unnamed place."""
        return f"#{self.id}" if self.id is not None else self.collection


class ClientMessage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Any message of a client, before its action is looked at."""

    action: str
    collection: str | None = None
    operations: tuple[str, ...] | None = None
    filter: str | None = None
    fields: tuple[str, ...] | str | None = None
    since: str | None = None
    snapshot: bool | SnapshotOptions | None = None
    id: str | None = None
    subscriptions: tuple[SubscribeRequest, ...] | None = None
    token: str | None = None


class Echo(msgspec.Struct, frozen=True):
    """What an answer repeats of the message that it answers (contract §3)."""

    action: str | None = None
    id: str | None = None


class _Loose(msgspec.Struct):
    action: Any = None
    id: Any = None


_decoder = msgspec.json.Decoder(ClientMessage)
_loose_decoder = msgspec.json.Decoder(_Loose)
_request_decoder = msgspec.json.Decoder(SubscribeRequest)


def decode(payload: bytes) -> ClientMessage:
    """Read one client message.

    Raises:
        ProtocolError: invalid_json (not JSON, or nested too deep), invalid_message (wrong keys or types).
    """
    message: ClientMessage = _decode(_decoder, payload)
    return message


def echo_of(payload: bytes) -> Echo:
    """What to repeat of a message that could not be understood: its action and its id, where they are such."""
    try:
        found = _loose_decoder.decode(payload)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return Echo()
    action = found.action if isinstance(found.action, str) and len(found.action) <= MAX_ECHO_CHARACTERS else None
    name = found.id if isinstance(found.id, str) and SUBSCRIPTION_ID.match(found.id) else None
    return Echo(action, name)


def shown(message: ClientMessage) -> dict[str, Any]:
    """A message as a hook is shown it: everything that was sent but a token."""
    sent: dict[str, Any] = msgspec.json.decode(_encode(message))
    sent.pop("token", None)
    return {"action": message.action, "collection": None, "id": None, **sent}


def decode_request(payload: str | bytes) -> SubscribeRequest:
    """Read the JSON of an SSE `subscription=` parameter. Raises ProtocolError as `decode` does."""
    request: SubscribeRequest = _decode(_request_decoder, payload)
    check_request(request)
    return request


def _decode(decoder: msgspec.json.Decoder[Any], payload: str | bytes) -> Any:
    try:
        return decoder.decode(payload)
    except msgspec.ValidationError as error:
        raise ProtocolError("invalid_message", f"The message has a wrong form: {error}.") from None
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise ProtocolError("invalid_json", "The message is not a JSON object.") from None


def subscribe_requests(message: ClientMessage) -> tuple[SubscribeRequest, ...]:
    """The subscriptions a `subscribe` message asks for: its own, or its list's with the shared `since` filled in.

    Those of a list are still to be checked, each by itself: one that cannot be right must not take the others with it,
    which are all that a client had when it comes back.

    Raises:
        ProtocolError: neither or both forms, or a single request that cannot be right.
    """
    if message.subscriptions is not None:
        alone = (message.collection, message.operations, message.filter, message.fields, message.snapshot, message.id)
        if any(value is not None for value in alone):
            raise ProtocolError("invalid_message", "Give either `subscriptions` or one subscription's own keys.")
        if not message.subscriptions:
            raise ProtocolError("invalid_message", "`subscriptions` is empty.")
        return tuple(
            request if request.since is not None or message.since is None else _with_since(request, message.since)
            for request in message.subscriptions
        )
    if message.collection is None:
        raise ProtocolError("invalid_message", "`subscribe` needs a `collection`.")
    one = _live_request(message.collection, message.operations, message.filter, message.fields, message.id)
    if message.since is not None or message.snapshot is not None:
        one = msgspec.structs.replace(one, since=message.since, snapshot=message.snapshot)
    check_request(one)
    return (one,)


@lru_cache(maxsize=1024)
def _live_request(
    collection: str,
    operations: tuple[str, ...] | None,
    filter: str | None,
    fields: tuple[str, ...] | str | None,
    name: str | None,
) -> SubscribeRequest:
    """Ten thousand who ask for the same share one request, which is kept for as long as they are subscribed."""
    return SubscribeRequest(collection=collection, operations=operations, filter=filter, fields=fields, id=name)


def _with_since(request: SubscribeRequest, since: str) -> SubscribeRequest:
    return msgspec.structs.replace(request, since=since)


def renamed(request: SubscribeRequest, collection: str) -> SubscribeRequest:
    """The same request for the collection's present name."""
    return msgspec.structs.replace(request, collection=collection)


def check_request(request: SubscribeRequest) -> None:
    """Refuse what can be refused without knowing the collection. Raises ProtocolError."""
    name = request.collection
    if name != EVERY_COLLECTION and not COLLECTION_NAME.match(name):
        raise ProtocolError("collection_not_found", "There is no such collection.", collection=name[:64])
    if request.id is not None and not SUBSCRIPTION_ID.match(request.id):
        raise ProtocolError("invalid_id", "A subscription's id is 1 to 64 of A-Z a-z 0-9 _ -.", collection=name)
    if len(request.operations or ()) > MOST_OPERATIONS:
        raise ProtocolError("invalid_operations", "Name each operation once.", collection=name)
    for operation in request.operations or ():
        if operation not in OPERATIONS:
            allowed = ", ".join(OPERATIONS)
            raise ProtocolError(
                "invalid_operations", f"{operation[:40]!r} is no operation; there are {allowed}.", collection=name
            )
    if request.operations is not None and not request.operations:
        raise ProtocolError("invalid_operations", "`operations` is empty; leave it out for all.", collection=name)
    if request.filter is not None and len(request.filter) > MAX_FILTER_LENGTH:
        raise ProtocolError("invalid_filter", f"A filter has at most {MAX_FILTER_LENGTH} characters.", collection=name)
    if len(request.fields or ()) > (MAX_FIELDS_LENGTH if isinstance(request.fields, str) else MOST_FIELDS):
        raise ProtocolError("invalid_fields", "Name each field once.", collection=name)
    if len(request.since or "") > MAX_SINCE_LENGTH:
        raise ProtocolError("invalid_message", "`since` is too long for a position.", collection=name)
    if request.snapshot and request.since is not None:
        raise ProtocolError("invalid_message", "`snapshot` and `since` exclude each other.", collection=name)


def field_names(fields: tuple[str, ...] | str | None) -> tuple[str, ...] | None:
    """The fields asked for, each once, in order; None = all. A comma list is accepted as in REST."""
    if fields is None:
        return None
    names = fields.split(",") if isinstance(fields, str) else fields
    cleaned = tuple(dict.fromkeys(name.strip() for name in names if name.strip()))
    return None if cleaned == ("*",) else cleaned


# Server to client ----------------------------------------------------------------------------------------------------


def subscribed(
    collection: str, operations: Sequence[str], position: str, timestamp: str, *, name: str | None, action: str | None
) -> bytes:
    return _message(
        {
            "type": "subscribed",
            "status": "subscribed",
            "collection": collection,
            "operations": operations,
            "position": position,
            "timestamp": timestamp,
        },
        id=name,
        action=action,
    )


def unsubscribed(
    collection: str | None, *, name: str | None = None, action: str | None = None, reason: str | None = None
) -> bytes:
    head = {"type": "unsubscribed", "status": "unsubscribed"}
    return _message(head, collection=collection, reason=reason, id=name, action=action)


def resync(collection: str, reason: str, position: str, *, name: str | None) -> bytes:
    """`data` repeats the facts, because the SDK hands only `data` to its listeners."""
    data = {"reason": reason, "collection": collection, "position": position}
    return _message({"type": "resync", **data, "data": data}, subscription=name, id=name)


def caught_up(collection: str, position: str, *, name: str | None) -> bytes:
    return _message({"type": "caught_up", "collection": collection, "position": position}, subscription=name, id=name)


def snapshot(collection: str, data: Sequence[object], *, complete: bool, name: str | None) -> bytes:
    """A page of the whole set; `complete` on the last."""
    return _message(
        {"type": "snapshot", "collection": collection, "data": data, "complete": complete}, subscription=name, id=name
    )


def heartbeat(timestamp: str, position: str) -> bytes:
    """Both `type` and `event` say so: the page's WebSocket example reads one, its SSE example the other."""
    return f'{{"type":"heartbeat","event":"heartbeat","timestamp":"{timestamp}","position":"{position}"}}'.encode()


def pong(timestamp: str, *, name: str | None, action: str | None) -> bytes:
    return _message({"type": "pong", "timestamp": timestamp}, id=name, action=action)


def authenticated(status: str, expires_at: str, *, name: str | None = None, action: str | None = None) -> bytes:
    """`status`: ok after an auth message, expiring 60 s before the end."""
    data = {"status": status, "expires_at": expires_at}
    return _message({"type": "auth", **data, "data": data}, id=name, action=action)


def closing(end: Closing, retry_after_ms: int) -> bytes:
    """The last message of a connection. 45xx is an `error`: the app has to act before it comes back."""
    if not end.retry:
        return error(end.code, end.message, close_code=end.close_code)
    facts = {"code": end.code, "close_code": end.close_code, "retry": True, "retry_after_ms": retry_after_ms}
    return _encode({"type": "closing", **facts, "data": {"message": end.message, **facts}})


def error(
    code: str,
    message: str,
    *,
    collection: str | None = None,
    name: str | None = None,
    action: str | None = None,
    close_code: int | None = None,
) -> bytes:
    """A bad request; the connection stays unless `close_code` says how it ends."""
    data: dict[str, object] = {"message": message, "code": code}
    if collection is not None:
        data["collection"] = collection
    head = {"type": "error", "status": "error", "code": code, "error": message, "message": message}
    extra: dict[str, object] = {} if close_code is None else {"close_code": close_code, "retry": False}
    return _message({**head, **extra}, collection=collection, data=data, id=name, action=action)


def _message(head: Mapping[str, object], **optional: object) -> bytes:
    return _encode({**head, **{key: value for key, value in optional.items() if value is not None}})
