"""`snackbase tail`: events in a terminal, as an ordinary client of the SSE endpoint.

Comes back after a dropped connection with the last position it has seen. The token goes into a header, never into the
URL. Source: HTML Living Standard §9.2 (server-sent events).
"""

import contextlib
import http.client
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from urllib.parse import urlencode, urlsplit

import msgspec

ENDPOINT = "/api/v1/realtime/subscribe"
SILENCE_S = 90.0
"""Three heartbeats without a sign of life: the connection is dead."""
FIRST_RETRY_S = 2.0
QUIET = frozenset({"heartbeat", "subscribed", "caught_up"})


class Message(msgspec.Struct):
    """One block of an event stream."""

    data: str = ""
    id: str | None = None
    retry_s: float | None = None


class Refused(Exception):
    """The server said no, and will say so again."""


def messages(lines: Iterator[bytes]) -> Iterator[Message]:
    """The blocks of a stream that is given line by line."""
    message = Message()
    for raw in lines:
        line = raw.decode("utf-8", "replace").rstrip("\r\n")
        if not line:
            yield message
            message = Message()
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            message.data = f"{message.data}\n{value}" if message.data else value
        elif name == "id":
            message.id = value
        elif name == "retry" and value.isdecimal():
            message.retry_s = int(value) / 1000


def follow(
    url: str, token: str, collections: Sequence[str], *, since: str | None, show: Callable[[Message], None]
) -> None:
    """Show every message, for ever.

    Args:
        url: the server, e.g. http://127.0.0.1:8000.
        since: a position to begin after; None = now.

    Raises:
        Refused: a status that a repetition would not change.
    """
    position, retry_s = since, FIRST_RETRY_S
    while True:
        try:
            with contextlib.closing(connection_to(url)) as connection:
                for message in messages(iter(_opened(connection, url, token, collections, position).readline, b"")):
                    retry_s = message.retry_s or retry_s
                    position = message.id or position
                    if message.data:
                        show(message)
            print("snackbase: the stream ended; reconnecting", file=sys.stderr)
        except (OSError, http.client.HTTPException) as error:
            print(f"snackbase: {str(error) or type(error).__name__}; reconnecting", file=sys.stderr)
        time.sleep(retry_s)


def shown(message: Message, *, raw: bool) -> str | None:
    """What the terminal shows of a message; None = nothing."""
    if raw:
        return message.data
    content: dict[str, Any] = json.loads(message.data)
    kind = str(content.get("type", "?"))
    if kind in QUIET:
        return None
    if "." not in kind:
        rest = {key: value for key, value in content.items() if key not in ("type", "timestamp", "data")}
        return f"-- {kind} {json.dumps(rest, ensure_ascii=False)}"
    moment = str(content.get("timestamp", ""))[11:23]
    data = json.dumps(content.get("data"), ensure_ascii=False)
    change = f" ({content['change']})" if "change" in content else ""
    return f"{moment} {kind}{change} {data}"


def connection_to(url: str) -> http.client.HTTPConnection:
    """A connection to the server, opened by the first request."""
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    return kind(parts.hostname or "", parts.port, timeout=SILENCE_S)


def _opened(
    connection: http.client.HTTPConnection, url: str, token: str, collections: Sequence[str], position: str | None
) -> http.client.HTTPResponse:
    path = urlsplit(url).path.rstrip("/") + ENDPOINT
    query = urlencode([("collection", name) for name in collections])
    headers = {"Authorization": f"Bearer {token}", "Accept": "text/event-stream"}
    if position is not None:
        headers["Last-Event-ID"] = position
    connection.request("GET", f"{path}?{query}", headers=headers)
    response = connection.getresponse()
    if response.status != 200:
        reason = reason_of(response)
        if 400 <= response.status < 500 and response.status != 429:
            raise Refused(reason)
        raise http.client.HTTPException(reason)
    return response


def reason_of(response: http.client.HTTPResponse) -> str:
    """What a refusal says."""
    body = response.read(65536)
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return f"the server answered {response.status}"
