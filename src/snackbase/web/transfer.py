"""Export and import of an account's records over REST, for superadmins: JSON lines out as a stream, in by the piece.

An import's body obeys the limit of every body: a larger file is sent in pieces, each of which may be sent again.
Decides nothing; `services/transfer.py` does the work.
"""

from collections.abc import AsyncIterator
from typing import get_args

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from snackbase.errors import BadRequest, FieldError, UnsupportedMediaType
from snackbase.services.records import Records
from snackbase.services.transfer import Export, Import, Progress, Strategy
from snackbase.web.http import Authenticate, json_response
from snackbase.web.query import optional_flag, read_query
from snackbase.web.records import POSITION_HEADER

JSON_LINES = "application/x-ndjson"
TAKEN = frozenset(
    {JSON_LINES, "application/jsonl", "application/x-jsonlines", "application/json", "text/plain"}
    | {"application/octet-stream"}
)
"""What programs call JSON lines; there is no registered name."""


class TransferRoutes:
    def __init__(self, records: Records, authenticate: Authenticate) -> None:
        self._records = records
        self._authenticate = authenticate

    def routes(self) -> list[BaseRoute]:
        collection = "/api/v1/records/{collection}"
        return [
            Route(f"{collection}/export", self._export, methods=["GET"]),
            Route(f"{collection}/import", self._import, methods=["POST"]),
        ]

    async def _export(self, request: Request) -> Response:
        principal = await self._authenticate(request)
        read_query(request)
        export = Export(self._records, principal, request.path_params["collection"])
        await export.begin()

        async def lines() -> AsyncIterator[bytes]:
            async for page, _ in export.pages():
                yield page

        headers = {POSITION_HEADER: export.position}
        return StreamingResponse(lines(), media_type=JSON_LINES, headers=headers)

    async def _import(self, request: Request) -> Response:
        principal = await self._authenticate(request)
        query = read_query(request, "strategy", "keep_going")
        content_type = request.headers.get("content-type", JSON_LINES).partition(";")[0].strip().lower()
        if content_type not in TAKEN:
            raise UnsupportedMediaType(f"The body has to be JSON lines: send it with Content-Type: {JSON_LINES}.")
        running = Import(
            self._records,
            principal,
            request.path_params["collection"],
            strategy=_strategy(query.get("strategy", "error")),
            keep_going=bool(optional_flag(query, "keep_going", False)),
        )
        return json_response(report(await running.run((await request.body()).split(b"\n"))))


def report(progress: Progress) -> dict[str, object]:
    """What became of an import."""
    return {"success": progress.success, **msgspec.structs.asdict(progress)}


def _strategy(word: str) -> Strategy:
    for known in get_args(Strategy):
        if word == known:
            found: Strategy = known
            return found
    message = f"strategy is one of {', '.join(get_args(Strategy))}."
    detail = FieldError(field="strategy", message=message, code="invalid_strategy")
    raise BadRequest(message, code="invalid_strategy", details=[detail])
