"""`snackbase tail` as a client of event streams: what it reads, shows, and says when it comes back."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from snackbase.cli.tail import Message, Refused, follow, messages, shown

EVENT = '{"type":"posts.create","timestamp":"2026-01-17T12:34:56.789Z","position":"p2","data":{"id":"1","title":"é"}}'


class Streams(ThreadingHTTPServer):
    """Serves one stream after the other, then refuses; remembers what was asked for."""

    def __init__(self, streams: list[bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.streams = streams
        self.asked: list[tuple[str, str | None, str | None]] = []


class _Handler(BaseHTTPRequestHandler):
    server: Streams

    def do_GET(self) -> None:
        authorization, last = self.headers.get("Authorization"), self.headers.get("Last-Event-ID")
        self.server.asked.append((self.path, authorization, last))
        if self.server.streams:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(self.server.streams.pop(0))
        else:
            self.send_response(401)
            self.end_headers()
            self.wfile.write(b'{"message":"This login has ended; log in again."}')

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def serve() -> Iterator[list[Streams]]:
    made: list[Streams] = []
    yield made
    for server in made:
        server.shutdown()
        server.server_close()


def started(serve: list[Streams], *streams: bytes) -> Streams:
    server = Streams(list(streams))
    serve.append(server)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    return server


def test_a_stream_is_read_block_by_block() -> None:
    stream = (
        b": comment\nretry: 1500\ndata: one\n\nid: p1\r\ndata: two\r\ndata: lines\r\n\r\nunknown: x\n\ndata: cut off"
    )
    blocks = list(messages(iter(stream.splitlines(keepends=True))))

    assert blocks == [Message("one", None, 1.5), Message("two\nlines", "p1"), Message()]


def test_events_are_shown_on_one_line_and_signs_of_life_are_not() -> None:
    assert shown(Message(EVENT), raw=False) == '12:34:56.789 posts.create {"id": "1", "title": "é"}'
    assert shown(Message('{"type":"posts.delete","change":"leave","data":{"id":"1"}}'), raw=False) == (
        ' posts.delete (leave) {"id": "1"}'
    )
    assert shown(Message('{"type":"resync","reason":"rights"}'), raw=False) == '-- resync {"reason": "rights"}'
    assert shown(Message('{"type":"heartbeat","position":"p"}'), raw=False) is None
    assert shown(Message('{"type":"heartbeat"}'), raw=True) == '{"type":"heartbeat"}'


def test_it_comes_back_with_the_last_position_it_has_seen(serve: list[Streams]) -> None:
    block = f"retry: 1\ndata: {EVENT}\n\nid: p2\ndata: {EVENT}\n\n".encode()
    server = started(serve, block, b"data: {}\n\n")
    seen: list[Message] = []
    url = f"http://127.0.0.1:{server.server_port}/base/"
    with pytest.raises(Refused, match=r"^This login has ended; log in again\.$"):
        follow(url, "secret", ["posts", "notes"], since="p0", show=seen.append)

    path = "/base/api/v1/realtime/subscribe?collection=posts&collection=notes"
    assert server.asked == [(path, "Bearer secret", last) for last in ("p0", "p2", "p2")]
    assert [message.data for message in seen] == [EVENT, EVENT, "{}"]
