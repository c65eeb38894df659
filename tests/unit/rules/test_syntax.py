"""Texts that are refused, and where and why; texts that are read, and as what (contract section 7)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snackbase.rules import MAX_DEPTH, MAX_LIST, MAX_NODES, MAX_TEXT, RESERVED_WORDS, RuleError, parse
from tests.unit.rules.support import MEMBER, judged, rule


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("", "true"),
        (" \t\r\n", "true"),
        ("true", "true"),
        ("FALSE", "false"),
        ("done", "done = true"),
        ("!done", "done = false"),
        ("not not done", "done = true"),
        ("title='x'", "title = 'x'"),
        ('title = "x"', "title = 'x'"),
        ("title = 'it''s'", r"title = 'it\'s'"),
        ('title = "say ""hi"""', "title = 'say \"hi\"'"),
        (r"title = 'a\'b\"c\\d\%e'", r"title = 'a\'b\"c\\d\\%e'".replace(r"\"", '"')),
        ("title = 'line\nbreak'", "title = 'line\nbreak'"),
        ("'x' = title", "title = 'x'"),
        ("3 < views", "views > 3"),
        ("views = 1.0", "views = 1"),
        ("views = 1e2", "views = 100"),
        ("views = -0.0", "views = 0"),
        ("views = -1.5", "views = -1.5"),
        ("views>=.5", "views >= 0.5"),
        ("views = 007", "views = 7"),
        ("views = 9007199254740991", "views = 9007199254740991"),
        ("views = 1e300", "views = 1e+300"),
        ("title IN ('b', 'a', 'b')", "title IN ('a', 'b')"),
        ("title in('a')", "title = 'a'"),
        ("title NOT IN ('a', 'b')", "title NOT IN ('a', 'b')"),
        ("!(title IN ('a', 'b'))", "title NOT IN ('a', 'b')"),
        ("title IN ('a', null)", "title = 'a'"),
        ("title NOT IN ('a', null)", "false"),
        ("title IN ('a', room)", "room = title || title = 'a'"),
        ("title is null", "title IS NULL"),
        ("title IS NOT NULL", "title IS NOT NULL"),
        ("title = null", "title IS NULL"),
        ("null != title", "title IS NOT NULL"),
        ("!(title != null)", "title IS NULL"),
        ("null = null", "true"),
        ("1 IS NULL", "false"),
        ("'a' < 'b' && 2 >= 1", "true"),
        ("'Abc' ~ 'ab%'", "true"),
        ("title !~ 'x'", "title !~ 'x'"),
        ("!(title !~ 'x')", "title ~ 'x'"),
        ("!(views < 3)", "views >= 3"),
        ("a_is_not_here", None),
        ("done && done", "done = true"),
        ("room = 'r' && done", "done = true && room = 'r'"),
        ("title ~ 'x' AND done OR views = 1", "views = 1 || (done = true && title ~ 'x')"),
        ("done && (views = 1 || views = 2)", "done = true && (views = 1 || views = 2)"),
        ("(done && views = 1) and room = 'r'", "done = true && room = 'r' && views = 1"),
        ("!(done && views = 1)", "done = false || views != 1"),
        ("NOT done OR views = 1", "done = false || views = 1"),
        ("done != true", "done = false"),
        ("false || done", "done = true"),
        ("true || done", "true"),
        ("false && done", "false"),
        ("@owns_record()", "created_by = @request.auth.id"),
        ("!@owns_record( )", "created_by != @request.auth.id"),
        ("@has_role('editor')", "@request.auth.role = 'editor'"),
        ('@has_group("g1")', "'g1' IN @request.auth.groups"),
        ("room IN @request.auth.groups", "room IN @request.auth.groups"),
        ("@request.auth.id IN members", "@request.auth.id IN members"),
        ("@request.auth.groups IS NULL", "@request.auth.groups IS NULL"),
        ("day = '2026-01-17'", "day = '2026-01-17'"),
        ("created_at > '2026-01-17'", "created_at > '2026-01-17T00:00:00.000Z'"),
        ("created_at > '2026-01-17t12:00:00.5+01:00'", "created_at > '2026-01-17T11:00:00.500Z'"),
        ("created_at IN ('2026-01-17')", "created_at = '2026-01-17T00:00:00.000Z'"),
    ],
)
def test_a_text_is_read_as_its_canonical_form(text: str, canonical: str | None) -> None:
    if canonical is None:
        with pytest.raises(RuleError):
            rule(text)
        return
    read = rule(text)
    assert read.text == canonical
    assert rule(canonical) == read


@pytest.mark.parametrize(
    ("text", "position", "word", "message"),
    [
        ("title =", 7, "", "the text ends where a field, a value or '(' is expected"),
        ("= 1", 0, "=", "found '=' where a field, a value or '(' is expected"),
        ("title = = 1", 8, "=", "found '=' where a field, a value or '(' is expected"),
        ("title == 'x'", 6, "==", "'==' is not an operator (did you mean '='?)"),
        ("title <> 'x'", 6, "<>", "'<>' is not an operator (did you mean '!='?)"),
        ("done & done", 5, "&", "'&' is not an operator (did you mean '&&'?)"),
        ("done | done", 5, "|", "'|' is not an operator (did you mean '||'?)"),
        ("title = 'x", 8, "'x", "this text has no closing quote"),
        (r"title = 'x\'", 8, r"'x\'", "this text has no closing quote"),
        ("title = 'x''", 8, "'x''", "this text has no closing quote"),
        ("(done", 5, "", "the text ends where &&, || or ')' is expected"),
        ("done)", 4, ")", "found ')' where &&, || or the end of the text is expected"),
        ("done views", 5, "views", "found 'views' where &&, || or the end of the text is expected"),
        ("done = true = false", 12, "=", "found '=' where &&, || or the end of the text is expected"),
        ("title IN ()", 10, ")", "found ')' where a field, a value or '(' is expected"),
        ("title IN ('a' 'b')", 14, "'b'", "found \"'b'\" where ',' or ')' is expected"),
        ("title IN", 8, "", "the text ends where a field, a value or '(' is expected"),
        ("title IS 'x'", 9, "'x'", "found \"'x'\" where NULL or NOT NULL is expected"),
        ("title NOT 'x'", 10, "'x'", "found \"'x'\" where IN is expected"),
        ("and", 0, "and", "found 'and' where a field, a value or '(' is expected"),
        ("done && ", 8, "", "the text ends where a field, a value or '(' is expected"),
        ("title = $1", 8, "$", "unexpected character '$'"),
        ("title\u00a0= 1", 5, "\u00a0", r"unexpected character '\xa0'"),
        ("titel\u00e9 = 1", 5, "\u00e9", "unexpected character 'é'"),
        ("views = 1a", 8, "1a", "'1a' is not a number"),
        ("views = 1.2.3", 8, "1.2.3", "'1.2.3' is not a number"),
        ("views = -", 8, "-", "'-' is not a number"),
        ("views = 1 -- x", 10, "--", "'--' is not a number"),
        ("@now() = 1", 0, "@now", "'@now' is not known (there are @request.auth.*, @request.data.* and the macros "),
        ("@owns_record", 12, "", "the text ends where '(' is expected"),
        ("@owns_record('x')", 13, "'x'", "found \"'x'\" where ')' is expected"),
        ("@has_role(editor)", 10, "editor", "found 'editor' where a text in quotes is expected"),
        ("@has_role('a', 'b')", 13, ",", "found ',' where ')' is expected"),
        ("title = @has_role('a')", 8, "@has_role", "'@has_role' is not known here"),
        ("@request = 1", 0, "@request", "'@request' is not known"),
        ("@request.query.x = 1", 0, "@request.query.x", "'@request.query.x' is not known here"),
        ("@request.data = 1", 0, "@request.data", "'@request.data' needs the name of a field"),
        ("\udc00 = 1", 0, "", "half of a surrogate pair is not a character"),
        ("title = '" + "x" * 60, 8, "'" + "x" * 39, "this text has no closing quote"),
    ],
)
def test_a_mistake_is_refused_with_its_position_and_word(text: str, position: int, word: str, message: str) -> None:
    with pytest.raises(RuleError) as caught:
        parse(text)
    error = caught.value
    assert (error.code, error.position, error.word) == ("syntax", position, word)
    assert error.message == str(error)
    assert error.message.startswith(f"position {position}: {message}")
    assert "\n" not in error.message


@pytest.mark.parametrize(
    ("text", "position", "code"),
    [
        ("author.name = 'x'", 0, "reserved_name"),
        ("done && title = author.name", 16, "reserved_name"),
        ("'x' IN author.tags", 7, "reserved_name"),
        ("@request.auth.profile.name = 'x'", 0, "reserved_name"),
        ("@request.data.a.b = 'x'", 0, "reserved_name"),
        ("@request.data..b = 'x'", 0, "reserved_name"),
        ("@request.auth = 'x'", 0, "unknown_field"),
        ("title = @request.auth.password", 8, "unknown_field"),
        ("views = 9007199254740992", 8, "not_allowed"),
        ("views = -9007199254740992", 8, "not_allowed"),
        ("views = 1e999", 8, "not_allowed"),
        ("title = 'a\0b'", 8, "not_allowed"),
    ],
)
def test_what_is_reserved_unknown_or_out_of_range_has_a_code_of_its_own(text: str, position: int, code: str) -> None:
    with pytest.raises(RuleError) as caught:
        parse(text)
    assert (caught.value.position, caught.value.code) == (position, code)


def test_a_dotted_name_is_said_to_be_reserved() -> None:
    with pytest.raises(RuleError, match=r"position 0: 'author\.name': names with dots are reserved"):
        parse("author.name = 'x'")


def test_a_message_shows_a_long_or_odd_word_cut_and_on_one_line() -> None:
    with pytest.raises(RuleError) as caught:
        parse("done '" + "\n" * 100 + "'")
    assert len(caught.value.word) == 40
    assert "\n" not in caught.value.message and len(caught.value.message) < 200


@pytest.mark.parametrize(
    ("text", "over", "code"),
    [
        ("done" + " " * (MAX_TEXT - 4), "done" + " " * (MAX_TEXT - 3), "too_long"),
        ("(" * MAX_DEPTH + "done" + ")" * MAX_DEPTH, "(" * (MAX_DEPTH + 1) + "done", "too_deep"),
        ("!" * MAX_DEPTH + "done", "!" * (MAX_DEPTH + 1) + "done", "too_deep"),
        (f"views IN ({','.join('1' * MAX_LIST)})", f"views IN ({','.join('1' * (MAX_LIST + 1))})", "list_too_long"),
        # The chain itself is one node, each condition another.
        ("||".join(["done"] * (MAX_NODES - 1)), "||".join(["done"] * MAX_NODES), "too_long"),
    ],
)
def test_each_limit_holds_to_the_last_unit(text: str, over: str, code: str) -> None:
    parse(text)
    with pytest.raises(RuleError) as caught:
        parse(over)
    assert caught.value.code == code


def test_a_text_of_nothing_but_parentheses_is_refused_without_deep_recursion() -> None:
    for text in ("(" * MAX_TEXT, "!" * MAX_TEXT, "NOT " * (MAX_TEXT // 4), "(!" * (MAX_TEXT // 2)):
        with pytest.raises(RuleError, match="nested too deep"):
            parse(text)


def test_the_words_no_field_can_be_reached_by_are_named() -> None:
    for word in RESERVED_WORDS:
        with pytest.raises(RuleError):
            parse(f"{word} = {word} = 'x'")
    assert {"and", "or", "not", "in", "is", "null", "true", "false"} == RESERVED_WORDS


_WORDS = ["title", "views", "done", "members", "a.b", "'x'", '"y%"', "1", "-2.5", "null", "true", "not", "in", "is"]
_WORDS += ["and", "||", "&&", "!", "(", ")", ",", "=", "!=", "<", ">=", "~", "!~", "@request.auth.id", "@has_role("]
_WORDS += ["@request.auth.groups", "@request.data.x", "@owns_record()", "'", "\\", "\n", "=="]


@given(st.one_of(st.lists(st.sampled_from(_WORDS), max_size=12).map(" ".join), st.text(max_size=40)))
def test_any_text_is_a_rule_or_a_rule_error_with_a_place_in_the_text(text: str) -> None:
    try:
        read = rule(text)
    except RuleError as error:
        assert 0 <= error.position <= len(text) and len(error.word) <= 40
        assert error.message.startswith(f"position {error.position}: ") and "\n" not in error.message
        assert text[error.position :].startswith(error.word) or error.word == "created_by"
    else:
        judged(read, {"title": "x", "views": 1, "done": True, "members": ["x", 1]}, MEMBER)
