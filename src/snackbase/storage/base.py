"""The seam between what SnackBase does and the database that holds it: `Store`, and the values it takes and gives.

A store owns: the record tables, the system tables, the per-account counters and the change log. It promises the
invariants I1 to I5 (docs/concepts/guarantees.md): a record's change, its log row and the counter commit together;
numbers are gapless and in commit order; nothing is acknowledged or announced before COMMIT returned. The store
announces what it commits: it calls `on_commit` with the changes in log order, so no write can bypass delivery. Step 4
of the path.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from snackbase.errors import TooLarge
from snackbase.model import MAX_RECORD_BYTES, Change, Collection, Head, Op, Record

MAX_TRANSACTION_CHANGES = 1000
"""Changes in one transaction, cascades included; above: Conflict (contract §2)."""


class Stamps(msgspec.Struct, frozen=True, kw_only=True):
    """When a record was made and last changed, and by whom. Times are RFC 3339 in UTC with milliseconds."""

    created_at: str
    created_by: str | None
    updated_at: str
    updated_by: str | None


class Write(msgspec.Struct, frozen=True, kw_only=True):
    """One change of one record that somebody asks for.

    Attributes:
        values: create: every field of the collection, validated, in JSON form (missing ones null); update: the
            changed fields only; delete: empty. System fields are the store's business.
        allowed: judges update and delete on the record before the change, inside the transaction. False: the record
            is reported as NotFound when `visible` says no as well, else Forbidden.
        visible: whether the principal may see the record at all (its view rule); None = yes.
        stamps: create only: the record's own stamps, kept by an import; None = now and the transaction's actor.
    """

    op: Op
    collection: Collection
    record_id: str
    values: Mapping[str, Any] = {}
    allowed: Callable[[Record], bool] | None = None
    visible: Callable[[Record], bool] | None = None
    stamps: Stamps | None = None


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """One SQL statement on system tables, with `?` placeholders (the dialect translates), inside a transaction.

    `rows`: when given, exactly so many rows must be changed, else `error` is raised and the whole transaction fails.
    `error` also replaces a unique violation of this statement. Transactions with statements of one account never run
    beside each other; with `alone`, not beside those of any account: for what is unique or counted over all.
    """

    sql: str
    args: tuple[Any, ...] = ()
    rows: int | None = None
    error: Exception | None = None
    alone: bool = False


class Control(msgspec.Struct, frozen=True, kw_only=True):
    """A change of rights to be written to the account's log: becomes a Change with Op.CONTROL.

    what: user_rights | user_disabled | login_ended | logins_ended | key_revoked | account_disabled
    subject: the id of the user, login, key or account it concerns.
    data: extra words, e.g. {"except": "<sid>"} for logins_ended.
    """

    what: str
    subject: str
    data: Mapping[str, Any] = {}


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a write that was sent with an Idempotency-Key, as it will be given again.

    Attributes:
        fingerprint: tells the request it answers from every other one.
    """

    fingerprint: str
    status: int
    body: bytes
    position: str


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """The wish that a transaction's answer be kept with it, under a key.

    Attributes:
        owner: whose key it is. lifetime_us: how long the answer is kept, in microseconds.
        answer: makes the answer from the records as written and the account's head right after them. Runs inside the
            transaction, on the writer's thread.
    """

    owner: str
    key: str
    lifetime_us: int
    answer: Callable[[Sequence[Record], Head], Kept]


class Transaction(msgspec.Struct, frozen=True, kw_only=True):
    """What commits or fails as one: statements first, then writes in order, cascades, then controls, counter, log.

    `receipt`: when an answer is kept under its key already, nothing is done and that answer is the outcome.
    """

    account_id: str
    actor: str | None = None
    statements: tuple[Statement, ...] = ()
    writes: tuple[Write, ...] = ()
    controls: tuple[Control, ...] = ()
    receipt: Receipt | None = None


class Committed(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of a transaction. `changes`: every log row it wrote, in order, cascades included.

    `head`: the account's head right after it. `written`: one entry a Write, in order (the record after it; for a
    delete its last state; for an update that changed nothing the unchanged record, which has no log row).
    `repeated`: the answer that an earlier transaction kept under the same key; then nothing was done.
    """

    changes: tuple[Change, ...]
    head: Head
    written: tuple[Record, ...] = ()
    repeated: Kept | None = None


class SchemaChange(msgspec.Struct, frozen=True, kw_only=True):
    """A change of a collection's definition; DDL and metadata in one transaction of its own (never in a group).

    before None = create, after None = drop. The store assigns `version`, `schema_version` and `rules_version` of
    the definition it returns from the bumped global version: rows altered (a field with a default added, a field
    dropped) bump schema_version; a rule or *_fields changed bumps rules_version.
    """

    before: Collection | None
    after: Collection | None


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """What the log holds around one place, read in one snapshot.

    Attributes:
        head: the newest row. floor: the newest row that was pruned, (0, 0) when none was.
        ts_us: the time of the row asked for; None = it is not there.
    """

    head: Head
    floor: Head
    ts_us: int | None


MAX_PAGE_BYTES = 16 << 20
"""Of the texts of a list's records; about thirty of the largest records. Otherwise a hundred would be 50 MB for every
request that a client cares to send, and a whole set for a subscription 5 GB."""
WEIGHED_FROM = MAX_PAGE_BYTES // MAX_RECORD_BYTES
"""Records of a list that may be too large; fewer never are."""


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """A list of records of one account. `where` builds the SQL of rule and filter (rules.to_sql) over the dialect.

    where: called with (column, param): column(name) gives the quoted column, param(value) binds one value and gives
        its placeholder; returns a boolean SQL expression, or None for all.
    sort: (field, descending) pairs; the store appends `id`. Null comes before every value, as in SQLite.
    beyond: as `where`, but for the items only: the total counts what lies before them too.
    """

    collection: Collection
    account_id: str
    where: Callable[[Callable[[str], str], Callable[[object], str]], str] | None = None
    sort: tuple[tuple[str, bool], ...] = ()
    skip: int = 0
    limit: int = 30
    total: bool = True
    beyond: Callable[[Callable[[str], str], Callable[[object], str]], str] | None = None


class Scales:
    """Weighs the rows of a list while they are read, and what they refer to."""

    __slots__ = ("_size",)

    def __init__(self) -> None:
        self._size = 0

    def add(self, row: Iterable[object]) -> None:
        """Raises TooLarge (`page_too_large`)."""
        self.put_on(sum(len(value) for value in row if isinstance(value, str)))

    def put_on(self, size: int) -> None:
        """Raises TooLarge (`page_too_large`)."""
        self._size += size
        if self._size > MAX_PAGE_BYTES:
            message = f"These records have more than {MAX_PAGE_BYTES >> 20} MB together; ask for fewer with `limit`."
            raise TooLarge(message, code="page_too_large")


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """Records, how many there are in all (None when not asked), and the head and the version of schemas and rules read
    in the same snapshot (I4)."""

    items: tuple[Record, ...]
    total: int | None
    head: Head
    version: int


# Named out here: inside Store, `list` is the method.
Changes = list[Change]
Rows = list[tuple[Any, ...]]


class Store(Protocol):
    """The database. All methods may be called from the event loop; none blocks it for longer than a short read."""

    epoch: str
    """Identifies this history of positions; changes when numbers might be reused (evidence: I8)."""
    dialect: str
    """sqlite | postgres, for rules.to_sql."""
    on_commit: Callable[[Sequence[Change]], None]
    """Called on the loop, after COMMIT, in log order. Must not block or raise."""
    on_schema: Callable[[int, tuple[Collection, ...]], None]
    """Called on the loop with the new global version and every definition after a schema or rules change
    committed, in commit order with `on_commit`; also for those of other nodes, as soon as this one hears of them."""
    on_hint: Callable[[Mapping[str, int]], None]
    """Called on the loop with account id -> newest number of what another node committed. A hint: it may come late,
    twice or never, and the log is the truth. Must not block or raise. SQLite never calls it."""

    on_break: Callable[[], None]
    """Called on the loop when the database may have lost what it had committed: after a failover. SQLite never does."""

    @property
    def lineage(self) -> str:
        """Identifies how the history came to what it is: the epoch, and what changes when its end may have been lost
        (a promotion). What was committed under another one is not to be believed."""

    async def open(self) -> None: ...
    async def close(self) -> None: ...
    async def write(self, transaction: Transaction) -> Committed:
        """Commit one transaction. Raises Conflict, ValidationFailed, NotFound, Forbidden, Unavailable (queue full,
        disk full, locked); the error of one transaction never harms another of the same group."""
        ...

    async def alter(self, change: SchemaChange) -> Collection | None: ...
    async def version(self) -> int:
        """The global version of schemas and rules: grows with each change of either, by whatever process."""
        ...

    async def collections(self) -> tuple[int, tuple[Collection, ...]]:
        """The global version and every collection's definition, from one snapshot."""
        ...

    async def get(self, collection: Collection, account_id: str, record_id: str) -> Record | None: ...
    async def list(self, query: Query) -> Page:
        """Raises Unavailable (code `query_timeout`) when it runs over its deadline."""
        ...

    async def count(self, collection: Collection, account_id: str | None = None) -> int:
        """How many records there are, of one account or (None) of all. Raises as `list` does."""
        ...

    async def head(self, account_id: str) -> Head: ...
    async def heads(self, account_ids: Sequence[str]) -> dict[str, Head]: ...
    async def read_changes(self, account_id: str, after: int, limit: int) -> Changes:
        """Log rows with seq > after, in order, at most `limit`; after some 4 MB no further transaction is begun."""
        ...

    async def window(self, account_id: str, seq: int) -> Window:
        """The log's ends and the row at `seq`, for judging a position."""
        ...

    async def rights_changed(self, account_id: str, after: int, subject: str) -> bool:
        """Whether a control row after `after` concerns this user or key."""
        ...

    async def fetch(self, sql: str, args: Sequence[Any] = ()) -> Rows:
        """Rows of a short read on system tables, `?` placeholders."""
        ...

    async def scan(self, account_id: str | None, sql: str, args: Sequence[Any] = ()) -> Rows:
        """Rows of a read on system tables that grows with an account (None: with all of them): as `fetch`, in turn with
        the lists and under their deadline. Raises Unavailable (`query_timeout`, `overloaded`)."""
        ...

    def stats(self) -> Mapping[str, float]:
        """Numbers for /metrics: queue_length, queue_bytes, groups, group_writes, last_group_size, ..."""
        ...
