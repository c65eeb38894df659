"""What people do with their own login: register, log in, refresh, log out, change the password.

Promises: every failed login answers alike and after equal work; of concurrent uses of one refresh token exactly one
succeeds and the others end all logins of its user; whatever ends a login writes its control row in the same
transaction, so that live connections end on every node. Must not manage other people (services/members.py).
"""

import time
from collections.abc import Callable, Sequence
from secrets import token_urlsafe
from uuid import uuid4

import msgspec
import structlog

from snackbase.auth import PasswordHasher, Tokens
from snackbase.config import Settings
from snackbase.errors import Forbidden, NotFound, Unauthorized, Unavailable
from snackbase.model import SYSTEM_ACCOUNT_SLUG, Account, Principal, User, rfc3339
from snackbase.services.attempts import Attempts, Room
from snackbase.services.authenticate import present
from snackbase.services.authority import ADMIN_ROLE, USER_ROLE
from snackbase.services.founding import found_account
from snackbase.services.identity import check_password, checked_email, checked_name, checked_slug, invalid, normal_email
from snackbase.services.logins import Login, Logins, Opening, wrong
from snackbase.storage import system
from snackbase.storage.base import Control, Statement, Store, Transaction
from snackbase.storage.keys import find_key

log = structlog.get_logger("snackbase.accounts")


class Me(msgspec.Struct, frozen=True, kw_only=True):
    """The body of GET /auth/me. `account_id`: the own account, also when a superadmin acts in another.

    Of an API key `user_id` is the key's id; it has no e-mail and is no `user`.
    """

    user_id: str
    account_id: str
    email: str | None
    role: str
    groups: tuple[str, ...]
    user: User | None
    account: Account


class _Stale(Unauthorized):
    """Inside refresh only: the login's newest refresh token is another one, or the login has ended."""


class Accounts:
    """Args:
        now: wall clock, seconds since the epoch. monotonic: for the limits on attempts.

    Attributes:
        on_entry: called after a login or a registration with `on_auth_login` or `on_auth_register` and the user.
    """

    def __init__(
        self,
        store: Store,
        tokens: Tokens,
        hasher: PasswordHasher,
        settings: Settings,
        *,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._tokens = tokens
        self._logins = Logins(store, tokens, now=now)
        self._hasher = hasher
        self._settings = settings
        self._now = now
        self._attempts = Attempts(settings.login_attempts_per_minute, now=monotonic)
        self._room = Room(max(1, settings.password_hash_queue // 2))
        self.on_entry: Callable[[str, User], None] = lambda _event, _user: None

    async def register(
        self,
        *,
        email: str,
        password: str,
        account_name: str | None = None,
        account_slug: str | None = None,
        account: str | None = None,
        address: str = "",
    ) -> Login:
        """Found an account whose first user is its admin, or join the existing `account` (its slug, code or id).

        With SINGLE_TENANT_ACCOUNT everybody joins that one and the other names are not looked at.

        Raises:
            ValidationFailed, Conflict: email_taken, slug_taken.
            Forbidden: registration_closed: the account to join is not open, or accounts are founded by superadmins.
            RateLimited: too many failures from this address.
        """
        email = checked_email(email)
        check_password(password, email=email)
        joined = self._settings.single_tenant_account or account
        if joined:
            login = await self._join(joined, email, password, address)
        else:
            login = await self._found(email, password, account_name, account_slug, address)
        self.on_entry("on_auth_register", login.user)
        return login

    async def login(self, *, email: str, password: str, account: str | None = None, address: str = "") -> Login:
        """Args:
            account: slug, code or id. None: SINGLE_TENANT_ACCOUNT if there is one, else the system account.
            address: the client's, for the limit on failures.

        Raises:
            Unauthorized: invalid_credentials, the same after the same work whatever was wrong.
            RateLimited: too many failures for this user or from this address. Unavailable: too many logins at once.
        """
        reference = account or self._settings.single_tenant_account or SYSTEM_ACCOUNT_SLUG
        found = await system.find_account(self._store, reference)
        email = normal_email(email)
        who = f"{found.id if found else reference.lower()}\n{email}"
        secret = await system.find_secret(self._store, found.id if found else "", email)
        correct = await self._matches(secret, password, who, address)
        if not correct or secret is None or found is None or not (found.is_active and secret.user.is_active):
            raise wrong()
        login = await self._logins.open(secret.user, found, secret.password_hash)
        self._attempts.forgive(who, address)
        self.on_entry("on_auth_login", login.user)
        return login

    async def login_without_password(self, *, email: str, account: str) -> Login:
        """A login for whoever holds the data folder: the command line's `token`. Never reachable over the network.

        Raises:
            NotFound: user_not_found: there is no such active user in an active account.
        """
        found = await system.find_account(self._store, account)
        secret = await system.find_secret(self._store, found.id if found else "", normal_email(email))
        if secret is None or found is None or not (found.is_active and secret.user.is_active):
            raise NotFound(f"There is no active user {email} in the account {account}.", code="user_not_found")
        return await self._logins.open(secret.user, found, secret.password_hash)

    async def refresh(self, refresh_token: str) -> Login:
        """New tokens for a refresh token, which thereby is used up.

        Raises:
            Unauthorized: token_invalid, token_expired, user_disabled, account_disabled; token_revoked: the login has
                ended, or this token was used before; then all logins of its user end here (RFC 9700 §4.14.2).
        """
        claims = self._tokens.verify_refresh(refresh_token)
        presence = await present(self._store, claims.user_id, claims.session_id, claims.account_id)
        new_id = token_urlsafe(16)
        rotation = system.rotate_login(
            claims.session_id,
            old_id=claims.refresh_id,
            new_id=new_id,
            expires_at=self._logins.expiry(),
            error=_Stale("The refresh token is not the newest one."),
        )
        try:
            await self._store.write(Transaction(account_id=claims.account_id, statements=(rotation,)))
        except _Stale:
            # Still alive, so the token was not refused because the login ended in this moment: it was used twice.
            await present(self._store, claims.user_id, claims.session_id, claims.account_id)
            await self._end_all(presence.user)
            log.warning("refresh_token_reused", user_id=claims.user_id, account_id=claims.account_id)
            raise Unauthorized(
                "This refresh token was used before; all logins of its user have ended.", code="token_revoked"
            ) from None
        return self._logins.renewed(presence.user, presence.account, claims.session_id, new_id)

    async def logout(self, principal: Principal) -> None:
        """End the login that the principal's token belongs to; a key has none and nothing happens."""
        if principal.session_id is None or principal.actor_id is None:
            return
        user = await system.find_user(self._store, principal.actor_id)
        if user is None:
            return
        ended = Control(what="login_ended", subject=principal.session_id)
        await self._store.write(
            Transaction(
                account_id=user.account_id,
                actor=user.id,
                statements=(system.end_login(principal.session_id, at=self._at()),),
                controls=(ended,),
            )
        )

    async def me(self, principal: Principal) -> Me:
        """Raises Forbidden for guests."""
        if principal.kind == "api_key":
            return await self._my_key(principal)
        user = await self._own_user(principal)
        return Me(
            user_id=user.id,
            account_id=user.account_id,
            email=user.email,
            role=user.role,
            groups=user.groups,
            user=user,
            account=await self._account(user.account_id),
        )

    async def _my_key(self, principal: Principal) -> Me:
        key = await find_key(self._store, principal.actor_id or "")
        assert key is not None  # noqa: S101 - it was found when the request came, and keys are never deleted
        account = await self._account(key.account_id)
        return Me(
            user_id=key.id, account_id=account.id, email=None, role=key.role, groups=(), user=None, account=account
        )

    async def _account(self, account_id: str) -> Account:
        account = await system.find_account(self._store, account_id)
        assert account is not None  # noqa: S101 - users and keys live in accounts, and accounts are never deleted
        return account

    async def change_password(self, principal: Principal, *, old: str, new: str, address: str = "") -> None:
        """Change one's own password and end all other logins.

        Raises:
            ValidationFailed: old_password is wrong, or new_password is no password. RateLimited, Unavailable.
        """
        user = await self._own_user(principal)
        check_password(new, email=user.email, field="new_password")
        who = f"{user.account_id}\n{user.email}"
        secret = await system.find_secret_by_id(self._store, user.id)
        wrong = invalid("old_password", "This is not the password of this user.", "wrong_password")
        if not await self._matches(secret, old, who, address) or secret is None:
            raise wrong
        self._attempts.forgive(who, address)
        hashed = await self._hasher.hash(new)
        await self._store.write(
            Transaction(
                account_id=user.account_id,
                actor=user.id,
                statements=(
                    system.set_password(user.id, hashed, old_hash=secret.password_hash, at=self._at(), error=wrong),
                    system.end_logins(user.id, at=self._at(), keep=principal.session_id),
                ),
                controls=(Control(what="logins_ended", subject=user.id, data={"except": principal.session_id}),),
            )
        )

    async def _found(
        self, email: str, password: str, account_name: str | None, account_slug: str | None, address: str
    ) -> Login:
        if self._settings.account_creation != "open":
            raise Forbidden("Registering cannot create accounts on this server.", code="registration_closed")
        if account_name is None:
            raise invalid("account_name", "This field is required.", "required")
        name = checked_name(account_name, field="account_name")
        slug = checked_slug(account_slug, field="account_slug") if account_slug else None
        hashed = await self._hashed(password, None, address)
        account_id = str(uuid4())
        user = self._new_user(account_id, email, ADMIN_ROLE)
        opening = Opening()
        account = await found_account(
            self._store,
            account_id=account_id,
            name=name,
            slug=slug,
            at=user.created_at,
            field="account_slug",
            statements=self._logins.entry(opening, user, hashed),
            actor=user.id,
        )
        self._attempts.forgive(None, address)
        return self._logins.told(user, account, opening)

    async def _join(self, reference: str, email: str, password: str, address: str) -> Login:
        account = await system.find_account(self._store, reference)
        if account is None or not account.is_active or account.registration != "open":
            raise Forbidden("This account is not open for registration.", code="registration_closed")
        return await self._admit(account, email=email, password=password, role=USER_ROLE, address=address)

    async def accept(
        self,
        account: Account,
        *,
        email: str,
        password: str,
        role: tuple[int, str],
        groups: tuple[str, ...],
        statements: Sequence[Statement],
        address: str = "",
    ) -> Login:
        """A new user of an account that has invited them, logged in at once.

        Args:
            statements: what is to commit with the user: the invitation is used up, what the user's rights name exists.

        Raises:
            ValidationFailed: the password. Conflict: email_taken; besides, whatever `statements` raise.
        """
        check_password(password, email=email)
        login = await self._admit(
            account, email=email, password=password, role=role, groups=groups, statements=statements, address=address
        )
        self.on_entry("on_auth_register", login.user)
        return login

    async def _admit(
        self,
        account: Account,
        *,
        email: str,
        password: str,
        role: tuple[int, str],
        groups: tuple[str, ...] = (),
        statements: Sequence[Statement] = (),
        address: str,
    ) -> Login:
        hashed = await self._hashed(password, None, address)
        user = msgspec.structs.replace(self._new_user(account.id, email, role), groups=groups)
        opening = Opening()
        entry = (*statements, *self._logins.entry(opening, user, hashed))
        await self._store.write(Transaction(account_id=account.id, actor=user.id, statements=entry))
        self._attempts.forgive(None, address)
        return self._logins.told(user, account, opening)

    async def _hashed(self, password: str, who: str | None, address: str) -> str:
        """Counts an attempt, which the caller forgives when everything went well."""
        self._attempts.begin(who, address)
        try:
            with self._room.taken(address):
                return await self._hasher.hash(password)
        except Unavailable:
            self._attempts.forgive(who, address)
            raise

    async def _matches(self, secret: system.Secret | None, password: str, who: str, address: str) -> bool:
        """Counts an attempt like `_hashed`, and takes the same time without a user."""
        self._attempts.begin(who, address)
        try:
            with self._room.taken(address):
                return await self._hasher.verify(secret.password_hash if secret else None, password)
        except Unavailable:
            self._attempts.forgive(who, address)
            raise

    def _new_user(self, account_id: str, email: str, role: tuple[int, str]) -> User:
        at = self._at()
        role_id, name = role
        return User(
            id=str(uuid4()),
            account_id=account_id,
            email=email,
            role=name,
            role_id=role_id,
            created_at=at,
            last_login=at,
        )

    async def _end_all(self, user: User) -> None:
        await self._store.write(
            Transaction(
                account_id=user.account_id,
                actor=user.id,
                statements=(system.end_logins(user.id, at=self._at()),),
                controls=(Control(what="logins_ended", subject=user.id),),
            )
        )

    async def _own_user(self, principal: Principal) -> User:
        user = None
        if principal.kind == "user" and principal.actor_id is not None:
            user = await system.find_user(self._store, principal.actor_id)
        if user is None:
            raise Forbidden("Only a user who is logged in may do this.")
        return user

    def _at(self) -> str:
        return rfc3339(int(self._now() * 1e6))
