"""What became of a commit whose answer never came: asked of the database, on another connection.

`pg_xact_status` says whether the transaction is over. The log says whether it was done: its rows carry a name that is
never given twice, which holds after a crash and on a server that was promoted as well, where a transaction's number may
be another's. What wrote no rows can only be known to have failed. Must not decide what a client is told.
"""

import asyncio
from collections.abc import Sequence
from time import monotonic

import asyncpg

from snackbase.config import ConfigError
from snackbase.errors import Unavailable
from snackbase.model import Change
from snackbase.storage.postgres.link import LOST, Connection, Server, closed, translated
from snackbase.storage.statements import READ_WINDOW

PATIENCE_S = 8.0
"""How long the database is asked; the server itself ends a transaction that nothing comes for after 5 s."""
PAUSE_S = 0.05
STATUS = "SELECT pg_xact_status($1::text::xid8)"
TOLD = """SELECT tx_id FROM _changes WHERE account = (SELECT num FROM _accounts WHERE id = $1) AND seq = $2"""


async def was_committed(server: Server, xid: str, changes: Sequence[Change]) -> bool | None:
    """Whether a transaction was committed; None: it cannot be told, or not in time.

    Args:
        xid: its number, as pg_current_xact_id() gave it. changes: the rows of the log that it wrote.
    """
    ends = monotonic() + PATIENCE_S
    while (left_s := ends - monotonic()) > 0:
        connection: Connection | None = None
        try:
            connection = await server.connect(timeout_s=left_s)
            if await _status(connection, xid) != "in progress":
                return await _written(connection, xid, changes)
            await asyncio.sleep(PAUSE_S)
        except (Unavailable, ConfigError, asyncpg.PostgresError, *LOST):
            await asyncio.sleep(PAUSE_S)
        finally:
            await closed(connection)
    return None


async def _status(connection: Connection, xid: str) -> str | None:
    """in progress | committed | aborted; None: the server knows of no such transaction (any more, or yet)."""
    try:
        status: str | None = await connection.fetchval(STATUS, xid)
    except asyncpg.InvalidParameterValueError:
        # Ahead of every number this server has given: it was promoted, or lost the end of its log.
        return None
    return status


async def _written(connection: Connection, xid: str, changes: Sequence[Change]) -> bool | None:
    if not changes:
        return False if await _status(connection, xid) == "aborted" else None
    last = changes[-1]
    if await connection.fetchval(TOLD, last.account_id, last.seq) == last.tx_id:
        return True
    window = await connection.fetch(translated(READ_WINDOW), last.account_id, last.seq)
    pruned = bool(window) and last.seq <= window[0][2]
    return None if pruned else False
