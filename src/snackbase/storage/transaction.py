"""One transaction's own work inside a group: statements, writes, references, cascades, controls (step 4 of the path).

Promises: a refused transaction raises and has changed nothing the caller's savepoint does not undo; it takes no number
(the caller numbers what `Application.run` returns). Rules are judged on the record as this transaction finds it.
Must not commit, number, announce or know threads.
"""

from collections import deque
from collections.abc import Sequence
from typing import Any

import apsw
import msgspec

from snackbase.errors import Conflict, FieldError, Forbidden, NotFound, SnackBaseError, TooLarge, ValidationFailed
from snackbase.model import MAX_RECORD_BYTES, Collection, Field, Head, OnDelete, Op, Record, rfc3339
from snackbase.storage.base import MAX_TRANSACTION_CHANGES, Control, Kept, Stamps, Statement, Transaction, Write
from snackbase.storage.changelog import ChangeLog, Draft, Slot
from snackbase.storage.codec import encode, size_of, unstorable
from snackbase.storage.connection import storage_fault
from snackbase.storage.definitions import Definitions
from snackbase.storage.receipts import keep, repeated
from snackbase.storage.statements import Table, Tables

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
    written: list[Record] = []
    deleted: list[tuple[str, str]] = []
    referring: list[tuple[int, Table, str, str]] = []
    repeated: Kept | None = None

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


class Application:
    """Applies transactions to the database through the writer's cursor, inside the group's SQL transaction."""

    def __init__(self, cursor: apsw.Cursor, log: ChangeLog, definitions: Definitions) -> None:
        self._run = cursor.execute
        self._cursor = cursor
        self._log = log
        self.definitions = definitions

    def run(self, transaction: Transaction, rows: Sequence[Row], now_us: int) -> Work:
        """Do everything but numbering.

        Raises:
            SnackBaseError: refused: Conflict, ValidationFailed, NotFound, Forbidden, or a statement's own error; its
                `part` is the place of the write that it concerns.
            apsw.Error: a fault of the database.
        """
        receipt = transaction.receipt
        slot = self._log.slot(self._cursor, transaction.account_id) if receipt else None
        if receipt is not None and (kept := repeated(self._run, receipt, now_us=now_us)) is not None:
            return Work(transaction, slot, now_us, rfc3339(now_us), repeated=kept)
        for statement in transaction.statements:
            self._statement(statement)
        slot = self._log.slot(self._cursor, transaction.account_id)
        if slot is None and (rows or transaction.controls):
            raise NotFound("The account does not exist.", code="account_not_found")
        ts_us = now_us if slot is None else max(now_us, slot.ts_us)
        work = Work(transaction, slot, ts_us, rfc3339(ts_us))
        for part, row in enumerate(rows):
            try:
                self._write(row, work)
            except SnackBaseError as error:
                error.part = part
                raise
        for part, table, field, record_id in work.referring:
            self._check_reference(work, part, table, field, record_id)
        if work.deleted:
            self._cascade(work)
        for control in transaction.controls:
            work.drafts.append(_control(control, transaction.actor))
        if len(work.drafts) > MAX_TRANSACTION_CHANGES:
            raise too_many_changes()
        if receipt is not None:
            keep(self._run, receipt, work.written, work.head, now_us=now_us)
        return work

    def _statement(self, statement: Statement) -> None:
        try:
            self._run(statement.sql, statement.args).fetchall()
        except apsw.ConstraintError:
            raise statement.error or Conflict("This is taken already.", code="not_unique") from None
        if statement.rows is not None and self._cursor.connection.changes() != statement.rows:
            raise statement.error or Conflict("It was changed at the same moment.", code="changed_meanwhile")

    def _write(self, row: Row, work: Work) -> None:
        write = row.write
        table = self.definitions.current(write.collection)
        if write.op is Op.CREATE:
            record = self._create(table, row, work)
        elif write.op is Op.UPDATE:
            record = self._update(table, row, work)
        else:
            record = self._before(table, write, work)
            self._delete(table, record, work)
        work.written.append(record)

    def _create(self, table: Table, row: Row, work: Work) -> Record:
        transaction, record_id = work.transaction, row.write.record_id
        account_id, stamps = transaction.account_id, row.write.stamps or work.stamps
        created = (stamps.created_at, stamps.created_by)
        system = [record_id, account_id, *created, stamps.updated_at, stamps.updated_by]
        try:
            self._run(table.insert, system + row.bound)
        except apsw.ConstraintError as error:
            raise violation(error, table.collection) from None
        record = {
            "id": record_id,
            **row.values,
            "account_id": account_id,
            "created_at": stamps.created_at,
            "created_by": stamps.created_by,
            "updated_at": stamps.updated_at,
            "updated_by": stamps.updated_by,
        }
        self._note_references(table, row.values, work)
        work.drafts.append(_draft(Op.CREATE, table, record))
        return record

    def _before(self, table: Table, write: Write, work: Work) -> Record:
        """The record as it is now, if the write is allowed."""
        rows = self._run(table.select, (write.record_id, work.transaction.account_id)).fetchall()
        record = table.codec.record(rows[0]) if rows else None
        refused = record is not None and write.allowed is not None and not write.allowed(record)
        if record is None or (refused and write.visible is not None and not write.visible(record)):
            raise NotFound("The record does not exist.")
        if refused:
            raise Forbidden(f"The {write.op.value} rule of {table.collection.name} does not allow this.")
        return record

    def _update(self, table: Table, row: Row, work: Work) -> Record:
        before = self._before(table, row.write, work)
        values = table.codec.changed(before, row.values)
        if not values:
            return before
        bound = row.bound if len(values) == len(row.values) else table.codec.bind(values)
        self._note_references(table, values, work)
        return self._set(table, before, values, bound, work)

    def _set(self, table: Table, before: Record, values: dict[str, Any], bound: list[Any], work: Work) -> Record:
        actor = work.transaction.actor
        where = (before["id"], work.transaction.account_id)
        system = {"updated_at": work.at, "updated_by": actor}
        draft = _draft(Op.UPDATE, table, before | values | system)
        if len(draft.raw) > MAX_IMAGE_BYTES:
            # Before anything runs: a single update has no savepoint to undo it.
            raise TooLarge(
                f"The record would have {len(draft.raw)} bytes as JSON; at most {MAX_RECORD_BYTES} are kept."
            )
        try:
            self._run(table.update(values), (*bound, work.at, actor, *where))
        except apsw.ConstraintError as error:
            raise violation(error, table.collection) from None
        draft.prev = {name: before[name] for name in (*values, *system)}
        work.drafts.append(draft)
        return before | values | system

    def _delete(self, table: Table, record: Record, work: Work) -> None:
        self._run(table.delete, (record["id"], work.transaction.account_id))
        work.drafts.append(_draft(Op.DELETE, table, record))
        if table.collection.id in self.definitions.referrers:
            work.deleted.append((table.collection.id, record["id"]))

    def _note_references(self, table: Table, values: dict[str, Any], work: Work) -> None:
        if not table.has_references:
            return
        for field in table.collection.fields:
            if field.type == "reference" and values.get(field.name) is not None:
                work.referring.append((len(work.written), table, field.name, values[field.name]))

    def _check_reference(self, work: Work, part: int, table: Table, field: str, record_id: str) -> None:
        target = self.definitions.targets.get((table.collection.id, field))
        account_id = work.transaction.account_id
        if target is None or not self._run(target.exists, (record_id, account_id)).fetchall():
            message = "The record it refers to does not exist."
            detail = FieldError(field=field, message=message, code="reference_not_found")
            error = ValidationFailed(f"{field}: {message}", details=[detail])
            error.part = part
            raise error

    def _cascade(self, work: Work) -> None:
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
                for record in self._referring(work, table, field, record_id):
                    if action is OnDelete.CASCADE:
                        self._delete(table, record, work)
                    else:
                        self._set(table, record, {field.name: None}, [None], work)
                waiting.extend(work.deleted)
                work.deleted.clear()
        for table, field, record_id in restricted:
            if self._run(table.referring(field.name), (work.transaction.account_id, record_id, 1)).fetchall():
                name = table.collection.name
                message = f"Records of {name} refer to it in their field {field.name}."
                detail = FieldError(field=f"{name}.{field.name}", message=message, code="referenced")
                raise Conflict(message, code="referenced", details=[detail])

    def _referring(self, work: Work, table: Table, field: Field, record_id: str) -> list[Record]:
        room = MAX_TRANSACTION_CHANGES - len(work.drafts)
        rows = self._run(table.referring(field.name), (work.transaction.account_id, record_id, room + 1)).fetchall()
        if len(rows) > room:
            raise too_many_changes()
        return [table.codec.record(row) for row in rows]


def _draft(op: Op, table: Table, record: Record) -> Draft:
    collection = table.collection
    return Draft(op, collection.id, collection.schema_version, record["id"], record, encode(record))


def _control(control: Control, actor: str | None) -> Draft:
    # What the log could not hold must fail here, inside this transaction, not with the group's log rows.
    encode((control.subject, actor))
    data = {"what": control.what, **control.data}
    return Draft(Op.CONTROL, "", 0, control.subject, data, encode(data))


def too_many_changes() -> Conflict:
    limit = f"{MAX_TRANSACTION_CHANGES:,}"
    return Conflict(
        f"One transaction may change at most {limit} records, those that follow from references included.",
        code="too_many_changes",
    )


def violation(error: apsw.ConstraintError, collection: Collection) -> SnackBaseError:
    """Which values are taken. SQLite names the columns: `UNIQUE constraint failed: c_posts.account_id, c_posts.slug`"""
    columns = [part.rsplit(".", 1)[-1] for part in str(error).partition(": ")[2].split(", ")]
    if columns in (["id", "account_id"], ["id"]):  # the second: of a table made before ids belonged to accounts
        detail = FieldError(field="id", message="This id is taken.", code="id_taken")
        return Conflict("A record with this id exists already.", code="id_taken", details=[detail])
    names = [name for name in columns if collection.field(name) is not None]
    together = f" together with {', '.join(names)}" if len(names) > 1 else ""
    message = f"Another record of {collection.name} has this value{together}."
    details = [FieldError(field=name, message=message, code="not_unique") for name in names]
    return Conflict(f"{', '.join(names)}: {message}" if names else message, code="not_unique", details=details)


def refusal(error: Exception) -> Exception:
    """What the caller gets for an exception that ended its transaction and no other."""
    if isinstance(error, UnicodeError | OverflowError):
        return unstorable(error)
    if isinstance(error, apsw.TooBigError):
        return TooLarge("The record is larger than the database can store.")
    if isinstance(error, apsw.Error):
        return storage_fault(error) or error
    return error
