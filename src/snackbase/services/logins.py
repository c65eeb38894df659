"""A login: its row, its tokens, and how many of them a user has.

Promises that a login opens only while the password that was compared is still the user's, that no token outlives its
login's row, and that one login too many ends the oldest together with its connections. Must not compare passwords.
"""

import math
import time
from collections.abc import Callable
from secrets import token_urlsafe

import msgspec

from snackbase.auth import Tokens
from snackbase.errors import Conflict, FieldError, Unauthorized
from snackbase.model import Account, User, rfc3339
from snackbase.storage import system
from snackbase.storage.base import Control, Statement, Store, Transaction

MAX_LOGINS = 100
"""Live logins of one user; one more ends the oldest."""


class Login(msgspec.Struct, frozen=True, kw_only=True):
    """A login with its tokens: the body of login, register and refresh (contract §8).

    expires_in: seconds until the access token expires.
    """

    token: str
    refresh_token: str
    expires_in: int
    user: User
    account: Account
    token_type: str = "bearer"  # noqa: S105 - the kind, not a token (RFC 6750)


class Opening:
    """The ids of a login that is about to be written."""

    __slots__ = ("refresh_id", "session_id")

    def __init__(self) -> None:
        self.session_id, self.refresh_id = token_urlsafe(16), token_urlsafe(16)


class Logins:
    """Args:
    now: wall clock, seconds since the epoch.
    """

    def __init__(self, store: Store, tokens: Tokens, *, now: Callable[[], float] = time.time) -> None:
        self._store = store
        self._tokens = tokens
        self._now = now

    async def open(self, user: User, account: Account, hashed: str) -> Login:
        """Log a user in. Raises Unauthorized (invalid_credentials) if `hashed` is their password no more."""
        opening = Opening()
        live = await system.live_logins(self._store, user.id)
        surplus = live[: max(0, len(live) - MAX_LOGINS + 1)]
        at = rfc3339(int(self._now() * 1e6))
        await self._store.write(
            Transaction(
                account_id=account.id,
                actor=user.id,
                statements=(
                    *self._statements(opening, user, hashed, at=at),
                    *(system.end_login(old, at=at) for old in surplus),
                ),
                controls=tuple(Control(what="login_ended", subject=old) for old in surplus),
            )
        )
        return self.told(msgspec.structs.replace(user, last_login=at), account, opening)

    def entry(self, opening: Opening, user: User, hashed: str) -> tuple[Statement, ...]:
        """A new user who is logged in at once. They raise Conflict (email_taken)."""
        made = system.insert_user(user, hashed, error=email_taken())
        return (made, *self._statements(opening, user, hashed, at=user.created_at))

    def told(self, user: User, account: Account, opening: Opening) -> Login:
        """The answer to whoever opened it."""
        return self.renewed(user, account, opening.session_id, opening.refresh_id)

    def renewed(self, user: User, account: Account, session_id: str, refresh_id: str) -> Login:
        """Fresh tokens of a login."""
        return Login(
            token=self._tokens.issue_access(user, session_id),
            refresh_token=self._tokens.issue_refresh(user, session_id, refresh_id),
            expires_in=max(1, int(self._tokens.access_s)),
            user=user,
            account=account,
        )

    def expiry(self) -> int:
        """When the row of a login opened or renewed now may go, in seconds since the epoch."""
        # One second more than the rounded-up tokens, so that no token outlives its login's row.
        return math.ceil(self._now() + max(self._tokens.refresh_s, self._tokens.access_s)) + 1

    def _statements(self, opening: Opening, user: User, hashed: str, *, at: str) -> tuple[Statement, ...]:
        return (
            system.insert_login(
                opening.session_id,
                user_id=user.id,
                password_hash=hashed,
                refresh_id=opening.refresh_id,
                at=at,
                expires_at=self.expiry(),
                error=wrong(),
            ),
            system.note_login(user.id, at=at),
            system.forget_ended_logins(user.id),
            system.forget_expired_logins(self._now()),
        )


def wrong() -> Unauthorized:
    """The one answer to every login that fails."""
    return Unauthorized("The account, e-mail or password is wrong.", code="invalid_credentials")


def email_taken() -> Conflict:
    message = "A user with this e-mail exists in the account."
    return Conflict(
        message, code="email_taken", details=[FieldError(field="email", message=message, code="email_taken")]
    )
