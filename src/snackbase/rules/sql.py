r"""Owns: a rule as a condition in SQL, for SQLite and PostgreSQL.

Promises: every literal and claim goes through `param`; names only through `column`; the same answer as `predicate` on
every row whose columns hold what their kinds say: TEXT, DATETIME and DATE as text, NUMBER as REAL / double precision,
BOOLEAN as 0 and 1 / boolean, JSON as its text, and a JSON null as NULL.
Must not: know tables, accounts or statements.
On the path: lists and write conditions, between the service and the store.
"""

from collections.abc import Callable, Mapping
from typing import Literal, Protocol

from snackbase.rules.bind import bind
from snackbase.rules.like import MAX_PATTERN, folded
from snackbase.rules.nodes import (
    All,
    Any,
    Auth,
    Compare,
    Const,
    FieldOf,
    InArray,
    IsNull,
    Kind,
    Leaf,
    Like,
    Node,
    OneOf,
    Operand,
    Rule,
    Value,
)

Dialect = Literal["sqlite", "postgres"]

IN_TIME = "snackbase_in_time"
"""A function without arguments that a connection to SQLite needs: 1, or an error when its query is to end. SQLite looks
at the clock between its instructions only, of which looking through one long text is a single one."""

STEPS_AT_ONCE = 200_000
"""Characters that may be compared before the clock is looked at: half a millisecond."""
SHORT_TEXT = 1000


def to_sql(
    rule: Rule,
    auth: Auth,
    *,
    dialect: Dialect,
    column: Callable[[str], str],
    param: Callable[[object], str],
    data: Mapping[str, object] | None = None,
) -> str:
    """A condition in parentheses, TRUE for exactly the rows the rule is true for; unknown may come out as NULL or as
    false, so never negate it.

    Args:
        column: a field's name to its quoted expression; a bare quoted name is enough.
        param: keeps a value and returns its placeholder; called in the order in which placeholders stand in the text.
        data: the values behind `@request.data`, as they would be stored and returned.

    Raises:
        ValueError: the rule reads `@request.data` and there is none.
    """
    words: _Words = _Sqlite(column, param) if dialect == "sqlite" else _Postgres(column, param)
    return f"({_condition(bind(rule, auth, data), words)})"


def _condition(node: Node, words: "_Words") -> str:
    match node:
        case All(parts=parts):
            return " AND ".join(f"({_condition(part, words)})" for part in parts)
        case Any(parts=parts):
            return " OR ".join(f"({_condition(part, words)})" for part in parts)
    return _leaf(node, words)


def _leaf(leaf: Leaf, words: "_Words") -> str:
    operand = words.operand
    match leaf:
        case Const(truth=truth):
            return words.true if truth else words.false
        case Compare(op=op, left=left, right=right):
            collate = words.collate if left.kind is not Kind.NUMBER and op not in ("=", "!=") else ""
            return f"{operand(left)}{collate} {'<>' if op == '!=' else op} {operand(right)}"
        case IsNull(operand=tested, negated=negated):
            return f"{operand(tested)} IS {'NOT ' * negated}NULL"
        case OneOf(left=left, values=values, negated=negated):
            return f"{operand(left)} {'NOT ' * negated}IN ({', '.join(map(operand, values))})"
        case InArray(left=left, array=array, negated=negated):
            return _in_array(left, array, words, negated=negated)
        case Like(left=left, pattern=pattern, negated=negated):
            return f"NOT ({_like(left, pattern, words)})" if negated else _like(left, pattern, words)
    raise TypeError(f"{type(leaf).__name__} was not bound")


def _in_array(left: Operand, array: Operand, words: "_Words", *, negated: bool) -> str:
    guarded = (left, array) if negated else (left,)
    known = [f"{words.operand(operand)} IS NOT NULL AND " for operand in guarded if isinstance(operand, FieldOf)]
    return f"{''.join(known)}{'NOT ' * negated}({words.contains(left, array)})"


def _like(left: Operand, pattern: Operand, words: "_Words") -> str:
    if isinstance(pattern, Value):
        text = str(pattern.value)
        if "%" not in text:
            return words.holds(words.searched(left, len(text)), words.operand(Value(folded(text), Kind.TEXT)))
        if len(text) <= MAX_PATTERN and not _ends_in_escape(text):
            return words.matches(words.searched(left, len(text)), words.operand(pattern))
        # Matches nothing: false, but unknown where the text is null.
        return f"{words.operand(left)} IS NULL AND NULL"
    operand = words.operand
    too_long = f"length({operand(pattern)}) > {MAX_PATTERN}"
    return (
        f"CASE WHEN {operand(left)} IS NULL OR {operand(pattern)} IS NULL THEN NULL "
        f"WHEN {words.find(operand(pattern), words.percent)} = 0 "
        f"THEN {words.holds(words.searched(left, MAX_PATTERN), words.fold(operand(pattern)))} "
        f"WHEN {too_long} OR {words.ends_in_escape(operand(pattern))} THEN {words.false} "
        f"ELSE {words.matches(words.searched(left, MAX_PATTERN), operand(pattern))} END"
    )


def _ends_in_escape(pattern: str) -> bool:
    return (len(pattern) - len(pattern.rstrip("\\"))) % 2 == 1


class _Words(Protocol):
    """How one dialect spells it."""

    true: str
    false: str
    percent: str
    collate: str
    """After the left side of an ordering of texts."""

    def operand(self, operand: Operand) -> str: ...
    def contains(self, left: Operand, array: Operand) -> str: ...
    def searched(self, text: Operand, length: int) -> str:
        """A text that is looked through for a pattern of at most this length."""
        ...

    def fold(self, text: str) -> str: ...
    def find(self, text: str, part: str) -> str: ...
    def holds(self, text: str, part: str) -> str: ...
    def matches(self, text: str, pattern: str) -> str: ...
    def ends_in_escape(self, pattern: str) -> str: ...


class _Dialect:
    def __init__(self, column: Callable[[str], str], param: Callable[[object], str]) -> None:
        self._column = column
        self._param = param


class _Sqlite(_Dialect):
    """Columns have the collation BINARY, which is code point order in UTF-8; lower() and LIKE fold ASCII only in a
    build without ICU."""

    true = "1"
    false = "0"
    percent = "'%'"
    collate = ""

    def operand(self, operand: Operand) -> str:
        if isinstance(operand, FieldOf):
            return self._column(operand.name)
        value = operand.value if isinstance(operand, Value) else operand
        return self._param(int(value) if isinstance(value, bool) else value)

    def contains(self, left: Operand, array: Operand) -> str:
        # Both sides are selected one level further in than json_each, whose columns (key, value, type, id, …) would
        # capture a field of that name.
        match left.kind:
            case Kind.TEXT:
                same = "e.type = 'text' AND e.value = s.x"
            case Kind.NUMBER:
                same = "e.type IN ('integer', 'real') AND e.value = s.x"
            case _:
                same = "e.type = CASE s.x WHEN 1 THEN 'true' WHEN 0 THEN 'false' END"
        column = self.operand(array)
        return (
            f"EXISTS (SELECT 1 FROM (SELECT {column} AS j, {self.operand(left)} AS x) AS s, "  # noqa: S608  # quoted names and placeholders
            f"json_each(CASE json_type(s.j) WHEN 'array' THEN s.j ELSE '[]' END) AS e WHERE {same})"
        )

    def searched(self, text: Operand, length: int) -> str:
        column = self.operand(text)
        if not isinstance(text, FieldOf):
            return column
        most = max(SHORT_TEXT, STEPS_AT_ONCE // max(length, 1))
        asked = f"CASE {IN_TIME}() WHEN 1 THEN {column} END"
        return f"CASE WHEN octet_length({column}) > {most} THEN {asked} ELSE {column} END"

    def fold(self, text: str) -> str:
        return f"lower({text})"

    def find(self, text: str, part: str) -> str:
        return f"instr({text}, {part})"

    def holds(self, text: str, part: str) -> str:
        return f"instr(lower({text}), {part}) > 0"

    def matches(self, text: str, pattern: str) -> str:
        return f"{text} LIKE {pattern} ESCAPE '\\'"

    def ends_in_escape(self, pattern: str) -> str:
        return f"(length({pattern}) - length(rtrim({pattern}, '\\'))) % 2 = 1"


class _Postgres(_Dialect):
    """In a UTF-8 database with standard_conforming_strings; COLLATE "C" is code point order there and makes lower()
    fold ASCII only. No text is asked for that holds U+0000, which none there can."""

    true = "TRUE"
    false = "FALSE"
    percent = "'%'"
    collate = ' COLLATE "C"'

    def operand(self, operand: Operand) -> str:
        if isinstance(operand, FieldOf):
            return self._column(operand.name)
        if not isinstance(operand, Value):
            raise TypeError(f"{type(operand).__name__} was not bound")
        # The cast names the type that the driver must send, which a placeholder beside another one would leave open.
        match operand.kind:
            case Kind.NUMBER:
                return f"{self._param(operand.value)}::double precision"
            case Kind.BOOLEAN:
                return f"{self._param(operand.value)}::boolean"
        return f"{self._param(operand.value)}::text"

    def contains(self, left: Operand, array: Operand) -> str:
        # The text of an element is compared, not what jsonb makes of it: that knows no U+0000 and no number over its
        # range. Texts are written by one encoder, and to_json writes the same.
        element = "e.value::text"
        match left.kind:
            case Kind.TEXT:
                same = f"json_typeof(e.value) = 'string' AND {element} = to_json(s.x)::text"
            case Kind.NUMBER:
                same = (
                    f"CASE WHEN json_typeof(e.value) <> 'number' THEN FALSE WHEN {element} ~ '[.eE]' "
                    f"OR abs(s.x) >= 1e18 OR length({element}) > 18 THEN {element}::double precision = s.x "
                    f"WHEN s.x <> trunc(s.x) THEN FALSE ELSE {element}::bigint = s.x::bigint END"
                )
            case _:
                same = f"{element} = s.x::text"
        return (
            f"EXISTS (SELECT 1 FROM (SELECT ({self.operand(array)})::json AS j, {self.operand(left)} AS x) AS s, "  # noqa: S608  # quoted names and placeholders
            f"json_array_elements(CASE json_typeof(s.j) WHEN 'array' THEN s.j ELSE '[]' END) AS e(value) WHERE {same})"
        )

    def searched(self, text: Operand, length: int) -> str:
        return self.operand(text)

    def fold(self, text: str) -> str:
        return f'lower({text} COLLATE "C")'

    def find(self, text: str, part: str) -> str:
        return f"strpos({text}, {part})"

    def holds(self, text: str, part: str) -> str:
        return f"strpos({self.fold(text)}, {part}) > 0"

    def matches(self, text: str, pattern: str) -> str:
        return f"{self.fold(text)} LIKE {self.fold(pattern)} ESCAPE '\\'"

    def ends_in_escape(self, pattern: str) -> str:
        return f"(length({pattern}) - length(rtrim({pattern}, '\\'))) % 2 = 1"
