"""A connection's transport once the handshake is done: the asyncio protocol and the hub's `Link` in one slotted object.

Owns the socket from the hand-over to its end: writing, back pressure, the end. Promises that the connection's `lost` is
called exactly once, and that nothing is written after the end. Step 8 of the path.

What the kernel takes at once goes to it by send(2), past the transport (docs/decisions/0015-direct-writes.md). The
transport keeps everything else: reading, what is unsent and whatever is written while that waits, closing.
"""

import asyncio
import socket
from collections.abc import Sequence
from typing import Any, Protocol

from snackbase.errors import RESTARTING, Closing
from snackbase.realtime import protocol
from snackbase.realtime.link import Wire

CLOSE_TIMEOUT_S = 5.0
"""How long an ending connection may take to flush and to answer our close frame; then it is cut off."""

RETRY_AFTER_MS = 1000
"""Told when the server stops unprepared; a prepared stop spreads its clients (hub.drain)."""


class Receiver(Protocol):
    """What a transport tells its connection (the hub's `Connection`). No method raises."""

    def receive(self, payload: bytes) -> None:
        """One whole message from the client; text or binary, UTF-8 already checked for text."""
        ...

    def ponged(self) -> None:
        """A pong came."""
        ...

    def lost(self, code: int | None, reason: str) -> None:
        """The transport is gone: `code` of the close frame, 1005 for one without, 1006 without one; None for SSE."""
        ...


class TransportLink(asyncio.Protocol):
    """What WebSocket and SSE share: writing, back pressure, the end.

    Args:
        transport: open, and from now on nobody else's.
        receiver: told about everything that comes.
        registry: the server's set of live connections; this one stays in it until it is lost.
    """

    __slots__ = (
        "_direct",
        "_end_code",
        "_end_reason",
        "_ending",
        "_paused",
        "_receiver",
        "_registry",
        "_socket",
        "_timer",
        "_transport",
    )

    wire: Wire
    pings = False

    def __init__(self, transport: asyncio.Transport, receiver: Receiver, registry: set[Any]) -> None:
        self._transport = transport
        self._receiver: Receiver | None = receiver
        self._registry = registry
        self._paused = False
        self._ending = False
        # The socket while nothing waits in the transport, so that a write may go past it. Not before a first one has
        # gone through it: what was written during the handshake may still be there.
        self._direct: socket.SocketType | None = None
        self._socket: socket.SocketType | None = None
        self._end_code: int | None = None
        self._end_reason = ""
        self._timer: asyncio.TimerHandle | None = None
        registry.add(self)

    def write(self, frames: Sequence[bytes]) -> int:
        direct = self._direct
        if direct is None or self._ending:
            return self._write_behind(frames)
        try:
            if len(frames) == 1:
                taken = direct.send(frames[0])
                if taken == len(frames[0]):
                    return 0
            else:
                taken = direct.sendmsg(frames)
                if taken == sum(map(len, frames)):
                    return 0
        except OSError:
            # A full buffer, a connection that is gone, more frames than one call takes: the transport knows what to do.
            taken = 0
        return self._write_behind(_behind(frames, taken))

    def _write_behind(self, frames: Sequence[bytes | memoryview]) -> int:
        """Write through the transport: what the kernel does not take now, and what may not overtake that."""
        transport = self._transport
        self._direct = None
        if self._ending or transport.is_closing():
            return self.buffered()
        # Not joined: a stalled reader's buffer goes on sharing its bytes with everybody else's.
        transport.writelines(frames)
        buffered = transport.get_write_buffer_size()
        if not buffered:
            self._direct = self._found_socket()
        return buffered

    def _found_socket(self) -> socket.SocketType | None:
        """What to write to past the transport, if there is such a thing."""
        if self._socket is None and not self._transport.get_extra_info("sslcontext"):
            its = self._transport.get_extra_info("socket")
            if its is not None:
                self._socket = socket.SocketType(its.family, its.type, its.proto, its.fileno())
        return self._socket

    def buffered(self) -> int:
        return 0 if self._direct is not None or self._receiver is None else self._transport.get_write_buffer_size()

    def ping(self) -> None:
        """Nothing: only a WebSocket has pings."""

    def pause_reading(self) -> None:
        """Until `resume_reading`, nothing reaches the connection: no message, no pong, not the client's leaving."""
        if not self._paused:
            self._paused = True
            if not self._transport.is_closing():
                self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._paused:
            self._paused = False
            if not self._transport.is_closing():
                self._transport.resume_reading()

    def close(self, closing: Closing) -> None:
        raise NotImplementedError

    def abort(self) -> None:
        self._ending = True
        self._transport.abort()

    def shutdown(self) -> None:
        """The server stops without having drained the hub first: say so, then close."""
        self.write([self.wire.message(protocol.closing(RESTARTING, RETRY_AFTER_MS))])
        self.close(RESTARTING)

    def connection_lost(self, exc: Exception | None) -> None:
        self._ending = True
        self._direct = None
        if self._socket is not None:
            # The transport closes the descriptor after this, and the kernel gives its number to somebody else.
            self._socket.detach()
            self._socket = None
        self._registry.discard(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._tell_lost()

    def _tell_lost(self) -> None:
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            receiver.lost(self._end_code, self._end_reason)

    def _arm_timeout(self) -> None:
        """Nobody may hold an ending connection open: not by not reading, not by not answering."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(CLOSE_TIMEOUT_S, self._transport.abort)


def _behind(frames: Sequence[bytes], taken: int) -> list[bytes | memoryview]:
    """What is left of these frames after the first `taken` bytes."""
    left: list[bytes | memoryview] = []
    for one in frames:
        if taken >= len(one):
            taken -= len(one)
        else:
            left.append(memoryview(one)[taken:] if taken else one)
            taken = 0
    return left
