"""The writer's own copy of every collection, read inside the write lock: who refers to whom, and what is current.

The catalog of the event loop may lag behind a schema change by a moment; what a transaction does is decided here.
"""

from collections.abc import Iterable, Mapping

import msgspec

from snackbase.errors import Conflict, NotFound
from snackbase.model import Collection, Field, FieldType
from snackbase.storage.asking import Ask, Asking
from snackbase.storage.statements import READ_COLLECTIONS, READ_VERSION, Table

_decode = msgspec.json.Decoder(Collection).decode


def read_collections() -> Asking[tuple[int, tuple[Collection, ...]]]:
    """The global version and every definition, by name; inside the caller's transaction."""
    rows = yield Ask(READ_COLLECTIONS)
    ((version,),) = yield Ask(READ_VERSION)
    return int(str(version)), tuple(_decode(text) for (text,) in rows)


def target_of(field: Field, collections: Iterable[Collection]) -> Collection | None:
    """The collection a reference field refers to, named by its name or its id."""
    wanted = (field.collection or "").casefold()
    for collection in collections:
        if wanted in (collection.name.casefold(), collection.id):
            return collection
    return None


class Definitions:
    """Tables by collection id, with the references between them in both directions."""

    def __init__(self, version: int, collections: Iterable[Collection], *, locks: bool = False) -> None:
        self.version = version
        self.tables: Mapping[str, Table] = {one.id: Table(one, locks=locks) for one in collections}
        self.referrers: dict[str, list[tuple[Table, Field]]] = {}
        self.targets: dict[tuple[str, str], Table] = {}
        for table in self.tables.values():
            for field in table.collection.fields:
                target = target_of(field, self.collections) if field.type is FieldType.REFERENCE else None
                if target is not None:
                    self.referrers.setdefault(target.id, []).append((table, field))
                    self.targets[table.collection.id, field.name] = self.tables[target.id]

    @property
    def collections(self) -> tuple[Collection, ...]:
        return tuple(table.collection for table in self.tables.values())

    def current(self, collection: Collection) -> Table:
        """The table of a definition that was used to judge and prepare a write.

        Raises:
            NotFound: code `collection_not_found`: dropped meanwhile. Conflict: code `changed_meanwhile`: its fields or
                rules changed after they were applied to this write.
        """
        table = self.tables.get(collection.id)
        if table is None:
            raise NotFound(f"The collection {collection.name} does not exist.", code="collection_not_found")
        if table.collection.version != collection.version:
            raise Conflict(
                f"The collection {collection.name} was changed at the same moment; try again.",
                code="changed_meanwhile",
            )
        return table
