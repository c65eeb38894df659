"""The admin console at `/_/`: a few files of the package, as they are.

They are read once and looked up by name, so no path of a request ever reaches the file system. `client/` is the
JavaScript client (clients/js), of which there is no second copy: a link here, its files in a wheel. The console uses
the same REST and realtime routes as everybody else; no other module knows it.
"""

import hashlib
from collections.abc import Awaitable, Callable, Iterator, Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable

import msgspec
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Match, Route
from starlette.types import Receive, Scope, Send

from snackbase.errors import NotFound

PAGE = "index.html"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
"""What is served. Anything else that lies beside it, such as the client's type declarations, is not."""

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
"""Only its own files run and it talks to this server only, WebSockets included (CSP level 3, §6.7.2.8). No text can
become markup: with Trusted Types, `innerHTML` and its like throw."""


class File(msgspec.Struct, frozen=True):
    """One file as it is sent. `etag`: a strong validator (RFC 9110 §8.8.3), quotes included."""

    body: bytes
    media_type: str
    etag: str


def read_files(folder: Traversable, prefix: str = "") -> Iterator[tuple[str, File]]:
    """Every file below a folder that may be served, by its name with `/` between folders."""
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from read_files(entry, f"{prefix}{entry.name}/")
        elif media_type := TYPES.get(f".{entry.name.rpartition('.')[2]}"):
            body = entry.read_bytes()
            etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
            yield f"{prefix}{entry.name}", File(body=body, media_type=media_type, etag=etag)


class _Files(BaseRoute):
    """The route of the files, which stands in no document: what a browser loads for a page is no interface."""

    path = "/_/"

    def __init__(self, endpoint: Callable[[Request], Awaitable[Response]]) -> None:
        self._route = Route("/_/{name:path}", endpoint)
        self.methods = self._route.methods

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        return self._route.matches(scope)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._route.handle(scope, receive, send)


class ConsoleRoutes:
    """
    Args:
        enabled: whether it is served at all; else 404.
        served: its files by name; None = those of the package.
    """

    def __init__(self, *, enabled: bool, served: Mapping[str, File] | None = None) -> None:
        self._enabled = enabled
        self._served = dict(read_files(files("snackbase") / "console")) if served is None else served

    def routes(self) -> list[BaseRoute]:
        return [Route("/", self._lead), Route("/_", self._lead), Route("/_/", self._file), _Files(self._file)]

    async def _lead(self, request: Request) -> Response:
        self._check_enabled()
        return RedirectResponse(f"{request.scope.get('root_path', '')}/_/")

    async def _file(self, request: Request) -> Response:
        self._check_enabled()
        found = self._served.get(request.path_params.get("name", PAGE))
        if found is None:
            raise NotFound("The console has no such file.", code="route_not_found")
        # Kept by the browser, but asked for every time: after an upgrade no old file meets a new one.
        headers = {"ETag": found.etag, "Cache-Control": "no-cache", "Content-Security-Policy": POLICY}
        if _matches(request.headers.get("if-none-match", ""), found.etag):
            return Response(status_code=304, headers=headers)
        return Response(found.body, headers=headers, media_type=found.media_type)

    def _check_enabled(self) -> None:
        if not self._enabled:
            raise NotFound("The console is switched off here.")


def _matches(asked: str, etag: str) -> bool:
    """`If-None-Match`, which compares weakly (RFC 9110 §13.1.2): a proxy that compresses marks the tag with `W/`."""
    return any(one.strip().removeprefix("W/") in ("*", etag) for one in asked.split(","))
