"""The OpenAPI 3.1 document: the routes that are served, with the records of every collection described by themselves.

Each asker sees the operations they could ever be allowed: what is locked is shown to superadmins only, and strangers
see what a rule may grant to a guest. Pure: routes, tables and definitions in, a document out.

Source: OpenAPI Specification 3.1.1.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import msgspec
from starlette.routing import BaseRoute, Route

from snackbase.catalog import Definition, auth_of
from snackbase.model import Principal
from snackbase.rules import constant
from snackbase.web.documents import answers
from snackbase.web.documents.operation import PLACEHOLDERS, Key, Operation, Operations, Parameter, Schema
from snackbase.web.documents.schemas import collection_schemas, general_schemas, placed

Audience = Literal["superadmin", "member", "guest"]
REF = "#/components/schemas/{name}"
_GUEST = auth_of(Principal(kind="guest", account_id=""))
_IN_PATH = re.compile(r"\{(\w+)\}")
_SECURITY: Mapping[str, list[dict[str, list[str]]]] = {
    "token": [{"bearer": []}, {"apiKey": []}, {"bearer": [], "account": []}],
    "guest": [{"bearer": []}, {"apiKey": []}, {"bearer": [], "account": []}, {"account": []}],
    "open": [{}],
}
_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": "An access token."},
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "An API key or access token."},
    "account": {
        "type": "apiKey",
        "in": "header",
        "name": "X-Account-ID",
        "description": "No secret: the account (slug, code or id) that a superadmin acts in or a guest reads from.",
    },
}
_KEY = Parameter("Idempotency-Key", {"type": "string", "minLength": 1, "maxLength": 255}, "The write is done once.")


def served(routes: Iterable[BaseRoute]) -> Iterator[Key]:
    """Every (method, path) of HTTP that the routes answer. HEAD comes along with GET and is left out."""
    for route in routes:
        if isinstance(route, Route):
            for method in sorted((route.methods or set()) - {"HEAD"}):
                yield method, route.path


class OpenApi:
    """
    Args:
        routes: what is served, in the router's order. operations: the tables; a route without a row (an endpoint of
            the application's own) is left out.
        schemas: what the tables' own stand-ins stand for.
    """

    def __init__(
        self,
        routes: Sequence[BaseRoute],
        operations: Operations,
        *,
        version: str,
        schemas: Mapping[type[object], Schema],
    ) -> None:
        self._version = version
        self._operations = {key: operations[key] for key in served(routes) if key in operations}
        self._refs, self._components = _components(self._operations.values(), schemas)
        self._components |= general_schemas()
        self._refs.update((kind, placed(kind, None)) for kind in PLACEHOLDERS)

    def document(self, definitions: Iterable[Definition], audience: Audience, *, root: str = "") -> dict[str, Any]:
        """The document for one kind of asker. `root`: where the application is mounted."""
        paths: dict[str, dict[str, Any]] = {}
        schemas = dict(self._components)
        for (method, path), operation in self._operations.items():
            _place(paths, path, method, self._described(method, path, operation, self._refs, operation.tag))
        for definition in definitions:
            allowed = {key: one for key, one in self._operations.items() if _allowed(one, definition, audience)}
            if allowed:
                self._add_collection(paths, schemas, definition, allowed, audience)
        return {
            "openapi": "3.1.1",
            "info": {
                "title": "SnackBase",
                "version": self._version,
                "description": "Records over REST. Errors have one shape; times are UTC with milliseconds. "
                "/asyncapi.json describes realtime.",
            },
            "servers": [{"url": root or "/"}],
            "paths": paths,
            "components": {
                "schemas": schemas,
                "responses": answers.RESPONSES,
                "headers": answers.HEADERS,
                "securitySchemes": _SCHEMES,
            },
        }

    def _add_collection(
        self,
        paths: dict[str, dict[str, Any]],
        schemas: dict[str, Any],
        definition: Definition,
        allowed: Operations,
        audience: Audience,
    ) -> None:
        name = definition.collection.name
        schemas |= collection_schemas(definition, everything=audience == "superadmin")
        refs = dict(self._refs)
        refs.update((kind, placed(kind, name)) for kind in PLACEHOLDERS)
        for (method, path), operation in allowed.items():
            concrete = path.replace("{collection}", name)
            _place(paths, concrete, method, self._described(method, concrete, operation, refs, name))

    def _described(
        self, method: str, path: str, operation: Operation, refs: Mapping[type[object], Schema], tag: str
    ) -> dict[str, Any]:
        parameters = [_parameter(Parameter(name, {"type": "string"}), "path", refs) for name in _IN_PATH.findall(path)]
        parameters += [_parameter(one, "query", refs) for one in operation.query]
        if operation.writes:
            parameters.append(_parameter(_KEY, "header", refs))
        described: dict[str, Any] = {
            "operationId": _operation_id(method, path),
            "summary": operation.summary,
            "tags": [tag],
            "security": _SECURITY[operation.access],
            "responses": answers.responses(operation, resolved(operation.answer, refs)),
        }
        if parameters:
            described["parameters"] = parameters
        if operation.body is not None:
            content = {operation.body_type: {"schema": resolved(operation.body, refs)}}
            described["requestBody"] = {"required": True, "content": content}
        return described


def _operation_id(method: str, path: str) -> str:
    """Unique because a path is: `get.records.posts.record_id`; dots stand in no name."""
    words = re.findall(r"\w+", path.removeprefix("/api/v1"))
    place = [] if path.startswith("/api/v1/") else ["server"]
    return ".".join([method.lower(), *place, *words, *(["index"] if path.endswith("/") else [])])


def _place(paths: dict[str, dict[str, Any]], path: str, method: str, described: dict[str, Any]) -> None:
    """Two routes may name a part of one path differently; a document may not."""
    shape = _IN_PATH.sub("{}", path)
    same = next((known for known in paths if known == path or _IN_PATH.sub("{}", known) == shape), path)
    if same != path:
        names = _IN_PATH.findall(same)
        for parameter, name in zip(described["parameters"], names, strict=False):
            parameter["name"] = name
    paths.setdefault(same, {})[method.lower()] = described


def _parameter(one: Parameter, where: str, refs: Mapping[type[object], Schema]) -> dict[str, Any]:
    described = {"name": one.name, "in": where, "schema": resolved(one.schema, refs)}
    if one.description:
        described["description"] = one.description
    return {**described, "required": True} if where == "path" else described


def _allowed(operation: Operation, definition: Definition, audience: Audience) -> bool:
    if operation.rule is None:
        return False
    if audience == "superadmin":
        return True
    rule = definition.rule(operation.rule)
    return rule is not None and (audience == "member" or constant(rule, _GUEST, {}) is not False)


def resolved(schema: Schema, refs: Mapping[type[object], Schema]) -> Schema:
    """The schema with every type replaced by what stands for it."""
    if isinstance(schema, type):
        return refs[schema]
    if isinstance(schema, Mapping):
        return {name: resolved(value, refs) for name, value in schema.items()}
    if isinstance(schema, list | tuple):
        return [resolved(value, refs) for value in schema]
    return schema


def _components(
    operations: Iterable[Operation], stand_ins: Mapping[type[object], Schema]
) -> tuple[dict[type[object], Schema], dict[str, Schema]]:
    """A reference for every type of the tables, and the schemas that they refer to."""
    answered, sent = set[type[object]](), set[type[object]]()
    for operation in operations:
        answered |= set(_types(operation.answer))
        sent |= set(_types(operation.body))
    answered |= {found for one in answered & stand_ins.keys() for found in _types(stand_ins[one])}
    structs = answered - stand_ins.keys() - set(PLACEHOLDERS)
    refs: dict[type[object], Schema] = {one: {"$ref": REF.format(name=one.__name__)} for one in stand_ins}
    components: dict[str, Schema] = {}
    for group, given in ((structs, False), (sent - structs - set(PLACEHOLDERS), True)):
        ordered = sorted(group, key=lambda one: one.__name__)
        found, schemas = msgspec.json.schema_components(ordered, ref_template=REF)
        refs |= dict(zip(ordered, found, strict=True))
        if twice := components.keys() & schemas.keys():
            raise ValueError(f"one name for what is sent and what is answered: {sorted(twice)}")
        components |= schemas if given else {name: _complete(schema) for name, schema in schemas.items()}
    return refs, components | {one.__name__: resolved(schema, refs) for one, schema in stand_ins.items()}


def _complete(schema: Schema) -> Schema:
    """An answer holds every key, those with a default as well."""
    return {**schema, "required": list(schema["properties"])} if "properties" in schema else schema


def _types(schema: Schema) -> Iterator[type[object]]:
    if isinstance(schema, type):
        yield schema
    elif isinstance(schema, Mapping):
        for value in schema.values():
            yield from _types(value)
    elif isinstance(schema, list | tuple):
        for value in schema:
            yield from _types(value)
