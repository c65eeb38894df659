"""What operators and machines ask: is it alive, may it get traffic, its numbers; and a page for a browser.

Cheap: no route here reads the database or needs a user.
"""

import secrets
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from snackbase.auth import token_of
from snackbase.config import Settings
from snackbase.errors import Forbidden, Unauthorized
from snackbase.metrics import CONTENT_TYPE, Metrics, render_all
from snackbase.origins import Origins
from snackbase.web.colleagues import Colleagues
from snackbase.web.http import json_response

try:
    VERSION = version("snackbase")
except PackageNotFoundError:  # run from a source tree that is not installed
    VERSION = "unknown"

PAGE = f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>SnackBase</title>
<style>
 body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 42rem; margin: 4rem auto; padding: 0 1rem; color: #222 }}
 code {{ background: #f2f2f2; padding: .1em .3em; border-radius: 3px }}
</style>
<h1>SnackBase is running</h1>
<p>Version {VERSION}. Records over REST, every committed change over WebSocket and Server-Sent Events.</p>
<ul>
 <li>REST: <code>/api/v1</code>, beginning with <code>POST /api/v1/auth/login</code></li>
 <li>WebSocket: <code>/api/v1/realtime/ws</code></li>
 <li>Server-Sent Events: <code>/api/v1/realtime/subscribe</code></li>
 <li>What it takes and gives, route by route: <a href="../docs">/docs</a></li>
 <li>State of the server: <a href="../health">/health</a>, <a href="../ready">/ready</a>,
  <a href="../live">/live</a></li>
</ul>
<p>How to begin stands in the README; <code>snackbase --help</code> lists the commands.</p>
"""


class OpsRoutes:
    """
    Args:
        fault: what is wrong with the store now, or None.
        draining: whether this process is about to stop. colleagues: the other workers of this server, if it has any.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        origins: Origins,
        metrics: Metrics,
        fault: Callable[[], str | None],
        draining: Callable[[], bool],
        colleagues: Colleagues | None = None,
    ) -> None:
        self._metrics_token = settings.metrics_token
        self._origins = origins
        self._metrics = metrics
        self._fault = fault
        self._draining = draining
        self._colleagues = colleagues

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/", self._console),
            Route("/_", self._console),
            Route("/_/", self._page),
            Route("/health", self._health),
            Route("/api/v1/health", self._health),
            Route("/ready", self._readiness),
            Route("/live", self._liveness),
            Route("/metrics", self._numbers),
        ]

    async def _liveness(self, request: Request) -> Response:
        """200 as long as the process answers at all."""
        return _state(None)

    async def _health(self, request: Request) -> Response:
        """503 while something is broken that does not mend itself by waiting for a restart to end."""
        return _state(self._fault())

    async def _readiness(self, request: Request) -> Response:
        """503 while this process should get no traffic."""
        return _state("draining" if self._draining() else self._fault())

    async def _numbers(self, request: Request) -> Response:
        if self._metrics_token:
            given = token_of(request.headers) or ""
            if not secrets.compare_digest(given.encode(), self._metrics_token.encode()):
                raise Unauthorized("/metrics needs the token of SNACKBASE_METRICS_TOKEN as a bearer token.")
        elif not self._origins.from_loopback(request.scope):
            raise Forbidden(
                "Only this machine may read /metrics, unless SNACKBASE_METRICS_TOKEN is set and sent as bearer token.",
                code="metrics_local_only",
            )
        colleagues = self._colleagues
        body = self._metrics.render() if colleagues is None else render_all(await colleagues.ask())
        return Response(body, media_type=CONTENT_TYPE)

    async def _console(self, request: Request) -> Response:
        return RedirectResponse(f"{request.scope.get('root_path', '')}/_/")

    async def _page(self, request: Request) -> Response:
        headers = {"Content-Security-Policy": "frame-ancestors 'none'; base-uri 'none'; object-src 'none'"}
        return HTMLResponse(PAGE, headers=headers)


def _state(reason: str | None) -> Response:
    if reason is None:
        return json_response({"status": "ok", "version": VERSION})
    body = {"status": "unavailable", "reason": reason, "version": VERSION}
    return json_response(body, status=503, headers={"Retry-After": "1"})
