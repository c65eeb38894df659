"""The parser of what a WebSocket client sends: bytes in, events out.

Promises: any division of the same bytes gives the same events; a length that breaks the limit is refused as soon as it
is announced, before anything is kept; invalid UTF-8 is refused at the first byte that shows it; what is kept of one
client stays below the message limit plus one chunk. No I/O, no clock. Compression is never negotiated, so every
reserved bit is an error.

Source: RFC 6455 §5 (framing), §7.4 (close codes), §8.1 (UTF-8).
"""

import codecs
from collections.abc import Callable
from functools import partial

import msgspec

from snackbase.gateway.wire import BINARY, CLOSE, MAX_CONTROL_PAYLOAD, PING, PONG, TEXT

CONTINUATION = 0x0
PROTOCOL_ERROR = 1002
INVALID_UTF8 = 1007
TOO_BIG = 1009
MAX_FRAGMENTS = 64
"""Frames of one message. Without a cap 200,000 empty continuations keep a message open for ever (measured on peers)."""

CODES_ON_THE_WIRE = frozenset({1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014})
"""Registered codes that may be sent; 1005, 1006 and 1015 only describe what never came (RFC 6455 §7.4.1)."""

_Utf8Decoder = codecs.getincrementaldecoder("utf-8")


class Message(msgspec.Struct, frozen=True):
    """One whole message; a text message is valid UTF-8, a binary one is whatever came."""

    payload: bytes
    binary: bool = False


class Ping(msgspec.Struct, frozen=True):
    payload: bytes


class Pong(msgspec.Struct, frozen=True):
    payload: bytes


class Close(msgspec.Struct, frozen=True):
    """The client's close frame; `code` None when it gave none. Nothing follows it."""

    code: int | None
    reason: str = ""


class Violation(msgspec.Struct, frozen=True):
    """The client broke the protocol: close with `code`. Nothing follows it."""

    code: int
    reason: str


Event = Message | Ping | Pong | Close | Violation
_LAST = (Close, Violation)


NewParser = Callable[[], "FrameParser"]


class FrameParser:
    """`feed` bytes as they come, then call `next_event` until it returns None.

    Args:
        max_message_bytes: the largest message, all fragments together; above: 1009.
        max_fragments: frames one message may have; above: 1009.
    """

    __slots__ = (
        "_buffer",
        "_decoder",
        "_fragments",
        "_frame_fin",
        "_frame_left",
        "_frame_mask",
        "_max_bytes",
        "_max_fragments",
        "_message",
        "_opcode",
        "_position",
        "done",
    )

    def __init__(self, *, max_message_bytes: int, max_fragments: int = MAX_FRAGMENTS) -> None:
        self.done = False
        """Whether a Close or a Violation was given out."""
        self._max_bytes = max_message_bytes
        self._max_fragments = max_fragments
        self._buffer = b""
        self._position = 0
        # The message being put together: opcode 0 = none.
        self._opcode = 0
        self._fragments = 0
        self._message: bytearray | None = None
        self._decoder: codecs.IncrementalDecoder | None = None
        # The data frame whose payload is arriving: -1 = none, the next byte begins a header.
        self._frame_left = -1
        self._frame_fin = False
        self._frame_mask = b""

    @classmethod
    def maker(cls, *, max_message_bytes: int, max_fragments: int = MAX_FRAGMENTS) -> NewParser:
        """What makes parsers with these limits."""
        return partial(cls, max_message_bytes=max_message_bytes, max_fragments=max_fragments)

    @property
    def in_message(self) -> bool:
        """Whether a message has begun and not ended."""
        return self._opcode != 0

    @property
    def unfinished(self) -> bool:
        """Whether something is kept: a message that has begun, or bytes of frames that were not taken yet."""
        return self._opcode != 0 or self._position < len(self._buffer)

    def feed(self, data: bytes) -> None:
        if self.done:
            # What is sent behind the end is neither read nor kept, however much it is.
            return
        if self._position == len(self._buffer):
            self._buffer = data
        else:
            self._buffer = self._buffer[self._position :] + data
        self._position = 0

    def next_event(self) -> Event | None:
        """The next whole event, or None when more bytes are needed (and always after a Close or Violation)."""
        while not self.done:
            before = self._position, self._frame_left
            event = self._read_header() if self._frame_left < 0 else self._read_payload()
            if event is not None:
                if isinstance(event, _LAST):
                    self._end()
                return event
            if (self._position, self._frame_left) == before:
                break
        if self._position == len(self._buffer):
            self._buffer = b""
            self._position = 0
        return None

    def _end(self) -> None:
        self.done = True
        self._buffer = b""
        self._position = 0
        self._message = None
        self._decoder = None

    def _read_header(self) -> Event | None:
        """Judge each part of a header as soon as it is there; take it when it is whole. Source: RFC 6455 §5.2."""
        buffer, start = self._buffer, self._position
        available = len(buffer) - start
        if available < 2:
            return None
        first, second = buffer[start], buffer[start + 1]
        fault = self._fault_of(first, second)
        if fault is not None:
            return Violation(PROTOCOL_ERROR, fault)
        size = second & 0x7F
        end = start + 2
        if size > 125:
            width = 2 if size == 126 else 8
            if available < 2 + width:
                return None
            end += width
            size = int.from_bytes(buffer[start + 2 : end], "big")
            if size < (126 if width == 2 else 0x10000) or size >= 1 << 63:
                return Violation(PROTOCOL_ERROR, "length not in its shortest form")
        opcode = first & 0x0F
        if opcode < 8:
            if size + (len(self._message) if self._message is not None else 0) > self._max_bytes:
                return Violation(TOO_BIG, "message too big")
            if self._fragments >= self._max_fragments:
                return Violation(TOO_BIG, "too many fragments")
        if available < end - start + 4:
            return None
        mask = buffer[end : end + 4]
        if opcode >= 8:
            return self._read_control(opcode, end + 4, size, mask)
        self._begin_frame(first, end + 4, size, mask)
        return None

    def _fault_of(self, first: int, second: int) -> str | None:
        opcode = first & 0x0F
        if first & 0x70:
            return "reserved bits set"
        if not second & 0x80:
            return "frame not masked"
        if opcode in (CLOSE, PING, PONG):
            if not first & 0x80:
                return "fragmented control frame"
            return "control frame too long" if second & 0x7F > MAX_CONTROL_PAYLOAD else None
        if opcode == CONTINUATION:
            return None if self._opcode else "nothing to continue"
        if opcode not in (TEXT, BINARY):
            return "unknown opcode"
        return "message inside a message" if self._opcode else None

    def _begin_frame(self, first: int, start: int, size: int, mask: bytes) -> None:
        self._position = start
        if first & 0x0F:
            self._opcode = first & 0x0F
        self._fragments += 1
        self._frame_fin = bool(first & 0x80)
        self._frame_left = size
        self._frame_mask = mask

    def _read_payload(self) -> Event | None:
        """Take what is there of a data frame's payload; a whole message in one piece is neither copied nor kept."""
        size = min(self._frame_left, len(self._buffer) - self._position)
        if size == 0 and self._frame_left:
            return None
        part = unmask(self._buffer[self._position : self._position + size], self._frame_mask)
        self._position += size
        self._frame_left -= size
        last = self._frame_left == 0 and self._frame_fin
        if self._opcode == TEXT and not self._valid_text(part, last=last):
            return Violation(INVALID_UTF8, "text is not UTF-8")
        if last and self._message is None:
            return self._finish(part)
        if self._message is None:
            self._message = bytearray()
        self._message += part
        if last:
            return self._finish(bytes(self._message))
        if self._frame_left == 0:
            self._frame_left = -1
        else:
            turn = size & 3
            self._frame_mask = self._frame_mask[turn:] + self._frame_mask[:turn]
        return None

    def _valid_text(self, part: bytes, *, last: bool) -> bool:
        if self._decoder is None:
            if part.isascii():
                return True
            self._decoder = _Utf8Decoder()
        try:
            self._decoder.decode(part, last)
        except UnicodeDecodeError:
            return False
        # Python waits for the third byte before it refuses a surrogate; the second shows it (RFC 3629 §4).
        pending = self._decoder.getstate()[0]
        return not (pending[:1] == b"\xed" and pending[1:] >= b"\xa0")

    def _finish(self, payload: bytes) -> Message:
        binary = self._opcode == BINARY
        self._opcode = 0
        self._fragments = 0
        self._message = None
        self._decoder = None
        self._frame_left = -1
        return Message(payload, binary)

    def _read_control(self, opcode: int, start: int, size: int, mask: bytes) -> Event | None:
        if len(self._buffer) < start + size:
            return None
        payload = unmask(self._buffer[start : start + size], mask)
        self._position = start + size
        if opcode == PING:
            return Ping(payload)
        if opcode == PONG:
            return Pong(payload)
        return _read_close(payload)


def unmask(data: bytes, mask: bytes) -> bytes:
    """Exclusive-or with the repeated mask, whose first byte belongs to the first of `data`. Source: RFC 6455 §5.3.

    As one big integer: 0.4 µs for 10 bytes and 2.3 µs for 1,000, against 1.3 and 2.8 µs of four translated strides,
    which overtake it at 8 KiB only (measured).
    """
    size = len(data)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(data, "little") ^ int.from_bytes(key, "little")).to_bytes(size, "little")


def _read_close(payload: bytes) -> Close | Violation:
    """Source: RFC 6455 §5.5.1, §7.4."""
    if not payload:
        return Close(None)
    # Of a single byte it comes out below every allowed code.
    code = int.from_bytes(payload[:2], "big")
    if code not in CODES_ON_THE_WIRE and not 3000 <= code <= 4999:
        return Violation(PROTOCOL_ERROR, "close code not allowed")
    try:
        return Close(code, payload[2:].decode())
    except UnicodeDecodeError:
        return Violation(INVALID_UTF8, "close reason is not UTF-8")
