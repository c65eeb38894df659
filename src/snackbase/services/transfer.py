"""Records of one account as JSON lines: written out, and brought in through the one write path (contract §8).

An import writes in transactions of a bounded size and lets others in between, so the writer is nobody's for long and
memory stays flat however long the file is; rules, hooks, log and subscribers see ordinary creations and changes. Each
line has an id, its own or one made from the line itself, so importing a file again does nothing twice: that is how an
import that was interrupted goes on. Superadmins only.
"""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Any, Literal
from uuid import UUID

import msgspec

from snackbase.errors import (
    FieldError,
    Forbidden,
    SnackBaseError,
    TooLarge,
    Unauthorized,
    Unavailable,
    ValidationFailed,
)
from snackbase.model import MAX_RECORD_BYTES, SYSTEM_FIELDS, Principal
from snackbase.rules import normal_datetime
from snackbase.services import values
from snackbase.services.listing import MAX_LIMIT, ListRequest
from snackbase.services.preparation import Edit
from snackbase.services.reading import Listing
from snackbase.services.records import MAX_BATCH, Records
from snackbase.storage.base import WEIGHED_FROM, Stamps

BATCH_RECORDS = 100
BATCH_BYTES = 256 * 1024
"""Of one transaction's lines: a batch of large records would hold the writer for too long otherwise."""
FEWEST_RECORDS = 10
AIM_S = 0.025
"""How long one transaction should take: a busy or slow machine gets smaller ones."""
REST = 0.25
"""The part of a transaction's time for which others are let in after it."""
MOST_PAUSE_S = 0.25
MAX_LINE_BYTES = 2 * MAX_RECORD_BYTES
MOST_FAULTS = 100
PATIENCE = (0.1, 0.5, 1.0, 2.0, 5.0)
"""Pauses, in seconds, when the store cannot take more at the moment."""

Strategy = Literal["error", "skip", "update"]
"""What to do with a record that exists: a fault, leave it, or change the fields that the line gives."""


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """Why one line was not imported. `line` counts from 1."""

    line: int
    code: str
    message: str
    details: tuple[FieldError, ...] = ()


class Progress(msgspec.Struct, kw_only=True):
    """How far an import is. `success`: every line is in; else `errors` says which are not, and `stopped` whether lines
    after them were left alone."""

    lines: int = 0
    created: int = 0
    updated: int = 0
    skipped: int = 0
    stopped: bool = False
    errors: list[Fault] = []

    @property
    def success(self) -> bool:
        return not self.errors and not self.stopped


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One record of a file, ready to be written."""

    number: int
    record_id: str
    body: dict[str, Any]
    stamps: Stamps | None
    size: int


def check_superadmin(principal: Principal) -> None:
    """Raises Unauthorized or Forbidden for others."""
    if principal.kind == "guest":
        raise Unauthorized("A superadmin's token is required.", code="token_missing")
    if not principal.superadmin:
        raise Forbidden("Only superadmins export and import records.")


Writing = Callable[[Sequence[Line]], Awaitable[None]]
_NO_FAULT_OF_A_LINE = frozenset({"collection_not_found", "changed_meanwhile"})


class Pace:
    """How many lines share a transaction, so that each takes about `AIM_S`, and how long to pause between two."""

    def __init__(self, pause_s: float) -> None:
        self._pause_s = pause_s
        self.most = BATCH_RECORDS

    def took(self, seconds: float) -> float:
        """Learn from a transaction of `most` lines; gives the pause after it, in seconds."""
        wanted = int(self.most * AIM_S / max(seconds, 0.001))
        # One that met an accident tells little: half or twice as many at most.
        self.most = max(FEWEST_RECORDS, min(BATCH_RECORDS, max(self.most // 2, min(self.most * 2, wanted))))
        return max(self._pause_s, min(MOST_PAUSE_S, seconds * REST))


class Export:
    """An account's records of a collection, oldest first, a page at a time.

    It is no snapshot: what changes while it runs is in it as it was or as it is; what is there all the time is in it
    exactly once. Following changes from `position` on tells the rest.
    """

    def __init__(self, records: Records, principal: Principal, collection: str) -> None:
        check_superadmin(principal)
        self._records = records
        self._principal = principal
        self._collection = collection
        self.total = 0
        self.position = ""

    async def begin(self) -> None:
        """Read the first page. Raises NotFound for a collection that is not there."""
        self._first = await self._page("", counted=True)
        self.total, self.position = self._first.total or 0, self._first.position

    async def pages(self) -> AsyncIterator[tuple[bytes, int]]:
        """JSON lines, and how many records they are."""
        page = self._first
        while True:
            yield b"".join(msgspec.json.encode(record) + b"\n" for record in page.items), len(page.items)
            if page.next_cursor is None:
                return
            page = await self._page(page.next_cursor)

    async def _page(self, cursor: str, *, counted: bool = False) -> Listing:
        asked = ListRequest(sort="created_at", limit=MAX_LIMIT, cursor=cursor, total=counted)
        try:
            return await self._records.list(self._principal, self._collection, asked)
        except TooLarge:
            fewer = msgspec.structs.replace(asked, limit=WEIGHED_FROM - 1)
            return await self._records.list(self._principal, self._collection, fewer)


class Import:
    """
    Args:
        keep_going: go on after a line that cannot be imported, up to MOST_FAULTS of them.
        pause_s: how long others are let in after every transaction, at least.
        tell: called after every transaction. now: a monotonic clock, seconds.
    """

    def __init__(
        self,
        records: Records,
        principal: Principal,
        collection: str,
        *,
        strategy: Strategy = "error",
        keep_going: bool = False,
        pause_s: float = 0.0,
        tell: Callable[[Progress], None] = lambda _: None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        check_superadmin(principal)
        self._records = records
        self._principal = principal
        self._collection = collection
        self._strategy = strategy
        self._keep_going = keep_going
        self._pace = Pace(pause_s)
        self._tell = tell
        self._now = now
        self.progress = Progress()

    async def run(self, lines: Iterable[bytes]) -> Progress:
        """Bring in one record a line; empty lines are passed over.

        Raises:
            NotFound: there is no such collection or account. Unavailable: the store takes no writes; what was written
            until then stays, and the import can be run again.
        """
        self._records.require(self._principal, self._collection)
        for batch in self._batches(lines):
            began = self._now()
            await self._write(batch)
            pause_s = self._pace.took(self._now() - began)
            self._tell(self.progress)
            if self.progress.stopped:
                break
            await asyncio.sleep(pause_s)
        self.progress.errors.sort(key=lambda fault: fault.line)
        if not self._keep_going:
            # One further down, which was met first, matters only once this one is corrected.
            del self.progress.errors[1:]
        return self.progress

    def _batches(self, lines: Iterable[bytes]) -> Iterator[list[Line]]:
        """Lines that may share a transaction, no id twice; ends at a line that stops the import."""
        batch: dict[str, Line] = {}
        size = 0
        for number, text in enumerate(lines, start=1):
            line = self._read(number, text.strip())
            if self.progress.stopped:
                break
            if line is None:
                continue
            if batch and (line.record_id in batch or len(batch) >= self._pace.most or size + line.size > BATCH_BYTES):
                yield list(batch.values())
                batch, size = {}, 0
            batch[line.record_id] = line
            size += line.size
        if batch:
            yield list(batch.values())

    def _read(self, number: int, text: bytes) -> Line | None:
        self.progress.lines = number
        try:
            return read_line(number, text, f"{self._principal.account_id}/{self._collection}") if text else None
        except SnackBaseError as error:
            self._fault(number, error)
            return None

    def _fault(self, number: int, error: SnackBaseError) -> None:
        # Which part of a batch it was is nobody's business but ours; the line says it.
        place = f"records[{error.part}]"
        details = tuple(
            msgspec.structs.replace(detail, field=detail.field.removeprefix(f"{place}."))
            for detail in error.details
            if detail.field != place
        )
        message = error.message.removeprefix(f"{place}: ")
        progress = self.progress
        progress.errors.append(Fault(line=number, code=error.code, message=message, details=details))
        progress.stopped = not self._keep_going or len(progress.errors) >= MOST_FAULTS

    async def _write(self, batch: list[Line]) -> None:
        known: set[str] = set()
        if self._strategy != "error":
            ids = [line.record_id for line in batch]
            for start in range(0, len(ids), WEIGHED_FROM):
                some = ids[start : start + WEIGHED_FROM]
                known |= await self._records.existing(self._principal, self._collection, some)
        old = [line for line in batch if line.record_id in known]
        self.progress.created += await self._all([line for line in batch if line.record_id not in known], self._create)
        if self.progress.stopped:
            old = [line for line in old if line.number < self.progress.errors[-1].line]
        if self._strategy == "skip":
            self.progress.skipped += len(old)
            return
        for start in range(0, len(old), MAX_BATCH):
            self.progress.updated += await self._all(old[start : start + MAX_BATCH], self._update)

    async def _all(self, lines: Sequence[Line], write: Writing) -> int:
        """Write the lines in one transaction, without those that cannot be; gives how many were written."""
        left = list(lines)
        while left:
            try:
                await _patiently(write, left)
                return len(left)
            except SnackBaseError as error:
                if error.part is None or isinstance(error, Unavailable) or error.code in _NO_FAULT_OF_A_LINE:
                    raise
                self._fault(left[error.part].number, error)
                # Stopping means that nothing after the fault is written, and everything before it.
                left = left[: error.part] if self.progress.stopped else left[: error.part] + left[error.part + 1 :]
        return 0

    async def _create(self, lines: Sequence[Line]) -> None:
        bodies = [{**line.body, "id": line.record_id} for line in lines]
        await self._records.bring_in(self._principal, self._collection, bodies, [line.stamps for line in lines])

    async def _update(self, lines: Sequence[Line]) -> None:
        edits = [Edit(id=line.record_id, data=line.body) for line in lines]
        await self._records.update_many(self._principal, self._collection, edits)


async def _patiently(write: Writing, lines: Sequence[Line]) -> None:
    """Write, and wait for a store that cannot take it at the moment."""
    for pause_s in PATIENCE:
        try:
            await write(lines)
            return
        except Unavailable as error:
            if error.code not in ("overloaded", "storage_busy", "schema_changed"):
                raise
            await asyncio.sleep(pause_s)
    await write(lines)


def read_line(number: int, text: bytes, place: str) -> Line:
    """One line of a file.

    Args:
        place: names account and collection; part of an id that is made from the line.

    Raises:
        ValidationFailed: it is no JSON object, too long, or its id or stamps cannot be.
    """
    if len(text) > MAX_LINE_BYTES:
        raise ValidationFailed(f"The line has {len(text)} bytes; at most {MAX_LINE_BYTES} are read.", code="too_long")
    try:
        record = msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        raise ValidationFailed("The line is not a JSON object.", code="invalid_json") from None
    given = record.get("id")
    record_id = values.canonical_id(given)
    if given is not None and record_id is None:
        raise _wrong("id", "id must be a UUID.", "invalid_id")
    body = {name: value for name, value in record.items() if name not in SYSTEM_FIELDS}
    return Line(
        number=number,
        record_id=record_id or _made_id(number, text, place),
        body=body,
        stamps=_stamps(record),
        size=len(text),
    )


def _made_id(number: int, text: bytes, place: str) -> str:
    """An id that the same line of the same file always has; ids of a file sort as its lines do.

    Source: RFC 9562 §5.8 (version 8): 32 bits of the place, 28 of the line's number, 62 of both and the text.
    """
    where = int.from_bytes(hashlib.sha256(place.encode("utf-8", "replace")).digest()[:4])
    digest = hashlib.sha256(f"{place}/{number}/".encode("utf-8", "replace") + text).digest()
    what = int.from_bytes(digest) & (1 << 62) - 1
    high, low = number >> 12 & 0xFFFF, number & 0xFFF
    return str(UUID(int=where << 96 | high << 80 | 8 << 76 | low << 64 | 2 << 62 | what))


def _stamps(record: dict[str, Any]) -> Stamps | None:
    """The stamps that the record brings; None = it is new."""
    if record.get("created_at") is None:
        return None
    made = _time(record, "created_at")
    return Stamps(
        created_at=made,
        created_by=_who(record, "created_by"),
        updated_at=made if record.get("updated_at") is None else _time(record, "updated_at"),
        updated_by=_who(record, "updated_by"),
    )


def _time(record: dict[str, Any], name: str) -> str:
    given = record[name]
    kept = normal_datetime(given) if isinstance(given, str) else None
    if kept is None:
        raise _wrong(name, f"{name} must be a time that exists, such as 2026-01-17T12:34:56.789Z.", "invalid_datetime")
    return kept


def _who(record: dict[str, Any], name: str) -> str | None:
    given = record.get(name)
    known = values.canonical_id(given)
    if given is not None and known is None:
        raise _wrong(name, f"{name} must be a UUID or null.", "invalid_id")
    return known


def _wrong(field: str, message: str, code: str) -> ValidationFailed:
    return ValidationFailed(message, details=[FieldError(field=field, message=message, code=code)])
