"""`POST /realtime/explain`: for administrators, why a change reached a client or did not (docs/howto).

An account's admin asks about their own account, a superadmin about the one they act in. Answers for this process's
connections.
"""

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from snackbase.errors import BadRequest, Forbidden
from snackbase.hub import Connection, Hub
from snackbase.web.http import Authenticate, json_response, read_json


class Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    position: str | None = None
    record_id: str | None = None
    collection: str | None = None
    user: str | None = None
    connection: str | None = None


class ExplainRoutes:
    def __init__(self, hub: Hub, authenticate: Authenticate) -> None:
        self._hub = hub
        self._authenticate = authenticate

    def routes(self) -> list[BaseRoute]:
        return [Route("/api/v1/realtime/explain", self._explain, methods=["POST"])]

    async def _explain(self, request: Request) -> Response:
        principal = await self._authenticate(request)
        if not principal.superadmin and principal.role != "admin":
            raise Forbidden("Only administrators may ask why somebody received something.")
        asked = await read_json(request, Question)
        if asked.user is None and asked.connection is None:
            raise BadRequest("Name a `user` (id or email) or a `connection`.", code="invalid_message")
        explainer = self._hub.explainer
        change = await explainer.change(
            principal.account_id, position=asked.position, record_id=asked.record_id, collection=asked.collection
        )
        live = self._hub.feeds.get(principal.account_id)
        acting = [one for one in live.connections if isinstance(one, Connection) and one.live is live] if live else []
        return json_response(explainer.explain(change, acting, user_id=asked.user, connection_id=asked.connection))
