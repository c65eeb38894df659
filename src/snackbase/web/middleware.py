"""The outermost layer of every HTTP request: identity, limits, origin, errors, headers, access log, numbers.

Pure ASGI, so that a realtime connection can be handed over underneath it: it passes websocket scopes through untouched,
and changes only the start message of a response. Exceptions from below become answers in the shape of contract §6; the
stack trace goes to the log under the request id, never to the client. Step 1 of the path of a write.
"""

import asyncio
import re
import secrets
from collections.abc import Callable, MutableMapping, Sequence
from itertools import count
from time import monotonic
from typing import Any, Protocol

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Match, Router
from starlette.types import Message, Receive, Scope, Send

from snackbase.config import Settings
from snackbase.errors import (
    Forbidden,
    MethodNotAllowed,
    NotFound,
    RequestTimeout,
    SnackBaseError,
    TooLarge,
    Unauthorized,
    Unavailable,
    error_body,
)
from snackbase.log import write_request
from snackbase.metrics import Counters, add
from snackbase.origins import Origins
from snackbase.web.direct import Direct
from snackbase.web.http import json_response

LOGGER = "snackbase.http"
log = structlog.get_logger(LOGGER)

METHODS = "DELETE, GET, PATCH, POST, PUT"
ALLOWED_HEADERS = "authorization, content-type, idempotency-key, last-event-id, x-account-id, x-api-key, x-request-id"
EXPOSED_HEADERS = "X-SnackBase-Position, Idempotency-Replayed, X-Request-ID, Retry-After"
PREFLIGHT_SECONDS = 600
QUIET_PATHS = frozenset({"/health", "/ready", "/live", "/metrics", "/api/v1/health"})
"""Asked every few seconds by machines: logged at debug level."""
DISCARDED_BYTES = 8 << 20
"""How much of a refused body is still read, so that the client gets to see the answer."""
DISCARDING_SECONDS = 2.0
LARGE_BYTES = 256 << 10
"""An answer that is sent in pieces, as the client takes them, and counted until it is gone."""
MOST_LARGE_BYTES = 128 << 20
"""Of large answers under way in this process; slow readers would fill its memory otherwise."""
MOST_BODY_BYTES = 128 << 20
"""Of request bodies that are being read or worked on; above, only bodies up to `SMALL_BODY_BYTES` are taken, so that
strangers who never finish theirs fill neither the memory nor the way in."""
SMALL_BODY_BYTES = 64 << 10
SENDING_SECONDS = 30.0
"""For one piece of a large answer."""
MOST_ERROR_CODES = 200
"""Label values of the error counter; hooks may make up codes of their own."""

EXTENSION = "snackbase.link"
"""Of the scope, as the gateway names it, which stands beside this package and not below it."""

_SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{7,127}\Z")
_KNOWN_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_DEFAULT_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)


class Exchange(Protocol):
    """What our own server offers a request besides ASGI (gateway/uvicorn_exchange.py)."""

    def whole(self, receive: Receive) -> bool:
        """Whether `receive` gives the body's end without waiting."""
        ...

    def answer(self, send: Send, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> bool:
        """Send a whole answer; False: it has to go through `send`."""
        ...


class Http:
    """An ASGI application around a router.

    Args:
        direct: asked before the router.
        explain: say in the answer what went wrong inside, which else only the log knows (`serve --dev`).
    """

    def __init__(
        self,
        router: Router,
        *,
        settings: Settings,
        origins: Origins,
        counters: Counters,
        direct: Direct | None = None,
        explain: bool = False,
    ) -> None:
        self._router = router
        self._direct = direct
        self._explain = explain
        self._origins = origins
        self._counters = counters
        self._max_body_bytes = settings.max_body_bytes
        self._timeout_s = settings.request_timeout_seconds
        self.large_bytes = self.body_bytes = 0
        # The prefix tells processes apart; drawing every id anew would cost a system call each.
        prefix, numbers = secrets.token_hex(6), count(1)
        self.new_request_id: Callable[[], str] = lambda: f"{prefix}{next(numbers):012x}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = self  # makes starlette raise its 404 and 405 instead of answering them itself
        if scope["type"] != "http":
            await self._router(scope, receive, send)
            return
        await _Exchange(self, scope, receive, send).run()


class _Exchange:
    """One request and its answer."""

    def __init__(self, http: Http, scope: Scope, receive: Receive, send: Send) -> None:
        self._http = http
        self._scope = scope
        self._receive = receive
        self._send = send
        self._started = monotonic()
        self._received = 0
        self._body_complete = False
        self._status = 0
        self._large = 0
        self._headers: dict[bytes, bytes] = dict(scope["headers"])
        given = self._header(b"x-request-id")
        self._request_id = given if given and _SANE_REQUEST_ID.match(given) else http.new_request_id()
        self._exchange: Exchange | None = (scope.get("extensions") or {}).get(EXTENSION)
        self._cors = b"origin" in self._headers and http._origins.allows(scope)

    def _header(self, name: bytes) -> str | None:
        value = self._headers.get(name)
        return None if value is None else value.decode("latin-1")

    async def run(self) -> None:
        """Answer, whatever happens, and account for it."""
        structlog.contextvars.bind_contextvars(request_id=self._request_id)
        try:
            if not await self._answered_preflight():
                self._check_length()
                direct = self._http._direct
                response = None if direct is None else await direct(self._scope, self._read, self._write)
                if response is None:
                    await self._http._router(self._scope, self._read, self._write)
                elif not self._answered_at_once(response):
                    await response(self._scope, self._read, self._write)
        except ClientDisconnect:
            self._status = self._status or 499
        except Exception as error:
            await self._fail(error)
        finally:
            self._http.large_bytes -= self._large
            self._http.body_bytes -= self._received
            self._account()

    async def _answered_preflight(self) -> bool:
        """A cross-origin preflight never reaches a route (Fetch standard, CORS-preflight fetch)."""
        if self._scope["method"] != "OPTIONS" or self._header(b"access-control-request-method") is None:
            return False
        if self._header(b"origin") is not None and not self._cors:
            raise Forbidden(
                "This origin is not allowed; the server's log says which setting to change.", code="origin_refused"
            )
        headers = {
            "Access-Control-Allow-Methods": METHODS,
            "Access-Control-Allow-Headers": ALLOWED_HEADERS,
            "Access-Control-Max-Age": str(PREFLIGHT_SECONDS),
        }
        await Response(status_code=204, headers=headers)(self._scope, self._read, self._write)
        return True

    def _check_length(self) -> None:
        declared = self._header(b"content-length")
        if declared and declared.isdecimal() and int(declared[:20]) > self._http._max_body_bytes:
            raise self._too_large()

    def _too_large(self) -> TooLarge:
        return TooLarge(f"The body is larger than {self._http._max_body_bytes} bytes.")

    async def _read(self) -> Message:
        """`receive` with the limits on a body's size and time."""
        if self._body_complete:
            return await self._receive()
        if self._exchange is not None and self._exchange.whole(self._receive):
            message = await self._receive()
        else:
            try:
                async with asyncio.timeout(self._started + self._http._timeout_s - monotonic()):
                    message = await self._receive()
            except TimeoutError:
                raise RequestTimeout(f"The body did not arrive within {self._http._timeout_s:g} seconds.") from None
        if message["type"] == "http.request":
            self._take_in(len(message.get("body", b"")))
            self._body_complete = not message.get("more_body", False)
        return message

    def _take_in(self, size: int) -> None:
        """Count a piece of the body. Raises TooLarge, Unavailable."""
        self._received += size
        self._http.body_bytes += size
        if self._received > self._http._max_body_bytes:
            raise self._too_large()
        if self._http.body_bytes > MOST_BODY_BYTES and self._received > SMALL_BODY_BYTES:
            raise Unavailable("Too many large requests are under way.", code="overloaded", retry_after_s=1)

    def _answered_at_once(self, response: Response) -> bool:
        """Whether the server below could send the whole answer in one piece."""
        plain = type(response) is Response and response.background is None and len(response.body) <= LARGE_BYTES
        if self._exchange is None or not plain or self._scope["method"] == "HEAD":
            return False
        headers = self._completed(list(response.raw_headers))
        if not self._exchange.answer(self._send, response.status_code, headers, bytes(response.body)):
            return False
        self._status = response.status_code
        return True

    async def _write(self, message: Message) -> None:
        """`send` that completes the response's head, and sends a large body no faster than it is taken."""
        if message["type"] == "http.response.start":
            headers = list(message.get("headers", ()))
            self._reserve(headers)
            self._status = message["status"]
            message["headers"] = self._completed(headers)
        body = message.get("body", b"")
        if len(body) <= LARGE_BYTES:
            await self._send(message)
            return
        for start in range(0, len(body), LARGE_BYTES):
            piece, more = body[start : start + LARGE_BYTES], start + LARGE_BYTES < len(body)
            async with asyncio.timeout(SENDING_SECONDS):
                await self._send({**message, "body": piece, "more_body": more or message.get("more_body", False)})

    def _reserve(self, headers: list[tuple[bytes, bytes]]) -> None:
        """Count a large answer in. Raises Unavailable."""
        length = next((int(value) for name, value in headers if name.lower() == b"content-length"), 0)
        if length > LARGE_BYTES:
            if self._http.large_bytes + length > MOST_LARGE_BYTES:
                raise Unavailable("Too many large answers are under way.", code="overloaded", retry_after_s=1)
            self._large = length
            self._http.large_bytes += length

    def _completed(self, headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        present = {name.lower() for name, _ in headers}
        headers += [default for default in _DEFAULT_HEADERS if default[0] not in present]
        headers.append((b"x-request-id", self._request_id.encode("ascii")))
        # Also without an Origin: a cache must not hand the answer for one page to another.
        headers.append((b"vary", b"Origin"))
        if self._cors:
            headers.append((b"access-control-allow-origin", self._headers[b"origin"]))
            headers.append((b"access-control-allow-credentials", b"true"))
            headers.append((b"access-control-expose-headers", EXPOSED_HEADERS.encode("ascii")))
        return headers

    async def _fail(self, raised: Exception) -> None:
        error = self._translated(raised)
        if error.status == 500:
            log.error("request_failed", path=_path(self._scope), code=error.code, exc_info=raised)
        if self._status:
            # The head is out already: the server ends the connection, since the body is not complete.
            return
        errors = self._http._counters.errors
        add(errors, error.code if error.code in errors or len(errors) < MOST_ERROR_CODES else "other")
        headers = _error_headers(error)
        if isinstance(error, MethodNotAllowed):
            headers["Allow"] = self._allowed_methods()
        if not self._body_complete and not self._has_no_body():
            headers["Connection"] = "close"
            if not isinstance(error, RequestTimeout):
                await self._discard_body()
        body = error_body(error, request_id=self._request_id if error.status == 500 else None)
        response = json_response(body, status=error.status, headers=headers)
        try:
            await response(self._scope, self._receive, self._write)
        except OSError:
            self._status = 499

    def _translated(self, raised: Exception) -> SnackBaseError:
        if isinstance(raised, SnackBaseError):
            return raised
        if isinstance(raised, HTTPException):
            if raised.status_code == 405:
                return MethodNotAllowed(f"{self._scope['method']} is not possible here.")
            if raised.status_code == 404:
                return NotFound("There is nothing at this path.", code="route_not_found")
            error = SnackBaseError(str(raised.detail), code="http_error")
            error.status, error.title = raised.status_code, "Request failed"
            return error
        if self._http._explain:
            return SnackBaseError(f"{type(raised).__name__}: {raised} (the traceback is in the server's log)")
        return SnackBaseError("The server has a defect; its log has the details under the request id.")

    def _allowed_methods(self) -> str:
        methods: set[str] = set()
        for route in self._http._router.routes:
            if route.matches(self._scope)[0] is not Match.NONE:
                methods |= getattr(route, "methods", None) or set()
        return ", ".join(sorted(methods))

    def _has_no_body(self) -> bool:
        length = self._header(b"content-length")
        return self._header(b"transfer-encoding") is None and (length is None or length == "0")

    async def _discard_body(self) -> None:
        """Read on for a while: closing with unread bytes resets the connection before the client sees the answer."""
        if self._header(b"expect") is not None:
            return
        discarded = 0
        try:
            async with asyncio.timeout(DISCARDING_SECONDS):
                while discarded < DISCARDED_BYTES:
                    message = await self._receive()
                    discarded += len(message.get("body", b""))
                    if not message.get("more_body", False):
                        return
        except TimeoutError:
            return

    def _account(self) -> None:
        seconds = monotonic() - self._started
        method, status = self._scope["method"], str(self._status or 500)
        route = getattr(self._scope.get("route"), "path", "unmatched")
        counters = self._http._counters
        add(counters.requests, (method if method in _KNOWN_METHODS else "OTHER", route, status))
        counters.request_seconds.observe(seconds)
        path = _path(self._scope)
        values = {
            "method": method[:20],
            "path": path,
            "status": int(status),
            "duration_ms": round(seconds * 1000, 2),
            "client": self._http._origins.client_address(self._scope),
            "user_id": self._scope.get("snackbase.user_id"),
        }
        if path in QUIET_PATHS:
            log.debug("request", **values)
        else:
            write_request(LOGGER, **values)


async def not_found(scope: Scope, receive: Receive, send: Send) -> None:
    """The router's last resort, for both kinds of scope.

    Source: ASGI specification, WebSocket Denial Response.
    """
    error = NotFound("There is nothing at this path.", code="route_not_found")
    if scope["type"] != "websocket":
        raise error
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": 1000})
        return
    response = json_response(error_body(error), status=error.status)
    await send({"type": "websocket.http.response.start", "status": error.status, "headers": response.raw_headers})
    await send({"type": "websocket.http.response.body", "body": response.body})


def note_user(scope: MutableMapping[str, Any], user_id: str | None) -> None:
    """Have the access log say who the request was for; called once the token is verified."""
    scope["snackbase.user_id"] = user_id


def _error_headers(error: SnackBaseError) -> dict[str, str]:
    headers: dict[str, str] = {}
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = "Bearer"
    if error.status == 426:
        headers["Upgrade"] = "websocket"  # RFC 9110 §15.5.22
    if error.retry_after_s is not None or error.status in (429, 503):
        headers["Retry-After"] = str(max(1, round(error.retry_after_s or 1)))
    return headers


def _path(scope: Scope) -> str:
    """The path as it was sent, without the query string, which may hold a token."""
    raw = scope.get("raw_path") or scope["path"].encode("utf-8", "replace")
    return str(raw.partition(b"?")[0][:200].decode("ascii", "backslashreplace"))
