"""Definitions of collections, for superadmins: made, changed, dropped, looked at (contract §8).

Owns who may, in which order, and that only one change of a schema is under way in this process; `Revision` owns what a
definition may be, the store owns the tables. A change has reached the catalog when its call returns, so what the caller
does next already meets it.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import msgspec

from snackbase.catalog import OPERATIONS, RULES_WITH_DATA, Catalog, Definition, kinds_of
from snackbase.errors import Conflict, FieldError, Forbidden, NotFound, Unauthorized, Unavailable, ValidationFailed
from snackbase.hooks import Hooks, Later
from snackbase.model import Collection, Principal
from snackbase.rules import RESERVED_WORDS, Auth, Kind, RuleError, check, conjunction, parse
from snackbase.rules.tokens import tokenize
from snackbase.services import values
from snackbase.services.definitions import RIGHTS_KEYS, Revision
from snackbase.services.plans import RulePlan, list_plan, plan_of
from snackbase.services.trials import Trial, tried
from snackbase.storage.base import SchemaChange, Store

MAX_COLLECTIONS = 1000
MOST_TURNS = 1000
MAX_NAMES = 1000
"""Names of fields that one validation takes."""

SortBy = Literal["name", "created_at", "updated_at"]


class CollectionContext(msgspec.Struct, frozen=True, kw_only=True):
    """What a collection hook is told about the request."""

    principal: Principal
    operation: str

    @property
    def user_id(self) -> str | None:
        return self.principal.actor_id


class Validation(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a text is a rule; if not, why and at which character (from 0) of `part`: the rule or the filter.

    `plan`: what it costs, where the fields are known.
    """

    valid: bool
    errors: tuple[str, ...] = ()
    position: int | None = None
    code: str | None = None
    part: Literal["rule", "filter"] | None = None
    plan: RulePlan | None = None


class Collections:
    """
    Args:
        later: runs after-hooks. new_id: an id for a new collection.
    """

    def __init__(
        self, store: Store, catalog: Catalog, hooks: Hooks, *, later: Later, new_id: Callable[[], str]
    ) -> None:
        self._store = store
        self._catalog = catalog
        self._hooks = hooks
        self._later = later
        self._new_id = new_id
        self._changing = asyncio.Lock()

    async def create(self, principal: Principal, body: Mapping[str, Any]) -> Collection:
        """Make a collection; rules that are left out are the members'.

        Raises:
            ValidationFailed: what is wrong with which part. Conflict: name_taken, too_many_collections.
            Unauthorized, Forbidden: superadmins only. HookAbort.
        """
        _check_superadmin(principal)
        body, collection_id = dict(body), self._new_id()
        async with self._changing:
            if len(self._catalog.all()) >= MAX_COLLECTIONS:
                raise Conflict(f"There are {MAX_COLLECTIONS} collections already.", code="too_many_collections")
            after = self._revised(None, body, collection_id)
            if self._hooks.has("on_collection_before_create", after.name):
                await self._before("create", after.name, body, principal)
                after = self._revised(None, body, collection_id)
            made = await self._alter(SchemaChange(before=None, after=after))
        self._after("create", after.name, body, principal)
        return made or after

    async def update(self, principal: Principal, reference: str, body: Mapping[str, Any]) -> Collection:
        """Change a collection; what is left out stays. `schema` is the whole list: fields missing in it are dropped.

        Raises:
            ValidationFailed: as `create`; also a rule, an index or a list of fields that names a dropped field;
            `type_change`, `required_without_default`. Conflict: name_taken, not_unique, changed_meanwhile.
            NotFound, Unauthorized, Forbidden, HookAbort.
        """
        _check_superadmin(principal)
        body = dict(body)
        async with self._changing:
            before = self._definition(reference).collection
            after = self._revised(before, body, before.id)
            if self._hooks.has("on_collection_before_update", before.name):
                await self._before("update", before.name, body, principal)
                after = self._revised(before, body, before.id)
            if after == before:
                return before
            made = await self._alter(SchemaChange(before=before, after=after))
        self._after("update", before.name, body, principal)
        return made or after

    async def update_rights(self, principal: Principal, reference: str, body: Mapping[str, Any]) -> Collection:
        """Change rules and shown fields only. Raises: as `update`."""
        for key in body:
            if key not in RIGHTS_KEYS:
                hint = values.did_you_mean(key, RIGHTS_KEYS)
                message = f"There is no rule {key[:64]!r}.{hint}"
                raise ValidationFailed(
                    message, details=[FieldError(field=key[:64], message=message, code="unknown_field")]
                )
        return await self.update(principal, reference, body)

    async def drop(self, principal: Principal, reference: str) -> None:
        """Drop a collection with all its records, in every account.

        Raises:
            Conflict: `referenced` by a field of another collection. NotFound, Unauthorized, Forbidden, HookAbort.
        """
        _check_superadmin(principal)
        async with self._changing:
            before = self._definition(reference).collection
            await self._before("delete", before.name, {}, principal)
            await self._alter(SchemaChange(before=before, after=None))
        self._after("delete", before.name, {}, principal)

    def get(self, principal: Principal, reference: str) -> Collection:
        """By id, or by name in its exact spelling. Raises: NotFound, Unauthorized, Forbidden."""
        _check_superadmin(principal)
        return self._definition(reference).collection

    def list(
        self, principal: Principal, *, search: str = "", sort_by: SortBy = "name", descending: bool = False
    ) -> Sequence[Collection]:
        """Every collection whose name contains `search` in whatever case. Raises: Unauthorized, Forbidden."""
        _check_superadmin(principal)
        found = [one.collection for one in self._catalog.all() if search.lower() in one.collection.name.lower()]
        return sorted(found, key=lambda one: (getattr(one, sort_by).lower(), one.name), reverse=descending)

    async def count(self, collection: Collection) -> int:
        """How many records it has, in all accounts; 0 when it is gone.

        Raises:
            Unavailable: query_timeout, overloaded.
        """
        try:
            return await self._store.count(collection)
        except Unavailable as error:
            # Counting asks for no field, so only a dropped table can be in the way.
            if error.code == "schema_changed":
                return 0
            raise

    async def validate(
        self,
        principal: Principal,
        rule: str | None,
        *,
        operation: str = "list",
        collection: str | None = None,
        fields: Sequence[str] = (),
        wanted: str = "",
        auth: Auth | None = None,
    ) -> Validation:
        """Whether a text is a rule, over a collection's fields or, where only names are known, over any types.

        Args:
            wanted: a filter that a list or subscription adds to it.
            auth: the user the plan is made for; None = as far as it is the same for all.

        Raises:
            ValidationFailed: an unknown operation. NotFound, Unauthorized, Forbidden.
        """
        _check_superadmin(principal)
        if operation not in OPERATIONS:
            message = f"operation is one of {', '.join(OPERATIONS)}."
            raise ValidationFailed(message, details=[FieldError(field="operation", message=message, code="invalid")])
        definition = self._definition(collection) if collection else None
        kinds = definition.kinds if definition else _any_kinds(fields)
        readable = definition.list_fields if definition else None
        part: Literal["rule", "filter"] = "rule"
        try:
            asked = check(parse(rule or ""), kinds, data=kinds if operation in RULES_WITH_DATA else None)
            part = "filter"
            filtered = check(parse(wanted), kinds, readable=readable)
        except RuleError as error:
            if collection or error.code != "type_mismatch":
                code = "unknown_field" if error.code == "hidden_field" else error.code
                return Validation(valid=False, errors=(str(error),), position=error.position, code=code, part=part)
            # Only names are known: the types may be right, but what stands behind was not looked at.
            found = _names_known(rule or "", kinds)
            return found if not found.valid else _names_known(wanted, kinds)
        listing = operation == "list"
        both = (asked, filtered) if listing else (asked,)
        plan = plan_of(None if rule is None else conjunction(both), auth, listing=listing)
        if definition is not None and listing and rule is not None:
            lists = await list_plan(self._store, definition, both, auth)
            plan = msgspec.structs.replace(plan, lists=lists)
        return Validation(valid=True, plan=plan)

    def trial(self, principal: Principal, rule: str, trial: Trial, *, collection: str | None = None) -> bool:
        """Whether a rule is true of a made-up case; over a collection's fields, or those of the case.

        Raises:
            ValidationFailed: the text is no rule over these fields. NotFound, Unauthorized, Forbidden.
        """
        _check_superadmin(principal)
        return tried(rule, trial, self._definition(collection).kinds if collection else None)

    def _definition(self, reference: str) -> Definition:
        record_id = values.canonical_id(reference)
        found = self._catalog.by_id(record_id) if record_id else self._catalog.by_name(reference)
        if found is None:
            hint = values.did_you_mean(reference, [one.collection.name for one in self._catalog.all()])
            raise NotFound(f"There is no collection {reference[:64]!r}.{hint}", code="collection_not_found")
        return found

    def _revised(self, before: Collection | None, body: Mapping[str, Any], collection_id: str) -> Collection:
        return Revision(before, body, find_name=self._find_name).apply(collection_id=collection_id)

    def _find_name(self, reference: str) -> str | None:
        for one in self._catalog.all():
            if reference.lower() in (one.collection.name.lower(), one.collection.id):
                return one.collection.name
        return None

    async def _alter(self, change: SchemaChange) -> Collection | None:
        made = await self._store.alter(change)
        # The store tells the catalog right after those who waited for the change: a turn or two of the loop.
        for _ in range(MOST_TURNS):
            if self._arrived(change, made):
                break
            await asyncio.sleep(0)
        return made

    def _arrived(self, change: SchemaChange, made: Collection | None) -> bool:
        if made is None:
            return change.before is None or self._catalog.by_id(change.before.id) is None
        known = self._catalog.by_id(made.id)
        return known is not None and known.collection.version >= made.version

    async def _before(self, operation: str, name: str, body: dict[str, Any], principal: Principal) -> None:
        await self._hooks.fire(
            f"on_collection_before_{operation}",
            collection=name,
            refusing=True,
            data=body,
            context=CollectionContext(principal=principal, operation=operation),
        )

    def _after(self, operation: str, name: str, body: dict[str, Any], principal: Principal) -> None:
        event = f"on_collection_after_{operation}"
        if self._hooks.has(event, name):
            context = CollectionContext(principal=principal, operation=operation)
            self._later(lambda: self._hooks.fire(event, collection=name, refusing=False, data=body, context=context))


def _check_superadmin(principal: Principal) -> None:
    if principal.kind == "guest":
        raise Unauthorized("A superadmin's token is required.", code="token_missing")
    if not principal.superadmin:
        raise Forbidden("Only superadmins may see and change collections.")


def _any_kinds(names: Sequence[str]) -> dict[str, Kind]:
    return {**dict.fromkeys(names[:MAX_NAMES], Kind.TEXT), **kinds_of(())}


def _names_known(rule: str, kinds: Mapping[str, Kind]) -> Validation:
    for token in tokenize(rule):
        if token.kind == "name" and token.word not in kinds and token.word.lower() not in RESERVED_WORDS:
            message = f"position {token.position}: there is no field {token.word[:64]!r}"
            return Validation(valid=False, errors=(message,), position=token.position, code="unknown_field")
    return Validation(valid=True)
