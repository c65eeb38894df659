"""`expand`: records that others refer to, put into them under the key `expand` (contract §8).

Every expanded record is shown as the principal could read it by itself: only where the target's view rule is true of
it, and cut to its view fields; what may not be seen is left out without a word, as if it were not there. All references
of one field are read at once, whatever their number. Reading only.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from snackbase.catalog import Catalog, Definition, auth_of, project
from snackbase.errors import BadRequest, FieldError
from snackbase.model import FieldType, Principal, Record
from snackbase.services.listing import where_of
from snackbase.services.values import did_you_mean
from snackbase.storage.base import Query, Scales, Store

MAX_DEPTH = 2
MAX_PATHS = 10
KEY = "expand"

Tree = dict[str, Any]
"""Field -> what is expanded in the records that it refers to: another tree."""


def tree_of(text: str, definition: Definition, readable: frozenset[str] | None) -> Tree:
    """`author,author.company` as a tree of reference fields.

    Raises:
        BadRequest: `invalid_expand`: no such field, one that may not be read, or one that is no reference; too deep or
            too many. Fields of a target are looked at when it is read, since its rights are other ones.
    """
    paths = [path for path in (part.strip() for part in text.split(",", MAX_PATHS + 1)) if path]
    if len(paths) > MAX_PATHS:
        raise _refused(f"expand takes at most {MAX_PATHS} paths.")
    tree: Tree = {}
    for path in paths:
        names = path.split(".")
        if len(names) > MAX_DEPTH:
            raise _refused(f"expand follows references at most {MAX_DEPTH} deep; {path[:64]!r} is longer.")
        branch = tree
        for name in names:
            branch = branch.setdefault(name, {})
    _check(tree, definition, readable)
    return tree


class Expansion:
    """Reads what a tree names, for one principal."""

    def __init__(self, store: Store, catalog: Catalog, principal: Principal) -> None:
        self._store = store
        self._catalog = catalog
        self._principal = principal

    async def into(
        self, tree: Tree, definition: Definition, records: Sequence[Record], shown: Iterable[Record]
    ) -> list[Record]:
        """The shown records, each with `expand`: field -> the record it refers to.

        Args:
            records: the same records, whole: a reference is followed also where `fields` leaves it out.

        Raises:
            BadRequest: `invalid_expand` for a field of a target. TooLarge: `page_too_large`.
        """
        expanded: list[Record] = [{**one, KEY: {}} for one in shown]
        # A record stands in the answer as often as it is referred to: one of 512 KB could make it 500 MB.
        scales = Scales()
        for name, branch in tree.items():
            found = await self._referred(definition, name, branch, records)
            sizes = {record_id: len(msgspec.json.encode(target)) for record_id, target in found.items()}
            for record, one in zip(records, expanded, strict=True):
                target = found.get(record[name])
                if target is not None:
                    scales.put_on(sizes[record[name]])
                    one[KEY][name] = target
        return expanded

    async def _referred(
        self, definition: Definition, name: str, branch: Tree, records: Sequence[Record]
    ) -> Mapping[str | None, Record]:
        """What the records' field refers to and may be seen, by id."""
        field = definition.collection.field(name)
        target = self._catalog.by_name((field and field.collection) or "")
        if target is None:
            return {}
        readable = target.readable(self._principal, "view")
        _check(branch, target, readable)
        ids = sorted({record[name] for record in records if record[name] is not None})
        rule = None if self._principal.superadmin else target.rule("view")
        if not ids or (rule is None and not self._principal.superadmin):
            return {}
        seen = where_of((rule,), auth_of(self._principal), self._store.dialect)

        def where(column: Callable[[str], str], param: Callable[[object], str]) -> str:
            allowed = f"{seen(column, param)} AND " if seen else ""
            return f"{allowed}{column('id')} IN ({', '.join(map(param, ids))})"

        query = Query(
            collection=target.collection,
            account_id=self._principal.account_id,
            where=where,
            sort=(("id", False),),
            limit=len(ids),
            total=False,
        )
        found = (await self._store.list(query)).items
        shown: Iterable[Record] = [project(record, readable) for record in found]
        if branch:
            shown = await self.into(branch, target, found, shown)
        return {record["id"]: record for record in shown}


def _check(tree: Tree, definition: Definition, readable: frozenset[str] | None) -> None:
    known = definition.kinds if readable is None else readable
    for name in tree:
        field = definition.collection.field(name) if name in known else None
        if field is None or field.type is not FieldType.REFERENCE:
            what = "refers to nothing" if name in known and name in definition.kinds else "is not a field"
            references = [one.name for one in definition.collection.fields if one.type is FieldType.REFERENCE]
            hint = did_you_mean(name, [one for one in references if one in known])
            raise _refused(f"expand: {name[:64]!r} of {definition.collection.name} {what}.{hint}")


def _refused(message: str) -> BadRequest:
    return BadRequest(
        message, code="invalid_expand", details=[FieldError(field=KEY, message=message, code="invalid_expand")]
    )
