"""Whom a REST request acts for: finds the token, asks for the principal, and notes it for the access log.

REST takes tokens in headers only: query strings end up in browser histories and in logs of proxies, which realtime
cannot avoid. Step 1 of the path of a write.
"""

from collections.abc import Awaitable, Callable

from starlette.requests import Request

from snackbase.auth import Claims, rest_token_of
from snackbase.catalog import Catalog
from snackbase.errors import Unauthorized
from snackbase.metrics import Counters, add
from snackbase.model import Principal
from snackbase.services.authenticate import Authenticated, Authenticator
from snackbase.web.http import Authenticate
from snackbase.web.middleware import note_user


class Guard:
    """Each method is an `Authenticate` for routes, or tells more."""

    def __init__(self, authenticator: Authenticator, counters: Counters) -> None:
        self._authenticator = authenticator
        self._counters = counters

    async def authenticate(self, request: Request) -> Principal:
        """The principal, acting in the account of X-Account-ID if there is one.

        Raises:
            Unauthorized: no token, or a dead one. Forbidden: another's account. BadRequest: two tokens (rest_token_of).
        """
        return (await self._authenticated(request, rest_token_of(request.headers))).principal

    async def authenticate_or_guest(self, request: Request) -> Principal:
        """The same, but a request without a token is a guest of the account of X-Account-ID."""
        token = rest_token_of(request.headers)
        if token is not None:
            return (await self._authenticated(request, token)).principal
        return await self._authenticator.guest(request.headers.get("x-account-id"))

    async def claims(self, request: Request) -> Claims:
        """What the token itself says, for routes about the login."""
        return (await self._authenticated(request, rest_token_of(request.headers))).claims

    async def _authenticated(self, request: Request, token: str | None) -> Authenticated:
        try:
            found = await self._authenticator.principal(token, account=request.headers.get("x-account-id"))
        except Unauthorized as error:
            add(self._counters.auth_failures, error.code)
            raise
        note_user(request.scope, found.principal.actor_id)
        return found


def after_a_look(authenticate: Authenticate, catalog: Catalog, refresh: Callable[[], Awaitable[None]]) -> Authenticate:
    """The same; and a collection in the path that is not known here was looked for where other nodes make theirs.

    They tell of it, but the next request may be here before that.

    Args:
        refresh: learns of collections that other processes changed.
    """

    async def authenticated(request: Request) -> Principal:
        principal = await authenticate(request)
        name = request.path_params.get("collection")
        if name is not None and catalog.by_name(name) is None and catalog.by_id(name) is None:
            await refresh()
        return principal

    return authenticated
