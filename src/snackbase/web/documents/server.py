"""What the routes about the server itself take and give."""

from typing import Any

from snackbase.web.documents.operation import TEXT, Operation, Operations, object_of

TAG = "server"
HTML = "text/html"
_OK = object_of({"status": {"const": "ok"}, "version": TEXT})
_DOCUMENT: dict[str, Any] = {"type": "object"}


def _state(summary: str) -> Operation:
    return Operation(summary=summary, tag=TAG, answer=_OK, access="open")


def _page(summary: str, status: int = 200) -> Operation:
    answer = TEXT if status == 200 else None
    return Operation(summary=summary, tag=TAG, answer=answer, status=status, media_type=HTML, access="open")


OPERATIONS: Operations = {
    ("GET", "/health"): _state("503 while something is broken"),
    ("GET", "/api/v1/health"): _state("503 while something is broken"),
    ("GET", "/ready"): _state("503 while this process should get no traffic"),
    ("GET", "/live"): _state("200 as long as the process answers"),
    ("GET", "/metrics"): Operation(
        summary="Numbers for Prometheus, for this machine or with the token of SNACKBASE_METRICS_TOKEN",
        tag=TAG,
        answer=TEXT,
        media_type="text/plain",
        access="open",
        errors=(401, 403),
    ),
    ("GET", "/"): _page("Leads to /_/", 307),
    ("GET", "/_"): _page("Leads to /_/", 307),
    ("GET", "/_/"): _page("The admin console, for browsers"),
    ("GET", "/openapi.json"): Operation(
        summary="This document, with the collections that the asker may use",
        tag=TAG,
        answer=_DOCUMENT,
        access="open",
        errors=(401, 403, 404),
    ),
    ("GET", "/asyncapi.json"): Operation(
        summary="The messages of both realtime transports", tag=TAG, answer=_DOCUMENT, access="open"
    ),
    ("GET", "/docs"): _page("These documents, to read"),
}
