"""Invitations: how an account whose `registration` is `invite` or `open` takes in somebody by name.

No e-mail is sent: whoever invites gets the token and hands it on. Promises: the database holds a hash of it only; of
concurrent uses one succeeds, and the user, the login and the use of the invitation commit together; a stranger who
guesses learns nothing.
"""

import hashlib
import time
from collections.abc import Callable
from secrets import token_urlsafe
from uuid import uuid4

import msgspec

from snackbase.errors import Conflict, FieldError, Gone, NotFound
from snackbase.model import Account, Principal, User, rfc3339
from snackbase.services.accounts import Accounts
from snackbase.services.authority import (
    USER_ROLE,
    listed_account,
    managed_account,
    manages,
    require_admin,
    require_named,
)
from snackbase.services.identity import checked_email, checked_groups, invalid
from snackbase.services.logins import Login, email_taken
from snackbase.services.members import chosen_role, rights_exist
from snackbase.storage import invitations as rows
from snackbase.storage import system
from snackbase.storage.base import Statement, Store, Transaction
from snackbase.storage.keys import find_key
from snackbase.storage.roles import find_role, require_role

TOKEN_PREFIX = "sb_in."  # noqa: S105 - what tokens begin with, so that logs can mask them
DEFAULT_HOURS = 48.0
MOST_HOURS = 720.0
MOST_OPEN = 10_000
"""Invitations of one account that nobody has accepted or cancelled, expired ones too."""


class Invitation(msgspec.Struct, frozen=True, kw_only=True):
    """An invitation as its account's admins see it. token: only in the answer to whoever made or renewed it.

    status: pending | accepted | expired | cancelled.
    """

    id: str
    email: str
    account_id: str
    role_id: int
    groups: tuple[str, ...]
    status: str
    invited_by: str
    expires_at: str
    created_at: str
    updated_at: str
    token: str | None = None


class PublicInvitation(msgspec.Struct, frozen=True, kw_only=True):
    """What whoever holds the token may know."""

    email: str
    account_name: str
    account_slug: str
    invited_by_name: str
    expires_at: str
    is_valid: bool


class Invitations:
    """Args:
    now: wall clock, seconds since the epoch.
    """

    def __init__(self, store: Store, accounts: Accounts, *, now: Callable[[], float] = time.time) -> None:
        self._store = store
        self._accounts = accounts
        self._now = now

    async def create(
        self,
        principal: Principal,
        *,
        email: str,
        role: str | None = None,
        role_id: int | None = None,
        groups: list[str] | None = None,
        account: str | None = None,
        hours: float = DEFAULT_HOURS,
    ) -> Invitation:
        """Invite an e-mail into the named account, else into the one acted in.

        Raises:
            Forbidden, ValidationFailed. Conflict: registration_closed: the account takes nobody; email_taken;
                invitation_pending: one waits already; too_many_invitations.
        """
        require_admin(principal)
        require_named(principal, account, "Name the account to invite into.")
        target = await managed_account(self._store, principal, account)
        email = checked_email(email)
        chosen = await chosen_role(self._store, role, role_id) or USER_ROLE
        _require_open(target)
        if await system.find_secret(self._store, target.id, email) is not None:
            raise email_taken()
        now, token = self._now(), _new_token()
        row = rows.Invitation(
            id=str(uuid4()),
            account_id=target.id,
            email=email,
            role_id=chosen[0],
            groups=checked_groups(groups or []),
            invited_by=await self._name(principal),
            created_at=_time(now),
            updated_at=_time(now),
            expires_at=int(now + _checked_hours(hours) * 3600),
        )
        pending = rows.insert_invitation(row, _hash(token), now_s=now, error=_pending())
        too_many = Conflict(f"The account has {MOST_OPEN:,} open invitations.", code="too_many_invitations")
        room = rows.require_room(target.id, most=MOST_OPEN, error=too_many)
        await self._write(principal, target.id, room, pending, require_role(chosen[0], error=_no_role()))
        return self._shown(row, token)

    async def page(
        self,
        principal: Principal,
        *,
        account: str | None = None,
        status: str | None = None,
        skip: int = 0,
        limit: int = 30,
    ) -> tuple[list[Invitation], int]:
        """A page of invitations, newest first, and how many there are. Raises Forbidden, ValidationFailed."""
        require_admin(principal)
        if status is not None and status not in rows.STATUSES:
            raise invalid("status_filter", f"One of {', '.join(rows.STATUSES)} is needed.")
        account_id = await listed_account(self._store, principal, account)
        found, total = await rows.list_invitations(
            self._store, account_id, status=status, now_s=self._now(), skip=skip, limit=limit
        )
        return [self._shown(row) for row in found], total

    async def renew(self, principal: Principal, invitation_id: str) -> Invitation:
        """Another token and another 48 hours; the token before is worth nothing any more.

        Raises:
            Forbidden, NotFound. Gone: invitation_over: it was accepted or cancelled. Conflict: registration_closed.
        """
        row = await self._managed(principal, invitation_id)
        _require_open(await self._account(row))
        now, token = self._now(), _new_token()
        expires_at = int(now + DEFAULT_HOURS * 3600)
        renewal = rows.renew_invitation(row.id, _hash(token), at=_time(now), expires_at=expires_at, error=_over(""))
        await self._write(principal, row.account_id, renewal)
        return self._shown(msgspec.structs.replace(row, expires_at=expires_at, updated_at=_time(now)), token)

    async def cancel(self, principal: Principal, invitation_id: str) -> None:
        """Raises Forbidden, NotFound. Gone: invitation_over: it was accepted."""
        row = await self._managed(principal, invitation_id)
        if row.cancelled_at is None:
            at = _time(self._now())
            await self._write(principal, row.account_id, rows.cancel_invitation(row.id, at=at, error=_over("")))

    async def public(self, token: str) -> PublicInvitation:
        """What the holder of the token may know, also when it cannot be used any more. Raises NotFound."""
        row = await self._of(token)
        account = await self._account(row)
        takes = account.is_active and account.registration != "closed"
        return PublicInvitation(
            email=row.email,
            account_name=account.name,
            account_slug=account.slug,
            invited_by_name=row.invited_by,
            expires_at=_time(row.expires_at),
            is_valid=takes and row.status(self._now()) == "pending",
        )

    async def accept(self, token: str, *, password: str | None, address: str = "") -> Login:
        """Make the invited user, logged in.

        Raises:
            NotFound: invitation_not_found. Gone: invitation_over: used, cancelled, expired, or the account takes
                nobody any more. ValidationFailed: the password. Conflict: email_taken. Unavailable.
        """
        row = await self._of(token)
        now = self._now()
        account = await self._account(row)
        if row.status(now) != "pending":
            raise _over(row.status(now))
        if not account.is_active or account.registration == "closed":
            raise _over("closed")
        if password is None:
            raise invalid("password", "This field is required.", "required")
        role = await find_role(self._store, row.role_id)
        if role is None:
            raise _no_role()
        using = rows.accept_invitation(row.id, _hash(token), now_s=now, at=_time(now), error=_over(""))
        invited = User(
            id="",
            account_id=row.account_id,
            email=row.email,
            role=role.name,
            role_id=role.id,
            groups=row.groups,
            created_at=_time(now),
        )
        return await self._accounts.accept(
            account,
            email=row.email,
            password=password,
            role=(role.id, role.name),
            groups=row.groups,
            statements=(using, *rights_exist(invited, at=_time(now))),
            address=address,
        )

    async def _of(self, token: str) -> rows.Invitation:
        found = await rows.find_by_token(self._store, _hash(token))
        if found is None:
            raise _not_found()
        return found

    async def _managed(self, principal: Principal, invitation_id: str) -> rows.Invitation:
        require_admin(principal)
        found = await rows.find_invitation(self._store, invitation_id)
        if found is None or not manages(principal, found.account_id):
            raise _not_found()
        return found

    async def _account(self, row: rows.Invitation) -> Account:
        account = await system.find_account(self._store, row.account_id)
        assert account is not None  # noqa: S101 - invitations belong to accounts, and accounts are never deleted
        return account

    async def _name(self, principal: Principal) -> str:
        if principal.kind == "api_key":
            key = await find_key(self._store, principal.actor_id or "")
            return key.name if key is not None else ""
        return principal.email or ""

    async def _write(self, principal: Principal, account_id: str, *statements: Statement) -> None:
        await self._store.write(Transaction(account_id=account_id, actor=principal.actor_id, statements=statements))

    def _shown(self, row: rows.Invitation, token: str | None = None) -> Invitation:
        return Invitation(
            id=row.id,
            email=row.email,
            account_id=row.account_id,
            role_id=row.role_id,
            groups=row.groups,
            status=row.status(self._now()),
            invited_by=row.invited_by,
            expires_at=_time(row.expires_at),
            created_at=row.created_at,
            updated_at=row.updated_at,
            token=token,
        )


def _new_token() -> str:
    return TOKEN_PREFIX + token_urlsafe(32)


def _hash(token: str) -> str:
    # 256 random bits need no slow hash; whoever reads the database cannot go back to them.
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def _time(seconds: float) -> str:
    return rfc3339(int(seconds * 1e6))


def _checked_hours(hours: float) -> float:
    if not 0 < hours <= MOST_HOURS:
        raise invalid("expires_in_hours", f"More than 0 and at most {MOST_HOURS:g} are needed.")
    return hours


def _require_open(account: Account) -> None:
    if account.registration == "closed":
        message = "Nobody can join this account: set its registration to invite or open."
        raise Conflict(message, code="registration_closed")


def _over(status: str) -> Gone:
    why = {"expired": "has expired", "cancelled": "was cancelled", "closed": "is for an account that is closed now"}
    return Gone(f"This invitation {why.get(status, 'was used or withdrawn')}.", code="invitation_over")


def _not_found() -> NotFound:
    return NotFound("There is no such invitation.", code="invitation_not_found")


def _no_role() -> Exception:
    return invalid("role_id", "There is no such role.", "role_not_found")


def _pending() -> Conflict:
    message = "There is an open invitation for this e-mail address already: renew or cancel it."
    return Conflict(
        message,
        code="invitation_pending",
        details=[FieldError(field="email", message=message, code="invitation_pending")],
    )
