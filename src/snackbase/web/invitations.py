"""REST of invitations (contract §8), in the JavaScript SDK's shapes: bodies in, services called, values out.

Tokens of invitations stand in paths, as the SDK puts them there; the log masks them.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from snackbase.services.invitations import DEFAULT_HOURS, Invitation, Invitations
from snackbase.web.accounts import NO_STORE, login_body
from snackbase.web.http import Authenticate, json_response, read_json
from snackbase.web.paging import PAGE, page
from snackbase.web.query import read_query


class InvitationBody(msgspec.Struct, forbid_unknown_fields=True):
    """role_id: a number, also as text, or a role's name."""

    email: str
    role_id: int | str | None = None
    role: str | None = None
    groups: list[str] | None = None
    account_id: str | None = None
    expires_in_hours: float = DEFAULT_HOURS


class AcceptanceBody(msgspec.Struct, forbid_unknown_fields=True):
    password: str | None = None


class InvitationRoutes:
    """Args:
    client_address: the client's address of an ASGI scope, behind trusted proxies (Origins.client_address).
    """

    def __init__(
        self,
        invitations: Invitations,
        authenticate: Authenticate,
        *,
        client_address: Callable[[Mapping[str, Any]], str],
    ) -> None:
        self._invitations = invitations
        self._authenticate = authenticate
        self._client_address = client_address

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/api/v1/invitations", self._list, methods=["GET"]),
            Route("/api/v1/invitations", self._create, methods=["POST"]),
            Route("/api/v1/invitations/{token}", self._public, methods=["GET"]),
            Route("/api/v1/invitations/{invitation_id}", self._cancel, methods=["DELETE"]),
            Route("/api/v1/invitations/{invitation_id}/resend", self._renew, methods=["POST"]),
            Route("/api/v1/invitations/{token}/accept", self._accept, methods=["POST"]),
        ]

    async def _list(self, request: Request) -> Response:
        principal = await self._authenticate(request)
        query = read_query(request, "status_filter", "account_id", *PAGE)
        skip, limit = page(query)
        found, total = await self._invitations.page(
            principal,
            account=query.get("account_id") or None,
            status=query.get("status_filter") or None,
            skip=skip,
            limit=limit,
        )
        return json_response({"invitations": [_shown(one) for one in found], "total": total})

    async def _create(self, request: Request) -> Response:
        principal = await self._authenticate(request)
        read_query(request)
        body = await read_json(request, InvitationBody)
        text = body.role_id if isinstance(body.role_id, str) else ""
        numeric = text.isascii() and text.isdecimal() and len(text) <= 9
        invitation = await self._invitations.create(
            principal,
            email=body.email,
            role=text if text and not numeric else body.role,
            role_id=int(text) if numeric else body.role_id if isinstance(body.role_id, int) else None,
            groups=body.groups,
            account=body.account_id,
            hours=body.expires_in_hours,
        )
        return json_response(_shown(invitation), status=201, headers=NO_STORE)

    async def _renew(self, request: Request) -> Response:
        principal = await self._authenticate(request)
        read_query(request)
        invitation = await self._invitations.renew(principal, request.path_params["invitation_id"])
        message = "The invitation has a new token; no e-mail is sent, hand it on yourself."
        return json_response({"message": message, **_shown(invitation)}, headers=NO_STORE)

    async def _cancel(self, request: Request) -> Response:
        principal = await self._authenticate(request)
        read_query(request)
        await self._invitations.cancel(principal, request.path_params["invitation_id"])
        return Response(status_code=204)

    async def _public(self, request: Request) -> Response:
        read_query(request)
        return json_response(await self._invitations.public(request.path_params["token"]), headers=NO_STORE)

    async def _accept(self, request: Request) -> Response:
        read_query(request)
        body = await read_json(request, AcceptanceBody)
        login = await self._invitations.accept(
            request.path_params["token"], password=body.password, address=self._client_address(request.scope)
        )
        return json_response({"message": "Welcome.", **login_body(login)}, status=201, headers=NO_STORE)


def _shown(invitation: Invitation) -> dict[str, Any]:
    """`token` only where there is one to show."""
    shown = msgspec.structs.asdict(invitation)
    if invitation.token is None:
        del shown["token"]
    return shown
