"""Clients that come back: raw WebSockets and event streams in one thread, each with the position it has reached.

Every event's place in the log has to be the next one, also over connections; so whoever uses it has to write single
records of one collection and nothing else in the account.
"""

import contextlib
import random
import select
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from urllib.parse import urlencode

import msgspec

from bench.crowd import EVENT, Client, asked
from bench.servers import COLLECTION

STREAM = "/api/v1/realtime/subscribe"
BACK_S = (0.05, 1.0)
"""Who lost its connection comes back within this time, as clients do that were told to spread."""
TICK_S = 0.02


class Socket(Client):
    """A WebSocket; `status` is what its handshake was answered."""

    status = 0

    def _take(self, data: bytes) -> None:
        if not self._shaken:
            head, found, _ = data.partition(b"\r\n\r\n")
            if not found:
                self._rest = data
                return
            self.status = int(head.split(b" ", 2)[1])
            if self.status != 101:
                self.ended = True
                return
        super()._take(data)


class Stream(Socket):
    """An event stream, asked for with HTTP/1.0: a proxy then takes the chunks away."""

    def _take(self, data: bytes) -> None:
        if not self._shaken:
            head, found, data = data.partition(b"\r\n\r\n")
            if not found:
                self._rest = head
                return
            self.status, self._shaken = int(head.split(b" ", 2)[1]), True
            if self.status != 200:
                self.ended = True
                return
        *blocks, self._rest = data.split(b"\n\n")
        for block in blocks:
            start = block.find(b"data: ") + 6
            if block.startswith(EVENT, start):
                self._event(block, start)
            elif start > 5:
                self._other(1, block[start:])


class _One:
    """A client over its connections.

    Attributes:
        at: the number of the last event. back_at: when it connects again; inf = it is connected.
    """

    __slots__ = ("at", "back_at", "connection", "heard_at", "position", "stream", "token")

    def __init__(self, token: str, position: str, *, stream: bool) -> None:
        self.token = token
        self.position = position
        self.stream = stream
        self.at = int(position.split(".")[1], 36)
        self.connection: Socket | None = None
        self.back_at = 0.0
        self.heard_at = 0.0


class Returning:
    """A third of the clients are event streams. Runs from the beginning; `stop` ends it.

    Attributes:
        first: the number from which all begin. heard: events. wrong: those that were not the next one. returns: new
        connections after the first. turned_away: answers instead of a connection, by status. resyncs: see Rolled.
        longest_silence_s: the longest time between two events of one client.
    """

    def __init__(self, port: int, tokens: Sequence[str], count: int, *, since: str, chance: random.Random) -> None:
        self._port = port
        self._chance = chance
        self._everybody = [_One(tokens[number % len(tokens)], since, stream=number % 3 == 2) for number in range(count)]
        self.first = self._everybody[0].at
        self.heard = self.wrong = self.returns = self.resyncs = 0
        self.turned_away: Counter[int] = Counter()
        self.longest_silence_s = 0.0
        self._poll = select.epoll()
        self._by_file: dict[int, _One] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="returning")
        self._thread.start()

    @property
    def live(self) -> int:
        """How many have caught up on the connection they have."""
        return sum(one.connection is not None and one.connection.caught_up for one in self._everybody)

    def behind(self, head: int) -> int:
        """How many have not come to that place of the log."""
        return sum(one.at < head for one in self._everybody)

    def stop(self) -> None:
        """Break off all connections. Idempotent."""
        self._over.set()
        self._thread.join()

    def wait(self, done: Callable[[], bool], *, within_s: float) -> None:
        """Return when it is so. Raises TimeoutError when it does not come to that."""
        ends = time.monotonic() + within_s
        while not done():
            if time.monotonic() > ends or not self._thread.is_alive():
                raise TimeoutError(f"{self.live} of {len(self._everybody)} clients are live; away: {self.turned_away}")
            time.sleep(TICK_S)

    # The thread ------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._over.is_set():
            for file, _ in self._poll.poll(TICK_S):
                self._read(self._by_file[file])
            now = time.monotonic()
            for one in self._everybody:
                if one.connection is None and one.back_at <= now:
                    self._connect(one)
        for one in self._everybody:
            if one.connection is not None:
                one.connection.sock.close()
        self._poll.close()

    def _connect(self, one: _One) -> None:
        try:
            sock = self._stream(one) if one.stream else asked(self._port, one.token)
        except OSError:
            self.turned_away[0] += 1
            one.back_at = self._later()
            return
        one.connection = Stream(sock) if one.stream else Socket(sock, since=one.position)
        one.connection.at, one.connection.position = one.at, one.position
        self._by_file[sock.fileno()] = one
        self._poll.register(sock, select.EPOLLIN)

    def _stream(self, one: _One) -> socket.socket:
        query = urlencode({"token": one.token, "collection": COLLECTION})
        sock = socket.create_connection(("127.0.0.1", self._port), timeout=30)
        head = f"GET {STREAM}?{query} HTTP/1.0\r\nHost: 127.0.0.1:{self._port}\r\nLast-Event-ID: {one.position}\r\n\r\n"
        sock.sendall(head.encode())
        sock.setblocking(False)
        return sock

    def _read(self, one: _One) -> None:
        connection = one.connection
        if connection is None:
            return
        heard, gaps = connection.heard, connection.gaps
        connection.read()
        if connection.heard > heard:
            now = time.monotonic()
            if one.heard_at:
                self.longest_silence_s = max(self.longest_silence_s, now - one.heard_at)
            one.heard_at = now
            self.heard += connection.heard - heard
            self.wrong += connection.gaps - gaps
            one.at, one.position = connection.at, connection.position
        if connection.ended or connection.code is not None:
            self._lost(one, connection)

    def _lost(self, one: _One, connection: Socket) -> None:
        self._poll.unregister(connection.sock)
        del self._by_file[connection.sock.fileno()]
        connection.sock.close()
        one.connection, one.back_at = None, self._later()
        self.resyncs += sum(msgspec.json.decode(other)["type"] == "resync" for other in _whole(connection.others))
        if connection.caught_up:
            self.returns += 1
        else:
            self.turned_away[connection.status] += 1

    def _later(self) -> float:
        return time.monotonic() + self._chance.uniform(*BACK_S)


def _whole(others: Sequence[bytes]) -> list[bytes]:
    """Those that were kept whole: a `resync` is short."""
    found = []
    for other in others:
        with contextlib.suppress(msgspec.DecodeError):
            msgspec.json.decode(other)
            found.append(other)
    return found
