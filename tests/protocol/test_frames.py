"""The frame parser against RFC 6455, byte tables first, then any division of any stream."""

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snackbase.gateway import wire
from snackbase.gateway.frames import Close, Event, FrameParser, Message, Ping, Pong, Violation, unmask
from tests.protocol.raw import BINARY, CLOSE, CONT, PING, PONG, TEXT, client_frame

LIMIT = 65536


def parse(*chunks: bytes, limit: int = LIMIT) -> list[Event]:
    parser = FrameParser(max_message_bytes=limit)
    events = []
    for chunk in chunks:
        parser.feed(chunk)
        while (event := parser.next_event()) is not None:
            events.append(event)
    return events


PROTOCOL_ERRORS: dict[str, bytes] = {
    "a frame without a mask": client_frame(TEXT, b"hello", masked=False),
    "an empty frame without a mask": client_frame(PING, masked=False),
    "the first reserved bit (no compression was negotiated)": client_frame(TEXT, b"x", rsv=4),
    "the second reserved bit": client_frame(TEXT, b"x", rsv=2),
    "the third reserved bit": client_frame(PING, b"x", rsv=1),
    **{f"the reserved opcode {opcode}": client_frame(opcode, b"x") for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)},
    "a ping of 126 bytes": client_frame(PING, b"x" * 126),
    "a close of 126 bytes": client_frame(CLOSE, b"\x03\xe8" + b"x" * 124),
    "a fragmented ping": client_frame(PING, b"x", fin=False),
    "a fragmented close": client_frame(CLOSE, b"", fin=False),
    "a continuation of nothing": client_frame(CONT, b"x"),
    "a text inside a text": client_frame(TEXT, b"a", fin=False) + client_frame(TEXT, b"b"),
    "a binary inside a text": client_frame(TEXT, b"a", fin=False) + client_frame(BINARY, b"b"),
    "a length of two bytes that fits in seven bits": b"\x81\xfe\x00\x05mask" + b"hello",
    "a length of eight bytes that fits in two": b"\x81\xff" + (300).to_bytes(8, "big") + b"mask" + b"x" * 300,
    "a length with its highest bit set": b"\x81\xff" + (1 << 63).to_bytes(8, "big"),
    "a close of one byte": client_frame(CLOSE, b"\x03"),
}


@pytest.mark.parametrize("stream", PROTOCOL_ERRORS.values(), ids=PROTOCOL_ERRORS.keys())
def test_a_broken_frame_ends_with_1002(stream: bytes) -> None:
    violation = parse(stream + client_frame(TEXT, b"after"))[-1]

    assert isinstance(violation, Violation)
    assert violation.code == 1002


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535])
def test_a_close_code_that_may_not_be_sent_is_a_protocol_error(code: int) -> None:
    assert parse(client_frame(CLOSE, code.to_bytes(2, "big"))) == [Violation(1002, "close code not allowed")]


@pytest.mark.parametrize(
    "code", [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 3000, 3999, 4000, 4999]
)
def test_an_allowed_close_code_is_given_out_with_its_reason(code: int) -> None:
    assert parse(client_frame(CLOSE, code.to_bytes(2, "big") + "Schluß".encode())) == [Close(code, "Schluß")]


def test_a_close_without_a_body_has_no_code() -> None:
    assert parse(client_frame(CLOSE)) == [Close(None)]


def test_a_close_reason_that_is_not_utf8_ends_with_1007() -> None:
    assert parse(client_frame(CLOSE, b"\x03\xe8\xff")) == [Violation(1007, "close reason is not UTF-8")]


@pytest.mark.parametrize("size", [0, 1, 3, 4, 5, 125, 126, 127, 65535, 65536])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_message_up_to_the_limit_comes_out_whole(size: int, opcode: int) -> None:
    payload = b"0123456789" * (size // 10 + 1)

    assert parse(client_frame(opcode, payload[:size])) == [Message(payload[:size], opcode == BINARY)]


def test_fragments_become_one_message_and_control_frames_between_them_come_first() -> None:
    stream = (
        client_frame(TEXT, b"He", fin=False)
        + client_frame(PING, b"p")
        + client_frame(CONT, b"", fin=False)
        + client_frame(PONG, b"q")
        + client_frame(CONT, b"llo")
        + client_frame(TEXT, b"next")
    )

    assert parse(stream) == [Ping(b"p"), Pong(b"q"), Message(b"Hello"), Message(b"next")]


@pytest.mark.parametrize("size", [LIMIT + 1, 1 << 20, 1 << 40, (1 << 63) - 1])
def test_a_length_over_the_limit_is_refused_when_it_is_announced(size: int) -> None:
    header = client_frame(BINARY, size=size)[:10]

    assert parse(header) == [Violation(1009, "message too big")]


def test_the_limit_holds_for_all_fragments_together() -> None:
    half = client_frame(BINARY, b"x" * 40_000, fin=False)
    header = client_frame(CONT, size=40_000)[:4]

    assert parse(half + header) == [Violation(1009, "message too big")]


def test_a_message_has_at_most_64_frames() -> None:
    first, more = client_frame(TEXT, fin=False), client_frame(CONT, fin=False)

    assert parse(first + more * 62 + client_frame(CONT, b"end")) == [Message(b"end")]
    assert parse(first + more * 200_000) == [Violation(1009, "too many fragments")]


INVALID_TEXT: dict[str, bytes] = {
    "a continuation byte alone": b"\x80",
    "an overlong form": b"\xc0\xaf",
    "a surrogate": b"\xed\xa0\x80",
    "beyond U+10FFFF": b"\xf4\x90\x80\x80",
    "a byte that never occurs": b"\xff",
    "cut off in a character": "κόσμε".encode()[:-1],
}


@pytest.mark.parametrize("text", INVALID_TEXT.values(), ids=INVALID_TEXT.keys())
def test_text_that_is_not_utf8_ends_with_1007_wherever_it_is_cut(text: bytes) -> None:
    expected = [Violation(1007, "text is not UTF-8")]

    assert parse(client_frame(TEXT, b"good" + text)) == expected
    for cut in range(len(text) + 1):
        split = client_frame(TEXT, text[:cut], fin=False) + client_frame(CONT, text[cut:])
        assert parse(split) == expected


def test_invalid_text_is_refused_before_the_rest_of_the_frame_has_come() -> None:
    for shows in (b"\xc0", b"\xe0\x80", b"\xed\xa0", b"\xed\xbf", b"\xf0\x80", b"\xf4\x90", b"\xf5"):
        assert parse(client_frame(TEXT, shows, size=60_000)) == [Violation(1007, "text is not UTF-8")]
    assert parse(client_frame(TEXT, b"\xed\x9f", size=60_000)) == []


def test_a_character_may_be_divided_between_frames() -> None:
    text = "κόσμε𐍈".encode()
    frames = [client_frame(CONT if at else TEXT, text[at : at + 1], fin=at == len(text) - 1) for at in range(len(text))]

    assert parse(b"".join(frames)) == [Message(text)]


def test_a_binary_message_may_hold_any_bytes() -> None:
    assert parse(client_frame(BINARY, b"\xff\xfe")) == [Message(b"\xff\xfe", True)]


def test_nothing_follows_a_close() -> None:
    parser = FrameParser(max_message_bytes=LIMIT)
    parser.feed(client_frame(CLOSE, b"\x03\xe8") + client_frame(TEXT, b"late"))

    assert parser.next_event() == Close(1000)
    parser.feed(client_frame(TEXT, b"later"))
    assert parser.next_event() is None
    assert parser.done


def test_events_can_be_taken_one_at_a_time_while_reading_is_paused() -> None:
    parser = FrameParser(max_message_bytes=LIMIT)
    parser.feed(client_frame(TEXT, b"one") + client_frame(TEXT, b"two"))

    assert parser.next_event() == Message(b"one")
    parser.feed(client_frame(TEXT, b"three"))
    assert [parser.next_event() for _ in range(3)] == [Message(b"two"), Message(b"three"), None]


def test_an_unfinished_message_is_reported_as_such() -> None:
    parser = FrameParser(max_message_bytes=LIMIT)
    seen = []
    last = client_frame(CONT, b"b")
    for chunk in (b"", client_frame(TEXT, b"a", fin=False), last[:3], last[3:]):
        parser.feed(chunk)
        seen.append((parser.next_event(), parser.unfinished))

    assert seen == [(None, False), (None, True), (None, True), (Message(b"ab"), False)]


@given(st.binary(max_size=300), st.binary(min_size=4, max_size=4))
def test_unmasking_is_the_exclusive_or_of_the_rfc(data: bytes, mask: bytes) -> None:
    assert unmask(data, mask) == bytes(byte ^ mask[index % 4] for index, byte in enumerate(data))


def _any_frame() -> st.SearchStrategy[bytes]:
    payload = st.one_of(
        st.text(max_size=40).map(str.encode), st.binary(max_size=140), st.binary(min_size=120, max_size=400)
    )
    good = st.builds(
        client_frame,
        st.sampled_from([TEXT, TEXT, BINARY, CONT, CONT, PING, PONG]),
        payload,
        fin=st.booleans(),
    )
    odd = st.builds(
        client_frame,
        st.integers(0, 15),
        payload,
        fin=st.booleans(),
        rsv=st.sampled_from([0, 0, 0, 1, 4]),
        masked=st.sampled_from([True, True, False]),
    )
    return st.one_of(good, good, good, odd, st.binary(max_size=20))


def _divide(stream: bytes, cuts: Sequence[int]) -> list[bytes]:
    edges = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    return [stream[start:end] for start, end in itertools.pairwise(edges)]


@given(st.lists(_any_frame(), max_size=8), st.lists(st.integers(0, 5000), max_size=12))
def test_any_division_of_the_bytes_gives_the_same_events(frames: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(frames)
    whole = parse(stream, limit=600)

    assert parse(*_divide(stream, cuts), limit=600) == whole
    assert parse(*(stream[at : at + 1] for at in range(len(stream))), limit=600) == whole


@given(st.lists(st.tuples(st.sampled_from([TEXT, BINARY]), st.text(max_size=200), st.integers(1, 5)), max_size=5))
def test_every_message_that_is_sent_comes_out_once_and_in_order(sent: list[tuple[int, str, int]]) -> None:
    stream = b""
    for opcode, text, pieces in sent:
        parts = _divide(text.encode(), [len(text) * part // pieces for part in range(pieces)]) or [b""]
        for number, part in enumerate(parts):
            fin = number == len(parts) - 1
            stream += client_frame(CONT if number else opcode, part, fin=fin)

    assert parse(stream) == [Message(text.encode(), opcode == BINARY) for opcode, text, _ in sent]


# The server's direction ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "head"),
    [(0, "8100"), (125, "817d"), (126, "817e007e"), (65535, "817effff"), (65536, "817f0000000000010000")],
)
def test_a_server_frame_has_the_shortest_form_of_its_length(size: int, head: str) -> None:
    assert wire.WEBSOCKET.message(b"x" * size) == bytes.fromhex(head) + b"x" * size


def test_a_close_reason_is_cut_at_a_characters_edge() -> None:
    payload = wire.close_payload(1000, "ß" * 100)

    assert len(payload) <= 125
    assert payload[2:].decode() == "ß" * 61
    assert wire.close_payload(None) == b""


def test_an_sse_message_is_one_chunk_with_one_data_line() -> None:
    assert wire.SSE.message(b'{"a":1}') == b'f\r\ndata: {"a":1}\n\n\r\n'
    assert wire.SSE_BARE.message(b"{}") == b"data: {}\n\n"
    assert wire.SSE_BARE.resumable(b"{}", b"e-1") == b"id: e-1\ndata: {}\n\n"


def test_the_retry_line_joins_the_block_of_the_message_after_it() -> None:
    assert wire.SSE_BARE.retry(1500) + wire.SSE_BARE.message(b"{}") == b"retry: 1500\ndata: {}\n\n"
