"""A new process takes the listening sockets over from the one that runs, before that one stops.

The running process waits at a Unix socket in the data folder. A new one asks there for the listening sockets, which the
kernel duplicates for it (unix(7), SCM_RIGHTS), starts, and says when it accepts connections; only then the old one
stops as after SIGTERM. Both hold the same sockets, so at no moment is a connection refused or one that waits to be
accepted lost, which SO_REUSEPORT does not promise. A new process that fails to start changes nothing.
Whoever may write the data folder may ask; others cannot reach the socket (mode 0600 in a folder of 0700).
"""

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

log = logging.getLogger("snackbase.gateway")

NAME = "takeover.sock"
ASK, READY = b"snackbase takeover 1\n", b"ready\n"
HERE = b"here they are\n"
ANSWER_S = 5.0
START_S = 300.0
"""How long a new process may take to start; a hanging one keeps others from trying for no longer."""
MOST_SOCKETS = 16


class Handover:
    """The new process's side: the sockets, and the word that the old process may go."""

    def __init__(self, sockets: list[socket.socket], line: socket.socket) -> None:
        self.sockets = sockets
        self._line = line

    def ready(self) -> None:
        """The old process stops now. If it is gone already, so much the better."""
        with contextlib.suppress(OSError):
            self._line.sendall(READY)
        self._line.close()


def take_over(folder: Path) -> Handover | None:
    """The listening sockets of the process that runs on this data folder; None = there is none.

    Raises:
        OSError: there is one, and it does not hand them over.
    """
    line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    line.settimeout(ANSWER_S)
    try:
        with _short(folder) as name:
            line.connect(name)
    except (FileNotFoundError, ConnectionRefusedError):
        line.close()
        return None
    try:
        line.sendall(ASK)
        word, files, _, _ = socket.recv_fds(line, len(HERE), MOST_SOCKETS)
    except OSError:
        line.close()
        raise
    sockets = [socket.socket(fileno=file) for file in files]
    if word != HERE or not sockets:
        line.close()
        raise OSError("the running server does not hand its sockets over; it may be stopping")
    for one in sockets:
        one.setblocking(False)
    return Handover(sockets, line)


class Desk:
    """The running process's side: waits for a successor.

    Args:
        folder: the data folder. sockets: what is handed over.
    """

    def __init__(self, folder: Path, sockets: Sequence[socket.socket]) -> None:
        self._folder = folder
        self._sockets = sockets
        self._listener: socket.socket | None = None
        self._inode = 0

    def open(self) -> None:
        """Begin to listen, in place of whoever did before. A folder that takes no socket only rules takeovers out."""
        # With PostgreSQL and a secret from the settings nothing else made it.
        with contextlib.suppress(OSError):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        fresh = f"{NAME}.{os.getpid()}"
        try:
            # On PostgreSQL, with a secret that was given, nobody else needs it.
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with _short(self._folder, fresh) as name:
                Path(name).unlink(missing_ok=True)
                listener.bind(name)
                Path(name).chmod(0o600)
            listener.listen(4)
            self._inode = (self._folder / fresh).stat().st_ino
            (self._folder / fresh).replace(self._folder / NAME)
        except OSError as error:
            listener.close()
            log.warning("no other process can take over from this one: %s", error)
            return
        listener.setblocking(False)
        self._listener = listener

    async def successor(self) -> None:
        """Return when another process has taken over."""
        loop = asyncio.get_running_loop()
        if self._listener is None:
            await loop.create_future()
            return
        while True:
            line, _ = await loop.sock_accept(self._listener)
            line.setblocking(False)
            with line:
                if await self._hand_over(line):
                    return

    async def _hand_over(self, line: socket.socket) -> bool:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(ANSWER_S):
                asked = await loop.sock_recv(line, len(ASK))
            if asked != ASK:
                return False
            socket.send_fds(line, [HERE], [one.fileno() for one in self._sockets])
            log.info("another process asked for the listening sockets")
            async with asyncio.timeout(START_S):
                ready = await loop.sock_recv(line, len(READY)) == READY
        except (OSError, TimeoutError):
            ready = False
        log.info("another process has taken over" if ready else "the other process did not start; this one goes on")
        return ready

    def close(self) -> None:
        """Stop listening. The name stays if a successor has it by now."""
        if self._listener is None:
            return
        self._listener.close()
        self._listener = None
        path = self._folder / NAME
        with contextlib.suppress(OSError):
            if path.stat().st_ino == self._inode:
                path.unlink()


@contextlib.contextmanager
def _short(folder: Path, name: str = NAME) -> Iterator[str]:
    """A path to a file of the folder that fits into a socket's address (108 bytes, unix(7)) however deep it lies."""
    path = str(folder / name)
    if len(os.fsencode(path)) < 100 or not Path("/proc/self/fd").is_dir():
        yield path
        return
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{opened}/{name}"
    finally:
        os.close(opened)
