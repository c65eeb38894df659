"""One process accepts connections and hands each to the worker that has the fewest (unix(7), SCM_RIGHTS).

The supervisor keeps the listening sockets, so a worker may come and go without a connection refused, and counts decide
who gets the next one: the kernel's own spreading by hash leaves few connections uneven (docs/decisions/). A worker
that does not read is passed over. The supervisor's end of a line closed for writing means "no more will come; leave".
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable, Coroutine
from time import monotonic
from typing import Any

REPORT = struct.Struct("!QIB")
"""A worker's word: how many connections it was given so far, how many are open, whether it wants no more."""
REPORT_S = 0.02
BEAT_S = 1.0
SILENT_S = 5.0
"""A worker that has said nothing for so long gets nothing while others do."""


class Line:
    """The supervisor's end: one worker."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._end.setblocking(False)
        self._given = 0
        self._taken = 0
        self._open = 0
        self._heard_at = 0.0
        self._unread = b""
        self._finished = False
        self.ready = asyncio.Event()

    @property
    def load(self) -> int:
        """Its open connections, those on their way to it included."""
        return self._open + self._given - self._taken

    @property
    def usable(self) -> bool:
        return self.ready.is_set() and not self._finished

    @property
    def silent(self) -> bool:
        return monotonic() - self._heard_at > SILENT_S

    def listen(self) -> None:
        asyncio.get_running_loop().add_reader(self._end, self._read)

    def give(self, connection: socket.socket) -> bool:
        """Whether the worker has it now."""
        try:
            socket.send_fds(self._end, [b"c"], [connection.fileno()])
        except BlockingIOError:
            return False
        except OSError:
            self._finished = True
            return False
        self._given += 1
        return True

    def finish(self) -> None:
        """No more: the worker takes what is on its way, then leaves."""
        if not self._finished:
            self._finished = True
            with contextlib.suppress(OSError):
                self._end.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._end)
        self._finished = True
        self._end.close()

    def _read(self) -> None:
        try:
            data = self._end.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._finished = True
            asyncio.get_running_loop().remove_reader(self._end)
            return
        self._unread += data
        while len(self._unread) >= REPORT.size:
            self._taken, self._open, leaving = REPORT.unpack(self._unread[: REPORT.size])
            self._unread = self._unread[REPORT.size :]
            self._heard_at = monotonic()
            self.ready.set()
            if leaving:
                self.finish()


class Taker:
    """The worker's end.

    Args:
        file: the descriptor of the line.
    """

    def __init__(self, file: int) -> None:
        self._end = socket.socket(fileno=file)
        self._end.setblocking(False)
        self._end.set_inheritable(False)
        self._taken = 0
        self._leaving = False
        self._ended = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    def start(
        self, protocol: Callable[[], asyncio.Protocol], *, count: Callable[[], int], leave: Callable[[], None]
    ) -> None:
        """Take connections from now on.

        Args:
            count: how many connections are open. leave: called when no more will come.
        """
        self._protocol, self._count, self._leave = protocol, count, leave
        asyncio.get_running_loop().add_reader(self._end, self._read)
        self._keep(self._report())

    async def stop(self, within_s: float) -> None:
        """Ask for no more, and return when everything that was on its way is here."""
        self._leaving = True
        self._tell()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._ended.wait()

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _read(self) -> None:
        for _ in range(64):
            try:
                data, files, _, _ = socket.recv_fds(self._end, 64, 64)
            except BlockingIOError:
                return
            except OSError:
                data, files = b"", []
            for file in files:
                self._taken += 1
                connection = socket.socket(fileno=file)
                connection.setblocking(False)
                connection.set_inheritable(False)
                self._keep(self._open(connection))
            if not data:
                asyncio.get_running_loop().remove_reader(self._end)
                self._ended.set()
                self._leave()
                return

    async def _open(self, connection: socket.socket) -> None:
        # A client that has gone meanwhile.
        with contextlib.suppress(OSError):
            await asyncio.get_running_loop().connect_accepted_socket(self._protocol, connection)

    async def _report(self) -> None:
        """Say what is open when it changed, and now and then that this process lives."""
        told, told_at = (-1, -1), 0.0
        while True:
            now = (self._taken, self._count())
            if now != told or monotonic() - told_at > BEAT_S:
                told, told_at = now, monotonic()
                self._tell()
            await asyncio.sleep(REPORT_S)

    def _tell(self) -> None:
        with contextlib.suppress(OSError):
            self._end.send(REPORT.pack(self._taken, self._count(), self._leaving))
