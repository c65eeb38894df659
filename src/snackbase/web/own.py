"""`app.route`: endpoints of the application's own, served beside the built-in ones (contract §9).

A handler takes Starlette's Request and returns its Response, or anything that is JSON. Owns that the request's
principal is known before the handler runs, at `request.state.principal`; a token is required unless the endpoint says
otherwise. What a handler raises is answered as contract §6 says. Sync handlers run in worker threads.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route

from snackbase.config import ConfigError
from snackbase.errors import Unauthorized
from snackbase.model import Principal
from snackbase.web.guard import Guard
from snackbase.web.http import json_response

Auth = Literal["required", "optional", "none"]
"""required: 401 without a valid token. optional: a wrong token is refused, none means a guest or nobody. none: tokens
are not looked at."""
Handler = TypeVar("Handler", bound=Callable[..., Any])


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    path: str
    methods: tuple[str, ...]
    auth: Auth
    handler: Callable[..., Any]


class OwnRoutes:
    """Collects endpoints before the start, and makes routes of them at the start."""

    def __init__(self) -> None:
        self._endpoints: list[Endpoint] = []
        self._closed = False

    def add(self, path: str, *, methods: Sequence[str], auth: Auth) -> Callable[[Handler], Handler]:
        """A decorator for a handler.

        Raises:
            ValueError: the path does not begin with a slash, there is no method, or `auth` is no such word.
            RuntimeError: the application runs already.
        """
        if not path.startswith("/"):
            raise ValueError("app.route: write it with a path that begins with a slash: @app.route('/hello')")
        if isinstance(methods, str) or not methods:
            raise ValueError("app.route: methods is a list such as ['GET']")
        if auth not in ("required", "optional", "none"):
            raise ValueError(f"app.route: auth is 'required', 'optional' or 'none', not {auth!r}")
        if self._closed:
            raise RuntimeError("app.route: endpoints are added before the application starts")

        def register(handler: Handler) -> Handler:
            named = tuple(method.upper() for method in methods)
            self._endpoints.append(Endpoint(path=path, methods=named, auth=auth, handler=handler))
            return handler

        return register

    def routes(self, guard: Guard, built_in: Sequence[BaseRoute]) -> list[BaseRoute]:
        """The routes, from now on fixed.

        Raises:
            ConfigError: a path that the server answers itself, so that the handler would never be asked.
        """
        self._closed = True
        made: list[BaseRoute] = []
        for endpoint in self._endpoints:
            scope = {"type": "http", "path": endpoint.path, "method": endpoint.methods[0], "root_path": ""}
            if any(route.matches(dict(scope))[0] is not Match.NONE for route in built_in):
                raise ConfigError(f"app.route({endpoint.path!r}): the server answers this path itself; take another")
            made.append(Route(endpoint.path, _served(endpoint, guard), methods=list(endpoint.methods)))
        return made


def _served(endpoint: Endpoint, guard: Guard) -> Callable[[Request], Any]:
    handler = endpoint.handler

    async def serve(request: Request) -> Response:
        request.state.principal = await _principal(request, endpoint.auth, guard)
        if inspect.iscoroutinefunction(handler):
            result = await handler(request)
        else:
            result = await run_in_threadpool(handler, request)
            if inspect.isawaitable(result):
                result = await result
        return _response(result)

    return serve


async def _principal(request: Request, auth: Auth, guard: Guard) -> Principal | None:
    if auth == "none":
        return None
    if auth == "required":
        return await guard.authenticate(request)
    try:
        return await guard.authenticate_or_guest(request)
    except Unauthorized as error:
        if error.code == "token_missing":
            return None
        raise


def _response(result: object) -> Response:
    if isinstance(result, Response):
        return result
    return Response(status_code=204) if result is None else json_response(result)
