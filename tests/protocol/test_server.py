"""The HTTP side over real sockets: handshakes, heads, event streams, the end of the process."""

import contextlib
import json
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from snackbase.config import Settings
from snackbase.gateway.bounds import MAX_HEAD_BYTES
from snackbase.gateway.sockets import ROOM_FOR_FILES, SEND_BUFFER_BYTES, listen
from tests.protocol.raw import (
    PATIENCE_S,
    TEXT,
    GatewayServer,
    Raw,
    client_frame,
    gateway_server,
    handshake,
    until,
)

LIMIT = 65536


@pytest.fixture
def client(gateway: GatewayServer) -> Iterator[Raw]:
    with gateway.connect() as raw:
        yield raw


# Handshakes ----------------------------------------------------------------------------------------------------------

REFUSALS: dict[str, tuple[bytes, int]] = {
    "another version": (handshake(sec_websocket_version="8"), 426),
    "two versions": (handshake(sec_websocket_version="13, 8"), 426),
    "no version": (handshake(without="sec-websocket-version"), 426),
    "no key": (handshake(without="sec-websocket-key"), 400),
    "a key that is not base64": (handshake(sec_websocket_key="*" * 24), 400),
    "a key of 15 bytes": (handshake(sec_websocket_key="AAAAAAAAAAAAAAAAAAAA"), 400),
    "no host": (handshake(without="host"), 400),
    "a POST": (handshake(method="POST", content_length="0"), 405),
    "HTTP/1.0": (handshake(version="1.0"), 400),
    "a target that is no path": (handshake("%%%"), 400),
    "a path beyond ASCII": (handshake("/h\xe4nded-over"), 400),
}


@pytest.mark.parametrize(("head", "status"), REFUSALS.values(), ids=REFUSALS.keys())
def test_a_handshake_that_breaks_the_rules_is_refused_in_the_shape_of_rest(
    client: Raw, head: bytes, status: int
) -> None:
    client.send(head)
    found, headers, body = client.response()

    assert found == status, body
    assert json.loads(body).keys() == {"error", "message", "detail", "code", "details"}
    assert headers["connection"] == "close"
    assert headers.get("sec-websocket-version") == ("13" if status == 426 else None)
    assert client.read_all() == b""


def test_an_upgrade_to_something_else_is_an_ordinary_request(client: Raw) -> None:
    client.send(handshake("/hello", upgrade="h2c"))

    assert client.response()[0] == 200


def test_the_subprotocol_the_application_selects_is_answered(client: Raw) -> None:
    assert client.upgrade(sec_websocket_protocol="one, two")["sec-websocket-protocol"] == "one"


def test_no_extension_is_ever_negotiated(client: Raw) -> None:
    assert "sec-websocket-extensions" not in client.upgrade(sec_websocket_extensions="permessage-deflate")


def test_frames_in_the_same_packet_as_the_handshake_are_not_lost(client: Raw) -> None:
    client.send(handshake() + client_frame(TEXT, b"early") + client_frame(TEXT, b"bird"))

    assert client.response()[0] == 101
    assert [client.frame(), client.frame()] == [(TEXT, b"early"), (TEXT, b"bird")]


def test_a_head_that_comes_too_slowly_is_answered_408_and_closed(client: Raw) -> None:
    client.send(b"GET /hello HTTP/1.1\r\nhost: a\r\n")

    assert client.response()[0] == 408
    assert client.read_all() == b""


def test_a_connection_that_sends_nothing_is_closed_without_a_word(client: Raw) -> None:
    assert client.read_all() == b""


def test_empty_lines_do_not_keep_a_connection_open(client: Raw) -> None:
    client.send(b"GET /hello HTTP/1.1\r\nhost: a\r\n\r\n")
    assert client.response()[0] == 200
    client.send(b"\r\n")

    assert client.response()[0] == 408


@pytest.mark.parametrize(
    "head",
    [
        b"GET /hello HTTP/1.1\r\nhost: a\r\nx-long: " + b"a" * (MAX_HEAD_BYTES + 1) + b"\r\n\r\n",
        b"GET /hello?" + b"a" * MAX_HEAD_BYTES + b" HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET /hello HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n",
        handshake(sec_websocket_protocol="a" * MAX_HEAD_BYTES),
    ],
    ids=["one long header", "a long target", "200 headers", "a long subprotocol"],
)
def test_a_head_that_is_too_large_is_answered_431(client: Raw, head: bytes) -> None:
    client.send(head)

    assert client.response()[0] == 431


def test_a_body_may_be_larger_than_a_head(client: Raw) -> None:
    size = MAX_HEAD_BYTES * 3
    client.send(b"POST /hello HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % size + b"x" * size)

    assert client.response()[2] == b"hello %d" % size


def test_what_is_not_http_is_answered_400(client: Raw) -> None:
    client.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")

    assert client.response()[0] == 400


def test_plain_http_lives_on_the_same_port_and_keeps_its_connection(client: Raw) -> None:
    for _ in range(3):
        client.send(b"GET /hello HTTP/1.1\r\nhost: a\r\n\r\n")
        assert client.response()[2] == b"hello 0"


# Event streams -------------------------------------------------------------------------------------------------------

STREAMED = b'retry: 1234\ndata: {"n":1}\n\nid: e-2\ndata: {"n":2}\n\ndata: {"n":3}\n\n'


def _chunks(raw: Raw, until: bytes) -> bytes:
    body = b""
    while not body.endswith(until):
        size = int(raw.read_until(b"\r\n"), 16)
        body += raw.read(size)
        assert raw.read(2) == b"\r\n"
    return body


def test_an_event_stream_is_chunked_with_retry_in_the_block_of_the_first_message(client: Raw) -> None:
    client.send(b"GET /stream HTTP/1.1\r\nhost: a\r\n\r\n")
    head = client.read_until(b"\r\n\r\n").lower()

    assert b"transfer-encoding: chunked" in head
    assert _chunks(client, b'{"n":3}\n\n') == STREAMED


def test_an_event_stream_for_http_1_0_ends_with_its_connection(client: Raw) -> None:
    client.send(b"GET /stream HTTP/1.0\r\nhost: a\r\n\r\n")
    head = client.read_until(b"\r\n\r\n").lower()

    assert b"transfer-encoding" not in head
    assert b"content-length" not in head
    assert client.read(len(STREAMED)) == STREAMED


def test_a_stream_whose_client_aborts_is_reported_once(gateway: GatewayServer) -> None:
    with gateway.connect() as client:
        client.send(b"GET /stream?gone HTTP/1.1\r\nhost: a\r\n\r\n")
        client.read_until(b"\r\n\r\n")
        client.reset()
    until(lambda: gateway.lost("gone") == ["gone None "])


def test_what_a_stream_client_sends_afterwards_is_dropped_and_bounded(gateway: GatewayServer) -> None:
    with gateway.connect() as client:
        client.send(b"GET /stream?talks HTTP/1.1\r\nhost: a\r\n\r\n")
        client.read_until(b"\r\n\r\n")
        _chunks(client, b'{"n":3}\n\n')
        client.send(b"GET /hello HTTP/1.1\r\nhost: a\r\n\r\n")
        assert gateway.lost("talks") == []
        try:
            for _ in range(1000):
                client.send(b"x" * 65536)
        except OSError:
            pass
        assert client.read_all() == b""
    until(lambda: gateway.lost("talks") == ["talks None "])


@pytest.mark.parametrize("kind", ["websocket", "stream", "refused"])
def test_a_connection_leaves_nothing_for_the_cycle_collector(gateway: GatewayServer, kind: str) -> None:
    """Whoever comes back together with ten thousand others would else leave 39 objects each, for a long collection."""
    with contextlib.ExitStack() as stack:
        gateway.get("/garbage")
        try:
            for _ in range(50):
                client = stack.enter_context(gateway.connect())
                if kind == "websocket":
                    client.upgrade()
                    client.send(client_frame(TEXT, b"x"))
                    assert client.frame() == (TEXT, b"x")
                elif kind == "stream":
                    client.send(b"GET /stream HTTP/1.1\r\nhost: a\r\n\r\n")
                    client.read_until(b'{"n":3}')
                else:
                    client.send(handshake("/refuse"))
                    assert client.response()[0] == 418
                    assert client.read_all() == b""
        finally:
            found = int(gateway.get("/garbage?stop"))
        assert found < 50


# The process ---------------------------------------------------------------------------------------------------------


def test_sigterm_ends_every_kind_of_connection_cleanly(tmp_path: Path) -> None:
    with gateway_server(tmp_path / "output.txt") as server, server.connect() as socket, server.connect() as stream:
        socket.upgrade()
        stream.send(b"GET /stream HTTP/1.1\r\nhost: a\r\n\r\n")
        stream.read_until(b"\r\n\r\n")
        with server.connect() as request, server.connect() as plain:
            plain.upgrade("/plain")
            request.send(b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n")
            server.get("/hello")
            server.process.send_signal(signal.SIGTERM)

            assert json.loads(socket.frame().payload)["code"] == "restarting"
            assert socket.frame().close_code == 1012
            assert plain.frame().close_code == 1012
            assert b'"code":"restarting"' in _chunks(stream, b"}}\n\n")
            assert stream.read_all() == b"0\r\n\r\n"
            assert request.response()[2] == b"done"
        assert server.process.wait(PATIENCE_S) == 0
        assert "Traceback" not in server.output


def test_a_second_signal_cuts_off_what_is_under_way_and_leaves_no_traceback(tmp_path: Path) -> None:
    with gateway_server(tmp_path / "output.txt") as server, server.connect() as socket, server.connect() as request:
        socket.upgrade()
        request.send(b"GET /waits HTTP/1.1\r\nhost: a\r\n\r\n")
        server.get("/hello")
        server.process.send_signal(signal.SIGTERM)
        assert json.loads(socket.frame().payload)["code"] == "restarting", "the first signal has arrived"
        server.process.send_signal(signal.SIGTERM)

        assert request.read_all() == b""
        assert server.process.wait(PATIENCE_S) == 0
        assert "Traceback" not in server.output
        assert "A second signal cut 1 requests off" in server.output


def test_listening_sockets_are_bound_to_one_port_and_bound_the_kernels_buffers() -> None:
    sockets = listen(Settings(host="localhost", port=0))
    try:
        assert len({one.getsockname()[1] for one in sockets}) == 1
        # The kernel doubles what is asked for, to leave room for its own bookkeeping (socket(7)).
        assert {one.getsockopt(1, 7) for one in sockets} == {SEND_BUFFER_BYTES * 2}
    finally:
        for one in sockets:
            one.close()


def test_the_kernel_has_room_for_every_descriptor_from_the_start_on(gateway: GatewayServer) -> None:
    """It would else stop the loop while it makes room, whenever the connections have doubled."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    status = dict(line.split(":", 1) for line in Path(f"/proc/{gateway.process.pid}/status").read_text().splitlines())

    assert int(status["FDSize"]) >= min(soft, ROOM_FOR_FILES)
