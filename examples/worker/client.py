"""HTTP of the worker: requests with a token that is renewed, an event stream, and what each failure means.

Standard library only. Nothing here knows what the worker does with the events.
"""

import contextlib
import http.client
import json
from collections.abc import Iterator, Mapping
from typing import Any, Protocol
from urllib.parse import urlencode, urlsplit

SILENCE_S = 75.0
"""Heartbeats come at least every 30 s; a connection that is silent for longer is dead."""


class Final(Exception):
    """Trying again would change nothing; the text says why."""


class Later(Exception):
    """Try again, but not before `after_s`."""

    def __init__(self, why: str, after_s: float = 0.0) -> None:
        super().__init__(why)
        self.after_s = after_s


class Stale(Exception):
    """The token is no good any more."""


class Credentials(Protocol):
    """Where tokens come from."""

    def token(self, server: "Server") -> str:
        """The one in use."""

    def renew(self, server: "Server") -> None:
        """It was refused. Raises Final when there is no other."""


class Key:
    """An API key: it ends when somebody revokes it."""

    def __init__(self, key: str) -> None:
        self._key = key

    def token(self, server: "Server") -> str:
        return self._key

    def renew(self, server: "Server") -> None:
        raise Final("the server does not take this API key (any more)")


class Login:
    """A user's password: tokens end every hour, and are renewed by the refresh token or by another login."""

    def __init__(self, account: str, email: str, password: str) -> None:
        self._body = {"account": account, "email": email, "password": password}
        self._tokens: dict[str, Any] = {}

    def token(self, server: "Server") -> str:
        if not self._tokens:
            status, answer = server.call("POST", "/auth/login", body=self._body, token=None)
            if status != 200:
                raise Final(f"the login was refused: {answer['message']}")
            self._tokens = answer
        return str(self._tokens["token"])

    def renew(self, server: "Server") -> None:
        body = {"refresh_token": self._tokens.get("refresh_token", "")}
        status, answer = server.call("POST", "/auth/refresh", body=body, token=None)
        self._tokens = answer if status == 200 else {}


class Server:
    """One SnackBase, asked by one user or key."""

    def __init__(self, url: str, credentials: Credentials) -> None:
        self._address = urlsplit(url)
        self._credentials = credentials

    def get(self, path: str, query: Mapping[str, str]) -> Any:
        """The answer of a GET. Raises Final, Later, OSError and http.client.HTTPException."""
        for _ in range(2):
            status, answer = self.call("GET", f"{path}?{urlencode(query)}", token=self._credentials.token(self))
            if status != 401:
                break
            self._credentials.renew(self)
        if status != 200:
            raise Final(f"GET {path} was answered with {status}: {answer.get('message', '')}")
        return answer

    def call(self, method: str, path: str, *, token: str | None, body: object = None) -> tuple[int, Any]:
        """Status and JSON of one request. Raises Later where the server asks for it, and when it has a fault."""
        with contextlib.closing(self._connection(30.0)) as connection:
            connection.request(method, f"/api/v1{path}", json.dumps(body) if body else None, _headers(token))
            answer = connection.getresponse()
            _raise_if_later(answer)
            return answer.status, json.loads(answer.read() or b"{}")

    def stream(self, subscription: Mapping[str, Any], *, since: str) -> Iterator[tuple[dict[str, Any], str | None]]:
        """Messages of an event stream, each with its `id`: None where one must not resume from it. Ends when it ends.

        Raises:
            Stale: the token was refused; it is renewed already, so come again.
            Final, Later, OSError, http.client.HTTPException: as above.
        """
        query = urlencode({"subscription": json.dumps(subscription)})
        headers = {**_headers(self._credentials.token(self)), "Last-Event-ID": since, "Accept": "text/event-stream"}
        with contextlib.closing(self._connection(SILENCE_S)) as connection:
            connection.request("GET", f"/api/v1/realtime/subscribe?{query}", headers=headers)
            answer = connection.getresponse()
            _raise_if_later(answer)
            if answer.status == 401:
                self.refused()
            if answer.status != 200:
                raise Final(f"the stream was answered with {answer.status}: {answer.read().decode()}")
            yield from _messages(answer)

    def refused(self) -> None:
        """Renew the token. Raises Stale: begin again with it."""
        self._credentials.renew(self)
        raise Stale

    def _connection(self, timeout_s: float) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self._address.scheme == "https" else http.client.HTTPConnection
        return kind(self._address.netloc, timeout=timeout_s)


def _headers(token: str | None) -> dict[str, str]:
    return {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}


def _raise_if_later(answer: http.client.HTTPResponse) -> None:
    if answer.status == 429 or answer.status >= 500:
        wait = answer.headers.get("Retry-After", "")
        raise Later(f"the server answered {answer.status}", float(wait) if wait.isdigit() else 0.0)


def _messages(lines: Iterator[bytes] | http.client.HTTPResponse) -> Iterator[tuple[dict[str, Any], str | None]]:
    """The blocks of an event stream (HTML Living Standard §9.2.6), of which only `data` and `id` matter here."""
    data, place = "", None
    for line in lines:
        name, _, value = line.decode().rstrip("\r\n").partition(": ")
        if name == "data":
            data = value
        elif name == "id":
            place = value
        elif not name and data:
            yield json.loads(data), place
            data, place = "", None
