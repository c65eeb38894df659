"""Taking rules apart: conjuncts, and the one that becomes a hash index (issue 5)."""

import pytest

from snackbase.rules import IndexKey, Kind, check, conjunction, conjuncts, index_key, parse
from tests.unit.rules.support import rule


@pytest.mark.parametrize(
    ("text", "field", "claim", "how", "rest"),
    [
        ("created_by = @request.auth.id", "created_by", "id", "equal", None),
        ("@request.auth.id = created_by", "created_by", "id", "equal", None),
        ("@owns_record()", "created_by", "id", "equal", None),
        ("title IN (@request.auth.email)", "title", "email", "equal", None),
        ("room IN @request.auth.groups", "room", "groups", "in_claim", None),
        ("@request.auth.id IN members", "members", "id", "claim_in_field", None),
        ("@request.auth.role IN members", "members", "role", "claim_in_field", None),
        ("done && @owns_record() && views > 3", "created_by", "id", "equal", "done = true && views > 3"),
        ("room = @request.auth.account_id", "room", "account_id", "equal", None),
        ("room = @request.auth.account_id && title = @request.auth.role", "title", "role", "equal", None),
        ("room IN @request.auth.groups && @request.auth.id IN members", "members", "id", "claim_in_field", None),
        ("room IN @request.auth.groups && @owns_record()", "created_by", "id", "equal", None),
        ("@has_role('x') && @owns_record()", "created_by", "id", "equal", "@request.auth.role = 'x'"),
        ("!(done || created_by != @request.auth.id)", "created_by", "id", "equal", "done = false"),
    ],
)
def test_a_conjunct_that_ties_a_field_to_a_claim_is_found(
    text: str, field: str, claim: str, how: str, rest: str | None
) -> None:
    found = index_key(rule(text))
    assert found is not None
    assert (found.field, found.claim, found.how) == (field, claim, how)
    if rest is not None:
        assert found.rest == rule(rest)
    elif "&&" not in text:
        assert found.rest is None


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
        "'x' IN members",
        "@owns_record() || done",
        "created_by IN (@request.auth.id, @request.auth.email)",
        "@has_group('g1') && @has_role('x')",
        "created_by = 'u1'",
        "@request.auth.id IS NOT NULL && title IS NOT NULL",
    ],
)
def test_nothing_else_is_taken_for_an_index(text: str) -> None:
    assert index_key(rule(text)) is None


def test_request_data_is_no_index() -> None:
    assert index_key(rule("@request.data.title = @request.auth.id", data={"title": Kind.TEXT})) is None


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
    assert index_key(conjunction([rule("@owns_record()"), rule("done")])) == IndexKey(
        "created_by", "id", "equal", rule("done")
    )


def test_a_rule_of_another_collection_is_another_key() -> None:
    text = "created_by = @request.auth.id && views = likes"
    texts = check(parse(text), {"created_by": Kind.TEXT, "views": Kind.TEXT, "likes": Kind.TEXT})
    assert index_key(texts) != index_key(rule(text))
