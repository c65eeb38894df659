"""Who a token speaks for now: the current rows of the user, the account and the login decide, never the claims.

Owns the one check that REST, WebSocket, SSE and refresh share. Promises that a refusal's code is the word the gateway
ends a connection with (errors.CLOSINGS). Step 1 of the path.
"""

from collections.abc import Callable
from sys import intern
from time import monotonic

import msgspec

from snackbase.auth import KEY_PREFIX, Claims, Tokens, check_key, read_key
from snackbase.errors import ACCOUNT_DISABLED, TOKEN_REVOKED, USER_DISABLED, Closing, Forbidden, NotFound, Unauthorized
from snackbase.model import SYSTEM_ACCOUNT_ID, Account, Principal, User
from snackbase.storage.base import Store
from snackbase.storage.keys import ApiKey, KeyPresence, find_key_presence
from snackbase.storage.system import Presence, find_account, find_presence


class Authenticated(msgspec.Struct, frozen=True, kw_only=True):
    """at: monotonic seconds before the rows were read: what changed later may not be in `principal`."""

    principal: Principal
    claims: Claims
    at: float


class Authenticator:
    """Args:
    single_tenant: slug of the account that requests without a token mean when they name none; "" = none.
    on_key: called with the id of each key that proved itself.
    """

    def __init__(
        self,
        store: Store,
        tokens: Tokens,
        *,
        single_tenant: str = "",
        on_key: Callable[[str], None] = lambda _key_id: None,
    ) -> None:
        self._store = store
        self._tokens = tokens
        self._single_tenant = single_tenant
        self._on_key = on_key

    async def principal(self, token: str | None, *, account: str | None = None) -> Authenticated:
        """The principal of an access token or an API key.

        Args:
            account: the account to act in, by slug, code or id (X-Account-ID, `?account=`): a superadmin's choice;
                others may only name their own.

        Raises:
            Unauthorized: token_missing, token_invalid, token_expired, token_revoked, user_disabled, account_disabled.
            Forbidden: another account than one's own. NotFound: account_not_found, told to superadmins only.
        """
        at = monotonic()
        if token is not None and token.startswith(KEY_PREFIX):
            return await self._key(token, account, at)
        claims = self._tokens.verify_access(token)
        presence = await present(self._store, claims.user_id, claims.session_id, claims.account_id)
        acted_in = presence.account
        if account:
            acted_in = await self._acted_in(presence.account, account)
        return Authenticated(principal=_principal(presence.user, acted_in.id, claims), claims=claims, at=at)

    async def reload(self, claims: Claims, *, account_id: str) -> Principal:
        """The current rights of a principal that `principal` has given out.

        Args:
            account_id: the id of the account acted in.

        Raises:
            Unauthorized: token_revoked, token_expired, user_disabled, account_disabled.
        """
        self._tokens.check_expiry(claims)
        if claims.kind == "api_key":
            found = await find_key_presence(self._store, claims.user_id)
            if found is None:
                raise _ended(TOKEN_REVOKED)
            return _key_principal(_alive(found).key, account_id)
        presence = await present(self._store, claims.user_id, claims.session_id, claims.account_id)
        user = presence.user
        if account_id != user.account_id and user.account_id != SYSTEM_ACCOUNT_ID:
            raise _ended(TOKEN_REVOKED)
        return _principal(user, account_id, claims)

    async def guest(self, account: str | None) -> Principal:
        """Nobody in particular, for public reads: the account is named by X-Account-ID (contract §8).

        Raises:
            Unauthorized: token_missing: no account is named. NotFound: there is no such active account.
        """
        reference = account or self._single_tenant
        if not reference:
            raise Unauthorized("A token is required, or X-Account-ID for public records.", code="token_missing")
        found = await find_account(self._store, reference)
        if found is None or not found.is_active:
            raise NotFound("There is no such account.", code="account_not_found")
        return Principal(kind="guest", account_id=found.id)

    async def _key(self, token: str, account: str | None, at: float) -> Authenticated:
        key_id, secret_hash = read_key(token)
        found = await find_key_presence(self._store, key_id)
        check_key(secret_hash, found.secret_hash if found is not None else None)
        assert found is not None  # noqa: S101 - the line above refuses what is not there
        key = _alive(found).key
        claims = Claims(
            user_id=key.id,
            account_id=key.account_id,
            session_id="",
            expires_at=float("inf") if key.expires_at is None else key.expires_at,
            kind="api_key",
        )
        self._tokens.check_expiry(claims)
        acted_in = await self._acted_in(found.account, account) if account else found.account
        self._on_key(key.id)
        return Authenticated(principal=_key_principal(key, acted_in.id), claims=claims, at=at)

    async def _acted_in(self, own: Account, reference: str) -> Account:
        if reference.lower() in (own.id, own.slug, own.account_code.lower()):
            return own
        # Others are refused before anything is looked up, so that the answer tells nothing about other accounts.
        if own.id != SYSTEM_ACCOUNT_ID:
            raise Forbidden("This user does not belong to the named account.")
        found = await find_account(self._store, reference)
        if found is None:
            raise NotFound("There is no such account.", code="account_not_found")
        return found


async def present(store: Store, user_id: str, session_id: str, account_id: str) -> Presence:
    """The rows behind a verified token; raises Unauthorized when one of them no longer stands for it."""
    presence = await find_presence(store, user_id, session_id)
    if presence is None or presence.user.account_id != account_id or not presence.user.is_active:
        raise _ended(USER_DISABLED)
    if not presence.account.is_active:
        raise _ended(ACCOUNT_DISABLED)
    if presence.refresh_id is None:
        raise _ended(TOKEN_REVOKED)
    return presence


def _alive(presence: KeyPresence) -> KeyPresence:
    if presence.key.revoked_at is not None:
        raise _ended(TOKEN_REVOKED)
    if not presence.account.is_active:
        raise _ended(ACCOUNT_DISABLED)
    return presence


def _ended(closing: Closing) -> Unauthorized:
    return Unauthorized(closing.message, code=closing.code)


def _principal(user: User, account_id: str, claims: Claims) -> Principal:
    # A row is read anew for each connection; what is equal in ten thousand of them is kept once.
    return Principal(
        kind="user",
        account_id=intern(account_id),
        actor_id=claims.user_id,
        email=user.email,
        role=intern(user.role),
        groups=user.groups,
        session_id=claims.session_id,
        superadmin=user.account_id == SYSTEM_ACCOUNT_ID,
    )


def _key_principal(key: ApiKey, account_id: str) -> Principal:
    return Principal(
        kind="api_key",
        account_id=account_id,
        actor_id=key.id,
        role=key.role,
        superadmin=key.account_id == SYSTEM_ACCOUNT_ID,
    )
