"""WebSockets over real sockets: the Autobahn cases, hostile and odd frames, ends, a user's own routes."""

import json
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.protocol.raw import (
    BINARY,
    CLOSE,
    CONT,
    PATIENCE_S,
    PING,
    PONG,
    TEXT,
    Frame,
    GatewayServer,
    Raw,
    client_frame,
    handshake,
    until,
)

LIMIT = 65536


@pytest.fixture
def client(gateway: GatewayServer) -> Iterator[Raw]:
    with gateway.connect() as raw:
        yield raw


def test_all_247_core_cases_of_the_autobahn_suite_pass(gateway: GatewayServer, tmp_path: Path) -> None:
    address = f"ws://127.0.0.1:{gateway.port}/api/v1/realtime/_echo"
    kosoku = Path(sys.executable).with_name("kosoku")
    left_out = ["-x", "9.*", "-x", "12.*", "-x", "13.*"]

    done = subprocess.run([kosoku, "-p", "4", *left_out, "-o", tmp_path, address], capture_output=True, text=True)

    assert done.returncode == 0, done.stdout + done.stderr
    (index,) = tmp_path.rglob("index.json")
    (cases,) = json.loads(index.read_text()).values()
    passing = {"OK", "NON-STRICT", "INFORMATIONAL"}
    failed = {
        name: case
        for name, case in cases.items()
        if case["behavior"] not in passing or case["behaviorClose"] not in passing
    }
    assert failed == {}
    assert len(cases) == 247


# Frames --------------------------------------------------------------------------------------------------------------

VIOLATIONS: dict[str, tuple[bytes, int]] = {
    "a frame without a mask": (client_frame(TEXT, b"x", masked=False), 1002),
    "a reserved bit": (client_frame(TEXT, b"x", rsv=4), 1002),
    "a ping of 126 bytes": (client_frame(PING, b"x" * 126), 1002),
    "a close code that may not be sent": (client_frame(CLOSE, b"\x03\xed"), 1002),
    "a close of one byte": (client_frame(CLOSE, b"\x03"), 1002),
    "a length of 2^63-1": (client_frame(BINARY, size=(1 << 63) - 1), 1009),
    "a message over 64 KiB": (client_frame(TEXT, b"x" * (LIMIT + 1)), 1009),
    "200,000 empty continuations": (client_frame(TEXT, fin=False) + client_frame(CONT, fin=False) * 200_000, 1009),
    "invalid UTF-8 across frames": (client_frame(TEXT, b"\xf0\x9f", fin=False) + client_frame(CONT, b"\x98A"), 1007),
}


@pytest.mark.parametrize(("data", "code"), VIOLATIONS.values(), ids=VIOLATIONS.keys())
def test_a_client_that_breaks_the_protocol_is_told_how_and_cut_off(
    gateway: GatewayServer, data: bytes, code: int
) -> None:
    name = f"violation-{code}-{zlib.crc32(data)}"
    with gateway.connect() as client:
        client.upgrade(f"/handed-over?{name}")
        client.send(data)

        assert client.frame().close_code == code
        assert client.read_all() == b""
    (told,) = gateway.lost(name)
    assert told.startswith(f"{name} {code} ")


@pytest.mark.parametrize("code", [1000, 1001, 3000, 4999])
def test_a_clients_close_is_echoed_and_reported_once(gateway: GatewayServer, code: int) -> None:
    with gateway.connect() as client:
        client.upgrade(f"/handed-over?close-{code}")
        client.send(client_frame(CLOSE, code.to_bytes(2, "big") + b"bye"))

        assert client.frame().close_code == code
        assert client.read_all() == b""
    assert gateway.lost(f"close-{code}") == [f"close-{code} {code} bye"]


def test_a_close_without_a_code_is_answered_without_one(gateway: GatewayServer) -> None:
    with gateway.connect() as client:
        client.upgrade("/handed-over?close-empty")
        client.send(client_frame(CLOSE))

        assert client.frame() == (CLOSE, b"")
    assert gateway.lost("close-empty") == ["close-empty 1005 "]


@pytest.mark.parametrize("how", ["reset", "shutdown"])
def test_a_client_that_vanishes_is_reported_once_as_1006(gateway: GatewayServer, how: str) -> None:
    name = f"vanished-{how}"
    with gateway.connect() as client:
        client.upgrade(f"/handed-over?{name}")
        if how == "reset":
            client.reset()
        else:
            client.socket.shutdown(1)
            assert client.read_all() == b""
    until(lambda: gateway.lost(name) == [f"{name} 1006 "])


def test_a_message_of_exactly_64_kib_is_taken(client: Raw) -> None:
    client.upgrade()
    client.send(client_frame(TEXT, b"x" * LIMIT))

    assert client.frame() == (TEXT, b"x" * LIMIT)


def test_a_binary_frame_is_taken_for_text(client: Raw) -> None:
    client.upgrade()
    client.send(client_frame(BINARY, b'{"action":"ping"}'))

    assert client.frame() == (TEXT, b'{"action":"ping"}')


def test_many_frames_in_one_packet_are_answered_in_order(client: Raw) -> None:
    client.upgrade()
    client.send(b"".join(client_frame(TEXT, b"%d" % number) for number in range(1000)))

    assert [client.frame().payload for _ in range(1000)] == [b"%d" % number for number in range(1000)]


def test_a_stream_may_arrive_byte_by_byte(client: Raw) -> None:
    client.upgrade()
    for byte in client_frame(TEXT, b"slow", fin=False) + client_frame(PING, b"p") + client_frame(CONT, b"ly"):
        client.send(bytes([byte]))

    assert [client.frame(), client.frame()] == [(PONG, b"p"), (TEXT, b"slowly")]


def test_a_ping_of_ours_is_empty_and_its_pong_is_reported(client: Raw) -> None:
    client.upgrade()
    client.send(client_frame(TEXT, b"ping me"))
    assert client.frame() == (PING, b"")
    client.send(client_frame(PONG))

    assert client.frame() == (TEXT, b"ponged")


def test_a_flood_of_pings_ends_with_4006(client: Raw) -> None:
    client.upgrade()
    client.send(client_frame(PING) * 2000)
    frames: list[Frame] = []
    while not frames or frames[-1].opcode == PONG:
        frames.append(client.frame())

    assert frames[-1].close_code == 4006
    assert len(frames) < 200


def test_a_message_that_is_never_finished_does_not_live_on_pongs(client: Raw) -> None:
    client.upgrade()
    client.send(client_frame(TEXT, b"begin", fin=False) + client_frame(PONG) * 3)
    frames = [client.frame() for _ in range(3)]

    assert [frame.payload for frame in frames[:2]] == [b"ponged", b"ponged"]
    assert frames[2].close_code == 4004


def test_pongs_that_come_together_are_all_heard(client: Raw) -> None:
    """A client that slept answers several pings at once; none of its messages is unfinished for that."""
    client.upgrade()
    client.send(client_frame(PONG) * 10 + client_frame(TEXT, b"awake"))

    assert [client.frame().payload for _ in range(11)] == [b"ponged"] * 10 + [b"awake"]


# A user's own routes: ordinary ASGI ----------------------------------------------------------------------------------


def test_a_route_that_is_never_handed_over_is_an_ordinary_asgi_websocket(client: Raw) -> None:
    assert client.upgrade("/plain")["x-plain"] == "yes"
    client.send(client_frame(TEXT, "grüß".encode()) + client_frame(BINARY, b"\xff\x00"))
    assert [client.frame(), client.frame()] == [(TEXT, "grüß".encode()), (BINARY, b"\xff\x00")]

    client.send(client_frame(TEXT, b"close"))
    assert client.frame() == (CLOSE, (4321).to_bytes(2, "big") + b"asked to")


def test_an_application_that_fails_ends_with_1011(client: Raw) -> None:
    client.upgrade("/plain")
    client.send(client_frame(TEXT, b"fail"))

    assert client.frame().close_code == 1011


def test_an_application_may_refuse_with_a_response_of_its_own(client: Raw) -> None:
    client.send(handshake("/refuse"))
    status, headers, body = client.response()

    assert (status, body) == (418, b"not today")
    assert headers["connection"] == "close"


def test_an_application_that_fails_before_accept_is_a_500_in_the_shape_of_rest(client: Raw) -> None:
    client.send(handshake("/fail"))
    status, _, body = client.response()

    assert status == 500
    assert json.loads(body)["code"] == "internal_error"


def test_an_application_that_cannot_send_is_not_read_for_either(client: Raw) -> None:
    client.upgrade("/plain")
    client.socket.settimeout(0.5)
    with pytest.raises(TimeoutError):
        for _ in range(1000):
            client.send(client_frame(BINARY, b"x" * LIMIT))
    client.socket.settimeout(PATIENCE_S)

    assert client.frame() == (BINARY, b"x" * LIMIT)
