"""REST of records (contract §8): bodies and query strings in, the records service called, records out.

Decides nothing about rights or values. Every write answers with the position right after it in `X-SnackBase-Position`,
so that a client can tell what it has written from what it has yet to hear. Steps 1 and 2 of the path of a write.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from snackbase.model import Principal, Record
from snackbase.services.idempotency import Once, Repeats, check_key, fingerprint_of, owner_of
from snackbase.services.listing import DEFAULT_LIMIT, ListRequest
from snackbase.services.preparation import Edit
from snackbase.services.records import Records, Written
from snackbase.storage.base import Kept
from snackbase.web.http import Authenticate, json_response, raw_json_response, read_json
from snackbase.web.query import optional_flag, read_query, whole_number

T = TypeVar("T")
encode = msgspec.json.encode

POSITION_HEADER = "X-SnackBase-Position"
REPLAYED_HEADER = "Idempotency-Replayed"
LIST_PARAMETERS = (
    *("skip", "limit", "sort", "fields", "filter", "expand", "total"),
    *("cursor", "cursor_before", "include_count"),
)


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

    def __init__(self, records: Records, repeats: Repeats, authenticate_or_guest: Authenticate) -> None:
        self._records = records
        self._repeats = repeats
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
        query = read_query(request, *LIST_PARAMETERS)
        asked = ListRequest(
            skip=whole_number(query, "skip", 0),
            limit=whole_number(query, "limit", DEFAULT_LIMIT),
            sort=query.get("sort", ""),
            fields=query.get("fields", ""),
            filter=query.get("filter", ""),
            expand=query.get("expand", ""),
            total=optional_flag(query, "total", optional_flag(query, "include_count", None)),
            cursor=query.get("cursor", ""),
            cursor_before=query.get("cursor_before", ""),
        )
        return json_response(await self._records.list(principal, _collection(request), asked))

    async def _get(self, request: Request) -> Response:
        principal = await self._authenticate(request)
        query = read_query(request, "fields", "expand")
        record_id, fields, expand = request.path_params["record_id"], query.get("fields", ""), query.get("expand", "")
        found = await self._records.get(principal, _collection(request), record_id, fields=fields, expand=expand)
        return json_response(found)

    async def _create(self, request: Request) -> Response:
        data, name = Sent(request, dict[str, Any]), _collection(request)
        return await self._answer(
            request, lambda who, once: self._records.create(who, name, data.value, once=once), _first, data, status=201
        )

    async def _replace(self, request: Request) -> Response:
        return await self._update(request, replace=True)

    async def _patch(self, request: Request) -> Response:
        return await self._update(request, replace=False)

    async def _update(self, request: Request, *, replace: bool) -> Response:
        data, name, record_id = Sent(request, dict[str, Any]), _collection(request), request.path_params["record_id"]
        return await self._answer(
            request,
            lambda who, once: self._records.update(who, name, record_id, data.value, replace=replace, once=once),
            _first,
            data,
        )

    async def _delete(self, request: Request) -> Response:
        name, record_id = _collection(request), request.path_params["record_id"]
        return await self._answer(
            request, lambda who, once: self._records.delete(who, name, record_id, once=once), _nothing, status=204
        )

    async def _create_many(self, request: Request) -> Response:
        sent, name = Sent(request, NewRecords), _collection(request)
        return await self._answer(
            request,
            lambda who, once: self._records.create_many(who, name, sent.value.records, once=once),
            lambda records: encode({"created": records, "count": len(records)}),
            sent,
            status=201,
        )

    async def _update_many(self, request: Request) -> Response:
        sent, name = Sent(request, Edits), _collection(request)
        return await self._answer(
            request,
            lambda who, once: self._records.update_many(who, name, sent.value.records, once=once),
            lambda records: encode({"updated": records, "count": len(records)}),
            sent,
        )

    async def _delete_many(self, request: Request) -> Response:
        sent, name = Sent(request, RecordIds), _collection(request)
        return await self._answer(
            request,
            lambda who, once: self._records.delete_many(who, name, sent.value.ids, once=once),
            lambda records: encode({"deleted": [one["id"] for one in records], "count": len(records)}),
            sent,
        )

    async def _answer(
        self,
        request: Request,
        write: Callable[[Principal, Once | None], Awaitable[Written]],
        body: Callable[[Sequence[Record]], bytes],
        sent: "Sent[Any] | None" = None,
        *,
        status: int = 200,
    ) -> Response:
        """Read the request, write, answer; with an Idempotency-Key as the first time.

        Args:
            body: makes the answer's body from the records as shown. sent: the request's body, if it needs one.
        """
        principal = await self._authenticate(request)
        read_query(request)
        key = check_key(request.headers.getlist("idempotency-key"))
        if sent is not None:
            await sent.read()
        if key is None:
            written = await write(principal, None)
            return _response(status, body(written.records), written.position)
        fingerprint = fingerprint_of(principal, request.method, _path(request), await request.body())
        once = Once(owner=owner_of(principal), key=key, fingerprint=fingerprint, status=status, body=body)
        first: list[Written] = []

        async def write_once() -> Kept | None:
            first.append(await write(principal, once))
            return first[0].repeated

        kept = await self._repeats.run(once, write_once)
        if kept is not None:
            return _response(kept.status, kept.body, kept.position, replayed=True)
        return _response(status, body(first[0].records), first[0].position)


class Sent(Generic[T]):
    """A request's body, read once whoever asks is known: `value` is there after `read`."""

    def __init__(self, request: Request, type: type[T]) -> None:
        self._request = request
        self._type = type
        self.value: T

    async def read(self) -> None:
        self.value = await read_json(self._request, self._type)


def _collection(request: Request) -> str:
    name: str = request.path_params["collection"]
    return name


def _path(request: Request) -> str:
    return f"{_collection(request)}/{request.path_params.get('record_id', '')}"


def _first(records: Sequence[Record]) -> bytes:
    return encode(records[0])


def _nothing(records: Sequence[Record]) -> bytes:
    return b""


def _response(status: int, body: bytes, position: str, *, replayed: bool = False) -> Response:
    headers = {POSITION_HEADER: position, **({REPLAYED_HEADER: "true"} if replayed else {})}
    return raw_json_response(body, status=status, headers=headers) if body else Response(b"", status, headers)
