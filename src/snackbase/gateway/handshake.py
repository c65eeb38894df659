"""The opening handshake: a request's head in, a refusal or the switch of protocols out. Bytes only, no I/O.

Decides nothing about who may come in: that is the endpoint's. Source: RFC 6455 §4.2; RFC 9110 §7.8 (Upgrade).
"""

import base64
import binascii
import hashlib
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from urllib.parse import unquote_to_bytes

import httptools
import msgspec

from snackbase.errors import BadRequest, HeadTooLarge, MethodNotAllowed, SnackBaseError, UpgradeRequired, error_body
from snackbase.gateway.bounds import MAX_HEAD_BYTES, MAX_HEADERS

Headers = Sequence[tuple[bytes, bytes]]

_ACCEPT_SUFFIX = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
MAX_LINE_BYTES = 8192
"""As far as a request is looked at before it is parsed: a body may look like one and have no second line."""
_FORBIDDEN_IN_VALUE = frozenset(range(0x20)) - {0x09} | {0x7F}


class Request(msgspec.Struct, frozen=True):
    """A checked opening handshake. `path` is decoded, `raw_path` is not; header names are in lower case."""

    path: str
    raw_path: bytes
    query_string: bytes
    headers: list[tuple[bytes, bytes]]
    key: bytes
    subprotocols: tuple[str, ...]


def opens_realtime(data: bytes) -> bool:
    """Whether a request begins here that opens a realtime connection, under whatever prefix."""
    return data.startswith(b"GET ") and b"/realtime/" in data[:MAX_LINE_BYTES].partition(b"\r\n")[0]


def head_too_large() -> HeadTooLarge:
    return HeadTooLarge(f"The request's head is larger than {MAX_HEAD_BYTES} bytes or {MAX_HEADERS} headers.")


def read_request(head: bytes) -> Request:
    """Read and check a handshake's head (without the blank line).

    Raises:
        MethodNotAllowed: not a GET. UpgradeRequired: another version. BadRequest: anything else that is wrong.
    """
    lines = head.split(b"\r\n")
    method, _, rest = lines[0].partition(b" ")
    target, _, version = rest.rpartition(b" ")
    headers = [(name.strip().lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines[1:])]
    if method != b"GET":
        raise MethodNotAllowed("A WebSocket opens with GET.")
    if version != b"HTTP/1.1":
        raise BadRequest("A WebSocket opens with HTTP/1.1.")
    if not _tokens(headers, b"host"):
        raise BadRequest("The Host header is missing.")
    if b"websocket" not in _tokens(headers, b"upgrade") or b"upgrade" not in _tokens(headers, b"connection"):
        raise BadRequest("A WebSocket opens with `Upgrade: websocket` and `Connection: Upgrade`.")
    if _values(headers, b"sec-websocket-version") != [b"13"]:
        raise UpgradeRequired("The only WebSocket version is 13.")
    keys = _values(headers, b"sec-websocket-key")
    if len(keys) != 1 or not _is_key(keys[0]):
        raise BadRequest("Sec-WebSocket-Key has to be 16 bytes in base64, once.")
    raw_path, query_string = _split(target)
    return Request(
        path=unquote_to_bytes(raw_path).decode("utf-8", "replace"),
        raw_path=raw_path,
        query_string=query_string,
        headers=headers,
        key=keys[0],
        subprotocols=tuple(offered_subprotocols(headers)),
    )


def offered_subprotocols(headers: Headers) -> list[str]:
    """What a client offers in Sec-WebSocket-Protocol, in order; bytes beyond ASCII come out as Latin-1."""
    values = _values(headers, b"sec-websocket-protocol")
    return [item for value in values for item in (part.strip() for part in value.decode("latin-1").split(",")) if item]


def switching_protocols(key: bytes, subprotocol: str | None, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The 101 response. Raises ValueError when a header holds a control character."""
    accept = base64.b64encode(hashlib.sha1(key + _ACCEPT_SUFFIX, usedforsecurity=False).digest())
    lines = [
        (b"Upgrade", b"websocket"),
        (b"Connection", b"Upgrade"),
        (b"Sec-WebSocket-Accept", accept),
        *([(b"Sec-WebSocket-Protocol", subprotocol.encode("latin-1"))] if subprotocol is not None else []),
        *headers,
    ]
    return _head(101, lines)


def response(status: int, headers: Headers, body: bytes) -> bytes:
    """A complete HTTP/1.1 response after which the connection closes. Raises ValueError as above."""
    own = {b"connection", b"content-length", b"transfer-encoding"}
    kept = [(name, value) for name, value in headers if name.lower() not in own]
    return _head(status, [*kept, (b"content-length", b"%d" % len(body)), (b"connection", b"close")]) + body


def refusal(error: SnackBaseError) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """An error as status, headers and body of an HTTP response (contract §6)."""
    headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
    if error.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if error.status == 405:
        headers.append((b"allow", b"GET"))
    if error.status == 426:
        headers += [(b"upgrade", b"websocket"), (b"sec-websocket-version", b"13")]
    if error.retry_after_s is not None or error.status in (429, 503):
        headers.append((b"retry-after", b"%d" % max(1, round(error.retry_after_s or 1))))
    return error.status, headers, msgspec.json.encode(error_body(error))


def _head(status: int, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    lines = [b"HTTP/1.1 %d %s" % (status, HTTPStatus(status).phrase.encode())]
    for name, value in headers:
        # An application's header with a line break in it would end the head early (CWE-113).
        if not _FORBIDDEN_IN_VALUE.isdisjoint(value) or not _FORBIDDEN_IN_VALUE.isdisjoint(name):
            raise ValueError("A response header holds a control character.")
        lines.append(name + b": " + value)
    return b"\r\n".join(lines) + b"\r\n\r\n"


def _split(target: bytes) -> tuple[bytes, bytes]:
    try:
        url = httptools.parse_url(target)
        url.path.decode("ascii")
    except (httptools.HttpParserInvalidURLError, UnicodeDecodeError, AttributeError):
        raise BadRequest("The request's target is not a valid path.") from None
    return url.path, url.query or b""


def _values(headers: Headers, name: bytes) -> list[bytes]:
    return [value for key, value in headers if key == name]


def _tokens(headers: Headers, name: bytes) -> list[bytes]:
    return [part.strip().lower() for value in _values(headers, name) for part in value.split(b",") if part.strip()]


def _is_key(key: bytes) -> bool:
    try:
        return len(key) == 24 and len(base64.b64decode(key, validate=True)) == 16
    except (binascii.Error, ValueError):
        return False
