"""Who gets a change: groups of subscribers with equal views, judged once and encoded once. Step 7 of the path.

A `Feed` is one account's live side on this node: where it stands in the log, and its groups. A `Group` holds every
subscription with the same rule, filter, fields and relevant claims; its `Variant`s differ in what the bytes look like
(operations, subscription id, wire). The same bytes object goes to every member; there is no queue and no task a member.

Nothing here can tell who *may* see what: a `View` arrives with its predicate. What it decides is enter, stay and leave,
from the record before and after the change (contract §2), with the same code live and on replay.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from snackbase.model import Change, Head, Op, rfc3339
from snackbase.realtime.link import Wire

Predicate = Callable[[Mapping[str, Any]], bool]
CREATE, UPDATE, DELETE = 1, 2, 4
OPERATION_BITS = {"create": CREATE, "update": UPDATE, "delete": DELETE}
OPERATION_NAMES = {bit: name for name, bit in OPERATION_BITS.items()}
_encode = msgspec.json.Encoder().encode


class Member(Protocol):
    """What fan-out needs of a session: its outbox, and whether its messages must be staged (see `unstage`)."""

    wire: Wire
    out: list[bytes]
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


class Verdict(msgspec.Struct, frozen=True):
    """How one change appears through a view: the delivered operation, and whether it is really an enter or a leave."""

    bit: int
    crossing: str | None = None


_CREATED, _UPDATED, _DELETED = Verdict(CREATE), Verdict(UPDATE), Verdict(DELETE)
_ENTERED, _LEFT = Verdict(CREATE, "enter"), Verdict(DELETE, "leave")


class Judged:
    """A change with its two images, made once for all groups."""

    __slots__ = ("after", "before", "change", "timestamp")

    def __init__(self, change: Change) -> None:
        self.change = change
        self.timestamp = rfc3339(change.ts_us)
        self.after: Mapping[str, Any] | None = None if change.op is Op.DELETE else change.data
        if change.op is Op.CREATE:
            self.before: Mapping[str, Any] | None = None
        elif change.op is Op.DELETE:
            self.before = change.data
        else:
            self.before = {**change.data, **(change.prev or {})}

    def through(self, sees: Predicate | None) -> Verdict | None:
        """The verdict for one view; None = not announced: it was and stays invisible."""
        before, after = self.before, self.after
        was = before is not None and (sees is None or sees(before))
        now = after is not None and (sees is None or sees(after))
        if was:
            return _UPDATED if now else _DELETED if after is None else _LEFT
        if now:
            return _CREATED if before is None else _ENTERED
        return None

    def values(self, field: str, *, elements: bool) -> set[object]:
        """The texts and numbers an indexed field held before and holds after; of a JSON array its elements."""
        found: set[object] = set()
        for image in (self.before, self.after):
            value = image.get(field) if image is not None else None
            if not elements:
                value = [value]
            if isinstance(value, list):
                found.update(element for element in value if type(element) in _HASHED)
        return found


class Variant:
    """The members of a group whose bytes are equal."""

    __slots__ = ("bits", "members", "name", "stages", "wire")

    def __init__(self, bits: int, name: str | None, wire: Wire, *, stages: bool) -> None:
        self.bits = bits
        self.name = name
        self.wire = wire
        self.stages = stages
        self.members: dict[Member, None] = {}


class Group:
    """Subscriptions with equal views. For `*` one group spans collections, so its view is looked up by collection."""

    __slots__ = ("index", "key", "variants", "views")

    def __init__(self, key: tuple[object, ...], views: Mapping[str, View], index: IndexedOn | None) -> None:
        self.key = key
        self.views = views
        self.index = index
        self.variants: dict[tuple[int, str | None, Wire, bool], Variant] = {}

    @property
    def costly(self) -> bool:
        return any(view.costly for view in self.views.values())

    def variant(self, bits: int, name: str | None, wire: Wire, *, stages: bool) -> Variant:
        key = (bits, name, wire, stages)
        found = self.variants.get(key)
        if found is None:
            found = self.variants[key] = Variant(bits, name, wire, stages=stages)
        return found


class Membership:
    """One subscription's place in a feed; `leave` with it. Held by the subscription."""

    __slots__ = ("collection_id", "group", "key")

    def __init__(self, collection_id: str, group: Group, key: tuple[int, str | None, Wire, bool]) -> None:
        self.collection_id = collection_id
        self.group = group
        self.key = key


_NOBODY: dict[Group, None] = {}
_HASHED = frozenset({str, int, float})


class _Groups:
    """The groups of one collection: those that every change must be shown to, and those found by a field's value."""

    __slots__ = ("by_key", "indexed", "scanned")

    def __init__(self) -> None:
        self.by_key: dict[tuple[object, ...], Group] = {}
        self.scanned: dict[Group, None] = {}
        self.indexed: dict[tuple[str, bool], dict[object, dict[Group, None]]] = {}

    def add(self, group: Group) -> None:
        self.by_key[group.key] = group
        if group.index is None:
            self.scanned[group] = None
            return
        place = (group.index.field, group.index.elements)
        # Who has no value at all (no groups, say) can match nothing, and stands in no table.
        for value in group.index.values:
            self.indexed.setdefault(place, {}).setdefault(value, {})[group] = None

    def remove(self, group: Group) -> None:
        del self.by_key[group.key]
        if group.index is None:
            del self.scanned[group]
            return
        place = (group.index.field, group.index.elements)
        for value in set(group.index.values):
            table = self.indexed[place]
            del table[value][group]
            if not table[value]:
                del table[value]
            if not table:
                del self.indexed[place]

    def candidates(self, judged: Judged) -> Collection[Group]:
        """Every group the change might concern, each once."""
        if not self.indexed:
            return self.scanned
        found = dict(self.scanned)
        for (field, elements), table in self.indexed.items():
            for value in judged.values(field, elements=elements):
                found.update(table.get(value, _NOBODY))
        return found


EVERY = "*"
Events = list[tuple[Judged, Verdict, View]]


class Tally(Protocol):
    """Running totals (metrics.Counters): deliveries by wire, changes by operation, judgements, encodings."""

    deliveries: dict[str, int]
    events: dict[str, int]
    judgements: int
    encodings: int


class Feed:
    """One account's live side on this node.

    Attributes:
        at: everything up to here has been given to `route` (or was skipped because nobody listened yet).
        costly: groups that have to be judged for every event of a collection.
    """

    __slots__ = ("_groups", "account_id", "at", "costly", "members", "tally")

    def __init__(self, account_id: str, at: Head, tally: Tally) -> None:
        self.account_id = account_id
        self.at = at
        self.tally = tally
        self.members = 0
        self.costly = 0
        self._groups: dict[str, _Groups] = {}

    def join(self, member: Member, view: View, *, bits: int, name: str | None) -> Membership:
        """Add a subscription to one collection: from the next change on it is delivered."""
        return self._join(member, {view.collection_id: view}, every=False, bits=bits, name=name)

    def join_every(self, member: Member, views: Mapping[str, View], *, bits: int, name: str | None) -> Membership:
        """Add a subscription to `*`: one list over the collections that `views` has by id."""
        return self._join(member, views, every=True, bits=bits, name=name)

    def _join(
        self, member: Member, views: Mapping[str, View], *, every: bool, bits: int, name: str | None
    ) -> Membership:
        collection_id, key = EVERY if every else next(iter(views)), _key(views, every=every)
        groups = self._groups.setdefault(collection_id, _Groups())
        group = groups.by_key.get(key)
        if group is None:
            group = Group(key, views, None if every else views[collection_id].index)
            groups.add(group)
            self.costly += group.costly
        stages = member.staged is not None
        group.variant(bits, name, member.wire, stages=stages).members[member] = None
        self.members += 1
        return Membership(collection_id, group, (bits, name, member.wire, stages))

    def leave(self, member: Member, membership: Membership) -> None:
        """Take a subscription out; groups without members are forgotten."""
        group = membership.group
        variant = group.variants[membership.key]
        del variant.members[member]
        self.members -= 1
        if not variant.members:
            del group.variants[membership.key]
        if not group.variants:
            groups = self._groups[membership.collection_id]
            groups.remove(group)
            self.costly -= group.costly
            if not groups.by_key:
                del self._groups[membership.collection_id]

    def has(self, subscription_views: Mapping[str, View], *, every: bool) -> bool:
        """Whether a subscription with these views would share a group that is there already."""
        groups = self._groups.get(EVERY if every else next(iter(subscription_views)))
        return groups is not None and _key(subscription_views, every=every) in groups.by_key

    def groups(self) -> Iterator[Group]:
        for groups in self._groups.values():
            yield from groups.by_key.values()

    def route(self, changes: Sequence[Change], position: str, dirty: list[Any]) -> None:
        """Deliver one transaction's changes, all of them, in order.

        Args:
            changes: the rows of one transaction in this account (control rows are passed over).
            position: the token of the place after the transaction.
            dirty: members whose outbox was empty before are appended.
        """
        hits: dict[Group, Events] = {}
        every = self._groups.get(EVERY)
        for change in changes:
            if change.op is Op.CONTROL:
                continue
            self.tally.events[change.op.value] = self.tally.events.get(change.op.value, 0) + 1
            groups = self._groups.get(change.collection_id)
            if groups is None and every is None:
                continue
            judged = Judged(change)
            if groups is not None:
                self._judge(groups.candidates(judged), judged, hits)
            if every is not None:
                self._judge(every.scanned, judged, hits)
        if hits:
            self._deliver(hits, position, dirty)

    def _judge(self, candidates: Collection[Group], judged: Judged, hits: dict[Group, Events]) -> None:
        # Looked up once: of a thousand groups most see nothing, and each costs little more than its predicate.
        collection_id, through, elsewhere = judged.change.collection_id, judged.through, 0
        for group in candidates:
            view = group.views.get(collection_id)
            if view is None:
                elsewhere += 1
                continue
            verdict = through(view.sees)
            if verdict is not None:
                hits.setdefault(group, []).append((judged, verdict, view))
        self.tally.judgements += len(candidates) - elsewhere

    def _deliver(self, hits: dict[Group, Events], position: str, dirty: list[Any]) -> None:
        made: dict[tuple[object, ...], bytes] = {}
        staging: dict[Member, None] = {}
        for group, events in hits.items():
            for variant in group.variants.values():
                chosen = [event for event in events if event[1].bit & variant.bits]
                if not chosen:
                    continue
                payloads = payloads_of(chosen, variant.name, position, made)
                count = len(variant.members)
                deliveries, wire = self.tally.deliveries, variant.wire.name
                deliveries[wire] = deliveries.get(wire, 0) + count * len(payloads)
                if variant.stages:
                    for member in variant.members:
                        if member.staged is not None:
                            member.staged.extend(payloads)
                        staging[member] = None
                    continue
                frames = [variant.wire.message(payload) for payload in payloads[:-1]]
                frames.append(variant.wire.resumable(payloads[-1], position.encode()))
                frame = frames[0] if len(frames) == 1 else b"".join(frames)
                for member in variant.members:
                    if not member.out:
                        dirty.append(member)
                    member.out.append(frame)
        self.tally.encodings += len(made)
        for member in staging:
            if not member.out:
                dirty.append(member)
            unstage(member, position, resumable=not member.held)


def _key(views: Mapping[str, View], *, every: bool) -> tuple[object, ...]:
    return tuple(view.key for view in views.values()) if every else next(iter(views.values())).key


def unstage(member: Member, position: str, *, resumable: bool) -> None:
    """Move staged messages to the outbox; only the last one moves the resume point, and only if `resumable`.

    A stream of several subscriptions must not be resumed between two of its events of the same change (contract §4).
    """
    staged, wire = member.staged, member.wire
    if not staged:
        return
    member.out.extend(wire.message(payload) for payload in staged[:-1])
    last = staged[-1]
    member.out.append(wire.resumable(last, position.encode()) if resumable else wire.message(last))
    staged.clear()


def events_through(changes: Iterable[Judged], views: Mapping[str, View], bits: int) -> Events:
    """What one subscription sees of one transaction."""
    events: Events = []
    for judged in changes:
        view = views.get(judged.change.collection_id)
        verdict = judged.through(view.sees) if view is not None else None
        if view is not None and verdict is not None and verdict.bit & bits:
            events.append((judged, verdict, view))
    return events


def payloads_of(
    events: Events, name: str | None, position: str, made: dict[tuple[object, ...], bytes] | None = None
) -> list[bytes]:
    """The JSON of the events that one subscription gets of one transaction; `made` shares equal ones between groups."""
    size, payloads = len(events), []
    made = {} if made is None else made
    for number, (judged, verdict, view) in enumerate(events, 1):
        last = number == size
        key = (id(judged), verdict, view.fields, name, size, last)
        payload = made.get(key)
        if payload is None:
            payload = made[key] = _payload(judged, verdict, view, name, position if last else None, size)
        payloads.append(payload)
    return payloads


def _payload(judged: Judged, verdict: Verdict, view: View, name: str | None, position: str | None, size: int) -> bytes:
    change = judged.change
    head = f'{{"type":"{view.collection}.{OPERATION_NAMES[verdict.bit]}","timestamp":"{judged.timestamp}"'
    if position is not None:
        head += f',"position":"{position}"'
    if verdict.crossing is not None:
        head += f',"change":"{verdict.crossing}"'
    if size > 1:
        head += f',"tx":"{change.tx_id}","tx_size":{size}'
    if name is not None:
        head += f',"subscription":"{name}"'
    return b"".join((head.encode(), b',"data":', _data(change, verdict, view), b"}"))


def _data(change: Change, verdict: Verdict, view: View) -> bytes:
    """The record as this view may show it; one that left a list shows nothing but its id."""
    if verdict is _LEFT:
        return _encode({"id": change.record_id})
    # A row from before a field was added or dropped holds others than the collection has today.
    if view.fields is None and (not view.names or tuple(change.data) == view.names):
        return change.raw
    return _encode({name: change.data.get(name) for name in view.fields or view.names})
