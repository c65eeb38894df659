"""What every REST handler uses: reading bodies, writing JSON, and the one shape of an error (contract §6).

`read_json` turns any input into a value or a 4xx error, never into a 500. The middleware that wraps `receive` enforces
the limits on size and time. Steps 1 and 2 of the path of a write.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar, get_type_hints

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from snackbase.errors import BadRequest, FieldError, UnsupportedMediaType, ValidationFailed
from snackbase.model import Principal

T = TypeVar("T")

Authenticate = Callable[[Request], Awaitable[Principal]]
"""Finds who a request acts for; raises Unauthorized."""

MAX_JSON_DEPTH = 64
"""Objects and arrays inside each other; far below what any recursion in here could not stand."""

TIMES = frozenset({"created_at", "updated_at", "last_login"})

_JSON_TYPE = re.compile(r"\s*application/(?:[a-z0-9.+-]+\+)?json\s*(?:;|\Z)", re.IGNORECASE)
_AT_PATH = re.compile(r" - at `(?P<path>[^`]*)`\Z")
_NAMED_FIELD = re.compile(r"Object (?P<what>missing required|contains unknown) field `(?P<name>[^`]*)`\Z")
_NEXT_BRACKET = re.compile(rb'[^"\[\]{}]*+(?:"(?:[^"\\]|\\.)*+"[^"\[\]{}]*+)*+([\[\]{}])', re.DOTALL)


async def read_json(request: Request, type: type[T]) -> T:
    """The request's JSON body as a `type`.

    Raises:
        UnsupportedMediaType: a Content-Type is given and it is not JSON.
        BadRequest: `invalid_json`: not JSON, not UTF-8 or nested too deeply.
        ValidationFailed: JSON of another shape; `details` names the field by its path.
        TooLarge, RequestTimeout: from the middleware, while reading.
    """
    content_type = request.headers.get("content-type")
    if content_type and _JSON_TYPE.match(content_type) is None:
        raise UnsupportedMediaType("The body has to be JSON: send it with Content-Type: application/json.")
    return decode_json(await request.body(), type)


def decode_json(body: bytes, type: type[T]) -> T:
    """`body` as a `type`. Raises BadRequest (`invalid_json`) or ValidationFailed, nothing else."""
    if not body:
        raise BadRequest("The body is empty; JSON is expected.", code="invalid_json")
    try:
        value = msgspec.json.decode(body, type=type)
    except msgspec.ValidationError as error:
        raise _validation_failed(str(error)) from None
    except RecursionError:
        raise _too_deep() from None
    except UnicodeDecodeError:
        raise BadRequest("The body is not UTF-8.", code="invalid_json") from None
    except msgspec.DecodeError as error:
        raise BadRequest(f"The body is not JSON: {error}.", code="invalid_json") from None
    if body.count(b"[") + body.count(b"{") > MAX_JSON_DEPTH and _depth(body) > MAX_JSON_DEPTH:
        raise _too_deep()
    return value


async def read_changes(request: Request, type: type[T], current: Callable[[], Awaitable[object]]) -> T:
    """A change of something, as a `type`. `current`: reads what it is now, once the body is there.

    What the answers show of it besides may come along unchanged, so that it can be read, edited and sent back as a
    whole; times are not compared, since they may have moved on.

    Raises:
        ValidationFailed: also read_only: something that cannot be changed is another than now.
        As `read_json`.
    """
    sent = await read_json(request, dict[str, Any])
    shown: dict[str, Any] = msgspec.to_builtins(await current())
    changeable = set(get_type_hints(type))
    for name in [name for name in sent if name in shown and name not in changeable]:
        if sent.pop(name) != shown[name] and name not in TIMES:
            where = FieldError(field=name, message=f"{name} cannot be changed.", code="read_only")
            raise ValidationFailed(where.message, details=[where])
    try:
        return msgspec.convert(sent, type)
    except msgspec.ValidationError as error:
        raise _validation_failed(str(error)) from None


def json_response(value: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer; msgspec structs, datetimes and UUIDs encode as themselves."""
    return raw_json_response(msgspec.json.encode(value), status=status, headers=headers)


def raw_json_response(body: bytes, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """An answer whose JSON is encoded already."""
    return Response(body, status, headers, "application/json")


def _too_deep() -> BadRequest:
    return BadRequest(f"The JSON is nested more than {MAX_JSON_DEPTH} levels deep.", code="invalid_json")


def _depth(body: bytes) -> int:
    """How deep the JSON in `body` is nested. `body` has been decoded, so its brackets match."""
    depth = deepest = 0
    for match in _NEXT_BRACKET.finditer(body.rstrip()):
        if match[1] in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        else:
            depth -= 1
    return deepest


def _validation_failed(text: str) -> ValidationFailed:
    """msgspec's message, e.g. "Expected `str`, got `int` - at `$.schema[0].name`", as an error that names the field."""
    path, message = "", text
    if at := _AT_PATH.search(text):
        path, message = at["path"].removeprefix("$").removeprefix("."), text[: at.start()]
    code = "invalid"
    if named := _NAMED_FIELD.match(message):
        path = f"{path}.{named['name']}" if path else named["name"]
        missing = named["what"] == "missing required"
        code, message = ("required", "This field is required.") if missing else ("unknown_field", "No such field.")
    if not path:
        return ValidationFailed(f"The body has the wrong shape: {message}.")
    where = FieldError(field=path, message=message, code=code)
    return ValidationFailed(f"{path}: {message}", details=[where])
