"""A live list kept by the rules that the contract gives to clients, and the checks that hold on the way. Pure.

A list applies create, update and delete, a transaction as a whole; it remembers a cursor from which it resumes, and
fetches the whole set again after a `resync`. Records stay the bytes that the server sent.

On the way it checks what has to hold for every subscription while it lives: positions grow, nothing comes twice, a
create is of a record that is not in the list, an update and a delete of one that is, nothing is of another account.
"""

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import msgspec

EVERY = "*"
KEPT = 80
"""Messages that are kept to be shown with a difference."""
REFUSALS = ("forbidden", "collection_deleted", "collection_not_found", "invalid_filter", "invalid_fields")
"""Answers that REST gives too: the list may not be read, is gone, or asks for what is hidden."""
PASSING = ("storage_error", "storage_busy", "overloaded", "query_timeout", "schema_changed")
"""The server cannot do it just now, for instance while its database restarts."""
Fields = Mapping[str, msgspec.Raw]
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_raws = msgspec.json.Decoder(list[msgspec.Raw])
_any = msgspec.json.Decoder()


class Difference(AssertionError):
    """The server broke its promise; the text says how."""


class Later(EOFError):
    """The server asks to try again: for a client like the end of its connection."""


class State(Enum):
    """What a list waits for."""

    NEW = "new"
    ASKED = "asked"
    FILLING = "filling"
    REPLAYING = "replaying"
    LIVE = "live"
    STALE = "stale"
    REFUSED = "refused"


class Message:
    """A message of the server with its keys; records in it stay bytes."""

    __slots__ = ("fields", "text", "type")

    def __init__(self, text: bytes | str) -> None:
        self.text = text.encode() if isinstance(text, str) else text
        self.fields: Fields = _fields.decode(self.text)
        self.type = str(self.get("type"))

    def get(self, name: str) -> Any:
        raw = self.fields.get(name)
        return None if raw is None else _any.decode(raw)

    @property
    def key(self) -> str | None:
        """Which subscription it belongs to: its id, else the collection's name."""
        name = self.get("subscription") or self.get("id") or self.get("collection")
        if name is None and "." in self.type:
            name = self.type.partition(".")[0]
        return None if name is None else str(name)


def place(position: str) -> int:
    """The number in a position; opaque to clients, but a proof may look whether it grows."""
    return int(position.split(".")[1], 36)


def id_of(record: bytes) -> str:
    """A record's id."""
    return str(_any.decode(_fields.decode(record)["id"]))


@dataclass(frozen=True)
class Told:
    """An event: the operation, `enter` or `leave` where it is really that, and the record."""

    operation: str
    change: str | None
    data: bytes


class LiveList:
    """One list.

    Attributes:
        account_id: whose records alone may come.
        records: id -> the record as the server's bytes.
        cursor: from where it resumes; None = it needs the whole set.
        since: the number at which the set was fetched. told: every event since then, if it is wanted (a list).
    """

    def __init__(
        self, name: str, collection: str, *, account_id: str, filter: str | None = None, fields: str | None = None
    ) -> None:
        self.name = name
        self.collection = collection
        self.account_id = account_id
        self.filter = filter
        self.fields = fields
        self.state = State.NEW
        self.records: dict[str, bytes] = {}
        self.cursor: str | None = None
        self.since = 0
        self.told: list[Told] | None = None
        self.counts: Counter[str] = Counter()
        self.seen: deque[str] = deque(maxlen=KEPT)
        self._awaited: State | None = None
        self._fresh: dict[str, bytes] = {}
        self._open: list[Told] = []
        self._last = 0
        self._repeats_until = 0
        self._time = ""

    # What is asked ---------------------------------------------------------------------------------------------------

    def request(self) -> dict[str, Any]:
        """The subscription to ask for now: from the cursor, or the whole set."""
        asked: dict[str, Any] = {"collection": self.collection, "id": self.name}
        if self.filter is not None:
            asked["filter"] = self.filter
        if self.fields is not None:
            asked["fields"] = self.fields.split(",")
        return asked | ({"snapshot": True} if self.cursor is None else {"since": self.cursor})

    def asked(self) -> None:
        """The request is sent; what belongs to an earlier one does not count any more."""
        self.state = State.ASKED
        self._awaited = State.FILLING if self.cursor is None else State.REPLAYING
        self._open.clear()

    def lost(self) -> None:
        """The connection ended."""
        self._open.clear()
        self._awaited = None
        self.note("-- connection lost")
        if self.state is not State.REFUSED:
            self.state = State.NEW

    def filled(self, records: Mapping[str, bytes], *, since: str, until: str) -> None:
        """The set was read page by page, between two positions: what happened in between is told again."""
        for record in records.values():
            self._own(record)
        self.records = dict(records)
        self.counts["lists read"] += 1
        self._repeats_until = self.since = place(until)
        self.told = None if self.told is None else []
        self.goes_on(since)

    def goes_on(self, since: str) -> None:
        """What comes next is asked for from here (polling)."""
        self.note(f"-- from {since}")
        self.state, self.cursor, self._last = State.LIVE, since, place(since)

    def repeats(self) -> None:
        """The next replay begins before what was seen last (an event stream's last `id:` was earlier)."""
        self._repeats_until = max(self._repeats_until, self._last)

    def forget(self) -> None:
        """Ask for the whole set next time."""
        self.cursor = None

    # What comes ------------------------------------------------------------------------------------------------------

    def take(self, message: Message) -> None:
        """One message of this subscription. Raises Difference, Later."""
        self.note(message.text[:300].decode(errors="replace"))
        kind = message.type
        if "." in kind:
            self._event(message, kind.partition(".")[2])
        elif kind == "subscribed":
            self._subscribed(message)
        elif kind == "snapshot":
            self._page(message)
        elif kind == "caught_up":
            self._caught_up(message)
        elif kind == "resync":
            self._resync(message)
        elif kind in ("unsubscribed", "error"):
            self._refused(message, kind)

    def beat(self, position: str) -> None:
        """A heartbeat, when every subscription of the connection is caught up."""
        if self.state is State.LIVE:
            self._advance(position)

    def note(self, text: str) -> None:
        self.seen.append(text)

    def wrong(self, what: str) -> Difference:
        """A difference with everything that helps to understand it."""
        history = "\n    ".join(self.seen)
        about = f"{self.name} ({self.collection}, filter {self.filter!r}, {self.state.value}, cursor {self.cursor})"
        return Difference(f"{about}: {what}\n  last messages:\n    {history}")

    def _subscribed(self, message: Message) -> None:
        if self._awaited is None:
            raise self.wrong("`subscribed` to what was not asked for")
        self.state, self._awaited = self._awaited, None
        self._last = place(message.get("position"))
        self._fresh = {}

    def _page(self, message: Message) -> None:
        if self.state is not State.FILLING:
            self._unexpected("a page of a snapshot")
            return
        for raw in _raws.decode(message.fields["data"]):
            record = bytes(raw)
            self._own(record)
            self._fresh[id_of(record)] = record
        if message.get("complete"):
            self.records, self._fresh = self._fresh, {}
            self.since = self._last
            self.told = None if self.told is None else []
            self.counts["snapshots"] += 1
            self.state = State.REPLAYING
            self.cursor = None
            self._repeats_until = 0

    def _caught_up(self, message: Message) -> None:
        if self.state is not State.REPLAYING:
            self._unexpected("`caught_up`")
            return
        self.state = State.LIVE
        self._advance(message.get("position"))

    def _resync(self, message: Message) -> None:
        reason = message.get("reason")
        self.counts[f"resync {reason}"] += 1
        if self.state in (State.ASKED, State.STALE):
            return
        self.state = State.STALE
        self.cursor = None
        self._open.clear()

    def _refused(self, message: Message, kind: str) -> None:
        code = message.get("reason") if kind == "unsubscribed" else message.get("code")
        self.counts[f"{kind} {code}"] += 1
        if kind == "error" and code in PASSING:
            raise Later
        if code not in REFUSALS:
            raise self.wrong(f"refused with {code!r}")
        if kind == "error":
            self._awaited = None
        self.state = State.REFUSED
        self.cursor = None
        self.records = {}

    # Events ----------------------------------------------------------------------------------------------------------

    def _event(self, message: Message, operation: str) -> None:
        if self.state not in (State.LIVE, State.REPLAYING):
            self._unexpected("an event")
            return
        self._in_time(message)
        self._open.append(Told(operation, message.get("change"), bytes(message.fields["data"])))
        if len(self._open) < (message.get("tx_size") or 1):
            if message.get("position") is not None:
                raise self.wrong("a position inside a transaction")
            return
        position = message.get("position")
        if position is None:
            raise self.wrong("an event without a position")
        if place(position) <= self._last:
            raise self.wrong(f"an event at {place(position)} after one at {self._last}")
        events, self._open = self._open, []
        fresh = place(position) > self._repeats_until
        for event in events:
            self._apply(event.operation, event.data, strictly=fresh)
        if fresh and self.told is not None:
            self.told += events
        self._advance(position)

    def _apply(self, operation: str, record: bytes, *, strictly: bool) -> None:
        record_id = id_of(record)
        known = record_id in self.records
        self.counts[operation] += 1
        if strictly and known != (operation != "create"):
            raise self.wrong(f"{operation} of {record_id}, which is {'in' if known else 'not in'} the list")
        if operation == "delete":
            self.records.pop(record_id, None)
            return
        self._own(record)
        self.records[record_id] = record

    def _advance(self, position: str) -> None:
        if place(position) < self._last:
            raise self.wrong(f"from {self._last} back to {place(position)}")
        self._last = place(position)
        self.cursor = position

    def _in_time(self, message: Message) -> None:
        timestamp = str(message.get("timestamp"))
        if timestamp < self._time and self._last > self._repeats_until:
            raise self.wrong(f"an event of {timestamp} after one of {self._time}")
        self._time = timestamp

    def _own(self, record: bytes) -> None:
        owner = _fields.decode(record).get("account_id")
        if owner is not None and _any.decode(owner) != self.account_id:
            raise self.wrong(f"a record of account {_any.decode(owner)}")

    def _unexpected(self, what: str) -> None:
        """Between a `resync` (or a request that replaces another) and its answer the old one still speaks."""
        if self.state not in (State.ASKED, State.STALE):
            raise self.wrong(f"{what} at this moment")
