"""What the realtime core needs of a transport: how a message becomes bytes (`Wire`), and where bytes go (`Link`).

Protocols only; gateway/ implements them. They exist so that one encoding serves every member of a group: server frames
are unmasked and stateless (RFC 6455 §5.1), so the same bytes object is written to all of them. Step 8 of the path.
"""

from collections.abc import Sequence
from typing import Protocol

from snackbase.errors import Closing


class Wire(Protocol):
    """A stateless encoder; one object per kind of transport, so it can be part of a dictionary key."""

    name: str
    """websocket | sse"""

    def message(self, payload: bytes) -> bytes:
        """The bytes of one JSON message from which nobody resumes."""
        ...

    def resumable(self, payload: bytes, position: bytes) -> bytes:
        """The bytes of one JSON message that moves the client's resume point: SSE writes it as `id:`."""
        ...

    def __hash__(self) -> int: ...


class Link(Protocol):
    """One client's transport. No method raises or blocks; after close or abort all of them do nothing."""

    wire: Wire
    pings: bool
    """Whether `ping` really sends one whose answer is reported to the connection."""

    def write(self, frames: Sequence[bytes]) -> int:
        """Send whole wire messages, in order, with as few system calls as the transport allows; gives `buffered()`."""
        ...

    def buffered(self) -> int:
        """Bytes written here that the kernel has not taken yet."""
        ...

    def ping(self) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def close(self, closing: Closing) -> None:
        """End after what was written: WebSocket close frame with the code, SSE end of stream."""
        ...

    def abort(self) -> None:
        """End now, dropping what is unsent."""
        ...
