"""Managing accounts and users: by superadmins everywhere, by an account's admins within it.

Owns who may manage whom. Promises: every change of somebody's rights or state commits together with its control row in
the account of the user concerned, so that live connections follow within a second on every node; there is always a
superadmin left, because nobody disables themselves, and keys leave superadmins alone.
"""

import time
from collections.abc import Callable
from secrets import token_urlsafe
from uuid import uuid4

import msgspec

from snackbase.auth import PasswordHasher
from snackbase.config import ConfigError, Settings
from snackbase.errors import Conflict, NotFound, ValidationFailed
from snackbase.model import SYSTEM_ACCOUNT_ID, Account, Principal, User, rfc3339
from snackbase.services.authority import (
    ADMIN_ROLE,
    USER_ROLE,
    listed_account,
    managed_account,
    manages,
    no_user,
    require_admin,
    require_named,
    require_superadmin,
    require_user,
)
from snackbase.services.founding import SlugTaken, found_account
from snackbase.services.identity import (
    check_password,
    checked_email,
    checked_groups,
    checked_name,
    checked_slug,
    invalid,
)
from snackbase.services.logins import email_taken
from snackbase.storage import roles, system
from snackbase.storage.base import Control, Statement, Store, Transaction
from snackbase.storage.directory import AccountQuery, UserQuery, list_accounts, list_users

DEFAULT_SUPERADMIN_EMAIL = "admin@localhost"
REGISTRATIONS = ("closed", "invite", "open")


class NewSuperadmin(msgspec.Struct, frozen=True, kw_only=True):
    """The first superadmin. password: the generated one, to be printed once; None when the settings gave it."""

    email: str
    password: str | None


class _NotFirst(Conflict):
    """Inside the bootstrap only: another process made the first superadmin."""


class Members:
    """Args:
    now: wall clock, seconds since the epoch.
    """

    def __init__(
        self, store: Store, hasher: PasswordHasher, settings: Settings, *, now: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self._hasher = hasher
        self._settings = settings
        self._now = now

    # First start

    async def bootstrap_superadmin(self) -> NewSuperadmin | None:
        """Create the first superadmin, unless the system account has a user; of several processes one does.

        Raises:
            ConfigError: SUPERADMIN_EMAIL or SUPERADMIN_PASSWORD cannot be used.
        """
        if await system.has_users(self._store, SYSTEM_ACCOUNT_ID):
            return None
        email, password = superadmin_of(self._settings)
        chosen = password or token_urlsafe(15)
        user = self._new_user(SYSTEM_ACCOUNT_ID, email, ADMIN_ROLE)
        hashed = await self._hasher.hash(chosen)
        first = system.insert_first_superadmin(user, hashed, error=_NotFirst("There is a superadmin already."))
        try:
            await self._store.write(Transaction(account_id=SYSTEM_ACCOUNT_ID, statements=(first,)))
        except _NotFirst:
            return None
        return NewSuperadmin(email=email, password=None if password else chosen)

    async def bootstrap_single_tenant(self) -> Account | None:
        """Found the account of SINGLE_TENANT_ACCOUNT, open for registration, unless it exists or none is set."""
        name = self._settings.single_tenant_account
        if not name:
            return None
        slug = single_tenant_of(self._settings)
        existing = await system.find_account(self._store, slug)
        if existing is not None:
            return existing
        try:
            return await found_account(
                self._store, account_id=str(uuid4()), name=name, slug=slug, at=self._at(), registration="open"
            )
        except SlugTaken:
            return await system.find_account(self._store, slug)

    # Accounts

    async def create_account(self, principal: Principal, *, name: str, slug: str | None = None) -> Account:
        """Raises Forbidden, ValidationFailed, Conflict (slug_taken)."""
        require_superadmin(principal)
        return await found_account(
            self._store,
            account_id=str(uuid4()),
            name=checked_name(name),
            slug=checked_slug(slug) if slug else None,
            at=self._at(),
            actor=principal.actor_id,
        )

    async def update_account(
        self,
        principal: Principal,
        reference: str,
        *,
        name: str | None = None,
        is_active: bool | None = None,
        registration: str | None = None,
    ) -> Account:
        """Change what is given; an account's admin may change all but `is_active`. A disabled account ends every
        connection in it and refuses its tokens until enabled; its records stay.

        Raises:
            Forbidden, NotFound, ValidationFailed. Conflict: system_account: it cannot be disabled.
        """
        require_admin(principal)
        before = await self.account(principal, reference)
        if is_active is not None:
            require_superadmin(principal)
        if registration is not None and registration not in REGISTRATIONS:
            raise invalid("registration", f"One of {', '.join(REGISTRATIONS)} is needed.")
        if before.id == SYSTEM_ACCOUNT_ID and (is_active is False or registration not in (None, "closed")):
            raise Conflict("The system account cannot be disabled or opened.", code="system_account")
        after = msgspec.structs.replace(
            before,
            name=before.name if name is None else checked_name(name),
            is_active=before.is_active if is_active is None else is_active,
            registration=registration or before.registration,
            updated_at=self._at(),
        )
        disabled = before.is_active and not after.is_active
        controls = (Control(what="account_disabled", subject=before.id),) if disabled else ()
        await self._write(principal, before.id, system.update_account(before, after), controls=controls)
        return after

    async def account(self, principal: Principal, reference: str) -> Account:
        """An account by id, slug or code; besides superadmins, members may read their own."""
        found = await system.find_account(self._store, reference)
        if found is None or not (principal.superadmin or found.id == principal.account_id):
            raise NotFound("There is no such account.", code="account_not_found")
        return found

    async def accounts(self, principal: Principal, query: AccountQuery | None = None) -> tuple[list[Account], int]:
        """A page of all accounts and how many there are."""
        require_superadmin(principal)
        return await list_accounts(self._store, query or AccountQuery())

    # Users

    async def create_user(
        self,
        principal: Principal,
        *,
        email: str,
        password: str | None = None,
        account: str | None = None,
        role: str | None = None,
        role_id: int | None = None,
        is_active: bool = True,
        groups: list[str] | None = None,
    ) -> User:
        """Args:
            password: None: nobody can log in as the user before somebody sets one.
            account: id, slug or code. None: the account acted in; the system account has to be named, since its users
                are superadmins.
            groups: names; those that are missing are made.

        Raises:
            Forbidden, NotFound, ValidationFailed. Conflict: email_taken.
        """
        require_admin(principal)
        require_named(principal, account, "Name the account that the user shall belong to.")
        target = await managed_account(self._store, principal, account)
        _check_superadmins(principal, target.id)
        email = checked_email(email)
        if password is not None:
            check_password(password, email=email)
        chosen = await chosen_role(self._store, role, role_id) or USER_ROLE
        user = msgspec.structs.replace(
            self._new_user(target.id, email, chosen), is_active=is_active, groups=checked_groups(groups or [])
        )
        hashed = await self._hasher.hash(password or token_urlsafe(32))
        await self._write(
            principal,
            target.id,
            system.insert_user(user, hashed, error=email_taken()),
            *rights_exist(user, at=user.created_at),
        )
        return user

    async def update_user(
        self,
        principal: Principal,
        user_id: str,
        *,
        email: str | None = None,
        role: str | None = None,
        role_id: int | None = None,
        is_active: bool | None = None,
        groups: list[str] | None = None,
    ) -> User:
        """Change what is given. Disabling ends all logins of the user; other changes reach live connections.

        Raises:
            Forbidden, NotFound, ValidationFailed. Conflict: email_taken; own_user: nobody disables themselves or
                changes their own role.
        """
        before = await self.user(principal, user_id)
        _check_superadmins(principal, before.account_id)
        new_role_id, new_role = await chosen_role(self._store, role, role_id) or (before.role_id, before.role)
        after = msgspec.structs.replace(
            before,
            email=before.email if email is None else checked_email(email),
            role=new_role,
            role_id=new_role_id,
            is_active=before.is_active if is_active is None else is_active,
            groups=before.groups if groups is None else checked_groups(groups),
        )
        if after == before:
            return before
        own = before.id == principal.actor_id
        if own and (not after.is_active or after.role_id != before.role_id):
            raise Conflict("You cannot disable yourself or change your own role.", code="own_user")
        error = email_taken() if after.email != before.email else None
        at = self._at()
        change = (system.update_user(before, after, at=at, error=error), *rights_exist(after, at=at, before=before))
        if before.is_active and not after.is_active:
            ending = system.end_logins(before.id, at=at)
            controls = (Control(what="user_disabled", subject=before.id),)
            await self._write(principal, before.account_id, *change, ending, controls=controls)
        else:
            controls = (Control(what="user_rights", subject=before.id),)
            await self._write(principal, before.account_id, *change, controls=controls)
        return after

    async def set_password(self, principal: Principal, user_id: str, new_password: str) -> None:
        """Set somebody's password and end all their logins. Raises Forbidden, NotFound, ValidationFailed."""
        user = await self.user(principal, user_id)
        _check_superadmins(principal, user.account_id)
        check_password(new_password, email=user.email, field="new_password")
        hashed = await self._hasher.hash(new_password)
        await self._write(
            principal,
            user.account_id,
            system.set_password(user.id, hashed, old_hash=None, at=self._at(), error=no_user()),
            system.end_logins(user.id, at=self._at()),
            controls=(Control(what="logins_ended", subject=user.id),),
        )

    async def user(self, principal: Principal, user_id: str) -> User:
        """A user the principal manages. Raises Forbidden, NotFound (also for users of other accounts)."""
        require_admin(principal)
        found = await system.find_user(self._store, user_id)
        if found is None or not manages(principal, found.account_id):
            raise no_user()
        return found

    async def users(
        self, principal: Principal, query: UserQuery | None = None, *, account: str | None = None
    ) -> tuple[list[User], int]:
        """A page of users and how many there are: of the named account, else of the account acted in; for a superadmin
        who acts in none, of all."""
        require_admin(principal)
        account_id = await listed_account(self._store, principal, account)
        return await list_users(self._store, msgspec.structs.replace(query or UserQuery(), account_id=account_id))

    async def _write(
        self, principal: Principal, account_id: str, *statements: Statement, controls: tuple[Control, ...] = ()
    ) -> None:
        await self._store.write(
            Transaction(account_id=account_id, actor=principal.actor_id, statements=statements, controls=controls)
        )

    def _new_user(self, account_id: str, email: str, role: tuple[int, str]) -> User:
        role_id, name = role
        return User(
            id=str(uuid4()), account_id=account_id, email=email, role=name, role_id=role_id, created_at=self._at()
        )

    def _at(self) -> str:
        return rfc3339(int(self._now() * 1e6))


def superadmin_of(settings: Settings) -> tuple[str, str]:
    """E-mail and password of the first superadmin; an empty password is to be generated.

    Raises:
        ConfigError: SUPERADMIN_EMAIL or SUPERADMIN_PASSWORD cannot be used.
    """
    password = settings.superadmin_password
    try:
        email = checked_email(settings.superadmin_email or DEFAULT_SUPERADMIN_EMAIL)
        if password:
            check_password(password, email=email)
    except ValidationFailed as error:
        wrong = error.details[0]
        raise ConfigError(f"SNACKBASE_SUPERADMIN_{wrong.field.upper()}: {wrong.message}") from None
    return email, password


def single_tenant_of(settings: Settings) -> str:
    """The slug of SINGLE_TENANT_ACCOUNT, which is set. Raises ConfigError."""
    try:
        return checked_slug(settings.single_tenant_account, field="account")
    except ValidationFailed as error:
        raise ConfigError(f"SNACKBASE_SINGLE_TENANT_ACCOUNT: {error.details[0].message}") from None


def _check_superadmins(principal: Principal, account_id: str) -> None:
    """Superadmins are managed by superadmins who are logged in. Raises Forbidden (key_restricted).

    A key is nobody who could be kept from disabling themselves, so it could disable every one of them; and a stolen one
    could make a superadmin and outlive its revocation.
    """
    if account_id == SYSTEM_ACCOUNT_ID:
        require_user(principal)


async def chosen_role(store: Store, name: str | None, role_id: int | None) -> tuple[int, str] | None:
    """The role that a request names by id or by name; None when it names none. Raises ValidationFailed."""
    if name is None and role_id is None:
        return None
    for role in await roles.list_roles(store):
        if role.id == role_id or (role_id is None and role.name == name):
            return role.id, role.name
    raise invalid("role_id" if role_id is not None else "role", "There is no such role.", "role_not_found")


def rights_exist(user: User, *, at: str, before: User | None = None) -> tuple[Statement, ...]:
    """What a user's row names is there when it commits: missing groups are made, a role that is gone refuses."""
    gone = invalid("role_id", "There is no such role.", "role_not_found")
    had = before.groups if before is not None else ()
    return (
        roles.require_role(user.role_id, error=gone),
        *roles.ensure_groups(user.account_id, [name for name in user.groups if name not in had], at=at),
    )
