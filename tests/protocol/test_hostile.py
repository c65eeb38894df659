"""What the Autobahn suite does not try, over real sockets: broken frames one by one, floods, sizes that are never sent,
heads that come byte by byte, messages ahead of the 101. Each ends with the code of RFC 6455, and nobody else notices.
"""

import select
from collections.abc import Iterator

import pytest

from tests.protocol.raw import (
    BINARY,
    CLOSE,
    CONT,
    PING,
    PONG,
    TEXT,
    GatewayServer,
    Raw,
    client_frame,
    handshake,
)

GREEK = "κόσμε𐍈".encode()
OPEN_TEXT = client_frame(TEXT, b"a", fin=False)
MEGABYTE = 1 << 20
DATA_AND_CONTROL = {"a text": TEXT, "a binary": BINARY, "a ping": PING, "a pong": PONG, "a close": CLOSE}


@pytest.fixture
def client(gateway: GatewayServer) -> Iterator[Raw]:
    with gateway.connect() as raw:
        raw.upgrade()
        yield raw


# Frames --------------------------------------------------------------------------------------------------------------

BROKEN: dict[str, tuple[bytes, int]] = {
    **{
        f"{name} without a mask": (client_frame(kind, b"", masked=False), 1002)
        for name, kind in DATA_AND_CONTROL.items()
    },
    "a continuation without a mask": (OPEN_TEXT + client_frame(CONT, b"b", masked=False), 1002),
    **{
        f"{name} with reserved bits {bits:03b}": (client_frame(kind, b"", rsv=bits), 1002)
        for name, kind in DATA_AND_CONTROL.items()
        for bits in (1, 2, 4, 7)
    },
    "a continuation with a reserved bit": (OPEN_TEXT + client_frame(CONT, b"b", rsv=4), 1002),
    **{f"opcode {code}": (client_frame(code, b""), 1002) for code in (3, 7, 11, 15)},
    "a ping in fragments": (client_frame(PING, b"a", fin=False) + client_frame(CONT, b"b"), 1002),
    "a pong in fragments": (client_frame(PONG, b"a", fin=False) + client_frame(CONT, b"b"), 1002),
    "a close in fragments": (client_frame(CLOSE, b"\x03", fin=False) + client_frame(CONT, b"\xe8"), 1002),
    "a ping of 126 bytes": (client_frame(PING, b"x" * 126), 1002),
    "a pong of 65,536 bytes": (client_frame(PONG, b"x" * 65536), 1002),
    "a close of 126 bytes": (client_frame(CLOSE, b"\x03\xe8" + b"x" * 124), 1002),
    "a ping that announces 2^63-1 bytes": (client_frame(PING, size=(1 << 63) - 1), 1002),
    "a continuation of nothing": (client_frame(CONT, b"a"), 1002),
    "a text inside a text": (OPEN_TEXT + client_frame(TEXT, b"b"), 1002),
    "a length of eight bytes that needs two": (b"\x81\xff" + (126).to_bytes(8, "big"), 1002),
    "a length with its highest bit": (b"\x82\xff" + (1 << 63).to_bytes(8, "big"), 1002),
    "a text that announces 2^63-1 bytes": (client_frame(TEXT, size=(1 << 63) - 1), 1009),
    "a binary that announces 2^63-1 bytes": (client_frame(BINARY, size=(1 << 63) - 1), 1009),
    "a continuation that announces 2^63-1 bytes": (OPEN_TEXT + client_frame(CONT, size=(1 << 63) - 1), 1009),
    "a text that announces 65,537 bytes": (client_frame(TEXT, size=65537)[:10], 1009),
}
REFUSED_CLOSES: dict[str, tuple[bytes, int]] = {
    **{
        f"a close with {code}": (client_frame(CLOSE, code.to_bytes(2, "big")), 1002)
        for code in (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535)
    },
    "a close of one byte": (client_frame(CLOSE, b"\x03"), 1002),
    "a close whose reason is no UTF-8": (client_frame(CLOSE, b"\x03\xe8bye \xc3\x28"), 1007),
    "a close whose reason ends in a character": (client_frame(CLOSE, b"\x03\xe8" + GREEK[:-1]), 1007),
}
HOSTILE = BROKEN | REFUSED_CLOSES


@pytest.mark.parametrize(("data", "code"), HOSTILE.values(), ids=HOSTILE.keys())
def test_each_way_to_break_the_protocol_ends_with_its_code(client: Raw, data: bytes, code: int) -> None:
    client.send(data)

    assert client.frame().close_code == code
    assert client.read_all() == b""


@pytest.mark.parametrize(("data", "code"), HOSTILE.values(), ids=HOSTILE.keys())
def test_it_ends_so_behind_a_good_message_and_byte_by_byte_too(client: Raw, data: bytes, code: int) -> None:
    client.send(client_frame(TEXT, b"good"))
    assert client.frame() == (TEXT, b"good")
    for at in range(min(len(data), 64)):
        client.send(data[at : at + 1])
    client.send(data[64:])

    assert client.frame().close_code == code
    assert client.read_all() == b""


@pytest.mark.parametrize("cut", range(1, len(GREEK)))
def test_a_character_may_be_cut_by_fragments_and_by_packets(client: Raw, cut: int) -> None:
    fragments = client_frame(TEXT, GREEK[:cut], fin=False) + client_frame(PING) + client_frame(CONT, GREEK[cut:])
    whole = client_frame(TEXT, GREEK)
    client.send(fragments + whole[: 6 + cut])
    assert [client.frame(), client.frame()] == [(PONG, b""), (TEXT, GREEK)]
    client.send(whole[6 + cut :])

    assert client.frame() == (TEXT, GREEK)


@pytest.mark.parametrize("text", [b"\xc0", b"\xed\xa0", b"\xf4\x90", b"\xff"], ids=bytes.hex)
def test_text_that_can_never_become_utf8_is_refused_before_its_message_is_whole(client: Raw, text: bytes) -> None:
    client.send(client_frame(TEXT, GREEK + text[:-1], fin=False))
    client.send(client_frame(CONT, text[-1:], size=60_000)[: 8 + 1])

    assert client.frame().close_code == 1007
    assert client.read_all() == b""


# Floods --------------------------------------------------------------------------------------------------------------


def test_fragments_of_one_byte_in_packets_of_their_own_end_with_1009(client: Raw) -> None:
    client.send(OPEN_TEXT)
    sent = 1
    while not select.select([client.socket], [], [], 0)[0]:
        client.send(client_frame(CONT, b"b", fin=False))
        sent += 1
        assert sent < 100_000, "nobody stops it"

    assert client.frame().close_code == 1009
    assert client.read_all() == b""


def test_pings_between_the_fragments_buy_no_more_of_them(client: Raw) -> None:
    client.send(OPEN_TEXT + (client_frame(PING) + client_frame(CONT, fin=False)) * 100)
    frames = [client.frame() for _ in range(65)]

    assert {frame.opcode for frame in frames[:-1]} == {PONG}
    assert frames[-1].close_code == 1009


@pytest.mark.parametrize("first", [b"", client_frame(TEXT, b"x", masked=False)], ids=["announced", "after the end"])
def test_what_is_sent_behind_a_violation_is_not_kept(gateway: GatewayServer, client: Raw, first: bytes) -> None:
    """Without a word the flood is a message of 2^62 bytes; behind one that is broken nothing is even looked at."""
    before = int(gateway.get("/used"))
    client.send(first or client_frame(BINARY, size=1 << 62))
    assert client.frame().close_code in (1002, 1009)
    for _ in range(48):
        client.send(b"x" * MEGABYTE)

    assert int(gateway.get("/used")) - before < 16 * MEGABYTE


def test_a_flood_of_pings_ends_with_4006_and_one_of_pongs_costs_nobody_else_anything(
    gateway: GatewayServer, client: Raw
) -> None:
    client.send(client_frame(PING, b"x" * 125) * 5000)
    frames = [client.frame()]
    while frames[-1].opcode == PONG:
        frames.append(client.frame())
    assert frames[-1].close_code == 4006
    assert len(frames) <= 200
    with gateway.connect() as other:
        other.upgrade("/plain")
        other.send(client_frame(PONG, b"x" * 125) * 5000 + client_frame(TEXT, b"still here"))
        assert other.frame() == (TEXT, b"still here")


# Slow handshakes -----------------------------------------------------------------------------------------------------


def _drip(client: Raw, head: bytes) -> int:
    """Send byte by byte until something comes back; how many bytes went out."""
    for sent in range(len(head)):
        if select.select([client.socket], [], [], 0.02)[0]:
            return sent
        client.send(head[sent : sent + 1])
    raise AssertionError("the whole head was taken")


SLOW = {
    "a request": b"GET /hello HTTP/1.1\r\nhost: a\r\nx-slow: ",
    "an upgrade": handshake()[:-2] + b"x-slow: ",
    "a request line": b"GET /",
    "headers without end": b"GET /hello HTTP/1.1\r\n" + b"a: b\r\n" * 30,
}


@pytest.mark.parametrize("head", SLOW.values(), ids=SLOW.keys())
def test_bytes_that_drip_in_do_not_buy_a_head_more_time(gateway: GatewayServer, head: bytes) -> None:
    with gateway.connect() as client:
        _drip(client, head + b"a" * 2000)

        assert client.response()[0] == 408
        assert client.read_all() == b""


def test_the_second_request_of_a_connection_has_no_more_time_than_the_first(gateway: GatewayServer) -> None:
    with gateway.connect() as client:
        client.send(b"GET /hello HTTP/1.1\r\nhost: a\r\n\r\n")
        assert client.response()[0] == 200
        _drip(client, SLOW["an upgrade"] + b"a" * 2000)

        assert client.response()[0] == 408


# Ahead of the 101 ----------------------------------------------------------------------------------------------------


def _asked(gateway: GatewayServer, client: Raw) -> None:
    client.send(handshake("/late"))
    assert gateway.get("/waiting") == b"waiting"


def test_messages_sent_before_the_101_are_heard_after_it_in_order(gateway: GatewayServer) -> None:
    one, two = client_frame(TEXT, b"one"), client_frame(TEXT, b"two")
    with gateway.connect() as client:
        _asked(gateway, client)
        client.send(one + two[:3])
        client.send(two[3:])
        gateway.get("/let-in")

        assert client.response()[0] == 101
        assert [client.frame(), client.frame()] == [(TEXT, b"one"), (TEXT, b"two")]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (client_frame(TEXT, b"x", masked=False), 1002),
        (client_frame(TEXT, b"\xff"), 1007),
        (client_frame(TEXT, b"x" * 65535 + b"y" * 2)[:14], 1009),
        (client_frame(CLOSE, b"\x03\xe8"), 1000),
    ],
    ids=["no mask", "no UTF-8", "too long", "a close"],
)
def test_what_ends_a_connection_before_the_101_ends_it_after_the_101(
    gateway: GatewayServer, data: bytes, code: int
) -> None:
    with gateway.connect() as client:
        _asked(gateway, client)
        client.send(data)
        gateway.get("/let-in")

        assert client.response()[0] == 101
        assert client.frame().close_code == code
        assert client.read_all() == b""


def test_more_than_a_message_before_the_101_is_not_waited_for(gateway: GatewayServer) -> None:
    with gateway.connect() as client:
        _asked(gateway, client)
        with pytest.raises(OSError, match=r"reset|pipe"):
            for _ in range(64):
                client.send(b"x" * MEGABYTE)
        gateway.get("/let-in")
    assert gateway.get("/hello") == b"hello 0"
