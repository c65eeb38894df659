"""How a message becomes bytes: WebSocket frames and SSE blocks, for the server's direction. Step 8 of the path.

Owns every byte that the server puts around a payload. Promises that the same payload always gives the same bytes, so
that one encoding serves all members of a group, and that the bytes of several messages can be joined. No I/O, no state.

Source: RFC 6455 §5.2, §5.5; RFC 9112 §7.1 (chunked coding); HTML Standard §9.2 (event streams).
"""

MAX_CONTROL_PAYLOAD = 125
"""Bytes in a control frame (RFC 6455 §5.5)."""

TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA

STREAM_END = b"0\r\n\r\n"
"""The last chunk: an HTTP client takes the response for complete (RFC 9112 §7.1)."""


def frame(opcode: int, payload: bytes) -> bytes:
    """One unmasked, final frame with the shortest form of its length. Source: RFC 6455 §5.2."""
    size = len(payload)
    if size <= 125:
        return bytes((0x80 | opcode, size)) + payload
    if size <= 0xFFFF:
        return bytes((0x80 | opcode, 126)) + size.to_bytes(2, "big") + payload
    return bytes((0x80 | opcode, 127)) + size.to_bytes(8, "big") + payload


def close_payload(code: int | None, reason: str = "") -> bytes:
    """The body of a close frame: code and reason, cut to what fits at a character's edge; None = no body (1005)."""
    if code is None:
        return b""
    text = reason.encode()[: MAX_CONTROL_PAYLOAD - 2]
    return code.to_bytes(2, "big") + text.decode(errors="ignore").encode()


class WebSocketWire:
    """Text frames for a WebSocket this process speaks itself."""

    name = "websocket"

    def message(self, payload: bytes) -> bytes:
        return frame(TEXT, payload)

    def resumable(self, payload: bytes, position: bytes) -> bytes:
        """The same as `message`: on a WebSocket the position stands in the JSON alone."""
        return frame(TEXT, payload)


class LineWire:
    """One line a message, for a server that frames by itself (plain ASGI): joined lines can be taken apart again."""

    name = "websocket"

    def message(self, payload: bytes) -> bytes:
        return payload + b"\n"

    def resumable(self, payload: bytes, position: bytes) -> bytes:
        return payload + b"\n"


class SseWire:
    """Event stream blocks, each a chunk of its own, or bare where somebody else frames the body (HTTP/1.0, plain ASGI).

    A payload is one line of JSON: an unescaped CR or LF in it would end the field (CWE-93); encoders never write one.
    """

    name = "sse"

    def __init__(self, *, chunked: bool) -> None:
        self.chunked = chunked

    def message(self, payload: bytes) -> bytes:
        return self.chunk(b"data: " + payload + b"\n\n")

    def resumable(self, payload: bytes, position: bytes) -> bytes:
        return self.chunk(b"id: " + position + b"\ndata: " + payload + b"\n\n")

    def retry(self, delay_ms: int) -> bytes:
        """The line that sets a browser's reconnection time, to be written right before the first message.

        It has no blank line of its own, so it belongs to that message's block: a block without data gives some clients
        an empty event (measured: httpx-sse).
        """
        return self.chunk(b"retry: %d\n" % delay_ms)

    def chunk(self, body: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(body), body) if self.chunked else body

    @property
    def end(self) -> bytes:
        return STREAM_END if self.chunked else b""


WEBSOCKET = WebSocketWire()
WEBSOCKET_LINES = LineWire()
SSE = SseWire(chunked=True)
SSE_BARE = SseWire(chunked=False)
