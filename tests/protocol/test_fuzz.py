"""Whatever a client sends, over frame parser and message decoder, against judges that are not ours: the frames of the
websockets library, Python's UTF-8, the standard library's JSON.
"""

import codecs
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.frames import Close as TheirClose
from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import OPEN, SERVER, Protocol

from snackbase.gateway.frames import Close, Event, FrameParser, Message, Ping, Pong, Violation
from snackbase.realtime import protocol
from snackbase.realtime.protocol import ClientMessage, ProtocolError
from tests.protocol.raw import BINARY, CLOSE, CONT, PING, PONG, TEXT, client_frame

LIMIT = 1 << 20
SMALL = 300
EXAMPLES = 300

TEXTS = st.text(max_size=30).map(str.encode) | st.sampled_from(
    [b"\xff", b"\xed\xa0\x80", b"\xf0\x9f\x98\x80", b"\xf0\x9f", b"\x98\x80", b"\xc3", b"\xa9", b"\xf4\x90\x80\x80"]
)
PAYLOADS = TEXTS | st.binary(max_size=140)
CODES = st.sampled_from([0, 999, 1000, 1004, 1005, 1006, 1011, 1014, 1015, 1016, 2999, 3000, 4999, 5000, 65535])
CLOSES = st.builds(lambda code, reason: code.to_bytes(2, "big") + reason, CODES, TEXTS) | st.binary(max_size=3)
DATA = st.builds(client_frame, st.sampled_from([TEXT, BINARY, CONT, CONT, CONT]), TEXTS, fin=st.booleans())
CONTROL = st.builds(client_frame, st.sampled_from([PING, PONG]), st.binary(max_size=125))
ODD = st.builds(
    client_frame,
    st.integers(0, 15),
    PAYLOADS,
    fin=st.booleans(),
    rsv=st.sampled_from([0, 0, 0, 1, 2, 4]),
    masked=st.sampled_from([True, True, True, False]),
)
FRAMES = st.lists(DATA | DATA | DATA | CONTROL | ODD | st.builds(client_frame, st.just(CLOSE), CLOSES), max_size=10)
CUTS = st.lists(st.integers(1, 60), min_size=1, max_size=8)


def ours(stream: bytes, cuts: list[int], *, limit: int = LIMIT) -> list[Event]:
    parser = FrameParser(max_message_bytes=limit)
    events: list[Event] = []
    at = turn = 0
    while at < len(stream):
        size = cuts[turn % len(cuts)]
        parser.feed(stream[at : at + size])
        while (event := parser.next_event()) is not None:
            events.append(event)
        at, turn = at + size, turn + 1
        kept = sum(map(len, (parser._buffer, parser._message or b"")))
        assert kept <= limit + size, "more is kept of one client than a message and a chunk"
        if parser.done:
            assert kept == 0
    return events


def theirs(stream: bytes) -> list[Event]:
    """The same out of the frames that the websockets library reads."""
    judge = Protocol(SERVER, state=OPEN, max_size=LIMIT)
    judge.receive_data(stream)
    events: list[Event] = []
    held, kind = b"", Opcode.TEXT
    decoder = codecs.getincrementaldecoder("utf-8")()
    for frame in judge.events_received():
        assert isinstance(frame, Frame)
        if frame.opcode in (Opcode.PING, Opcode.PONG):
            events.append((Ping if frame.opcode is Opcode.PING else Pong)(bytes(frame.data)))
        elif frame.opcode is Opcode.CLOSE:
            given = TheirClose.parse(frame.data)
            events.append(Close(None if given.code == CloseCode.NO_STATUS_RCVD else given.code, given.reason))
            return events
        else:
            if frame.opcode is not Opcode.CONT:
                held, kind = b"", frame.opcode
                decoder.reset()
            held += bytes(frame.data)
            try:
                if kind is Opcode.TEXT:
                    decoder.decode(bytes(frame.data), frame.fin)
            except UnicodeDecodeError:
                return [*events, Violation(1007, "")]
            if frame.fin:
                events.append(Message(held, kind is Opcode.BINARY))
    fault = judge.parser_exc
    if fault is not None and str(fault) == "incomplete fragmented message":
        # It wants no close between the fragments of a message; RFC 6455 §5.4 lets control frames be there.
        assert judge.close_rcvd is not None
        code = judge.close_rcvd.code
        return [*events, Close(None if code == CloseCode.NO_STATUS_RCVD else code, judge.close_rcvd.reason)]
    if fault is not None:
        assert judge.close_sent is not None
        events.append(Violation(int(judge.close_sent.code), ""))
    return events


def _bare(events: list[Event]) -> list[Event]:
    """Without the words for what is wrong, in which judges may differ."""
    return [Violation(one.code, "") if isinstance(one, Violation) else one for one in events]


@given(FRAMES, CUTS)
@settings(max_examples=EXAMPLES)
def test_whole_frames_are_understood_as_another_library_understands_them(frames: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(frames)
    found, wanted = _bare(ours(stream, cuts)), theirs(stream)

    if any(frame[0] & 15 == CLOSE for frame in frames) and found[-1:] == [Violation(1002, "")] != wanted[-1:]:
        # A close may have a wrong code and a wrong reason: either may be said.
        wanted[-1:] = [Violation(1002, "") if one == Violation(1007, "") else one for one in wanted[-1:]]
    assert found == wanted


@given(st.lists(st.binary(max_size=80) | DATA | CONTROL | ODD, max_size=12), CUTS)
@settings(max_examples=EXAMPLES)
def test_no_bytes_make_the_parser_raise_keep_more_than_it_may_or_give_out_text_that_is_none(
    pieces: list[bytes], cuts: list[int]
) -> None:
    events = ours(b"".join(pieces), cuts, limit=SMALL)

    for event in events[:-1]:
        assert not isinstance(event, Close | Violation), "something follows an end"
    for event in events:
        if isinstance(event, Message):
            assert len(event.payload) <= SMALL
            assert event.binary or event.payload.decode() is not None


# Messages ------------------------------------------------------------------------------------------------------------

NAMES = st.sampled_from(["posts", "*", "", "p", "a b", "x" * 70, "posts:create", "ﬁeld", "\u0000", "posts\ud83d"[:5]])
ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
REQUEST: dict[str, st.SearchStrategy[Any]] = {
    "collection": NAMES | ANY,
    "operations": st.lists(st.sampled_from(["create", "update", "delete", "drop"]), max_size=4) | ANY,
    "filter": st.sampled_from(["title = 'a'", "title", "((", "x" * 2001, "@request.auth.id = owner"]) | ANY,
    "fields": st.sampled_from(["*", "title", "title, status", ""]) | st.lists(NAMES, max_size=3) | ANY,
    "since": st.text(max_size=30) | ANY,
    "snapshot": st.sampled_from([True, False, {}, {"limit": 5}, {"sort": "-title", "limit": 0}, {"odd": 1}]) | ANY,
    "id": st.sampled_from(["one", "a" * 64, "a" * 65, "", "ü"]) | ANY,
}
REQUESTS = st.fixed_dictionaries({}, optional=REQUEST)
MESSAGES = st.fixed_dictionaries(
    {"action": st.sampled_from(["subscribe", "unsubscribe", "auth", "ping", "Subscribe", ""]) | ANY},
    optional=REQUEST
    | {"subscriptions": st.lists(REQUESTS, max_size=3) | ANY, "token": st.text(max_size=9), "more": ANY},
)
SLIPS = st.lists(st.tuples(st.integers(0, 10_000), st.binary(max_size=2), st.integers(0, 2)), max_size=3)


def _slipped(text: bytes, slips: list[tuple[int, bytes, int]]) -> bytes:
    """The same with some bytes put in or left out."""
    for at, more, less in slips:
        place = at % (len(text) + 1)
        text = text[:place] + more + text[place + less :]
    return text


@given(MESSAGES, SLIPS)
@settings(max_examples=EXAMPLES)
def test_a_message_is_read_as_json_says_or_refused_with_a_code(message: dict[str, Any], slips: list[Any]) -> None:
    payload = _slipped(json.dumps(message).encode(), slips)
    try:
        read = protocol.decode(payload)
        requests = protocol.subscribe_requests(read)
    except ProtocolError as error:
        assert error.code
        assert "Traceback" not in error.message
        return
    said = json.loads(payload)
    assert said.keys() <= set(ClientMessage.__struct_fields__)
    asked = said.get("subscriptions") or [said]
    assert len(requests) == len(asked)
    for request, one in zip(requests, asked, strict=True):
        for name in ("collection", "filter", "id"):
            assert getattr(request, name) == one.get(name)
        assert list(request.operations or ()) == (one.get("operations") or [])
        own = one.get("since")
        assert request.since == (said.get("since") if own is None else own)
