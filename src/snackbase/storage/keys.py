"""The SQL of API keys. Their secrets are known here as hashes only."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from snackbase.model import Account
from snackbase.storage.base import Statement, Store
from snackbase.storage.system import ACCOUNT_COLUMNS, account_of

# ruff: noqa: S608 - every text that is put together here is a constant of this file; values are bound.

_COLUMNS = (
    "k.id, k.account_id, k.name, k.role_id, coalesce(r.name, ''), k.hint, k.created_by, k.created_at, k.expires_at,"
    " k.last_used_at, k.revoked_at"
)
# A revoked key may name a role that is gone.
_KEYS = "_api_keys k LEFT JOIN _roles r ON r.id = k.role_id"
_WIDTH = 11


class ApiKey(msgspec.Struct, frozen=True, kw_only=True):
    """A row. `hint`: the secret's last characters. `expires_at`: seconds since the epoch; None = never."""

    id: str
    account_id: str
    name: str
    role_id: int
    role: str
    hint: str
    created_by: str | None
    created_at: str
    expires_at: int | None = None
    last_used_at: str | None = None
    revoked_at: str | None = None


class KeyPresence(msgspec.Struct, frozen=True, kw_only=True):
    """What the rows say now about a key: itself, the hash of its secret, its account."""

    key: ApiKey
    secret_hash: str
    account: Account


def _key(row: Sequence[Any]) -> ApiKey:
    return ApiKey(
        id=row[0],
        account_id=row[1],
        name=row[2],
        role_id=row[3],
        role=row[4],
        hint=row[5],
        created_by=row[6],
        created_at=row[7],
        expires_at=row[8],
        last_used_at=row[9],
        revoked_at=row[10],
    )


async def find_key(store: Store, key_id: str) -> ApiKey | None:
    rows = await store.fetch(f"SELECT {_COLUMNS} FROM {_KEYS} WHERE k.id = ?", (key_id,))
    return _key(rows[0]) if rows else None


async def find_key_presence(store: Store, key_id: str) -> KeyPresence | None:
    """One read for every request with a key."""
    rows = await store.fetch(
        f"SELECT {_COLUMNS}, {ACCOUNT_COLUMNS}, k.secret_hash FROM {_KEYS} JOIN _accounts a ON a.id = k.account_id"
        " WHERE k.id = ?",
        (key_id,),
    )
    if not rows:
        return None
    return KeyPresence(key=_key(rows[0]), account=account_of(rows[0][_WIDTH:]), secret_hash=rows[0][-1])


async def list_keys(store: Store, account_id: str | None, *, skip: int, limit: int) -> tuple[list[ApiKey], int]:
    """A page of an account's keys (None: of all accounts), newest first, revoked ones included, and how many there
    are."""
    where, args = ("WHERE k.account_id = ?", (account_id,)) if account_id is not None else ("", ())
    rows = await store.scan(
        account_id,
        f"SELECT {_COLUMNS} FROM {_KEYS} {where} ORDER BY k.created_at DESC, k.id LIMIT ? OFFSET ?",
        (*args, limit, skip),
    )
    total = await store.scan(account_id, f"SELECT count(*) FROM _api_keys k {where}", args)
    return [_key(row) for row in rows], total[0][0]


def insert_key(key: ApiKey, secret_hash: str, *, most: int, error: Exception) -> Statement:
    """`error`: the account has `most` live keys."""
    return Statement(
        sql="INSERT INTO _api_keys(id, account_id, name, role_id, secret_hash, hint, created_by, created_at,"
        " expires_at) SELECT ?, ?, ?, ?, ?, ?, ?, ?, ?"
        " WHERE (SELECT count(*) FROM _api_keys WHERE account_id = ? AND revoked_at IS NULL) < ?",
        args=(
            *(key.id, key.account_id, key.name, key.role_id, secret_hash, key.hint),
            *(key.created_by, key.created_at, key.expires_at, key.account_id, most),
        ),
        rows=1,
        error=error,
    )


def revoke_key(key_id: str, *, at: str, error: Exception) -> Statement:
    """`error`: it was revoked before."""
    return Statement(
        sql="UPDATE _api_keys SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL",
        args=(at, key_id),
        rows=1,
        error=error,
    )


def note_uses(uses: Mapping[str, str]) -> tuple[Statement, ...]:
    """When keys were last used: id -> time."""
    return tuple(
        Statement(
            sql="UPDATE _api_keys SET last_used_at = ? WHERE id = ? AND coalesce(last_used_at, '') < ?",
            args=(at, key_id, at),
        )
        for key_id, at in uses.items()
    )
