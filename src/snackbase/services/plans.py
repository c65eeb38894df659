"""What a rule or filter costs: how it is judged for events and how a list finds its records (`POST /rules/validate`).

Says what delivery would do, by the functions that delivery uses, without doing any of it; with a user given, for that
user, and without one as far as it can be known of all. Must not decide about a record.
"""

from collections.abc import Callable
from typing import Literal, cast

import msgspec

from snackbase.catalog import Definition
from snackbase.errors import SnackBaseError
from snackbase.model import SYSTEM_ACCOUNT_ID
from snackbase.rules import Auth, Condition, Rule, bound, conditions, conjunction, tie, to_sql
from snackbase.storage.base import Store
from snackbase.storage.schema import quoted

SAME_ACCOUNT = "account_id = @request.auth.account_id"
"""Holds for every record that an event or a list of the account could be about."""
STRANGER = Auth(id="", email="", role="", account_id=SYSTEM_ACCOUNT_ID)
"""Stands for a user where only the shape of the SQL matters."""

Cost = Literal["none", "indexed", "judged"]
MESSAGES: dict[str, str] = {
    "locked": "Locked: superadmins only.",
    "all": "It is true for every record: all these subscribers share one encoding of an event.",
    "nothing": "It is true for no record: events cost these subscriptions nothing.",
    "principal": "It depends on the user alone, and is decided once, when they subscribe; events cost nothing more.",
    "indexed": "Found by a hash look-up of {field}: events that do not concern a subscriber cost nothing.",
    "judged": "Every event of the collection is judged once for all subscribers with equal {shared}. Such a view "
    "counts against SNACKBASE_REALTIME_MAX_JUDGED_PER_USER and SNACKBASE_REALTIME_MAX_JUDGED_PER_ACCOUNT. A condition "
    "such as `field = value` or `field IN @request.auth.groups`, joined to the rest by &&, makes it indexed.",
    "varies": " For some users one side of a || may hold, or fail, whatever the record: send `auth` to see the plan "
    "for one.",
}


class EventPlan(msgspec.Struct, frozen=True, kw_only=True):
    """How a subscription is found for an event.

    Attributes:
        cost: none = the record need not be looked at; indexed = by a hash look-up; judged = every event is judged.
        index: the condition that is looked up.
        budgeted: whether it takes one of the views that a user and an account may have judged.
    """

    cost: Cost
    index: str | None
    budgeted: bool
    message: str


class RulePlan(msgspec.Struct, frozen=True, kw_only=True):
    """A rule (and a filter) as the server understood it.

    Attributes:
        text: macros replaced, constants folded, cheap conditions first; with a user's claims put in when one is given.
        conditions: which must all hold, in the order in which they are judged.
        events: only of list rules. lists: what the database says about a list; None = it was not asked.
    """

    text: str
    fields: tuple[str, ...]
    claims: tuple[str, ...]
    conditions: tuple[Condition, ...]
    events: EventPlan | None = None
    lists: tuple[str, ...] | None = None


def plan_of(rule: Rule | None, auth: Auth | None, *, listing: bool) -> RulePlan:
    """The plan of a rule.

    Args:
        rule: None = locked.
        auth: for this user; None = as far as it is the same for all.
    """
    if rule is None:
        events = EventPlan(cost="none", index=None, budgeted=False, message=MESSAGES["locked"])
        return RulePlan(text="", fields=(), claims=(), conditions=(), events=events if listing else None)
    claims = tuple(sorted(rule.claims))
    known = rule if auth is None or rule.uses_data else bound(rule, auth)
    parts = tuple(conditions(known))
    return RulePlan(
        text=known.text,
        fields=tuple(sorted(known.fields)),
        claims=claims,
        conditions=parts,
        events=_events(known, parts, claims, final=auth is not None) if listing else None,
    )


def _events(rule: Rule, parts: tuple[Condition, ...], claims: tuple[str, ...], *, final: bool) -> EventPlan:
    def plan(cost: Cost, word: str, index: Condition | None = None, **values: str) -> EventPlan:
        message = MESSAGES[word].format(**values)
        if cost == "judged" and not final and any(part.varies for part in parts):
            message += MESSAGES["varies"]
        return EventPlan(
            cost=cost, index=None if index is None else index.text, budgeted=cost == "judged", message=message
        )

    if rule.text == "false":
        return plan("none", "nothing")
    asked = [part for part in parts if part.text != SAME_ACCOUNT and part.cost != "constant"]
    if not asked:
        return plan("none", "all")
    if all(part.cost == "principal" for part in asked):
        return plan("none", "principal")
    found = tie(rule)
    tied = [part for part in asked if part.field is not None and (found is None or part.field == found.field)]
    if tied:
        return plan("indexed", "indexed", tied[0], field=str(tied[0].field))
    shared = ", ".join(("rule and filter", *(f"@request.auth.{claim}" for claim in claims)))
    return plan("judged", "judged", shared=shared)


async def list_plan(
    store: Store, definition: Definition, rules: tuple[Rule, ...], auth: Auth | None
) -> tuple[str, ...]:
    """What the database says about finding a list's first page, one step a line; empty when it cannot say."""
    collection, args = definition.collection, list[object]()

    def param(value: object) -> str:
        args.append(value)
        return "?"

    account = param(SYSTEM_ACCOUNT_ID)
    column: Callable[[str], str] = quoted
    dialect = cast(Literal["sqlite", "postgres"], store.dialect)
    where = to_sql(conjunction(rules), auth or STRANGER, dialect=dialect, column=column, param=param)
    words = "EXPLAIN QUERY PLAN" if dialect == "sqlite" else "EXPLAIN"
    sql = (
        f"{words} SELECT 1 FROM {quoted(collection.table)} WHERE account_id = {account} AND {where} "  # noqa: S608  # quoted names and placeholders
        "ORDER BY created_at DESC, id DESC LIMIT 30"
    )
    try:
        return tuple(str(row[-1]).strip() for row in await store.fetch(sql, args))
    except SnackBaseError:
        return ()
