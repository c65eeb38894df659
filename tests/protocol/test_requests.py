"""One request after the other on one connection: what is wrong with a request is said, in its turn, whatever else waits
on the connection (RFC 9112), and nobody holds more of the server than they are worth.
"""

import json
import os
import re
import resource
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from snackbase.gateway.bounds import MAX_PIPELINED
from tests.protocol.raw import GatewayServer, Raw, gateway_server

HELLO = b"GET /hello HTTP/1.1\r\nhost: a\r\n\r\n"
SLOW = b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n"
STREAM = b"GET /stream HTTP/1.1\r\nhost: a\r\n\r\n"
POST = b"POST /hello HTTP/1.1\r\nhost: a\r\n"


@pytest.fixture
def client(gateway: GatewayServer) -> Iterator[Raw]:
    with gateway.connect() as raw:
        yield raw


WRONG: dict[str, bytes] = {
    "no Host": b"GET /hello HTTP/1.1\r\n\r\n",
    "two Hosts": b"GET /hello HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
    "a chunk without a size": POST + b"transfer-encoding: chunked\r\n\r\nzz\r\n",
    "a chunk of another size": POST + b"transfer-encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n",
    "an unknown transfer coding": POST + b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunks and a length": POST + b"transfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n0\r\n\r\n",
    "two lengths": POST + b"content-length: 3\r\ncontent-length: 4\r\n\r\nabcd",
    "a negative length": POST + b"content-length: -1\r\n\r\n",
    "a folded header": b"GET /hello HTTP/1.1\r\nhost: a\r\nx: a\r\n b\r\n\r\n",
    "a space before the colon": b"GET /hello HTTP/1.1\r\nhost: a\r\nx : a\r\n\r\n",
    "a bare line feed": b"GET /hello HTTP/1.1\nhost: a\n\n",
    "a header with a null": b"GET /hello HTTP/1.1\r\nhost: a\r\nx: a\x00b\r\n\r\n",
}


@pytest.mark.parametrize("request_", WRONG.values(), ids=WRONG.keys())
def test_a_request_that_is_no_http_is_answered_400_in_the_shape_of_rest_and_closed(
    client: Raw, request_: bytes
) -> None:
    client.send(request_)
    status, headers, body = client.response()

    assert (status, headers["connection"]) == (400, "close")
    assert json.loads(body).keys() == {"error", "message", "detail", "code", "details"}
    assert client.read_all() == b""


def test_http_1_0_needs_no_host(client: Raw) -> None:
    client.send(b"GET /hello HTTP/1.0\r\n\r\n")

    assert client.response()[0] == 200


@pytest.mark.parametrize("request_", WRONG.values(), ids=WRONG.keys())
def test_what_is_wrong_with_a_request_is_said_after_the_answers_before_it(client: Raw, request_: bytes) -> None:
    client.send(SLOW + HELLO + request_ + HELLO)

    assert [client.response()[2] for _ in range(2)] == [b"done", b"hello 0"]
    assert client.response()[0] == 400
    assert client.read_all() == b""


def test_a_body_that_breaks_off_in_nonsense_while_it_is_read_is_answered(client: Raw) -> None:
    client.send(POST + b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n")
    client.send(b"nonsense\r\n")

    assert client.response()[0] == 400
    assert client.read_all() == b""


def test_requests_sent_together_are_answered_in_order(client: Raw) -> None:
    client.send(SLOW + HELLO + POST + b"content-length: 3\r\n\r\nabc" + HELLO)

    assert [client.response()[2] for _ in range(4)] == [b"done", b"hello 0", b"hello 3", b"hello 0"]


def test_a_stream_is_served_though_another_request_was_sent_behind_it(client: Raw) -> None:
    client.send(STREAM + HELLO)
    head = client.read_until(b"\r\n\r\n").lower()

    assert head.startswith(b"http/1.1 200 ")
    assert b"connection: close" in head
    assert b'"n":3' in client.read_until(b'{"n":3}')


def test_a_stream_behind_other_requests_is_served_in_its_turn(client: Raw) -> None:
    client.send(SLOW + HELLO + STREAM + HELLO)

    assert [client.response()[2] for _ in range(2)] == [b"done", b"hello 0"]
    assert b'"n":3' in client.read_until(b'{"n":3}')


def test_more_requests_than_may_wait_are_refused_in_their_turn(client: Raw) -> None:
    client.send(SLOW + HELLO * (MAX_PIPELINED + 50))

    assert client.response()[2] == b"done"
    assert {client.response()[2] for _ in range(MAX_PIPELINED)} == {b"hello 0"}
    assert client.response()[0] == 429
    assert client.read_all() == b""


def test_a_client_that_went_is_noticed_though_it_sent_more_requests(gateway: GatewayServer) -> None:
    with gateway.connect() as client:
        client.send(b"GET /waits HTTP/1.1\r\nhost: a\r\n\r\n" + HELLO)
    with gateway.connect() as other:
        other.send(b"GET /waited HTTP/1.1\r\nhost: a\r\n\r\n")
        assert other.response()[2] == b"gone"


def test_connections_leave_the_process_files_of_its_own(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (160, hard))
    try:
        server = gateway_server(tmp_path / "output.txt")
        with server as running:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            crowd = [running.connect() for _ in range(90)]
            kept = []
            for one in crowd:
                one.send(HELLO)
                if one.response()[0] != 503:
                    kept.append(one)
            assert 20 <= len(crowd) - len(kept) <= 50
            assert len(os.listdir(f"/proc/{running.process.pid}/fd")) < 100  # noqa: PTH208 - names of files only
            for one in kept:
                one.socket.shutdown(socket.SHUT_WR)
            for one in kept:
                # The server has let go of it when its own end comes.
                assert one.read_all() == b""
            for one in crowd:
                one.socket.close()
            running.get("/hello")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _dateless(answer: bytes) -> bytes:
    return re.sub(rb"date: [^\r]*\r\n", b"", answer)


@pytest.mark.parametrize("line", [b"GET %s HTTP/1.1", b"GET %s HTTP/1.0", b"POST %s HTTP/1.1\r\ncontent-length: 3"])
@pytest.mark.parametrize("last", [b"connection: close\r\n\r\n", b"connection: keep-alive\r\n\r\n"])
def test_an_answer_at_once_is_byte_for_byte_the_one_that_goes_the_long_way(
    gateway: GatewayServer, line: bytes, last: bytes
) -> None:
    answers = []
    for path in (b"/hello", b"/at-once"):
        with gateway.connect() as raw:
            raw.send(line % path + b"\r\nhost: a\r\n" + last + (b"abc" if b"POST" in line else b""))
            closes = b"close" in last or b"1.0" in line
            answers.append(raw.read_all() if closes else raw.read_until(b"\r\n\r\n") + raw.read(7))

    assert answers[0].endswith(b"hello 3" if b"POST" in line else b"hello 0")
    assert _dateless(answers[0]) == _dateless(answers[1])


def test_answers_at_once_come_in_the_order_of_their_requests(client: Raw) -> None:
    at_once = b"POST /at-once HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n%b"
    client.send(SLOW + at_once % (1, b"a") + HELLO + at_once % (2, b"bc"))

    assert [client.response()[2] for _ in range(4)] == [b"done", b"hello 1", b"hello 0", b"hello 2"]


def test_a_header_that_would_be_two_is_never_sent(client: Raw) -> None:
    client.send(b"GET /at-once?break HTTP/1.1\r\nhost: a\r\n\r\n")

    assert client.response()[0] == 500


def test_the_application_can_tell_whether_the_body_has_come(client: Raw) -> None:
    head = b"POST /whole HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\n"
    client.send(head + b"abc")
    assert client.response()[2] == b"True True"

    client.send(head + b"a")
    client.send(b"bc")
    assert client.response()[2].endswith(b"True")


@pytest.mark.parametrize("before", [b"", HELLO, SLOW, SLOW + HELLO])
def test_a_head_that_begins_has_to_end_in_time(client: Raw, before: bytes) -> None:
    client.send(before + b"GET /hello HTT")

    for _ in range(before.count(b"\r\n\r\n")):
        assert client.response()[0] == 200
    assert client.response()[0] == 408
    assert client.read_all() == b""
