"""The Server-Sent Events endpoint: subscriptions out of a URL, then a stream (contract §4).

Plain ASGI, like the WebSocket endpoint; errors are raised for the HTTP layer around it, which answers them and adds
CORS. A browser's EventSource stops for ever on any status but 200, so what may succeed later is a 200 that ends.
"""

import difflib
import random
from typing import Any

import msgspec
from starlette.datastructures import Headers, QueryParams
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from snackbase.auth import token_of
from snackbase.config import Settings
from snackbase.errors import OVERLOADED, Closing, NotFound, SnackBaseError, Unauthorized
from snackbase.gateway.asgi import AsgiSseLink
from snackbase.gateway.link import EXTENSION, StreamHandover
from snackbase.gateway.websocket import Authenticate, retry_ms
from snackbase.gateway.wire import SSE_BARE
from snackbase.hub import Authenticated, Connection, Hub, Opening, Refused
from snackbase.metrics import Counters, add
from snackbase.origins import Origins
from snackbase.realtime import protocol
from snackbase.realtime.protocol import ProtocolError, SubscribeRequest

PATH = "/api/v1/realtime/subscribe"
PARAMETERS = ("token", "collection", "collections", "subscription", "since", "account")
OF_A_SUBSCRIPTION = ("operations", "filter", "fields", "snapshot")
HEADERS = (
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store, no-transform"),
    (b"x-accel-buffering", b"no"),
)


class Asked(msgspec.Struct, frozen=True):
    """What a stream's URL and headers ask for. `resuming`: the browser came back by itself (Last-Event-ID)."""

    requests: tuple[SubscribeRequest, ...]
    resuming: bool


def read_subscriptions(query: QueryParams, last_event_id: str | None, *, most: int) -> Asked:
    """The subscriptions of a stream.

    Args:
        last_event_id: the header; a position in it wins over `since` and over `snapshot`.
        most: how many there may be.

    Raises:
        ProtocolError: too many, both spellings mixed, or one that cannot be right.
    """
    for name in query:
        if hint := _misplaced(name):
            raise ProtocolError("invalid_message", f"There is no parameter {name[:64]!r} here. {hint}")
    names = [*query.getlist("collection"), *query.getlist("collections")]
    objects = query.getlist("subscription")
    if names and objects:
        raise ProtocolError("invalid_message", "Give either `collection` or `subscription` parameters.")
    # Of a stream that comes back, under a lower limit than before, the surplus is refused one by one.
    if len(names) + len(objects) > most and not last_event_id:
        raise ProtocolError("subscription_limit", f"A connection has at most {most} subscriptions.")
    since = query.get("since") or None
    requests = [_named(name, since) for name in names] + [_whole(text, since) for text in objects]
    if last_event_id:
        requests = [msgspec.structs.replace(each, since=last_event_id, snapshot=None) for each in requests]
    # The same one twice replaces itself: the last counts, in the place of the first.
    return Asked(tuple({each.key: each for each in requests}.values()), bool(last_event_id))


def _misplaced(name: str) -> str:
    """What was meant by a parameter that would silently show too much; others are none of our business (EventSource
    libraries add some)."""
    if name in PARAMETERS:
        return ""
    if name in OF_A_SUBSCRIPTION:
        return 'Write it into a subscription: subscription={"collection": …, "' + name + '": …}.'
    near = difflib.get_close_matches(name[:64], PARAMETERS, n=1, cutoff=0.8)
    return f"Did you mean {near[0]!r}?" if near else ""


def _named(text: str, since: str | None) -> SubscribeRequest:
    """`posts` or `posts:create,update`."""
    name, colon, operations = text.partition(":")
    wanted = tuple(part.strip() for part in operations.split(",")) if colon else None
    request = SubscribeRequest(collection=name, operations=wanted, since=since)
    protocol.check_request(request)
    return request


def _whole(text: str, since: str | None) -> SubscribeRequest:
    request = protocol.decode_request(text)
    if since is None or request.since is not None:
        return request
    request = msgspec.structs.replace(request, since=since)
    protocol.check_request(request)
    return request


def reconnection_ms(connections: int) -> int:
    """A browser's constant reconnection time: 1 to 5 s, up to 30 s when thousands would come back together."""
    window = 4000 + min(25_000, connections)
    return 1000 + int(random.random() * window)  # noqa: S311 - jitter, not a secret


class SseEndpoint:
    """`/api/v1/realtime/subscribe`."""

    def __init__(
        self, hub: Hub, *, authenticate: Authenticate, origins: Origins, settings: Settings, counters: Counters
    ) -> None:
        self._hub = hub
        self._authenticate = authenticate
        self._origins = origins
        self._counters = counters
        self._enabled = settings.realtime_enabled
        self._most = settings.realtime_max_subscriptions

    def routes(self) -> list[BaseRoute]:
        return [Route(PATH, self, methods=["GET"])]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._enabled:
            raise NotFound("Realtime is switched off here.")
        stream = _Stream(scope, receive, send)
        try:
            await self._serve(stream, scope)
        except Refused as refused:
            # 45xx: coming back changes nothing until the app acts, so the browser may as well stop.
            if not refused.closing.retry:
                raise refused.error from None
            await self._end(stream, refused.error, refused.closing)
        except SnackBaseError as error:
            self._count(error)
            if error.status != 503:
                raise
            await self._end(stream, error, OVERLOADED)

    async def _serve(self, stream: "_Stream", scope: Scope) -> None:
        headers, query = Headers(scope=scope), QueryParams(scope["query_string"])
        token = token_of(headers, query)
        if token is None:
            raise Unauthorized("A token is required.", code="token_missing")
        try:
            asked = read_subscriptions(query, headers.get("last-event-id"), most=self._most)
        except ProtocolError as error:
            raise error.over_http() from None
        account = query.get("account")
        authenticated = await self._authenticate(token, account)
        if scope["method"] == "HEAD":
            await stream.whole(b"")
            return
        connection = await self._open(stream, scope, authenticated, account, asked)
        try:
            await stream.start()
        except BaseException as error:
            connection.lost(None, "")
            if isinstance(error, OSError):
                return
            raise
        await stream.carry(connection, reconnection_ms(self._hub.size))

    async def _open(
        self, stream: "_Stream", scope: Scope, authenticated: Authenticated, account: str | None, asked: Asked
    ) -> Connection:
        """Open and subscribe. Raises SnackBaseError or Refused, with nothing left open."""
        connection = await self._hub.open(
            Opening(
                wire=stream.wire,
                address=self._origins.client_address(scope),
                authenticated=authenticated,
                account=account,
                subscriptions=len(asked.requests),
            )
        )
        try:
            await self._hub.subscribe_all(connection, asked.requests, resuming=asked.resuming)
            if all(request.since is None and not request.snapshot for request in asked.requests):
                # A browser that loses the stream before the first event has a place to come back to.
                self._hub.beat(connection)
        except ProtocolError as error:
            connection.lost(None, "")
            raise error.over_http() from None
        except BaseException:
            connection.lost(None, "")
            raise
        return connection

    async def _end(self, stream: "_Stream", error: SnackBaseError, closing: Closing) -> None:
        """200, the reason, and the end: an EventSource comes back after `retry:`."""
        after_ms = retry_ms(error, closing, self._hub.size)
        last = protocol.closing(closing, after_ms)
        retry = SSE_BARE.retry(max(after_ms, reconnection_ms(self._hub.size)))
        await stream.whole(retry + SSE_BARE.message(last))

    def _count(self, error: SnackBaseError) -> None:
        add(self._counters.connections, ("sse", error.code))
        if error.status == 401:
            add(self._counters.auth_failures, error.code)


class _Stream:
    """One response: its head, then either a last block or a connection that writes for as long as it lives."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        extensions: dict[str, Any] = scope.get("extensions") or {}
        self._handover: StreamHandover | None = extensions.get(EXTENSION)
        self._receive = receive
        self._send = send
        self.wire = SSE_BARE if self._handover is None else self._handover.wire

    async def start(self) -> None:
        """The head of a stream without an end. Raises OSError when the client is gone."""
        if self._handover is not None:
            self._handover.prepare()
        await self._send({"type": "http.response.start", "status": 200, "headers": list(HEADERS)})

    async def whole(self, body: bytes) -> None:
        """A stream that is over at once."""
        headers = [*HEADERS, (b"content-length", b"%d" % len(body))]
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        await self._send({"type": "http.response.body", "body": body, "more_body": False})

    async def carry(self, connection: Connection, retry_ms: int) -> None:
        """Attach the connection to this response; returns at once under our own server, else at the end."""
        if self._handover is not None:
            connection.attach(self._handover.take(connection, retry_ms=retry_ms))
        else:
            link = AsgiSseLink(self._send, retry_ms=retry_ms)
            connection.attach(link)
            await link.serve(self._receive, connection)
