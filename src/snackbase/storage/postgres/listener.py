"""What other nodes committed, told by PostgreSQL itself: one NOTIFY a group, one connection that listens.

A notification is a hint: `<node> <account>:<head>,…`, or `<node> !<version>` after a schema change, under 8000 bytes.
Those of this node are skipped. After each reconnect the listener says so, since what came meanwhile was told to nobody.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping

import asyncpg

from snackbase.config import ConfigError
from snackbase.errors import Unavailable
from snackbase.model import Head
from snackbase.storage.postgres.link import LOST, Connection, Server, closed, reason_of

log = logging.getLogger("snackbase.storage")

CHANNEL = "snackbase"
MOST_BYTES = 7900
LOOK_S = 10.0
"""How often a silent connection is asked whether it still is one."""
LONGEST_PAUSE_S = 5.0
NOTIFY = "SELECT pg_notify('snackbase', word) FROM unnest($1::text[]) AS word"


class Listener:
    """
    Args:
        node: names this process among others.
        hint: called with account id -> head. schema: awaited when another node changed schemas, and after reconnects.
    """

    def __init__(
        self,
        server: Server,
        node: str,
        *,
        hint: Callable[[Mapping[str, int]], None],
        schema: Callable[[], Awaitable[None]],
    ) -> None:
        self._server = server
        self._node = node
        self._hint = hint
        self._schema = schema
        self._task: asyncio.Task[None] | None = None
        self._schemas = asyncio.Event()
        self.connected = False
        self.received = 0

    async def open(self) -> None:
        """Listen. Raises Unavailable."""
        connection = await self._listening()
        self._task = asyncio.get_running_loop().create_task(self._run(connection), name="listener")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def announcement(self, heads: Mapping[str, Head]) -> str:
        """Statements that tell the other nodes, when the transaction commits; sent together with the COMMIT."""
        quoted = [word.replace("'", "''") for word in words(self._node, heads)] if heads else []
        return "".join(f"NOTIFY {CHANNEL}, '{word}'; " for word in quoted)

    async def announce_schema(self, connection: Connection, version: int) -> None:
        await connection.execute(NOTIFY, [f"{self._node} !{version}"])

    async def _listening(self) -> Connection:
        connection = await self._server.connect(direct=True)
        try:
            await connection.add_listener(CHANNEL, self._told)
        except BaseException:
            await closed(connection)
            raise
        self.connected = True
        return connection

    async def _run(self, connection: Connection | None) -> None:
        pause_s, deaf = 0.1, False
        try:
            while True:
                if connection is None:
                    try:
                        connection = await self._listening()
                    except (Unavailable, ConfigError, asyncpg.PostgresError, *LOST) as error:
                        if not deaf:
                            log.warning("notifications of other nodes do not arrive: %s", reason_of(error))
                        deaf = True
                        await asyncio.sleep(pause_s)
                        pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
                        continue
                    if deaf:
                        log.warning("notifications of other nodes arrive again")
                    pause_s, deaf = 0.1, False
                    self._schemas.set()
                if not await self._wait(connection):
                    self.connected = False
                    await closed(connection)
                    connection = None
        finally:
            self.connected = False
            await closed(connection)

    async def _wait(self, connection: Connection) -> bool:
        """Until something is to be done; False: the connection is gone."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_S if not connection.is_closed() else 0.01):
                await self._schemas.wait()
        try:
            if self._schemas.is_set():
                self._schemas.clear()
                await self._schema()
            else:
                await connection.fetchval("SELECT 1", timeout=LOOK_S)
        except Unavailable:
            self._schemas.set()
            await asyncio.sleep(0.1)
        except (asyncpg.PostgresError, *LOST):
            return False
        except Exception as error:
            # Whatever it is, notifications still have to be heard; a poll looks for the schema as well.
            log.error("what another node changed cannot be read: %s", reason_of(error))
        return not connection.is_closed()

    def _told(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        node, _, text = str(payload).partition(" ")
        if node == self._node:
            return
        self.received += 1
        if text.startswith("!"):
            self._schemas.set()
            return
        heads = {}
        for word in text.split(","):
            account_id, _, seq = word.rpartition(":")
            if account_id and seq.isdigit():
                heads[account_id] = int(seq)
        if heads:
            self._hint(heads)


def words(node: str, heads: Mapping[str, Head]) -> list[str]:
    """As few notifications as hold all heads."""
    texts: list[str] = []
    line = ""
    for account_id, head in heads.items():
        word = f"{account_id}:{head.seq}"
        if line and len(line) + len(word) + len(node) + 2 > MOST_BYTES:
            texts.append(f"{node} {line}")
            line = ""
        line = f"{line},{word}" if line else word
    return [*texts, f"{node} {line}"]
