"""The listening sockets and their options. Knows the kernel, nothing of HTTP."""

import asyncio
import contextlib
import fcntl
import os
import resource
import socket
from pathlib import Path
from typing import Any

from snackbase.config import Settings

BACKLOG = 4096
SEND_BUFFER_BYTES = 131072
"""SO_SNDBUF of every accepted socket. Left alone the kernel takes 3.7 MB a stalled reader (measured) before anybody
here can tell that it is stalled."""

SPARE_FILES = 100
"""File descriptors that no connection gets. Realtime connections leave some more (hub/admission.py), so REST still
answers when there is no room for another of them."""

ROOM_FOR_FILES = 65_536
"""File descriptors that the kernel keeps a table for, from the start on: half a megabyte."""


def connection_limit() -> int:
    """How many connections the process may hold open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(50, soft - SPARE_FILES) if soft != resource.RLIM_INFINITY else 1_000_000


def make_room_for_files() -> None:
    """Have the kernel grow the process's table of descriptors now, as far as the process's limit goes.

    Left alone it doubles the table when one more connection is accepted, and in a process with threads waits then for
    every processor to come by (`synchronize_rcu` in Linux' fs/file.c): 10 to 25 ms each time, measured, in which the
    loop stands still, for 1,000 connections five times.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    last = (ROOM_FOR_FILES if soft == resource.RLIM_INFINITY else min(soft, ROOM_FOR_FILES)) - 1
    # Without it everything works as well, with those pauses.
    with contextlib.suppress(OSError), Path(os.devnull).open("rb") as file:
        os.close(fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, last))


def listen(settings: Settings, *, send_buffer_bytes: int = SEND_BUFFER_BYTES) -> list[socket.socket]:
    """Sockets bound to the settings' host and port (0: the kernel chooses; the same for every address of the host).

    Raises:
        OSError: the address is not ours, or taken.
    """
    sockets: list[socket.socket] = []
    port = settings.port
    found = socket.getaddrinfo(settings.host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    for family, kind, proto, _, address in dict.fromkeys(found):
        listener = socket.socket(family, kind, proto)
        sockets.append(listener)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        # Accepted sockets inherit it.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer_bytes)
        limit_unacknowledged(listener, settings)
        try:
            listener.bind((address[0], port, *address[2:]))
        except OSError:
            for opened in sockets:
                opened.close()
            raise
        port = listener.getsockname()[1]
        listener.listen(BACKLOG)
        listener.setblocking(False)
    return sockets


def limit_unacknowledged(listener: socket.socket, settings: Settings) -> None:
    """Have the kernel end a connection whose peer acknowledges nothing: for an event stream the stand-in for pings, for
    others the end of an answer that nobody reads. Accepted sockets inherit it (TCP(7), TCP_USER_TIMEOUT; Linux only).
    """
    option = getattr(socket, "TCP_USER_TIMEOUT", None)
    if option is not None and listener.family in (socket.AF_INET, socket.AF_INET6):
        seconds = settings.realtime_ping_seconds + settings.realtime_pong_seconds
        listener.setsockopt(socket.IPPROTO_TCP, option, int(seconds * 1000))


class AddressesOnly:
    """A transport without its socket object: who wants the two addresses has to ask the transport itself.

    uvloop makes the object when it is asked for and keeps it, with both addresses, for as long as the connection lives:
    350 bytes of an idle connection's 4 KB.
    """

    __slots__ = ("_transport",)

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "socket":
            return default
        info = self._transport.get_extra_info(name, default)
        # Host and port; those of IPv6 go on with its flow and scope.
        return info[:2] if isinstance(info, tuple) else info
