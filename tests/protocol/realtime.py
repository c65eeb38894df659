"""What the endpoint tests share: accounts, messages and streams of a real server."""

import json
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlencode

from tests.protocol.raw import TEXT, Raw, client_frame, handshake
from tests.support.server import ServerProcess

WS = "/api/v1/realtime/ws"
SSE = "/api/v1/realtime/subscribe"


def register(server: ServerProcess, email: str, account: str) -> dict[str, str]:
    connection = HTTPConnection("127.0.0.1", server.port)
    body = json.dumps({"email": email, "password": "correct horse battery", "account_name": account})
    connection.request("POST", "/api/v1/auth/register", body, {"content-type": "application/json"})
    response = connection.getresponse()
    answer: dict[str, str] = json.loads(response.read())
    connection.close()
    assert response.status == 201, answer
    return answer


def ping(client: Raw) -> dict[str, Any]:
    client.send(client_frame(TEXT, b'{"action":"ping","id":"p"}'))
    return message_of(client)


def message_of(client: Raw) -> dict[str, Any]:
    frame = client.frame()
    assert frame.opcode == TEXT, frame
    message: dict[str, Any] = json.loads(frame.payload)
    return message


def refused(client: Raw, path: str = WS, **headers: str) -> tuple[int, str, dict[str, str]]:
    client.send(handshake(path, **headers))
    status, found, body = client.response()
    return status, json.loads(body)["code"], found


def get(path: str, *, version: str = "1.1", method: str = "GET", **headers: str) -> bytes:
    lines = [f"{method} {path} HTTP/{version}", "host: testserver"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


class Stream:
    """The blocks of a chunked event stream."""

    def __init__(self, client: Raw, path: str, **headers: str) -> None:
        self.client = client
        client.send(get(path, **headers))
        self.head = client.read_until(b"\r\n\r\n").decode().lower()
        self._body = b""

    def block(self) -> list[str]:
        """The lines of the next block."""
        while b"\n\n" not in self._body:
            size = int(self.client.read_until(b"\r\n"), 16)
            assert size, "the stream is over"
            self._body += self.client.read(size)
            self.client.read(2)
        text, _, self._body = self._body.partition(b"\n\n")
        return text.decode().split("\n")

    def message(self) -> dict[str, Any]:
        (data,) = [line.removeprefix("data: ") for line in self.block() if line.startswith("data: ")]
        message: dict[str, Any] = json.loads(data)
        return message


def stream_path(token: str, *parameters: tuple[str, str]) -> str:
    return f"{SSE}?{urlencode([('token', token), *parameters])}"
