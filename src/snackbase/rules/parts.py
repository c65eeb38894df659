"""Owns: taking rules apart and putting them together, so that a principal's own records can be found by a hash look-up.

Promises: a rule is true for a record exactly if all its `conjuncts` are; `index_key` names one that ties a field to a
claim.
Must not: evaluate anything.
On the path: subscribe time, before step 7.
"""

from collections.abc import Iterable
from typing import Literal

import msgspec

from snackbase.rules.nodes import All, Claim, Compare, FieldOf, InArray, InGroups, Node, Rule, all_of, rule_of


class IndexKey(msgspec.Struct, frozen=True):
    """The rule is true only where `field` equals the claim (`equal`), is one of the principal's groups (`in_claim`,
    claim `groups`), or is a JSON array that holds the claim (`claim_in_field`), and only if `rest` (None: nothing more)
    is true too. A null claim matches no record."""

    field: str
    claim: str
    how: Literal["equal", "in_claim", "claim_in_field"]
    rest: Rule | None


# The most selective first: everybody in an account shares its id, and most of them a role.
_SELECTIVE = (
    ("id", "equal"),
    ("email", "equal"),
    ("id", "claim_in_field"),
    ("email", "claim_in_field"),
    ("groups", "in_claim"),
    ("role", "claim_in_field"),
    ("role", "equal"),
    ("account_id", "claim_in_field"),
    ("account_id", "equal"),
)


def conjuncts(rule: Rule) -> list[Rule]:
    """The rules of which all must be true; the rule itself when it has no top-level AND. Never empty."""
    return [rule_of(part) for part in rule.node.parts] if isinstance(rule.node, All) else [rule]


def conjunction(rules: Iterable[Rule]) -> Rule:
    """One rule that is true where all are; of none: always true."""
    return rule_of(all_of([rule.node for rule in rules]))


def index_key(rule: Rule) -> IndexKey | None:
    """The most selective conjunct that ties a field to a claim of the principal, if there is one."""
    parts = rule.node.parts if isinstance(rule.node, All) else (rule.node,)
    found = [(_SELECTIVE.index(tie[1:]), number, tie) for number, part in enumerate(parts) if (tie := _tie(part))]
    if not found:
        return None
    _, number, (field, claim, how) = min(found)
    rest = parts[:number] + parts[number + 1 :]
    return IndexKey(field, claim, how, rule_of(all_of(rest)) if rest else None)


def _tie(part: Node) -> tuple[str, str, Literal["equal", "in_claim", "claim_in_field"]] | None:
    match part:
        case Compare(op="=", left=FieldOf(name=field), right=Claim(name=claim)):
            return field, claim, "equal"
        case InGroups(left=FieldOf(name=field), negated=False):
            return field, "groups", "in_claim"
        case InArray(left=Claim(name=claim), array=FieldOf(name=field), negated=False):
            return field, claim, "claim_in_field"
    return None
