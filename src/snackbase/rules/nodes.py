"""Owns: the checked form of a rule, which both back ends read, and the values that go with it.

A checked rule is a tree of All and Any over leaves, without NOT: a negation is pushed into the leaves (De Morgan holds
in three-valued logic), and what can only be unknown is `false`. Since All and Any never turn an unknown or false part
into a true whole, the tree is TRUE for a record exactly when the rule is; that is the only question anybody asks of it.

Promises: equal meaning in a different order, spelling or direction gives the same tree and the same text.
Must not: know SQL, Python code or a parser.
On the path: between `check` (compile time) and the two back ends.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

import msgspec


class Kind(StrEnum):
    """What a field holds when it is compared. Reference, email, url, select, `id` and `created_by` are TEXT."""

    TEXT = "text"
    NUMBER = "number"
    BOOLEAN = "boolean"
    DATETIME = "datetime"
    DATE = "date"
    JSON = "json"


class Auth(msgspec.Struct, frozen=True):
    """The claims a rule can ask for, taken from the current user's row. `id` None is a guest: every claim is null,
    groups too."""

    id: str | None
    email: str | None
    role: str | None
    account_id: str | None
    groups: tuple[str, ...] = ()


class FieldOf(msgspec.Struct, frozen=True):
    """A field of the record that is judged."""

    name: str
    kind: Kind


class Claim(msgspec.Struct, frozen=True):
    """`groups` stands here only in an IsNull."""

    name: str
    kind: Kind = Kind.TEXT


class Data(msgspec.Struct, frozen=True):
    """A field of the request's body."""

    name: str
    kind: Kind


class Value(msgspec.Struct, frozen=True):
    """A constant, never null. A list where kind is JSON (only after `bind`)."""

    value: object
    kind: Kind


Operand = FieldOf | Claim | Data | Value


class Const(msgspec.Struct, frozen=True):
    truth: bool


class Compare(msgspec.Struct, frozen=True):
    """`op` is one of = != < <= > >=; both sides are of one kind."""

    op: str
    left: Operand
    right: Operand


class Like(msgspec.Struct, frozen=True):
    left: Operand
    pattern: Operand
    negated: bool


class OneOf(msgspec.Struct, frozen=True):
    """In a list of constants."""

    left: Operand
    values: tuple[Value, ...]
    negated: bool


class InGroups(msgspec.Struct, frozen=True):
    left: Operand
    negated: bool


class InArray(msgspec.Struct, frozen=True):
    """An element of a JSON array of the same type and value. What is not an array has no elements; null is unknown."""

    left: Operand
    array: Operand
    negated: bool


class IsNull(msgspec.Struct, frozen=True):
    operand: Operand
    negated: bool


class All(msgspec.Struct, frozen=True):
    parts: "tuple[Node, ...]"


class Any(msgspec.Struct, frozen=True):
    parts: "tuple[Node, ...]"


Leaf = Const | Compare | Like | OneOf | InGroups | InArray | IsNull
Node = Leaf | All | Any

_FLIPPED = {"=": "=", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
_SIDE: dict[type[Operand], int] = {FieldOf: 0, Data: 1, Claim: 2, Value: 3}
# Cheap tests first: both back ends stop at the first part that decides.
_BY_COST: tuple[tuple[type[Node], ...], ...] = (
    (Const, Compare, IsNull),
    (OneOf, InGroups),
    (InArray,),
    (Like,),
    (All, Any),
)
_COST = {kind: cost for cost, kinds in enumerate(_BY_COST) for kind in kinds}


@dataclass(frozen=True, slots=True)
class Rule:
    """A checked rule or filter. Two are equal when they mean the same: same canonical text over fields of the same
    kinds.

    Attributes:
        text: the canonical text (macros replaced, constants folded, parts in a fixed order).
        fields: names of the record's fields it reads.
        claims: which of id, email, role, account_id, groups it reads.
        uses_data: whether it reads `@request.data`.
        node: the tree, for the back ends in this package only.
    """

    text: str
    _kinds: frozenset[tuple[str, Kind]] = field(repr=False)
    node: Node = field(repr=False, compare=False)
    fields: frozenset[str] = field(repr=False, compare=False)
    claims: frozenset[str] = field(repr=False, compare=False)
    uses_data: bool = field(repr=False, compare=False)


def rule_of(node: Node) -> Rule:
    fields: set[str] = set()
    claims: set[str] = set()
    kinds: set[tuple[str, Kind]] = set()
    uses_data = False
    for leaf in leaves(node):
        if isinstance(leaf, InGroups):
            claims.add("groups")
        for operand in operands(leaf):
            if isinstance(operand, Claim):
                claims.add(operand.name)
            elif not isinstance(operand, Value):
                kinds.add((_operand_text(operand), operand.kind))
                uses_data |= isinstance(operand, Data)
                if isinstance(operand, FieldOf):
                    fields.add(operand.name)
    return Rule(text_of(node), frozenset(kinds), node, frozenset(fields), frozenset(claims), uses_data)


def leaves(node: Node) -> Iterable[Leaf]:
    if isinstance(node, All | Any):
        for part in node.parts:
            yield from leaves(part)
    else:
        yield node


def operands(leaf: Leaf) -> tuple[Operand, ...]:
    """The left side first; the constants of a list are not among them."""
    match leaf:
        case Compare(left=left, right=right):
            return (left, right)
        case Like(left=left, pattern=pattern):
            return (left, pattern)
        case InArray(left=left, array=array):
            return (left, array)
        case OneOf(left=left) | InGroups(left=left):
            return (left,)
        case IsNull(operand=operand):
            return (operand,)
    return ()


def all_of(parts: Iterable[Node]) -> Node:
    """The conjunction, in canonical form."""
    return _joined(parts, All, absorbing=False)


def any_of(parts: Iterable[Node]) -> Node:
    """The disjunction, in canonical form."""
    return _joined(parts, Any, absorbing=True)


def _joined(parts: Iterable[Node], kind: type[All] | type[Any], *, absorbing: bool) -> Node:
    found: dict[tuple[int, str], Node] = {}
    for part in parts:
        for one in part.parts if isinstance(part, kind) else (part,):
            if isinstance(one, Const):
                if one.truth is absorbing:
                    return one
            else:
                found[(_COST[type(one)], text_of(one))] = one
    if not found:
        return Const(not absorbing)
    ordered = tuple(found[key] for key in sorted(found))
    return ordered[0] if len(ordered) == 1 else kind(ordered)


def compare(op: str, left: Operand, right: Operand) -> Compare:
    """A comparison with the record's field on the left; a boolean is asked for equality with a constant."""
    if (_SIDE[type(left)], _operand_text(left)) > (_SIDE[type(right)], _operand_text(right)):
        left, right, op = right, left, _FLIPPED[op]
    if op == "!=" and isinstance(right, Value) and right.kind is Kind.BOOLEAN:
        op, right = "=", Value(not right.value, Kind.BOOLEAN)
    return Compare(op, left, right)


def one_of(left: Operand, values: Iterable[Value], *, negated: bool) -> Node:
    ordered = {_operand_text(value): value for value in values}
    if len(ordered) == 1:
        return compare("!=" if negated else "=", left, *ordered.values())
    return OneOf(left, tuple(ordered[key] for key in sorted(ordered)), negated)


def text_of(node: Node) -> str:
    """The rule language again: parses to the same rule, where it is not longer than a rule may be."""
    match node:
        case All(parts=parts):
            return " && ".join(f"({text_of(part)})" if isinstance(part, Any) else text_of(part) for part in parts)
        case Any(parts=parts):
            return " || ".join(f"({text_of(part)})" if isinstance(part, All) else text_of(part) for part in parts)
        case Const(truth=truth):
            return "true" if truth else "false"
        case Compare(op=op, left=left, right=right):
            return f"{_operand_text(left)} {op} {_operand_text(right)}"
        case Like(left=left, pattern=pattern, negated=negated):
            return f"{_operand_text(left)} {'!~' if negated else '~'} {_operand_text(pattern)}"
        case IsNull(operand=operand, negated=negated):
            return f"{_operand_text(operand)} IS {'NOT ' * negated}NULL"
        case OneOf(left=left, values=values, negated=negated):
            return f"{_operand_text(left)} {'NOT ' * negated}IN ({', '.join(map(_operand_text, values))})"
        case InGroups(left=left, negated=negated):
            return f"{_operand_text(left)} {'NOT ' * negated}IN @request.auth.groups"
        case InArray(left=left, array=array, negated=negated):
            return f"{_operand_text(left)} {'NOT ' * negated}IN {_operand_text(array)}"


def _operand_text(operand: Operand) -> str:
    match operand:
        case FieldOf(name=name):
            return name
        case Claim(name=name):
            return f"@request.auth.{name}"
        case Data(name=name):
            return f"@request.data.{name}"
        case Value(value=value):
            if isinstance(value, str):
                return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
            return str(value).lower() if isinstance(value, bool) else repr(value)
