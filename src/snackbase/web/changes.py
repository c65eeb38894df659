"""`GET /realtime/changes` (contract §8): the change log for programs that poll, as the principal may see it.

Reads the query and hands it to the hub's polling, which judges positions and rights as it does for connections.
"""

from collections.abc import Sequence

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from snackbase.errors import BadRequest, NotFound
from snackbase.hub.polling import Polling
from snackbase.realtime import protocol
from snackbase.realtime.protocol import ProtocolError, SubscribeRequest
from snackbase.services.values import did_you_mean
from snackbase.web.http import Authenticate, json_response
from snackbase.web.query import whole_number

PARAMETERS = ("since", "collection", "filter", "fields", "limit")
DEFAULT_LIMIT = 100


class ChangeRoutes:
    """
    Args:
        enabled: whether realtime is switched on; else 404 as on its other endpoints.
        most: collections in one request.
    """

    def __init__(self, polling: Polling, authenticate: Authenticate, *, enabled: bool, most: int) -> None:
        self._polling = polling
        self._authenticate = authenticate
        self._enabled = enabled
        self._most = most

    def routes(self) -> list[BaseRoute]:
        return [Route("/api/v1/realtime/changes", self._changes, methods=["GET"])]

    async def _changes(self, request: Request) -> Response:
        if not self._enabled:
            raise NotFound("Realtime is switched off here.")
        principal = await self._authenticate(request)
        query = request.query_params
        try:
            requests = _requests(query, self._most)
            limit = whole_number(dict(query), "limit", DEFAULT_LIMIT)
            polled = await self._polling.changes(principal, requests, since=query.get("since") or None, limit=limit)
        except ProtocolError as error:
            raise error.over_http() from None
        return json_response(polled)


def _requests(query: QueryParams, most: int) -> Sequence[SubscribeRequest]:
    """One a collection; a filter or fields need exactly one. Raises BadRequest, ProtocolError."""
    for name in query:
        if name not in PARAMETERS:
            hint = did_you_mean(name, PARAMETERS)
            raise BadRequest(f"There is no parameter {name[:64]!r} here.{hint}", code="unknown_parameter")
    names = list(dict.fromkeys(query.getlist("collection")))
    if not 1 <= len(names) <= most:
        raise BadRequest(f"Name 1 to {most} collections, or * for all.", code="invalid_message")
    filter_text, fields = query.get("filter") or None, query.get("fields") or None
    if len(names) > 1 and (filter_text or fields):
        raise BadRequest("A filter or fields go with exactly one collection.", code="invalid_message")
    requests = [SubscribeRequest(collection=name, filter=filter_text, fields=fields) for name in names]
    for request in requests:
        protocol.check_request(request)
    return requests
