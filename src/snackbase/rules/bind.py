"""Owns: putting a principal's claims and a request's data into a checked rule, and deciding what then no longer depends
on the record.

Promises: the result holds only fields and constants, the same for both back ends; a null claim makes what reads it
unknown, so false here.
Must not: know SQL or generated code.
On the path: once per subscription, list or write, before a back end runs.
"""

import operator
from collections.abc import Callable, Mapping
from typing import Any as AnyType

from snackbase.rules.like import like
from snackbase.rules.nodes import (
    All,
    Any,
    Auth,
    Claim,
    Compare,
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
    OneOf,
    Operand,
    Rule,
    Value,
    operands,
)

_COMPARE: dict[str, Callable[[AnyType, AnyType], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_FALSE = Const(truth=False)


def bind(rule: Rule, auth: Auth, data: Mapping[str, object] | None = None) -> Node:
    """The rule for this principal; its operands are fields and values.

    Args:
        data: the request's values as they would be stored and returned; a missing one is null.

    Raises:
        ValueError: the rule reads `@request.data` and there is none.
    """
    if not rule.claims and not rule.uses_data:
        return rule.node
    if rule.uses_data and data is None:
        raise ValueError("this rule reads @request.data, which was not given")
    return _bound(rule.node, auth, data or {})


def constant(rule: Rule, auth: Auth, data: Mapping[str, object] | None = None) -> bool | None:
    """Whether the rule is true (or not) for this principal whatever the record; None when the record decides."""
    node = bind(rule, auth, data)
    return node.truth if isinstance(node, Const) else None


def _bound(node: Node, auth: Auth, data: Mapping[str, object]) -> Node:
    if not isinstance(node, All | Any):
        return _leaf(node, auth, data)
    decisive = isinstance(node, Any)
    parts: list[Node] = []
    for part in node.parts:
        one = _bound(part, auth, data)
        if not isinstance(one, Const):
            parts.append(one)
        elif one.truth is decisive:
            return one
    if not parts:
        return Const(not decisive)
    return parts[0] if len(parts) == 1 else type(node)(tuple(parts))


def _leaf(leaf: Leaf, auth: Auth, data: Mapping[str, object]) -> Node:
    if isinstance(leaf, IsNull):
        held = _held(leaf.operand, auth, data)
        return leaf if isinstance(held, FieldOf) else Const((held is None) is not leaf.negated)
    bound = [_held(operand, auth, data) for operand in operands(leaf)]
    present = [operand for operand in bound if operand is not None]
    if len(present) < len(bound):
        return _FALSE
    if not present:
        return leaf
    left, right = present[0], present[-1]
    match leaf:
        case Compare(op=op):
            result: Leaf = Compare(op, left, right)
        case Like(negated=negated):
            result = Like(left, right, negated)
        case OneOf(values=values, negated=negated):
            result = OneOf(left, values, negated)
        case InGroups(negated=negated):
            return _FALSE if auth.id is None else _among(left, auth.groups, negated=negated)
        case InArray(negated=negated):
            if isinstance(right, Value):
                return _among(left, elements(right.value, left.kind), negated=negated)
            return InArray(left, right, negated)
    return result if any(isinstance(operand, FieldOf) for operand in present) else Const(truth(result))


def _held(operand: Operand, auth: Auth, data: Mapping[str, object]) -> Operand | None:
    """The field or value that stands for the operand; None for null."""
    if isinstance(operand, Claim):
        if operand.name == "groups":
            return None if auth.id is None else Value(auth.groups, Kind.JSON)
        value = getattr(auth, operand.name)
    elif isinstance(operand, Data):
        value = data.get(operand.name)
    else:
        return operand
    return None if value is None else Value(value, operand.kind)


def _among(left: Operand, found: "tuple[object, ...] | list[object]", *, negated: bool) -> Node:
    """Membership in a list that is known now. In an empty one is nothing, and null is still unknown, not absent."""
    if isinstance(left, Value):
        return Const((left.value in found) is not negated)
    if not found:
        return IsNull(left, negated=True) if negated else _FALSE
    return OneOf(left, tuple(Value(one, left.kind) for one in dict.fromkeys(found)), negated)


def elements(array: object, kind: Kind) -> list[object]:
    """The elements of an array that are of this kind: true is no number, and 1 no text."""
    if type(array) is not list:
        return []
    types: tuple[type, ...] = {Kind.TEXT: (str,), Kind.BOOLEAN: (bool,)}.get(kind, (int, float))
    return [element for element in array if type(element) in types]


def truth(leaf: Leaf) -> bool:
    """Whether a leaf without fields and nulls is true."""
    match leaf:
        case Compare(op=op, left=Value(value=left), right=Value(value=right)):
            try:
                return _COMPARE[op](left, right)
            except TypeError:
                return False
        case Like(left=Value(value=str() as text), pattern=Value(value=str() as pattern), negated=negated):
            return like(text, pattern) is not negated
        case OneOf(left=Value(value=value), values=values, negated=negated):
            return any(value == one.value for one in values) is not negated
        case Const(truth=known):
            return known
    return False
