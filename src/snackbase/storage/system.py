"""The SQL of accounts, users and logins: reads that give values of the model, statements for transactions.

Reads take the store and are short; statements are handed to `Store.write` inside a Transaction, so that a change of
somebody's rights and its control row commit together. Must not decide who may do what, and never gives a password hash
to anybody but the two who compare it (login, change of password).
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import msgspec

from snackbase.model import SYSTEM_ACCOUNT_ID, Account, User
from snackbase.storage.base import Statement, Store

ACCOUNT_COLUMNS = "a.id, a.account_code, a.slug, a.name, a.is_active, a.registration, a.created_at, a.updated_at"
USER_COLUMNS = "u.id, u.account_id, u.email, r.name, u.role_id, u.groups, u.is_active, u.created_at, u.last_login"
USERS = "_users u JOIN _roles r ON r.id = u.role_id"
_ACCOUNT_WIDTH = 8
_USER_WIDTH = 9

# ruff: noqa: S608 - every text that is put together here is a constant of this file; values are bound.
_INSERT_USER = (
    "INSERT INTO _users(id, account_id, email, password_hash, role_id, groups, is_active, created_at, updated_at) "
)


class Secret(msgspec.Struct, frozen=True, kw_only=True):
    """A user with the hash of their password: never leaves the services."""

    user: User
    password_hash: str


class Presence(msgspec.Struct, frozen=True, kw_only=True):
    """What the rows say now about the user of a token: their account, and the login if it is alive.

    refresh_id: the `jti` of the login's newest refresh token; None when the login has ended or never was.
    """

    user: User
    account: Account
    refresh_id: str | None


def account_of(row: Sequence[Any]) -> Account:
    return Account(
        id=row[0],
        account_code=row[1],
        slug=row[2],
        name=row[3],
        is_active=bool(row[4]),
        registration=row[5],
        created_at=row[6],
        updated_at=row[7],
    )


@lru_cache(maxsize=1024)
def _groups(text: str) -> tuple[str, ...]:
    """Members of the same groups share one tuple, however many of them are connected."""
    return msgspec.json.decode(text, type=tuple[str, ...])


def user_of(row: Sequence[Any]) -> User:
    return User(
        id=row[0],
        account_id=row[1],
        email=row[2],
        role=row[3],
        role_id=row[4],
        groups=_groups(row[5]),
        is_active=bool(row[6]),
        created_at=row[7],
        last_login=row[8],
    )


# Reads


async def find_account(store: Store, reference: str) -> Account | None:
    """By id, slug or code, in whatever case. Slugs never look like ids or codes, so at most one answers."""
    given = (reference.lower(), reference.lower(), reference.upper())
    rows = await store.fetch(
        f"SELECT {ACCOUNT_COLUMNS} FROM _accounts a WHERE a.id = ? OR a.slug = ? OR a.account_code = ?",
        given,
    )
    return account_of(rows[0]) if rows else None


async def find_user(store: Store, user_id: str) -> User | None:
    rows = await store.fetch(f"SELECT {USER_COLUMNS} FROM {USERS} WHERE u.id = ?", (user_id,))
    return user_of(rows[0]) if rows else None


async def find_secret(store: Store, account_id: str, email: str) -> Secret | None:
    """The user with this e-mail (in lower case, as stored) in this account."""
    sql = f"SELECT {USER_COLUMNS}, u.password_hash FROM {USERS} WHERE u.account_id = ? AND u.email = ?"
    rows = await store.fetch(sql, (account_id, email))
    return Secret(user=user_of(rows[0]), password_hash=rows[0][_USER_WIDTH]) if rows else None


async def find_secret_by_id(store: Store, user_id: str) -> Secret | None:
    sql = f"SELECT {USER_COLUMNS}, u.password_hash FROM {USERS} WHERE u.id = ?"
    rows = await store.fetch(sql, (user_id,))
    return Secret(user=user_of(rows[0]), password_hash=rows[0][_USER_WIDTH]) if rows else None


async def find_presence(store: Store, user_id: str, session_id: str) -> Presence | None:
    """One read for every request: user, account and login together; None when there is no such user."""
    rows = await store.fetch(
        f"SELECT {USER_COLUMNS}, {ACCOUNT_COLUMNS}, l.refresh_jti FROM {USERS} JOIN _accounts a ON a.id = u.account_id"
        " LEFT JOIN _logins l ON l.sid = ? AND l.user_id = u.id AND l.ended_at IS NULL WHERE u.id = ?",
        (session_id, user_id),
    )
    if not rows:
        return None
    row = rows[0]
    return Presence(
        user=user_of(row), account=account_of(row[_USER_WIDTH:]), refresh_id=row[_USER_WIDTH + _ACCOUNT_WIDTH]
    )


async def live_logins(store: Store, user_id: str) -> list[str]:
    """The session ids of a user's logins that have not ended, oldest first."""
    rows = await store.fetch(
        "SELECT sid FROM _logins WHERE user_id = ? AND ended_at IS NULL ORDER BY created_at, sid", (user_id,)
    )
    return [sid for (sid,) in rows]


async def has_users(store: Store, account_id: str) -> bool:
    return bool(await store.fetch("SELECT 1 FROM _users WHERE account_id = ? LIMIT 1", (account_id,)))


# Statements


def insert_account(account: Account, *, error: Exception) -> Statement:
    """A new account. Its code is counted up by the statement itself: AA0001 … AA9999, AB0001 … (`account.account_code`
    is not used), so two accounts founded at once never meet. `error`: the slug is taken."""
    number = "(SELECT max(num) + 1 FROM _accounts)"
    # 9999 codes a pair of letters, counted from 0.
    pair = f"(({number} - 1) / 9999)"
    which = (f"{pair} / 26", f"{pair} % 26")
    letters = [f"substr('ABCDEFGHIJKLMNOPQRSTUVWXYZ', CAST({one} AS INTEGER) + 1, 1)" for one in which]
    code = f"{letters[0]} || {letters[1]} || substr(CAST(10000 + ({number} - 1) % 9999 + 1 AS TEXT), 2)"
    return Statement(
        sql="INSERT INTO _accounts(num, account_code, id, slug, name, is_active, registration, created_at, updated_at)"
        f" VALUES ({number}, {code}, ?, ?, ?, ?, ?, ?, ?)",
        args=(
            account.id,
            account.slug,
            account.name,
            int(account.is_active),
            account.registration,
            account.created_at,
            account.updated_at,
        ),
        rows=1,
        error=error,
        alone=True,
    )


def update_account(before: Account, after: Account) -> Statement:
    """The changed account, if nobody changed it meanwhile: a rename must not enable what another disabled."""
    return Statement(
        sql="UPDATE _accounts SET name = ?, is_active = ?, registration = ?, updated_at = ?"
        " WHERE id = ? AND name = ? AND is_active = ? AND registration = ?",
        args=(
            *(after.name, int(after.is_active), after.registration, after.updated_at),
            *(before.id, before.name, int(before.is_active), before.registration),
        ),
        rows=1,
    )


def insert_user(user: User, password_hash: str, *, error: Exception) -> Statement:
    """`error`: the e-mail is taken in this account."""
    return Statement(
        sql=_INSERT_USER + "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        args=_inserted(user, password_hash),
        rows=1,
        error=error,
    )


def insert_first_superadmin(user: User, password_hash: str, *, error: Exception) -> Statement:
    """A user of the system account, if it has none yet; else `error`: of several processes exactly one makes it."""
    return Statement(
        sql=_INSERT_USER
        + "SELECT ?, ?, ?, ?, ?, ?, ?, ?, ? WHERE NOT EXISTS (SELECT 1 FROM _users WHERE account_id = ?)",
        args=(*_inserted(user, password_hash), SYSTEM_ACCOUNT_ID),
        rows=1,
        error=error,
    )


def _inserted(user: User, password_hash: str) -> tuple[Any, ...]:
    groups = msgspec.json.encode(user.groups).decode()
    return (
        user.id,
        user.account_id,
        user.email,
        password_hash,
        user.role_id,
        groups,
        int(user.is_active),
        user.created_at,
        user.created_at,
    )


def update_user(before: User, after: User, *, at: str, error: Exception | None) -> Statement:
    """The changed user, if nobody changed the rights meanwhile. `error`: the e-mail is taken, or somebody did."""
    return Statement(
        sql="UPDATE _users SET email = ?, role_id = ?, groups = ?, is_active = ?, updated_at = ?"
        " WHERE id = ? AND email = ? AND role_id = ? AND groups = ? AND is_active = ?",
        args=(
            *(after.email, after.role_id, msgspec.json.encode(after.groups).decode(), int(after.is_active), at),
            *(before.id, before.email, before.role_id),
            *(msgspec.json.encode(before.groups).decode(), int(before.is_active)),
        ),
        rows=1,
        error=error,
    )


def set_password(user_id: str, password_hash: str, *, old_hash: str | None, at: str, error: Exception) -> Statement:
    """`old_hash`: only while the password is still this one, else `error`."""
    return Statement(
        sql="UPDATE _users SET password_hash = ?, updated_at = ? WHERE id = ?"
        " AND password_hash = coalesce(?, password_hash)",
        args=(password_hash, at, user_id, old_hash),
        rows=1,
        error=error,
    )


def insert_login(
    session_id: str, *, user_id: str, password_hash: str, refresh_id: str, at: str, expires_at: int, error: Exception
) -> Statement:
    """A login of an active user whose password is still the one that was compared; else `error`.

    Without the condition a login that was being checked while the password changed would outlive the change."""
    return Statement(
        sql="INSERT INTO _logins(sid, user_id, account_id, refresh_jti, created_at, expires_at)"
        " SELECT ?, id, account_id, ?, ?, ? FROM _users WHERE id = ? AND password_hash = ? AND is_active = 1",
        args=(session_id, refresh_id, at, expires_at, user_id, password_hash),
        rows=1,
        error=error,
    )


def note_login(user_id: str, *, at: str) -> Statement:
    return Statement(sql="UPDATE _users SET last_login = ? WHERE id = ?", args=(at, user_id))


def forget_expired_logins(now_s: float) -> Statement:
    """Some rows of logins that are over by time; run along with every login, so the table stays bounded."""
    return Statement(
        sql="DELETE FROM _logins WHERE sid IN (SELECT sid FROM _logins WHERE expires_at < ? LIMIT 100)",
        args=(int(now_s),),
    )


def forget_ended_logins(user_id: str) -> Statement:
    """A login that ended is worth as much as none. Run along with every login of the user, who could otherwise make
    every further one slower."""
    return Statement(sql="DELETE FROM _logins WHERE user_id = ? AND ended_at IS NOT NULL", args=(user_id,))


def rotate_login(session_id: str, *, old_id: str, new_id: str, expires_at: int, error: Exception) -> Statement:
    """Replace the refresh token of a live login; `error`: `old_id` is not its newest any more, or it has ended."""
    return Statement(
        sql="UPDATE _logins SET refresh_jti = ?, expires_at = ? WHERE sid = ? AND refresh_jti = ? AND ended_at IS NULL",
        args=(new_id, expires_at, session_id, old_id),
        rows=1,
        error=error,
    )


def end_login(session_id: str, *, at: str) -> Statement:
    return Statement(sql="UPDATE _logins SET ended_at = ? WHERE sid = ? AND ended_at IS NULL", args=(at, session_id))


def end_logins(user_id: str, *, at: str, keep: str | None = None) -> Statement:
    """End all logins of a user, but the one with the session id `keep`."""
    return Statement(
        sql="UPDATE _logins SET ended_at = ? WHERE user_id = ? AND ended_at IS NULL AND sid <> ?",
        args=(at, user_id, keep or ""),
    )
