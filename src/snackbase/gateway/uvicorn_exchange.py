"""What an HTTP request may ask of its connection besides ASGI: its body at once, a whole answer at once, the transport.

The object behind the scope extension `snackbase.link`. Promises that an answer given here is byte for byte the one that
uvicorn would write, and that after a hand-over neither a task nor an object of uvicorn's remains. One of the files that
know uvicorn (uvicorn_.py makes these objects). Steps 1 and 8 of the path.
"""

from collections.abc import Sequence
from typing import Any

from starlette.types import Receive, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from snackbase.gateway.link import EXTENSION, SseLink
from snackbase.gateway.transport import Receiver
from snackbase.gateway.wire import SSE, SSE_BARE, SseWire

_SAYABLE = bytes(range(0x20, 0x7F)) + bytes(range(0x80, 0x100)) + b"\t"
"""What a header may consist of (RFC 9110 §5.5)."""


class Exchange:
    """
    Args:
        protocol: the connection's HttpProtocol.
    """

    __slots__ = ("_protocol",)

    def __init__(self, protocol: Any) -> None:
        self._protocol = protocol

    def _cycle(self) -> RequestResponseCycle | None:
        """The request's cycle, while the request is the one being answered."""
        cycle: RequestResponseCycle | None = self._protocol._running
        extensions: dict[str, Any] = (cycle and cycle.scope.get("extensions")) or {}
        return cycle if extensions.get(EXTENSION) is self else None

    def whole(self, receive: Receive) -> bool:
        """Whether the body has come to its end, so that `receive` makes nobody wait. False where somebody's own code
        stands before it."""
        cycle = self._cycle()
        return cycle is not None and not cycle.more_body and receive == cycle.receive

    def answer(self, send: Send, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> bool:
        """Send a whole answer in one write; its length stands in its headers. False: it has to go by `send`, for one
        because somebody's own code stands before it, which wants to see the answer.

        Raises:
            RuntimeError: a header that would break the head.
        """
        cycle, protocol = self._cycle(), self._protocol
        if cycle is None or cycle.response_started or cycle.disconnected or protocol.flow.write_paused:
            return False
        if send != cycle.send:
            return False
        lines = [name + b": " + value for name, value in (*cycle.default_headers, *headers)]
        if not cycle.keep_alive:
            lines.append(b"connection: close")
        head = STATUS_LINE[status] + b"\r\n".join(lines)
        if head.translate(None, _SAYABLE) != b"\r\n" * len(lines):
            raise RuntimeError("Invalid HTTP header.")
        cycle.response_started = cycle.response_complete = True
        cycle.waiting_for_100_continue = False
        cycle.message_event.set()
        protocol.transport.write(b"%b\r\n\r\n%b" % (head, body))
        if not cycle.keep_alive:
            protocol.transport.close()
        cycle.on_response()
        return True

    @property
    def wire(self) -> SseWire:
        """HTTP/1.0 knows no chunks (RFC 9112 §7.1)."""
        cycle = self._protocol._running
        return SSE if cycle is None or cycle.scope["http_version"] == "1.1" else SSE_BARE

    def prepare(self) -> None:
        cycle = self._cycle()
        if cycle is None:
            self._protocol.transport.abort()
            raise OSError("The client is gone.")
        cycle.keep_alive = False
        if not self.wire.chunked:
            # Otherwise uvicorn announces chunks also to those who cannot read them.
            cycle.chunked_encoding = False

    def take(self, connection: Receiver, *, retry_ms: int) -> SseLink:
        protocol = self._protocol
        transport, cycle = protocol.transport, protocol._running
        link = SseLink(transport, connection, protocol.connections, wire=self.wire)
        if cycle is None or cycle.disconnected:
            link.connection_lost(None)
            return link
        if not transport.is_closing():
            cycle.transport.write(self.wire.retry(retry_ms))
        cycle.transport.flush()
        protocol._unset_keepalive_if_required()
        protocol._stop_head_timer()
        protocol.flow.resume_reading()
        # uvicorn takes the response for sent: it neither complains that it is not nor touches the socket again.
        cycle.response_complete = True
        # A stream has no end, so what was sent behind its request never has its turn (`Connection: close` says so).
        protocol.pipeline.clear()
        protocol._running = None
        protocol.connections.discard(protocol)
        protocol.server_state.total_requests += 1
        protocol.let_go(cycle.scope)
        transport.set_protocol(link)
        return link
