"""The SQL of roles and groups: what users' rights are named by.

Roles hold for all accounts; a group belongs to one, and stands for the name that the rows of its users hold. Promises
that no user, key or invitation ever names a role that is gone, and no user a group without a row: the statements check
it where they write. Must not decide who may do what.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import uuid4

import msgspec

from snackbase.rules.like import folded
from snackbase.storage.base import Statement, Store

# ruff: noqa: S608 - every text that is put together here is a constant of this file; values are bound.

_ROLE = "id, name, description, created_at, updated_at"
_GROUP = "id, account_id, name, description, created_at, updated_at"
_HOLDS = "EXISTS (SELECT 1 FROM json_each(groups) WHERE value = ?)"
_REPLACED = (
    "(SELECT json_group_array(CASE WHEN value = ? THEN ? ELSE value END) FROM json_each(groups)"
    " WHERE value <> ? OR CAST(? AS TEXT) IS NOT NULL)"
)


class Role(msgspec.Struct, frozen=True, kw_only=True):
    id: int
    name: str
    description: str = ""
    created_at: str = ""
    updated_at: str = ""


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """`is_system`: for clients that expect it; no group of ours is."""

    id: str
    account_id: str
    name: str
    description: str = ""
    is_system: bool = False
    created_at: str
    updated_at: str


def _role(row: Sequence[Any]) -> Role:
    return Role(id=row[0], name=row[1], description=row[2], created_at=row[3], updated_at=row[4])


def _group(row: Sequence[Any]) -> Group:
    return Group(id=row[0], account_id=row[1], name=row[2], description=row[3], created_at=row[4], updated_at=row[5])


# Roles


async def list_roles(store: Store) -> list[Role]:
    return [_role(row) for row in await store.fetch(f"SELECT {_ROLE} FROM _roles ORDER BY id")]


async def find_role(store: Store, role_id: int) -> Role | None:
    rows = await store.fetch(f"SELECT {_ROLE} FROM _roles WHERE id = ?", (role_id,))
    return _role(rows[0]) if rows else None


def insert_role(role: Role, *, most: int, error: Exception) -> Statement:
    """A new role; its id is counted up by the statement. `error`: the name is taken in some case, or there are `most`.

    An id is not given out twice while a later one exists; the ids of deleted roles stand nowhere any more.
    """
    return Statement(
        sql="INSERT INTO _roles(id, name, description, created_at, updated_at)"
        " SELECT max(id) + 1, ?, ?, ?, ? FROM _roles"
        " HAVING count(*) < ? AND NOT EXISTS (SELECT 1 FROM _roles WHERE lower(name) = ?)",
        args=(role.name, role.description, role.created_at, role.updated_at, most, folded(role.name)),
        rows=1,
        error=error,
        alone=True,
    )


async def find_role_named(store: Store, name: str) -> Role | None:
    rows = await store.fetch(f"SELECT {_ROLE} FROM _roles WHERE lower(name) = ?", (folded(name),))
    return _role(rows[0]) if rows else None


def update_role(role: Role, *, error: Exception) -> Statement:
    """Name and description. `error`: another role has the name, in some case."""
    return Statement(
        sql="UPDATE _roles SET name = ?, description = ?, updated_at = ?"
        " WHERE id = ? AND NOT EXISTS (SELECT 1 FROM _roles WHERE lower(name) = ? AND id <> ?)",
        args=(role.name, role.description, role.updated_at, role.id, folded(role.name), role.id),
        rows=1,
        error=error,
        alone=True,
    )


def require_role_unused(role_id: int, *, error: Exception) -> Statement:
    """`error`: a user, a live key or an open invitation has this role."""
    return Statement(
        sql="UPDATE _roles SET id = id WHERE id = ? AND NOT EXISTS (SELECT 1 FROM _users WHERE role_id = ?)"
        " AND NOT EXISTS (SELECT 1 FROM _api_keys WHERE role_id = ? AND revoked_at IS NULL)"
        " AND NOT EXISTS (SELECT 1 FROM _invitations WHERE role_id = ? AND accepted_at IS NULL"
        " AND cancelled_at IS NULL)",
        args=(role_id, role_id, role_id, role_id),
        rows=1,
        error=error,
        alone=True,
    )


def delete_role(role_id: int) -> Statement:
    return Statement(sql="DELETE FROM _roles WHERE id = ?", args=(role_id,))


def require_role(role_id: int, *, error: Exception) -> Statement:
    """`error`: the role is gone by now."""
    return Statement(sql="UPDATE _roles SET id = id WHERE id = ?", args=(role_id,), rows=1, error=error)


# Groups


async def list_groups(
    store: Store, account_id: str, *, search: str | None, skip: int, limit: int
) -> tuple[list[Group], int]:
    """A page of an account's groups by name, and how many there are. search: a part of the name, in any case."""
    where, args = "WHERE account_id = ?", [account_id]
    if search:
        where, args = f"{where} AND instr(lower(name), ?) > 0", [account_id, folded(search)]
    rows = await store.scan(
        account_id, f"SELECT {_GROUP} FROM _groups {where} ORDER BY name LIMIT ? OFFSET ?", (*args, limit, skip)
    )
    total = await store.scan(account_id, f"SELECT count(*) FROM _groups {where}", args)
    return [_group(row) for row in rows], total[0][0]


async def find_group(store: Store, group_id: str) -> Group | None:
    rows = await store.fetch(f"SELECT {_GROUP} FROM _groups WHERE id = ?", (group_id,))
    return _group(rows[0]) if rows else None


async def member_ids(store: Store, group: Group, *, limit: int) -> list[str]:
    """Ids of users in the group."""
    rows = await store.scan(
        group.account_id,
        f"SELECT id FROM _users WHERE account_id = ? AND groups <> '[]' AND {_HOLDS} ORDER BY id LIMIT ?",
        (group.account_id, group.name, limit),
    )
    return [user_id for (user_id,) in rows]


def insert_group(group: Group, *, error: Exception) -> Statement:
    """`error`: the account has a group of this name."""
    return Statement(
        sql=f"INSERT INTO _groups({_GROUP}) VALUES (?, ?, ?, ?, ?, ?)",
        args=(group.id, group.account_id, group.name, group.description, group.created_at, group.updated_at),
        error=error,
    )


def ensure_groups(account_id: str, names: Iterable[str], *, at: str) -> tuple[Statement, ...]:
    """Rows for the groups that somebody is put into, where they are missing."""
    return tuple(
        Statement(
            sql=f"INSERT INTO _groups({_GROUP}) VALUES (?, ?, ?, '', ?, ?) ON CONFLICT(account_id, name) DO NOTHING",
            args=(str(uuid4()), account_id, name, at, at),
        )
        for name in names
    )


def update_group(before: Group, after: Group, *, taken: Exception) -> Statement:
    """Name and description, if the name is still the one before. `taken`: another group has the new one, or not."""
    return Statement(
        sql="UPDATE _groups SET name = ?, description = ?, updated_at = ? WHERE id = ? AND name = ?",
        args=(after.name, after.description, after.updated_at, before.id, before.name),
        rows=1,
        error=taken,
    )


def require_group(group: Group, *, error: Exception) -> Statement:
    """`error`: the group is gone by now, or has another name."""
    return Statement(
        sql="UPDATE _groups SET id = id WHERE id = ? AND name = ?", args=(group.id, group.name), rows=1, error=error
    )


def delete_group(group: Group) -> Statement:
    return Statement(sql="DELETE FROM _groups WHERE id = ?", args=(group.id,))


def join_group(user_id: str, group: Group, *, most: int, at: str, error: Exception) -> Statement:
    """Put a user into the group. `error`: they are in it, are in `most` groups, or are no user of its account."""
    return Statement(
        sql="UPDATE _users SET groups = json_insert(groups, '$[#]', ?), updated_at = ?"
        f" WHERE id = ? AND account_id = ? AND json_array_length(groups) < ? AND NOT {_HOLDS}",
        args=(group.name, at, user_id, group.account_id, most, group.name),
        rows=1,
        error=error,
    )


def leave_group(user_ids: Sequence[str], group: Group, *, at: str, error: Exception) -> Statement:
    """Take users out of the group. `error`: one of them is not in it."""
    return _renamed(user_ids, group, None, at=at, error=error)


def follow_name(user_ids: Sequence[str], group: Group, name: str, *, at: str, error: Exception) -> Statement:
    """Have users hold the group's new name instead of the old one. `error`: one of them is not in it."""
    return _renamed(user_ids, group, name, at=at, error=error)


def _renamed(user_ids: Sequence[str], group: Group, name: str | None, *, at: str, error: Exception) -> Statement:
    return Statement(
        sql=f"UPDATE _users SET groups = {_REPLACED}, updated_at = ?"
        f" WHERE id IN (SELECT value FROM json_each(?)) AND account_id = ? AND {_HOLDS}",
        args=(group.name, name, group.name, name, at, json.dumps(list(user_ids)), group.account_id, group.name),
        rows=len(user_ids),
        error=error,
    )


def require_nobody_in(group: Group, *, error: Exception) -> Statement:
    """`error`: a user still holds the group's name."""
    return Statement(
        sql="UPDATE _groups SET id = id WHERE id = ? AND NOT EXISTS"
        f" (SELECT 1 FROM _users WHERE account_id = ? AND groups <> '[]' AND {_HOLDS})",
        args=(group.id, group.account_id, group.name),
        rows=1,
        error=error,
    )


def rename_in_invitations(group: Group, name: str | None) -> Statement:
    """What open invitations promise. None: the group goes."""
    return Statement(
        sql=f"UPDATE _invitations SET groups = {_REPLACED}"
        f" WHERE account_id = ? AND accepted_at IS NULL AND cancelled_at IS NULL AND groups <> '[]' AND {_HOLDS}",
        args=(group.name, name, group.name, name, group.account_id, group.name),
    )
