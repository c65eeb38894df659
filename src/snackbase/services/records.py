"""THE write path: every change of a record, whoever asks for it, goes through `Records` (step 3 of the path).

Values, rule, before-hooks, one transaction; after-hooks once it is committed. Owns the order of these and the answers
to a caller; the store owns atomicity, the change log and telling others, so nothing here announces anything. Rules of
updates and deletes are judged by the store on the record as the transaction finds it, so no other write slips between.
Reads stand here too: they ask the same rules.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from snackbase.catalog import Catalog, project
from snackbase.errors import Conflict, NotFound, Unavailable, ValidationFailed
from snackbase.hooks import Hooks
from snackbase.model import (
    SYSTEM_ACCOUNT_ID,
    SYSTEM_FIELDS,
    Change,
    Head,
    Op,
    Position,
    Principal,
    Record,
)
from snackbase.realtime.position import Positions
from snackbase.realtime.protocol import SubscribeRequest, field_names
from snackbase.services import values
from snackbase.services.access import Access
from snackbase.services.listing import ListRequest, fields_of, filter_of, sort_of, where_of
from snackbase.services.preparation import Context, Edit, Preparation, known_id
from snackbase.storage.base import Committed, Page, Query, Store, Transaction, Write

MAX_BATCH = 100
MOST_TRIES = 20
"""Of a request that met a schema change: its definition was replaced between judging and writing. Each try knows the
newest one, so only a schema that changes without pause uses them up (3 were too few on a busy machine)."""
RETRY_AFTER_S = 0.01

T = TypeVar("T")
Later = Callable[[Callable[[], Coroutine[Any, Any, None]]], None]
"""Runs something after the answer: bounded, never awaited by the caller, and counted when it cannot be run."""


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of a write: the records as the writer may read them (a delete: only their ids), and where the
    account's log stands after it."""

    records: tuple[Record, ...]
    position: str


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """A page of records; `total` None when it was not asked for. `position` is of the same snapshot as the items."""

    items: tuple[Record, ...]
    total: int | None
    skip: int
    limit: int
    position: str


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A whole list, where the account's log stood when it was read, and the version of rules it was read under."""

    items: tuple[Record, ...]
    head: Head
    version: int


class Records:
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
        self._store = store
        self._catalog = catalog
        self._hooks = hooks
        self._positions = positions
        self._later = later
        self._preparation = Preparation(store, hooks, new_id=new_id, now_us=now_us)
        self._explain = explain

    async def create(self, principal: Principal, collection: str, data: Mapping[str, Any]) -> Written:
        """Create one record.

        Raises:
            Unauthorized, Forbidden: the create rule. ValidationFailed, TooLarge: the values, or a reference to nothing.
            Conflict: id_taken, not_unique, changed_meanwhile. NotFound: collection_not_found.
            HookAbort: refused by a hook. Unavailable: the store cannot take it now.
        """
        return await self._create(principal, collection, (data,), in_batch=False)

    async def create_many(self, principal: Principal, collection: str, records: Sequence[Mapping[str, Any]]) -> Written:
        """Create all of the records or none. Raises: as `create`; a detail's field begins with `records[i]`."""
        _check_batch(len(records))
        return await self._create(principal, collection, records, in_batch=True)

    async def update(
        self, principal: Principal, collection: str, record_id: str, data: Mapping[str, Any], *, replace: bool = False
    ) -> Written:
        """Change the given fields of a record; with `replace` all of them, missing ones becoming default or null.

        Raises:
            NotFound: absent or invisible. Others as `create`.
        """
        edit = Edit(id=record_id, data=dict(data))

        async def prepare(access: Access) -> list[Write]:
            return [await self._preparation.update(access, edit, _context(access, "update"), replace=replace)]

        return await self._write(principal, collection, "update", prepare)

    async def update_many(self, principal: Principal, collection: str, edits: Sequence[Edit]) -> Written:
        """Change all of the records or none. Raises: as `update`; a detail's field begins with `records[i]`."""
        _check_batch(len(edits))

        async def prepare(access: Access) -> list[Write]:
            context = _context(access, "update", len(edits))
            return [
                await _within(index, self._preparation.update(access, edit, context, replace=False))
                for index, edit in enumerate(edits)
            ]

        return await self._write(principal, collection, "update", prepare)

    async def delete(self, principal: Principal, collection: str, record_id: str) -> Written:
        """Delete a record and what refers to it by `cascade`.

        Raises:
            Unauthorized, Forbidden: the delete rule. NotFound: absent or invisible.
            Conflict: `referenced` by a record that restricts it, `too_many_changes`. HookAbort, Unavailable.
        """
        return await self._delete_all(principal, collection, (record_id,))

    async def delete_many(self, principal: Principal, collection: str, record_ids: Sequence[str]) -> Written:
        """Delete all of the records or none; an id that is given twice counts once. Raises: as `delete`."""
        _check_batch(len(record_ids))
        return await self._delete_all(principal, collection, tuple(dict.fromkeys(record_ids)))

    async def _create(
        self, principal: Principal, collection: str, bodies: Sequence[Mapping[str, Any]], *, in_batch: bool
    ) -> Written:
        async def prepare(access: Access) -> list[Write]:
            context = _context(access, "create", len(bodies))
            creations = (self._preparation.creation(access, body, context) for body in bodies)
            return [
                await (_within(index, creation) if in_batch else creation) for index, creation in enumerate(creations)
            ]

        return await self._write(_acting(principal, bodies), collection, "create", prepare)

    async def _delete_all(self, principal: Principal, collection: str, record_ids: Sequence[str]) -> Written:
        async def prepare(access: Access) -> list[Write]:
            context = _context(access, "delete", len(record_ids))
            return [await self._preparation.deletion(access, record_id, context) for record_id in record_ids]

        return await self._write(principal, collection, "delete", prepare)

    async def _write(
        self, principal: Principal, collection: str, operation: str, prepare: Callable[[Access], Awaitable[list[Write]]]
    ) -> Written:
        hooked = self._hooks.has(f"on_record_before_{operation}", collection)
        for tries_left in reversed(range(1 if hooked else MOST_TRIES)):
            access, version = self._access(principal, collection), self._catalog.version
            writes = tuple(await prepare(access))
            try:
                committed = await self._store.write(
                    Transaction(account_id=principal.account_id, actor=principal.actor_id, writes=writes)
                )
            except Conflict as conflict:
                if conflict.code != "changed_meanwhile" or not tries_left:
                    raise
                await asyncio.sleep(RETRY_AFTER_S)
                continue
            self._run_after_hooks(committed, Context(principal=principal, operation=operation, batch=len(writes)))
            shown = [
                {"id": record["id"]} if operation == "delete" else access.shown(record) for record in committed.written
            ]
            return Written(records=tuple(shown), position=self._position(principal, committed.head, version))
        raise RuntimeError("unreachable: the last try returns or raises")

    def _run_after_hooks(self, committed: Committed, context: Context) -> None:
        calls: list[tuple[str, str, Change]] = []
        for change in committed.changes:
            definition = self._catalog.by_id(change.collection_id)
            event = f"on_record_after_{change.op}"
            if definition is not None and self._hooks.has(event, definition.collection.name):
                calls.append((event, definition.collection.name, change))
        if calls:
            self._later(lambda: self._after(calls, context))

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

    async def get(self, principal: Principal, collection: str, record_id: str, *, fields: str = "") -> Record:
        """One record as the principal may view it, cut to `fields` if given.

        Raises:
            Unauthorized, Forbidden: the view rule is locked. NotFound: absent or invisible. BadRequest: invalid_fields.
        """

        async def read() -> Record:
            access = self._access(principal, collection)
            judge = access.judge("view")
            shown = fields_of(fields, access.definition, access.definition.readable(principal, "view"))
            wanted = known_id(access, record_id)
            record = await self._store.get(access.definition.collection, principal.account_id, wanted)
            if record is None:
                raise access.absent(wanted)
            if judge is not None and not judge(record):
                raise access.hidden(wanted)
            return project(record, shown)

        return await _while_schema_changes(read)

    async def list(self, principal: Principal, collection: str, request: ListRequest) -> Listing:
        """A page of the records the principal may list.

        Raises:
            Unauthorized, Forbidden: the list rule is locked. BadRequest: invalid_limit, invalid_skip, invalid_sort,
            invalid_fields, invalid_filter. NotFound: collection_not_found. Unavailable: query_timeout, overloaded.
        """
        request.check()
        page, version = await self._page(principal, collection, request)
        return Listing(
            items=page.items,
            total=page.total,
            skip=request.skip,
            limit=request.limit,
            position=self._position(principal, page.head, version),
        )

    async def snapshot(self, principal: Principal, request: SubscribeRequest, sort: str, most: int) -> Snapshot:
        """The whole list that a subscription stands for, with its place in the log: what `list` would give, in one
        piece of at most `most` records. Raises as `list`."""
        asked = ListRequest(
            limit=most,
            sort=sort,
            fields=",".join(field_names(request.fields) or ()),
            filter=request.filter or "",
            total=False,
        )
        page, version = await self._page(principal, request.collection, asked)
        return Snapshot(items=page.items, head=page.head, version=version)

    async def _page(self, principal: Principal, collection: str, request: ListRequest) -> tuple[Page, int]:
        """The records as the principal may see them, and the version of the rules that decided it."""

        async def read() -> tuple[Page, int]:
            access, version = self._access(principal, collection), self._catalog.version
            definition = access.definition
            rule = access.rule("list")
            readable = definition.readable(principal, "list")
            fields = fields_of(request.fields, definition, readable)
            wanted = filter_of(request.filter, definition, readable)
            query = Query(
                collection=definition.collection,
                account_id=principal.account_id,
                where=where_of((rule, wanted), access.auth, self._store.dialect),
                sort=sort_of(request.sort, definition, readable),
                skip=request.skip,
                limit=request.limit,
                total=request.total,
            )
            page = await self._store.list(query)
            shown = tuple(project(record, fields) for record in page.items)
            return msgspec.structs.replace(page, items=shown), version

        return await _while_schema_changes(read)

    def _access(self, principal: Principal, collection: str) -> Access:
        definition = self._catalog.by_name(collection)
        if definition is None:
            known = (
                [one.collection.name for one in self._catalog.all()] if principal.superadmin or self._explain else ()
            )
            hint = values.did_you_mean(collection, known)
            raise NotFound(f"There is no collection {collection[:64]!r}.{hint}", code="collection_not_found")
        return Access(definition, principal, explain=self._explain)

    def _position(self, principal: Principal, head: Head, version: int) -> str:
        """`version` was read before the database was, so a change of rights in between is noticed, never skipped."""
        return self._positions.token(principal.account_id, Position(head.seq, head.ts_us, version))


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


async def _within(index: int, write: Awaitable[Write]) -> Write:
    """A part of a batch: what is wrong with it is told under its place."""
    try:
        return await write
    except ValidationFailed as error:
        details = [
            msgspec.structs.replace(detail, field=f"records[{index}].{detail.field}") for detail in error.details
        ]
        raise ValidationFailed(f"records[{index}]: {error.message}", code=error.code, details=details) from None


async def _while_schema_changes(read: Callable[[], Awaitable[T]]) -> T:
    """A read that met a schema change knows the new definition a moment later."""
    for _ in range(MOST_TRIES - 1):
        try:
            return await read()
        except Unavailable as error:
            if error.code != "schema_changed":
                raise
            await asyncio.sleep(RETRY_AFTER_S)
    return await read()


def _changed(change: Change, record: Record) -> dict[str, Any]:
    """What after-hooks get as `data`: the fields that were written."""
    if change.op is Op.DELETE:
        return {}
    names = record if change.prev is None else change.prev
    return {name: record[name] for name in names if name not in SYSTEM_FIELDS}
