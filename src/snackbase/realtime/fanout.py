"""Who gets a change: groups of subscribers with equal views, judged once and encoded once. Step 7 of the path.

A `Feed` is one account's live side on this node: where it stands in the log, and its groups. A `Group` holds every
subscription with the same rule, filter, fields and relevant claims; its `Variant`s differ in what the bytes look like
(operations, subscription id, wire). The same bytes object goes to every member; there is no queue and no task a member.

Nothing here knows who *may* see what: a `View` comes with its predicate. This module decides about enter, stay and
leave, from the record before and after the change (contract §2), with the same code for live events and replays.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from snackbase.model import Change, Head, Op, rfc3339
from snackbase.realtime.groups import Group, Groups, Member, Predicate, Variant, View, look

CREATE, UPDATE, DELETE = 1, 2, 4
OPERATION_BITS = {"create": CREATE, "update": UPDATE, "delete": DELETE}
OPERATION_NAMES = {bit: name for name, bit in OPERATION_BITS.items()}
MOST_MADE = 64 << 20
"""Bytes made of one transaction for subscriptions that look different. Whoever gives each of their ten thousand
subscriptions another name would have a record of 512 KB become 5 GB at once."""
_EMPTY: tuple[bytes, ...] = ()
_encode = msgspec.json.Encoder().encode


class Verdict(msgspec.Struct, frozen=True):
    """How one change appears through a view: the delivered operation, and whether it is really an enter or a leave."""

    bit: int
    crossing: str | None = None


_CREATED, _UPDATED, _DELETED = Verdict(CREATE), Verdict(UPDATE), Verdict(DELETE)
_ENTERED, _LEFT = Verdict(CREATE, "enter"), Verdict(DELETE, "leave")
_HASHED = frozenset({str, int, float})


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
        left_out: members that were not given the last transaction; they are to be ended, and resume.
    """

    __slots__ = ("_groups", "account_id", "at", "costly", "left_out", "members", "tally")

    def __init__(self, account_id: str, at: Head, tally: Tally) -> None:
        self.account_id = account_id
        self.at = at
        self.tally = tally
        self.members = 0
        self.costly = 0
        self.left_out: list[Member] = []
        self._groups: dict[str, Groups] = {}

    def join(self, member: Member, view: View, *, bits: int, name: str | None) -> Variant:
        """Add a subscription to one collection: from the next change on it is delivered. `leave` with what it gives."""
        return self._join(member, view.collection_id, Group(view.key, view), bits=bits, name=name)

    def join_every(self, member: Member, views: Mapping[str, View], *, bits: int, name: str | None) -> Variant:
        """Add a subscription to `*`: one list over the collections that `views` has by id."""
        return self._join(member, EVERY, Group(_key(views, every=True), None, views), bits=bits, name=name)

    def _join(self, member: Member, place: str, fresh: Group, *, bits: int, name: str | None) -> Variant:
        groups = self._groups.get(place)
        if groups is None:
            groups = self._groups[place] = Groups()
        group = groups.by_key.get(fresh.key)
        if group is None:
            group = fresh
            groups.add(group)
            self.costly += group.costly
        self.members += 1
        return group.add(member, look(bits, name, member.wire, member.staged is not None))

    def leave(self, member: Member, variant: Variant) -> None:
        """Take a subscription out; groups without members are forgotten."""
        group = variant.group
        self.members -= 1
        if variant.remove(member) or group.remove(variant):
            return
        place = EVERY if group.view is None else group.view.collection_id
        groups = self._groups[place]
        groups.remove(group)
        self.costly -= group.costly
        if not groups.by_key:
            del self._groups[place]

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
            dirty: members that were not about to be written to before are appended.
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
            view = group.view or group.views.get(collection_id)
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
        size = 0
        for group, events in hits.items():
            for variant in group.variants:
                (bits, name, wire, stages), members = variant.look, variant.members
                chosen = [event for event in events if event[1].bit & bits]
                if not chosen:
                    continue
                if size > MOST_MADE:
                    self.left_out += members
                    continue
                payloads = payloads_of(chosen, name, position, made)
                size += sum(map(len, payloads))
                deliveries = self.tally.deliveries
                deliveries[wire.name] = deliveries.get(wire.name, 0) + len(members) * len(payloads)
                if stages:
                    for member in members:
                        if member.staged is not None:
                            member.staged.extend(payloads)
                        staging[member] = None
                    continue
                frames = [wire.message(payload) for payload in payloads[:-1]]
                frames.append(wire.resumable(payloads[-1], position.encode()))
                frame = frames[0] if len(frames) == 1 else b"".join(frames)
                _put(frame, members, dirty)
        self.tally.encodings += len(made)
        for member in staging:
            if not member.queued:
                member.queued = True
                dirty.append(member)
            unstage(member, position, resumable=not member.held)


def _put(frame: bytes, members: Collection[Member], dirty: list[Any]) -> None:
    """Into the outbox of each. Who had the same outbox has the same one again: a thousand members share it."""
    one: tuple[bytes, ...] = (frame,)
    before, after = _EMPTY, one
    for member in members:
        out = member.out
        if out is not before:
            before, after = out, out + one
        member.out = after
        if not member.queued:
            member.queued = True
            dirty.append(member)


def _key(views: Mapping[str, View], *, every: bool) -> tuple[object, ...]:
    return tuple(view.key for view in views.values()) if every else next(iter(views.values())).key


def unstage(member: Member, position: str, *, resumable: bool) -> None:
    """Move staged messages to the outbox; only the last one moves the resume point, and only if `resumable`.

    A stream of several subscriptions must not be resumed between two of its events of the same change (contract §4).
    """
    staged, wire = member.staged, member.wire
    if not staged:
        return
    last = wire.resumable(staged[-1], position.encode()) if resumable else wire.message(staged[-1])
    member.out = (*member.out, *map(wire.message, staged[:-1]), last)
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
