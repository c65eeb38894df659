"""The one language of rules and filters (contract section 7): `parse`, `check`, then `to_sql` or `predicate`, which
agree on every input.

    rule = check(parse("owner = @request.auth.id && title ~ 'draft%'"), {"owner": Kind.TEXT, "title": Kind.TEXT})

Promises: bounded, pure, and no error but RuleError on any text. Must not: know collections, storage or the network.
"""

from snackbase.rules.bind import constant
from snackbase.rules.check import check
from snackbase.rules.moments import normal_date, normal_datetime
from snackbase.rules.nodes import Auth, Kind, Rule
from snackbase.rules.parts import Condition, Tie, bound, conditions, conjunction, conjuncts, searches, tie
from snackbase.rules.predicate import Predicate, predicate
from snackbase.rules.sql import IN_TIME, Dialect, to_sql
from snackbase.rules.syntax import MAX_DEPTH, MAX_LIST, MAX_NODES, Expr, parse
from snackbase.rules.tokens import MAX_INTEGER, MAX_TEXT, RESERVED_WORDS, RuleError

__all__ = [
    "IN_TIME",
    "MAX_DEPTH",
    "MAX_INTEGER",
    "MAX_LIST",
    "MAX_NODES",
    "MAX_TEXT",
    "RESERVED_WORDS",
    "Auth",
    "Condition",
    "Dialect",
    "Expr",
    "Kind",
    "Predicate",
    "Rule",
    "RuleError",
    "Tie",
    "bound",
    "check",
    "conditions",
    "conjunction",
    "conjuncts",
    "constant",
    "normal_date",
    "normal_datetime",
    "parse",
    "predicate",
    "searches",
    "tie",
    "to_sql",
]
