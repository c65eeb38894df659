"""How the clients of bench/kills.py speak to each server: create, follow, come back, and read everything."""

import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

import httpx
import msgspec

from bench.aftermath import Place
from bench.programs import BenchError
from bench.servers import COLLECTION, Server

PAGE = 100
Block = dict[str, str]
"""One block of an event stream: its fields by their names."""
_decode = msgspec.json.Decoder().decode


class Door(Protocol):
    """One server's own way of doing things."""

    async def create(self, client: httpx.AsyncClient, writer: int, number: int) -> httpx.Response: ...

    def stream(self, client: httpx.AsyncClient, last_id: str | None) -> AbstractAsyncContextManager[httpx.Response]: ...

    async def opened(self, client: httpx.AsyncClient, block: Block) -> bool:
        """Whether, with this block, the client follows the collection; does what has to be done for it."""

    def places(self, block: Block) -> list[Place]:
        """What the block says was created."""

    def resynced(self, block: Block) -> int:
        """1 when the block tells the client to fetch the list again."""

    def everything(self, client: httpx.AsyncClient) -> AsyncIterator[Place]:
        """What is in the database, in the order of creation as far as the server can tell."""


class SnackBaseDoor:
    """`Last-Event-ID` resumes, as a browser's EventSource sends it by itself."""

    def __init__(self, server: Server) -> None:
        self._base = f"http://127.0.0.1:{server.port}/api/v1"
        self._path = server.path
        self._token = server.token
        self._root = f"http://127.0.0.1:{server.port}"

    async def create(self, client: httpx.AsyncClient, writer: int, number: int) -> httpx.Response:
        headers = {"authorization": f"Bearer {self._token}"}
        return await client.post(self._root + self._path, json=_record(writer, number), headers=headers)

    def stream(self, client: httpx.AsyncClient, last_id: str | None) -> AbstractAsyncContextManager[httpx.Response]:
        headers = {} if last_id is None else {"last-event-id": last_id}
        asked = {"token": self._token, "collection": COLLECTION}
        return client.stream("GET", f"{self._base}/realtime/subscribe", params=asked, headers=headers)

    async def opened(self, client: httpx.AsyncClient, block: Block) -> bool:
        return _message(block).get("type") == "subscribed"

    def places(self, block: Block) -> list[Place]:
        message = _message(block)
        return [_place(message["data"])] if message.get("type") == f"{COLLECTION}.create" else []

    def resynced(self, block: Block) -> int:
        return int(_message(block).get("type") == "resync")

    async def everything(self, client: httpx.AsyncClient) -> AsyncIterator[Place]:
        cursor: dict[str, str] = {}
        headers = {"authorization": f"Bearer {self._token}"}
        while True:
            asked = {"sort": "created_at", "limit": str(PAGE), **cursor}
            page = _ok(await client.get(self._root + self._path, params=asked, headers=headers))
            for record in page["items"]:
                yield _place(record)
            if not page["next_cursor"]:
                return
            cursor = {"cursor": page["next_cursor"]}


class PocketBaseDoor:
    """A new stream gets a client id; the subscription is a request of its own (what its SDK does on every connect)."""

    def __init__(self, server: Server) -> None:
        self._root = f"http://127.0.0.1:{server.port}"
        self._path = server.path
        self._headers = {"authorization": server.token}

    async def create(self, client: httpx.AsyncClient, writer: int, number: int) -> httpx.Response:
        return await client.post(self._root + self._path, json=_record(writer, number), headers=self._headers)

    def stream(self, client: httpx.AsyncClient, last_id: str | None) -> AbstractAsyncContextManager[httpx.Response]:
        return client.stream("GET", f"{self._root}/api/realtime")

    async def opened(self, client: httpx.AsyncClient, block: Block) -> bool:
        if block.get("event") != "PB_CONNECT":
            return False
        body = {"clientId": _decode(block["data"])["clientId"], "subscriptions": [f"{COLLECTION}/*"]}
        answer = await client.post(f"{self._root}/api/realtime", json=body, headers=self._headers)
        return answer.is_success

    def places(self, block: Block) -> list[Place]:
        if block.get("event") != f"{COLLECTION}/*":
            return []
        message = _decode(block["data"])
        return [_place(message["record"])] if message["action"] == "create" else []

    def resynced(self, block: Block) -> int:
        return 0

    async def everything(self, client: httpx.AsyncClient) -> AsyncIterator[Place]:
        number = 0
        while True:
            number += 1
            asked = {"sort": "@rowid", "perPage": "500", "page": str(number), "skipTotal": "1"}
            page = _ok(await client.get(self._root + self._path, params=asked, headers=self._headers))
            for record in page["items"]:
                yield _place(record)
            if len(page["items"]) < 500:
                return


def _record(writer: int, number: int) -> dict[str, Any]:
    body = secrets.token_hex(50)
    return {"seqno": number, "writer": writer, "sent_us": time.monotonic_ns() // 1000, "tenant": "acme", "body": body}


def _place(record: dict[str, Any]) -> Place:
    return (int(record["writer"]), int(record["seqno"]))


def _message(block: Block) -> dict[str, Any]:
    return _decode(block["data"]) if "data" in block else {}


def _ok(answer: httpx.Response) -> Any:
    if not answer.is_success:
        raise BenchError(f"GET {answer.request.url.path}: {answer.status_code} {answer.text[:300]}")
    return _decode(answer.content)


DOORS: dict[str, Callable[[Server], Door]] = {"snackbase": SnackBaseDoor, "pocketbase": PocketBaseDoor}
