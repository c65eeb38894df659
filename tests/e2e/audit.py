"""Holds every answer against the tables of operations (web/documents) and remembers what was seen.

An audited request goes to a real server; its answer has to be documented with its status, its headers, its media type
and its schema. At the end the audit tells what the tables promise and nobody has seen.
"""

import re
import socket
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import httpx
import msgspec
from jsonschema import Draft202012Validator

from snackbase.web.documents.answers import statuses
from snackbase.web.documents.operation import Key, NewRecord, Operation, RecordChanges
from snackbase.web.documents.tables import OPERATIONS
from tests.e2e.support import API, House, Member, remember

ALWAYS = {"x-request-id", "x-content-type-options", "referrer-policy", "cache-control", "vary"}
BY_STATUS = {401: {"www-authenticate"}, 405: {"allow"}, 426: {"upgrade"}, 429: {"retry-after"}, 503: {"retry-after"}}
WS = f"{API}/realtime/ws"
ENDLESS = f"{API}/realtime/subscribe"


class Audit:
    """One house's requests."""

    def __init__(self, house: House) -> None:
        self.house = house
        self._document: dict[str, Any] = {}
        self._seen: defaultdict[Key, set[int]] = defaultdict(set)
        self._given: defaultdict[Key, set[str]] = defaultdict(set)

    async def reload(self) -> None:
        """Read the document again, as the superadmin sees it."""
        root = await self.house.superadmin()
        answer = await self.house.client.get("/openapi.json", headers={"authorization": f"Bearer {root.token}"})
        self._document = answer.json()

    async def ask(self, who: Member | str | None, method: str, path: str, status: int, **more: Any) -> httpx.Response:
        """Send a request and check its answer.

        Args:
            who: whose token; a text is a key or a token itself. status: what has to come back.
            more: as for httpx; `json`, `content`, `params`, `headers`.
        """
        headers = {**_authorization(who), **more.pop("headers", {})}
        target = path if path in _SERVER or path.startswith(API) else f"{API}{path}"
        answer = await self.house.client.request(method, target, headers=headers, **more)
        said = f"{method} {target} {more}: {answer.status_code} {answer.text[:500]}"
        assert answer.status_code == status, said
        if method in ("GET", "PUT", "POST", "PATCH", "DELETE"):
            key = key_of(method, target)
            self.note(key, status)
            self._check(key, target, answer, said)
            if answer.is_success:
                self._given[key] |= set(more.get("params", {})) | _keys(more.get("json"))
        if method == "GET" and target != ENDLESS:
            await self._check_head(target, headers, answer, more)
        for name in ("token", "refresh_token", "key"):
            is_json = answer.headers.get("content-type") == "application/json"
            body = answer.json() if is_json and answer.content else {}
            if isinstance(body, dict) and isinstance(body.get(name), str) and "*" not in body[name]:
                remember(body[name])
        return answer

    def note(self, key: Key, status: int) -> None:
        self._seen[key].add(status)

    def given(self, key: Key, names: Iterable[str]) -> None:
        """Parameters that a connection was opened with."""
        self._given[key] |= set(names)

    def raw(self, method: str, path: str) -> None:
        """A request without a Host: 400, whatever the path."""
        with socket.create_connection(("127.0.0.1", self.house.server.port), timeout=10) as line:
            line.sendall(f"{method} {path} HTTP/1.1\r\n\r\n".encode())
            assert line.recv(65536).startswith(b"HTTP/1.1 400 ")
        self.note(key_of(method, path), 400)

    # What nobody has seen

    def missing(self, elsewhere: Mapping[Key, Iterable[int]], layer: Iterable[int]) -> list[str]:
        """Documented statuses, parameters and keys that never came.

        Args:
            elsewhere: statuses that other tests provoke. layer: those that are the same for every route.
        """
        found = []
        for key, operation in sorted(OPERATIONS.items()):
            wanted = {operation.status, *statuses(operation)} - set(layer) - set(elsewhere.get(key, ()))
            found += [f"{' '.join(key)}: {status}" for status in sorted(wanted - self._seen[key])]
            parameters = {one.name for one in operation.query} | body_keys(operation)
            found += [f"{' '.join(key)}: {name}" for name in sorted(parameters - self._given[key])]
        return found

    # Checks

    def _check(self, key: Key, target: str, answer: httpx.Response, said: str) -> None:
        operation, status = OPERATIONS[key], answer.status_code
        assert status in {operation.status, *statuses(operation)}, f"undocumented: {said}"
        assert ALWAYS | BY_STATUS.get(status, set()) <= answer.headers.keys(), said
        if operation.writes and status == operation.status:
            assert "x-snackbase-position" in answer.headers, said
        described = self._described(key[0], target)["responses"][str(status)]
        while "$ref" in described:
            described = self._at(described["$ref"])
        content = described.get("content", {})
        if not content:
            assert not answer.content, said
            return
        (media_type, wanted), *_ = content.items()
        assert answer.headers["content-type"].startswith(media_type), said
        if media_type == "application/json":
            self._check_schema(wanted["schema"], answer.json(), said)

    def _check_schema(self, schema: Mapping[str, Any], value: object, said: str) -> None:
        whole = {"components": self._document["components"], **schema}
        faults = [f"{error.json_path}: {error.message}" for error in Draft202012Validator(whole).iter_errors(value)]
        assert not faults, f"{said}\n{faults}"

    def _described(self, method: str, target: str) -> dict[str, Any]:
        path = target.partition("?")[0]
        fitting = [one for one in self._document["paths"] if _pattern(one).fullmatch(path)]
        best = min((one for one in fitting if method.lower() in self._document["paths"][one]), key=_openness)
        described: dict[str, Any] = self._document["paths"][best][method.lower()]
        return described

    def _at(self, reference: str) -> dict[str, Any]:
        found = self._document
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]
        return found

    async def _check_head(self, target: str, headers: Mapping[str, str], got: httpx.Response, more: Any) -> None:
        """HEAD is GET without the body (RFC 9110 §9.3.2)."""
        answer = await self.house.client.request("HEAD", target, headers=headers, **more)
        assert (answer.status_code, answer.content) == (got.status_code, b""), (target, answer.status_code)
        assert answer.headers.get("content-type") == got.headers.get("content-type"), target


_SERVER = {path for _, path in OPERATIONS if not path.startswith(API)}


def key_of(method: str, target: str) -> Key:
    """The row of the tables that a request is about."""
    path = target.partition("?")[0]
    fitting = [key for key in OPERATIONS if key[0] == method and _pattern(key[1]).fullmatch(path)]
    return min(fitting, key=lambda key: _openness(key[1]))


def body_keys(operation: Operation) -> set[str]:
    """The names that a body of an operation may hold; none where records say it themselves."""
    body = operation.body
    if isinstance(body, dict):
        return set(body.get("properties", ()))
    if body is None or body in (NewRecord, RecordChanges) or not isinstance(body, type):
        return set()
    return {field.encode_name for field in msgspec.structs.fields(body)}


def _keys(body: object) -> set[str]:
    return set(body) if isinstance(body, dict) else set()


def _authorization(who: Member | str | None) -> dict[str, str]:
    if who is None:
        return {}
    return {"authorization": f"Bearer {who if isinstance(who, str) else who.token}"}


def _pattern(path: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(path)))


def _openness(path: str) -> tuple[int, int]:
    return path.count("{"), -len(path)
