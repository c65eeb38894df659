"""What operators and machines ask: is it alive, may it get traffic, its numbers.

Cheap: no route here reads the database or needs a user.
"""

import secrets
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version

from starlette.requests import Request
from starlette.responses import Response
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


def _state(reason: str | None) -> Response:
    if reason is None:
        return json_response({"status": "ok", "version": VERSION})
    body = {"status": "unavailable", "reason": reason, "version": VERSION}
    return json_response(body, status=503, headers={"Retry-After": "1"})
