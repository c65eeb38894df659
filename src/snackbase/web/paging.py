"""Pages and orders as query strings ask for them: `skip` and `limit`, or `page` and `page_size`; `sort`, or `sort_by`.

For lists of people and what belongs to them; records have their own (services/listing.py).
"""

from collections.abc import Collection, Mapping

from snackbase.services.identity import invalid

MAX_PAGE = 100
PAGE = ("skip", "limit", "page", "page_size")
ORDER = ("sort", "sort_by", "sort_order")


def page(query: Mapping[str, str]) -> tuple[int, int]:
    """`skip` and `limit`, or `page` (from 1) and `page_size`; `offset` is another word for `skip`.

    Raises:
        ValidationFailed: naming the parameter.
    """
    limit = _number(query, "limit" if "limit" in query else "page_size", default=30, least=1, most=MAX_PAGE)
    if "page" in query and "skip" not in query:
        return (_number(query, "page", default=1, least=1, most=1_000_000) - 1) * limit, limit
    return _number(query, "offset" if "offset" in query else "skip", default=0, least=0, most=100_000_000), limit


def order(query: Mapping[str, str], fields: Collection[str], default: str) -> tuple[str, bool]:
    """The field to sort by, and whether downwards: `sort=-email`, or `sort_by=email` and `sort_order=desc`.

    Raises:
        ValidationFailed: naming the parameter.
    """
    name = "sort_by" if query.get("sort_by") else "sort"
    text = query.get(name) or default
    field = text.removeprefix("-").removeprefix("+")
    if field not in fields:
        raise invalid(name, f"One of {', '.join(sorted(fields))} is needed.")
    way = query.get("sort_order") or ("desc" if text.startswith("-") else "asc")
    if way not in ("asc", "desc"):
        raise invalid("sort_order", "asc or desc is needed.")
    return field, way == "desc"


def number(query: Mapping[str, str], name: str, *, most: int) -> int | None:
    """A whole number from 0; None when it is not given. Raises ValidationFailed."""
    return _number(query, name, default=0, least=0, most=most) if query.get(name) else None


def _number(query: Mapping[str, str], name: str, *, default: int, least: int, most: int) -> int:
    text = query.get(name)
    if text is None:
        return default
    # `isdecimal` alone takes digits of every script; and a length bounds the work of int() (CVE-2020-10735).
    if not (text.isascii() and text.isdecimal() and len(text) <= 10 and least <= int(text) <= most):
        raise invalid(name, f"A whole number from {least} to {most} is needed.")
    return int(text)
