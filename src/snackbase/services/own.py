"""`app.records`: records for the application's own code, hooks and endpoints, through the one write path (contract §9).

Owns who such code acts for: itself, which bypasses rules, or a user, whose current rights hold. What it writes is
judged, hooked, logged and delivered like anything else. Hooks that write run further hooks; how deep that goes is
bounded, across after-hooks too, since a task inherits the depth of whoever started it.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import msgspec

from snackbase.errors import Conflict, NotFound, Unauthorized
from snackbase.model import SYSTEM_ACCOUNT_ID, Principal, Record
from snackbase.services.listing import DEFAULT_LIMIT, ListRequest
from snackbase.services.reading import Listing
from snackbase.services.records import Records
from snackbase.storage.base import Store
from snackbase.storage.system import find_account, find_user

MAX_DEPTH = 8
"""Writes that hooks make because of writes that hooks made."""

_depth: ContextVar[int] = ContextVar("snackbase_hook_depth", default=0)


class OwnRecords:
    """Every method takes `account` (slug, code or id) and `as_user`: a user's id, or a principal such as
    `context.principal` of a hook or `request.state.principal` of an endpoint.

    Without `as_user` the code acts as itself: rules and fields do not bind it, and `created_by` is null. With it, the
    user's own account is meant unless `account` says otherwise.

    Raises, besides what REST answers to the same request:
        ValueError: neither an account nor a user is named. RuntimeError: the application has not started.
        Conflict: `hook_recursion`: hooks set off each other too deeply.
    """

    def __init__(self) -> None:
        self._bound: tuple[Records, Store] | None = None

    def bind(self, records: Records, store: Store) -> None:
        """Begin to work; called by the application when it starts."""
        self._bound = (records, store)

    async def create(
        self,
        collection: str,
        data: Mapping[str, Any],
        *,
        account: str | None = None,
        as_user: str | Principal | None = None,
    ) -> Record:
        """Create a record; gives it as whoever it is made for may see it."""
        records, principal = await self._for(account, as_user)
        with _deeper():
            return (await records.create(principal, collection, data)).records[0]

    async def update(
        self,
        collection: str,
        record_id: str,
        data: Mapping[str, Any],
        *,
        account: str | None = None,
        as_user: str | Principal | None = None,
        replace: bool = False,
    ) -> Record:
        """Change the given fields; with `replace` all of them."""
        records, principal = await self._for(account, as_user)
        with _deeper():
            return (await records.update(principal, collection, record_id, data, replace=replace)).records[0]

    async def delete(
        self,
        collection: str,
        record_id: str,
        *,
        account: str | None = None,
        as_user: str | Principal | None = None,
    ) -> None:
        """Delete a record and what refers to it by `cascade`."""
        records, principal = await self._for(account, as_user)
        with _deeper():
            await records.delete(principal, collection, record_id)

    async def get(
        self,
        collection: str,
        record_id: str,
        *,
        account: str | None = None,
        as_user: str | Principal | None = None,
        fields: str = "",
        expand: str = "",
    ) -> Record:
        """One record. Raises NotFound when there is none."""
        records, principal = await self._for(account, as_user)
        return await records.get(principal, collection, record_id, fields=fields, expand=expand)

    async def list(
        self,
        collection: str,
        *,
        account: str | None = None,
        as_user: str | Principal | None = None,
        filter: str = "",
        sort: str = "",
        fields: str = "",
        expand: str = "",
        skip: int = 0,
        limit: int = DEFAULT_LIMIT,
        total: bool | None = None,
        cursor: str = "",
    ) -> Listing:
        """A page of records: `.items`, `.total`, `.next_cursor`, `.position`, as over REST."""
        records, principal = await self._for(account, as_user)
        asked = ListRequest(
            filter=filter,
            sort=sort,
            fields=fields,
            expand=expand,
            skip=skip,
            limit=limit,
            total=total,
            cursor=cursor,
        )
        return await records.list(principal, collection, asked)

    async def _for(self, account: str | None, as_user: str | Principal | None) -> tuple[Records, Principal]:
        if self._bound is None:
            raise RuntimeError("app.records works once the application has started")
        records, store = self._bound
        if isinstance(as_user, str):
            as_user = await _principal_of(store, as_user)
        if account is None:
            if as_user is None:
                raise ValueError("say which account is meant: account=..., or as_user=...")
            return records, as_user
        found = await find_account(store, account)
        if found is None or not found.is_active:
            raise NotFound(f"There is no active account {account[:64]!r}.", code="account_not_found")
        if as_user is None:
            return records, Principal(kind="system", account_id=found.id, superadmin=True)
        if as_user.account_id != found.id and not as_user.superadmin:
            raise ValueError("the user belongs to another account than the named one")
        return records, msgspec.structs.replace(as_user, account_id=found.id)


async def _principal_of(store: Store, user_id: str) -> Principal:
    """A user with the rights of the moment. Raises Unauthorized (`user_disabled`) for one who could not log in."""
    user = await find_user(store, user_id)
    account = await find_account(store, user.account_id) if user else None
    if user is None or account is None or not (user.is_active and account.is_active):
        raise Unauthorized("The user to act for is disabled or gone.", code="user_disabled")
    return Principal(
        kind="user",
        account_id=user.account_id,
        actor_id=user.id,
        email=user.email,
        role=user.role,
        groups=user.groups,
        superadmin=user.account_id == SYSTEM_ACCOUNT_ID,
    )


@contextmanager
def _deeper() -> Iterator[None]:
    """What is set off inside is one level further down."""
    depth = _depth.get()
    if depth >= MAX_DEPTH:
        message = f"Hooks that write have triggered each other {MAX_DEPTH} levels deep; the next write was refused."
        raise Conflict(message, code="hook_recursion")
    token = _depth.set(depth + 1)
    try:
        yield
    finally:
        _depth.reset(token)
