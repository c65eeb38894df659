"""One group of transactions in one SQL transaction: waves, single ones, numbers, NOTIFY, COMMIT (step 4 of the path).

READ COMMITTED, since the newest row is what a rule has to judge and a counter to count on. A transaction that fails is
undone to its savepoint and takes no number. One whose record or table somebody else holds leaves the group: `moved`; it
waits elsewhere, and delays nobody. Must not settle futures or announce: whoever runs it does, after COMMIT returned.
"""

from collections.abc import Callable, Iterable, Sequence

import asyncpg

from snackbase.errors import Unavailable
from snackbase.model import Change, Collection, Head
from snackbase.storage.asking import Asking
from snackbase.storage.base import Committed
from snackbase.storage.codec import NulError
from snackbase.storage.definitions import Definitions, read_collections
from snackbase.storage.group import Item
from snackbase.storage.postgres.link import (
    AGAIN,
    LOCKED,
    LOST,
    Connection,
    drive,
    fault_of,
    refused_value,
)
from snackbase.storage.postgres.numbers import SCHEMA, Entry, Known, Numbering
from snackbase.storage.postgres.wave import Key, Member, Sorter, Wave, lock_text
from snackbase.storage.statements import READ_VERSION
from snackbase.storage.transaction import Application, Work, refusal

# A node that stops in the middle of a group (paused, cut off) must not hold an account's number for ever.
START = "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL idle_in_transaction_session_timeout = 5000"
SHARE = f"SELECT pg_advisory_xact_lock_shared({SCHEMA})"
"""From here on no table changes its shape; whoever wants to change one waits, and all new groups wait behind that."""
BEGIN = f"{START}; {SHARE}; SET LOCAL lock_timeout = %d"
HEADS_MS = 1000
"""How long the numbers of other groups are waited for."""
SAVE = "SAVEPOINT one; SET LOCAL lock_timeout = %d"
TAKE_TABLE = "SAVEPOINT one; LOCK TABLE %s IN %s MODE NOWAIT; RELEASE SAVEPOINT one"
UNDO = "ROLLBACK TO SAVEPOINT one; RELEASE SAVEPOINT one"
LOOK = f"SELECT ({READ_VERSION}), pg_current_xact_id()::text"
READ_ACCOUNTS = """SELECT a.id, a.num, coalesce(h.ts_us, 0) FROM _accounts a LEFT JOIN _heads h ON h.account = a.num
    WHERE a.id = ANY($1::text[])"""


class OutcomeUnknown(Exception):
    """COMMIT was sent, and its answer never came."""

    def __init__(self, run: "Run") -> None:
        super().__init__()
        self.run = run


class HeadsHeld(Exception):
    """Somebody holds the number of one of the group's accounts for long. Nothing was written."""


def head_of(account_id: str) -> Key:
    """Stands for an account's number among the records that are waited for."""
    return ("#", account_id, "")


def tables_of(item: Item, keys: Iterable[Key]) -> list[Key]:
    """Stand for the tables of a transaction's records, each with the lock that it needs there (LOCK TABLE)."""
    written = {row.write.collection.id for row in item.prepared.rows}
    collections = dict.fromkeys(key[0] for key in keys)
    return [(one, "", "ROW EXCLUSIVE" if one in written else "ROW SHARE") for one in collections]


class Run:
    """
    Args:
        definitions: as they were in the last group; `definitions` afterwards, with `reloaded` set, if they changed.
        lock_ms: how long a lock is waited for.
        busy: records that somebody waits for elsewhere: who touches them waits there too.
        announce: statements that tell other nodes of the new heads.
        first: records to be locked before all others: those that somebody else holds.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        definitions: Definitions,
        known: Known,
        new_tx_id: Callable[[], str],
        now_us: int,
        lock_ms: int,
        busy: Callable[[Key], bool],
        announce: Callable[[dict[str, Head]], str],
        first: Sequence[Key] = (),
    ) -> None:
        self._first = first
        self._connection = connection
        self._known = known
        self._now_us = now_us
        self._lock_ms = lock_ms
        self._busy = busy
        self._announce = announce
        self._numbering = Numbering(known, new_tx_id)
        self._entries: list[tuple[Item, Work, Entry | None]] = []
        self._blocked: set[Key] = set()
        self._release = f"RELEASE SAVEPOINT one; SET LOCAL lock_timeout = {max(lock_ms, HEADS_MS)}"
        self.definitions = definitions
        self.xid = ""
        self.reloaded: tuple[int, tuple[Collection, ...]] | None = None
        self.moved: list[tuple[Item, Sequence[Key]]] = []
        self.changes: list[Change] = []

    @property
    def size(self) -> int:
        """Bytes the log grew by."""
        return self._numbering.size

    async def group(self, items: Sequence[Item]) -> None:
        """Carry out and commit. Afterwards each item has its result or its error, or stands in `moved`.

        Raises:
            OutcomeUnknown. What link.AGAIN names: undone, to be done again. Other errors of the database: undone.
        """
        connection = self._connection
        await self._begin()
        await self._look(items)
        sorter = Sorter(self.definitions)
        self._application = Application(self._numbering, self.definitions)
        waiting = [item for item in items if not self._moved_at_once(sorter, item)]
        while waiting:
            wave, alone, waiting = sorter.split(waiting)
            if self._blocked:
                wave = self._free(wave)
            if wave:
                await self._wave(wave)
            for item in alone:
                await self._single(item, place_of(item))
        try:
            self.changes = await self._numbering.flush(connection, self._now_us)
        except LOCKED as error:
            raise HeadsHeld from error
        await self._commit()
        self.settle()

    def settle(self) -> None:
        """It is committed: give each item its result."""
        for item, work, entry in self._entries:
            changes, head = (entry.changes, entry.head) if entry is not None else ((), Head(0, 0))
            item.result = Committed(changes=changes, head=head, written=tuple(work.written), repeated=work.repeated)
        self._known.note(self._numbering.numbers, self._numbering.heads)

    async def _commit(self) -> None:
        told = self._announce({change.account_id: Head(change.seq, change.ts_us) for change in self.changes})
        try:
            await self._connection.execute(f"{told}COMMIT")
        except (*LOST, asyncpg.OperatorInterventionError) as error:
            raise OutcomeUnknown(self) from error

    async def _look(self, items: Sequence[Item]) -> None:
        """The definitions in force, and the accounts' numbers."""
        version, self.xid = await self._connection.fetchrow(LOOK)
        if int(version) != self.definitions.version:
            self.reloaded = await drive(self._connection, read_collections())
            self.definitions = Definitions(*self.reloaded, locks=True)
        missing = self._numbering.missing([item.prepared.transaction.account_id for item in items])
        if missing:
            for account_id, num, ts_us in await self._connection.fetch(READ_ACCOUNTS, missing):
                self._numbering.found(account_id, num, ts_us)
                # They are committed: known from here on, whatever becomes of this group.
                self._known.note({account_id: num}, {num: Head(0, ts_us)})

    async def _begin(self) -> None:
        """Lock what somebody else holds before anything else is held, so that nobody waits for what only waits: no
        other write, and no schema change."""
        connection, lock_ms = self._connection, max(self._lock_ms, HEADS_MS)
        if self._first:
            await connection.execute(f"{START}; SET LOCAL lock_timeout = {lock_ms}")
            try:
                for key in self._first:
                    await self._wait_for(key)
            except asyncpg.UndefinedTableError:
                # Dropped meanwhile; the definitions of now say so.
                await connection.execute("ROLLBACK")
            else:
                await connection.execute(f"SET LOCAL lock_timeout = 0; {SHARE}; SET LOCAL lock_timeout = {lock_ms}")
                return
        await connection.execute(BEGIN % lock_ms)

    async def _wait_for(self, key: Key) -> None:
        table = self.definitions.tables.get(key[0])
        if table is None:
            return
        if key[1]:
            sql = f"SELECT 1 FROM {table.name} WHERE id = $1 AND account_id = $2 FOR UPDATE"  # noqa: S608 - quoted
            await self._connection.fetch(sql, key[2], key[1])
        else:
            await self._connection.execute(f"LOCK TABLE {table.name} IN {key[2]} MODE")

    def _moved_at_once(self, sorter: Sorter, item: Item) -> bool:
        account_id = item.prepared.transaction.account_id
        keys = list(filter(self._busy, [head_of(account_id), *(sorter.simple(item) or place_of(item))]))
        if keys:
            self.moved.append((item, keys))
        return bool(keys)

    # Waves -----------------------------------------------------------------------------------------------------------

    async def _wave(self, members: Sequence[Member]) -> None:
        try:
            await self._connection.execute(SAVE % self._lock_ms)
            done = await self._try(members)
            await self._connection.execute(self._release)
        except LOCKED:
            await self._connection.execute(UNDO)
            rest = await self._without_blocked(members)
            if len(rest) == len(members):
                await self._singly(members)
            elif rest:
                await self._wave(rest)
        except (*AGAIN, *LOST):
            raise
        except (asyncpg.PostgresError, UnicodeError, OverflowError) as error:
            if fault_of(error) is not None:
                raise
            # One of them cannot be: each by itself, so that the others do not go with it.
            await self._connection.execute(UNDO)
            await self._singly(members)
        else:
            for member in done:
                self._enter(member.item, member.work)

    async def _try(self, members: Sequence[Member]) -> Sequence[Member]:
        wave = Wave(self._connection, self.definitions, self._numbering, members)
        await wave.read()
        going = await wave.refer(wave.judge(self._now_us))
        await wave.write(going)
        return going

    async def _without_blocked(self, members: Sequence[Member]) -> list[Member]:
        """Find what somebody holds, without waiting: whole tables, then records. Those who want it leave."""
        await self._look_at_tables(key for member in members for key in tables_of(member.item, member.keys))
        rest = self._free(members)
        for collection_id, table in self.definitions.tables.items():
            keys = [key for member in rest for key in member.keys if key[0] == collection_id]
            if not keys:
                continue
            pairs = [key[2] for key in keys], [key[1] for key in keys]
            free = await self._connection.fetch(lock_text(table, " FOR UPDATE SKIP LOCKED"), *pairs)
            there = await self._connection.fetch(lock_text(table, ""), *pairs)
            held = {(row["account_id"], row["id"]) for row in there} - {(row["account_id"], row["id"]) for row in free}
            self._blocked.update((collection_id, *place) for place in held)
        return self._free(rest)

    async def _look_at_tables(self, keys: Iterable[Key]) -> None:
        """Note which of the tables somebody holds as a whole: a LOCK TABLE, an index that is built, a VACUUM FULL."""
        for key in dict.fromkeys(keys):
            table = self.definitions.tables.get(key[0])
            if table is None:
                continue
            try:
                await self._connection.execute(TAKE_TABLE % (table.name, key[2]))
            except LOCKED:
                await self._connection.execute(UNDO)
                self._blocked.add(key)

    def _free(self, members: Sequence[Member]) -> list[Member]:
        """Those who want nothing that is held; the others leave."""
        rest = []
        for member in members:
            member.item.error = None
            held = self._held(member.item, member.keys)
            if held:
                self.moved.append((member.item, held))
            else:
                rest.append(member)
        return rest

    def _held(self, item: Item, keys: Sequence[Key]) -> Sequence[Key]:
        """What of a transaction's records is held. Its table: then it keeps its place in the order of its records."""
        tables = [key for key in tables_of(item, keys) if key in self._blocked]
        return [*tables, *keys] if tables else [key for key in keys if key in self._blocked]

    async def _singly(self, members: Sequence[Member]) -> None:
        for member in members:
            member.item.error = None
            await self._single(member.item, member.keys)

    # One by one ------------------------------------------------------------------------------------------------------

    async def _single(self, item: Item, keys: Sequence[Key]) -> None:
        if self._blocked and (held := self._held(item, keys)):
            self.moved.append((item, held))
            return
        transaction = item.prepared.transaction
        asking: Asking[Work] = self._application.run(transaction, item.prepared.rows, self._now_us)
        locked = False
        try:
            await self._connection.execute(SAVE % self._lock_ms)
            work = await drive(self._connection, asking)
            await self._connection.execute(self._release)
        except LOCKED:
            locked = True
        except (*AGAIN, *LOST):
            raise
        except Exception as error:
            if isinstance(error, asyncpg.PostgresError) and fault_of(error) is not None:
                raise
            item.error = answer_to(error)
        else:
            self._enter(item, work)
            return
        await self._connection.execute(UNDO)
        self._numbering.forget(transaction.account_id)
        if locked:
            await self._look_at_tables(tables_of(item, keys))
            held = self._held(item, keys)
            self._blocked.update(held or keys)
            self.moved.append((item, held or keys))

    def _enter(self, item: Item, work: Work | None) -> None:
        assert work is not None  # noqa: S101 - who got here was judged
        entry = None
        if work.slot is not None:
            entry = self._numbering.append(work.slot, item.prepared.transaction, work.drafts)
        self._entries.append((item, work, entry))


def place_of(item: Item) -> Sequence[Key]:
    """What a transaction that goes by itself may have to wait for: its records, its account's other statements."""
    transaction = item.prepared.transaction
    keys = [(row.write.collection.id, transaction.account_id, row.write.record_id) for row in item.prepared.rows]
    if transaction.statements:
        keys.append(("", transaction.account_id, ""))
    if transaction.receipt is not None:
        keys.append(("", transaction.receipt.owner, transaction.receipt.key))
    return keys


def answer_to(error: Exception) -> Exception:
    """What the caller gets for an error that ended its transaction and no other."""
    if isinstance(error, NulError | asyncpg.CharacterNotInRepertoireError | asyncpg.UntranslatableCharacterError):
        return refusal(NulError())
    if isinstance(error, asyncpg.DataError) and isinstance(error.__cause__, OverflowError | UnicodeError):
        return refusal(error.__cause__)
    return refused_value(error) or refusal(error)


def busy() -> Unavailable:
    """Somebody held the record for longer than anybody waits."""
    message = "Another session of the database holds this record; nothing was written."
    return Unavailable(message, code="storage_busy", retry_after_s=5)
