"""Owns: taking rules apart and putting them together, so that a principal's own records can be found by a hash look-up.

Promises: a rule is true for a record exactly if all its `conjuncts` are; `tie` names a field and the values without
which it cannot be true.
Must not: evaluate anything.
On the path: subscribe time, before step 7.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Literal

import msgspec

from snackbase.rules.bind import bind
from snackbase.rules.nodes import (
    All,
    Any,
    Auth,
    Claim,
    Compare,
    Const,
    FieldOf,
    InArray,
    InGroups,
    Kind,
    Leaf,
    Like,
    Node,
    OneOf,
    Rule,
    Value,
    all_of,
    any_of,
    leaves,
    one_of,
    operands,
    rule_of,
    text_of,
)

WILD_SEARCH, LIST_SEARCH = 20, 5
"""What looking for a text with `_` for any character, and for a number in a list, cost in searches for a plain text."""
MOST_TIED = 256
"""Values of a list by which a rule may be found; a longer one is judged instead."""

_Scalar = str | int | float


class Tie(msgspec.Struct, frozen=True):
    """The rule is true only where `field` holds one of `values`, or, with `elements`, is a JSON array that does."""

    field: str
    values: tuple[_Scalar, ...]
    elements: bool = False


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """One of the conditions of which all must hold.

    Attributes:
        cost: what deciding it takes: nothing, the user's claims alone, or the record and its dearest kind of test.
        field: the field by which records for which it can hold are found, if it is one.
        varies: whether a part of it depends on the user alone, so that it may be decided for some users only.
    """

    text: str
    cost: Literal["constant", "principal", "compare", "list", "array", "text"]
    field: str | None = None
    varies: bool = False


def conditions(rule: Rule) -> list[Condition]:
    """What a rule asks, condition by condition, in the order in which it is judged."""
    return [_condition(part.node) for part in conjuncts(rule)]


def _condition(part: Node) -> Condition:
    found = list(leaves(part))
    judged = [leaf for leaf in found if any(isinstance(operand, FieldOf) for operand in operands(leaf))]
    text = text_of(part)
    if not judged:
        return Condition(text=text, cost="constant" if isinstance(part, Const) else "principal")
    kinds = {type(leaf) for leaf in judged}
    cost: Literal["compare", "list", "array", "text"] = "compare"
    if Like in kinds:
        cost = "text"
    elif InArray in kinds:
        cost = "array"
    elif kinds & {OneOf, InGroups}:
        cost = "list"
    return Condition(text=text, cost=cost, field=_tied_field(part), varies=len(judged) < len(found))


def _tied_field(part: Node) -> str | None:
    """The field that a condition ties, also by a claim that is not known yet."""
    match part:
        case Compare(op="=", left=FieldOf(name=field), right=Claim()):
            return field
        case InGroups(left=FieldOf(name=field), negated=False):
            return field
        case InArray(left=Claim(), array=FieldOf(name=field), negated=False):
            return field
    found = _tie(part)
    return found.field if found is not None else None


@lru_cache(maxsize=1024)
def searches(rule: Rule, short: frozenset[str]) -> int:
    """How much a rule looks through texts and lists of a record, in searches for a plain text (`~`): up to 0.7 ms each
    in one of 200,000 characters.

    Args:
        short: fields whose values are never long.
    """
    return sum(_search(leaf, short) for leaf in leaves(rule.node))


def _search(leaf: Leaf, short: frozenset[str]) -> int:
    match leaf:
        case Like(left=FieldOf(name=name), pattern=pattern) if name not in short:
            plain = isinstance(pattern, Value) and not ("%" in str(pattern.value) and "_" in str(pattern.value))
            return 1 if plain else WILD_SEARCH
        case Like(pattern=FieldOf(name=name)) if name not in short:
            return WILD_SEARCH
        case InArray(left=left, array=FieldOf()):
            return 1 if left.kind is Kind.TEXT else LIST_SEARCH
    return 0


def conjuncts(rule: Rule) -> list[Rule]:
    """The rules of which all must be true; the rule itself when it has no top-level AND. Never empty."""
    return [rule_of(part) for part in rule.node.parts] if isinstance(rule.node, All) else [rule]


def conjunction(rules: Iterable[Rule]) -> Rule:
    """One rule that is true where all are; of none: always true."""
    return rule_of(all_of([rule.node for rule in rules]))


def bound(rule: Rule, auth: Auth, data: Mapping[str, object] | None = None) -> Rule:
    """The rule for this principal, without claims, in canonical form: what means the same for two principals is equal.

    Raises:
        ValueError: the rule reads `@request.data` and there is none.
    """
    return rule_of(_canonical(bind(rule, auth, data)))


def _canonical(node: Node) -> Node:
    match node:
        case All(parts=parts):
            return all_of(map(_canonical, parts))
        case Any(parts=parts):
            return any_of(map(_canonical, parts))
        case OneOf(left=left, values=values, negated=negated):
            return one_of(left, values, negated=negated)
    return node


def tie(rule: Rule) -> Tie | None:
    """The conjunct of a bound rule by which the records it can be true for are found soonest, if there is one."""
    parts = rule.node.parts if isinstance(rule.node, All) else (rule.node,)
    found = [one for part in parts if (one := _tie(part)) is not None]
    return min(found, key=_breadth) if found else None


def _breadth(one: Tie) -> tuple[int, int]:
    """Few values first, and of those the longest: an id tells more apart than a status."""
    return len(one.values), -max(len(str(value)) for value in one.values)


def _tie(part: Node) -> Tie | None:
    match part:
        case Compare(op="=", left=FieldOf(name=field), right=Value() as value):
            return _tied(field, (value,))
        case OneOf(left=FieldOf(name=field), values=values, negated=False) if len(values) <= MOST_TIED:
            return _tied(field, values)
        case InArray(left=Value() as value, array=FieldOf(name=field), negated=False):
            return _tied(field, (value,), elements=True)
    return None


def _tied(field: str, values: tuple[Value, ...], *, elements: bool = False) -> Tie | None:
    """Booleans tie nothing: half of all records have each."""
    scalars = tuple(one.value for one in values if isinstance(one.value, _Scalar) and not isinstance(one.value, bool))
    return Tie(field, scalars, elements) if len(scalars) == len(values) else None
