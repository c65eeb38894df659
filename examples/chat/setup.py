"""Makes what the chat needs on a running server: its collections with their rules, and two rooms. Twice is as once."""

import contextlib
import http.client
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

ACCOUNT = "chat"
"""Everybody who signs up joins this account: the server runs with SNACKBASE_SINGLE_TENANT_ACCOUNT=chat."""
COLLECTIONS = Path(__file__).parent / "collections.json"
ROOMS = ("General", "Random")


class Refused(Exception):
    """The server answered with an error; the text is the server's."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(f"{status} {body.decode(errors='replace')}")
        self.status = status


def prepare(server: str, token: str) -> None:
    """Bring collections and rooms to where the page expects them.

    Args:
        server: http://127.0.0.1:8000
        token: of a superadmin.

    Raises:
        Refused: the server said no. OSError: it cannot be reached.
    """
    document = json.loads(COLLECTIONS.read_text())
    report = _call(server, token, "POST", "/collections/import", {"data": document, "strategy": "update"})
    if not report["success"]:
        raise Refused(200, json.dumps(report["collections"]).encode())
    there = {room["name"] for room in _call(server, token, "GET", "/records/rooms?limit=100")["items"]}
    for name in ROOMS:
        if name not in there:
            _call(server, token, "POST", "/records/rooms", {"name": name})


def _call(server: str, token: str, method: str, path: str, body: object = None) -> Any:
    address = urlsplit(server)
    kind = http.client.HTTPSConnection if address.scheme == "https" else http.client.HTTPConnection
    # A superadmin acts in the system account unless another one is named.
    headers = {"Authorization": f"Bearer {token}", "X-Account-ID": ACCOUNT, "Content-Type": "application/json"}
    connection = kind(address.netloc, timeout=30)
    with contextlib.closing(connection):
        connection.request(method, f"/api/v1{path}", json.dumps(body) if body is not None else None, headers)
        answer = connection.getresponse()
        content = answer.read()
    if answer.status >= 300:
        raise Refused(answer.status, content)
    return json.loads(content)
