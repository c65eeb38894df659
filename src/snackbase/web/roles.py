"""REST of roles and groups (contract §8): bodies in, services called, values out. Decides nothing."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from snackbase.errors import NotFound
from snackbase.services.groups import Groups
from snackbase.services.members import Members
from snackbase.services.roles import Roles
from snackbase.web.accounts import USER_FILTERS, user_query
from snackbase.web.http import Authenticate, json_response, read_changes, read_json
from snackbase.web.paging import ORDER, PAGE, page
from snackbase.web.query import read_query


class RoleBody(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    description: str | None = None


class GroupBody(RoleBody, forbid_unknown_fields=True):
    """account_id: for superadmins."""

    account_id: str | None = None


class NamedChangeBody(msgspec.Struct, forbid_unknown_fields=True):
    """None, or a key left out: unchanged."""

    name: str | None = None
    description: str | None = None


class MemberBody(msgspec.Struct, forbid_unknown_fields=True):
    user_id: str


class RoleRoutes:
    def __init__(self, roles: Roles, authenticate: Authenticate) -> None:
        self._roles = roles
        self._authenticate = authenticate

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/api/v1/roles", self._list, methods=["GET"]),
            Route("/api/v1/roles", self._create, methods=["POST"]),
            Route("/api/v1/roles/{role_id}", self._get, methods=["GET"]),
            Route("/api/v1/roles/{role_id}", self._update, methods=["PUT", "PATCH"]),
            Route("/api/v1/roles/{role_id}", self._delete, methods=["DELETE"]),
        ]

    async def _list(self, request: Request) -> Response:
        await self._authenticate(request)
        read_query(request)
        roles = await self._roles.all()
        return json_response({"items": roles, "total": len(roles)})

    async def _create(self, request: Request) -> Response:
        principal = await self._authenticate(request)
        read_query(request)
        body = await read_json(request, RoleBody)
        role = await self._roles.create(principal, name=body.name, description=body.description or "")
        return json_response(role, status=201)

    async def _get(self, request: Request) -> Response:
        await self._authenticate(request)
        read_query(request)
        return json_response(await self._roles.get(_role_id(request)))

    async def _update(self, request: Request) -> Response:
        principal = await self._authenticate(request)
        read_query(request)
        body = await read_changes(request, NamedChangeBody, lambda: self._roles.get(_role_id(request)))
        role = await self._roles.update(principal, _role_id(request), name=body.name, description=body.description)
        return json_response(role)

    async def _delete(self, request: Request) -> Response:
        principal = await self._authenticate(request)
        read_query(request)
        await self._roles.delete(principal, _role_id(request))
        return Response(status_code=204)


class GroupRoutes:
    def __init__(self, groups: Groups, members: Members, authenticate: Authenticate) -> None:
        self._groups = groups
        self._members = members
        self._authenticate = authenticate

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/api/v1/groups", self._list, methods=["GET"]),
            Route("/api/v1/groups", self._create, methods=["POST"]),
            Route("/api/v1/groups/{group_id}", self._get, methods=["GET"]),
            Route("/api/v1/groups/{group_id}", self._update, methods=["PUT", "PATCH"]),
            Route("/api/v1/groups/{group_id}", self._delete, methods=["DELETE"]),
            Route("/api/v1/groups/{group_id}/users", self._list_users, methods=["GET"]),
            Route("/api/v1/groups/{group_id}/users", self._add, methods=["POST"]),
            Route("/api/v1/groups/{group_id}/users/{user_id}", self._remove, methods=["DELETE"]),
        ]

    async def _list(self, request: Request) -> Response:
        principal = await self._authenticate(request)
        query = read_query(request, "account_id", "search", *PAGE)
        skip, limit = page(query)
        items, total = await self._groups.page(
            principal,
            account=query.get("account_id") or None,
            search=query.get("search") or None,
            skip=skip,
            limit=limit,
        )
        return json_response({"items": items, "total": total, "page": skip // limit + 1, "page_size": limit})

    async def _create(self, request: Request) -> Response:
        principal = await self._authenticate(request)
        read_query(request)
        body = await read_json(request, GroupBody)
        group = await self._groups.create(
            principal, name=body.name, description=body.description or "", account=body.account_id
        )
        return json_response(group, status=201)

    async def _get(self, request: Request) -> Response:
        principal = await self._authenticate(request)
        read_query(request)
        return json_response(await self._groups.get(principal, request.path_params["group_id"]))

    async def _update(self, request: Request) -> Response:
        principal = await self._authenticate(request)
        read_query(request)
        group_id = request.path_params["group_id"]
        body = await read_changes(request, NamedChangeBody, lambda: self._groups.get(principal, group_id))
        group = await self._groups.update(principal, group_id, name=body.name, description=body.description)
        return json_response(group)

    async def _delete(self, request: Request) -> Response:
        principal = await self._authenticate(request)
        read_query(request)
        await self._groups.delete(principal, request.path_params["group_id"])
        return Response(status_code=204)

    async def _list_users(self, request: Request) -> Response:
        principal = await self._authenticate(request)
        query = read_query(request, *(name for name in USER_FILTERS if name != "group"), *ORDER, *PAGE)
        group = await self._groups.get(principal, request.path_params["group_id"])
        wanted = user_query(query, group=group.name)
        items, total = await self._members.users(principal, wanted, account=group.account_id)
        return json_response({"items": items, "total": total})

    async def _add(self, request: Request) -> Response:
        principal = await self._authenticate(request)
        read_query(request)
        body = await read_json(request, MemberBody)
        await self._groups.add(principal, request.path_params["group_id"], body.user_id)
        return Response(status_code=204)

    async def _remove(self, request: Request) -> Response:
        principal = await self._authenticate(request)
        read_query(request)
        await self._groups.remove(principal, request.path_params["group_id"], request.path_params["user_id"])
        return Response(status_code=204)


def _role_id(request: Request) -> int:
    text = request.path_params["role_id"]
    if not (text.isascii() and text.isdecimal() and len(text) <= 9):
        raise NotFound("There is no such role.", code="role_not_found")
    return int(text)
