"""Coming back: whether a position may be resumed from, and the replay of what came after it. Pure.

A position is honoured only when everything after it is still there, in the same history, under the same rights. Else
the answer is one `resync` with its reason and never a part of a replay (contract §3). The replay judges the log's rows
with the same code as live delivery, by today's rules and fields, and shares what it made among all who resume.
"""

from collections.abc import Sequence
from typing import Protocol

from snackbase.model import Change, Head, Op
from snackbase.realtime.fanout import Judged, events_through, payloads_of
from snackbase.realtime.groups import IndexedOn, Member
from snackbase.realtime.link import Wire
from snackbase.realtime.position import Positions, Token
from snackbase.realtime.session import Subscription

KEPT_TIMES, KEPT_BYTES = 8, 16 << 10
"""What is kept of all that was made of a transaction: so many times its own size, and a little for the smallest."""


class Window(Protocol):
    """What the store knows of a place in an account's log (storage.base.Window)."""

    @property
    def head(self) -> Head: ...
    @property
    def floor(self) -> Head: ...
    @property
    def ts_us(self) -> int | None: ...


def refusal(token: Token | None, positions: Positions, account_id: str, window: Window) -> str | None:
    """Why a position cannot be resumed from, as the reason of a `resync`; None = it can.

    Rights and schemas are another question (`crossing`).
    """
    if token is None:
        return "unknown"
    if token.epoch != positions.epoch:
        return "epoch"
    if positions.foreign(account_id, token):
        return "unknown"
    if token.seq > window.head.seq:
        return "ahead"
    if token.seq < window.floor.seq:
        return "expired"
    ts_us = window.ts_us
    if token.seq == window.floor.seq:
        ts_us = window.floor.ts_us
    if token.seq == window.head.seq:
        ts_us = window.head.ts_us
    if ts_us is None:
        return "expired"
    return None if positions.stands(account_id, token, ts_us) else "unknown"


def crossing(token: Token, now: int, versions: Sequence[tuple[int, int]], *, every: bool, personal: bool) -> str | None:
    """What changed since the position was issued so that the list may differ: `rights`, `schema`, or None.

    Args:
        now: the global version in force.
        versions: (schema, rules) versions of the collections subscribed to; equal when it was made in that version.
        every: the subscription is to `*`, whose collections themselves may be others now.
        personal: the principal's own rights changed, and the subscription depends on them.
    """
    if personal or any(rules > token.version and rules != schema for schema, rules in versions):
        return "rights"
    if any(schema > token.version for schema, _ in versions):
        return "schema"
    return "schema" if every and now != token.version else None


MOST_KEPT = 64
"""Different views of one transaction whose messages are kept for the next one who shares them. Every view of every user
would be far more than the log itself (1,000 users with views of their own, 1,000 transactions back: 370 MB)."""


class Passage:
    """One transaction of the log, with what was made of it for those who resume. Shared; never changed but by adding.

    Attributes:
        first: the number before its first row. head: its last row. position: the token of the place after it.
    """

    __slots__ = ("_frames", "_judged", "_payloads", "_room", "_values", "first", "head", "position", "rows", "size")

    def __init__(self, rows: Sequence[Change], position: str) -> None:
        self.rows = rows
        self.first = rows[0].seq - 1
        self.head = Head(rows[-1].seq, rows[-1].ts_us)
        self.position = position
        self.size = sum(len(row.raw) for row in rows)
        # What many share is kept; what each has for itself would take any amount of memory.
        self._room = KEPT_TIMES * self.size + KEPT_BYTES
        self._judged: list[Judged] | None = None
        self._values: dict[tuple[str, bool], set[object]] = {}
        self._payloads: dict[tuple[object, ...], list[bytes]] = {}
        self._frames: dict[tuple[object, ...], bytes] = {}

    def payloads(self, subscription: Subscription) -> list[bytes]:
        """The messages one subscription gets of it; equal views share them."""
        if not self._concerns(subscription.index):
            return []
        key = (subscription.view_key, subscription.bits, subscription.name)
        found = self._payloads.get(key)
        if found is None:
            found = self._made(subscription)
            if len(self._payloads) < MOST_KEPT and self._fits(sum(map(len, found))):
                self._payloads[key] = found
        return found

    def frame(self, subscription: Subscription, wire: Wire) -> bytes:
        """The same as bytes of a wire; the last message moves the resume point. Empty = nothing to see."""
        if not self._concerns(subscription.index):
            return b""
        key = (subscription.view_key, subscription.bits, subscription.name, wire)
        found = self._frames.get(key)
        if found is None:
            payloads = self._made(subscription)
            frames = [wire.message(payload) for payload in payloads[:-1]]
            if payloads:
                frames.append(wire.resumable(payloads[-1], self.position.encode()))
            found = b"".join(frames)
            if len(self._frames) < MOST_KEPT and self._fits(len(found)):
                self._frames[key] = found
        return found

    def _concerns(self, index: IndexedOn | None) -> bool:
        """Whether a view can see anything of it, as far as the values tell that it is tied to: as live, the events of
        others need not even be judged."""
        if index is None:
            return True
        place = (index.field, index.elements)
        values = self._values.get(place)
        if values is None:
            every = (judged.values(index.field, elements=index.elements) for judged in self._rows())
            values = self._values[place] = set().union(*every)
        return not values.isdisjoint(index.values)

    def _made(self, subscription: Subscription) -> list[bytes]:
        events = events_through(self._rows(), subscription.views, subscription.bits)
        return payloads_of(events, subscription.name, self.position)

    def _rows(self) -> list[Judged]:
        if self._judged is None:
            self._judged = [Judged(row) for row in self.rows if row.op is not Op.CONTROL]
        return self._judged

    def _fits(self, size: int) -> bool:
        """Whether so much more may be kept; if so it is counted."""
        fits = size <= self._room
        self._room -= size * fits
        return fits


class Replay:
    """What one client still has to be told of the past: some of its subscriptions, merged in the order of the log.

    Attributes:
        at: everything up to here was put into the outbox.
        parts: (subscription, number after which it begins).
        unasked: the client resumed nothing: it is told what went past it while its rights were judged, and no more.
    """

    __slots__ = ("_last", "_told", "at", "member", "parts", "unasked")

    def __init__(self, member: Member, parts: Sequence[tuple[Subscription, Head]], *, unasked: bool = False) -> None:
        self.member = member
        self.unasked = unasked
        self.parts = [(subscription, since.seq) for subscription, since in parts]
        self.at = min((since for _, since in parts), key=lambda head: head.seq)
        # Of the transaction that is being told: who heard it, and of a stream the message that may have to carry the
        # position.
        self._told: set[Subscription] = set()
        self._last: tuple[Subscription, bytes] | None = None

    @property
    def furthest(self) -> int:
        """The number up to which one of its subscriptions knows everything: live events before it were repetitions."""
        return max((since for _, since in self.parts), default=0)

    def drop(self, subscription: Subscription) -> None:
        """The subscription is replaced, gone or to be judged anew."""
        self.parts = [part for part in self.parts if part[0] is not subscription]
        if self._last is not None and self._last[0] is subscription:
            # It may see something else now.
            self._last = None

    def tell(self, passage: Passage, room: int) -> tuple[int, int]:
        """Put the next transaction into the outbox; how many messages and bytes that was.

        Where many subscriptions see large records, only some hear it now, so that what waits to be sent stays small:
        `at` tells whether all have.

        Args:
            room: bytes after which no other subscription is told.
        """
        told = size = 0
        for subscription, since in self.parts:
            if passage.head.seq <= since or subscription in self._told:
                continue
            if size > room:
                return told, size
            count, written = self._tell_one(subscription, passage)
            told, size = told + count, size + written
            self._told.add(subscription)
        if self._last is not None:
            # Beside one that nobody asked for, other subscriptions of the stream may have been told later changes.
            resumable = self.member.held == len(self.parts) and not self.unasked
            wire, last = self.member.wire, self._last[1]
            self.member.out += (wire.resumable(last, passage.position.encode()) if resumable else wire.message(last),)
            self._last = None
        self._told.clear()
        self.at = passage.head
        return told, size

    def _tell_one(self, subscription: Subscription, passage: Passage) -> tuple[int, int]:
        member = self.member
        if member.staged is None:
            frame = passage.frame(subscription, member.wire)
            if frame:
                member.out += (frame,)
            return int(bool(frame)), len(frame)
        payloads = passage.payloads(subscription)
        if payloads:
            if self._last is not None:
                member.out += (member.wire.message(self._last[1]),)
            member.out += tuple(map(member.wire.message, payloads[:-1]))
            self._last = subscription, payloads[-1]
        return len(payloads), sum(map(len, payloads))
