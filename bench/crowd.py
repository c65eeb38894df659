"""Many raw WebSocket clients in one thread, as cheap as Python allows: they count, check the order, may stand still.

Every event's place in the log has to be the next one; so the benchmarks that use it write nothing but single creates.
"""

import select
import socket
import time
from collections.abc import Callable, Sequence
from urllib.parse import urlencode

import msgspec

from bench.programs import BenchError
from bench.servers import COLLECTION

PATH = "/api/v1/realtime/ws"
READ = 1 << 18
EVENT = f'{{"type":"{COLLECTION}.'.encode()
POSITION = b'"position":"'
KEY = "c25hY2tiYXNlLWJlbmNoIQ=="
"""A Sec-WebSocket-Key; nobody needs it to be random here (RFC 6455 §4.1 wants it so between strangers)."""


class Client:
    """One connection.

    Attributes:
        heard: events so far. at: the number of the last one. position: its token.
        gaps: events that were not the next one. caught_up: a replay is over. code: of the close frame.
        told_at: when the last of `others`, or the close frame, arrived (time.monotonic).
    """

    def __init__(self, sock: socket.socket, *, since: str | None = None) -> None:
        self.sock = sock
        self._since = since
        self._shaken = False
        self.heard = self.gaps = self.at = 0
        self.position = ""
        self.live = self.caught_up = self.ended = False
        self.code: int | None = None
        self.told_at = 0.0
        self.others: list[bytes] = []
        self._rest = b""

    def subscribe(self, since: str | None = None, *, collection: str = COLLECTION) -> None:
        """Ask for the collection's events, after a position if one is given."""
        more = {} if since is None else {"since": since}
        payload = msgspec.json.encode({"action": "subscribe", "collection": collection, **more})
        # Masked with zeros, which leaves the payload as it is (RFC 6455 §5.3).
        size = len(payload)
        head = bytes([0x81, 0x80 | size]) if size < 126 else b"\x81\xfe" + size.to_bytes(2)
        self.sock.sendall(head + b"\0\0\0\0" + payload)

    def read(self) -> bool:
        """Take what is there; False when the connection is over."""
        try:
            data = self.sock.recv(READ)
        except BlockingIOError:
            return True
        except OSError:
            data = b""
        if not data:
            self.ended = True
            return False
        self._take(self._rest + data if self._rest else data)
        return True

    def _take(self, data: bytes) -> None:
        at, end = 0, len(data)
        if not self._shaken:
            head, found, _ = data.partition(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 101"):
                raise BenchError(f"the handshake was answered {data[:300]!r}")
            self._shaken = bool(found)
            at = len(head) + len(found)
            if self._since is not None:
                self.subscribe(self._since)
        while end - at >= 2:
            size, start = data[at + 1], at + 2
            if size == 126:
                size, start = int.from_bytes(data[at + 2 : at + 4]), at + 4
            elif size == 127:
                size, start = int.from_bytes(data[at + 2 : at + 10]), at + 10
            if start + size > end:
                break
            if data.startswith(EVENT, start):
                self._event(data, start)
            else:
                self._other(data[at] & 15, data[start : start + size])
            at = start + size
        self._rest = data[at:]

    def _event(self, data: bytes, start: int) -> None:
        found = data.find(POSITION, start) + len(POSITION)
        position = data[found : data.index(b'"', found)].decode()
        number = int(position.split(".")[1], 36)
        self.gaps += self.at != 0 and number != self.at + 1
        self.heard, self.at, self.position = self.heard + 1, number, position

    def _other(self, opcode: int, payload: bytes) -> None:
        if opcode == 8:
            self.code, self.told_at = int.from_bytes(payload[:2]), time.monotonic()
        elif opcode == 1:
            kind = msgspec.json.decode(payload)["type"]
            self.live = self.live or kind == "subscribed"
            self.caught_up = self.caught_up or kind == "caught_up"
            if kind not in ("subscribed", "caught_up", "heartbeat"):
                self.others.append(payload[:200])
                self.told_at = time.monotonic()


class Crowd:
    """Clients read together.

    Args:
        since: everybody connects at once and resumes from here; None = one after the other, and nobody subscribes yet.
    """

    def __init__(self, port: int, tokens: Sequence[str], count: int, *, since: str | None = None) -> None:
        names = [tokens[number % len(tokens)] for number in range(count)]
        if since is None:
            self.clients = [_connected(port, token) for token in names]
        else:
            self.clients = [Client(asked(port, token), since=since) for token in names]
        self._poll = select.epoll()
        self._by_file = {client.sock.fileno(): client for client in self.clients}
        for client in self.clients:
            self.go_on(client)

    def __enter__(self) -> "Crowd":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Break off all connections."""
        self._poll.close()
        for client in self.clients:
            client.sock.close()

    def stand_still(self, client: Client) -> None:
        """Read nothing more from it."""
        self._poll.unregister(client.sock)

    def go_on(self, client: Client) -> None:
        self._poll.register(client.sock, select.EPOLLIN)

    def until(self, done: Callable[[], bool], *, within_s: float, what: str) -> None:
        """Read until it is so. Raises BenchError when it does not come to that."""
        deadline = time.monotonic() + within_s
        while not done():
            if time.monotonic() > deadline:
                raise BenchError(f"not within {within_s:g} s: {what}")
            for file, _ in self._poll.poll(0.05):
                client = self._by_file[file]
                if not client.read():
                    self._poll.unregister(file)

    def subscribe(self, *, collection: str = COLLECTION) -> None:
        """Everybody, live."""
        for client in self.clients:
            client.subscribe(collection=collection)
        self.until(lambda: all(one.live for one in self.clients), within_s=60, what="everybody subscribed")


def _connected(port: int, token: str, *, within_s: float = 60) -> Client:
    """A connection after its handshake; who is asked to wait waits."""
    deadline = time.monotonic() + within_s
    while True:
        sock = asked(port, token)
        sock.settimeout(within_s)
        # Nothing follows the head before the first message of this side; it is too short to come in pieces.
        answer = sock.recv(4096, socket.MSG_PEEK)
        sock.setblocking(False)
        if answer.startswith(b"HTTP/1.1 101"):
            client = Client(sock)
            client.read()
            return client
        sock.close()
        if not answer.startswith((b"HTTP/1.1 429", b"HTTP/1.1 503")) or time.monotonic() > deadline:
            raise BenchError(f"the handshake was answered {answer[:300]!r}")
        time.sleep(0.2)


def asked(port: int, token: str) -> socket.socket:
    """A connection that has sent its handshake and waits for the answer."""
    head = f"GET {PATH}?{urlencode({'token': token})} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
    head += "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    sock = socket.create_connection(("127.0.0.1", port), timeout=30)
    sock.sendall(f"{head}Sec-WebSocket-Key: {KEY}\r\n\r\n".encode())
    sock.setblocking(False)
    return sock
