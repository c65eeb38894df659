"""What rules mean: every row is judged by the predicate and by SQLite, which must agree (contract section 7)."""

from itertools import pairwise
from typing import Any

import apsw
import pytest

from snackbase.rules import IN_TIME, Auth, Kind, check, constant, parse, predicate, to_sql
from tests.unit.rules.support import GUEST, MEMBER, judged, rule, sqlite

RECORD: dict[str, Any] = {
    "id": "r1",
    "created_by": "u1",
    "created_at": "2026-01-17T12:34:56.789Z",
    "title": "Hello World",
    "room": "g1",
    "views": 5,
    "likes": None,
    "done": True,
    "day": "2026-01-17",
    "members": ["u1", 1, True, None, [2, "u9"], {"u8": 1}],
}


@pytest.mark.parametrize(
    "text",
    [
        "title = 'Hello World'",
        "title != 'hello world'",
        "title < 'Hello world'",
        "views >= 5 && views <= 5.0 && views > 4.9 && views < 5.1",
        "done",
        "done = true && done != false",
        "created_at > '2026-01-17' && created_at < '2026-01-17T13:34:56.790+01:00'",
        "created_at = '2026-01-17T12:34:56.789Z'",
        "day >= '2026-01-17' && day < '2026-01-18'",
        "title ~ 'WORLD' && title ~ '' && title !~ 'mars'",
        "views IN (1, 5) && views NOT IN (1, 2)",
        "room IN (title, 'x', @request.auth.role, 'g1')",
        "likes IS NULL && likes = null && views IS NOT NULL && views != null",
        "@owns_record() && @has_role('editor') && @has_group('g2')",
        "room IN @request.auth.groups && title NOT IN @request.auth.groups",
        "@request.auth.id IN members && @request.auth.email NOT IN members",
        "1 IN members && true IN members && 'u1' IN members && views NOT IN members",
        "2 NOT IN members && 'u9' NOT IN members && 'u8' NOT IN members && false NOT IN members && '1' NOT IN members",
        "members IS NOT NULL",
        "@request.auth.account_id = 'acme' && @request.auth.email ~ '%@example.org'",
    ],
)
def test_it_is_true_for_the_record(text: str) -> None:
    assert judged(rule(text), RECORD)
    assert not judged(rule(f"!({text})"), RECORD)


@pytest.mark.parametrize(
    "text",
    [
        "likes = 1",
        "likes != 1",
        "likes < 1",
        "likes >= 1",
        "likes = likes",
        "likes != views",
        "likes IN (1, 2)",
        "likes NOT IN (1, 2)",
        "views NOT IN (1, null)",
        "views IN (1, null)",
        "likes IN members",
        "likes NOT IN members",
        "created_by = @request.auth.id && likes > 0",
    ],
)
def test_what_is_unknown_is_not_true_and_neither_is_its_negation(text: str) -> None:
    assert not judged(rule(text), RECORD)
    assert not judged(rule(f"!({text})"), RECORD)


@pytest.mark.parametrize(
    "text",
    [
        "created_by = @request.auth.id",
        "created_by != @request.auth.id",
        "@request.auth.id != ''",
        "@request.auth.id = @request.auth.id",
        "@request.auth.id = @request.auth.email",
        "@has_role('editor')",
        "!@has_role('editor')",
        "!@has_group('x')",
        "room IN @request.auth.groups",
        "room NOT IN @request.auth.groups",
        "@request.auth.id IN members",
        "@request.auth.id NOT IN members",
        "title ~ @request.auth.email",
        "title !~ @request.auth.email",
        "title IN (@request.auth.id, @request.auth.role)",
    ],
)
def test_a_guests_claims_are_unknown_even_against_a_record_of_nobody(text: str) -> None:
    for owner in (None, "u1"):
        assert not judged(rule(text), RECORD | {"created_by": owner}, GUEST)


def test_only_the_null_that_is_written_down_means_is_null() -> None:
    assert judged(rule("@request.auth.id = null && @request.auth.groups IS NULL"), RECORD, GUEST)
    assert not judged(rule("@request.auth.id IS NULL || @request.auth.groups = null"), RECORD)
    assert judged(rule("@request.auth.groups IS NOT NULL"), RECORD, Auth("u1", None, None, None))


def test_a_member_of_no_group_is_in_none() -> None:
    alone = Auth("u1", None, None, None)
    assert not judged(rule("room IN @request.auth.groups"), RECORD, alone)
    assert judged(rule("room NOT IN @request.auth.groups"), RECORD, alone)
    assert not judged(rule("room NOT IN @request.auth.groups"), RECORD | {"room": None}, alone)
    assert judged(rule("!@has_group('g1')"), RECORD, alone)


def test_text_compares_by_code_point() -> None:
    ascending = ["", "A", "Z", "a", "é", "\u212a", "\uffff", "\U0001f600"]
    for smaller, larger in pairwise(ascending):
        assert judged(rule(f"title > '{smaller}'"), {"title": larger})
        assert judged(rule("title < room"), {"title": smaller, "room": larger})
    assert not judged(rule("title = 'e\u0301'"), {"title": "é"})


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("a_c", ["xa_cx", "A_C"], ["abc"]),
        ("a_c%", ["abc", "aBCd", "a_c"], ["xabc", "ac"]),
        (r"a\_c%", ["a_c", "A_Cx"], ["abc", r"a\_c"]),
        (r"50\%", ["50%"], ["50", "x50%", r"50\%"]),
        (r"%50\%%", ["50%", "x50%x"], ["50"]),
        (r"a\b", [r"xA\Bx"], ["ab"]),
        (r"a\\%", ["a\\", r"A\b"], ["a", "ab"]),
        (r"\a%", ["ab", "A"], [r"\ab"]),
        ("%\\", [], ["\\", "", "%\\"]),
        ("%", ["", "x", "\n"], []),
        ("_%", ["x", "\U0001f600"], [""]),
        ("%_%_", ["ab", "é\n"], ["a", ""]),
        ("%a%b%a%", ["aba", "xAxBxAx"], ["ab", "abb"]),
        ("a%a", ["aa", "aba"], ["a"]),
        ("x%y", ["x\ny", "XY"], ["x"]),
        ("É", ["É", "xÉ"], ["é", "E"]),
        ("é%", ["é", "éa"], ["É"]),
        ("k%", ["k", "K"], ["\u212a"]),
        ("\u212a", ["\u212a"], ["k", "K"]),
        ("i%", ["I"], ["İ", "\u0131"]),
        ("s", ["S"], ["\u017f", "ß"]),
        (".*[a]", ["x.*[A]x"], ["aaa"]),
        (".%", [".a"], ["aa"]),
        ("%" * 50 + "a" * 10, ["a" * 11], ["a" * 9]),
    ],
)
def test_patterns(pattern: str, matching: list[str], others: list[str]) -> None:
    literal = pattern.replace("\\", "\\\\")
    for text in matching + others:
        record = {"title": text, "room": pattern}
        for right in (f"'{literal}'", "room", "@request.auth.email"):
            auth = Auth("u1", pattern, None, None)
            assert judged(rule(f"title ~ {right}"), record, auth) is (text in matching), text
            assert judged(rule(f"title !~ {right}"), record, auth) is (text in others), text


def test_a_pattern_over_the_limit_of_sqlite_matches_nothing_instead_of_failing() -> None:
    long = "%" + "a" * 60_000
    for text in ("title ~ room", "title ~ @request.auth.email"):
        assert not judged(rule(text), {"title": long, "room": long}, Auth("u1", long, None, None))
        assert not judged(rule(text), {"title": None, "room": long}, Auth("u1", long, None, None))
        assert judged(rule(text.replace("~", "!~")), {"title": long, "room": long}, Auth("u1", long, None, None))
    longest = "%" + "\U0001f600" * 9_999
    assert judged(rule("title ~ room"), {"title": longest[1:], "room": longest})


def test_a_pattern_made_to_explode_is_judged_at_once() -> None:
    # With naive backtracking this takes longer than the universe has.
    assert not judged(rule(f"title ~ '{'%a' * 30}b'"), {"title": "a" * 2_000})
    assert judged(rule(f"title ~ '{'%a' * 30}'"), {"title": "a" * 2_000})


@pytest.mark.parametrize("pattern", ["%" + "y" * 1_900 + "z%", "%" + "y" * 1_900 + "_z%", "%_" + "y" * 1_900 + "_z%"])
def test_a_pattern_that_almost_fits_everywhere_costs_one_walk_through_the_text(pattern: str) -> None:
    text = "y" * 190_000
    assert not judged(rule(f"title ~ '{pattern}'"), {"title": text})
    assert judged(rule(f"title ~ '{pattern}'"), {"title": f"{text}Zz"})


@pytest.mark.parametrize("held", [None, "u1", {"u1": 1}, 1, True, [], ["u2"], [["u1"]], ["U1"], ['["u1"]', None]])
def test_what_is_no_array_with_the_element_has_no_such_member(held: object) -> None:
    assert not judged(rule("@request.auth.id IN members"), {"members": held})
    assert judged(rule("@request.auth.id NOT IN members"), {"members": held}) is (held is not None)


@pytest.mark.parametrize(
    ("text", "held", "expected"),
    [
        ("1 IN members", [True], False),
        ("1 IN members", ["1"], False),
        ("1 IN members", [1.0], True),
        ("0 IN members", [False], False),
        ("true IN members", [1], False),
        ("true IN members", ["true"], False),
        ("done IN members", [None, True, True], True),
        ("done NOT IN members", [False], True),
        ("'1' IN members", [1], False),
        ("'true' IN members", [True], False),
        ("'[1]' IN members", [[1]], False),
        ("views IN members", [5, 5], True),
        ("title IN members", ["x", "Hello World"], True),
        ("'é' IN members", ["é"], True),
        ("'a\"b' IN members", ['a"b'], True),
    ],
)
def test_an_element_equals_a_value_of_its_own_type_only(text: str, held: object, expected: bool) -> None:
    assert judged(rule(text), RECORD | {"members": held}) is expected


def test_request_data_is_what_the_request_brings() -> None:
    data = {"title": Kind.TEXT, "views": Kind.NUMBER, "done": Kind.BOOLEAN, "members": Kind.JSON}

    def answer(text: str, **sent: object) -> bool:
        return judged(rule(text, data=data), RECORD, data=sent)

    assert answer("@request.data.title = title", title="Hello World")
    assert not answer("@request.data.title = title", title="x")
    assert not answer("@request.data.title != title")
    assert answer("@request.data.title IS NULL && @request.data.views > 3", views=4)
    assert answer("@request.data.done", done=True) and not answer("@request.data.done", done=False)
    assert answer("room IN @request.data.members && views IN @request.data.members", members=["g1", 5, True])
    assert not answer("views IN @request.data.members", members=["5", [5]])
    assert answer("views NOT IN @request.data.members", members="5")
    assert not answer("views NOT IN @request.data.members", members=None)
    assert answer("true IN @request.data.members && 'x' NOT IN @request.data.members", members=[True])
    assert answer("@request.data.title ~ '%o w%' && @request.data.title IN ('Hello World', 'x')", title="Hello World")
    # The values were checked before; what slipped through is not matched, and never an error.
    assert not answer("@request.data.views > 3 || @request.data.title ~ 'x'", views="4", title=4)


def test_a_rule_that_reads_request_data_cannot_be_judged_without_it() -> None:
    asking = rule("@request.data.title = title", data={"title": Kind.TEXT})
    for use in (predicate, constant, sqlite):
        with pytest.raises(ValueError, match=r"@request\.data"):
            use(asking, MEMBER)


@pytest.mark.parametrize(
    ("text", "auth", "expected"),
    [
        ("", GUEST, True),
        ("false", MEMBER, False),
        ("@request.auth.id != ''", MEMBER, True),
        ("@request.auth.id != ''", GUEST, False),
        ("@has_role('editor') || done", MEMBER, True),
        ("@has_role('admin') || done", MEMBER, None),
        ("@has_role('admin') && done", MEMBER, False),
        ("room IN @request.auth.groups", GUEST, False),
        ("@owns_record()", MEMBER, None),
    ],
)
def test_what_does_not_depend_on_the_record_is_known_beforehand(text: str, auth: Auth, expected: bool | None) -> None:
    assert constant(rule(text), auth) is expected


def test_predicates_of_one_rule_share_their_code_and_differ_in_their_claims() -> None:
    asked = rule("created_by = @request.auth.id && views > 3")
    ann, bob = predicate(asked, MEMBER), predicate(asked, Auth("u2", None, None, None))
    assert ann.__code__ is bob.__code__
    assert ann(RECORD) and not bob(RECORD)
    other = predicate(rule("title = 'x' && views > 9"), MEMBER)
    assert other.__code__ is ann.__code__


def test_a_literal_or_claim_never_becomes_code_or_sql() -> None:
    nasty = "x' or '1'='1\" or True) --"
    literal = nasty.replace("'", "''")
    asked = rule(f"title = '{literal}' || title = @request.auth.id || room ~ '{literal}' || room IN ('{literal}', 'y')")
    auth = Auth(nasty, None, None, None)
    condition, bound = sqlite(asked, auth)
    assert nasty in bound and "'" not in condition and "--" not in condition
    assert not judged(asked, {"title": "x", "room": "x"}, auth)
    assert judged(asked, {"title": nasty, "room": "x"}, auth)
    code = predicate(asked, auth).__code__
    assert all(constant in (None, True, False) for constant in code.co_consts)
    assert set(code.co_names) <= {"get", "folded", "TypeError", "AttributeError"}


def test_a_missing_field_is_null_and_a_value_of_another_kind_is_not_matched() -> None:
    """A log row older than the schema may lack a field or hold something else in it; no event may die of that."""
    assert predicate(rule("title IS NULL"), MEMBER)({})
    assert not predicate(rule("title = 'x' || views > 3"), MEMBER)({})
    for text in ("views > 3", "title ~ 'x'", "title ~ 'x%'", "title IN ('a', 'b')", "title ~ room"):
        assert predicate(rule(text), MEMBER)({"views": "many", "title": ["x"], "room": "x"}) is False


def test_a_predicate_answers_with_true_or_false_only() -> None:
    for text in ("title = 'x' || done", "title ~ 'h%' && 'u1' IN members", "likes IS NULL || views IN (1, 5)"):
        assert type(predicate(rule(text), MEMBER)(RECORD)) is bool


def test_sql_for_sqlite_binds_everything_in_order() -> None:
    condition, bound = sqlite(rule("views > 3 && done && room IN @request.auth.groups && title ~ 'Ab'"), MEMBER)
    asked = f'CASE WHEN octet_length("title") > 100000 THEN CASE {IN_TIME}() WHEN 1 THEN "title" END ELSE "title" END'
    held = f"instr(lower({asked}), ?) > 0"
    assert condition == f'(("done" = ?) AND ("views" > ?) AND ("room" IN (?, ?)) AND ({held}))'
    assert bound == [1, 3, "g1", "g2", "ab"]
    assert sqlite(rule(""), MEMBER) == ("(1)", []) and sqlite(rule("false"), MEMBER) == ("(0)", [])


@pytest.mark.parametrize(
    ("text", "condition", "values"),
    [
        ("", "(TRUE)", []),
        ("false", "(FALSE)", []),
        ("done", '("done" = $1::boolean)', [True]),
        ("views != 3", '("views" <> $1::double precision)', [3]),
        ("title = @request.auth.id", '("title" = $1::text)', ["u1"]),
        ("title < 'x'", '("title" COLLATE "C" < $1::text)', ["x"]),
        ("title IN ('a', 'b')", '("title" IN ($1::text, $2::text))', ["a", "b"]),
        ("title ~ 'Ab'", '(strpos(lower("title" COLLATE "C"), $1::text) > 0)', ["ab"]),
        (
            "title !~ 'Ab%'",
            '(NOT (lower("title" COLLATE "C") LIKE lower($1::text COLLATE "C") ESCAPE \'\\\'))',
            ["Ab%"],
        ),
        (
            "@request.auth.id IN members",
            '((EXISTS (SELECT 1 FROM (SELECT ("members")::json AS j, $1::text AS x) AS s, json_array_elements(CASE'
            " json_typeof(s.j) WHEN 'array' THEN s.j ELSE '[]' END) AS e(value) WHERE json_typeof(e.value) = 'string'"
            " AND e.value::text = to_json(s.x)::text)))",
            ["u1"],
        ),
    ],
)
def test_sql_for_postgresql_names_types_and_collations(text: str, condition: str, values: list[object]) -> None:
    bound: list[object] = []

    def param(value: object) -> str:
        bound.append(value)
        return f"${len(bound)}"

    made = to_sql(rule(text), MEMBER, dialect="postgres", column=lambda name: f'"{name}"', param=param)
    assert (made, bound) == (condition, values)


@pytest.mark.parametrize(
    "name", ["key", "value", "type", "atom", "id", "parent", "fullkey", "path", "json", "root", "j", "x", "s", "e"]
)
def test_a_field_called_like_a_column_of_json_each_is_not_captured(name: str) -> None:
    connection = apsw.Connection(":memory:")
    connection.execute(f'CREATE TABLE t ("{name}" TEXT, members TEXT)')
    connection.execute("INSERT INTO t VALUES ('u1', '[\"u1\"]'), ('u2', '[\"u1\"]'), ('[\"u3\"]', '[]')")

    def found(text: str, kind: Kind) -> list[object]:
        where, bound = sqlite(check(parse(text), {name: kind, "members": Kind.JSON}), MEMBER)
        return [row[0] for row in connection.execute(f"SELECT rowid FROM t WHERE {where}", bound)]  # noqa: S608

    assert found(f"{name} IN members", Kind.TEXT) == [1]
    assert found(f"{name} NOT IN members", Kind.TEXT) == [2, 3]
    connection.execute(f"""UPDATE t SET "{name}" = '["u3", "u1"]'""")  # noqa: S608
    assert found(f"@request.auth.id IN {name}", Kind.JSON) == [1, 2, 3]
    assert found(f"'u2' IN {name}", Kind.JSON) == []
