"""The shape of the database: system tables in numbered migrations, and the tables and indexes of collections.

Owns every CREATE and the words for column types. Promises: all missing migrations run in one transaction of the caller;
a folder written by a newer program is refused before anything is touched. Must not hold a connection: it gives texts,
or asks them. The migrations are written for SQLite; another dialect translates them, so a new one holds for both.
Collection DDL quotes every identifier.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import blake2b

import msgspec

from snackbase.config import ConfigError
from snackbase.model import Collection, Field, FieldType
from snackbase.storage.asking import Ask, Asking

SET_META = "INSERT INTO _meta(key, value) VALUES (?, ?) ON CONFLICT(key) DO UPDATE SET value = excluded.value"

APPLICATION_ID = 0x534E4B42
"""`SNKB` in the header of the SQLite file, so that file(1) and our own open tell it from others."""

_BASE = (
    """CREATE TABLE _meta(key TEXT PRIMARY KEY NOT NULL, value TEXT NOT NULL) STRICT""",
    """CREATE TABLE _accounts(
        num INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, account_code TEXT NOT NULL UNIQUE,
        slug TEXT NOT NULL UNIQUE, name TEXT NOT NULL, is_active INTEGER NOT NULL DEFAULT 1,
        registration TEXT NOT NULL DEFAULT 'closed', created_at TEXT NOT NULL, updated_at TEXT NOT NULL) STRICT""",
    """CREATE TABLE _roles(
        id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, description TEXT NOT NULL DEFAULT '') STRICT""",
    """CREATE TABLE _users(
        id TEXT PRIMARY KEY NOT NULL, account_id TEXT NOT NULL, email TEXT NOT NULL, password_hash TEXT NOT NULL,
        role_id INTEGER NOT NULL, groups TEXT NOT NULL DEFAULT '[]', is_active INTEGER NOT NULL DEFAULT 1,
        created_at TEXT NOT NULL, updated_at TEXT NOT NULL, last_login TEXT, UNIQUE(account_id, email)) STRICT""",
    # expires_at is in seconds since the epoch; ended_at NULL = the login is alive.
    """CREATE TABLE _logins(
        sid TEXT PRIMARY KEY NOT NULL, user_id TEXT NOT NULL, account_id TEXT NOT NULL, refresh_jti TEXT NOT NULL,
        created_at TEXT NOT NULL, expires_at INTEGER NOT NULL, ended_at TEXT) STRICT""",
    """CREATE INDEX _logins_user ON _logins(user_id)""",
    """CREATE INDEX _logins_expiry ON _logins(expires_at)""",
    """CREATE TABLE _collections(
        id TEXT PRIMARY KEY NOT NULL, name TEXT NOT NULL COLLATE NOCASE UNIQUE, table_name TEXT NOT NULL UNIQUE,
        definition TEXT NOT NULL, version INTEGER NOT NULL, schema_version INTEGER NOT NULL,
        rules_version INTEGER NOT NULL, created_at TEXT NOT NULL, updated_at TEXT NOT NULL) STRICT""",
    # floor: the newest pruned place; 0 while the log is whole.
    """CREATE TABLE _heads(
        account INTEGER PRIMARY KEY, seq INTEGER NOT NULL, ts_us INTEGER NOT NULL,
        floor_seq INTEGER NOT NULL DEFAULT 0, floor_ts_us INTEGER NOT NULL DEFAULT 0) STRICT""",
    # A rowid table in commit order with the numbers beside it: half the cost of a clustered (account, seq) key with
    # many accounts, and pruning by age is a prefix delete (measured: 22 against 52 us a row with 1000 accounts).
    """CREATE TABLE _changes(
        id INTEGER PRIMARY KEY, account INTEGER NOT NULL, seq INTEGER NOT NULL, ts_us INTEGER NOT NULL,
        op TEXT NOT NULL, collection_id TEXT NOT NULL, schema_version INTEGER NOT NULL, record_id TEXT NOT NULL,
        data TEXT, prev TEXT, actor TEXT, tx_id TEXT NOT NULL, tx_index INTEGER NOT NULL, tx_size INTEGER NOT NULL,
        UNIQUE(account, seq)) STRICT""",
    # Whether somebody's rights changed since a position; record changes cost nothing here.
    """CREATE INDEX _changes_control ON _changes(account, record_id, seq) WHERE op = 'control'""",
    """INSERT INTO _roles(id, name, description) VALUES
        (1, 'admin', 'Manages the account'), (2, 'user', 'Member of the account')""",
    """INSERT INTO _accounts(num, id, account_code, slug, name, created_at, updated_at) VALUES
        (0, '00000000-0000-0000-0000-000000000000', 'SY0000', 'system', 'System', :now, :now)""",
    """INSERT INTO _heads(account, seq, ts_us) VALUES (0, 0, 0)""",
    """INSERT INTO _meta(key, value) VALUES ('version', '1')""",
)

# What an account's log takes, so that the total is known without reading the log; 200 = statements.ROW_BYTES.
_LOG_SIZES = (
    """ALTER TABLE _heads ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0""",
    """UPDATE _heads SET bytes = coalesce((
        SELECT sum(200 + coalesce(octet_length(data), 0) + coalesce(octet_length(prev), 0))
        FROM _changes WHERE _changes.account = _heads.account), 0)""",
)

_IDEMPOTENCY = (
    # A rowid table: its answers may be large, and a key is looked up by its own index.
    """CREATE TABLE _idempotency(
        owner TEXT NOT NULL, key TEXT NOT NULL, fingerprint TEXT NOT NULL, status INTEGER NOT NULL, body BLOB NOT NULL,
        position TEXT NOT NULL, expires_us INTEGER NOT NULL, UNIQUE(owner, key)) STRICT""",
    """CREATE INDEX _idempotency_expiry ON _idempotency(expires_us)""",
)

_MEMBERSHIP = (
    """ALTER TABLE _roles ADD COLUMN created_at TEXT NOT NULL DEFAULT ''""",
    """ALTER TABLE _roles ADD COLUMN updated_at TEXT NOT NULL DEFAULT ''""",
    """UPDATE _roles SET created_at = :now, updated_at = :now""",
    # The order of an account's list of users.
    """CREATE INDEX _users_created ON _users(account_id, created_at, id)""",
    """CREATE TABLE _groups(
        id TEXT PRIMARY KEY NOT NULL, account_id TEXT NOT NULL, name TEXT NOT NULL,
        description TEXT NOT NULL DEFAULT '', created_at TEXT NOT NULL, updated_at TEXT NOT NULL,
        UNIQUE(account_id, name)) STRICT""",
    # A group stands for the name that users' rows hold; whoever is in one already has made it.
    """INSERT INTO _groups(id, account_id, name, created_at, updated_at)
        SELECT lower(hex(randomblob(4)) || '-' || hex(randomblob(2)) || '-4' || substr(hex(randomblob(2)), 2) || '-a' ||
            substr(hex(randomblob(2)), 2) || '-' || hex(randomblob(6))), account_id, value, :now, :now
        FROM (SELECT DISTINCT u.account_id, g.value FROM _users u, json_each(u.groups) g)""",
    # Tokens and keys are kept as hashes only. Times are RFC 3339 but for expires_at: seconds since the epoch.
    """CREATE TABLE _invitations(
        id TEXT PRIMARY KEY NOT NULL, account_id TEXT NOT NULL, email TEXT NOT NULL, role_id INTEGER NOT NULL,
        groups TEXT NOT NULL DEFAULT '[]', token_hash TEXT NOT NULL UNIQUE, invited_by TEXT NOT NULL,
        created_at TEXT NOT NULL, updated_at TEXT NOT NULL, expires_at INTEGER NOT NULL,
        accepted_at TEXT, cancelled_at TEXT) STRICT""",
    """CREATE INDEX _invitations_account ON _invitations(account_id, created_at, id)""",
    """CREATE TABLE _api_keys(
        id TEXT PRIMARY KEY NOT NULL, account_id TEXT NOT NULL, name TEXT NOT NULL, role_id INTEGER NOT NULL,
        secret_hash TEXT NOT NULL, hint TEXT NOT NULL, created_by TEXT, created_at TEXT NOT NULL,
        expires_at INTEGER, last_used_at TEXT, revoked_at TEXT) STRICT""",
    """CREATE INDEX _api_keys_account ON _api_keys(account_id, created_at, id)""",
)

_OPEN = (
    # What a new one is compared with in the writer's turn: an account's old ones must not make that slower for all.
    """CREATE INDEX _invitations_open ON _invitations(account_id, email)
        WHERE accepted_at IS NULL AND cancelled_at IS NULL""",
    """CREATE INDEX _api_keys_live ON _api_keys(account_id) WHERE revoked_at IS NULL""",
)

MIGRATIONS: tuple[tuple[str, ...], ...] = (_BASE, _LOG_SIZES, _IDEMPOTENCY, _MEMBERSHIP, _OPEN)
"""MIGRATIONS[n - 1] takes a folder from schema version n - 1 to n. Released ones are never changed."""


def stored_version(dialect: "Dialect") -> Asking[int]:
    """The schema version of a database; 0: there is nothing in it.

    Raises:
        ConfigError: the database belongs to a newer program, or to something else.
    """
    tables = {str(name) for (name,) in (yield Ask(dialect.table_names))}
    at = 0
    if "_meta" in tables:
        rows = yield Ask("SELECT value FROM _meta WHERE key = 'schema_version'")
        at = int(rows[0][0]) if rows else -1
    elif tables and dialect.alone:
        at = -1
    if at < 0:
        raise ConfigError("The database holds tables that are not SnackBase's; name another one in DATABASE_URL.")
    newest = len(MIGRATIONS)
    if at > newest:
        raise ConfigError(
            f"The data folder was written by a newer SnackBase (its schema version is {at}, this program knows up to "
            f"{newest}). Install the newer program, or restore a backup made before the upgrade (see backups/ in the "
            "data folder)."
        )
    return at


def migrate(dialect: "Dialect", *, now: str) -> Asking[bool]:
    """Bring the system tables to this program's version, inside the caller's transaction; True: made from nothing.

    Args:
        now: RFC 3339 time for what is created.

    Raises:
        ConfigError: as `stored_version`.
    """
    at, newest = (yield from stored_version(dialect)), len(MIGRATIONS)
    for statements in MIGRATIONS[at:]:
        for given in statements:
            for sql in dialect.ddl(given):
                yield Ask(sql.replace(":now", "?"), (now,) * sql.count(":now"))
    if at < newest:
        yield Ask(SET_META, ("schema_version", str(newest)))
    return at == 0


def quoted(name: str) -> str:
    """An SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


class Dialect(msgspec.Struct, frozen=True, kw_only=True):
    """What the shape of the database is written in.

    Attributes:
        text: the type of a text whose order is that of code points. types: of fields that are no text.
        longest_name: bytes an identifier may have; None = as many as wanted.
        table_names: SQL that gives the names of all tables. alone: no tables but ours may be there.
        ddl: a statement of MIGRATIONS in this dialect.
    """

    name: str
    text: str
    types: Mapping[FieldType, str]
    longest_name: int | None
    table_names: str
    alone: bool
    ddl: Callable[[str], Sequence[str]]

    def named(self, name: str) -> str:
        """A name for a table or an index, shortened to what the database keeps of it."""
        if self.longest_name is None or len(name.encode()) <= self.longest_name:
            return name
        return f"{name[: self.longest_name - 13]}:{blake2b(name.encode(), digest_size=6).hexdigest()}"

    def column_type(self, field: Field) -> str:
        """A double for numbers, a truth value for booleans, text for everything else."""
        return self.types.get(field.type, self.text)


SQLITE = Dialect(
    name="sqlite",
    text="TEXT",
    types={FieldType.NUMBER: "REAL", FieldType.BOOLEAN: "INTEGER"},
    longest_name=None,
    table_names="SELECT name FROM sqlite_master WHERE type = 'table'",
    alone=True,
    ddl=lambda sql: (sql,),
)


def create_table(collection: Collection, dialect: Dialect) -> str:
    """The collection's table. No NOT NULL and no FOREIGN KEY: values are validated before, references in the
    transaction, so that every cascade is seen and logged. An id is an account's own: one that another account has is
    free, so that bringing an id tells nothing about others, and records can be copied from account to account."""
    text = dialect.text
    columns = [
        f"id {text} NOT NULL",
        f"account_id {text} NOT NULL",
        f"created_at {text} NOT NULL",
        f"created_by {text}",
        f"updated_at {text} NOT NULL",
        f"updated_by {text}",
        *(f"{quoted(field.name)} {dialect.column_type(field)}" for field in collection.fields),
        "PRIMARY KEY (id, account_id)",
    ]
    return f"CREATE TABLE {quoted(collection.table)}({', '.join(columns)})"


class TableIndex(msgspec.Struct, frozen=True):
    """One index of a collection's table; always within an account (`account_id` first)."""

    name: str
    fields: tuple[str, ...]
    unique: bool
    sql: str


def indexes(collection: Collection, dialect: Dialect) -> dict[str, TableIndex]:
    """Every index the definition asks for, by name: the default order, unique fields, references, `indexes`."""
    return {index.name: index for index in _indexes(collection, dialect)}


def _indexes(collection: Collection, dialect: Dialect) -> Iterator[TableIndex]:
    yield _index(collection, ("created_at", "id"), dialect, unique=False)
    for field in collection.fields:
        if field.unique:
            yield _index(collection, (field.name,), dialect, unique=True)
        elif field.type is FieldType.REFERENCE:
            # Without it, deleting one record scans every collection that refers to its collection.
            yield _index(collection, (field.name,), dialect, unique=False)
    for wanted in collection.indexes:
        yield _index(collection, wanted.fields, dialect, unique=wanted.unique)


def _index(collection: Collection, fields: tuple[str, ...], dialect: Dialect, *, unique: bool) -> TableIndex:
    name = dialect.named(f"{collection.table}:{'unique' if unique else 'index'}:{','.join(fields)}")
    columns = ", ".join(quoted(column) for column in ("account_id", *fields))
    kind = "UNIQUE INDEX" if unique else "INDEX"
    sql = f"CREATE {kind} {quoted(name)} ON {quoted(collection.table)}({columns})"
    return TableIndex(name=name, fields=fields, unique=unique, sql=sql)
