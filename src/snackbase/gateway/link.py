"""What WebSocket and event stream have of their own: framing, protocol pings, close handshakes. Step 8 of the path.

Stands on transport.py, which writes. Promises that an idle client needs neither a task nor a timer, and that what a
thousand clients send in one moment is not one long hold for the others. Must not know uvicorn, subscriptions or rights.
"""

import asyncio
from typing import Any, Protocol

from snackbase.errors import HEARTBEAT_TIMEOUT, RATE_LIMITED, RESTARTING, Closing
from snackbase.gateway.frames import Close, Event, FrameParser, Message, NewParser, Ping, Pong
from snackbase.gateway.transport import Receiver, TransportLink
from snackbase.gateway.wire import CLOSE, PING, PONG, WEBSOCKET, SseWire, close_payload, frame
from snackbase.hub.turns import Turns
from snackbase.realtime.limits import Bucket
from snackbase.realtime.link import Link, Wire

NO_CODE = 1005
ABNORMAL = 1006
"""What the connection is told when no close frame came, or one without a code; never sent (RFC 6455 §7.4.1)."""

PING_BURST = 100
PINGS_PER_SECOND = 10
"""A client's own pings: each costs an answer, so they are rationed like messages (CWE-770)."""

MAX_PONG_BACKLOG = 65536
"""Unsent bytes above which pings stay unanswered; a client that pings without reading would else grow the buffer."""

MAX_STALE_PONGS = 3
"""Pongs that may arrive during one unfinished message; with a ping every 25 s it is given up after 75 to 100 s."""

MAX_IGNORED_BYTES = 65536
"""What an SSE client may send after its request before it is cut off; all of it is dropped."""

MOST_WAITING_BYTES = 8 << 20
"""Of all clients together, that wait for their turn to be parsed; what is over that is parsed at once."""

_PING = frame(PING, b"")


class PlainReceiver(Protocol):
    """Who has to know more: whether a message was binary, and when the transport's buffer is full."""

    def receive_binary(self, payload: bytes) -> None: ...

    def pause_writing(self) -> None: ...

    def resume_writing(self) -> None: ...


class WebSocketHandover(Protocol):
    """The extension `snackbase.link` of a WebSocket scope: the endpoint gives its transport away and returns."""

    def take(self, connection: Receiver) -> "WebSocketLink":
        """Move the transport, after `websocket.accept`. `lost` follows at once when the client is gone by then."""
        ...


class StreamHandover(Protocol):
    """The extension `snackbase.link` of an HTTP scope."""

    @property
    def wire(self) -> SseWire:
        """How the stream will be framed."""
        ...

    def prepare(self) -> None:
        """Right before `http.response.start` of a stream: it ends with its connection.

        Raises:
            OSError: the client is gone, or has sent another request behind this one.
        """
        ...

    def take(self, connection: Receiver, *, retry_ms: int) -> Link:
        """Move the transport, after `http.response.start`. `lost` follows at once when the client is gone by then.

        Args:
            retry_ms: the browser's reconnection time; goes out with the head, in the block of the first message.
        """
        ...


EXTENSION = "snackbase.link"
"""The key of both in `scope["extensions"]`; absent under servers that are not ours."""


class Reading(Turns):
    """Whose bytes are parsed in this turn of the loop, and how many bytes wait."""

    def __init__(self, most: int) -> None:
        super().__init__(most)
        self._waiting_bytes = 0

    def keep(self, size: int) -> bool:
        """So many bytes more wait (fewer: a negative number). False: these may not, it would be too many."""
        if self._waiting_bytes + size > MOST_WAITING_BYTES:
            return False
        self._waiting_bytes += size
        return True


class WebSocketLink(TransportLink):
    """A WebSocket of this process's own.

    Args:
        parser: makes one. Between messages a client has none: it is made when bytes come, and let go when they end with
            a message.
        reading: shared by all: whose messages are parsed in this turn of the loop.
        plain: who is told what a hub's connection need not know; None = nobody.
    """

    __slots__ = ("_delivering", "_new_parser", "_parser", "_pings", "_reading", "_stale_pongs", "_waits", "plain")

    wire: Wire = WEBSOCKET
    pings = True

    def __init__(
        self,
        transport: asyncio.Transport,
        receiver: Receiver,
        registry: set[Any],
        *,
        parser: NewParser,
        reading: Reading,
        plain: PlainReceiver | None = None,
    ) -> None:
        super().__init__(transport, receiver, registry)
        self._new_parser = parser
        self._parser: FrameParser | None = None
        self._reading = reading
        self._waits = 0
        self._delivering = False
        self._stale_pongs = 0
        self._pings: Bucket | None = None
        self._end_code = ABNORMAL
        self.plain = plain

    def hand_to(self, receiver: Receiver) -> None:
        """Change who is told; for the hand-over out of the ASGI phase."""
        self.plain = None
        if self._receiver is None:
            receiver.lost(self._end_code, self._end_reason)
        else:
            self._receiver = receiver

    def allow(self, *, max_message_bytes: int, max_fragments: int) -> None:
        """Other limits than the settings', from the next message on; for the echo mode, whose cases send megabytes."""
        self._new_parser = FrameParser.maker(max_message_bytes=max_message_bytes, max_fragments=max_fragments)

    def ping(self) -> None:
        self.write([_PING])

    def close(self, closing: Closing) -> None:
        self.end(closing.close_code, closing.code)

    def end(self, code: int, reason: str) -> None:
        """Send a close frame and wait for the client's. Source: RFC 6455 §7.1.2."""
        if not self._ending and not self._transport.is_closing():
            self._send_close(code, reason)
            self._end_code, self._end_reason = code, reason
            # The client's close frame may stand behind what is paused; from here on messages are dropped anyway.
            self.resume_reading()

    def resume_reading(self) -> None:
        super().resume_reading()
        if self._parser is not None and self._parser.unfinished:
            # Not from here: the caller is in the middle of its own work.
            asyncio.get_running_loop().call_soon(self._deliver)

    def shutdown(self) -> None:
        if self.plain is None:
            super().shutdown()
        else:
            # Not a client of ours: our messages would mean nothing to it.
            self.close(RESTARTING)

    def data_received(self, data: bytes) -> None:
        if self._parser is None:
            self._parser = self._new_parser()
        self._parser.feed(data)
        if not self._waits:
            if self._reading.free() or not self._reading.keep(len(data)):
                self._deliver()
                return
            self._reading.later(self._go_on)
        elif not self._reading.keep(len(data)):
            self._go_on()
            return
        elif not self._transport.is_closing():
            # Nobody's bytes wait for more than two reads.
            self._transport.pause_reading()
        self._waits += len(data)

    def eof_received(self) -> None:
        # The transport closes after this: what the client said before is answered before.
        self._go_on()

    def connection_lost(self, exc: Exception | None) -> None:
        self._go_on()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        if self.plain is not None:
            self.plain.pause_writing()

    def resume_writing(self) -> None:
        if self.plain is not None:
            self.plain.resume_writing()

    def _go_on(self) -> None:
        if self._waits:
            self._reading.keep(-self._waits)
            self._waits = 0
            if not self._paused and not self._transport.is_closing():
                self._transport.resume_reading()
            self._deliver()

    def _deliver(self) -> None:
        parser = self._parser
        if self._delivering or parser is None:
            return
        self._delivering = True
        while not self._paused and (event := parser.next_event()) is not None:
            self._handle(event)
        self._delivering = False
        if not parser.unfinished and not parser.done:
            self._parser = None

    def _handle(self, event: Event) -> None:
        if isinstance(event, Message):
            self._stale_pongs = 0
            if self._receiver is None or self._ending:
                return
            if event.binary and self.plain is not None:
                self.plain.receive_binary(event.payload)
            else:
                self._receiver.receive(event.payload)
        elif isinstance(event, Pong):
            self._ponged()
        elif isinstance(event, Ping):
            self._answer(event.payload)
        elif isinstance(event, Close):
            self._left(event)
        else:
            self._fail(event.code, event.reason)

    def _ponged(self) -> None:
        if self._parser is not None and self._parser.in_message:
            self._stale_pongs += 1
            if self._stale_pongs >= MAX_STALE_PONGS:
                self.close(HEARTBEAT_TIMEOUT)
                return
        if self._receiver is not None:
            self._receiver.ponged()

    def _answer(self, payload: bytes) -> None:
        now = asyncio.get_running_loop().time()
        if self._pings is None:
            self._pings = Bucket(now, PING_BURST)
        if not self._pings.take(now, PINGS_PER_SECOND, PING_BURST):
            self.close(RATE_LIMITED)
        elif self.buffered() <= MAX_PONG_BACKLOG:
            self.write([frame(PONG, payload)])

    def _left(self, close: Close) -> None:
        """The client's close frame: an answer to ours, or the first, which is echoed. Source: RFC 6455 §5.5.1."""
        if not self._ending:
            self._send_close(close.code, close.reason)
            self._end_code = NO_CODE if close.code is None else close.code
            self._end_reason = close.reason
        self._transport.close()
        self._tell_lost()

    def _fail(self, code: int, reason: str) -> None:
        """The client broke the protocol: say so, end our direction, and drop what still comes.

        Closing at once would reset the connection under unread bytes, and the client would never see the code.
        """
        if self._ending:
            self._transport.close()
        else:
            self._send_close(code, reason)
            self._end_code, self._end_reason = code, reason
            if self._transport.can_write_eof():
                self._transport.write_eof()
            else:
                self._transport.close()
        self._tell_lost()

    def _send_close(self, code: int | None, reason: str) -> None:
        self._transport.write(frame(CLOSE, close_payload(code, reason)))
        self._ending = True
        self._arm_timeout()


class SseLink(TransportLink):
    """An event stream on a connection whose response head has been sent, and the line with the reconnection time.

    Args:
        wire: chunked, or bare for HTTP/1.0, where the end of the connection is the end of the stream.
    """

    __slots__ = ("_ignored_bytes", "_last", "wire")

    def __init__(self, transport: asyncio.Transport, receiver: Receiver, registry: set[Any], *, wire: SseWire) -> None:
        super().__init__(transport, receiver, registry)
        self.wire: Wire = wire
        self._last = wire.end
        self._ignored_bytes = 0

    def close(self, closing: Closing) -> None:
        if not self._ending and not self._transport.is_closing():
            self._end_code, self._end_reason = closing.close_code, closing.code
            if self._last:
                self._transport.write(self._last)
            self._ending = True
            self._arm_timeout()
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._ignored_bytes += len(data)
        if self._ignored_bytes > MAX_IGNORED_BYTES:
            self.abort()
