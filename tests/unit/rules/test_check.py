"""Names and types: what a rule may ask, and the words in which it is told that it may not."""

import pytest

from snackbase.rules import Kind, RuleError, check, parse
from tests.unit.rules.support import FIELDS, rule


def refused(text: str, **options: object) -> RuleError:
    expr = parse(text)
    with pytest.raises(RuleError) as caught:
        check(expr, FIELDS, **options)  # type: ignore[arg-type]  # each test passes one of the options
    return caught.value


@pytest.mark.parametrize(
    ("text", "position", "word", "message"),
    [
        ("views = 'x'", 8, "'x'", "a number and a text cannot be compared ('views' is a number, 'x' is a text)"),
        ("'x' = views", 6, "views", "a text and a number cannot be compared ('x' is a text, 'views' is a number)"),
        ("title = 1", 8, "1", "a text and a number cannot be compared ('title' is a text, 1 is a number)"),
        ("title > true", 8, "true", "a text and a boolean cannot be compared"),
        ("done = 1", 7, "1", "a boolean and a number cannot be compared"),
        ("done = 'true'", 7, "'true'", "a boolean and a text cannot be compared"),
        ("done < true", 7, "true", "booleans can only be compared with = and !="),
        ("views = title", 8, "title", "a number and a text cannot be compared"),
        ("views = @request.auth.id", 8, "@request.auth.id", "a number and a text cannot be compared"),
        ("created_at = title", 13, "title", "a datetime and a text cannot be compared"),
        ("created_at = day", 13, "day", "a datetime and a date cannot be compared"),
        ("created_at = @request.auth.id", 13, "@request.auth.id", "a datetime and a text cannot be compared"),
        ("created_at > 5", 13, "5", "a datetime and a number cannot be compared"),
        ("created_at > 'soon'", 13, "'soon'", "the text 'soon' is not a datetime such as 2026-01-17T12:34:56.789Z"),
        ("'soon' < created_at", 0, "'soon'", "the text 'soon' is not a datetime"),
        ("day = '2026-02-30'", 6, "'2026-02-30'", "the text '2026-02-30' is not a date such as 2026-01-17"),
        ("day = '2026-01-17T00:00:00Z'", 6, "'2026-01-17T00:00:00Z'", "the text '2026-01-17T00:00:00Z' is not a date"),
        ("title IN ('a', 1)", 15, "1", "a text and a number cannot be compared"),
        ("1 IN ('a')", 6, "'a'", "a number and a text cannot be compared"),
        ("null IN ('a')", 0, "null", "null cannot be looked for with IN: use IS NULL"),
        ("null IN members", 0, "null", "null cannot be looked for with IN: use IS NULL"),
        ("title < null", 8, "null", "null can only be compared with = and !="),
        ("title ~ null", 8, "null", "null cannot be matched with ~"),
        ("views ~ '1'", 0, "views", "~ matches text only, and 'views' is a number"),
        ("title ~ 1", 8, "1", "~ matches text only, and 1 is a number"),
        ("created_at ~ '2026'", 0, "created_at", "~ matches text only, and 'created_at' is a datetime"),
        ("members ~ 'x'", 0, "members", "~ matches text only, and 'members' is a json"),
        ("members = 'x'", 10, "'x'", "a json field can only be tested with IS NULL, IS NOT NULL and `value IN field`"),
        ("members = members", 10, "members", "a json field can only be tested with"),
        ("members IN ('x')", 12, "'x'", "a json field can only be tested with"),
        ("'x' IN title", 7, "title", "IN needs a list in parentheses, @request.auth.groups or a json"),
        ("'x' IN 'xy'", 7, "'xy'", "IN needs a list in parentheses, @request.auth.groups or a json field, and 'xy' is"),
        ("'x' IN null", 7, "null", "IN needs a list in parentheses, @request.auth.groups or a json field"),
        ("created_at IN members", 0, "created_at", "a json array is searched for texts, numbers and booleans, and"),
        ("members IN members", 0, "members", "a json array is searched for texts, numbers and booleans, and"),
        ("views IN @request.auth.groups", 0, "views", "@request.auth.groups holds texts, and 'views' is a number"),
        ("title = @request.auth.groups", 8, "@request.auth.groups", "@request.auth.groups is a list: use `… IN"),
        ("@request.auth.groups IN members", 0, "@request.auth.groups", "@request.auth.groups is a list"),
        ("title", 0, "title", "'title' is a text, which alone is not a condition: compare it with something"),
        ("done && views", 8, "views", "'views' is a number, which alone is not a condition"),
        ("@request.auth.id", 0, "@request.auth.id", "'@request.auth.id' is a text, which alone is not a condition"),
        ("'x'", 0, "'x'", "\"'x'\" alone is not a condition"),
        ("null", 0, "null", "'null' alone is not a condition"),
        ("1", 0, "1", "'1' alone is not a condition"),
        ("views = 'x\ny'", 8, "'x\ny'", "a number and a text cannot be compared ('views' is a number, \"'x\\ny'\""),
    ],
)
def test_what_does_not_fit_is_refused_with_both_kinds_named(text: str, position: int, word: str, message: str) -> None:
    error = refused(text)
    assert (error.code, error.position, error.word) == ("type_mismatch", position, word)
    assert error.message.startswith(f"position {position}: {message}")


@pytest.mark.parametrize(
    ("text", "position", "message"),
    [
        ("done && titel = 'x'", 8, "'titel' is not a field of this collection (did you mean 'title'?)"),
        ("zzz = 'x'", 0, "'zzz' is not a field of this collection"),
        ("Title = 'x'", 0, "'Title' is not a field of this collection (did you mean 'title'?)"),
        ("zzz IS NULL", 0, "'zzz' is not a field of this collection"),
        ("zzz IN (null)", 0, "'zzz' is not a field of this collection"),
        ("false && zzz", 9, "'zzz' is not a field of this collection"),
        ("x" * 100 + " = 1", 0, f"'{'x' * 40}' is not a field of this collection"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_one(text: str, position: int, message: str) -> None:
    error = refused(text)
    assert (error.code, error.message) == ("unknown_field", f"position {position}: {message}")


@pytest.mark.parametrize(
    "text",
    ["title = 'x'", "title IS NULL", "'x' IN (title)", "views = 1 || title ~ 'x'", "id = title", "title IN (null)"],
)
def test_a_field_one_may_not_read_is_refused_in_the_words_of_one_that_does_not_exist(text: str) -> None:
    readable = {"id", "views"}
    hidden = refused(text, readable=readable)
    fields = {name: kind for name, kind in FIELDS.items() if name in readable}
    with pytest.raises(RuleError) as missing:
        check(parse(text), fields)
    assert hidden.code == "hidden_field" and missing.value.code == "unknown_field"
    assert (hidden.message, hidden.position, hidden.word) == (
        missing.value.message,
        missing.value.position,
        missing.value.word,
    )


def test_no_suggestion_names_a_hidden_field() -> None:
    assert "title" not in refused("titel = 'x'", readable={"id"}).message.replace("titel", "")


def test_a_macro_asks_for_created_by_like_everybody_else() -> None:
    error = refused("done || @owns_record()", readable={"done"})
    assert (error.code, error.position, error.word) == ("hidden_field", 8, "created_by")


def test_readable_fields_can_be_asked_about() -> None:
    assert rule("views = 1", readable={"views"}).fields == {"views"}


def test_request_data_is_for_rules_that_are_given_it() -> None:
    error = refused("@request.data.title = 'x'")
    assert (error.code, error.position) == ("not_allowed", 0)
    assert "@request.data can only be used in create and update rules" in error.message
    data = {"title": Kind.TEXT}
    assert rule("@request.data.title = title", data=data).text == "title = @request.data.title"
    assert rule("@request.data.title = title", data=data).uses_data
    assert not rule("title = 'x'", data=data).uses_data
    assert refused("@request.data.titel = 'x'", data=data).code == "unknown_field"
    assert refused("@request.data.title = 1", data=data).code == "type_mismatch"


@pytest.mark.parametrize(
    ("text", "fields", "claims"),
    [
        ("", set(), set()),
        ("@owns_record()", {"created_by"}, {"id"}),
        ("@has_role('x') || @has_group('y')", set(), {"role", "groups"}),
        ("room IN @request.auth.groups && views > 3", {"room", "views"}, {"groups"}),
        ("@request.auth.email IN members", {"members"}, {"email"}),
        ("@request.auth.groups IS NOT NULL", set(), {"groups"}),
        ("title ~ room && title IN ('a', @request.auth.account_id)", {"title", "room"}, {"account_id"}),
        ("false && title = @request.auth.id", set(), set()),
    ],
)
def test_a_rule_names_the_fields_and_claims_it_reads(text: str, fields: set[str], claims: set[str]) -> None:
    assert set(rule(text).fields) == fields
    assert set(rule(text).claims) == claims


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("done && views = 1", "1.0 = views AND done = true"),
        ("title IN ('a', 'b')", 'title in ("b", "a", "a")'),
        ("!(done || views < 1)", "views >= 1 && !done"),
        ("@owns_record()", "@request.auth.id = created_by"),
        ("created_at = '2026-01-17'", "created_at = '2026-01-17T01:00:00+01:00'"),
    ],
)
def test_rules_that_mean_the_same_are_one_rule(one: str, other: str) -> None:
    assert rule(one) == rule(other)
    assert len({rule(one), rule(other)}) == 1


def test_rules_over_fields_of_other_kinds_are_other_rules() -> None:
    text = "title = room"
    numbers = check(parse(text), {"title": Kind.NUMBER, "room": Kind.NUMBER})
    assert numbers.text == rule(text).text
    assert numbers != rule(text)
    assert rule("title = '1'") != rule("title = 'true'")


def test_rules_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        rule("done").text = "true"  # type: ignore[misc]  # that is the point
