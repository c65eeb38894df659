"""Reads of records: one by its id, lists by page or by cursor, whole lists for subscriptions; with what they refer to.

Owns that a list obeys the list rule and `list_fields`, a single record the view rule and `view_fields`, and everything
the account; where the list is the database's, its position is read in the same snapshot. Must not write. The write path
builds on it (`services/records.py`).
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import msgspec

from snackbase.catalog import PERSONAL_CLAIMS, Catalog, project
from snackbase.errors import NotFound, Unavailable
from snackbase.model import Head, Position, Principal, Record
from snackbase.realtime.position import Positions
from snackbase.realtime.protocol import SubscribeRequest, field_names
from snackbase.services import cursors, values
from snackbase.services.access import Access
from snackbase.services.expansion import Expansion, tree_of
from snackbase.services.listing import ListRequest, Sort, Where, fields_of, filter_of, sort_of, where_of
from snackbase.services.preparation import known_id
from snackbase.storage.base import Page, Query, Store
from snackbase.storage.system import find_user

RETRIES_AFTER_S = (0.01,) * 19
"""Of a request that met a schema change: its definition was replaced between judging and reading or writing. Each try
knows the newest one, so only a schema that changes without pause uses them up (3 were too few on a busy machine)."""

T = TypeVar("T")


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """A page of records; `total` None when it was not asked for. `position` is of the same snapshot as the items.

    `next_cursor`, `prev_cursor`: where the pages after and before this one begin; None = there is none.
    """

    items: tuple[Record, ...]
    total: int | None
    skip: int
    limit: int
    position: str
    next_cursor: str | None
    prev_cursor: str | None
    has_more: bool


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A whole list, where the account's log stood when it was read, and the version of rules it was read under."""

    items: tuple[Record, ...]
    head: Head
    version: int


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """One list as one principal may see it: what is read, and what of it is shown. `personal`: by what a change of the
    user's row can change."""

    access: Access
    personal: bool
    version: int
    where: Where | None
    sort: Sort
    fields: frozenset[str] | None
    readable: frozenset[str] | None


class Reads:
    """
    Args:
        explain: answer everybody as superadmins are answered about what is absent or refused (`serve --dev`).
    """

    def __init__(self, store: Store, catalog: Catalog, positions: Positions, *, explain: bool = False) -> None:
        self._store = store
        self._catalog = catalog
        self._positions = positions
        self._explain = explain

    async def get(
        self, principal: Principal, collection: str, record_id: str, *, fields: str = "", expand: str = ""
    ) -> Record:
        """One record as the principal may view it, cut to `fields` if given, with the records it refers to.

        Raises:
            Unauthorized, Forbidden: the view rule is locked. NotFound: absent or invisible.
            BadRequest: invalid_fields, invalid_expand.
        """

        async def read() -> Record:
            access = self._access(principal, collection)
            judge = access.judge("view")
            readable = access.definition.readable(principal, "view")
            shown = fields_of(fields, access.definition, readable)
            tree = tree_of(expand, access.definition, readable)
            wanted = known_id(access, record_id)
            record = await self._store.get(access.definition.collection, principal.account_id, wanted)
            if record is None:
                raise access.absent(wanted)
            if judge is not None and not judge(record):
                raise access.hidden(wanted)
            if not tree:
                return project(record, shown)
            expansion = Expansion(self._store, self._catalog, principal)
            return (await expansion.into(tree, access.definition, [record], [project(record, shown)]))[0]

        return await while_schema_changes(read)

    async def list(self, principal: Principal, collection: str, request: ListRequest) -> Listing:
        """A page of the records the principal may list.

        Raises:
            Unauthorized, Forbidden: the list rule is locked. BadRequest: invalid_limit, invalid_skip, invalid_sort,
            invalid_fields, invalid_filter, invalid_expand, invalid_cursor. NotFound: collection_not_found.
            Unavailable: query_timeout, overloaded.
        """
        request.check()
        return await while_schema_changes(lambda: self._list(principal, collection, request))

    async def _list(self, principal: Principal, collection: str, request: ListRequest) -> Listing:
        plan, back = self._plan(principal, collection, request), bool(request.cursor_before)
        definition = plan.access.definition
        tree = tree_of(request.expand, definition, plan.readable)
        order = cursors.turned(plan.sort) if back else plan.sort
        place = request.cursor or request.cursor_before
        beyond = await self._beyond(plan, order, place) if place else None
        page = await self._store.list(
            Query(
                collection=definition.collection,
                account_id=principal.account_id,
                where=plan.where,
                beyond=beyond,
                sort=order,
                skip=request.skip,
                # One more than is shown tells whether there are more.
                limit=request.limit + 1,
                total=request.counted,
            )
        )
        await self._check(plan, page)
        if plan.personal and (current := await self._current(principal)) != principal:
            # The list has waited for its turn, and its position says that what changed meanwhile is in it.
            return await self._list(current, collection, request)
        more, found = len(page.items) > request.limit, page.items[: request.limit]
        found = found[::-1] if back else found
        items: Sequence[Record] = [project(record, plan.fields) for record in found]
        if tree:
            items = await Expansion(self._store, self._catalog, principal).into(tree, definition, found, items)
        before = more if back else bool(request.cursor or request.skip)
        after = back or more

        def at(record: Record) -> str:
            return cursors.encode(definition, plan.sort, record, plan.readable)

        return Listing(
            items=tuple(items),
            total=page.total,
            skip=request.skip,
            limit=request.limit,
            position=self._position(principal, page.head, plan.version),
            next_cursor=at(found[-1]) if found and after else None,
            prev_cursor=at(found[0]) if found and before else None,
            has_more=bool(found) and after,
        )

    async def _beyond(self, plan: Plan, order: Sort, text: str) -> Where:
        """The condition for what follows the cursor in this order."""
        definition = plan.access.definition
        cursor = cursors.decode(text, definition)
        if cursor.sort != cursors.text_of(plan.sort):
            raise cursors.refused("The cursor belongs to another sort; send the same sort with every page.")
        cursors.check_values(cursor, plan.sort, definition, plan.readable)
        if cursor.values is not None:
            return cursors.beyond(order, cursor.values)
        record_id, judge = values.canonical_id(cursor.record_id), plan.access.judge("list")
        account_id = plan.access.principal.account_id
        record = await self._store.get(definition.collection, account_id, record_id) if record_id else None
        if record is not None and (judge is None or judge(record)):
            held = [record[name] for name, _ in plan.sort]
            if cursor.digest in ("", cursors.digest_of(held)):
                return cursors.beyond(order, held)
        raise cursors.refused("The record at which the cursor stood has changed or gone; begin again.")

    async def snapshot(self, principal: Principal, request: SubscribeRequest, sort: str, most: int) -> Snapshot:
        """The whole list that a subscription stands for, with its place in the log: what `list` would give, in one
        piece of at most `most` records. Raises as `list`."""
        asked = ListRequest(sort=sort, fields=",".join(field_names(request.fields) or ()), filter=request.filter or "")

        async def read() -> tuple[Page, Plan]:
            plan = self._plan(principal, request.collection, asked)
            query = Query(
                collection=plan.access.definition.collection,
                account_id=principal.account_id,
                where=plan.where,
                sort=plan.sort,
                limit=most,
                total=False,
            )
            page = await self._store.list(query)
            await self._check(plan, page)
            return page, plan

        page, plan = await while_schema_changes(read)
        shown = tuple(project(record, plan.fields) for record in page.items)
        return Snapshot(items=shown, head=page.head, version=plan.version)

    def require(self, principal: Principal, collection: str) -> None:
        """Raises NotFound (`collection_not_found`) unless there is such a collection."""
        self._access(principal, collection)

    async def existing(self, principal: Principal, collection: str, record_ids: Sequence[str]) -> set[str]:
        """Which of these canonical ids the account has records of; for an import, which sees everything."""

        def where(column: Callable[[str], str], param: Callable[[object], str]) -> str:
            return f"{column('id')} IN ({', '.join(map(param, record_ids))})"

        async def read() -> Page:
            definition = self._access(principal, collection).definition
            query = Query(
                collection=definition.collection,
                account_id=principal.account_id,
                where=where,
                sort=(("id", False),),
                limit=len(record_ids),
                total=False,
            )
            return await self._store.list(query)

        return {record["id"] for record in (await while_schema_changes(read)).items}

    async def _check(self, plan: Plan, page: Page) -> None:
        """A list obeys the rules of the moment in which it was read, also those that another node has just changed:
        pages read from several nodes have to fit. Raises Unavailable: read again, under the new rules."""
        if page.version <= plan.version:
            return
        if page.version > self._catalog.version:
            version, collections = await self._store.collections()
            if version > self._catalog.version:
                self._store.on_schema(version, collections)
        raise Unavailable("Rules or collections have just changed.", code="schema_changed", retry_after_s=1)

    def _plan(self, principal: Principal, collection: str, request: ListRequest) -> Plan:
        access, version = self._access(principal, collection), self._catalog.version
        definition = access.definition
        rule = access.rule("list")
        readable = definition.readable(principal, "list")
        sort = request.sort
        if not sort and (place := request.cursor or request.cursor_before):
            sort = cursors.sort_in(cursors.decode(place, definition))
        wanted = filter_of(request.filter, definition, readable)
        asked = [one for one in (rule, wanted) if one is not None]
        return Plan(
            access=access,
            personal=any(one.claims & PERSONAL_CLAIMS for one in asked),
            version=version,
            where=where_of((rule, wanted), access.auth, self._store.dialect),
            sort=sort_of(sort, definition, readable),
            fields=fields_of(request.fields, definition, readable),
            readable=readable,
        )

    async def _current(self, principal: Principal) -> Principal:
        """A user with the rights that their row gives now; others as they are."""
        user = await find_user(self._store, principal.actor_id or "") if principal.kind == "user" else None
        if user is None:
            return principal
        return msgspec.structs.replace(principal, email=user.email, role=user.role, groups=user.groups)

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


async def while_schema_changes(read: Callable[[], Awaitable[T]]) -> T:
    """A read that met a schema change knows the new definition a moment later."""
    for pause_s in RETRIES_AFTER_S:
        try:
            return await read()
        except Unavailable as error:
            if error.code != "schema_changed":
                raise
            await asyncio.sleep(pause_s)
    return await read()
