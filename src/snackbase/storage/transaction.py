"""The work of one transaction within a group: statements, writes, references, cascades, controls (step 4 of the path).

Promises: a refused transaction raises, the caller's savepoint undoes everything it changed, and it takes no number (the
caller numbers what `Application.run` returns). Rules are judged on the record as this transaction finds it. It must not
commit, number or announce, and knows neither threads nor databases: it asks them through `asking.py`.
"""

from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol

import apsw
import msgspec

from snackbase.errors import Conflict, FieldError, Forbidden, NotFound, SnackBaseError, TooLarge, ValidationFailed
from snackbase.model import MAX_RECORD_BYTES, Field, Head, OnDelete, Op, Record, rfc3339
from snackbase.storage.asking import Ask, Asking, Taken, violation
from snackbase.storage.base import MAX_TRANSACTION_CHANGES, Control, Kept, Stamps, Statement, Transaction, Write
from snackbase.storage.changelog import Draft, Slot
from snackbase.storage.codec import encode, size_of, unstorable
from snackbase.storage.connection import storage_fault
from snackbase.storage.definitions import Definitions
from snackbase.storage.receipts import keep, repeated
from snackbase.storage.statements import Table, Tables

MAX_TRANSACTION_BYTES = 32 << 20
"""Of a transaction's records as the log holds them: a hundred of the largest, each changed in one word by a body of
5 KB, would hold the writer for a second, and every subscriber would have to be sent 50 MB."""
REFERRING_AT_ONCE = 64
MAX_IMAGE_BYTES = MAX_RECORD_BYTES + 1024
"""A record as the log holds it: its values, which were checked when they came, and the system fields."""


class Row:
    """A write made ready outside the writer thread: values in their final form and as the columns take them."""

    __slots__ = ("bound", "values", "write")

    def __init__(self, write: Write, values: dict[str, Any], bound: list[Any]) -> None:
        self.write = write
        self.values = values
        self.bound = bound


class Prepared(msgspec.Struct, frozen=True):
    """A transaction ready for the writer.

    Attributes:
        size: its bytes, roughly. atomic: at most one statement of it changes anything; SQLite undoes a failing
            statement by itself, so it needs no savepoint.
    """

    transaction: Transaction
    rows: list[Row]
    size: int
    atomic: bool


def prepare(transaction: Transaction, tables: Tables) -> Prepared:
    """Translate a transaction's values, on the caller's thread.

    Raises:
        ValidationFailed: a value that cannot be stored. Conflict: more changes than one transaction may have.
    """
    if len(transaction.writes) + len(transaction.controls) > MAX_TRANSACTION_CHANGES:
        raise too_many_changes()
    rows = []
    size = 256 + 256 * len(transaction.statements)
    atomic = not transaction.statements and transaction.receipt is None and len(transaction.writes) <= 1
    for write in transaction.writes:
        table = tables.of(write.collection)
        values: dict[str, Any] = {}
        if write.op is not Op.DELETE:
            values = (table.codec.whole if write.op is Op.CREATE else table.codec.part)(write.values)
        bound = table.codec.bind(values)
        size += size_of(bound)
        rows.append(Row(write, values, bound))
        atomic = atomic and write.op is not Op.DELETE and not table.has_references
    return Prepared(transaction, rows, size, atomic)


class Work(msgspec.Struct):
    """What one transaction did so far."""

    transaction: Transaction
    slot: Slot | None
    ts_us: int
    at: str
    drafts: list[Draft] = []
    size: int = 0
    written: list[Record] = []
    deleted: list[tuple[str, str]] = []
    referring: list[tuple[int, Table, str, str]] = []
    repeated: Kept | None = None

    @classmethod
    def begin(cls, transaction: Transaction, slot: Slot | None, now_us: int) -> "Work":
        """Times never run backwards within an account."""
        ts_us = now_us if slot is None else max(now_us, slot.ts_us)
        return cls(transaction, slot, ts_us, rfc3339(ts_us))

    def note(self, draft: Draft) -> None:
        """One more change for the log. Raises Conflict: they are too large together."""
        self.drafts.append(draft)
        self.size += len(draft.raw)
        if self.size > MAX_TRANSACTION_BYTES:
            raise too_many_changes()

    @property
    def stamps(self) -> Stamps:
        """Those of a record that is made now."""
        actor = self.transaction.actor
        return Stamps(created_at=self.at, created_by=actor, updated_at=self.at, updated_by=actor)

    @property
    def head(self) -> Head:
        """Where the account's log will stand once the drafts are numbered."""
        if self.slot is None:
            return Head(0, 0)
        return Head(self.slot.seq + len(self.drafts), self.ts_us if self.drafts else self.slot.ts_us)


class Numbers(Protocol):
    """The side of the log that a transaction needs: how its account stands, and who else is in the way."""

    def guard(self, transaction: Transaction) -> Asking[None]:
        """Keep transactions apart whose statements look at more than the rows they change."""
        ...

    def slot(self, account_id: str, *, exact: bool) -> Asking[Slot | None]:
        """The account's head with this group's earlier changes; None: there is no such account. Not `exact`: the
        number may still be unknown."""
        ...


class Application:
    """Applies transactions to the database, inside the group's SQL transaction. Every method asks."""

    def __init__(self, log: Numbers, definitions: Definitions) -> None:
        self._log = log
        self.definitions = definitions

    def run(self, transaction: Transaction, rows: Sequence[Row], now_us: int) -> Asking[Work]:
        """Do everything but numbering.

        Raises:
            SnackBaseError: refused: Conflict, ValidationFailed, NotFound, Forbidden, or a statement's own error; its
                `part` is the place of the write that it concerns.
        """
        receipt = transaction.receipt
        slot = None
        if transaction.statements or receipt is not None:
            yield from self._log.guard(transaction)
        if receipt is not None and (kept := (yield from repeated(receipt, now_us=now_us))) is not None:
            slot = yield from self._log.slot(transaction.account_id, exact=False)
            return Work(transaction, slot, now_us, rfc3339(now_us), repeated=kept)
        for statement in transaction.statements:
            yield from _statement(statement)
        slot = yield from self._log.slot(transaction.account_id, exact=False)
        if slot is None and (rows or transaction.controls):
            raise account_missing()
        work = Work.begin(transaction, slot, now_us)
        for part, row in enumerate(rows):
            try:
                yield from self._write(row, work)
            except SnackBaseError as error:
                error.part = part
                raise
        for part, table, field, record_id in work.referring:
            yield from self._check_reference(work, part, table, field, record_id)
        if work.deleted:
            yield from self._cascade(work)
        finish(work)
        if receipt is not None:
            # Only now: whoever knows its number may hold up the account's other writers.
            slot = yield from self._log.slot(transaction.account_id, exact=True)
            work.ts_us = work.ts_us if slot is None else max(work.ts_us, slot.ts_us)
            yield from keep(receipt, work.written, work.head, now_us=now_us)
        return work

    def _write(self, row: Row, work: Work) -> Asking[None]:
        write = row.write
        table = self.definitions.current(write.collection)
        if write.op is Op.CREATE:
            record = yield from self._create(table, row, work)
        elif write.op is Op.UPDATE:
            record = yield from self._update(table, row, work)
        else:
            record = yield from self._before(table, write, work)
            yield from self._delete(table, record, work)
        work.written.append(record)

    def _create(self, table: Table, row: Row, work: Work) -> Asking[Record]:
        record, columns = created(table, row, work)
        try:
            yield Ask(table.insert, columns)
        except Taken as taken:
            raise violation(taken, table.collection) from None
        note_references(table, row.values, work)
        work.note(draft_of(Op.CREATE, table, record))
        return record

    def _before(self, table: Table, write: Write, work: Work) -> Asking[Record]:
        """The record as it is now, if the write is allowed."""
        rows = yield Ask(table.locked, (write.record_id, work.transaction.account_id))
        return judged(table, write, table.codec.record(rows[0]) if rows else None)

    def _update(self, table: Table, row: Row, work: Work) -> Asking[Record]:
        before = yield from self._before(table, row.write, work)
        values = table.codec.changed(before, row.values)
        if not values:
            return before
        bound = row.bound if len(values) == len(row.values) else table.codec.bind(values)
        note_references(table, values, work)
        return (yield from self._set(table, before, values, bound, work))

    def _set(
        self, table: Table, before: Record, values: dict[str, Any], bound: list[Any], work: Work
    ) -> Asking[Record]:
        record, sql, columns = updated(table, before, values, bound, work)
        try:
            yield Ask(sql, columns)
        except Taken as taken:
            raise violation(taken, table.collection) from None
        return record

    def _delete(self, table: Table, record: Record, work: Work) -> Asking[None]:
        yield Ask(table.delete, (record["id"], work.transaction.account_id))
        work.note(draft_of(Op.DELETE, table, record))
        if table.collection.id in self.definitions.referrers:
            work.deleted.append((table.collection.id, record["id"]))

    def _check_reference(self, work: Work, part: int, table: Table, field: str, record_id: str) -> Asking[None]:
        target = self.definitions.targets.get((table.collection.id, field))
        found = target and (yield Ask(target.exists, (record_id, work.transaction.account_id)))
        if not found:
            raise missing_reference(field, part)

    def _cascade(self, work: Work) -> Asking[None]:
        """Follow references to what was deleted, breadth first. Each deleted record is followed once, so cycles end.

        Restrictions are judged last: a record that goes away in the same transaction restricts nothing.
        """
        restricted: list[tuple[Table, Field, str]] = []
        waiting = deque(work.deleted)
        work.deleted.clear()
        while waiting:
            collection_id, record_id = waiting.popleft()
            for table, field in self.definitions.referrers.get(collection_id, ()):
                action = field.on_delete or OnDelete.RESTRICT
                if action is OnDelete.RESTRICT or (action is OnDelete.SET_NULL and field.required):
                    restricted.append((table, field, record_id))
                    continue
                while records := (yield from self._referring(work, table, field, record_id)):
                    for record in records:
                        if action is OnDelete.CASCADE:
                            yield from self._delete(table, record, work)
                        else:
                            yield from self._set(table, record, {field.name: None}, [None], work)
                    if len(records) < REFERRING_AT_ONCE:
                        break
                waiting.extend(work.deleted)
                work.deleted.clear()
        for table, field, record_id in restricted:
            if (yield Ask(table.referring(field.name), (work.transaction.account_id, record_id, 1))):
                name = table.collection.name
                message = f"Records of {name} refer to it in their field {field.name}."
                detail = FieldError(field=f"{name}.{field.name}", message=message, code="referenced")
                raise Conflict(message, code="referenced", details=[detail])

    def _referring(self, work: Work, table: Table, field: Field, record_id: str) -> Asking[list[Record]]:
        """Some of the records that still refer to one that is gone."""
        room = MAX_TRANSACTION_CHANGES - len(work.drafts)
        most = min(room + 1, REFERRING_AT_ONCE)
        rows = yield Ask(table.referring(field.name), (work.transaction.account_id, record_id, most))
        if len(rows) > room:
            raise too_many_changes()
        return [table.codec.record(row) for row in rows]


# What a transaction does without asking ------------------------------------------------------------------------------


def created(table: Table, row: Row, work: Work) -> tuple[Record, list[Any]]:
    """A new record, and what `table.insert` takes."""
    record_id = row.write.record_id
    account_id, stamps = work.transaction.account_id, row.write.stamps or work.stamps
    system = (stamps.created_at, stamps.created_by, stamps.updated_at, stamps.updated_by)
    record = {
        "id": record_id,
        **row.values,
        "account_id": account_id,
        "created_at": stamps.created_at,
        "created_by": stamps.created_by,
        "updated_at": stamps.updated_at,
        "updated_by": stamps.updated_by,
    }
    return record, [record_id, account_id, *system, *row.bound]


def judged(table: Table, write: Write, record: Record | None) -> Record:
    """The record as it is, if the write is allowed. Raises NotFound, Forbidden."""
    refused = record is not None and write.allowed is not None and not write.allowed(record)
    if record is None or (refused and write.visible is not None and not write.visible(record)):
        raise NotFound("The record does not exist.")
    if refused:
        raise Forbidden(f"The {write.op.value} rule of {table.collection.name} does not allow this.")
    return record


def updated(
    table: Table, before: Record, values: dict[str, Any], bound: list[Any], work: Work
) -> tuple[Record, str, tuple[Any, ...]]:
    """The record after a change of these values, noted in `work`; and the statement that writes them."""
    actor = work.transaction.actor
    system = {"updated_at": work.at, "updated_by": actor}
    record = before | values | system
    draft = draft_of(Op.UPDATE, table, record)
    if len(draft.raw) > MAX_IMAGE_BYTES:
        # Before anything runs: a single update has no savepoint to undo it.
        raise TooLarge(f"The record would have {len(draft.raw)} bytes as JSON; at most {MAX_RECORD_BYTES} are kept.")
    draft.prev = {name: before[name] for name in (*values, *system)}
    work.note(draft)
    return record, table.update(values), (*bound, work.at, actor, before["id"], work.transaction.account_id)


def note_references(table: Table, values: dict[str, Any], work: Work) -> None:
    """Remember which records these values refer to."""
    if not table.has_references:
        return
    for field in table.collection.fields:
        if field.type == "reference" and values.get(field.name) is not None:
            work.referring.append((len(work.written), table, field.name, values[field.name]))


def account_missing() -> NotFound:
    return NotFound("The account does not exist.", code="account_not_found")


def missing_reference(field: str, part: int) -> ValidationFailed:
    """A reference to what is not there."""
    message = "The record it refers to does not exist."
    detail = FieldError(field=field, message=message, code="reference_not_found")
    error = ValidationFailed(f"{field}: {message}", details=[detail])
    error.part = part
    return error


def finish(work: Work) -> None:
    """The controls, after the records. Raises Conflict: too many changes."""
    for control in work.transaction.controls:
        work.drafts.append(_control(control, work.transaction.actor))
    if len(work.drafts) > MAX_TRANSACTION_CHANGES:
        raise too_many_changes()


def _statement(statement: Statement) -> Asking[None]:
    try:
        count = yield Ask(statement.sql, statement.args, counted=True)
    except Taken:
        raise statement.error or Conflict("This is taken already.", code="not_unique") from None
    if statement.rows is not None and count != statement.rows:
        raise statement.error or Conflict("It was changed at the same moment.", code="changed_meanwhile")


def draft_of(op: Op, table: Table, record: Record) -> Draft:
    collection = table.collection
    return Draft(op, collection.id, collection.schema_version, record["id"], record, encode(record))


def _control(control: Control, actor: str | None) -> Draft:
    # What the log could not hold must fail here, inside this transaction, not with the group's log rows.
    encode((control.subject, actor))
    data = {"what": control.what, **control.data}
    return Draft(Op.CONTROL, "", 0, control.subject, data, encode(data))


def too_many_changes() -> Conflict:
    limit, size = f"{MAX_TRANSACTION_CHANGES:,}", f"{MAX_TRANSACTION_BYTES >> 20} MB"
    return Conflict(
        f"One transaction may change at most {limit} records of {size} together, those that follow from references "
        "included.",
        code="too_many_changes",
    )


def refusal(error: Exception) -> Exception:
    """What the caller gets for an exception that ended its transaction and no other."""
    if isinstance(error, UnicodeError | OverflowError):
        return unstorable(error)
    if isinstance(error, apsw.TooBigError):
        return TooLarge("The record is larger than the database can store.")
    if isinstance(error, apsw.Error):
        return storage_fault(error) or error
    return error
