"""The writer's side of the change log: numbers, times and log rows of one group of transactions.

Owns the head of every account while the writer thread holds the database's write lock. Promises I2 and I3: a number is
taken only after the transaction's savepoint was released, so a failed transaction leaves no gap. Times never run
backwards within an account. Heads are cached between groups; `drop` forgets them when a COMMIT failed or another
process wrote.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import apsw
import msgspec

from snackbase.model import Change, Head, Op, Record
from snackbase.storage.asking import Ask, Asking
from snackbase.storage.base import Transaction
from snackbase.storage.codec import encode
from snackbase.storage.statements import APPEND_CHANGE, READ_HEAD, ROW_BYTES, SET_HEAD

MOST_CACHED_HEADS = 50_000
_decode = msgspec.json.decode


class Draft(msgspec.Struct):
    """A change that has no number yet."""

    op: Op
    collection_id: str
    schema_version: int
    record_id: str
    data: Mapping[str, Any]
    raw: bytes
    prev: Record | None = None


class Slot:
    """One account's head, as the transaction in progress sees it; `grown` = bytes added to its log in this group."""

    __slots__ = ("grown", "num", "seq", "ts_us")

    def __init__(self, num: int, seq: int, ts_us: int) -> None:
        self.num = num
        self.seq = seq
        self.ts_us = ts_us
        self.grown = 0

    @property
    def head(self) -> Head:
        return Head(self.seq, self.ts_us)


class ChangeLog:
    """Collects the rows of one group; `flush` writes them right before COMMIT, heads last and in account order."""

    def __init__(self, new_tx_id: Callable[[], str]) -> None:
        self._new_tx_id = new_tx_id
        self._slots: dict[str, Slot] = {}
        self._rows: list[tuple[Any, ...]] = []
        self._moved: dict[int, Slot] = {}

    def guard(self, transaction: Transaction) -> Asking[None]:
        """Nothing to do: the database's write lock is held."""
        yield from ()

    def slot(self, account_id: str, *, exact: bool) -> Asking[Slot | None]:
        """The account's head including this group's earlier changes; None: there is no such account."""
        slot = self._slots.get(account_id)
        if slot is None:
            rows = yield Ask(READ_HEAD, (account_id,))
            if not rows:
                return None
            if len(self._slots) >= MOST_CACHED_HEADS and not self._moved:
                self._slots.clear()
            slot = self._slots[account_id] = Slot(*rows[0])
        return slot

    def append(
        self, slot: Slot, account_id: str, drafts: Sequence[Draft], *, ts_us: int, actor: str | None
    ) -> tuple[Change, ...]:
        """Number the drafts of one transaction, which must not fail any more."""
        if not drafts:
            return ()
        changes, rows, size = numbered(slot, account_id, drafts, ts_us=ts_us, actor=actor, tx_id=self._new_tx_id())
        slot.grown += size
        self._rows += rows
        self._moved[slot.num] = slot
        return changes

    def flush(self, cursor: apsw.Cursor) -> int:
        """Write what was appended, the last statements before COMMIT; how many bytes the log grew by."""
        if not self._rows:
            return 0
        cursor.executemany(APPEND_CHANGE, self._rows)
        heads = [(num, slot.seq, slot.ts_us, slot.grown) for num, slot in sorted(self._moved.items())]
        cursor.executemany(SET_HEAD, heads)
        for slot in self._moved.values():
            slot.grown = 0
        self._rows = []
        self._moved = {}
        return sum(grown for _, _, _, grown in heads)

    def forget(self, account_id: str) -> None:
        """After a transaction failed: it may have made the account whose head was read."""
        slot = self._slots.get(account_id)
        if slot is not None and slot.num not in self._moved:
            del self._slots[account_id]

    def drop(self) -> None:
        """Forget everything: the group is lost, or another process wrote."""
        self._slots.clear()
        self._rows = []
        self._moved = {}


def numbered(
    slot: Slot, account_id: str, drafts: Sequence[Draft], *, ts_us: int, actor: str | None, tx_id: str
) -> tuple[tuple[Change, ...], list[tuple[Any, ...]], int]:
    """One transaction's changes, their rows for APPEND_CHANGE, and the bytes these take; the slot moves on."""
    size, seq, grown = len(drafts), slot.seq, 0
    changes, rows = [], []
    for index, draft in enumerate(drafts):
        seq += 1
        changes.append(
            Change(
                account_id=account_id,
                seq=seq,
                ts_us=ts_us,
                op=draft.op,
                collection_id=draft.collection_id,
                schema_version=draft.schema_version,
                record_id=draft.record_id,
                data=draft.data,
                prev=draft.prev,
                raw=draft.raw,
                tx_id=tx_id,
                tx_index=index,
                tx_size=size,
                actor=actor,
            )
        )
        before = None if draft.prev is None else encode(draft.prev)
        prev = None if before is None else before.decode()
        grown += ROW_BYTES + len(draft.raw) + (0 if before is None else len(before))
        place = (slot.num, seq, ts_us, draft.op.value, draft.collection_id, draft.schema_version, draft.record_id)
        rows.append((*place, draft.raw.decode(), prev, tx_id, index, size, actor))
    slot.seq, slot.ts_us = seq, ts_us
    return tuple(changes), rows, grown


MOST_READ_BYTES = 4 << 20
"""Of log rows read at once: their JSON is read on the event loop, some 25 ms for as much."""


def enough(rows: Iterable[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    """Rows of READ_CHANGES, to the end of the transaction in which `MOST_READ_BYTES` are reached."""
    size = 0
    for row in rows:
        yield row
        size += len(row[6] or "") + len(row[7] or "")
        if size >= MOST_READ_BYTES and row[9] + 1 >= row[10]:
            return


def change_of(account_id: str, row: Sequence[Any]) -> Change:
    """A row of READ_CHANGES."""
    seq, ts_us, op, collection_id, schema_version, record_id, data, prev, tx_id, tx_index, tx_size, actor = row
    return Change(
        account_id=account_id,
        seq=seq,
        ts_us=ts_us,
        op=Op(op),
        collection_id=collection_id,
        schema_version=schema_version,
        record_id=record_id,
        data={} if data is None else _decode(data),
        prev=None if prev is None else _decode(prev),
        raw=b"{}" if data is None else data.encode(),
        tx_id=tx_id,
        tx_index=tx_index,
        tx_size=tx_size,
        actor=actor,
    )
