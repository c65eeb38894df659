"""The same connections over plain ASGI: in Starlette's test client, under a stock uvicorn, and link by link."""

import asyncio
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any

import pytest
from starlette.websockets import WebSocketDisconnect
from websockets.sync.client import connect

from snackbase import Settings, SnackBase
from snackbase.errors import SLOW_CONSUMER, Unavailable
from snackbase.gateway.asgi import PIECE_BYTES, AsgiLink, AsgiSseLink, AsgiWebSocketLink
from snackbase.storage.sqlite import SQLiteStore
from tests.protocol.raw import PATIENCE_S, ROOT, Raw, until

with warnings.catch_warnings():
    # It would rather have httpx2; what it does with httpx is the same.
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient, WebSocketDenialResponse

WS = "/api/v1/realtime/ws"
SSE = "/api/v1/realtime/subscribe"
CHANGES = "/api/v1/realtime/changes"
Messages = list[MutableMapping[str, Any]]


# Starlette's test client ---------------------------------------------------------------------------------------------


@pytest.fixture
def application(tmp_path: Path) -> Iterator[TestClient]:
    settings = Settings(database_url=f"sqlite:///{tmp_path}/test.db", log_level="error")
    with TestClient(SnackBase(settings)) as client:
        yield client


def _token(client: TestClient) -> str:
    body = {"email": "a@example.com", "password": "correct horse battery", "account_name": "Acme"}
    answer = client.post("/api/v1/auth/register", json=body)
    assert answer.status_code == 201, answer.text
    token: str = answer.json()["token"]
    return token


def test_a_websocket_works_in_starlettes_test_client(application: TestClient) -> None:
    with application.websocket_connect(f"{WS}?token={_token(application)}") as socket:
        socket.send_json({"action": "ping"})
        assert socket.receive_json()["type"] == "pong"
        socket.send_bytes(b'{"action":"subscribe","collection":"*"}')
        assert socket.receive_json()["type"] == "subscribed"
        socket.send_text("{")
        assert socket.receive_json()["code"] == "invalid_json"


def test_a_refusal_before_accept_is_a_response_there_too(application: TestClient) -> None:
    with pytest.raises(WebSocketDenialResponse) as refused, application.websocket_connect(WS):
        pass

    assert refused.value.status_code == 401
    assert refused.value.json()["code"] == "token_missing"


def test_a_refusal_after_accept_has_its_close_code_there_too(application: TestClient) -> None:
    with application.websocket_connect(WS, subprotocols=["snackbase.v1", "nonsense"]) as socket:
        assert socket.receive_json()["close_code"] == 4501
        with pytest.raises(WebSocketDisconnect) as ended:
            socket.receive_json()

    assert (ended.value.code, ended.value.reason) == (4501, "token_invalid")


def test_a_message_over_the_limit_ends_with_1009_there_too(application: TestClient) -> None:
    with application.websocket_connect(f"{WS}?token={_token(application)}") as socket:
        socket.send_text("x" * 65_537)
        with pytest.raises(WebSocketDisconnect) as ended:
            socket.receive_json()

    assert ended.value.code == 1009


@pytest.mark.parametrize("way", ["since", "last-event-id", "snapshot"])
def test_a_stream_that_the_store_cannot_answer_now_is_told_to_come_back_and_not_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """A status other than 200 would end a browser's EventSource for ever."""
    settings = Settings(
        database_url=f"sqlite:///{tmp_path}/test.db",
        log_level="error",
        superadmin_email="root@example.com",
        superadmin_password="correct horse battery",
    )

    async def busy(*_args: object, **_more: object) -> object:
        raise Unavailable("The database is locked by another program.", code="storage_busy", retry_after_s=1)

    monkeypatch.setattr(SQLiteStore, "list" if way == "snapshot" else "window", busy)
    with TestClient(SnackBase(settings)) as client:
        token = _token(client)
        at = client.get(f"{CHANGES}?collection=*", headers={"authorization": f"Bearer {token}"}).json()["position"]
        _collection(client)
        asked = {"token": token, "subscription": '{"collection":"posts"}'}
        headers = {}
        if way == "snapshot":
            asked["subscription"] = '{"collection":"posts","snapshot":true}'
        elif way == "since":
            asked["since"] = at
        else:
            headers["last-event-id"] = at
        answer = client.get(SSE, params=asked, headers=headers)

    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream")
    retry, data = answer.text.strip().split("\n")
    told = json.loads(data.removeprefix("data: "))
    assert (told["type"], told["code"], told["close_code"], told["retry"]) == ("closing", "overloaded", 1013, True)
    assert int(retry.removeprefix("retry: ")) >= told["retry_after_ms"] >= 1000


def _collection(client: TestClient) -> None:
    body = {"email": "root@example.com", "password": "correct horse battery"}
    token = client.post("/api/v1/auth/login", json=body).json()["token"]
    definition = {"name": "posts", "schema": [{"name": "title", "type": "text"}]}
    answer = client.post("/api/v1/collections", json=definition, headers={"authorization": f"Bearer {token}"})
    assert answer.status_code == 201, answer.text


# Another server's protocol classes -----------------------------------------------------------------------------------

STOCK = """
import uvicorn, sys
from snackbase import SnackBase, Settings
app = SnackBase(Settings(database_url="sqlite:///" + sys.argv[1] + "/stock.db", log_level="error"))
app.announce = lambda started: None
config = uvicorn.Config(app, port=0, ws="websockets-sansio", log_level="error", timeout_graceful_shutdown=1)
sock = config.bind_socket()
sock.listen()
print(sock.getsockname()[1], flush=True)
uvicorn.Server(config).run(sockets=[sock])
"""


@pytest.fixture(scope="module")
def stock_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The whole application under uvicorn's own protocol classes, as `uvicorn main:app` starts it."""
    folder = tmp_path_factory.mktemp("stock")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SNACKBASE_")}
    process = subprocess.Popen(
        [sys.executable, "-c", STOCK, str(folder)],
        env={**inherited, "PYTHONPATH": str(ROOT / "src")},
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, "it did not start"
    yield int(line)
    process.terminate()
    process.wait(PATIENCE_S)
    process.stdout.close()


@pytest.fixture(scope="module")
def stock_token(stock_port: int) -> str:
    with Raw(stock_port) as client:
        body = json.dumps({"email": "s@example.com", "password": "correct horse battery", "account_name": "Stock"})
        head = f"POST /api/v1/auth/register HTTP/1.1\r\nhost: a\r\ncontent-length: {len(body)}\r\n\r\n"
        client.send((head + body).encode())
        status, _, answer = client.response()
        assert status == 201, answer
        token: str = json.loads(answer)["token"]
        return token


def test_a_websocket_works_under_a_stock_uvicorn(stock_port: int, stock_token: str) -> None:
    with connect(f"ws://127.0.0.1:{stock_port}{WS}?token={stock_token}") as socket:
        for number in range(50):
            socket.send(json.dumps({"action": "ping", "id": str(number)}))
        assert [json.loads(socket.recv())["id"] for _ in range(50)] == [str(number) for number in range(50)]


def test_a_stream_works_under_a_stock_uvicorn_and_sees_its_client_leave(stock_port: int, stock_token: str) -> None:
    with Raw(stock_port) as client:
        client.send(f"GET {SSE}?token={stock_token}&collection=* HTTP/1.1\r\nhost: a\r\n\r\n".encode())
        assert b"\r\ncontent-type: text/event-stream\r\n" in client.read_until(b"\r\n\r\n")
        client.read_until(b"\r\n")
        assert client.read_until(b"\n").startswith(b"retry: ")
        assert b'"type":"subscribed"' in client.read_until(b"\n\n")
        assert _streams(stock_port) == 1
    until(lambda: _streams(stock_port) == 0)


def _streams(port: int) -> int:
    """Live event streams, as the metrics tell."""
    with Raw(port) as client:
        client.send(b"GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n")
        lines = client.response()[2].decode().splitlines()
    (value,) = [
        line.split()[-1] for line in lines if line.startswith('snackbase_realtime_connections{transport="sse"}')
    ]
    return int(float(value))


# The links themselves ------------------------------------------------------------------------------------------------


class Client:
    """The other side of ASGI: gives what a client sends, keeps what it gets; `stuck` stops taking anything."""

    def __init__(self) -> None:
        self.incoming: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
        self.got: Messages = []
        self.taking = asyncio.Event()
        self.taking.set()

    async def receive(self) -> MutableMapping[str, Any]:
        return await self.incoming.get()

    async def send(self, message: MutableMapping[str, Any]) -> None:
        await self.taking.wait()
        self.got.append(message)


class Owner:
    """A connection that echoes, and notes how it ended."""

    def __init__(self, link: AsgiLink) -> None:
        self.link = link
        self.received: list[bytes] = []
        self.ends: list[tuple[int | None, str]] = []

    def receive(self, payload: bytes) -> None:
        self.received.append(payload)
        self.link.write([self.link.wire.message(payload)])

    def ponged(self) -> None: ...

    def lost(self, code: int | None, reason: str) -> None:
        self.ends.append((code, reason))


async def test_joined_messages_leave_as_one_asgi_message_each_and_in_order() -> None:
    client = Client()
    link = AsgiWebSocketLink(client.send, max_message_bytes=100)
    owner = Owner(link)
    link.write([b"".join(link.wire.message(b'"%d"' % number) for number in range(3)), link.wire.message(b'"3"')])
    link.close(SLOW_CONSUMER)
    link.write([link.wire.message(b'"late"')])
    assert link.buffered() == len('"0"\n') * 4
    await link.serve(client.receive, owner)

    assert link.buffered() == 0
    assert [message.get("text") for message in client.got[:-1]] == ['"0"', '"1"', '"2"', '"3"']
    assert client.got[-1] == {"type": "websocket.close", "code": 4003, "reason": "slow_consumer"}
    assert owner.ends == [(4003, "slow_consumer")]


@pytest.mark.parametrize("kind", ["websocket", "sse"])
async def test_a_client_that_takes_a_little_of_a_large_write_is_seen_to_get_on(kind: str) -> None:
    client, stuck = Client(), asyncio.Event()

    async def send(message: MutableMapping[str, Any]) -> None:
        if client.got:
            stuck.set()
            await asyncio.Event().wait()
        client.got.append(message)

    link = AsgiSseLink(send, retry_ms=1) if kind == "sse" else AsgiWebSocketLink(send, max_message_bytes=100)
    link.write([link.wire.message(b"x" * PIECE_BYTES) * 3])
    written = link.buffered()
    serving = asyncio.create_task(link.serve(client.receive, Owner(link)))
    await stuck.wait()
    assert 2 * PIECE_BYTES <= link.buffered() <= written - PIECE_BYTES
    link.abort()
    await serving


async def test_unsent_bytes_are_counted_until_the_server_has_taken_them_and_abort_drops_them() -> None:
    client = Client()
    client.taking.clear()
    link = AsgiSseLink(client.send, retry_ms=1000)
    owner = Owner(link)
    serving = asyncio.ensure_future(link.serve(client.receive, owner))
    link.write([b"x" * 1000])
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    assert link.buffered() == 1000 + len(b"retry: 1000\n")
    link.abort()
    await serving
    assert (client.got, link.buffered()) == ([], 0)
    assert owner.ends == [(None, "")]


async def test_a_client_that_leaves_is_reported_once_with_its_code() -> None:
    client = Client()
    link = AsgiWebSocketLink(client.send, max_message_bytes=100)
    owner = Owner(link)
    client.incoming.put_nowait({"type": "websocket.receive", "text": "grüß"})
    client.incoming.put_nowait({"type": "websocket.receive", "bytes": b"\x00", "text": None})
    client.incoming.put_nowait({"type": "websocket.disconnect", "code": 1001, "reason": "bye"})
    await link.serve(client.receive, owner)

    assert owner.received == ["grüß".encode(), b"\x00"]
    assert owner.ends == [(1001, "bye")]


async def test_nothing_is_read_while_reading_is_paused() -> None:
    client = Client()
    link = AsgiWebSocketLink(client.send, max_message_bytes=100)
    owner = Owner(link)
    link.pause_reading()
    client.incoming.put_nowait({"type": "websocket.receive", "text": "x"})
    serving = asyncio.ensure_future(link.serve(client.receive, owner))
    for _ in range(5):
        await asyncio.sleep(0)
    assert owner.received == []

    link.resume_reading()
    client.incoming.put_nowait({"type": "websocket.disconnect"})
    await serving
    assert owner.received == [b"x"]
    assert owner.ends == [(1006, "")]


async def test_a_server_that_cancels_the_call_still_has_the_connection_told() -> None:
    client = Client()
    link = AsgiSseLink(client.send, retry_ms=1000)
    owner = Owner(link)
    serving = asyncio.ensure_future(link.serve(client.receive, owner))
    await asyncio.sleep(0)
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving

    assert owner.ends == [(None, "")]
