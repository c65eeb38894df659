"""Query strings: known names only, each once, numbers and flags that are what they say.

A parameter that is misspelt would otherwise be ignored in silence, and a filter that is ignored shows too much.
"""

from collections.abc import Mapping

from starlette.requests import Request

from snackbase.errors import BadRequest, FieldError
from snackbase.services.values import did_you_mean

_FLAGS = {"true": True, "1": True, "false": False, "0": False}


def read_query(request: Request, *names: str) -> Mapping[str, str]:
    """The parameters by name.

    Raises:
        BadRequest: `unknown_parameter`, `duplicate_parameter`. The message holds names, never values.
    """
    found: dict[str, str] = {}
    if not request.scope["query_string"]:
        return found
    for name, value in request.query_params.multi_items():
        if name not in names:
            message = f"There is no parameter {name[:64]!r} here.{did_you_mean(name, names)}"
            raise _refused(name[:64], message, "unknown_parameter")
        if name in found:
            raise _refused(name, f"The parameter {name} is given twice.", "duplicate_parameter")
        found[name] = value
    return found


def whole_number(query: Mapping[str, str], name: str, default: int) -> int:
    """Raises BadRequest (`invalid_<name>`). Whether it is in range is for the service to say."""
    text = query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.removeprefix("-").isdecimal() and len(text) <= 18):
        raise _refused(name, f"{name} must be a whole number.", f"invalid_{name}")
    return int(text)


def optional_flag(query: Mapping[str, str], name: str, default: bool | None) -> bool | None:
    """Raises BadRequest (`invalid_<name>`)."""
    text = query.get(name)
    if text is None:
        return default
    if text.lower() not in _FLAGS:
        raise _refused(name, f"{name} must be true or false.", f"invalid_{name}")
    return _FLAGS[text.lower()]


def _refused(field: str, message: str, code: str) -> BadRequest:
    return BadRequest(message, code=code, details=[FieldError(field=field, message=message, code=code)])
