"""What a client asks of a list, checked and turned into a store's query.

Owns the meaning of `sort`, `fields` and `filter`, and that each of them may name only what the principal may read: a
hidden field is refused in the words of an unknown one, since sorting or filtering by it would tell its values.
"""

from collections.abc import Callable, Collection
from typing import Literal, cast

import msgspec

from snackbase.catalog import Definition
from snackbase.errors import BadRequest, FieldError
from snackbase.model import FieldType
from snackbase.rules import Auth, Rule, RuleError, constant, to_sql
from snackbase.services.values import did_you_mean

DEFAULT_LIMIT = 30
MAX_LIMIT = 100
MAX_SKIP = 10_000_000
MAX_SORT_KEYS = 5

Sort = tuple[tuple[str, bool], ...]
Where = Callable[[Callable[[str], str], Callable[[object], str]], str]
NEWEST_FIRST: Sort = (("created_at", True), ("id", True))


class ListRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A list as it is asked for, in the words of the query string; numbers are checked here.

    Attributes:
        total: whether to count; None = unless a cursor is given. cursor, cursor_before: the page after or before it.
    """

    skip: int = 0
    limit: int = DEFAULT_LIMIT
    sort: str = ""
    fields: str = ""
    filter: str = ""
    expand: str = ""
    total: bool | None = None
    cursor: str = ""
    cursor_before: str = ""

    @property
    def counted(self) -> bool:
        """Whether the records are counted."""
        return self.total if self.total is not None else not (self.cursor or self.cursor_before)

    def check(self) -> None:
        """Raises BadRequest (`invalid_limit`, `invalid_skip`, `invalid_cursor`)."""
        if self.cursor and self.cursor_before:
            raise _refused("cursor_before", "Send either cursor or cursor_before, not both.", "invalid_cursor")
        if self.skip and (self.cursor or self.cursor_before):
            raise _refused("skip", "A cursor already says where the page begins; leave out skip.", "invalid_cursor")
        if not 1 <= self.limit <= MAX_LIMIT:
            raise _refused("limit", f"limit is 1 to {MAX_LIMIT}, not {self.limit}.", "invalid_limit")
        if not 0 <= self.skip <= MAX_SKIP:
            raise _refused("skip", f"skip is 0 to {MAX_SKIP}, not {self.skip}.", "invalid_skip")


def sort_of(text: str, definition: Definition, readable: Collection[str] | None) -> Sort:
    """`-created_at,+title` as (field, descending) pairs, ties broken by id in the direction of the last; "" = newest
    first. A plus sign that was sent unescaped arrives as a space, and means the same.

    Raises:
        BadRequest: `invalid_sort`.
    """
    keys = [key for key in (part.strip() for part in text.split(",", MAX_SORT_KEYS + 1)) if key]
    if not keys:
        return NEWEST_FIRST
    # With the id at the end, as cursors hold it, there is one more.
    if len(keys) > MAX_SORT_KEYS + (keys[-1].lstrip("+-") == "id"):
        raise _refused("sort", f"sort takes at most {MAX_SORT_KEYS} fields.", "invalid_sort")
    sort: dict[str, bool] = {}
    for key in keys:
        name = key[1:] if key[0] in "+-" else key
        _check_readable("sort", name, definition, readable)
        field = definition.collection.field(name)
        if field is not None and field.type is FieldType.JSON:
            raise _refused("sort", f"{name} holds JSON, which has no order.", "invalid_sort")
        sort.setdefault(name, key.startswith("-"))
    last = next(reversed(sort.values()))
    sort.setdefault("id", last)
    # What would come after the id decides nothing: no two records share one.
    return tuple(sort.items())[: list(sort).index("id") + 1]


def fields_of(text: str, definition: Definition, readable: frozenset[str] | None) -> frozenset[str] | None:
    """The fields that are shown: those asked for, always with `id`; "" and `*` = all that may be read (None = every).

    Raises:
        BadRequest: `invalid_fields`.
    """
    names = {name for name in (part.strip() for part in text.split(",")) if name}
    if not names or "*" in names:
        return readable
    for name in sorted(names):
        _check_readable("fields", name, definition, readable)
    return frozenset({"id", *names})


def filter_of(text: str, definition: Definition, readable: Collection[str] | None) -> Rule | None:
    """The compiled filter; "" = none.

    Raises:
        BadRequest: `invalid_filter`, with the position in its message and the rule language's code in its details.
    """
    if not text.strip():
        return None
    try:
        return definition.filter(text, readable)
    except RuleError as error:
        # The two codes would tell a hidden field from one that does not exist.
        code = "unknown_field" if error.code == "hidden_field" else error.code
        raise _refused("filter", str(error), "invalid_filter", code) from None


def where_of(rules: Collection[Rule | None], auth: Auth, dialect: str) -> Where | None:
    """The condition that all of them are true, for `Query.where`; None = no condition."""
    parts = [rule for rule in rules if rule is not None and constant(rule, auth) is not True]
    if not parts:
        return None
    spoken = cast(Literal["sqlite", "postgres"], dialect)

    def where(column: Callable[[str], str], param: Callable[[object], str]) -> str:
        return " AND ".join(to_sql(part, auth, dialect=spoken, column=column, param=param) for part in parts)

    return where


def _check_readable(asked: str, name: str, definition: Definition, readable: Collection[str] | None) -> None:
    known = definition.kinds if readable is None else readable
    if name not in known or name not in definition.kinds:
        message = f"{asked}: {definition.collection.name} has no field {name[:64]!r}.{did_you_mean(name, known)}"
        raise _refused(asked, message, f"invalid_{asked}", "unknown_field")


def _refused(field: str, message: str, code: str, detail_code: str | None = None) -> BadRequest:
    detail = FieldError(field=field, message=message, code=detail_code or code)
    return BadRequest(message, code=code, details=[detail])
