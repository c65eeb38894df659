"""REST of collections and their rules (contract §8), in the shapes of the contract and of existing clients at once.

`schema` and `fields` hold the same list, counts have both spellings, lists of fields are `*` or names with commas.
Decides nothing: rights and definitions are the service's.
"""

from collections.abc import Callable
from typing import Any, Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from snackbase.catalog import OPERATIONS, rule_text
from snackbase.errors import BadRequest
from snackbase.model import Collection
from snackbase.services.collections import Collections, SortBy
from snackbase.services.porting import Document, Porting, Strategy, rights_of
from snackbase.services.trials import Trial, TrialAuth, auth_of_case
from snackbase.web.http import Authenticate, json_response, read_json
from snackbase.web.query import read_query, whole_number

MAX_PAGE_SIZE = 1000
SORTED_BY: tuple[SortBy, ...] = ("name", "created_at", "updated_at")


class TypedField(msgspec.Struct):
    name: str


class RuleToValidate(msgspec.Struct, forbid_unknown_fields=True):
    """`collectionFields`: names (or fields with names) where there is no collection yet. `filter`: what a list or
    subscription adds to a list rule; `auth`: the user whose plan is wanted."""

    rule: str | None
    operation: Literal["list", "view", "create", "update", "delete"] = "list"
    collection: str | None = None
    collection_fields: list[str | TypedField] = msgspec.field(default_factory=list, name="collectionFields")
    filter: str = ""
    auth: TrialAuth | None = None


class RuleToTest(msgspec.Struct, forbid_unknown_fields=True):
    """A rule, and a case to try it on."""

    rule: str | None
    context: Trial = Trial()
    collection: str | None = None


class ToImport(msgspec.Struct, forbid_unknown_fields=True):
    """A document as the export gave it."""

    data: Document
    strategy: Strategy = "error"


class CollectionRoutes:
    """
    Args:
        now_us: the wall clock, microseconds since the epoch.
    """

    def __init__(self, collections: Collections, authenticate: Authenticate, *, now_us: Callable[[], int]) -> None:
        self._collections = collections
        self._porting = Porting(collections)
        self._authenticate = authenticate
        self._now_us = now_us

    def routes(self) -> list[BaseRoute]:
        every, one = "/api/v1/collections", "/api/v1/collections/{collection}"
        return [
            Route(every, self._list, methods=["GET"]),
            Route(every, self._create, methods=["POST"]),
            Route(f"{every}/names", self._names, methods=["GET"]),
            Route(f"{every}/export", self._export, methods=["GET"]),
            Route(f"{every}/import", self._import, methods=["POST"]),
            Route(one, self._get, methods=["GET"]),
            Route(one, self._update, methods=["PUT", "PATCH"]),
            Route(one, self._drop, methods=["DELETE"]),
            Route(f"{one}/rules", self._rules, methods=["GET"]),
            Route(f"{one}/rules", self._update_rules, methods=["PUT", "PATCH"]),
            Route("/api/v1/rules/validate", self._validate, methods=["POST"]),
            Route("/api/v1/rules/test", self._test, methods=["POST"]),
        ]

    async def _list(self, request: Request) -> Response:
        principal = await self._authenticate(request)
        query = read_query(request, "page", "page_size", "sort_by", "sort_order", "search")
        page, size = whole_number(query, "page", 1), whole_number(query, "page_size", MAX_PAGE_SIZE)
        if page < 1 or not 1 <= size <= MAX_PAGE_SIZE:
            raise BadRequest(f"page counts from 1, page_size is 1 to {MAX_PAGE_SIZE}.", code="invalid_page")
        sort_by, order = query.get("sort_by", "name"), query.get("sort_order", "asc")
        if sort_by not in SORTED_BY or order not in {"asc", "desc"}:
            message = f"sort_by is one of {', '.join(SORTED_BY)}, sort_order asc or desc."
            raise BadRequest(message, code="invalid_sort")
        found = self._collections.list(
            principal, search=query.get("search", ""), sort_by=sort_by, descending=order == "desc"
        )
        shown = found[(page - 1) * size : page * size]
        return json_response(
            {
                "items": [await self._described(collection) for collection in shown],
                "total": len(found),
                "page": page,
                "page_size": size,
                "total_pages": -(-len(found) // size),
            }
        )

    async def _names(self, request: Request) -> Response:
        principal = await self._authenticate(request)
        read_query(request)
        names = [collection.name for collection in self._collections.list(principal)]
        return json_response({"names": names, "total": len(names)})

    async def _get(self, request: Request) -> Response:
        principal = await self._authenticate(request)
        read_query(request)
        return json_response(await self._described(self._collections.get(principal, _reference(request))))

    async def _create(self, request: Request) -> Response:
        principal = await self._authenticate(request)
        read_query(request)
        made = await self._collections.create(principal, await read_json(request, dict[str, Any]))
        return json_response(await self._described(made), status=201)

    async def _update(self, request: Request) -> Response:
        principal = await self._authenticate(request)
        read_query(request)
        body = await read_json(request, dict[str, Any])
        made = await self._collections.update(principal, _reference(request), body)
        return json_response(await self._described(made))

    async def _drop(self, request: Request) -> Response:
        principal = await self._authenticate(request)
        read_query(request)
        await self._collections.drop(principal, _reference(request))
        return Response(status_code=204)

    async def _rules(self, request: Request) -> Response:
        principal = await self._authenticate(request)
        read_query(request)
        return json_response(rights_of(self._collections.get(principal, _reference(request))))

    async def _update_rules(self, request: Request) -> Response:
        principal = await self._authenticate(request)
        read_query(request)
        body = await read_json(request, dict[str, Any])
        return json_response(rights_of(await self._collections.update_rights(principal, _reference(request), body)))

    async def _validate(self, request: Request) -> Response:
        principal = await self._authenticate(request)
        read_query(request)
        body = await read_json(request, RuleToValidate)
        names = [field if isinstance(field, str) else field.name for field in body.collection_fields]
        found = await self._collections.validate(
            principal,
            body.rule,
            operation=body.operation,
            collection=body.collection,
            fields=names,
            wanted=body.filter,
            auth=None if body.auth is None else auth_of_case(body.auth),
        )
        return json_response(found)

    async def _test(self, request: Request) -> Response:
        principal = await self._authenticate(request)
        read_query(request)
        body = await read_json(request, RuleToTest)
        result = self._collections.trial(principal, body.rule or "", body.context, collection=body.collection)
        return json_response({"result": body.rule is not None and result})

    async def _export(self, request: Request) -> Response:
        principal = await self._authenticate(request)
        wanted = [one.strip() for one in read_query(request, "collection_ids").get("collection_ids", "").split(",")]
        return json_response(self._porting.document(principal, [one for one in wanted if one], now_us=self._now_us()))

    async def _import(self, request: Request) -> Response:
        principal = await self._authenticate(request)
        read_query(request)
        body = await read_json(request, ToImport)
        return json_response(await self._porting.bring_in(principal, body.data, body.strategy))

    async def _described(self, collection: Collection) -> dict[str, Any]:
        count = await self._collections.count(collection)
        fields = list(collection.fields)
        return {
            "id": collection.id,
            "name": collection.name,
            "table_name": collection.table,
            "schema": fields,
            "fields": fields,
            "indexes": list(collection.indexes),
            **rights_of(collection),
            "fields_count": len(fields),
            "field_count": len(fields),
            "records_count": count,
            "record_count": count,
            "has_public_access": any(rule_text(collection.rules, operation) == "" for operation in OPERATIONS),
            "created_at": collection.created_at,
            "updated_at": collection.updated_at,
        }


def _reference(request: Request) -> str:
    reference: str = request.path_params["collection"]
    return reference
