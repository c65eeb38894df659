"""The only thread that writes: takes what waits, commits it as one SQL transaction, hands the results to the loop.

Group commit: up to 256 waiting transactions share one BEGIN, the insert of their log rows and one fsync. Each has a
savepoint, so that one which fails is undone alone and takes no number. The thread never waits for a group to fill.
Promises I1-I3 and I5: futures are resolved and changes announced only after COMMIT returned. A fault of the disk fails
the group, never the thread; after a failed attempt, an idle writer tries every second until the disk takes writes
again. Step 4 of the path.
"""

import asyncio
import contextlib
import logging
import secrets
import threading
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from time import monotonic
from typing import Any

import apsw

from snackbase.errors import Unavailable
from snackbase.model import Change, Collection, Head, rfc3339
from snackbase.storage.asking import drive
from snackbase.storage.base import Committed, SchemaChange, Transaction
from snackbase.storage.changelog import ChangeLog
from snackbase.storage.checkpoint import Checkpoints
from snackbase.storage.connection import DAMAGED, connect, enter_wal, storage_fault
from snackbase.storage.definitions import Definitions, read_collections
from snackbase.storage.epoch import History
from snackbase.storage.group import Crowd, GroupLost, Item, fail, settle
from snackbase.storage.retention import Pruner
from snackbase.storage.schema import SQLITE
from snackbase.storage.schemachange import carry_out, decide
from snackbase.storage.statements import Tables
from snackbase.storage.transaction import Application, Work, prepare, refusal
from snackbase.storage.upgrade import Upgrade
from snackbase.storage.waiting import Waiting

log = logging.getLogger("snackbase.storage")

GROUP_MOST = 256
GROUP_BYTES = 1 << 20
PROBE_S = 1.0


class Writer:
    """Owns the read-write connection and its thread.

    Args:
        upgrade: brings an older folder to this program's shape.
        history: the sidecar that tells whether positions go on. pruner: what goes from the log, and when.
        now_us: wall clock in microseconds. on_commit, on_schema: called on the loop after a commit, in commit order.
        on_damage: called on the loop when a damaged page was met.
    """

    def __init__(
        self,
        path: Path,
        *,
        synchronous: str,
        waiting: Waiting[Item],
        upgrade: Upgrade,
        history: History,
        pruner: Pruner,
        now_us: Callable[[], int],
        on_commit: Callable[[Sequence[Change]], None],
        on_schema: Callable[[int, tuple[Collection, ...]], None],
        on_damage: Callable[[], None],
    ) -> None:
        self._path = path
        self._synchronous = synchronous
        self._waiting = waiting
        self._upgrade = upgrade
        self._history = history
        self._pruner = pruner
        self._now_us = now_us
        self._on_commit = on_commit
        self._on_schema = on_schema
        self._on_damage = on_damage
        self._tables = Tables()
        self._checkpoints = Checkpoints()
        prefix, numbers = secrets.token_hex(4), count(1)
        self._log = ChangeLog(lambda: f"{prefix}{next(numbers):x}")
        self._data_version: int | None = None
        self._thread: threading.Thread | None = None
        self._announcements: list[Callable[[], None]] = []
        self._crowd = Crowd()
        self.healthy = True
        self.groups = self.transactions = self.changes = self.faults = self.last_group = 0

    # On the event loop.

    async def open(self, *, new_epoch: str) -> None:
        """Open and migrate the file on the thread that will own it, then start taking transactions."""
        self._loop = asyncio.get_running_loop()
        opened: asyncio.Future[None] = self._loop.create_future()
        # A daemon: an exit without close() must not hang; what was not acknowledged may be lost then, nothing else.
        self._thread = threading.Thread(
            target=self._main, args=(opened, new_epoch), name="snackbase-writer", daemon=True
        )
        self._thread.start()
        await opened

    async def close(self) -> None:
        """Commit what waits, announce it, checkpoint, end the thread."""
        self._waiting.close()
        if self._thread is not None:
            await self._loop.run_in_executor(None, self._thread.join)
            # The thread's last message to the loop came before its end, its announcements come before this turn's end.
            await asyncio.sleep(0)

    def write(self, transaction: Transaction) -> "asyncio.Future[Committed]":
        """Queue a transaction. Raises Unavailable when the queue is full, ValidationFailed for unstorable values."""
        prepared = prepare(transaction, self._tables)
        future: asyncio.Future[Committed] = self._loop.create_future()
        self._waiting.put(transaction.account_id, Item(prepared, future), wake=not self._crowd.several)
        if self._crowd.came():
            self._loop.call_soon(self._crowd.rouse, self._waiting.rouse)
        return future

    def alter(self, change: SchemaChange) -> "asyncio.Future[Collection | None]":
        """Queue a schema change: a transaction of its own, before the next group."""
        future: asyncio.Future[Collection | None] = self._loop.create_future()
        self._waiting.put_job(lambda: self._alter(change, future))
        return future

    def reopen(self) -> None:
        """Have the thread go on with a fresh connection, before the next group."""
        with contextlib.suppress(Unavailable):
            self._waiting.put_job(self._reconnect)

    def stats(self) -> dict[str, float]:
        return {
            "queue_length": self._waiting.length,
            "queue_bytes": self._waiting.size,
            "groups": self.groups,
            "group_writes": self.transactions,
            "last_group_size": self.last_group,
            "changes": self.changes,
            "faults": self.faults,
            "healthy": int(self.healthy),
            "wal_pages": self._checkpoints.pages,
            "checkpoints": self._checkpoints.done,
            "log_rows": self._pruner.rows,
            "log_bytes": self._pruner.size,
            "pruned_rows": self._pruner.pruned,
            "log_sweeps": self._pruner.sweeps,
            "oldest_change_seconds": self._oldest_s(),
        }

    def _oldest_s(self) -> float:
        oldest_us = self._pruner.oldest_us
        return max(0, self._now_us() - oldest_us) / 1_000_000 if oldest_us else 0.0

    # On the writer thread.

    def _main(self, opened: "asyncio.Future[None]", new_epoch: str) -> None:
        try:
            self._open(new_epoch)
        except Exception as error:
            self._tell(settle, opened, None, error)
            return
        self._tell(settle, opened, None, None)
        while not self._waiting.finished:
            if not self._waiting.wait(self._patience()):
                self._idle()
                continue
            job = self._waiting.take_job()
            if job is not None:
                job()
            elif self._waiting.length:
                self._group()
                if self.healthy and self._pruner.patience() == 0:
                    self._prune()
        with contextlib.suppress(apsw.Error):
            self._history.end(self._run)
        self._checkpoints.last(self._connection)
        with contextlib.suppress(apsw.Error):
            self._connection.close()

    def _open(self, new_epoch: str) -> None:
        self._connection = connect(self._path, synchronous=self._synchronous, writer=True)
        self._cursor = self._connection.cursor()
        self._cursor.execute("BEGIN IMMEDIATE")
        try:
            created = self._upgrade.carry_out(self._run, now=rfc3339(self._now_us()))
            self._history.begin(self._run, new_epoch, created=created)
            self._application = Application(self._log, Definitions(*drive(self._cursor, read_collections())))
            self._cursor.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._cursor.execute("ROLLBACK")
            self._connection.close()
            self._upgrade.failed()
            raise
        self._upgrade.done()
        enter_wal(self._connection)
        self._checkpoints.watch(self._connection)

    def _run(self, sql: str, args: Sequence[Any]) -> list[tuple[Any, ...]]:
        return self._cursor.execute(sql, tuple(args)).fetchall()

    def _patience(self) -> float:
        if not self.healthy:
            return PROBE_S
        pruning = self._pruner.patience()
        checkpoint = self._checkpoints.patience()
        return pruning if checkpoint is None else min(pruning, checkpoint)

    def _idle(self) -> None:
        """Nobody writes: prune, copy the WAL back, or look whether a failed disk takes writes again."""
        if self.healthy:
            if self._pruner.patience() == 0:
                self._prune()
            elif self._checkpoints.patience() is not None:
                self._checkpoints.idle(self._connection)
            self._remember()
            return
        try:
            self._begin()
            self._guard("INSERT OR REPLACE INTO _meta(key, value) VALUES ('probe', ?)", (str(self._now_us()),))
            self._commit()
        except GroupLost:
            pass
        except Exception:
            # Counted as a fault; whoever writes next meets the same and is told. The thread lives on.
            self._give_up()
        if self._announcements:
            self._deliver([])

    def _group(self) -> None:
        """Commit one group. BEGIN comes before the group is taken, so what arrives while it waits for a lock joins."""
        items: list[Item] = []
        try:
            self._begin()
            items = self._waiting.take(most=GROUP_MOST, size=GROUP_BYTES)
            changes = self._apply(items)
            self._commit()
            self.changes += len(changes)
            self._pruner.rows += len(changes)
            if changes:
                self._announcements.append(lambda: self._on_commit(changes))
        except GroupLost as lost:
            items = items or self._waiting.take(most=GROUP_MOST, size=GROUP_BYTES)
            fail(items, lost.answer)
        except Exception as error:
            # A defect of ours: the requests answer 500 with it, and the thread lives on.
            self._give_up()
            fail(items, error)
        self.groups += 1
        self.transactions += len(items)
        self.last_group = len(items)
        self._deliver(items)
        self._checkpoints.after_group(self._connection)
        self._remember()

    def _remember(self) -> None:
        with contextlib.suppress(apsw.Error):
            self._history.refresh(self._run)

    def _prune(self) -> None:
        """One step towards a shorter log: a look around, or one piece of one account."""
        began = monotonic()
        try:
            if not drive(self._cursor, self._pruner.wanted()):
                return
            self._begin()
            drive(self._cursor, self._pruner.delete())
            self._commit()
        except Exception as error:
            # A full or broken disk is the next write's to tell; the rows are found again by the next sweep.
            self._pruner.give_up()
            if not isinstance(error, GroupLost):
                self._give_up()
                log.error("pruning the change log failed", exc_info=error)
        self._pruner.over(monotonic() - began)
        if self._announcements:
            self._deliver([])
        self._checkpoints.after_group(self._connection)

    def _apply(self, items: list[Item]) -> list[Change]:
        changes: list[Change] = []
        for item in items:
            work = self._apply_one(item, guarded=len(items) > 1 and not item.prepared.atomic)
            if work is None:
                continue
            committed: tuple[Change, ...] = ()
            head = Head(0, 0)
            if work.slot is not None:
                account_id, actor = item.prepared.transaction.account_id, item.prepared.transaction.actor
                committed = self._log.append(work.slot, account_id, work.drafts, ts_us=work.ts_us, actor=actor)
                head = work.slot.head
            item.result = Committed(changes=committed, head=head, written=tuple(work.written), repeated=work.repeated)
            changes += committed
        return changes

    def _apply_one(self, item: Item, *, guarded: bool) -> Work | None:
        """Apply one transaction; None: it failed and is undone, with its error in the item.

        Raises:
            GroupLost: the fault concerns everybody.
        """
        execute = self._cursor.execute
        try:
            if guarded:
                execute("SAVEPOINT one")
            asking = self._application.run(item.prepared.transaction, item.prepared.rows, self._now_us())
            work = drive(self._cursor, asking)
            if guarded:
                execute("RELEASE one")
        except Exception as error:
            if isinstance(error, apsw.Error) and (storage_fault(error) or not self._connection.in_transaction):
                raise self._lose(error) from error
            item.error = refusal(error)
            self._log.forget(item.prepared.transaction.account_id)
            if guarded:
                self._guard("ROLLBACK TO one")
                self._guard("RELEASE one")
            elif not item.prepared.atomic:
                # Alone in its group: there is nobody else's work to keep.
                self._guard("ROLLBACK")
                self._begin()
            return None
        return work

    def _begin(self) -> None:
        """Take the write lock; notice what another process wrote since."""
        self._guard("BEGIN IMMEDIATE")
        try:
            if self._connection.data_version() != self._data_version:
                self._log.drop()
                self._reload()
        except apsw.Error as error:
            raise self._lose(error) from error

    def _reload(self) -> None:
        """Read the definitions anew when somebody else changed them."""
        version, collections = drive(self._cursor, read_collections())
        if version != self._application.definitions.version:
            self._use(version, collections)

    def _use(self, version: int, collections: tuple[Collection, ...]) -> None:
        self._application.definitions = Definitions(version, collections)
        self._announcements.append(lambda: self._on_schema(version, collections))

    def _commit(self) -> None:
        """Write the log and commit.

        Raises:
            GroupLost: with `outcome_unknown` when COMMIT itself failed for another reason than a full disk.
        """
        try:
            size = self._log.flush(self._cursor)
        except apsw.Error as error:
            raise self._lose(error) from error
        try:
            self._cursor.execute("COMMIT")
        except apsw.Error as error:
            raise self._lose(error, committing=True) from error
        # Every commit changes it, our own too; so one of another process is noticed when it is another at BEGIN.
        self._data_version = self._connection.data_version()
        self._pruner.size += size
        self.healthy = True

    def _guard(self, sql: str, args: Sequence[Any] = ()) -> None:
        try:
            self._cursor.execute(sql, args)
        except apsw.Error as error:
            raise self._lose(error) from error

    def _lose(self, error: apsw.Error, *, committing: bool = False) -> GroupLost:
        """Give the SQL transaction up and forget what was read in it."""
        self._give_up()
        self.healthy = False
        answer = storage_fault(error) or Unavailable("The database failed.", code="storage_error", retry_after_s=5)
        if answer.code == DAMAGED:
            self._tell(self._on_damage)
        if committing and not isinstance(error, apsw.FullError):
            answer = Unavailable(
                "The commit failed, and it is not known whether the write happened; read before you write again.",
                code="outcome_unknown",
                retry_after_s=5,
            )
        return GroupLost(answer)

    def _give_up(self) -> None:
        self.faults += 1
        self._log.drop()
        self._data_version = None
        try:
            if self._connection.in_transaction:
                self._cursor.execute("ROLLBACK")
        except apsw.Error:
            self._reconnect()

    def _reconnect(self) -> None:
        """Replace a connection that cannot even roll back; if that fails too, the next group tries again."""
        self._data_version = None
        with contextlib.suppress(apsw.Error):
            self._connection.close(force=True)
        with contextlib.suppress(apsw.Error):
            self._connection = connect(self._path, synchronous=self._synchronous, writer=True)
            self._cursor = self._connection.cursor()
            self._application = Application(self._log, self._application.definitions)
            self._checkpoints.watch(self._connection)

    def _alter(self, change: SchemaChange, future: "asyncio.Future[Collection | None]") -> None:
        after: Collection | None = None
        failed: Exception | None = None
        try:
            self._begin()
            try:
                decided = drive(self._cursor, decide(change, SQLITE, apsw.format_sql_value))
                after = drive(self._cursor, carry_out(decided, change, now=rfc3339(self._now_us())))
                version, collections = drive(self._cursor, read_collections())
            except Exception as error:
                if isinstance(error, apsw.Error) and (storage_fault(error) or not self._connection.in_transaction):
                    raise self._lose(error) from error
                self._guard("ROLLBACK")
                raise
            self._commit()
            self._use(version, collections)
        except GroupLost as lost:
            failed = lost.answer
        except Exception as error:
            failed = refusal(error)
        self._deliver([], (future, None if failed else after, failed))

    def _deliver(self, items: Sequence[Item], *settled: "tuple[asyncio.Future[Any], Any, Exception | None]") -> None:
        """Wake the loop once for the whole group. Announcements come in a later turn, after the waiting requests."""
        announcements, self._announcements = self._announcements, []

        def arrive() -> None:
            self._crowd.went(len(items))
            for item in items:
                settle(item.future, item.result, item.error)
            for future, result, error in settled:
                settle(future, result, error)
            for announce in announcements:
                self._loop.call_soon(announce)

        self._tell(arrive)

    def _tell(self, function: Callable[..., None], *args: object) -> None:
        # RuntimeError: the loop is closed; nobody waits any more, what was committed is in the log.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *args)
