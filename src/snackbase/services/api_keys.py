"""API keys: how programs act, each as itself, in one account and one role.

A key is `sb_ak.<its id>.<its secret>`. Promises: it is shown once, the database holds a hash of its secret only;
revoking it writes its control row in the same transaction, so that its connections end within a second on every node;
nobody makes a key with a key. That it was used is noted in memory and written now and then (`flush`), never on the way
of a request.
"""

import math
import time
from collections.abc import Callable
from datetime import datetime
from uuid import uuid4

import msgspec

from snackbase.auth import KEY_PREFIX, new_key
from snackbase.errors import Conflict, NotFound
from snackbase.model import SYSTEM_ACCOUNT_ID, Principal, rfc3339
from snackbase.rules import normal_datetime
from snackbase.services.authority import (
    USER_ROLE,
    listed_account,
    managed_account,
    manages,
    require_admin,
    require_user,
)
from snackbase.services.identity import checked_name, invalid
from snackbase.services.members import chosen_role
from snackbase.storage import keys as rows
from snackbase.storage.base import Control, Store, Transaction
from snackbase.storage.roles import require_role

MOST_KEYS = 1000
"""Live keys of one account."""
HINT_CHARS = 4
FLUSH_SLICE = 500


class ApiKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key as its account's admins see it. key: whole in the answer to whoever made it, else masked."""

    id: str
    name: str
    key: str
    account_id: str
    role_id: int
    role: str
    is_active: bool
    created_by: str | None
    created_at: str
    updated_at: str
    expires_at: str | None
    last_used_at: str | None


class KeyUses:
    """When keys were used, until it is written down.

    Args:
        now: wall clock, seconds since the epoch.
    """

    def __init__(self, store: Store, *, now: Callable[[], float] = time.time) -> None:
        self._store = store
        self._now = now
        self._uses: dict[str, float] = {}

    def note(self, key_id: str) -> None:
        """A verified key was used; so there are never more entries than live keys."""
        self._uses[key_id] = self._now()

    def at(self, key_id: str) -> str | None:
        """What is not written down yet."""
        used = self._uses.get(key_id)
        return None if used is None else rfc3339(int(used * 1e6))

    async def flush(self) -> None:
        """Write down what was noted. Raises Unavailable; then it is still noted."""
        while self._uses:
            batch = dict(list(self._uses.items())[:FLUSH_SLICE])
            times = {key_id: rfc3339(int(used * 1e6)) for key_id, used in batch.items()}
            await self._store.write(Transaction(account_id=SYSTEM_ACCOUNT_ID, statements=rows.note_uses(times)))
            for key_id, used in batch.items():
                if self._uses.get(key_id) == used:
                    del self._uses[key_id]


class ApiKeys:
    """Args:
    now: wall clock, seconds since the epoch.
    """

    def __init__(self, store: Store, uses: KeyUses, *, now: Callable[[], float] = time.time) -> None:
        self._store = store
        self._uses = uses
        self._now = now

    async def create(
        self,
        principal: Principal,
        *,
        name: str,
        role: str | None = None,
        role_id: int | None = None,
        expires_at: str | None = None,
        account: str | None = None,
    ) -> ApiKey:
        """Make a key of the named account, else of the one acted in. One of the system account acts as a superadmin.

        Args:
            role, role_id: None: `user`. expires_at: RFC 3339; None = never.

        Raises:
            Forbidden: also for keys. ValidationFailed. Conflict: too_many_keys.
        """
        require_user(principal)
        require_admin(principal)
        target = await managed_account(self._store, principal, account)
        role_id, role = await chosen_role(self._store, role, role_id) or USER_ROLE
        now, key_id = self._now(), str(uuid4())
        key, secret_hash = new_key(key_id)
        row = rows.ApiKey(
            id=key_id,
            account_id=target.id,
            name=checked_name(name),
            role_id=role_id,
            role=role,
            hint=key[-HINT_CHARS:],
            created_by=principal.actor_id,
            created_at=rfc3339(int(now * 1e6)),
            expires_at=None if expires_at is None else _checked_expiry(expires_at, now),
        )
        too_many = Conflict(f"The account has {MOST_KEYS:,} keys; revoke some.", code="too_many_keys")
        gone = invalid("role_id", "There is no such role.", "role_not_found")
        await self._store.write(
            Transaction(
                account_id=target.id,
                actor=principal.actor_id,
                statements=(
                    rows.insert_key(row, secret_hash, most=MOST_KEYS, error=too_many),
                    require_role(role_id, error=gone),
                ),
            )
        )
        return self._shown(row, key)

    async def page(
        self, principal: Principal, *, account: str | None = None, skip: int = 0, limit: int = 30
    ) -> tuple[list[ApiKey], int]:
        """A page of keys, newest first, and how many there are. Raises Forbidden, ValidationFailed."""
        require_user(principal)
        require_admin(principal)
        account_id = await listed_account(self._store, principal, account)
        found, total = await rows.list_keys(self._store, account_id, skip=skip, limit=limit)
        return [self._shown(row) for row in found], total

    async def get(self, principal: Principal, key_id: str) -> ApiKey:
        """Raises Forbidden, NotFound (also for keys of other accounts)."""
        return self._shown(await self._managed(principal, key_id))

    async def revoke(self, principal: Principal, key_id: str) -> None:
        """End a key and its connections; a revoked one stays revoked. Raises Forbidden, NotFound."""
        row = await self._managed(principal, key_id)
        if row.revoked_at is not None:
            return
        revoked = Conflict("The key was revoked at the same moment.", code="changed_meanwhile")
        await self._store.write(
            Transaction(
                account_id=row.account_id,
                actor=principal.actor_id,
                statements=(rows.revoke_key(row.id, at=rfc3339(int(self._now() * 1e6)), error=revoked),),
                controls=(Control(what="key_revoked", subject=row.id),),
            )
        )

    async def _managed(self, principal: Principal, key_id: str) -> rows.ApiKey:
        require_user(principal)
        require_admin(principal)
        found = await rows.find_key(self._store, key_id)
        if found is None or not manages(principal, found.account_id):
            raise NotFound("There is no such API key.", code="key_not_found")
        return found

    def _shown(self, row: rows.ApiKey, key: str | None = None) -> ApiKey:
        expired = row.expires_at is not None and self._now() >= row.expires_at
        return ApiKey(
            id=row.id,
            name=row.name,
            key=key or f"{KEY_PREFIX}{row.id[:8]}****{row.hint}",
            account_id=row.account_id,
            role_id=row.role_id,
            role=row.role,
            is_active=row.revoked_at is None and not expired,
            created_by=row.created_by,
            created_at=row.created_at,
            updated_at=row.revoked_at or row.created_at,
            expires_at=None if row.expires_at is None else rfc3339(row.expires_at * 1_000_000),
            last_used_at=self._uses.at(row.id) or row.last_used_at,
        )


def _checked_expiry(text: str, now: float) -> int:
    normal = normal_datetime(text)
    if normal is None:
        raise invalid("expires_at", "A time such as 2027-01-17T12:00:00Z is needed.", "invalid_datetime")
    seconds = math.ceil(datetime.fromisoformat(normal).timestamp())
    if seconds <= now:
        raise invalid("expires_at", "This time is over.", "in_the_past")
    return seconds
