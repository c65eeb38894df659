"""REST of API keys (contract §8), in the JavaScript SDK's shapes: bodies in, services called, values out."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from snackbase.services.api_keys import ApiKeys
from snackbase.web.accounts import NO_STORE
from snackbase.web.http import Authenticate, json_response, read_json
from snackbase.web.paging import PAGE, page
from snackbase.web.query import read_query

PATH = "/api/v1/admin/api-keys"


class ApiKeyBody(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    expires_at: str | None = None
    role_id: int | None = None
    role: str | None = None
    account_id: str | None = None


class ApiKeyRoutes:
    def __init__(self, api_keys: ApiKeys, authenticate: Authenticate) -> None:
        self._api_keys = api_keys
        self._authenticate = authenticate

    def routes(self) -> list[BaseRoute]:
        return [
            Route(PATH, self._list, methods=["GET"]),
            Route(PATH, self._create, methods=["POST"]),
            Route(PATH + "/{key_id}", self._get, methods=["GET"]),
            Route(PATH + "/{key_id}", self._revoke, methods=["DELETE"]),
        ]

    async def _list(self, request: Request) -> Response:
        principal = await self._authenticate(request)
        query = read_query(request, "account_id", "offset", *PAGE)
        skip, limit = page(query)
        items, total = await self._api_keys.page(
            principal, account=query.get("account_id") or None, skip=skip, limit=limit
        )
        return json_response({"items": items, "total": total})

    async def _create(self, request: Request) -> Response:
        principal = await self._authenticate(request)
        read_query(request)
        body = await read_json(request, ApiKeyBody)
        key = await self._api_keys.create(
            principal,
            name=body.name,
            role=body.role,
            role_id=body.role_id,
            expires_at=body.expires_at,
            account=body.account_id,
        )
        return json_response(key, status=201, headers=NO_STORE)

    async def _get(self, request: Request) -> Response:
        principal = await self._authenticate(request)
        read_query(request)
        return json_response(await self._api_keys.get(principal, request.path_params["key_id"]))

    async def _revoke(self, request: Request) -> Response:
        principal = await self._authenticate(request)
        read_query(request)
        await self._api_keys.revoke(principal, request.path_params["key_id"])
        return Response(status_code=204)
