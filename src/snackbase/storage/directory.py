"""Pages of users and accounts: searched, narrowed down, sorted, counted.

Promises that every order is total (ties by id) and that values are bound, whatever was asked for. Must not decide who
may see whom.
"""

from typing import Any

import msgspec

from snackbase.model import Account, User
from snackbase.rules.like import folded
from snackbase.storage.base import Store
from snackbase.storage.system import ACCOUNT_COLUMNS, USER_COLUMNS, USERS, account_of, user_of

# ruff: noqa: S608 - every text that is put together here is a constant of this file; values are bound.

NUL = "\0"
"""In no text; SQLite's LIKE takes it for the end of a pattern."""
USER_ORDERS = {
    "created_at": "u.created_at",
    "email": "u.email",
    "is_active": "u.is_active",
    "last_login": "u.last_login",
    "role": "r.name",
}
ACCOUNT_ORDERS = {
    "account_code": "a.num",
    "created_at": "a.created_at",
    "is_active": "a.is_active",
    "name": "lower(a.name)",
    "slug": "a.slug",
}


class UserQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which users, in which order.

    Attributes:
        account_id: None = of all accounts. search: a part of the e-mail. group: the name of a group they are in.
        sort: a key of USER_ORDERS.
    """

    account_id: str | None = None
    search: str | None = None
    role_id: int | None = None
    is_active: bool | None = None
    group: str | None = None
    sort: str = "created_at"
    descending: bool = False
    skip: int = 0
    limit: int = 30


class AccountQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which accounts, in which order. search: a part of name, slug or code. sort: a key of ACCOUNT_ORDERS."""

    search: str | None = None
    is_active: bool | None = None
    sort: str = "account_code"
    descending: bool = False
    skip: int = 0
    limit: int = 30


class _Where:
    def __init__(self) -> None:
        self._terms: list[str] = []
        self.args: list[Any] = []

    def add(self, term: str, *args: Any) -> None:
        self._terms.append(term)
        self.args += args

    def __str__(self) -> str:
        return f" WHERE {' AND '.join(self._terms)}" if self._terms else ""


async def list_users(store: Store, query: UserQuery) -> tuple[list[User], int]:
    """A page of users and how many there are in all."""
    if NUL in (query.search or ""):
        return [], 0
    where = _Where()
    if query.account_id is not None:
        where.add("u.account_id = ?", query.account_id)
    if query.search:
        where.add("u.email LIKE ? ESCAPE '\\'", _containing(query.search.lower()))
    if query.role_id is not None:
        where.add("u.role_id = ?", query.role_id)
    if query.is_active is not None:
        where.add("u.is_active = ?", int(query.is_active))
    if query.group is not None:
        where.add("EXISTS (SELECT 1 FROM json_each(u.groups) WHERE value = ?)", query.group)
    way = "DESC" if query.descending else "ASC"
    rows = await store.scan(
        query.account_id,
        f"SELECT {USER_COLUMNS} FROM {USERS}{where} ORDER BY {USER_ORDERS[query.sort]} {way}, u.id {way}"
        " LIMIT ? OFFSET ?",
        (*where.args, query.limit, query.skip),
    )
    total = await store.scan(query.account_id, f"SELECT count(*) FROM _users u{where}", where.args)
    return [user_of(row) for row in rows], total[0][0]


async def list_accounts(store: Store, query: AccountQuery) -> tuple[list[Account], int]:
    """A page of accounts and how many there are in all."""
    if NUL in (query.search or ""):
        return [], 0
    where = _Where()
    if query.search:
        text = _containing(folded(query.search))
        parts = " OR ".join(f"lower(a.{name}) LIKE ? ESCAPE '\\'" for name in ("name", "slug", "account_code"))
        where.add(f"({parts})", text, text, text)
    if query.is_active is not None:
        where.add("a.is_active = ?", int(query.is_active))
    way = "DESC" if query.descending else "ASC"
    rows = await store.scan(
        None,
        f"SELECT {ACCOUNT_COLUMNS} FROM _accounts a{where} ORDER BY {ACCOUNT_ORDERS[query.sort]} {way}, a.id {way}"
        " LIMIT ? OFFSET ?",
        (*where.args, query.limit, query.skip),
    )
    total = await store.scan(None, f"SELECT count(*) FROM _accounts a{where}", where.args)
    return [account_of(row) for row in rows], total[0][0]


def _containing(text: str) -> str:
    """A LIKE pattern of texts that contain this one as it is."""
    for special in ("\\", "%", "_"):
        text = text.replace(special, "\\" + special)
    return f"%{text}%"
