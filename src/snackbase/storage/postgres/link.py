"""Connections to PostgreSQL, the way from our SQL to its, and what its errors mean to a client.

Promises: `?` placeholders are translated once for each text; a fault of the server or the network comes out as
Unavailable with the same codes SQLite's have; messages hold neither SQL nor values nor the password of the URL.
"""

import asyncio
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, TypeAlias, TypeVar

import asyncpg
import msgspec

from snackbase.config import ConfigError
from snackbase.errors import BadRequest, TooLarge, Unavailable
from snackbase.storage.asking import Asking, Taken
from snackbase.storage.codec import NulError

T = TypeVar("T")
Connection: TypeAlias = Any
"""An asyncpg.Connection, which comes without types."""

CONNECT_S = 5.0
STATEMENTS = 512
OLDEST_SERVER = 14

LOST = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    ConnectionError,
    OSError,
    TimeoutError,
)
"""The connection is gone, or nobody knows. The second and third are asyncpg's words for one that ended under it, the
fourth the server's to a process that was stopped in the middle of a group."""
AGAIN = (
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.InvalidCachedStatementError,
)
"""The transaction is undone and may succeed when it is done again."""
POOLED = (asyncpg.DuplicatePreparedStatementError, asyncpg.InvalidSQLStatementNameError)
"""Somebody between us and the server gives the session of one client to another."""
LOCKED = asyncpg.LockNotAvailableError
LATE = asyncpg.QueryCanceledError

FAULTS: tuple[tuple[Any, str, str], ...] = (
    (asyncpg.DiskFullError, "storage_full", "The disk of the database is full; nothing was written."),
    (asyncpg.InsufficientResourcesError, "storage_error", "The database has no resources left."),
    (asyncpg.OperatorInterventionError, "storage_error", "The database is stopping or starting."),
    (asyncpg.ReadOnlySQLTransactionError, "storage_error", "The database takes no writes: it is a standby."),
    (asyncpg.InvalidAuthorizationSpecificationError, "storage_error", "The database refuses this user."),
    (asyncpg.DataCorruptedError, "storage_corrupt", "The database is damaged; restore a backup."),
    (asyncpg.IndexCorruptedError, "storage_corrupt", "An index of the database is damaged; rebuild it."),
    (asyncpg.InternalServerError, "storage_error", "The database failed."),
    (asyncpg.PostgresSystemError, "storage_error", "The database failed."),
    (LOST, "storage_error", "The database cannot be reached."),
)


def fault_of(error: BaseException) -> Unavailable | None:
    """The answer to a fault of the server or the way to it; None for an error of one statement."""
    if isinstance(error, LOCKED):
        return Unavailable(
            "Another session of the database holds what this write needs.", code="storage_busy", retry_after_s=1
        )
    for kind, code, message in FAULTS:
        if isinstance(error, kind):
            return Unavailable(message, code=code, retry_after_s=1)
    return None


def refused_value(error: BaseException) -> Exception | None:
    """The answer to a value that PostgreSQL cannot hold; None for other errors."""
    if isinstance(error, asyncpg.ProgramLimitExceededError):
        return TooLarge("A value is too long for an index over its field: about 2,700 bytes are kept there.")
    return None


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """Where the database is.

    Attributes:
        url: postgresql://user:password@host:port/name?…, as libpq reads it.
        direct_url: past a transaction pooler, for what needs a session: LISTEN, locks held while a schema changes;
            given, nothing that a session would keep is used through `url`.
    """

    url: str
    direct_url: str = ""

    @property
    def pooled(self) -> bool:
        return bool(self.direct_url)

    async def connect(self, *, direct: bool = False, timeout_s: float | None = None) -> Connection:
        """Open a connection of one's own.

        Raises:
            Unavailable: it cannot be reached. ConfigError: it can, and will never do.
        """
        behind_pooler = self.pooled and not direct
        try:
            connection = await asyncpg.connect(
                self.direct_url if direct and self.direct_url else self.url,
                timeout=CONNECT_S,
                statement_cache_size=0 if behind_pooler else STATEMENTS,
                command_timeout=timeout_s,
                server_settings={} if behind_pooler else {"application_name": "snackbase"},
            )
        except (asyncpg.InvalidCatalogNameError, asyncpg.ClientConfigurationError, ValueError) as error:
            raise ConfigError(f"SNACKBASE_DATABASE_URL: {_unusable(error)}") from None
        except (asyncpg.PostgresError, *LOST) as error:
            answer = fault_of(error) or Unavailable("The database refuses connections.", code="storage_error")
            raise answer from error
        if connection.get_server_version().major < OLDEST_SERVER:
            await connection.close()
            raise ConfigError(f"PostgreSQL {OLDEST_SERVER} or newer is needed.")
        return connection

    async def check_sessions(self) -> None:
        """Make sure that a connection keeps its session, as LISTEN and locks need it.

        Raises:
            Unavailable: the server cannot be reached. ConfigError: a pooler gives its sessions to whoever comes.
        """
        both: list[Connection] = []
        try:
            for _ in range(2):
                both.append(await self.connect(direct=True))
            first, second, again = [await one.fetchval("SELECT pg_backend_pid()") for one in (*both, both[0])]
            shared = first == second or first != again
        except POOLED:
            shared = True
        except LOST as error:
            raise fault_of(error) or error from error
        finally:
            for one in both:
                await closed(one)
        if shared:
            name = "SNACKBASE_DATABASE_DIRECT_URL" if self.direct_url else "SNACKBASE_DATABASE_URL"
            raise ConfigError(
                f"{name} leads to a transaction pooler: set SNACKBASE_DATABASE_DIRECT_URL to a URL past it, which "
                "LISTEN and locks need (docs/howto/postgresql.md)"
            )


def _unusable(error: Exception) -> str:
    """What is wrong with a URL. What could not be read of it may be a part of its password, so it is not shown."""
    if isinstance(error, asyncpg.InvalidCatalogNameError):
        return _plain(error)
    if isinstance(error, asyncpg.ClientConfigurationError):
        return re.sub(r"'.*", "…", _plain(error))
    return (
        "it cannot be read as postgresql://user:password@host:port/name; in a password write @ : / ? # % as "
        "%40 %3A %2F %3F %23 %25"
    )


def reason_of(error: BaseException) -> str:
    """Why the database cannot be reached, for those who run the server; clients are told less. Holds no secret: it
    names an address, a user or a certificate, never a password."""
    cause = error.__cause__ or error
    return f"{type(cause).__name__}: {_plain(cause)}"


def _plain(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


_QUOTED_OR_MARK = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|\?([0-9]*)""")


@lru_cache(maxsize=4096)
def translated(sql: str) -> str:
    """`?` in the order they stand, `?3` by their number, as `$1`, `$3`; nothing within quotes."""
    count = 0

    def mark(found: re.Match[str]) -> str:
        nonlocal count
        if not found[0].startswith("?"):
            return found[0]
        count += 1
        return f"${found[1] or count}"

    return _QUOTED_OR_MARK.sub(mark, sql)


def check_values(values: Sequence[Any]) -> None:
    """PostgreSQL has no U+0000 in texts. Raises UnicodeError, OverflowError for what it cannot hold."""
    for value in values:
        if type(value) is str:
            if "\0" in value:
                raise NulError
            if not value.isascii():
                value.encode()
        elif type(value) is int and not -(2**63) <= value < 2**63:
            raise OverflowError


def unsearchable() -> BadRequest:
    """What a list is answered with whose filter holds a text that no field can."""
    return BadRequest("The filter holds U+0000 or half of a surrogate pair.", code="invalid_filter")


async def rows_of(connection: Connection, sql: str, args: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """Rows as SQLite gives them."""
    return [tuple(row) for row in await connection.fetch(translated(sql), *args)]


async def drive(connection: Connection, asking: Asking[T]) -> T:
    """Run a part of a transaction on a connection. Raises what it raises, and asyncpg's errors."""
    try:
        ask = next(asking)
        while True:
            try:
                answer: Any
                if ask.counted:
                    answer = counted(await connection.execute(translated(ask.sql), *ask.args))
                else:
                    answer = await rows_of(connection, ask.sql, ask.args)
            except asyncpg.UniqueViolationError as error:
                ask = asking.throw(taken_of(error))
            else:
                ask = asking.send(answer)
    except StopIteration as done:
        result: T = done.value
        return result


def counted(status: str) -> int:
    """The rows that a statement changed: `INSERT 0 1`, `UPDATE 3`; 0 for one that changes none."""
    last = status.rpartition(" ")[2]
    return int(last) if last.isdigit() else 0


_KEY = re.compile(r"\(((?:[^()\"]|\"(?:[^\"]|\"\")*\")+)\)=")


def taken_of(error: asyncpg.UniqueViolationError) -> Taken:
    """The detail names the columns, in whatever language: `Key (account_id, "order")=(…) already exists.`"""
    found = _KEY.search(error.detail or "")
    columns = re.findall(r'"((?:[^"]|"")*)"|([^,\s"]+)', found[1]) if found else []
    return Taken([quoted.replace('""', '"') or plain for quoted, plain in columns])


async def closed(connection: Connection | None) -> None:
    """Close a connection, whatever state it is in."""
    if connection is None or connection.is_closed():
        return
    try:
        await asyncio.wait_for(connection.close(), 2)
    except Exception:
        connection.terminate()
