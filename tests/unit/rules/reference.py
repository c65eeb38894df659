"""A second reading of contract section 7, as plain as it can be: random rules as trees, their text, and what they mean.

Shares nothing with `snackbase.rules` but the public types: three-valued logic is None, NOT stays NOT, `~` is matched
character by character. What the two back ends say is compared with what `meaning` says here.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from hypothesis import strategies as st

from snackbase.rules import Auth, Kind

# Names that json_each uses for its own columns, and a table's name, stand among them on purpose.
FIELDS: dict[str, Kind] = {
    "id": Kind.TEXT,
    "created_by": Kind.TEXT,
    "value": Kind.TEXT,
    "atom": Kind.TEXT,
    "key": Kind.NUMBER,
    "views": Kind.NUMBER,
    "type": Kind.BOOLEAN,
    "done": Kind.BOOLEAN,
    "created_at": Kind.DATETIME,
    "due_at": Kind.DATETIME,
    "day": Kind.DATE,
    "json": Kind.JSON,
    "members": Kind.JSON,
}
DATA = {"value": Kind.TEXT, "views": Kind.NUMBER, "done": Kind.BOOLEAN, "due_at": Kind.DATETIME, "members": Kind.JSON}

Tree = tuple[Any, ...]
"""("and" | "or", trees) · ("not", tree) · ("cmp", op, a, b) · ("list", a, items, negated) · ("groups", a, negated) ·
("array", a, b, negated) · ("null", a, negated) · ("bare", a) · ("macro", name, argument); a, b are ("field" | "claim" |
"data", name) or ("text" | "number" | "boolean" | "moment", value) or ("null_literal",)."""

TEXTS = ["", "u1", "u2", "g1", "a", "A", "ab", "aB%", "a_b", "axb", "%", "_", "\\", "a\\%b", "a\\", "%a%b%", "_%"]
TEXTS += ["é", "É", "ß", "İ", "\u017f", "k", "K", "\u212a", "straße%", "日本", "%本", "\ufffd", "\uffff", "\U0001f600"]
TEXTS += ["'", '"', "x\ny", "k%", "x%y", "a%\\", "%\\", "a%\\\\", "%\\_%", '["u1"]']
NUMBERS = [0, 1, -1, 2, 2.5, 0.1, 1e300, -1e-300, 2**53 - 1, 1 - 2**53]
MOMENTS = {
    "2026-01-17": "2026-01-17T00:00:00.000Z",
    "2026-01-17T00:00:00Z": "2026-01-17T00:00:00.000Z",
    "2026-01-17T12:34:56.7899+02:00": "2026-01-17T10:34:56.789Z",
    "2026-01-17 10:34:56.789": "2026-01-17T10:34:56.789Z",
    "0001-01-01": "0001-01-01T00:00:00.000Z",
}
DAYS = ["2026-01-17", "2026-01-18", "2024-02-29"]

_free_text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6)
_near_text = st.text("aAb%_\\éK\u212a", max_size=6)
texts = st.one_of(st.sampled_from(TEXTS), _near_text, _free_text)
numbers = st.one_of(st.sampled_from(NUMBERS), st.integers(-3, 3), st.floats(allow_nan=False, allow_infinity=False))
_scalars = st.sampled_from([None, True, False, 0, 1, 1.5, "u1", "1", "true"])
_arrays = st.lists(st.one_of(_scalars, st.lists(_scalars, max_size=2)), max_size=4)
values: dict[Kind, st.SearchStrategy[Any]] = {
    Kind.TEXT: texts,
    Kind.NUMBER: numbers,
    Kind.BOOLEAN: st.booleans(),
    Kind.DATETIME: st.sampled_from(sorted(set(MOMENTS.values()))),
    Kind.DATE: st.sampled_from(DAYS),
    Kind.JSON: st.one_of(_arrays, _arrays, _scalars, st.dictionaries(st.sampled_from(["u1", "1"]), _scalars)),
}


def stored(value: Any, kind: Kind) -> Any:
    """What SQLite's column holds for a value of a record."""
    if value is None:
        return None
    return json.dumps(value, ensure_ascii=False) if kind is Kind.JSON else int(value) if kind is Kind.BOOLEAN else value


def _mapping(kinds: Mapping[str, Kind]) -> st.SearchStrategy[dict[str, Any]]:
    some = {kind: st.one_of(st.none(), values[kind], values[kind]) for kind in Kind}
    return st.fixed_dictionaries({name: some[kind] for name, kind in kinds.items()})


records = _mapping(FIELDS)
data = _mapping(DATA)
_claim = st.one_of(st.none(), st.sampled_from(["u1", "u2", "g1", "a%", "%", "a\\"]))
auths = st.one_of(
    st.just(Auth(None, None, None, None)),
    st.builds(
        Auth,
        st.sampled_from(["u1", "u2", ""]),
        _claim,
        _claim,
        _claim,
        st.lists(st.sampled_from(["g1", "g2", "a"]), max_size=3).map(tuple),
    ),
)

_NULL = ("null_literal",)
_LITERALS = {Kind.TEXT: "text", Kind.NUMBER: "number", Kind.BOOLEAN: "boolean"}


def _operands(kind: Kind) -> st.SearchStrategy[Tree]:
    options: list[st.SearchStrategy[Tree]] = [st.sampled_from([("field", n) for n, k in FIELDS.items() if k is kind])]
    options += [st.just(("data", name)) for name, one in DATA.items() if one is kind]
    if kind is Kind.TEXT:
        options.append(st.sampled_from([("claim", name) for name in ("id", "email", "role", "account_id")]))
    if kind in _LITERALS:
        options += [values[kind].map(lambda value: (_LITERALS[kind], value))] * 2
    return st.one_of(options)


_EQUALITY = st.sampled_from(["=", "!="])
_ORDER = st.sampled_from(["=", "!=", "<", "<=", ">", ">="])


@st.composite
def _comparisons(draw: st.DrawFn) -> Tree:
    kind = draw(st.sampled_from([Kind.TEXT, Kind.TEXT, Kind.NUMBER, Kind.BOOLEAN, Kind.DATETIME, Kind.DATE]))
    op = draw(_EQUALITY if kind is Kind.BOOLEAN else _ORDER)
    left = draw(_operands(kind))
    if kind in (Kind.DATETIME, Kind.DATE) and draw(st.booleans()):
        right: Tree = ("moment", draw(st.sampled_from(sorted(MOMENTS) if kind is Kind.DATETIME else DAYS)))
    else:
        right = draw(_operands(kind))
    if op in ("=", "!=") and draw(st.integers(0, 9)) == 0:
        right = _NULL
    sides = (left, right) if draw(st.booleans()) else (right, left)
    return ("cmp", op, *sides)


@st.composite
def _lists(draw: st.DrawFn) -> Tree:
    kind = draw(st.sampled_from([Kind.TEXT, Kind.NUMBER, Kind.BOOLEAN]))
    items = draw(st.lists(st.one_of(_operands(kind), _operands(kind), st.just(_NULL)), min_size=1, max_size=4))
    return ("list", draw(_operands(kind)), tuple(items), draw(st.booleans()))


_SOUGHT: dict[Kind, list[Any]] = {
    Kind.TEXT: ["u1", "1", "true", '["u1"]'],
    Kind.NUMBER: [0, 1, 1.5],
    Kind.BOOLEAN: [True, False],
}


def _arrays_of(kind: Kind) -> st.SearchStrategy[Tree]:
    sought = st.sampled_from([(_LITERALS[kind], value) for value in _SOUGHT[kind]])
    return st.tuples(st.just("array"), st.one_of(sought, _operands(kind)), _operands(Kind.JSON), st.booleans())


_any_operand = st.one_of([_operands(kind) for kind in Kind] + [st.just(("claim", "groups"))])
_likes = st.tuples(st.just("cmp"), st.sampled_from(["~", "!~"]), _operands(Kind.TEXT), _operands(Kind.TEXT))
_macros = st.one_of(
    st.just(("macro", "owns_record", "")),
    st.tuples(st.just("macro"), st.just("has_role"), st.sampled_from(["u1", "a%", "x"])),
    st.tuples(st.just("macro"), st.just("has_group"), st.sampled_from(["g1", "g2", "x"])),
)
_leaves: st.SearchStrategy[Tree] = st.one_of(
    _comparisons(),
    _comparisons(),
    _likes,
    _lists(),
    st.tuples(st.just("groups"), _operands(Kind.TEXT), st.booleans()),
    st.one_of([_arrays_of(kind) for kind in (Kind.TEXT, Kind.NUMBER, Kind.BOOLEAN)]),
    st.tuples(st.just("null"), _any_operand, st.booleans()),
    st.tuples(st.just("bare"), _operands(Kind.BOOLEAN)),
    _macros,
)
_joins = ("and", "or")
trees: st.SearchStrategy[Tree] = st.recursive(
    _leaves,
    lambda inner: st.one_of(
        st.tuples(st.just("not"), inner),
        st.tuples(st.sampled_from(_joins), st.lists(inner, min_size=2, max_size=3).map(tuple)),
    ),
    max_leaves=6,
)

_SPELLINGS = {"and": ("&&", "AND", "and"), "or": ("||", "OR", "Or"), "not": ("!", "NOT ", "not ")}


def text_of(tree: Tree, choose: Callable[[int], int]) -> str:
    """One of the spellings of the tree; `choose(n)` picks a number below n."""

    def spelt(word: str) -> str:
        return _SPELLINGS[word][choose(3)]

    match tree:
        case ("and" | "or" as word, parts):
            return f" {spelt(word)} ".join(f"({text_of(part, choose)})" for part in parts)
        case ("not", part):
            return f"{spelt('not')}({text_of(part, choose)})"
        case ("cmp", op, left, right):
            space = " " * (choose(2) or isinstance(right[-1], int | float))
            return f"{_operand_text(left, choose)}{space}{op}{space}{_operand_text(right, choose)}"
        case ("list", left, items, negated):
            listed = ", ".join(_operand_text(item, choose) for item in items)
            return f"{_operand_text(left, choose)} {_in(negated, choose)} ({listed})"
        case ("groups", left, negated):
            return f"{_operand_text(left, choose)} {_in(negated, choose)} @request.auth.groups"
        case ("array", left, right, negated):
            return f"{_operand_text(left, choose)} {_in(negated, choose)} {_operand_text(right, choose)}"
        case ("null", operand, negated):
            return f"{_operand_text(operand, choose)} is {'not ' * negated}null"
        case ("bare", operand):
            return _operand_text(operand, choose)
        case ("macro", name, argument):
            return f"@{name}({repr(argument) if argument else ''})"
    raise AssertionError(tree)


def _in(negated: bool, choose: Callable[[int], int]) -> str:
    return ("NOT " if choose(2) else "not ") * negated + ("IN" if choose(2) else "in")


def _operand_text(operand: Tree, choose: Callable[[int], int]) -> str:
    match operand:
        case ("field", name):
            return str(name)
        case ("claim", name):
            return f"@request.auth.{name}"
        case ("data", name):
            return f"@request.data.{name}"
        case ("null_literal",):
            return ("null", "NULL")[choose(2)]
        case ("boolean", value):
            return (str(value), str(value).lower())[choose(2)]
        case ("number", value):
            return repr(value)
        case ("moment", value):
            return f"'{value}'"
        case ("text", value):
            quote = "'\""[choose(2)]
            doubled = choose(2)
            escaped = value.replace("\\", "\\\\").replace(quote, quote * 2 if doubled else "\\" + quote)
            return f"{quote}{escaped}{quote}"
    raise AssertionError(operand)


Truth = bool | None


def meaning(tree: Tree, record: Mapping[str, Any], auth: Auth, sent: Mapping[str, Any]) -> Truth:
    """TRUE, FALSE or unknown, by SQL's three-valued logic."""

    def held(operand: Tree) -> Any:
        return _held(operand, record, auth, sent)

    match tree:
        case ("and", parts):
            return _not(_any([_not(meaning(part, record, auth, sent)) for part in parts]))
        case ("or", parts):
            return _any([meaning(part, record, auth, sent) for part in parts])
        case ("not", part):
            return _not(meaning(part, record, auth, sent))
        case ("macro", name, argument):
            return _macro(name, argument, record, auth)
        case ("list" | "groups" | "array" as kind, left, *found, negated):
            truth = _member(kind, held(left), *[_all_held(one, held) for one in found], auth=auth)
            return _not(truth) if negated else truth
    return _condition(tree, held)


def _condition(tree: Tree, held: Callable[[Tree], Any]) -> Truth:
    match tree:
        case ("cmp", op, left, right) if _NULL in (left, right):
            return (held(left if right == _NULL else right) is None) is (op == "=")
        case ("cmp", op, left, right):
            kind = _kind_of(left) or _kind_of(right)
            return _compared(op, _as(held(left), kind, left), _as(held(right), kind, right))
        case ("null", operand, negated):
            return (held(operand) is None) is not negated
        case ("bare", operand):
            return _compared("=", held(operand), True)
    raise AssertionError(tree)


def _all_held(found: Any, held: Callable[[Tree], Any]) -> Any:
    """A list of operands as a list of values, or the one value of an operand."""
    return [held(item) for item in found] if isinstance(found[0], tuple) else held(found)


def _member(kind: str, left: Any, found: Any = None, *, auth: Auth) -> Truth:
    if kind == "list":
        return _any([_compared("=", left, item) for item in found])
    if kind == "groups":
        return None if auth.id is None or left is None else left in auth.groups
    if left is None or found is None:
        return None
    return isinstance(found, list) and any(_same(left, element) for element in found)


def _macro(name: str, argument: str, record: Mapping[str, Any], auth: Auth) -> Truth:
    if name == "owns_record":
        return _compared("=", record["created_by"], auth.id)
    if name == "has_role":
        return _compared("=", auth.role, argument)
    return None if auth.id is None else argument in auth.groups


def _any(truths: list[Truth]) -> Truth:
    return True if True in truths else None if None in truths else False


def _held(operand: Tree, record: Mapping[str, Any], auth: Auth, sent: Mapping[str, Any]) -> Any:
    match operand:
        case ("field", name):
            return record[name]
        case ("claim", "groups"):
            return None if auth.id is None else auth.groups
        case ("claim", name):
            return getattr(auth, name)
        case ("data", name):
            return sent[name]
        case ("null_literal",):
            return None
    return operand[1]


def _kind_of(operand: Tree) -> Kind | None:
    return {"field": FIELDS, "data": DATA}[operand[0]][operand[1]] if operand[0] in ("field", "data") else None


def _as(value: Any, kind: Kind | None, operand: Tree) -> Any:
    return MOMENTS[value] if operand[0] == "moment" and kind is Kind.DATETIME else value


def _not(truth: Truth) -> Truth:
    return None if truth is None else not truth


def _same(left: Any, right: Any) -> bool:
    """Equal and of one JSON type: number, text or boolean."""
    numbers = (int, float)
    return bool(left == right) and (type(left) is type(right) or (type(left) in numbers and type(right) in numbers))


def _compared(op: str, left: Any, right: Any) -> Truth:
    if left is None or right is None:
        return None
    match op:
        case "=":
            return bool(left == right)
        case "!=":
            return bool(left != right)
        case "<":
            return bool(left < right)
        case "<=":
            return bool(left <= right)
        case ">":
            return bool(left > right)
        case ">=":
            return bool(left >= right)
    return _like(left, right) == (op == "~")


def _like(text: str, pattern: str) -> bool:
    text, pattern = _ascii_lower(text), _ascii_lower(pattern)
    if "%" not in pattern:
        return any(text[start:].startswith(pattern) for start in range(len(text) + 1))
    # ends: how much of the text the pattern so far may have used up.
    ends = {0}
    position = 0
    while position < len(pattern):
        sign = pattern[position]
        position += 1
        if sign == "%":
            ends = set(range(min(ends), len(text) + 1)) if ends else ends
            continue
        if sign == "\\":
            if position == len(pattern):
                return False
            exact, position = pattern[position], position + 1
            ends = {end + 1 for end in ends if text[end : end + 1] == exact}
        else:
            ends = {end + 1 for end in ends if end < len(text) and sign in ("_", text[end])}
    return len(text) in ends


def _ascii_lower(text: str) -> str:
    return "".join(chr(ord(one) + 32) if "A" <= one <= "Z" else one for one in text)
