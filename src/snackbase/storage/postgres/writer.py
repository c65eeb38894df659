"""The task that writes: takes whatever waits, has it carried out as one group, hands results to who waits.

Group commit: up to 256 waiting transactions share one SQL transaction and one flush of the database's log. It never
waits for a group to fill. Promises I1 to I5 over as many nodes as there are. A lost connection fails what was under way
with words that say whether it may have been written, and is made anew with growing pauses; `healthy` says how it is.
Step 4 of the path.
"""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable, Sequence
from itertools import count
from time import monotonic

import asyncpg

from snackbase.config import ConfigError
from snackbase.errors import Unavailable
from snackbase.model import Change, Collection, Head
from snackbase.storage.base import Committed, Transaction
from snackbase.storage.definitions import Definitions, read_collections
from snackbase.storage.group import Item, fail, settle
from snackbase.storage.postgres.epoch import History
from snackbase.storage.postgres.lanes import Lanes
from snackbase.storage.postgres.link import (
    AGAIN,
    LOST,
    Connection,
    Server,
    check_values,
    closed,
    drive,
    fault_of,
    reason_of,
)
from snackbase.storage.postgres.numbers import Known
from snackbase.storage.postgres.outcome import was_committed
from snackbase.storage.postgres.run import HEADS_MS, HeadsHeld, OutcomeUnknown, Run, answer_to, busy, head_of
from snackbase.storage.postgres.wave import Key
from snackbase.storage.statements import Tables
from snackbase.storage.transaction import prepare, refusal
from snackbase.storage.waiting import Waiting

log = logging.getLogger("snackbase.storage")

GROUP_MOST = 256
GROUP_BYTES = 1 << 20
LOCK_MS = 20
"""How long a group waits for somebody else's lock. Another node's group is over by then; who is not is waited for in a
side lane."""
TRIES = 6
STATEMENT_S = 60.0
"""A statement of a group that takes longer is given up: the server does not answer any more."""
STUCK_S = 10.0
"""A group that takes longer gets no answer: until it is given up, this node is not well either."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 1.0
PROBE_S = 1.0
FREE_HEADS = "SELECT account FROM _heads WHERE account = ANY($1::bigint[]) FOR UPDATE SKIP LOCKED"


class Writer:
    """
    Args:
        announce: statements that tell other nodes of a group's heads, in its transaction.
        history: notices that the database was promoted. committed: called with a group's changes.
        adopted: called with definitions that another node changed.
    """

    def __init__(
        self,
        server: Server,
        *,
        waiting: Waiting[Item],
        now_us: Callable[[], int],
        announce: Callable[[dict[str, Head]], str],
        committed: Callable[[Sequence[Change], int], None],
        adopted: Callable[[int, tuple[Collection, ...]], None],
        history: History,
    ) -> None:
        self._history = history
        self._server = server
        self._waiting = waiting
        self._now_us = now_us
        self._announce = announce
        self._committed = committed
        self._adopted = adopted
        self._tables = Tables(locks=True)
        self._known = Known()
        self._definitions = Definitions(-1, (), locks=True)
        self._something = asyncio.Event()
        self._connection: Connection | None = None
        self._idle: list[Connection] = []
        self._lanes = Lanes(self._run_lane, self._refuse)
        self._task: asyncio.Task[None] | None = None
        self._unsure: set[asyncio.Task[None]] = set()
        self._pause_s = FIRST_PAUSE_S
        self._told = ""
        self._group_since: float | None = None
        prefix, numbers = secrets.token_hex(4), count(1)
        self._new_tx_id = lambda: f"{prefix}{next(numbers):x}"
        self.healthy = True
        self.groups = self.transactions = self.changes = self.faults = self.retries = self.last_group = 0

    async def open(self, version: int, collections: tuple[Collection, ...]) -> None:
        """Connect and begin to take transactions. Raises Unavailable, ConfigError."""
        self._definitions = Definitions(version, collections, locks=True)
        self._connection = await self._server.connect(timeout_s=STATEMENT_S)
        self._waiting.wake = self._something.set
        self._task = asyncio.get_running_loop().create_task(self._main(), name="writer")

    async def close(self) -> None:
        """Commit what waits, announce it, let go of the connections."""
        self._waiting.close()
        if self._task is not None:
            await self._task
        await self._lanes.close()
        if self._unsure:
            await asyncio.wait(tuple(self._unsure))
        for connection in (self._connection, *self._idle):
            await closed(connection)
        # Announcements come in the turn after the answers.
        await asyncio.sleep(0)

    def write(self, transaction: Transaction) -> "asyncio.Future[Committed]":
        """Queue a transaction. Raises Unavailable when the queue is full, ValidationFailed for unstorable values."""
        prepared = prepare(transaction, self._tables)
        try:
            for row in prepared.rows:
                check_values(row.bound)
                check_values((row.write.record_id, transaction.actor))
        except (UnicodeError, OverflowError) as error:
            raise refusal(error) from None
        future: asyncio.Future[Committed] = asyncio.get_running_loop().create_future()
        self._waiting.put(transaction.account_id, Item(prepared, future))
        return future

    def stats(self) -> dict[str, float]:
        return {
            "queue_length": self._waiting.length,
            "queue_bytes": self._waiting.size,
            "groups": self.groups,
            "group_writes": self.transactions,
            "last_group_size": self.last_group,
            "changes": self.changes,
            "faults": self.faults,
            "retries": self.retries,
            "healthy": int(self.healthy and not self._stuck),
            "side_lanes": len(self._lanes),
        }

    @property
    def _stuck(self) -> bool:
        """The database takes what it is sent and says nothing, as behind a line that swallows everything."""
        return self._group_since is not None and monotonic() - self._group_since > STUCK_S

    # The task --------------------------------------------------------------------------------------------------------

    async def _main(self) -> None:
        while not self._waiting.finished:
            try:
                await self._step()
            except Exception as error:
                # A defect of ours: without this task every write would wait for ever.
                log.error("the writer failed; it goes on", exc_info=error)
                await self._lose(error)
                await asyncio.sleep(self._pause_s)

    async def _step(self) -> None:
        """Write what waits, or wait for something to write."""
        if not self._waiting.length:
            await self._sleep()
        elif await self._connected():
            try:
                await self._group(self._waiting.take(most=GROUP_MOST, size=GROUP_BYTES))
            finally:
                self._group_since = None
        else:
            items = self._waiting.take(most=GROUP_MOST, size=GROUP_BYTES)
            fail(items, Unavailable("The database cannot be reached.", code="storage_error", retry_after_s=1))
            self._settle(items)

    async def _sleep(self) -> None:
        """Until there is something to do; while the database is away, look for it."""
        self._something.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PROBE_S if self.healthy else self._pause_s):
                await self._something.wait()
        if not self._waiting.length and not self._waiting.finished:
            await self._probe()

    async def _probe(self) -> None:
        """Whether the database still answers, when nobody else asks."""
        if not await self._connected():
            self._pause_s = min(self._pause_s * 2, LONGEST_PAUSE_S)
            return
        try:
            assert self._connection is not None  # noqa: S101 - connected
            async with asyncio.timeout(5), self._connection.transaction():
                standby = await self._connection.fetchval("SELECT pg_is_in_recovery()")
            if standby:
                raise asyncpg.ReadOnlySQLTransactionError
            await self._look(self._connection, fresh=False)
        except (asyncpg.PostgresError, *LOST) as error:
            await self._lose(error)
        else:
            self._found()

    def _found(self) -> None:
        if not self.healthy:
            log.warning("the database answers again")
        self.healthy, self._pause_s, self._told = True, FIRST_PAUSE_S, ""

    async def _connected(self) -> bool:
        if self._connection is not None and not self._connection.is_closed():
            return True
        try:
            self._connection = await self._server.connect(timeout_s=STATEMENT_S)
            await self._look(self._connection, fresh=True)
        except (Unavailable, ConfigError, asyncpg.PostgresError, *LOST) as error:
            # Once for each reason: it is refused, then starts, then wants another password.
            reason = reason_of(error)
            if reason != self._told:
                log.error("the database cannot be reached: %s", reason)
            self.healthy, self._told = False, reason
            connection, self._connection = self._connection, None
            await closed(connection)
            return False
        return True

    async def _look(self, connection: Connection, *, fresh: bool) -> None:
        """Whether the database still holds what this process remembers of it."""
        if await self._history.continues(connection, fresh=fresh):
            return
        self._known = Known()
        self.adopt(*await drive(connection, read_collections()))
        asyncio.get_running_loop().call_soon(self._history.told)

    async def _lose(self, error: BaseException) -> None:
        """The connection is of no use any more."""
        self.faults += 1
        if self.healthy:
            log.error("the connection to the database is lost: %s", type(error).__name__)
        self.healthy = False
        connection, self._connection = self._connection, None
        await closed(connection)

    # Groups ----------------------------------------------------------------------------------------------------------

    async def _group(self, items: Sequence[Item]) -> None:
        self.groups += 1
        self.transactions += len(items)
        self.last_group = len(items)
        connection = self._connection
        assert connection is not None  # noqa: S101 - connected
        held = False
        for attempt in range(TRIES):
            self._group_since = monotonic()
            try:
                if held:
                    held, items = False, await self._without_held(connection, items)
                await self._look(connection, fresh=False)
                await self._attempt(connection, items, LOCK_MS)
            except AGAIN as error:
                await self._again(connection, error, attempt)
                continue
            except HeadsHeld as error:
                await self._again(connection, error, attempt)
                held = True
                continue
            except OutcomeUnknown as error:
                await self._lose(error.__cause__ or error)
                self._ask(error.run, items)
                return
            except BaseException as error:
                await self._lost(error, items)
                if isinstance(error, asyncio.CancelledError):
                    raise
            self._settle(items)
            return
        fail(items, busy())
        self._settle(items)

    async def _without_held(self, connection: Connection, items: Sequence[Item]) -> Sequence[Item]:
        """Send those away whose account's number somebody holds; the others."""
        numbers = {one: num for one, num in self._known.numbers.items() if one in _accounts(items)}
        async with connection.transaction(isolation="read_committed"):
            await connection.execute(f"SET LOCAL lock_timeout = {HEADS_MS}")
            free = {num for (num,) in await connection.fetch(FREE_HEADS, list(numbers.values()))}
        rest = []
        for item in items:
            account_id = item.prepared.transaction.account_id
            if numbers.get(account_id) in free or account_id not in numbers:
                rest.append(item)
            else:
                self._lanes.add(item, [head_of(account_id)])
        return rest

    async def _again(self, connection: Connection, error: BaseException, attempt: int) -> None:
        self.retries += 1
        with contextlib.suppress(asyncpg.PostgresError, *LOST):
            await connection.execute("ROLLBACK")
            if isinstance(error, asyncpg.InvalidCachedStatementError):
                await connection.reload_schema_state()
        # Two nodes that met once must not meet again at once.
        await asyncio.sleep(secrets.randbelow(10) * 0.001 * attempt)

    async def _attempt(
        self, connection: Connection, items: Sequence[Item], lock_ms: int, *, first: Sequence[Key] | None = None
    ) -> None:
        lane = first is not None
        for item in items:
            item.result = item.error = None
        run = Run(
            connection,
            definitions=self._definitions,
            known=self._known,
            new_tx_id=self._new_tx_id,
            now_us=self._now_us(),
            lock_ms=lock_ms,
            busy=(lambda _key: False) if lane else self._lanes.busy,
            announce=self._announce,
            first=first or (),
        )
        await run.group(items)
        self._found()
        for item, keys in run.moved:
            if lane:
                item.error = busy()
            else:
                self._lanes.add(item, keys)
        self._done(run)

    def _done(self, run: Run) -> None:
        """A group is committed."""
        if run.reloaded is not None:
            self.adopt(*run.reloaded)
        self.changes += len(run.changes)
        if run.changes:
            changes, size = run.changes, run.size
            # After those who wait: their futures are settled in this turn.
            loop = asyncio.get_running_loop()
            loop.call_soon(lambda: loop.call_soon(self._committed, changes, size))

    def adopt(self, version: int, collections: tuple[Collection, ...]) -> None:
        """Definitions that this node or another changed."""
        if version > self._definitions.version:
            self._definitions = Definitions(version, collections, locks=True)
            asyncio.get_running_loop().call_soon(self._adopted, version, collections)

    async def _lost(self, error: BaseException, items: Sequence[Item]) -> None:
        """A group failed as a whole: in what words, and with what connection does it go on?"""
        if isinstance(error, asyncio.CancelledError):
            answer: Exception = Unavailable("The server is stopping.", code="stopping", retry_after_s=1)
            await self._lose(error)
        else:
            fault = fault_of(error)
            answer = fault or answer_to(error)  # type: ignore[arg-type]  # CancelledError is answered above
            if fault is None:
                # A defect of ours: the requests answer 500 with it, and the task lives on.
                log.error("a group of writes failed", exc_info=error)
            await self._lose(error)
        fail(items, answer)

    def _settle(self, items: Sequence[Item]) -> None:
        for item in items:
            if item.result is not None or item.error is not None:
                settle(item.future, item.result, item.error)

    # Commits without an answer ---------------------------------------------------------------------------------------

    def _ask(self, run: Run, items: Sequence[Item]) -> None:
        """Find out beside the other groups; who waits is told as soon as it is known."""
        moved = {item for item, _ in run.moved}
        for item, keys in run.moved:
            self._lanes.add(item, keys)
        unsure = [item for item in items if item not in moved]
        task = asyncio.get_running_loop().create_task(self._learn(run, unsure), name="commit-outcome")
        self._unsure.add(task)
        task.add_done_callback(self._unsure.discard)

    async def _learn(self, run: Run, items: Sequence[Item]) -> None:
        done = await was_committed(self._server, run.xid, run.changes)
        if done:
            run.settle()
            self._done(run)
        else:
            fail(items, _unanswered(done))
        self._settle(items)

    # Side lanes ------------------------------------------------------------------------------------------------------

    def _refuse(self, item: Item, error: Exception) -> None:
        item.error = error
        self._settle([item])

    def _rested(self) -> Connection | None:
        """A connection of a side lane from before that has outlived its rest."""
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed():
                return connection
        return None

    async def _run_lane(self, item: Item, keys: Sequence[Key], deadline: float) -> None:
        """One transaction by itself, with patience."""
        connection = None
        try:
            connection = self._rested() or await self._server.connect(timeout_s=STATEMENT_S)
            for attempt in range(TRIES):
                try:
                    left_ms = max(1, int((deadline - monotonic()) * 1000))
                    await self._attempt(connection, [item], left_ms, first=keys)
                    break
                except AGAIN as error:
                    await self._again(connection, error, attempt)
            else:
                item.error = busy()
            self._idle.append(connection)
        except OutcomeUnknown as error:
            await closed(connection)
            await self._learn(error.run, [item])
            return
        except Exception as error:
            item.result, item.error = None, _lane_answer(error)
            await closed(connection)
        self._settle([item])


def _accounts(items: Sequence[Item]) -> set[str]:
    return {item.prepared.transaction.account_id for item in items}


def _lane_answer(error: Exception) -> Exception:
    if isinstance(error, HeadsHeld):
        return busy()
    return fault_of(error) or answer_to(error)


def _unanswered(done: bool | None) -> Unavailable:
    """What a write is told whose commit was not answered, and was not done as far as is known."""
    if done is None:
        message = (
            "The connection to the database was lost in the middle of the commit, and it is not known whether the "
            "write happened; read before you write again."
        )
        return Unavailable(message, code="outcome_unknown", retry_after_s=5)
    message = "The connection to the database was lost before the commit; nothing was written."
    return Unavailable(message, code="storage_error", retry_after_s=1)
