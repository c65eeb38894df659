"""Owns: the words of a rule text, and the one error that every part of `rules` raises.

Promises: each token knows where it stands; a text literal comes out unescaped; no input raises anything but
`RuleError`.
Must not: know the grammar, a collection or a database.
On the path: rules are compiled when a collection, a filter or a subscription is made, before step 3 (services) and step
7 (fan-out) use them.
"""

import re
from typing import Literal, NamedTuple

MAX_TEXT = 2_000
"""Characters of one rule or filter."""

MAX_INTEGER = 2**53 - 1
"""Beyond it an IEEE double cannot tell neighbours apart (contract section 8), so two back ends could differ."""

_MAX_WORD = 40

RESERVED_WORDS = frozenset({"and", "or", "not", "in", "is", "null", "true", "false"})
"""Words, in lower case, that no field can be reached by: a collection should refuse them as field names."""

RuleErrorCode = Literal[
    "syntax",
    "unknown_field",
    "type_mismatch",
    "too_long",
    "too_deep",
    "list_too_long",
    "reserved_name",
    "not_allowed",
    "hidden_field",
]


class RuleError(ValueError):
    """A rule or filter that cannot be used, with the place where it went wrong.

    `position` is a 0-based character offset, `word` the offending token (at most 40 characters). `hidden_field` has the
    same message as `unknown_field`, so whoever shows the `code` to a user must show `unknown_field` for both.
    """

    def __init__(self, text: str, *, position: int, word: str, code: RuleErrorCode) -> None:
        self.message = f"position {position}: {text}"
        self.position = position
        self.word = word[:_MAX_WORD]
        self.code = code
        super().__init__(self.message)


class Token(NamedTuple):
    """`kind` is name, at, text, number, op or end; `value` holds an unescaped text or a number, otherwise the word
    itself."""

    kind: str
    word: str
    position: int
    value: str | int | float


def quoted(word: str) -> str:
    """The word for a message: cut, on one line, control characters escaped."""
    return repr(word[:_MAX_WORD])


def error(text: str, token: Token, code: RuleErrorCode = "syntax") -> RuleError:
    return RuleError(text, position=token.position, word=token.word, code=code)


_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n]++)
    | (?P<text>'(?:[^'\\]|''|\\.)*+'|"(?:[^"\\]|""|\\.)*+")
    | (?P<number>-?(?:[0-9]++(?:\.[0-9]++)?|\.[0-9]++)(?:[eE][+-]?[0-9]++)?(?![A-Za-z0-9_.]))
    | (?P<at>@[A-Za-z0-9_.]*+)
    | (?P<name>[A-Za-z_][A-Za-z0-9_.]*+)
    | (?P<slip>==|<>|&(?!&)|\|(?!\|))
    | (?P<op>&&|\|\||!=|!~|<=|>=|[=<>~!(),])""",
    re.VERBOSE | re.DOTALL,
)
_UNESCAPE = {
    "'": re.compile(r"\\(['\"\\])|'(')", re.DOTALL),
    '"': re.compile(r"\\(['\"\\])|\"(\")", re.DOTALL),
}
_MEANT = {"==": "=", "<>": "!=", "&": "&&", "|": "||"}
_SURROGATE = re.compile("[\ud800-\udfff]")


def tokenize(text: str) -> list[Token]:
    """The tokens of a rule text, closed by one of kind `end`.

    Raises: RuleError (too_long, syntax, not_allowed).
    """
    if len(text) > MAX_TEXT:
        message = f"the text is too long: {len(text)} > {MAX_TEXT} characters"
        raise RuleError(message, position=MAX_TEXT, word="", code="too_long")
    surrogate = _SURROGATE.search(text)
    if surrogate:
        message = "half of a surrogate pair is not a character"
        raise RuleError(message, position=surrogate.start(), word="", code="syntax")
    tokens = []
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None or match.lastgroup is None:
            raise _unreadable(text, position)
        if match.lastgroup != "space":
            tokens.append(_token(match.lastgroup, match.group(), position))
        position = match.end()
    tokens.append(Token("end", "", len(text), ""))
    return tokens


def _token(kind: str, word: str, position: int) -> Token:
    token = Token(kind, word, position, word)
    if kind == "slip":
        raise error(f"{quoted(word)} is not an operator (did you mean {quoted(_MEANT[word])}?)", token)
    if kind == "number":
        return token._replace(value=_number(token))
    if kind == "text":
        if "\0" in word:
            # SQLite's LIKE stops at a NUL and PostgreSQL cannot store one, so no two back ends would agree on it.
            raise error("a text cannot contain the character NUL", token, "not_allowed")
        value = _UNESCAPE[word[0]].sub(lambda found: found[1] or found[2], word[1:-1])
        return token._replace(value=value)
    return token


def _number(token: Token) -> int | float:
    value = float(token.word)
    exact = int(token.word) if token.word.lstrip("-").isdecimal() else None
    if value in (float("inf"), float("-inf")) or (exact is not None and abs(exact) > MAX_INTEGER):
        text = f"the number {quoted(token.word)} is out of range (integers up to {MAX_INTEGER})"
        raise error(text, token, "not_allowed")
    if exact is not None:
        return exact
    return int(value) if value.is_integer() and abs(value) <= MAX_INTEGER else value


def _unreadable(text: str, position: int) -> RuleError:
    start = text[position]
    word = re.match(r"\S+", text[position:])
    token = Token("op", word.group() if word else start, position, "")
    if start in "'\"":
        return error("this text has no closing quote", token)
    if start in "-.0123456789":
        return error(f"{quoted(token.word)} is not a number", token)
    return error(f"unexpected character {quoted(start)}", token._replace(word=start))
