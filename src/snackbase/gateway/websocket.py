"""The WebSocket endpoint: who may open a connection, and how a refusal is told (contract §3).

Plain ASGI, so that it works under any server; with ours the transport moves to the connection and this call returns.
Knows nothing of messages or subscriptions. Step 1 of a subscriber's path: transport, then session.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
import structlog
from starlette.datastructures import Headers, QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import Receive, Scope, Send

from snackbase.auth import token_of
from snackbase.config import Settings
from snackbase.errors import (
    UNSUPPORTED_VERSION,
    BadRequest,
    Closing,
    Forbidden,
    HeadTooLarge,
    NotFound,
    SnackBaseError,
    Unauthorized,
    UpgradeRequired,
)
from snackbase.gateway import handshake
from snackbase.gateway.asgi import AsgiWebSocketLink
from snackbase.gateway.link import ABNORMAL, EXTENSION, WebSocketHandover
from snackbase.gateway.wire import WEBSOCKET, WEBSOCKET_LINES
from snackbase.hub import Authenticated, Connection, Hub, Opening, Refused
from snackbase.hub.admission import retry_after_ms
from snackbase.hub.dialogue import closing_of
from snackbase.metrics import Counters, add
from snackbase.origins import Origins
from snackbase.realtime import protocol
from snackbase.realtime.protocol import SUBPROTOCOL

log = structlog.get_logger("snackbase.gateway")

PATH = "/api/v1/realtime/ws"
MAX_SUBPROTOCOL_CHARS = 8192
MAX_SUBPROTOCOLS = 20
VERSIONS = SUBPROTOCOL.partition(".")[0] + "."
"""What the names of all our subprotocols begin with; no token does."""

Authenticate = Callable[[str, str | None], Awaitable[Authenticated]]
"""(token, account) -> who; raises SnackBaseError."""


class Choice(msgspec.Struct, frozen=True):
    """What the offered subprotocols come to.

    Attributes:
        selected: answered to the client; None = it offered none.
        token: the token among them.
        told_why: whether the client understands a close code after `accept` better than a refused handshake.
    """

    selected: str | None = None
    token: str | None = None
    told_why: bool = False

    @property
    def unsupported(self) -> bool:
        return self.told_why and self.selected != SUBPROTOCOL


def choose(offered: Sequence[str]) -> Choice:
    """Judge the offered subprotocols (contract §3). A token beside `snackbase.v1` is never reflected.

    Raises:
        HeadTooLarge: more than 8 KiB. BadRequest: not printable ASCII, too many, or two different tokens.
    """
    if sum(map(len, offered)) > MAX_SUBPROTOCOL_CHARS:
        raise HeadTooLarge(f"Sec-WebSocket-Protocol is longer than {MAX_SUBPROTOCOL_CHARS} characters.")
    if len(offered) > MAX_SUBPROTOCOLS:
        raise BadRequest(f"More than {MAX_SUBPROTOCOLS} subprotocols are offered.", code="invalid_subprotocol")
    if not all(item.isascii() and item.isprintable() and " " not in item for item in offered):
        raise BadRequest("A subprotocol holds characters that are not allowed.", code="invalid_subprotocol")
    versions = [item for item in offered if item.startswith(VERSIONS)]
    tokens = list(dict.fromkeys(item for item in offered if not item.startswith(VERSIONS)))
    if len(tokens) > 1:
        raise BadRequest("Two different tokens were presented; send one.", code="token_conflict")
    token = tokens[0] if tokens else None
    if versions:
        return Choice(SUBPROTOCOL if SUBPROTOCOL in versions else versions[0], token, True)
    return Choice(token, token)


class WebSocketEndpoint:
    """`/api/v1/realtime/ws`."""

    def __init__(
        self, hub: Hub, *, authenticate: Authenticate, origins: Origins, settings: Settings, counters: Counters
    ) -> None:
        self._hub = hub
        self._authenticate = authenticate
        self._origins = origins
        self._counters = counters
        self._enabled = settings.realtime_enabled
        self._max_message_bytes = settings.realtime_max_message_bytes

    def routes(self) -> list[BaseRoute]:
        return [WebSocketRoute(PATH, self), Route(PATH, self.explain, methods=["GET"])]

    async def explain(self, request: Request) -> Response:
        """A plain GET. Always raises: NotFound when realtime is off, else UpgradeRequired."""
        if not self._enabled:
            raise NotFound("Realtime is switched off here.")
        status, headers, body = handshake.refusal(
            UpgradeRequired("This path is a WebSocket; connect with ws:// or wss://.")
        )
        return Response(body, status, {name.decode(): value.decode() for name, value in headers})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        choice = Choice()
        try:
            self._check_origin(scope)
            choice = choose(handshake.offered_subprotocols(scope["headers"]))
            connection = await self._open(scope, choice)
        except Refused as refused:
            await self._refuse(send, choice, refused.error, refused.closing)
        except SnackBaseError as error:
            self._count(error, scope)
            await self._refuse(send, choice, error, closing_of(error))
        else:
            await self._connect(connection, choice, scope, receive, send)

    def _check_origin(self, scope: Scope) -> None:
        """First of all, and never after accept: a page that may not call learns nothing (RFC 6455 §10.2)."""
        if not self._enabled:
            raise NotFound("Realtime is switched off here.")
        if not self._origins.allows(scope):
            raise Forbidden(
                "This origin is not allowed; the server's log says which setting to change.", code="origin_refused"
            )

    async def _open(self, scope: Scope, choice: Choice) -> Connection:
        if choice.unsupported:
            raise BadRequest(f"The only version supported here is {SUBPROTOCOL}.", code=UNSUPPORTED_VERSION.code)
        query = QueryParams(scope["query_string"])
        token = token_of(Headers(scope=scope), query, subprotocol=choice.token)
        account = query.get("account")
        if token is None and not choice.told_why:
            raise Unauthorized("A token is required.", code="token_missing")
        opening = Opening(
            wire=WEBSOCKET if _handover(scope) is not None else WEBSOCKET_LINES,
            address=self._origins.client_address(scope),
            authenticated=None if token is None else await self._authenticate(token, account),
            account=account,
        )
        return await self._hub.open(opening)

    async def _connect(
        self, connection: Connection, choice: Choice, scope: Scope, receive: Receive, send: Send
    ) -> None:
        try:
            await send({"type": "websocket.accept", "subprotocol": choice.selected, "headers": []})
        except BaseException as error:
            connection.lost(ABNORMAL, "")
            if isinstance(error, OSError):
                return
            raise
        handover = _handover(scope)
        if handover is not None:
            connection.attach(handover.take(connection))
        else:
            link = AsgiWebSocketLink(send, max_message_bytes=self._max_message_bytes)
            connection.attach(link)
            await link.serve(receive, connection)

    async def _refuse(self, send: Send, choice: Choice, error: SnackBaseError, closing: Closing) -> None:
        if not choice.told_why:
            await deny(send, error)
            return
        reason = Closing(closing.code, closing.close_code, error.message)
        last = protocol.closing(reason, retry_ms(error, closing, self._hub.size))
        await send({"type": "websocket.accept", "subprotocol": choice.selected, "headers": []})
        await send({"type": "websocket.send", "text": last.decode()})
        await send({"type": "websocket.close", "code": closing.close_code, "reason": closing.code})

    def _count(self, error: SnackBaseError, scope: Scope) -> None:
        add(self._counters.connections, ("websocket", error.code))
        if error.status == 401:
            add(self._counters.auth_failures, error.code)
        log.info("websocket_refused", code=error.code, client=self._origins.client_address(scope))


async def deny(send: Send, error: SnackBaseError) -> None:
    """Refuse a handshake with an HTTP response (ASGI extension `websocket.http.response`)."""
    status, headers, body = handshake.refusal(error)
    await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body})


def retry_ms(error: SnackBaseError, closing: Closing, connections: int) -> int:
    """When a refused client should come back: spread, and not before the error says."""
    return max(retry_after_ms(closing, connections), round((error.retry_after_s or 0) * 1000))


def _handover(scope: Scope) -> WebSocketHandover | None:
    extensions: dict[str, Any] = scope.get("extensions") or {}
    return extensions.get(EXTENSION)
