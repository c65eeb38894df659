"""The writer's side of the change log on PostgreSQL: the numbers of one group, taken at its very end.

The row of an account's head is locked as the last thing before the log rows, in the order of account numbers, and stays
locked until COMMIT; so whoever takes the next number sees everything up to the one before (invariants I2 to I4). Only
who has to know its number earlier, to keep an answer with it, locks earlier. Nothing of a head is remembered from group
to group but its time, which only ever helps to keep the clock from running backwards.
"""

from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any

import msgspec

from snackbase.model import Change, Head
from snackbase.storage.asking import Ask, Asking
from snackbase.storage.base import Transaction
from snackbase.storage.changelog import Draft, Slot, numbered
from snackbase.storage.codec import encode
from snackbase.storage.postgres.link import Connection, translated
from snackbase.storage.statements import APPEND_CHANGE, READ_HEAD, ROW_BYTES

MOST_KNOWN = 100_000
ANY_STATEMENTS = 0x5B00_0001
"""Advisory lock: shared by transactions with statements, held alone by those that count over all accounts."""
SCHEMA = 0x5B00_0002
"""Advisory lock: shared by groups, held alone by whoever changes a collection's table."""

LOCK_HEAD = "SELECT seq, ts_us FROM _heads WHERE account = ? FOR UPDATE"
MAKE_HEAD = "INSERT INTO _heads(account, seq, ts_us) VALUES (?, 0, 0) ON CONFLICT(account) DO NOTHING"
MOVE_HEAD = translated(
    """INSERT INTO _heads(account, seq, ts_us, bytes) VALUES (?, ?, ?, ?) ON CONFLICT(account) DO UPDATE SET
    seq = _heads.seq + excluded.seq, ts_us = greatest(_heads.ts_us, excluded.ts_us),
    bytes = _heads.bytes + excluded.bytes RETURNING account, seq, ts_us"""
)
READ_SOME = "SELECT account, seq, ts_us FROM _heads WHERE account = ANY($1::bigint[])"
APPEND = translated(APPEND_CHANGE)


def lock_key(*words: str) -> int:
    """An advisory lock's number: 63 bits of a hash, so it never meets the two above but by an accident that costs a
    moment's wait."""
    return int.from_bytes(blake2b("\0".join(words).encode("utf-8", "surrogatepass"), digest_size=8).digest()) >> 1


class Known(msgspec.Struct):
    """What a process may remember of accounts: the number that stands for an id, and the newest time it has seen."""

    numbers: dict[str, int] = {}
    times: dict[int, int] = {}

    def note(self, numbers: dict[str, int], heads: dict[int, Head]) -> None:
        if len(self.numbers) + len(numbers) > MOST_KNOWN:
            self.numbers.clear()
        if len(self.times) + len(heads) > MOST_KNOWN:
            self.times.clear()
        self.numbers.update(numbers)
        for num, head in heads.items():
            self.times[num] = max(head.ts_us, self.times.get(num, 0))


class Entry:
    """One transaction that was carried out and waits for its numbers. `head`: its account's after it."""

    __slots__ = ("account_id", "actor", "changes", "drafts", "head", "slot")

    def __init__(self, slot: Slot, account_id: str, actor: str | None, drafts: Sequence[Draft]) -> None:
        self.slot = slot
        self.account_id = account_id
        self.actor = actor
        self.drafts = drafts
        self.changes: tuple[Change, ...] = ()
        self.head = Head(0, 0)


class Numbering:
    """The numbers of one group.

    Args:
        new_tx_id: names a transaction.
    """

    def __init__(self, known: Known, new_tx_id: Callable[[], str]) -> None:
        self._known = known
        self._new_tx_id = new_tx_id
        self._there: dict[str, tuple[int, int]] = {}
        self._slots: dict[str, Slot] = {}
        self._exact: set[str] = set()
        self._entries: list[Entry] = []
        self.numbers: dict[str, int] = {}
        self.heads: dict[int, Head] = {}
        self.rows = self.size = 0

    # While transactions are carried out ------------------------------------------------------------------------------

    def guard(self, transaction: Transaction) -> Asking[None]:
        """Locks that are held until the end of the group."""
        if transaction.receipt is not None:
            key = lock_key("r", transaction.receipt.owner, transaction.receipt.key)
            yield Ask("SELECT pg_advisory_xact_lock(?)", (key,))
        if any(statement.alone for statement in transaction.statements):
            yield Ask("SELECT pg_advisory_xact_lock(?)", (ANY_STATEMENTS,))
        elif transaction.statements:
            yield Ask("SELECT pg_advisory_xact_lock_shared(?)", (ANY_STATEMENTS,))
            yield Ask("SELECT pg_advisory_xact_lock(?)", (lock_key("a", transaction.account_id),))

    def slot(self, account_id: str, *, exact: bool) -> Asking[Slot | None]:
        """Where the account's log stands. `exact`: its head's row is locked from now on."""
        slot = self._slots.get(account_id)
        if slot is None:
            slot = self.place(account_id)
        if slot is None:
            rows = yield Ask(READ_HEAD, (account_id,))
            if not rows:
                return None
            slot = self._slots[account_id] = self._begun(rows[0][0], rows[0][2])
            self.numbers[account_id] = slot.num
        if exact and account_id not in self._exact:
            rows = yield Ask(LOCK_HEAD, (slot.num,))
            if not rows:
                yield Ask(MAKE_HEAD, (slot.num,))
                rows = yield Ask(LOCK_HEAD, (slot.num,))
            self._exact.add(account_id)
            slot.seq += rows[0][0]
            slot.ts_us = max(slot.ts_us, rows[0][1])
        return slot

    def missing(self, account_ids: Sequence[str]) -> list[str]:
        """Accounts whose number is not known yet. The others are there, whatever becomes of transactions of theirs."""
        known, times = self._known.numbers, self._known.times
        self._there |= {one: (known[one], times.get(known[one], 0)) for one in account_ids if one in known}
        return [one for one in dict.fromkeys(account_ids) if one not in self._there]

    def found(self, account_id: str, num: int, ts_us: int) -> None:
        """An account's row was read, before anything was carried out."""
        self._there[account_id] = num, ts_us

    def place(self, account_id: str) -> Slot | None:
        """As `slot`, for accounts that are known; asks nothing."""
        slot = self._slots.get(account_id)
        if slot is None and account_id in self._there:
            slot = self._slots[account_id] = self._begun(*self._there[account_id])
            self.numbers[account_id] = slot.num
        return slot

    def _begun(self, num: int, ts_us: int) -> Slot:
        return Slot(num, 0, max(ts_us, self._known.times.get(num, 0)))

    def forget(self, account_id: str) -> None:
        """A transaction failed that may have made this account, or locked its head."""
        if not any(entry.account_id == account_id for entry in self._entries):
            self._slots.pop(account_id, None)
            self.numbers.pop(account_id, None)
        elif account_id in self._exact:
            slot = self._slots[account_id]
            slot.seq = sum(len(entry.drafts) for entry in self._entries if entry.account_id == account_id)
        self._exact.discard(account_id)

    def append(self, slot: Slot, transaction: Transaction, drafts: Sequence[Draft]) -> Entry:
        """A transaction was carried out, which must not fail any more."""
        entry = Entry(slot, transaction.account_id, transaction.actor, drafts)
        slot.seq += len(drafts)
        self._entries.append(entry)
        return entry

    # At the end ------------------------------------------------------------------------------------------------------

    async def flush(self, connection: Connection, now_us: int) -> list[Change]:
        """Take the numbers and write the log: the last statements before COMMIT."""
        moves: dict[int, list[int]] = {}
        for entry in self._entries:
            num = entry.slot.num
            if entry.drafts:
                move = moves.setdefault(num, [num, 0, now_us, 0])
                move[1] += len(entry.drafts)
                move[2] = max(move[2], entry.slot.ts_us)
                move[3] += sum(map(_size, entry.drafts))
        if moves:
            moved = await connection.fetchmany(MOVE_HEAD, [tuple(moves[num]) for num in sorted(moves)])
            self.heads = {num: Head(seq, ts_us) for num, seq, ts_us in moved}
        changes, rows = self._numbered(moves)
        still = {entry.slot.num for entry in self._entries} - moves.keys()
        if still:
            found = await connection.fetch(READ_SOME, list(still))
            read = {num: Head(seq, ts_us) for num, seq, ts_us in found}
            for entry in self._entries:
                entry.head = read.get(entry.slot.num, entry.head)
        if rows:
            await connection.executemany(APPEND, rows)
        self.rows, self.size = len(rows), sum(move[3] for move in moves.values())
        return changes

    def _numbered(self, moves: dict[int, list[int]]) -> tuple[list[Change], list[tuple[Any, ...]]]:
        changes: list[Change] = []
        rows: list[tuple[Any, ...]] = []
        running = {num: Slot(num, head.seq - moves[num][1], head.ts_us) for num, head in self.heads.items()}
        for entry in self._entries:
            slot = running.get(entry.slot.num)
            if slot is None:
                continue
            if entry.drafts:
                entry.changes, more, _ = numbered(
                    slot,
                    entry.account_id,
                    entry.drafts,
                    ts_us=slot.ts_us,
                    actor=entry.actor,
                    tx_id=self._new_tx_id(),
                )
                changes += entry.changes
                rows += more
            entry.head = slot.head
        return changes, rows


def _size(draft: Draft) -> int:
    """What its row takes, as `numbered` counts it."""
    return ROW_BYTES + len(draft.raw) + (0 if draft.prev is None else len(encode(draft.prev)))
