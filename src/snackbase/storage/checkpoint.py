"""When the WAL is copied into the database file: by choice of the writer, never inside somebody's COMMIT.

SQLite's automatic checkpoint runs in whatever COMMIT crosses a page count, which is a latency spike for that group.
Here: when idle, a passive one (it waits for nobody); under constant load the same between two groups once the WAL is
large; and only a WAL that readers kept from being reused is truncated, with a short wait for them.
"""

import contextlib

import apsw

from snackbase.storage.connection import BUSY_WRITER_MS

IDLE_S = 0.05
IDLE_PAGES = 250
BUSY_PAGES = 4_000
TRUNCATE_PAGES = 16_384
"""64 MB in pages of 4 KiB."""
TRUNCATE_WAIT_MS = 50


class Checkpoints:
    """Decides by the number of pages in the WAL, which SQLite tells after each commit."""

    def __init__(self) -> None:
        self.pages = 0
        self.done = 0
        self.failed = 0
        self._next_busy = BUSY_PAGES
        self._next_truncate = TRUNCATE_PAGES

    def watch(self, connection: apsw.Connection) -> None:
        connection.set_wal_hook(self._committed)

    def _committed(self, _connection: apsw.Connection, _name: str, pages: int) -> int:
        self.pages = pages
        return apsw.SQLITE_OK

    def patience(self) -> float | None:
        """How long the writer may sleep before `idle` is wanted; None: for ever."""
        return IDLE_S if self.pages >= IDLE_PAGES else None

    def idle(self, connection: apsw.Connection) -> None:
        self._run(connection, apsw.SQLITE_CHECKPOINT_PASSIVE)
        # Also when a reader was in the way: wanted again only after another commit.
        self.pages = 0

    def after_group(self, connection: apsw.Connection) -> None:
        if self.pages < self._next_busy:
            if self.pages < BUSY_PAGES:
                self._next_busy, self._next_truncate = BUSY_PAGES, TRUNCATE_PAGES
            return
        mode = apsw.SQLITE_CHECKPOINT_PASSIVE
        if self.pages >= self._next_truncate:
            mode = apsw.SQLITE_CHECKPOINT_TRUNCATE
            # A long read may stand in the way: not again before the WAL has grown by as much.
            self._next_truncate = self.pages + TRUNCATE_PAGES
        self._next_busy = self.pages + BUSY_PAGES
        self._run(connection, mode)

    def last(self, connection: apsw.Connection) -> None:
        self._run(connection, apsw.SQLITE_CHECKPOINT_TRUNCATE)

    def _run(self, connection: apsw.Connection, mode: int) -> None:
        # A checkpoint that fails loses nothing: the WAL keeps what it holds, and the next write meets the same disk.
        try:
            with contextlib.suppress(apsw.BusyError):
                connection.set_busy_timeout(TRUNCATE_WAIT_MS)
                connection.wal_checkpoint(mode=mode)
                self.done += 1
        except apsw.Error:
            self.failed += 1
        finally:
            with contextlib.suppress(apsw.Error):
                connection.set_busy_timeout(BUSY_WRITER_MS)
