"""Subscribers with equal views, and how to find those that a change may concern. Pure; part of step 7 of the path.

A `Group` holds every subscription with the same rule, filter, fields and relevant claims; its `Variant`s differ in what
the bytes look like (operations, subscription id, wire). Where thousands of users see only their own records, each
group, variant and index entry has a single member; those need no dictionary, which saves 0.7 KB a connection.
"""

from collections.abc import Callable, Collection, Mapping
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

import msgspec

from snackbase.realtime.link import Wire

Predicate = Callable[[Mapping[str, Any]], bool]


class Member(Protocol):
    """What fan-out needs of a session: its outbox, whether somebody is about to write that, and whether its messages
    must be staged (see `unstage`)."""

    wire: Wire
    out: tuple[bytes, ...]
    queued: bool
    staged: list[bytes] | None
    held: int


class IndexedOn(msgspec.Struct, frozen=True):
    """A view that can only match records whose `field` holds one of `values`.

    `elements`: the field is a JSON array and one of its elements must be such a value.
    """

    field: str
    values: tuple[str | int | float, ...]
    elements: bool = False


class View(msgspec.Struct, frozen=True, kw_only=True):
    """What one principal sees of one collection through one subscription.

    Attributes:
        key: equal keys mean equal views: rule, filter, fields and the values of the claims they use.
        sees: judges a record; None = sees every record of the account.
        fields: what events may show, `id` included; None = everything.
        names: every field of a record, in its order; rows of the log from before a field was added lack it.
        index: a necessary condition, so that events of others need not even be judged.
    """

    collection_id: str
    collection: str
    key: tuple[object, ...]
    sees: Predicate | None
    names: tuple[str, ...] = ()
    fields: tuple[str, ...] | None = None
    index: IndexedOn | None = None

    @property
    def costly(self) -> bool:
        """Whether every event of the collection has to be judged for it: nothing tells before that it cannot match."""
        return self.sees is not None and self.index is None


class Valued(Protocol):
    """A change, as far as an index looks at it (fanout.Judged)."""

    def values(self, field: str, *, elements: bool) -> set[object]: ...


_NO_VIEWS: Mapping[str, View] = {}


class Look(NamedTuple):
    """What the bytes of a subscription look like; equal ones are one object, whoever subscribes."""

    bits: int
    name: str | None
    wire: Wire
    stages: bool


look = lru_cache(maxsize=1024)(Look)


class Variant:
    """The members of a group whose bytes are equal; a subscription keeps it as its place in the feed.

    A single one, as each owner of private records is, costs no dictionary.
    """

    __slots__ = ("_held", "group", "look")

    def __init__(self, group: "Group", look: Look, member: Member) -> None:
        self.group = group
        self.look = look
        self._held: Member | dict[Member, None] = member

    @property
    def members(self) -> Collection[Member]:
        return self._held if isinstance(self._held, dict) else (self._held,)

    def add(self, member: Member) -> None:
        if isinstance(self._held, dict):
            self._held[member] = None
        else:
            self._held = {self._held: None, member: None}

    def remove(self, member: Member) -> bool:
        """Whether somebody is left."""
        if isinstance(self._held, dict):
            del self._held[member]
            return bool(self._held)
        return False


class Group:
    """Subscriptions with equal views. For `*` one group spans collections: then `view` is None, and `views` has it by
    collection."""

    __slots__ = ("_variants", "key", "view", "views")

    def __init__(self, key: tuple[object, ...], view: View | None, views: Mapping[str, View] = _NO_VIEWS) -> None:
        self.key = key
        self.view = view
        self.views = views
        self._variants: Variant | dict[Look, Variant] | None = None

    @property
    def index(self) -> IndexedOn | None:
        return self.view.index if self.view is not None else None

    @property
    def costly(self) -> bool:
        if self.view is not None:
            return self.view.costly
        return any(view.costly for view in self.views.values())

    @property
    def variants(self) -> Collection[Variant]:
        held = self._variants
        return held.values() if isinstance(held, dict) else () if held is None else (held,)

    def add(self, member: Member, look: Look) -> Variant:
        held = self._variants
        found = held.get(look) if isinstance(held, dict) else held
        if found is not None and found.look == look:
            found.add(member)
            return found
        made = Variant(self, look, member)
        if isinstance(held, dict):
            held[look] = made
        else:
            self._variants = made if held is None else {held.look: held, look: made}
        return made

    def remove(self, variant: Variant) -> bool:
        """Whether another one is left."""
        if isinstance(self._variants, dict):
            del self._variants[variant.look]
            return bool(self._variants)
        return False


class Groups:
    """The groups of one collection: those that every change must be shown to, and those found by a field's value.

    Most values find a single group, which then stands there itself.
    """

    __slots__ = ("by_key", "indexed", "scanned")

    def __init__(self) -> None:
        self.by_key: dict[tuple[object, ...], Group] = {}
        self.scanned: dict[Group, None] = {}
        self.indexed: dict[tuple[str, bool], dict[object, Group | dict[Group, None]]] = {}

    def add(self, group: Group) -> None:
        self.by_key[group.key] = group
        index = group.index
        if index is None:
            self.scanned[group] = None
            return
        # Who has no value at all (no groups, say) can match nothing, and stands in no table.
        for value in dict.fromkeys(index.values):
            table = self.indexed.setdefault((index.field, index.elements), {})
            there = table.get(value)
            if isinstance(there, dict):
                there[group] = None
            else:
                table[value] = group if there is None else {there: None, group: None}

    def remove(self, group: Group) -> None:
        del self.by_key[group.key]
        index = group.index
        if index is None:
            del self.scanned[group]
            return
        place = (index.field, index.elements)
        for value in dict.fromkeys(index.values):
            table = self.indexed[place]
            there = table[value]
            if isinstance(there, dict):
                del there[group]
            if there is group or not there:
                del table[value]
            if not table:
                del self.indexed[place]

    def candidates(self, judged: Valued) -> Collection[Group]:
        """Every group the change might concern, each once."""
        if not self.indexed:
            return self.scanned
        found = dict(self.scanned)
        for (field, elements), table in self.indexed.items():
            for value in judged.values(field, elements=elements):
                there = table.get(value)
                if isinstance(there, dict):
                    found.update(there)
                elif there is not None:
                    found[there] = None
        return found
