"""SQLite connections as this program wants them, and what SQLite's errors mean to a client.

Promises: WAL, the given durability, no automatic checkpoint inside somebody's COMMIT, readers that cannot write, double
quotes that only ever mean identifiers. apsw bundles its own SQLite, so the WAL-reset corruption of 3.7.0-3.51.2
(sqlite.org/wal.html#walresetbug) that system libraries may have is not met; an older one is refused.
"""

import os
from pathlib import Path

import apsw

from snackbase.config import ConfigError
from snackbase.errors import Unavailable
from snackbase.rules import IN_TIME
from snackbase.storage.deadline import in_time
from snackbase.storage.schema import APPLICATION_ID

OLDEST_SQLITE = (3, 51, 3)
STATEMENT_CACHE = 512
BUSY_WRITER_MS = 5_000
BUSY_READER_MS = 250
"""A reader only meets a lock while another process recovers or deletes the WAL; the loop must not wait for long."""
JOURNAL_LIMIT_BYTES = 64 << 20

DAMAGED = "storage_corrupt"
STORAGE_ERRORS: tuple[tuple[type[apsw.Error], str, str], ...] = (
    (apsw.FullError, "storage_full", "The disk or the database is full; nothing was written."),
    (apsw.BusyError, "storage_busy", "The database is locked by another process; nothing was written."),
    (apsw.LockedError, "storage_busy", "The database is locked by another process; nothing was written."),
    (apsw.CorruptError, "storage_corrupt", "The database file is damaged; restore a backup."),
    (apsw.NotADBError, "storage_corrupt", "The database file is damaged; restore a backup."),
    (apsw.IOError, "storage_error", "The database file could not be read or written."),
    (apsw.CantOpenError, "storage_error", "The database file could not be opened."),
    (apsw.ReadOnlyError, "storage_error", "The database file cannot be written to."),
    (apsw.PermissionsError, "storage_error", "The database file cannot be written to."),
    (apsw.ProtocolError, "storage_error", "The database file could not be locked."),
    (apsw.NoMemError, "storage_error", "The database ran out of memory."),
    (apsw.InterruptError, "storage_error", "The statement was interrupted."),
)


def storage_fault(error: apsw.Error) -> Unavailable | None:
    """The answer to a fault of the machine below the database; None for an error of one statement."""
    for kind, code, message in STORAGE_ERRORS:
        if isinstance(error, kind):
            return Unavailable(message, code=code, retry_after_s=5)
    return None


def make_file(path: Path) -> None:
    """Create the folder (0700) and an empty database file (0600; SQLite gives -wal and -shm the same mode)."""
    if not path.parent.is_dir():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))


def connect(path: Path, *, synchronous: str = "FULL", writer: bool = False) -> apsw.Connection:
    """Open one connection. `synchronous`: OFF | NORMAL | FULL | EXTRA.

    Raises:
        apsw.Error: the file cannot be opened. ConfigError: it is no SQLite database, or SQLite is too old.
    """
    if tuple(map(int, apsw.sqlite_lib_version().split("."))) < OLDEST_SQLITE:
        raise ConfigError(f"SQLite {apsw.sqlite_lib_version()} can corrupt WAL databases; 3.51.3 or newer is needed.")
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE, statementcachesize=STATEMENT_CACHE)
    try:
        _set_up(connection, synchronous=synchronous, writer=writer)
    except BaseException as error:
        connection.close()
        if isinstance(error, apsw.NotADBError):
            raise ConfigError(f"{path.name} is not an SQLite database.") from None
        raise
    return connection


def _set_up(connection: apsw.Connection, *, synchronous: str, writer: bool) -> None:
    connection.set_busy_timeout(BUSY_WRITER_MS if writer else BUSY_READER_MS)
    for option in (apsw.SQLITE_DBCONFIG_DQS_DML, apsw.SQLITE_DBCONFIG_DQS_DDL):
        connection.config(option, 0)
    # Without it SQLite compiles a join anew for every execution with bound values, in the hope of a better plan.
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
    connection.create_scalar_function(IN_TIME, in_time, 0)
    pragmas = [
        "trusted_schema=OFF",
        "temp_store=MEMORY",
        "foreign_keys=OFF",
        f"cache_size={-32768 if writer else -8192}",
    ]
    if writer:
        pragmas += [f"synchronous={synchronous}", f"journal_size_limit={JOURNAL_LIMIT_BYTES}"]
    else:
        pragmas.append("query_only=1")
    # The first look at the file: whether it is a database at all.
    connection.execute("SELECT count(*) FROM sqlite_master").fetchall()
    for pragma in pragmas:
        connection.execute(f"PRAGMA {pragma}").fetchall()
    # SQLite's own checkpoint runs inside whatever COMMIT crosses 1000 pages; ours runs between groups.
    connection.wal_autocheckpoint(0)


def enter_wal(connection: apsw.Connection) -> None:
    """Make the file a WAL database of this program; only after its tables were found to be ours."""
    if connection.execute("PRAGMA application_id").fetchall() != [(APPLICATION_ID,)]:
        connection.execute(f"PRAGMA application_id={APPLICATION_ID}").fetchall()
    mode = connection.execute("PRAGMA journal_mode=WAL").fetchall()
    if mode != [("wal",)]:
        raise ConfigError("The database's file system does not support WAL (shared memory); put it on a local disk.")
