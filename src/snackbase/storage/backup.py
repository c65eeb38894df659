"""A copy of the database while it is used, by SQLite's own backup (sqlite.org/backup.html).

The copy is one state between two commits. It carries no epoch, so whoever opens it begins a new one: positions of the
original, which may be ahead of it, are answered with `resync` (invariant I8).
"""

import contextlib
import os
from pathlib import Path

import apsw

from snackbase.storage.connection import BUSY_WRITER_MS


def back_up(database: Path, target: Path) -> None:
    """Copy the database to a new file (mode 0600).

    Raises:
        FileExistsError: there is something at the target. OSError: it cannot be made. apsw.Error: the database cannot
            be read, or the copy not be written.
    """
    os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    try:
        _copy(database, target)
    except BaseException:
        target.unlink()
        raise


def _copy(database: Path, target: Path) -> None:
    with (
        contextlib.closing(apsw.Connection(str(database), flags=apsw.SQLITE_OPEN_READWRITE)) as source,
        contextlib.closing(apsw.Connection(str(target), flags=apsw.SQLITE_OPEN_READWRITE)) as copy,
    ):
        source.set_busy_timeout(BUSY_WRITER_MS)
        with copy.backup("main", source, "main") as backup:
            # In one step: one read transaction, which in WAL mode stops nobody from writing.
            while not backup.done:
                backup.step(-1)
        # Not a WAL file any more until a store opens it, so that the one file is the whole copy.
        copy.execute("PRAGMA journal_mode=DELETE").fetchall()
        copy.execute("DELETE FROM _meta WHERE key = 'epoch'").fetchall()
