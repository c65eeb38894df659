"""Groups: names that an account gives to sets of its users, for rules (`room IN @request.auth.groups`).

A user's row holds the names of the groups they are in; a group's own row gives the name an id and a description.
Promises: whoever comes into a group, leaves it or sees it renamed gets a control row in the same transaction, so that
live connections follow within a second on every node; putting somebody in twice, or out twice, is no error.
"""

import time
from collections.abc import Callable, Sequence
from uuid import uuid4

import msgspec

from snackbase.errors import Conflict, FieldError, NotFound
from snackbase.model import Principal, User, rfc3339
from snackbase.services.authority import managed_account, manages, no_user, require_admin
from snackbase.services.identity import MAX_GROUPS, checked_description, checked_group, invalid
from snackbase.storage import roles, system
from snackbase.storage.base import Control, Statement, Store, Transaction
from snackbase.storage.roles import Group

MOST_RENAMED = 1000
"""Users who see one rename: it is one transaction, and that is how many control rows one holds."""
SLICE = 500
"""Users who leave a deleted group in one transaction."""
TRIES = 5


class _Changed(Conflict):
    """In here only: somebody came or went between reading and writing."""

    code = "changed_meanwhile"


class Groups:
    """Args:
    now: wall clock, seconds since the epoch.
    """

    def __init__(self, store: Store, *, now: Callable[[], float] = time.time) -> None:
        self._store = store
        self._now = now

    async def page(
        self, principal: Principal, *, account: str | None = None, search: str | None = None, skip: int, limit: int
    ) -> tuple[list[Group], int]:
        """A page of the groups of the named account, else of the one acted in. Raises Forbidden, ValidationFailed."""
        require_admin(principal)
        target = await managed_account(self._store, principal, account)
        return await roles.list_groups(self._store, target.id, search=search, skip=skip, limit=limit)

    async def get(self, principal: Principal, group_id: str) -> Group:
        """Raises Forbidden, NotFound (also for groups of other accounts)."""
        require_admin(principal)
        found = await roles.find_group(self._store, group_id)
        if found is None or not manages(principal, found.account_id):
            raise _no_group()
        return found

    async def create(
        self, principal: Principal, *, name: str, description: str = "", account: str | None = None
    ) -> Group:
        """Raises Forbidden, ValidationFailed. Conflict: group_taken."""
        require_admin(principal)
        target = await managed_account(self._store, principal, account)
        at = self._at()
        group = Group(
            id=str(uuid4()),
            account_id=target.id,
            name=checked_group(name, field="name"),
            description=checked_description(description),
            created_at=at,
            updated_at=at,
        )
        await self._write(principal, group, roles.insert_group(group, error=_taken()))
        return group

    async def update(
        self, principal: Principal, group_id: str, *, name: str | None = None, description: str | None = None
    ) -> Group:
        """Change what is given; a new name replaces the old one with every user in the group.

        Raises:
            Forbidden, NotFound, ValidationFailed. Conflict: group_taken; group_too_large: a name of more than 1,000
                users stays.
        """
        before = await self.get(principal, group_id)
        after = msgspec.structs.replace(
            before,
            name=before.name if name is None else checked_group(name, field="name"),
            description=before.description if description is None else checked_description(description),
            updated_at=self._at(),
        )
        change = roles.update_group(before, after, taken=_taken())
        if after.name == before.name:
            await self._write(principal, before, change)
            return after
        for _ in range(TRIES):
            members = await roles.member_ids(self._store, before, limit=MOST_RENAMED + 1)
            if len(members) > MOST_RENAMED:
                message = f"A group of more than {MOST_RENAMED:,} users cannot be renamed."
                raise Conflict(message, code="group_too_large")
            following = roles.follow_name(members, before, after.name, at=after.updated_at, error=_changed())
            invitations = roles.rename_in_invitations(before, after.name)
            if await self._written(principal, before, following, _emptied(before), invitations, change, about=members):
                return after
        raise _changed()

    async def delete(self, principal: Principal, group_id: str) -> None:
        """Take everybody out and delete the group. Raises Forbidden, NotFound."""
        group = await self.get(principal, group_id)
        tries = TRIES
        while tries:
            members = await roles.member_ids(self._store, group, limit=SLICE)
            leaving = roles.leave_group(members, group, at=self._at(), error=_changed())
            last = len(members) < SLICE
            ending = (_emptied(group), roles.rename_in_invitations(group, None), roles.delete_group(group))
            if not await self._written(principal, group, leaving, *(ending if last else ()), about=members):
                tries -= 1
            elif last:
                return
        raise _changed()

    async def add(self, principal: Principal, group_id: str, user_id: str) -> None:
        """Put a user of the group's account into it.

        Raises:
            Forbidden. NotFound: group_not_found, user_not_found. ValidationFailed: they are in 100 groups.
        """
        group = await self.get(principal, group_id)
        user = await self._user(group, user_id)
        if group.name in user.groups:
            return
        here = roles.require_group(group, error=_no_group())
        joining = roles.join_group(user.id, group, most=MAX_GROUPS, at=self._at(), error=_changed())
        if not await self._written(principal, group, here, joining, about=[user.id]):
            user = await self._user(group, user_id)
            if group.name not in user.groups:
                raise invalid("user_id", f"A user is in at most {MAX_GROUPS} groups.", "too_many")

    async def remove(self, principal: Principal, group_id: str, user_id: str) -> None:
        """Take a user out of the group. Raises Forbidden, NotFound."""
        group = await self.get(principal, group_id)
        user = await self._user(group, user_id)
        if group.name in user.groups:
            leaving = roles.leave_group([user.id], group, at=self._at(), error=_changed())
            await self._written(principal, group, leaving, about=[user.id])

    async def _user(self, group: Group, user_id: str) -> User:
        found = await system.find_user(self._store, user_id)
        if found is None or found.account_id != group.account_id:
            raise no_user()
        return found

    async def _written(self, principal: Principal, group: Group, *statements: Statement, about: Sequence[str]) -> bool:
        """Write, with a control row for each user it is about; False = somebody came or went meanwhile."""
        try:
            await self._write(principal, group, *statements, about=about)
        except _Changed:
            return False
        return True

    async def _write(
        self, principal: Principal, group: Group, *statements: Statement, about: Sequence[str] = ()
    ) -> None:
        await self._store.write(
            Transaction(
                account_id=group.account_id,
                actor=principal.actor_id,
                statements=statements,
                controls=tuple(Control(what="user_rights", subject=user_id) for user_id in about),
            )
        )

    def _at(self) -> str:
        return rfc3339(int(self._now() * 1e6))


def _emptied(group: Group) -> Statement:
    return roles.require_nobody_in(group, error=_changed())


def _changed() -> _Changed:
    return _Changed("Users joined the group or left it at the same moment.")


def _no_group() -> NotFound:
    return NotFound("There is no such group.", code="group_not_found")


def _taken() -> Conflict:
    message = "The account has a group of this name."
    return Conflict(
        message, code="group_taken", details=[FieldError(field="name", message=message, code="group_taken")]
    )
