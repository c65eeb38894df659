"""The plan of a rule says what delivery does: the same cost as the view that a subscription becomes."""

import pytest

from snackbase.catalog import Catalog
from snackbase.hub.views import subscription_of
from snackbase.model import Collection, Field, FieldType, Principal, Rules
from snackbase.realtime.protocol import SubscribeRequest
from snackbase.rules import Auth, Kind, check, parse
from snackbase.services.plans import SAME_ACCOUNT, plan_of
from tests.unit.rules.support import FIELDS, rule

ANN = Auth("a-long-id-of-ann", "ann@x.y", "user", "acme", ("red", "blue"))


@pytest.mark.parametrize(
    ("text", "cost", "index"),
    [
        ("", "none", None),
        ("false", "none", None),
        ("@request.auth.id != ''", "none", None),
        (SAME_ACCOUNT, "none", None),
        ("@owns_record()", "indexed", "created_by = @request.auth.id"),
        ("title ~ 'x' && room IN @request.auth.groups", "indexed", "room IN @request.auth.groups"),
        ("@request.auth.id IN members", "indexed", "@request.auth.id IN members"),
        ("'x' IN members", "indexed", "'x' IN members"),
        ("title IN ('a', 'b')", "indexed", "title IN ('a', 'b')"),
        ("done = true", "judged", None),
        ("views > 3", "judged", None),
        ("title ~ 'x'", "judged", None),
        ("@owns_record() || done", "judged", None),
        ("room NOT IN @request.auth.groups", "judged", None),
        ("@request.auth.id NOT IN members", "judged", None),
    ],
)
def test_the_plan_of_a_rule_for_everybody(text: str, cost: str, index: str | None) -> None:
    events = plan_of(check(parse(text), FIELDS | {"account_id": Kind.TEXT}), None, listing=True).events
    assert events is not None
    assert (events.cost, events.index, events.budgeted) == (cost, index, cost == "judged")


def test_the_plan_for_one_user_knows_what_that_users_claims_decide() -> None:
    own = rule("@has_role('admin') || @owns_record()")
    for auth, cost in ((None, "judged"), (ANN, "indexed"), (Auth("b", None, "admin", "acme"), "none")):
        events = plan_of(own, auth, listing=True).events
        assert events is not None
        assert events.cost == cost
        assert ("send `auth`" in events.message) is (auth is None)


def test_a_plan_shows_the_rule_as_it_was_understood_and_what_each_condition_takes() -> None:
    found = plan_of(rule("title ~ 'x' && (done || @has_role('a')) && 'y' IN members && views > 1"), None, listing=True)
    assert found.text == "views > 1 && 'y' IN members && title ~ 'x' && (@request.auth.role = 'a' || done = true)"
    assert [(one.cost, one.field, one.varies) for one in found.conditions] == [
        ("compare", None, False),
        ("array", "members", False),
        ("text", None, False),
        ("compare", None, True),
    ]
    assert found.fields == ("done", "members", "title", "views")
    assert found.claims == ("role",)


def test_a_locked_rule_has_a_plan_and_a_rule_that_is_no_list_rule_has_none_for_events() -> None:
    locked = plan_of(None, None, listing=True).events
    assert locked is not None and locked.cost == "none"
    create = check(parse("@request.data.title = title"), FIELDS, data=FIELDS)
    assert plan_of(create, ANN, listing=False).events is None


@pytest.mark.parametrize(
    "text",
    ["", "owner = @request.auth.id", "stars > 1", "@has_role('admin') || stars > 1", "owner = 'x' || stars = 1"],
)
@pytest.mark.parametrize("role", ["admin", "user"])
@pytest.mark.parametrize("wanted", ["", "owner IN ('a', 'b')", "stars = 3", "owner ~ 'a%'"])
def test_the_plan_for_one_user_is_what_a_subscription_of_that_user_becomes(text: str, role: str, wanted: str) -> None:
    """One function says it and another does it: they must not come apart."""
    fields = (Field(name="owner"), Field(name="stars", type=FieldType.NUMBER))
    rules = Rules(list_rule=text, view_rule="", create_rule="", update_rule="", delete_rule="")
    made = Collection(id="c", name="things", table="t", fields=fields, rules=rules, created_at="x", updated_at="x")
    principal = Principal(kind="user", account_id="acme", actor_id="ann", role=role)
    request = SubscribeRequest(collection="things", filter=wanted)
    catalog = Catalog(1, [made])
    view = subscription_of(catalog, principal, request, frozenset()).views["c"]
    definition = catalog.by_name("things")
    assert definition is not None
    joined = " && ".join(f"({part})" for part in (text, wanted) if part)
    auth = Auth("ann", None, role, "acme")
    events = plan_of(definition.filter(joined, None), auth, listing=True).events
    assert events is not None
    assert events.budgeted is view.costly
    assert (events.cost == "indexed") is (view.index is not None and bool(view.index.values))
