"""Taking rules apart: conjuncts, the rule bound to one principal, and the tie that becomes a hash index."""

import pytest

from snackbase.rules import Auth, Kind, Tie, bound, check, conjunction, conjuncts, parse, tie
from tests.unit.rules.support import rule

ANN = Auth("a-long-id-of-ann", "ann@x.y", "user", "acme", ("red", "blue"))
GUEST = Auth(None, None, None, None)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("created_by = @request.auth.id", Tie("created_by", (ANN.id or "",))),
        ("@request.auth.id = created_by", Tie("created_by", (ANN.id or "",))),
        ("@owns_record()", Tie("created_by", (ANN.id or "",))),
        ("title IN (@request.auth.email)", Tie("title", ("ann@x.y",))),
        ("room IN @request.auth.groups", Tie("room", ("blue", "red"))),
        ("@request.auth.id IN members", Tie("members", (ANN.id or "",), elements=True)),
        ("'x' IN members", Tie("members", ("x",), elements=True)),
        ("created_by = 'u1'", Tie("created_by", ("u1",))),
        ("views = 3", Tie("views", (3,))),
        ("room IN ('a', 'b') && done", Tie("room", ("a", "b"))),
        ("done && @owns_record() && title = 'x'", Tie("created_by", (ANN.id or "",))),
        ("room IN @request.auth.groups && @request.auth.id IN members", Tie("members", (ANN.id or "",), elements=True)),
        ("(@has_role('admin') || title = 'x') && done", Tie("title", ("x",))),
    ],
)
def test_what_ties_a_field_to_values_is_found_and_the_most_telling_first(text: str, found: Tie) -> None:
    own = tie(bound(rule(text), ANN))
    assert own is not None
    assert (own.field, set(own.values), own.elements) == (found.field, set(found.values), found.elements)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "false",
        "done",
        "created_by != @request.auth.id",
        "created_by > @request.auth.id",
        "created_by ~ @request.auth.id",
        "room NOT IN @request.auth.groups",
        "@request.auth.id NOT IN members",
        "@owns_record() || done",
        "@request.auth.id IS NOT NULL && title IS NOT NULL",
        "room IN (" + ", ".join(f"'{number}'" for number in range(100)) + ") || done",
    ],
)
def test_nothing_else_is_a_tie(text: str) -> None:
    assert tie(bound(rule(text), ANN)) is None


def test_a_bound_rule_holds_no_claims_and_is_equal_where_it_means_the_same() -> None:
    text = "(@has_role('admin') || created_by = @request.auth.id) && room IN @request.auth.groups && done"
    own = bound(rule(text), ANN)
    assert own.text == "created_by = 'a-long-id-of-ann' && done = true && room IN ('blue', 'red')"
    assert own.claims == frozenset()
    boss, chief = (Auth(name, f"{name}@x.y", "admin", "acme", ("red", "blue")) for name in ("boss", "chief"))
    assert bound(rule(text), boss) == bound(rule(text), chief) == rule("done && room IN ('blue', 'red')")


def test_the_default_rule_is_true_for_every_member_and_false_for_guests() -> None:
    members = rule('@request.auth.id != ""')
    assert bound(members, ANN) == rule("")
    assert bound(members, GUEST) == rule("false")


def test_a_rule_over_request_data_needs_it() -> None:
    asked = rule("@request.data.title = @request.auth.id", data={"title": Kind.TEXT})
    with pytest.raises(ValueError, match=r"@request\.data"):
        bound(asked, ANN)
    assert bound(asked, ANN, {"title": ANN.id}) == rule("")


def test_conjuncts_are_the_parts_of_the_top_level_and() -> None:
    parts = conjuncts(rule("done && (views > 3 && !(title = 'x' || room = 'y'))"))
    assert [part.text for part in parts] == ["done = true", "room != 'y'", "title != 'x'", "views > 3"]
    assert [part.fields for part in parts] == [{"done"}, {"room"}, {"title"}, {"views"}]
    for text in ("", "done", "done || views = 1"):
        assert conjuncts(rule(text)) == [rule(text)]


def test_a_conjunction_is_true_where_all_its_rules_are() -> None:
    both = conjunction([rule("done || views = 1"), rule("title = 'x' && done"), rule("")])
    assert both == rule("(done || views = 1) && title = 'x' && done")
    assert conjunction([]) == rule("")
    assert conjunction([rule("false"), rule("done")]) == rule("false")


def test_a_rule_of_another_collection_is_another_rule() -> None:
    text = "created_by = @request.auth.id && views = likes"
    texts = check(parse(text), {"created_by": Kind.TEXT, "views": Kind.TEXT, "likes": Kind.TEXT})
    assert bound(texts, ANN) != bound(rule(text), ANN)
