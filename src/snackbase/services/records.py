"""The write path: every change of a record, whoever makes it, goes through `Records` (step 3 of the path).

The order is: values, rule, before-hooks, one transaction, and after-hooks once it is committed. This module owns that
order and the answers to callers. The store owns atomicity, the change log and announcements, so nothing here announces
anything. The store also judges the rules of updates and deletes, on the record as the transaction finds it, so that no
other write can come in between. Reads are in `services/reading.py` and obey the same rules.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec

from snackbase.catalog import Catalog, Operation
from snackbase.errors import FieldError, SnackBaseError, ValidationFailed
from snackbase.hooks import HookAbort, Hooks, Later
from snackbase.model import SYSTEM_ACCOUNT_ID, SYSTEM_FIELDS, Change, Head, Op, Principal, Record
from snackbase.realtime.position import Positions
from snackbase.services import values
from snackbase.services.access import Access
from snackbase.services.idempotency import LIFETIME_US, Once
from snackbase.services.preparation import Context, Edit, Preparation
from snackbase.services.reading import RETRIES_AFTER_S, Listing, Reads, Snapshot
from snackbase.storage.base import Committed, Kept, Receipt, Stamps, Store, Transaction, Write

__all__ = ["Listing", "Records", "Snapshot", "Written"]

MAX_BATCH = 100

Place = Callable[[int], str]
"""Names a write of a batch by its number, for the details of an error: `records[3]`."""


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of a write: the records as the writer may read them (a delete: only their ids), and where the
    account's log stands after it. `repeated`: the first answer, when this write had been done before; then nothing
    else is given."""

    records: tuple[Record, ...]
    position: str
    repeated: Kept | None = None


class Records(Reads):
    """
    Args:
        later: runs after-hooks. new_id: an id for a record whose client brought none. now_us: the wall clock.
        explain: answer everybody as superadmins are answered about what is absent or refused (`serve --dev`).
    """

    def __init__(
        self,
        store: Store,
        catalog: Catalog,
        hooks: Hooks,
        positions: Positions,
        *,
        later: Later,
        new_id: Callable[[], str],
        now_us: Callable[[], int],
        explain: bool = False,
    ) -> None:
        super().__init__(store, catalog, positions, explain=explain)
        self._hooks = hooks
        self._later = later
        self._preparation = Preparation(store, hooks, new_id=new_id, now_us=now_us)

    async def create(
        self, principal: Principal, collection: str, data: Mapping[str, Any], *, once: Once | None = None
    ) -> Written:
        """Create one record.

        Raises:
            Unauthorized, Forbidden: the create rule. ValidationFailed, TooLarge: the values, or a reference to nothing.
            Conflict: id_taken, not_unique, changed_meanwhile. NotFound: collection_not_found.
            HookAbort: refused by a hook. Unavailable: the store cannot take it now.
        """
        return await self._create(principal, collection, (data,), once=once)

    async def create_many(
        self,
        principal: Principal,
        collection: str,
        records: Sequence[Mapping[str, Any]],
        *,
        once: Once | None = None,
    ) -> Written:
        """Create all of the records or none. Raises: as `create`; a detail's field begins with `records[i]`."""
        _check_batch(len(records))
        return await self._create(principal, collection, records, once=once, place=_records)

    async def bring_in(
        self,
        principal: Principal,
        collection: str,
        records: Sequence[Mapping[str, Any]],
        stamps: Sequence[Stamps | None],
    ) -> Written:
        """`create_many` for an import: as many as the caller answers for, each with the stamps it had elsewhere."""
        return await self._create(principal, collection, records, stamps=stamps, place=_records)

    async def update(
        self,
        principal: Principal,
        collection: str,
        record_id: str,
        data: Mapping[str, Any],
        *,
        replace: bool = False,
        once: Once | None = None,
    ) -> Written:
        """Change the given fields of a record; with `replace` all of them, missing ones becoming default or null.

        Raises:
            NotFound: absent or invisible. Others as `create`.
        """
        edit = Edit(id=record_id, data=dict(data))

        async def prepare(access: Access) -> list[Write]:
            return [await self._preparation.update(access, edit, _context(access, "update"), replace=replace)]

        return await self._write(_acting(principal, (data,)), collection, "update", prepare, once=once)

    async def update_many(
        self, principal: Principal, collection: str, edits: Sequence[Edit], *, once: Once | None = None
    ) -> Written:
        """Change all of the records or none. Raises: as `update`; a detail's field begins with `records[i]`."""
        _check_batch(len(edits))

        async def prepare(access: Access) -> list[Write]:
            context = _context(access, "update", len(edits))
            return [
                await _within(index, _records, self._preparation.update(access, edit, context, replace=False))
                for index, edit in enumerate(edits)
            ]

        acting = _acting(principal, [edit.data for edit in edits])
        return await self._write(acting, collection, "update", prepare, once=once, place=_records)

    async def delete(
        self, principal: Principal, collection: str, record_id: str, *, once: Once | None = None
    ) -> Written:
        """Delete a record and what refers to it by `cascade`.

        Raises:
            Unauthorized, Forbidden: the delete rule. NotFound: absent or invisible.
            Conflict: `referenced` by a record that restricts it, `too_many_changes`. HookAbort, Unavailable.
        """

        async def prepare(access: Access) -> list[Write]:
            return [await self._preparation.deletion(access, record_id, _context(access, "delete"))]

        return await self._write(principal, collection, "delete", prepare, once=once)

    async def delete_many(
        self, principal: Principal, collection: str, record_ids: Sequence[str], *, once: Once | None = None
    ) -> Written:
        """Delete all of the records or none; an id that is given twice counts once. Raises: as `delete`; a detail's
        field begins with `ids[i]`."""
        _check_batch(len(record_ids))
        wanted = tuple(dict.fromkeys(record_ids))

        def place(index: int) -> str:
            return f"ids[{record_ids.index(wanted[index])}]"

        async def prepare(access: Access) -> list[Write]:
            context = _context(access, "delete", len(wanted))
            return [
                await _within(index, place, self._preparation.deletion(access, record_id, context))
                for index, record_id in enumerate(wanted)
            ]

        return await self._write(principal, collection, "delete", prepare, once=once, place=place)

    async def _create(
        self,
        principal: Principal,
        collection: str,
        bodies: Sequence[Mapping[str, Any]],
        *,
        stamps: Sequence[Stamps | None] = (),
        once: Once | None = None,
        place: Place | None = None,
    ) -> Written:
        async def prepare(access: Access) -> list[Write]:
            context = _context(access, "create", len(bodies))
            writes = []
            for index, body in enumerate(bodies):
                creation = self._preparation.creation(access, body, context)
                write = await (_within(index, place, creation) if place else creation)
                writes.append(msgspec.structs.replace(write, stamps=stamps[index]) if stamps else write)
            return writes

        return await self._write(_acting(principal, bodies), collection, "create", prepare, once=once, place=place)

    async def _write(
        self,
        principal: Principal,
        collection: str,
        operation: Operation,
        prepare: Callable[[Access], Awaitable[list[Write]]],
        *,
        once: Once | None = None,
        place: Place | None = None,
    ) -> Written:
        hooked = self._hooks.has(f"on_record_before_{operation}", collection)
        # A hook is not asked twice: it may have done what cannot be undone.
        for pause_s in (None,) if hooked else (*RETRIES_AFTER_S, None):
            access, version = self._access(principal, collection), self._catalog.version
            outcome = _Outcome(access, operation, partial(self._place, principal, version))
            transaction = Transaction(
                account_id=principal.account_id,
                actor=principal.actor_id,
                writes=tuple(await prepare(access)),
                receipt=outcome.receipt(once) if once else None,
            )
            try:
                committed = await self._store.write(transaction)
            except SnackBaseError as error:
                if error.code == "changed_meanwhile" and pause_s is not None:
                    await asyncio.sleep(pause_s)
                    continue
                access.tell_why(error, operation)
                if place is not None and error.part is not None:
                    raise _placed(error, place(error.part)) from None
                raise
            if committed.repeated is not None:
                return Written(records=(), position="", repeated=committed.repeated)
            self._run_after_hooks(committed, _context(access, operation, len(transaction.writes)))
            return outcome.written(committed.written, committed.head)
        raise RuntimeError("unreachable: the last try returns or raises")

    def _place(self, principal: Principal, version: int, head: Head) -> str:
        return self._position(principal, head, version)

    def _run_after_hooks(self, committed: Committed, context: Context) -> None:
        calls: list[tuple[str, str, Change]] = []
        for change in committed.changes:
            definition = self._catalog.by_id(change.collection_id)
            event = f"on_record_after_{change.op}"
            if definition is not None and self._hooks.has(event, definition.collection.name):
                calls.append((event, definition.collection.name, change))
        if calls:
            self._later(lambda: self._after(calls, context), sum(len(change.raw) for _, _, change in calls))

    async def _after(self, calls: Sequence[tuple[str, str, Change]], context: Context) -> None:
        for event, name, change in calls:
            # A copy of its own: what the log and all subscribers share must not be at a hook's mercy.
            record: Record = msgspec.json.decode(change.raw)
            await self._hooks.fire(
                event,
                collection=name,
                refusing=False,
                record=record,
                data=_changed(change, record),
                context=context,
            )


class _Outcome:
    """Makes a write's answer, for its caller and for the receipt."""

    def __init__(self, access: Access, operation: str, position: Callable[[Head], str]) -> None:
        self._access = access
        self._deleted = operation == "delete"
        self._position = position

    def written(self, records: Sequence[Record], head: Head) -> Written:
        """The records as the writer may read them."""
        shown = [{"id": record["id"]} if self._deleted else self._access.shown(record) for record in records]
        return Written(records=tuple(shown), position=self._position(head))

    def receipt(self, once: Once) -> Receipt:
        """The wish to keep the answer."""

        def answer(records: Sequence[Record], head: Head) -> Kept:
            written = self.written(records, head)
            return Kept(
                fingerprint=once.fingerprint,
                status=once.status,
                body=once.body(written.records),
                position=written.position,
            )

        return Receipt(owner=once.owner, key=once.key, lifetime_us=LIFETIME_US, answer=answer)


def _acting(principal: Principal, bodies: Sequence[Mapping[str, Any]]) -> Principal:
    """A superadmin who names no account by header acts in the one that the first body names (contract §8)."""
    named = values.canonical_id(bodies[0].get("account_id")) if principal.superadmin and bodies else None
    if named is None or principal.account_id != SYSTEM_ACCOUNT_ID:
        return principal
    return msgspec.structs.replace(principal, account_id=named)


def _context(access: Access, operation: str, batch: int = 1) -> Context:
    return Context(principal=access.principal, operation=operation, batch=batch)


def _check_batch(count: int) -> None:
    if not 1 <= count <= MAX_BATCH:
        raise ValidationFailed(f"A batch holds 1 to {MAX_BATCH} records, not {count}.", code="invalid_batch")


def _records(index: int) -> str:
    return f"records[{index}]"


async def _within(index: int, place: Place, write: Awaitable[Write]) -> Write:
    """A part of a batch: what is wrong with it is told under its place."""
    try:
        return await write
    except SnackBaseError as error:
        error.part = index
        raise _placed(error, place(index)) from None


def _placed(error: SnackBaseError, place: str) -> SnackBaseError:
    """The error, telling which part of a batch it is about."""
    details = [msgspec.structs.replace(detail, field=f"{place}.{detail.field}") for detail in error.details]
    whole = FieldError(field=place, message=error.message, code=error.code)
    error.details = tuple(details) or (whole,)
    if not isinstance(error, HookAbort):
        error.message = f"{place}: {error.message}"
    return error


def _changed(change: Change, record: Record) -> dict[str, Any]:
    """What after-hooks get as `data`: the fields that were written."""
    if change.op is Op.DELETE:
        return {}
    names = record if change.prev is None else change.prev
    return {name: record[name] for name in names if name not in SYSTEM_FIELDS}
