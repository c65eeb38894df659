"""Roles: names that users, keys and rules (`@request.auth.role`) share. They hold for all accounts.

Promises that `admin` and `user` stay, and that a role in use neither goes nor changes its name: whoever has it would
have other rights without a row in the log of their account.
"""

import time
from collections.abc import Callable

import msgspec

from snackbase.errors import Conflict, FieldError, NotFound
from snackbase.model import Principal, rfc3339
from snackbase.services.authority import ADMIN_ROLE, USER_ROLE, require_superadmin
from snackbase.services.identity import checked_description, checked_name
from snackbase.storage import roles
from snackbase.storage.base import Statement, Store, Transaction
from snackbase.storage.roles import Role

MOST_ROLES = 100
_OURS = (ADMIN_ROLE[0], USER_ROLE[0])


class Roles:
    """Args:
    now: wall clock, seconds since the epoch.
    """

    def __init__(self, store: Store, *, now: Callable[[], float] = time.time) -> None:
        self._store = store
        self._now = now

    async def all(self) -> list[Role]:
        return await roles.list_roles(self._store)

    async def get(self, role_id: int) -> Role:
        """Raises NotFound."""
        found = await roles.find_role(self._store, role_id)
        if found is None:
            raise NotFound("There is no such role.", code="role_not_found")
        return found

    async def create(self, principal: Principal, *, name: str, description: str = "") -> Role:
        """Raises Forbidden, ValidationFailed. Conflict: role_taken, too_many_roles."""
        require_superadmin(principal)
        at = self._at()
        role = Role(
            id=0, name=checked_name(name), description=checked_description(description), created_at=at, updated_at=at
        )
        if len(await self.all()) >= MOST_ROLES:
            raise Conflict(f"There are {MOST_ROLES} roles already.", code="too_many_roles")
        await self._write(principal, roles.insert_role(role, most=MOST_ROLES, error=_taken()))
        made = await roles.find_role_named(self._store, role.name)
        assert made is not None  # noqa: S101 - it was committed just now
        return made

    async def update(
        self, principal: Principal, role_id: int, *, name: str | None = None, description: str | None = None
    ) -> Role:
        """Raises Forbidden, NotFound, ValidationFailed. Conflict: role_taken; for the name: role_in_use, role_fixed."""
        require_superadmin(principal)
        before = await self.get(role_id)
        after = msgspec.structs.replace(
            before,
            name=before.name if name is None else checked_name(name),
            description=before.description if description is None else checked_description(description),
            updated_at=self._at(),
        )
        statements = [roles.update_role(after, error=_taken())]
        if after.name != before.name:
            statements.insert(0, self._unused(role_id, "have another name"))
        await self._write(principal, *statements)
        return after

    async def delete(self, principal: Principal, role_id: int) -> None:
        """Raises Forbidden, NotFound. Conflict: role_in_use, role_fixed."""
        require_superadmin(principal)
        await self.get(role_id)
        await self._write(principal, self._unused(role_id, "be deleted"), roles.delete_role(role_id))

    def _unused(self, role_id: int, what: str) -> Statement:
        if role_id in _OURS:
            raise Conflict(f"The roles admin and user cannot {what}.", code="role_fixed")
        message = f"A role that users, keys or open invitations have cannot {what}."
        return roles.require_role_unused(role_id, error=Conflict(message, code="role_in_use"))

    async def _write(self, principal: Principal, *statements: Statement) -> None:
        await self._store.write(
            Transaction(account_id=principal.account_id, actor=principal.actor_id, statements=statements)
        )

    def _at(self) -> str:
        return rfc3339(int(self._now() * 1e6))


def _taken() -> Conflict:
    message = "A role of this name exists."
    return Conflict(message, code="role_taken", details=[FieldError(field="name", message=message, code="role_taken")])
