"""`/openapi.json`, `/asyncapi.json` and `/docs`: the documents, made when they are asked for and kept while they hold.

An OpenAPI document is kept for each kind of asker until a collection or a rule changes; it is made in a thread, since
a thousand collections take a while.
"""

import asyncio
import base64
import hashlib
import re
from collections.abc import Callable, Sequence
from importlib.resources import files

import msgspec
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Route

from snackbase.catalog import Catalog
from snackbase.errors import Unauthorized
from snackbase.web.documents import asyncapi
from snackbase.web.documents.openapi import Audience, OpenApi
from snackbase.web.documents.tables import OPERATIONS, STAND_INS
from snackbase.web.http import Authenticate, raw_json_response
from snackbase.web.ops import VERSION

PAGE = files("snackbase.web.documents").joinpath("page.html").read_text(encoding="utf-8")
MOST_KEPT = 12


class DocumentRoutes:
    """
    Args:
        built_in: all other routes, asked for when the first document is made.
        authenticate_or_guest: a token is not needed, but a wrong one is refused.
    """

    def __init__(
        self, catalog: Catalog, authenticate_or_guest: Authenticate, built_in: Callable[[], Sequence[BaseRoute]]
    ) -> None:
        self._catalog = catalog
        self._authenticate = authenticate_or_guest
        self._built_in = built_in
        self._maker: OpenApi | None = None
        self._making = asyncio.Lock()
        self._kept: dict[tuple[int, Audience, str], bytes] = {}

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/openapi.json", self._openapi, methods=["GET"]),
            Route("/asyncapi.json", self._asyncapi_document, methods=["GET"]),
            Route("/docs", self._page, methods=["GET"]),
        ]

    async def _openapi(self, request: Request) -> Response:
        root = request.scope.get("root_path", "")
        return raw_json_response(await self._document(await self._audience(request), root))

    async def _asyncapi_document(self, request: Request) -> Response:
        root = request.scope.get("root_path", "")
        return raw_json_response(msgspec.json.encode(asyncapi.document(VERSION, root=root)))

    async def _page(self, request: Request) -> Response:
        return HTMLResponse(PAGE, headers={"Content-Security-Policy": POLICY})

    async def _audience(self, request: Request) -> Audience:
        """Raises Unauthorized: a token that is dead. Forbidden, NotFound: X-Account-ID."""
        try:
            principal = await self._authenticate(request)
        except Unauthorized as error:
            if error.code == "token_missing":
                return "guest"
            raise
        if principal.superadmin:
            return "superadmin"
        return "guest" if principal.kind == "guest" else "member"

    async def _document(self, audience: Audience, root: str) -> bytes:
        async with self._making:
            version, definitions = self._catalog.version, self._catalog.all()
            key = (version, audience, root)
            if key not in self._kept:
                if self._maker is None:
                    self._maker = OpenApi(self._built_in(), OPERATIONS, version=VERSION, schemas=STAND_INS)
                maker = self._maker
                made = await asyncio.to_thread(
                    lambda: msgspec.json.encode(maker.document(definitions, audience, root=root))
                )
                held = {known: body for known, body in self._kept.items() if known[0] == version}
                self._kept = {**(held if len(held) < MOST_KEPT else {}), key: made}
            return self._kept[key]


def _policy(page: str) -> str:
    """Nothing but the page's own script and style runs, and it talks to this server only (CSP level 3, §2.3.1)."""

    def allowed(tag: str) -> str:
        found = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digests = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in found)
        return " ".join(f"'sha256-{digest}'" for digest in digests)

    return (
        f"default-src 'none'; script-src {allowed('script')}; style-src {allowed('style')}; connect-src 'self'; "
        "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    )


POLICY = _policy(PAGE)
