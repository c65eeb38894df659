"""Definitions of collections as one document: read out, and brought into another installation (contract §8).

The document has the shape that existing clients know: `{version, exported_at, exported_by, collections: [{name, schema,
rules}]}`, here with `indexes` besides. Owns the order in which references can be made, cycles included, and what
happens where a collection exists already. Every collection is made or changed by `Collections`, so nothing gets in that
could not be made by hand. Not atomic as a whole: what was done before a fault stays, and importing again goes on.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from snackbase.catalog import OPERATIONS, rule_text
from snackbase.errors import Conflict, FieldError, SnackBaseError, ValidationFailed
from snackbase.model import Collection, FieldType, Principal, rfc3339
from snackbase.services.collections import MAX_COLLECTIONS, Collections

FORMAT_VERSION = "1.0"
Strategy = Literal["error", "skip", "update"]
"""What to do with a collection that exists: refuse the whole import, leave it as it is, or change it (fields that the
document does not name stay)."""


class IndexItem(msgspec.Struct, frozen=True, kw_only=True):
    fields: list[str]
    unique: bool = False


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """One collection of a document. `rules`: also `list_fields` and the like."""

    name: str
    schema: list[dict[str, Any]]
    rules: dict[str, Any] = {}
    indexes: list[IndexItem] = []


class Document(msgspec.Struct, frozen=True, kw_only=True):
    collections: list[Item]
    version: str = FORMAT_VERSION


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one collection: imported | skipped | updated | error."""

    name: str
    status: str
    message: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a document, in the words of existing clients."""

    success: bool
    imported_count: int
    skipped_count: int
    updated_count: int
    failed_count: int
    collections: list[Result]
    migrations_created: list[str] = []


def shown_fields(names: tuple[str, ...] | None) -> str:
    """A list of fields as text: names with commas, `*` for all."""
    return "*" if names is None else ",".join(names)


def rights_of(collection: Collection) -> dict[str, Any]:
    """The rules and shown fields, as REST tells them."""
    return {
        **{f"{operation}_rule": rule_text(collection.rules, operation) for operation in OPERATIONS},
        "list_fields": shown_fields(collection.list_fields),
        "view_fields": shown_fields(collection.view_fields),
        "create_fields": "*",
        "update_fields": "*",
    }


class Porting:
    def __init__(self, collections: Collections) -> None:
        self._collections = collections

    def document(self, principal: Principal, references: Sequence[str], *, now_us: int) -> dict[str, Any]:
        """The named collections (ids or names; none = all).

        Raises:
            NotFound: there is no such collection. Unauthorized, Forbidden: superadmins only.
        """
        found = (
            [self._collections.get(principal, one) for one in dict.fromkeys(references)]
            if references
            else self._collections.list(principal)
        )
        return {
            "version": FORMAT_VERSION,
            "exported_at": rfc3339(now_us),
            "exported_by": principal.email or principal.kind,
            "collections": [
                {
                    "name": one.name,
                    "schema": list(one.fields),
                    "indexes": list(one.indexes),
                    "rules": rights_of(one),
                }
                for one in found
            ],
        }

    async def bring_in(self, principal: Principal, document: Document, strategy: Strategy) -> Report:
        """Make or change the collections of a document.

        Raises:
            ValidationFailed: two of one name, or too many. Conflict: `name_taken`, with the strategy `error`; then
            nothing was done. Unauthorized, Forbidden: superadmins only.
        """
        known = {one.name.lower(): one.name for one in self._collections.list(principal)}
        _check(document, known, strategy)
        results: list[Result] = []
        later: list[Item] = []
        here = set(known)
        for item in _ordered(document.collections):
            name = known.get(item.name.lower())
            if name is not None and strategy == "skip":
                results.append(Result(name=name, status="skipped", message="It exists already."))
                continue
            possible = _without_references(item, here | {item.name.lower()}, new=name is None)
            result = await self._one(principal, possible, name)
            results.append(result)
            if result.status != "error":
                here.add(item.name.lower())
                if possible is not item:
                    later.append(item)
        for item in later:
            await self._complete(principal, item, results)
        return _report(results)

    async def _one(self, principal: Principal, item: Item, name: str | None) -> Result:
        try:
            if name is None:
                await self._collections.create(principal, _body(item))
                return Result(name=item.name, status="imported", message="It was made.")
            current = self._collections.get(principal, name)
            await self._collections.update(principal, name, _merged(current, item))
            return Result(name=name, status="updated", message="It was changed.")
        except SnackBaseError as error:
            return Result(name=item.name, status="error", message=error.message)

    async def _complete(self, principal: Principal, item: Item, results: list[Result]) -> None:
        """Give a collection the references that could not be made before their targets."""
        done = await self._one(principal, item, item.name)
        if done.status == "error":
            index = next(number for number, one in enumerate(results) if one.name.lower() == item.name.lower())
            results[index] = done


def _check(document: Document, known: Mapping[str, str], strategy: Strategy) -> None:
    names = [item.name.lower() for item in document.collections]
    if len(names) > MAX_COLLECTIONS or len(set(names)) < len(names):
        message = f"A document holds at most {MAX_COLLECTIONS} collections, no two of one name."
        raise ValidationFailed(message, details=[FieldError(field="collections", message=message, code="invalid")])
    taken = [item.name for item in document.collections if item.name.lower() in known]
    if taken and strategy == "error":
        message = f"Collections of these names exist already: {', '.join(taken[:10])}. Nothing was imported."
        details = [FieldError(field="name", message=f"{name} exists already.", code="name_taken") for name in taken]
        raise Conflict(message, code="name_taken", details=details[:100])


def _targets(item: Item) -> dict[str, str]:
    """Reference field -> the collection that it names, in lower case."""
    return {
        _name(field): str(field.get("collection")).lower()
        for field in item.schema
        if field.get("type") == FieldType.REFERENCE
    }


def _ordered(items: Sequence[Item]) -> list[Item]:
    """Targets before what refers to them, as far as that goes; otherwise as they came."""
    waiting, ordered = list(items), list[Item]()
    while waiting:
        missing = {item.name.lower() for item in waiting}
        ready = [one for one in waiting if not (set(_targets(one).values()) - {one.name.lower()}) & missing]
        # A cycle: the first one begins without its references.
        ready = ready or waiting[:1]
        ordered += ready
        waiting = [one for one in waiting if one not in ready]
    return ordered


def _name(field: Mapping[str, Any]) -> str:
    return str(field.get("name"))


def _without_references(item: Item, here: set[str], *, new: bool) -> Item:
    """The collection without references to what is not there yet, and what names them; itself if there are none."""
    missing = {name for name, target in _targets(item).items() if target not in here}
    if not missing:
        return item
    schema = [field for field in item.schema if _name(field) not in missing]
    indexes = [index for index in item.indexes if not missing & set(index.fields)]
    # Rules may ask for these references: until they are there only superadmins have a right to a new collection, and
    # the rights to an existing one stay as they are.
    rules = {f"{operation}_rule": None for operation in OPERATIONS} if new else {}
    return msgspec.structs.replace(item, schema=schema, indexes=indexes, rules=rules)


def _body(item: Item) -> dict[str, Any]:
    return {**item.rules, "name": item.name, "schema": item.schema, "indexes": msgspec.to_builtins(item.indexes)}


def _merged(current: Collection, item: Item) -> dict[str, Any]:
    """The body of a change that takes nothing away: fields and indexes that the document does not name stay."""
    body = _body(item)
    named = set(map(_name, item.schema))
    kept = [msgspec.to_builtins(field) for field in current.fields if field.name not in named]
    given = [tuple(index.fields) for index in item.indexes]
    others = [{"fields": list(one.fields), "unique": one.unique} for one in current.indexes if one.fields not in given]
    return {**body, "name": current.name, "schema": [*item.schema, *kept], "indexes": [*body["indexes"], *others]}


def _report(results: list[Result]) -> Report:
    counts = {word: sum(one.status == word for one in results) for word in ("imported", "skipped", "updated", "error")}
    return Report(
        success=not counts["error"],
        imported_count=counts["imported"],
        skipped_count=counts["skipped"],
        updated_count=counts["updated"],
        failed_count=counts["error"],
        collections=results,
    )
