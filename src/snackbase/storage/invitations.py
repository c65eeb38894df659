"""The SQL of invitations. Their tokens are known here as hashes only."""

from collections.abc import Sequence
from typing import Any

import msgspec

from snackbase.storage.base import Statement, Store

# ruff: noqa: S608 - every text that is put together here is a constant of this file; values are bound.

_COLUMNS = (
    "i.id, i.account_id, i.email, i.role_id, i.groups, i.invited_by, i.created_at, i.updated_at, i.expires_at,"
    " i.accepted_at, i.cancelled_at"
)
_OPEN = "accepted_at IS NULL AND cancelled_at IS NULL"
_STATUSES = {
    "pending": (f"{_OPEN} AND expires_at > ?", True),
    "expired": (f"{_OPEN} AND expires_at <= ?", True),
    "accepted": ("accepted_at IS NOT NULL", False),
    "cancelled": ("cancelled_at IS NOT NULL", False),
}
STATUSES = tuple(_STATUSES)


class Invitation(msgspec.Struct, frozen=True, kw_only=True):
    """A row. `expires_at`: seconds since the epoch. `invited_by`: an e-mail, or the name of a key."""

    id: str
    account_id: str
    email: str
    role_id: int
    groups: tuple[str, ...]
    invited_by: str
    created_at: str
    updated_at: str
    expires_at: int
    accepted_at: str | None = None
    cancelled_at: str | None = None

    def status(self, now_s: float) -> str:
        """One of STATUSES."""
        if self.accepted_at is not None:
            return "accepted"
        if self.cancelled_at is not None:
            return "cancelled"
        return "pending" if now_s < self.expires_at else "expired"


def _invitation(row: Sequence[Any]) -> Invitation:
    names = [column.removeprefix("i.") for column in _COLUMNS.split(", ")]
    values = dict(zip(names, row, strict=True))
    values["groups"] = msgspec.json.decode(values["groups"], type=tuple[str, ...])
    return Invitation(**values)


async def find_invitation(store: Store, invitation_id: str) -> Invitation | None:
    rows = await store.fetch(f"SELECT {_COLUMNS} FROM _invitations i WHERE i.id = ?", (invitation_id,))
    return _invitation(rows[0]) if rows else None


async def find_by_token(store: Store, token_hash: str) -> Invitation | None:
    rows = await store.fetch(f"SELECT {_COLUMNS} FROM _invitations i WHERE i.token_hash = ?", (token_hash,))
    return _invitation(rows[0]) if rows else None


async def list_invitations(
    store: Store, account_id: str | None, *, status: str | None, now_s: float, skip: int, limit: int
) -> tuple[list[Invitation], int]:
    """A page of an account's invitations (None: of all accounts), newest first, and how many there are."""
    terms, args = ["1 = 1"], list[Any]()
    if account_id is not None:
        terms.append("account_id = ?")
        args.append(account_id)
    if status is not None:
        term, timed = _STATUSES[status]
        terms.append(term)
        args += [int(now_s)] if timed else []
    where = " AND ".join(terms)
    rows = await store.scan(
        account_id,
        f"SELECT {_COLUMNS} FROM _invitations i WHERE {where} ORDER BY i.created_at DESC, i.id LIMIT ? OFFSET ?",
        (*args, limit, skip),
    )
    total = await store.scan(account_id, f"SELECT count(*) FROM _invitations i WHERE {where}", args)
    return [_invitation(row) for row in rows], total[0][0]


def require_room(account_id: str, *, most: int, error: Exception) -> Statement:
    """`error`: the account has `most` invitations that nobody has accepted or cancelled."""
    return Statement(
        sql="UPDATE _accounts SET id = id WHERE id = ?"
        f" AND (SELECT count(*) FROM _invitations WHERE account_id = ? AND {_OPEN}) < ?",
        args=(account_id, account_id, most),
        rows=1,
        error=error,
    )


def insert_invitation(invitation: Invitation, token_hash: str, *, now_s: float, error: Exception) -> Statement:
    """`error`: an open invitation for this e-mail waits in the account."""
    return Statement(
        sql="INSERT INTO _invitations(id, account_id, email, role_id, groups, token_hash, invited_by, created_at,"
        " updated_at, expires_at) SELECT ?, ?, ?, ?, ?, ?, ?, ?, ?, ? WHERE NOT EXISTS"
        f" (SELECT 1 FROM _invitations WHERE account_id = ? AND email = ? AND {_OPEN} AND expires_at > ?)",
        args=(
            *(invitation.id, invitation.account_id, invitation.email, invitation.role_id),
            *(msgspec.json.encode(invitation.groups).decode(), token_hash, invitation.invited_by),
            *(invitation.created_at, invitation.updated_at, invitation.expires_at),
            *(invitation.account_id, invitation.email, int(now_s)),
        ),
        rows=1,
        error=error,
    )


def renew_invitation(invitation_id: str, token_hash: str, *, at: str, expires_at: int, error: Exception) -> Statement:
    """Another token and time for an invitation that nobody has accepted or cancelled; else `error`."""
    return Statement(
        sql=f"UPDATE _invitations SET token_hash = ?, expires_at = ?, updated_at = ? WHERE id = ? AND {_OPEN}",
        args=(token_hash, expires_at, at, invitation_id),
        rows=1,
        error=error,
    )


def cancel_invitation(invitation_id: str, *, at: str, error: Exception) -> Statement:
    """`error`: it was accepted or cancelled before."""
    return Statement(
        sql=f"UPDATE _invitations SET cancelled_at = ?, updated_at = ? WHERE id = ? AND {_OPEN}",
        args=(at, at, invitation_id),
        rows=1,
        error=error,
    )


def accept_invitation(invitation_id: str, token_hash: str, *, now_s: float, at: str, error: Exception) -> Statement:
    """Use an invitation up: of concurrent uses one succeeds. `error`: it is over, has another token by now, or its
    account takes nobody any more."""
    return Statement(
        sql=f"UPDATE _invitations SET accepted_at = ?, updated_at = ? WHERE id = ? AND token_hash = ? AND {_OPEN}"
        " AND expires_at > ? AND EXISTS (SELECT 1 FROM _accounts a WHERE a.id = account_id AND a.is_active = 1"
        " AND a.registration <> 'closed')",
        args=(at, at, invitation_id, token_hash, int(now_s)),
        rows=1,
        error=error,
    )
