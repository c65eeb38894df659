"""A client of bare sockets: sends what no library would, and shows every byte that comes back."""

import base64
import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

ROOT = Path(__file__).resolve().parent.parent.parent
PATIENCE_S = 20.0
"""Only for a server that answers nothing at all; no test depends on how fast it is."""

TEXT, BINARY, CONT, CLOSE, PING, PONG = 1, 2, 0, 8, 9, 10


class Frame(NamedTuple):
    opcode: int
    payload: bytes

    @property
    def close_code(self) -> int | None:
        return struct.unpack("!H", self.payload[:2])[0] if self.payload else None


def client_frame(
    opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, masked: bool = True, size: int | None = None
) -> bytes:
    """A frame as a client sends it; `size` announces another length than the payload's."""
    length = len(payload) if size is None else size
    bit = 0x80 if masked else 0
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    if length <= 125:
        head += bytes([bit | length])
    elif length <= 0xFFFF:
        head += bytes([bit | 126]) + struct.pack("!H", length)
    else:
        head += bytes([bit | 127]) + struct.pack("!Q", length)
    if not masked:
        return head + payload
    mask = os.urandom(4)
    repeated = (mask * (len(payload) // 4 + 1))[: len(payload)]
    mixed = int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")
    return head + mask + mixed.to_bytes(len(payload), "big")


def handshake(
    path: str = "/handed-over", *, without: str = "", method: str = "GET", version: str = "1.1", **more: str
) -> bytes:
    """An opening handshake; `more` adds or replaces headers (`_` for `-`), `without` leaves one out."""
    headers = {
        "host": "testserver",
        "upgrade": "websocket",
        "connection": "Upgrade",
        "sec-websocket-key": base64.b64encode(os.urandom(16)).decode(),
        "sec-websocket-version": "13",
        **{name.replace("_", "-"): value for name, value in more.items()},
    }
    headers.pop(without, None)
    lines = [f"{method} {path} HTTP/{version}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"


class Raw:
    """One TCP connection."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
        self.buffer = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def reset(self) -> None:
        """End with a TCP reset instead of a FIN."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def read(self, size: int) -> bytes:
        """Exactly so many bytes. Raises EOFError."""
        while len(self.buffer) < size:
            if not self._more():
                raise EOFError(self.buffer)
        data, self.buffer = self.buffer[:size], self.buffer[size:]
        return data

    def read_until(self, end: bytes) -> bytes:
        while end not in self.buffer:
            if not self._more():
                raise EOFError(self.buffer)
        size = self.buffer.index(end) + len(end)
        return self.read(size)

    def read_all(self) -> bytes:
        """Everything up to the end of the connection."""
        while self._more():
            pass
        data, self.buffer = self.buffer, b""
        return data

    def _more(self) -> bool:
        try:
            data = self.socket.recv(65536)
        except ConnectionResetError:
            return False
        self.buffer += data
        return bool(data)

    def response(self) -> tuple[int, dict[str, str], bytes]:
        """Status, headers (in lower case) and a body with a Content-Length."""
        lines = self.read_until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:-2])}
        return int(lines[0].split()[1]), headers, self.read(int(headers.get("content-length", 0)))

    def frame(self) -> Frame:
        first, second = self.read(2)
        assert not second & 0x80, "a server never masks"
        size = second
        if second == 126:
            size = struct.unpack("!H", self.read(2))[0]
        elif second == 127:
            size = struct.unpack("!Q", self.read(8))[0]
        assert first & 0xF0 == 0x80, "a server neither fragments nor sets reserved bits"
        return Frame(first & 0x0F, self.read(size))

    def upgrade(self, path: str = "/handed-over", **headers: str) -> dict[str, str]:
        """Open a WebSocket; returns the headers of the answer."""
        self.send(handshake(path, **headers))
        status, found, body = self.response()
        assert status == 101, body
        return found


class GatewayServer:
    """tests/protocol/gateway_server.py in a process of its own."""

    def __init__(self, log: Path) -> None:
        self.log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.protocol.gateway_server"],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
                stdout=subprocess.PIPE,
                stderr=output,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.output
        self.port = int(line)

    @property
    def output(self) -> str:
        return self.log.read_text()

    def connect(self) -> Raw:
        return Raw(self.port)

    def get(self, path: str) -> bytes:
        with self.connect() as client:
            client.send(f"GET {path} HTTP/1.1\r\nhost: testserver\r\nconnection: close\r\n\r\n".encode())
            status, _, body = client.response()
            assert status == 200
            return body

    def lost(self, name: str) -> list[str]:
        """What the connections of this name were told at their end."""
        return [line for line in self.get("/lost").decode().splitlines() if line.startswith(f"{name} ")]

    def stop(self) -> int:
        self.process.terminate()
        try:
            return self.process.wait(PATIENCE_S)
        finally:
            self.process.kill()
            self.process.wait()
            if self.process.stdout is not None:
                self.process.stdout.close()


@contextmanager
def gateway_server(log: Path) -> Iterator[GatewayServer]:
    running = GatewayServer(log)
    try:
        yield running
    finally:
        running.stop()


def until(condition: Callable[[], bool]) -> None:
    """Ask again until it holds; another process tells, so there is no event to await."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)
