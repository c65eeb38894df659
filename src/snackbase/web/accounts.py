"""REST of logins, users and accounts (contract §8): bodies in, services called, values out.

Decides nothing: rights and rules are the services'. Answers that hold tokens are never cached (RFC 6749 §5.1).
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from snackbase.model import Account
from snackbase.services.accounts import Accounts
from snackbase.services.logins import Login
from snackbase.services.members import Members
from snackbase.storage.directory import ACCOUNT_ORDERS, USER_ORDERS, AccountQuery, UserQuery
from snackbase.web.http import Authenticate, json_response, read_changes, read_json
from snackbase.web.paging import ORDER, PAGE, number, order, page
from snackbase.web.query import optional_flag, read_query

NO_STORE = {"Cache-Control": "no-store"}


class RegisterBody(msgspec.Struct, forbid_unknown_fields=True):
    email: str
    password: str
    account_name: str | None = None
    account_slug: str | None = None
    account: str | None = None


class LoginBody(msgspec.Struct, forbid_unknown_fields=True):
    email: str
    password: str
    account: str | None = None


class RefreshBody(msgspec.Struct, forbid_unknown_fields=True):
    refresh_token: str


class PasswordBody(msgspec.Struct, forbid_unknown_fields=True):
    old_password: str
    new_password: str


class NewPasswordBody(msgspec.Struct, forbid_unknown_fields=True):
    new_password: str


class AccountBody(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    slug: str | None = None


class AccountChangeBody(msgspec.Struct, forbid_unknown_fields=True):
    """None, or a key left out: unchanged."""

    name: str | None = None
    is_active: bool | None = None
    registration: str | None = None


class UserBody(msgspec.Struct, forbid_unknown_fields=True):
    email: str
    password: str | None = None
    account_id: str | None = None
    role_id: int | None = None
    role: str | None = None
    is_active: bool = True
    groups: list[str] | None = None


class UserChangeBody(msgspec.Struct, forbid_unknown_fields=True):
    """None, or a key left out: unchanged."""

    email: str | None = None
    role_id: int | None = None
    role: str | None = None
    is_active: bool | None = None
    groups: list[str] | None = None


class AccountRoutes:
    """Args:
    client_address: the client's address of an ASGI scope, behind trusted proxies (Origins.client_address).
    """

    def __init__(
        self,
        accounts: Accounts,
        members: Members,
        authenticate: Authenticate,
        *,
        client_address: Callable[[Mapping[str, Any]], str],
    ) -> None:
        self._accounts = accounts
        self._members = members
        self._authenticate = authenticate
        self._client_address = client_address

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/api/v1/auth/register", self._register, methods=["POST"]),
            Route("/api/v1/auth/login", self._login, methods=["POST"]),
            Route("/api/v1/auth/refresh", self._refresh, methods=["POST"]),
            Route("/api/v1/auth/logout", self._logout, methods=["POST"]),
            Route("/api/v1/auth/password", self._change_password, methods=["POST"]),
            Route("/api/v1/auth/me", self._me, methods=["GET"]),
            Route("/api/v1/accounts", self._list_accounts, methods=["GET"]),
            Route("/api/v1/accounts", self._create_account, methods=["POST"]),
            Route("/api/v1/accounts/{account}", self._get_account, methods=["GET"]),
            Route("/api/v1/accounts/{account}", self._update_account, methods=["PUT", "PATCH"]),
            Route("/api/v1/accounts/{account}", self._disable_account, methods=["DELETE"]),
            Route("/api/v1/accounts/{account}/users", self._list_users, methods=["GET"]),
            Route("/api/v1/users", self._list_users, methods=["GET"]),
            Route("/api/v1/users", self._create_user, methods=["POST"]),
            Route("/api/v1/users/{user_id}", self._get_user, methods=["GET"]),
            Route("/api/v1/users/{user_id}", self._update_user, methods=["PATCH"]),
            Route("/api/v1/users/{user_id}", self._disable_user, methods=["DELETE"]),
            Route("/api/v1/users/{user_id}/password", self._set_password, methods=["PUT"]),
        ]

    # Logins

    async def _register(self, request: Request) -> Response:
        read_query(request)
        body = await read_json(request, RegisterBody)
        login = await self._accounts.register(
            email=body.email,
            password=body.password,
            account_name=body.account_name,
            account_slug=body.account_slug,
            account=body.account,
            address=self._client_address(request.scope),
        )
        return json_response({"message": "Welcome.", **login_body(login)}, status=201, headers=NO_STORE)

    async def _login(self, request: Request) -> Response:
        read_query(request)
        body = await read_json(request, LoginBody)
        login = await self._accounts.login(
            account=body.account,
            email=body.email,
            password=body.password,
            address=self._client_address(request.scope),
        )
        return json_response(login_body(login), headers=NO_STORE)

    async def _refresh(self, request: Request) -> Response:
        read_query(request)
        body = await read_json(request, RefreshBody)
        return json_response(login_body(await self._accounts.refresh(body.refresh_token)), headers=NO_STORE)

    async def _logout(self, request: Request) -> Response:
        read_query(request)
        await self._accounts.logout(await self._authenticate(request))
        return json_response({"message": "This login has ended."})

    async def _change_password(self, request: Request) -> Response:
        principal = await self._authenticate(request)
        read_query(request)
        body = await read_json(request, PasswordBody)
        await self._accounts.change_password(
            principal, old=body.old_password, new=body.new_password, address=self._client_address(request.scope)
        )
        return json_response({"message": "The password is changed; all other logins have ended."})

    async def _me(self, request: Request) -> Response:
        read_query(request)
        return json_response(await self._accounts.me(await self._authenticate(request)))

    # Accounts

    async def _list_accounts(self, request: Request) -> Response:
        principal = await self._authenticate(request)
        query = read_query(request, "search", "is_active", *ORDER, *PAGE)
        skip, limit = page(query)
        sort, descending = order(query, ACCOUNT_ORDERS, "account_code")
        wanted = AccountQuery(
            search=query.get("search") or None,
            is_active=optional_flag(query, "is_active", None),
            sort=sort,
            descending=descending,
            skip=skip,
            limit=limit,
        )
        items, total = await self._members.accounts(principal, wanted)
        return json_response({"items": items, "total": total})

    async def _create_account(self, request: Request) -> Response:
        principal = await self._authenticate(request)
        read_query(request)
        body = await read_json(request, AccountBody)
        account = await self._members.create_account(principal, name=body.name, slug=body.slug)
        return json_response(account, status=201)

    async def _get_account(self, request: Request) -> Response:
        principal = await self._authenticate(request)
        read_query(request)
        return json_response(await self._members.account(principal, request.path_params["account"]))

    async def _update_account(self, request: Request) -> Response:
        principal = await self._authenticate(request)
        read_query(request)
        reference = request.path_params["account"]
        body = await read_changes(request, AccountChangeBody, lambda: self._members.account(principal, reference))
        account: Account = await self._members.update_account(
            principal,
            reference,
            name=body.name,
            is_active=body.is_active,
            registration=body.registration,
        )
        return json_response(account)

    async def _disable_account(self, request: Request) -> Response:
        principal = await self._authenticate(request)
        read_query(request)
        await self._members.update_account(principal, request.path_params["account"], is_active=False)
        return Response(status_code=204)

    # Users

    async def _list_users(self, request: Request) -> Response:
        principal = await self._authenticate(request)
        query = read_query(request, "account_id", *USER_FILTERS, *ORDER, *PAGE)
        account = request.path_params.get("account") or query.get("account_id") or None
        items, total = await self._members.users(principal, user_query(query), account=account)
        return json_response({"items": items, "total": total})

    async def _create_user(self, request: Request) -> Response:
        principal = await self._authenticate(request)
        read_query(request)
        body = await read_json(request, UserBody)
        user = await self._members.create_user(
            principal,
            email=body.email,
            password=body.password,
            account=body.account_id,
            role=body.role,
            role_id=body.role_id,
            is_active=body.is_active,
            groups=body.groups,
        )
        return json_response(user, status=201)

    async def _get_user(self, request: Request) -> Response:
        principal = await self._authenticate(request)
        read_query(request)
        return json_response(await self._members.user(principal, request.path_params["user_id"]))

    async def _update_user(self, request: Request) -> Response:
        principal = await self._authenticate(request)
        read_query(request)
        user_id = request.path_params["user_id"]
        body = await read_changes(request, UserChangeBody, lambda: self._members.user(principal, user_id))
        user = await self._members.update_user(
            principal,
            user_id,
            email=body.email,
            role=body.role,
            role_id=body.role_id,
            is_active=body.is_active,
            groups=body.groups,
        )
        return json_response(user)

    async def _disable_user(self, request: Request) -> Response:
        principal = await self._authenticate(request)
        read_query(request)
        await self._members.update_user(principal, request.path_params["user_id"], is_active=False)
        return Response(status_code=204)

    async def _set_password(self, request: Request) -> Response:
        principal = await self._authenticate(request)
        read_query(request)
        body = await read_json(request, NewPasswordBody)
        await self._members.set_password(principal, request.path_params["user_id"], body.new_password)
        return json_response({"message": "The password is set; all logins of this user have ended."})


USER_FILTERS = ("search", "role_id", "is_active", "group")


def user_query(query: Mapping[str, str], *, group: str | None = None) -> UserQuery:
    """What a list of users is asked for. Raises BadRequest, ValidationFailed."""
    skip, limit = page(query)
    sort, descending = order(query, USER_ORDERS, "created_at")
    return UserQuery(
        search=query.get("search") or None,
        role_id=number(query, "role_id", most=2**31),
        is_active=optional_flag(query, "is_active", None),
        group=group or query.get("group") or None,
        sort=sort,
        descending=descending,
        skip=skip,
        limit=limit,
    )


def login_body(login: Login) -> dict[str, Any]:
    """The body of an answer that holds a login's tokens; more keys may be put beside them."""
    return {field: getattr(login, field) for field in Login.__struct_fields__}
