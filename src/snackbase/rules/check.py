"""Owns: names and types. Turns a parsed rule into a `Rule` over the fields of one collection.

Promises: what passes can be evaluated by both back ends on every record without an error and without a conversion of
types, so there is no affinity to differ on; what a reader may not see cannot be asked about, and is refused in the
words of a field that does not exist.
Must not: know a principal's claims, SQL or generated code.
On the path: compile time, when a collection, a filter or a subscription is made.
"""

from collections.abc import Collection, Mapping
from difflib import get_close_matches

from snackbase.rules import syntax
from snackbase.rules.bind import truth
from snackbase.rules.moments import normal_date, normal_datetime
from snackbase.rules.nodes import (
    Claim,
    Const,
    Data,
    FieldOf,
    InArray,
    InGroups,
    IsNull,
    Kind,
    Leaf,
    Like,
    Node,
    Operand,
    Rule,
    Value,
    all_of,
    any_of,
    compare,
    one_of,
    operands,
    rule_of,
)
from snackbase.rules.tokens import RuleError, RuleErrorCode, quoted

_NEGATED = {"=": "!=", "!=": "=", "<": ">=", "<=": ">", ">": "<=", ">=": "<"}
_ELEMENTS = (Kind.TEXT, Kind.NUMBER, Kind.BOOLEAN)
_LONGEST_NAME = 64


def check(
    expr: syntax.Expr,
    fields: Mapping[str, Kind],
    *,
    data: Mapping[str, Kind] | None = None,
    readable: Collection[str] | None = None,
) -> Rule:
    """Resolve names and types.

    Args:
        fields: every field of the collection, system fields included.
        data: the fields that `@request.data.` may name; None where it may not be used at all.
        readable: the fields that whoever asks may read; None = all.

    Raises:
        RuleError: unknown_field, hidden_field, type_mismatch, not_allowed.
    Source: contract section 7.
    """
    return rule_of(_Checker(fields, data, readable).node(expr, negated=False))


class _Checker:
    def __init__(
        self, fields: Mapping[str, Kind], data: Mapping[str, Kind] | None, readable: Collection[str] | None
    ) -> None:
        self._fields = fields
        self._data = data
        self._readable = readable

    def node(self, expr: syntax.Expr, *, negated: bool) -> Node:
        """The tree of the expression, or of its negation; the depth was bounded by the parser."""
        match expr:
            case syntax.Every(parts=parts) | syntax.Either(parts=parts):
                joined = all_of if isinstance(expr, syntax.Every) is not negated else any_of
                return joined([self.node(part, negated=negated) for part in parts])
            case syntax.Negation(part=part):
                return self.node(part, negated=not negated)
            case syntax.Comparison():
                return self._comparison(expr, negated=negated)
            case syntax.InList():
                return self._in_list(expr, negated=negated is not expr.negated)
            case syntax.InName():
                return self._in_name(expr, negated=negated is not expr.negated)
            case syntax.NullTest(operand=operand):
                return self._is_null(operand, negated=negated is not expr.negated)
            case syntax.Bare(operand=operand):
                return self._bare(operand, negated=negated)

    def _comparison(self, expr: syntax.Comparison, *, negated: bool) -> Node:
        op, left, right = expr.op, expr.left, expr.right
        if op in ("~", "!~"):
            return self._like(left, right, negated=negated is not (op == "!~"))
        if _is_null(left) or _is_null(right):
            if op not in ("=", "!="):
                raise _error("null can only be compared with = and !=", left if _is_null(left) else right)
            return self._is_null(left if _is_null(right) else right, negated=negated is not (op == "!="))
        sides = self._pair(left, right)
        if sides[0].kind is Kind.BOOLEAN and op not in ("=", "!="):
            raise _error("booleans can only be compared with = and !=", right)
        return _folded(compare(_NEGATED[op] if negated else op, *sides))

    def _like(self, left: syntax.Operand, right: syntax.Operand, *, negated: bool) -> Node:
        sides = []
        for side in (left, right):
            if _is_null(side):
                raise _error("null cannot be matched with ~: use IS NULL", side)
            operand = self._operand(side)
            if operand.kind is not Kind.TEXT:
                raise _error(f"~ matches text only, and {_described(side, operand)}", side)
            sides.append(operand)
        return _folded(Like(sides[0], sides[1], negated))

    def _in_list(self, expr: syntax.InList, *, negated: bool) -> Node:
        """`x IN (a, b)` is `x = a || x = b`; so an element null makes it unknown where nothing else is equal."""
        self._left_of_in(expr.left)
        values: list[Value] = []
        parts: list[Node] = []
        for item in expr.items:
            if _is_null(item):
                parts.append(Const(truth=False))
                continue
            left, right = self._pair(expr.left, item)
            if isinstance(right, Value) and not isinstance(left, Value):
                values.append(right)
            else:
                parts.append(_folded(compare("!=" if negated else "=", left, right)))
        if values:
            parts.append(one_of(left, values, negated=negated))
        return all_of(parts) if negated else any_of(parts)

    def _in_name(self, expr: syntax.InName, *, negated: bool) -> Node:
        target = expr.target
        left = self._left_of_in(expr.left)
        if isinstance(target, syntax.ClaimRef) and target.name == "groups":
            if left.kind is not Kind.TEXT:
                raise _error(f"@request.auth.groups holds texts, and {_described(expr.left, left)}", expr.left)
            return InGroups(left, negated)
        if _is_null(target):
            raise _error("IN needs a list in parentheses, @request.auth.groups or a json field", target)
        array = self._operand(target)
        if array.kind is not Kind.JSON:
            raise _error(
                "IN needs a list in parentheses, @request.auth.groups or a json field, "
                f"and {_described(target, array)}",
                target,
            )
        if left.kind not in _ELEMENTS:
            described = _described(expr.left, left)
            raise _error(f"a json array is searched for texts, numbers and booleans, and {described}", expr.left)
        return InArray(left, array, negated)

    def _left_of_in(self, left: syntax.Operand) -> Operand:
        if _is_null(left):
            raise _error("null cannot be looked for with IN: use IS NULL", left)
        return self._operand(left)

    def _is_null(self, operand: syntax.Operand, *, negated: bool) -> Node:
        if isinstance(operand, syntax.Literal):
            return Const((operand.value is None) is not negated)
        if isinstance(operand, syntax.ClaimRef):
            return IsNull(Claim(operand.name), negated)
        return IsNull(self._operand(operand), negated)

    def _bare(self, operand: syntax.Operand, *, negated: bool) -> Node:
        if isinstance(operand, syntax.Literal):
            if isinstance(operand.value, bool):
                return Const(operand.value is not negated)
            raise _error(f"{quoted(operand.word)} alone is not a condition: compare it with something", operand)
        resolved = self._operand(operand)
        if resolved.kind is not Kind.BOOLEAN:
            described = _described(operand, resolved)
            raise _error(f"{described}, which alone is not a condition: compare it with something", operand)
        return compare("=", resolved, Value(not negated, Kind.BOOLEAN))

    def _pair(self, left: syntax.Operand, right: syntax.Operand) -> tuple[Operand, Operand]:
        """Both sides, of one kind; a text literal beside a datetime or date becomes one."""
        first, second = self._operand(left), self._operand(right)
        if isinstance(second, Value):
            second = _moment(second, first.kind, right)
        elif isinstance(first, Value):
            first = _moment(first, second.kind, left)
        if Kind.JSON in (first.kind, second.kind):
            raise _error("a json field can only be tested with IS NULL, IS NOT NULL and `value IN field`", right)
        if first.kind is not second.kind:
            raise _error(
                f"a {first.kind} and a {second.kind} cannot be compared "
                f"({_described(left, first)}, {_described(right, second)})",
                right,
            )
        return first, second

    def _operand(self, operand: syntax.Operand) -> Operand:
        match operand:
            case syntax.Literal(value=bool() as value):
                return Value(value, Kind.BOOLEAN)
            case syntax.Literal(value=str() as value):
                return Value(value, Kind.TEXT)
            case syntax.Literal(value=value):
                return Value(value, Kind.NUMBER)
            case syntax.ClaimRef(name="groups"):
                raise _error("@request.auth.groups is a list: use `… IN @request.auth.groups`", operand)
            case syntax.ClaimRef(name=name):
                return Claim(name)
            case syntax.FieldRef(name=name):
                return FieldOf(name, self._kind(operand))
            case syntax.DataRef(name=name):
                return Data(name, self._data_kind(operand))

    def _kind(self, operand: syntax.FieldRef) -> Kind:
        kind = self._fields.get(operand.name)
        if kind is not None and (self._readable is None or operand.name in self._readable):
            return kind
        names = self._fields if self._readable is None else [name for name in self._fields if name in self._readable]
        raise _error(
            f"{quoted(operand.name)} is not a field of this collection{_suggestion(operand.name, names)}",
            operand,
            "unknown_field" if kind is None else "hidden_field",
        )

    def _data_kind(self, operand: syntax.DataRef) -> Kind:
        if self._data is None:
            raise _error("@request.data can only be used in create and update rules", operand, "not_allowed")
        kind = self._data.get(operand.name)
        if kind is None:
            message = f"{quoted(operand.name)} is not a field of this collection{_suggestion(operand.name, self._data)}"
            raise _error(message, operand, "unknown_field")
        return kind


def _folded(leaf: Leaf) -> Leaf:
    """The leaf, or what it comes to when it reads nothing."""
    return leaf if any(not isinstance(operand, Value) for operand in operands(leaf)) else Const(truth(leaf))


def _moment(literal: Value, kind: Kind, source: syntax.Operand) -> Value:
    if literal.kind is not Kind.TEXT or kind not in (Kind.DATETIME, Kind.DATE):
        return literal
    text = str(literal.value)
    normal = normal_datetime(text) if kind is Kind.DATETIME else normal_date(text)
    if normal is None:
        example = "2026-01-17T12:34:56.789Z" if kind is Kind.DATETIME else "2026-01-17"
        raise _error(f"the text {quoted(text)} is not a {kind} such as {example}", source)
    return Value(normal, kind)


def _is_null(operand: syntax.Operand) -> bool:
    return isinstance(operand, syntax.Literal) and operand.value is None


def _suggestion(name: str, names: Collection[str]) -> str:
    close = get_close_matches(name, names, n=1) if len(name) <= _LONGEST_NAME else []
    return f" (did you mean {quoted(close[0])}?)" if close else ""


def _described(source: syntax.Operand, operand: Operand) -> str:
    return f"{_word(source) if isinstance(operand, Value) else quoted(_word(source))} is a {operand.kind}"


def _word(operand: syntax.Operand) -> str:
    match operand:
        case syntax.Literal(word=word):
            return word if len(word) <= _LONGEST_NAME and word.isprintable() else quoted(word)
        case syntax.ClaimRef(name=name):
            return f"@request.auth.{name}"
        case syntax.DataRef(name=name):
            return f"@request.data.{name}"
        case syntax.FieldRef(name=name):
            return name


def _error(text: str, operand: syntax.Operand, code: RuleErrorCode = "type_mismatch") -> RuleError:
    word = operand.word if isinstance(operand, syntax.Literal) else _word(operand)
    return RuleError(text, position=operand.position, word=word, code=code)
