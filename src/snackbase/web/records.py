"""REST of records (contract §8): bodies and query strings in, the records service called, records out.

Decides nothing about rights or values. Every write answers with the position right after it in `X-SnackBase-Position`,
so that a client can tell what it has written from what it has yet to hear. Steps 1 and 2 of the path of a write.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from snackbase.services.listing import DEFAULT_LIMIT, ListRequest
from snackbase.services.preparation import Edit
from snackbase.services.records import Records, Written
from snackbase.web.http import Authenticate, json_response, read_json
from snackbase.web.query import flag, read_query, whole_number

POSITION_HEADER = "X-SnackBase-Position"


class NewRecords(msgspec.Struct, forbid_unknown_fields=True):
    records: list[dict[str, Any]]


class Edits(msgspec.Struct, forbid_unknown_fields=True):
    records: list[Edit]


class RecordIds(msgspec.Struct, forbid_unknown_fields=True):
    ids: list[str]


class RecordRoutes:
    """
    Args:
        authenticate_or_guest: the principal; a request without a token is a guest of the account it names.
    """

    def __init__(self, records: Records, authenticate_or_guest: Authenticate) -> None:
        self._records = records
        self._authenticate = authenticate_or_guest

    def routes(self) -> list[BaseRoute]:
        collection = "/api/v1/records/{collection}"
        return [
            Route(collection, self._list, methods=["GET"]),
            Route(collection, self._create, methods=["POST"]),
            Route(f"{collection}/batch", self._create_many, methods=["POST"]),
            Route(f"{collection}/batch", self._update_many, methods=["PATCH"]),
            Route(f"{collection}/batch", self._delete_many, methods=["DELETE"]),
            Route(f"{collection}/{{record_id}}", self._get, methods=["GET"]),
            Route(f"{collection}/{{record_id}}", self._replace, methods=["PUT"]),
            Route(f"{collection}/{{record_id}}", self._patch, methods=["PATCH"]),
            Route(f"{collection}/{{record_id}}", self._delete, methods=["DELETE"]),
        ]

    async def _list(self, request: Request) -> Response:
        principal = await self._authenticate(request)
        query = read_query(request, "skip", "limit", "sort", "fields", "filter", "total")
        asked = ListRequest(
            skip=whole_number(query, "skip", 0),
            limit=whole_number(query, "limit", DEFAULT_LIMIT),
            sort=query.get("sort", ""),
            fields=query.get("fields", ""),
            filter=query.get("filter", ""),
            total=flag(query, "total", default=True),
        )
        return json_response(await self._records.list(principal, _collection(request), asked))

    async def _get(self, request: Request) -> Response:
        principal = await self._authenticate(request)
        fields = read_query(request, "fields").get("fields", "")
        record_id = request.path_params["record_id"]
        return json_response(await self._records.get(principal, _collection(request), record_id, fields=fields))

    async def _create(self, request: Request) -> Response:
        principal = await self._authenticate(request)
        read_query(request)
        data = await read_json(request, dict[str, Any])
        written = await self._records.create(principal, _collection(request), data)
        return _answer(written, written.records[0], status=201)

    async def _replace(self, request: Request) -> Response:
        return await self._update(request, replace=True)

    async def _patch(self, request: Request) -> Response:
        return await self._update(request, replace=False)

    async def _update(self, request: Request, *, replace: bool) -> Response:
        principal = await self._authenticate(request)
        read_query(request)
        data = await read_json(request, dict[str, Any])
        record_id = request.path_params["record_id"]
        written = await self._records.update(principal, _collection(request), record_id, data, replace=replace)
        return _answer(written, written.records[0])

    async def _delete(self, request: Request) -> Response:
        principal = await self._authenticate(request)
        read_query(request)
        written = await self._records.delete(principal, _collection(request), request.path_params["record_id"])
        return Response(status_code=204, headers={POSITION_HEADER: written.position})

    async def _create_many(self, request: Request) -> Response:
        principal = await self._authenticate(request)
        read_query(request)
        body = await read_json(request, NewRecords)
        written = await self._records.create_many(principal, _collection(request), body.records)
        return _answer(written, {"created": written.records, "count": len(written.records)}, status=201)

    async def _update_many(self, request: Request) -> Response:
        principal = await self._authenticate(request)
        read_query(request)
        body = await read_json(request, Edits)
        written = await self._records.update_many(principal, _collection(request), body.records)
        return _answer(written, {"updated": written.records, "count": len(written.records)})

    async def _delete_many(self, request: Request) -> Response:
        principal = await self._authenticate(request)
        read_query(request)
        body = await read_json(request, RecordIds)
        written = await self._records.delete_many(principal, _collection(request), body.ids)
        ids = [record["id"] for record in written.records]
        return _answer(written, {"deleted": ids, "count": len(ids)})


def _collection(request: Request) -> str:
    name: str = request.path_params["collection"]
    return name


def _answer(written: Written, body: Mapping[str, Any], *, status: int = 200) -> Response:
    return json_response(body, status=status, headers={POSITION_HEADER: written.position})
