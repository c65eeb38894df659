"""Owns: the grammar of rules and filters (contract section 7) and the tree that `parse` returns.

    any    = all { ("||" | OR) all }          all = not { ("&&" | AND) not }
    not    = ("!" | NOT) not | "(" any ")" | macro | term
    term   = operand [ op operand | [NOT] IN ( "(" operand {"," operand} ")" | name ) | IS [NOT] NULL ]
    op     = "=" | "!=" | "<" | "<=" | ">" | ">=" | "~" | "!~"
    operand = field | 'text' | "text" | number | true | false | null | @request.auth.<claim> | @request.data.<field>
    macro  = @owns_record() | @has_role('x') | @has_group('x')

Promises: bounded work and depth whatever the text; every node knows its position; macros are replaced by what they
stand for.
Must not: know a collection, a type or a principal.
On the path: compile time only, before `check`.
"""

from collections.abc import Callable

import msgspec

from snackbase.rules.tokens import MAX_TEXT, RuleError, Token, error, quoted, tokenize

MAX_DEPTH = 20
"""Parentheses and NOTs inside each other. MAX_TEXT bounds the length, the others what a short text can still cost."""

MAX_LIST = 100
MAX_NODES = 200
"""Conditions and connectives of one rule."""

CLAIMS = ("id", "email", "role", "account_id", "groups")

__all__ = ["CLAIMS", "MAX_DEPTH", "MAX_LIST", "MAX_NODES", "MAX_TEXT", "Expr", "parse"]


class FieldRef(msgspec.Struct, frozen=True):
    name: str
    position: int


class ClaimRef(msgspec.Struct, frozen=True):
    name: str
    position: int


class DataRef(msgspec.Struct, frozen=True):
    name: str
    position: int


class Literal(msgspec.Struct, frozen=True):
    value: str | int | float | bool | None
    position: int
    word: str


Operand = FieldRef | ClaimRef | DataRef | Literal


class Either(msgspec.Struct, frozen=True):
    parts: "tuple[Expr, ...]"


class Every(msgspec.Struct, frozen=True):
    parts: "tuple[Expr, ...]"


class Negation(msgspec.Struct, frozen=True):
    part: "Expr"


class Comparison(msgspec.Struct, frozen=True):
    left: Operand
    op: str
    right: Operand


class InList(msgspec.Struct, frozen=True):
    left: Operand
    items: tuple[Operand, ...]
    negated: bool


class InName(msgspec.Struct, frozen=True):
    left: Operand
    target: Operand
    negated: bool


class NullTest(msgspec.Struct, frozen=True):
    operand: Operand
    negated: bool


class Bare(msgspec.Struct, frozen=True):
    operand: Operand


Expr = Either | Every | Negation | Comparison | InList | InName | NullTest | Bare

_COMPARISONS = frozenset({"=", "!=", "<", "<=", ">", ">=", "~", "!~"})
_WORDS: dict[str, bool | None] = {"TRUE": True, "FALSE": False, "NULL": None}
_MACROS = "@owns_record(), @has_role('x'), @has_group('x')"


def parse(text: str) -> Expr:
    """The tree of a rule or filter; an empty text is one that is always true.

    Raises: RuleError (syntax, too_long, too_deep, list_too_long, reserved_name, unknown_field, not_allowed).
    Source: contract section 7.
    """
    parser = _Parser(tokenize(text))
    if parser.next.kind == "end":
        return Bare(Literal(value=True, position=0, word=""))
    expr = parser.either(0)
    if parser.next.kind != "end":
        raise parser.unexpected("&&, || or the end of the text")
    return expr


class _Parser:
    """Recursive descent; the only recursion is over parentheses and NOTs, which MAX_DEPTH bounds."""

    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = tokens
        self._at = 0
        self._nodes = 0

    @property
    def next(self) -> Token:
        return self._tokens[self._at]

    def either(self, depth: int) -> Expr:
        parts = self._chain(self.every, "||", "OR", depth)
        return parts[0] if len(parts) == 1 else Either(parts)

    def every(self, depth: int) -> Expr:
        parts = self._chain(self._not, "&&", "AND", depth)
        return parts[0] if len(parts) == 1 else Every(parts)

    def _chain(self, part: Callable[[int], Expr], sign: str, word: str, depth: int) -> tuple[Expr, ...]:
        parts = [part(depth)]
        while self._skip(sign) or self._skip_word(word):
            if len(parts) == 1:
                self._count()
            parts.append(part(depth))
        return tuple(parts)

    def _not(self, depth: int) -> Expr:
        token = self.next
        if self._skip("!") or self._skip_word("NOT"):
            self._count()
            return Negation(self._not(_deeper(depth, token)))
        if self._skip("("):
            expr = self.either(_deeper(depth, token))
            if not self._skip(")"):
                raise self.unexpected("&&, || or ')'")
            return expr
        self._count()
        if token.kind == "at" and not token.word.startswith("@request."):
            return self._macro()
        return self._term()

    def _term(self) -> Expr:
        left = self._operand()
        token = self.next
        if token.kind == "op" and token.word in _COMPARISONS:
            self._advance()
            return Comparison(left, token.word, self._operand())
        if self._skip_word("IS"):
            negated = self._skip_word("NOT")
            if not self._skip_word("NULL"):
                raise self.unexpected("NULL or NOT NULL")
            return NullTest(left, negated)
        negated = self._skip_word("NOT")
        if self._skip_word("IN"):
            if self._skip("("):
                return InList(left, self._list(), negated)
            return InName(left, self._operand(), negated)
        if negated:
            raise self.unexpected("IN")
        return Bare(left)

    def _list(self) -> tuple[Operand, ...]:
        items = [self._operand()]
        while self._skip(","):
            if len(items) == MAX_LIST:
                raise error(f"the list is too long: more than {MAX_LIST} values", self.next, "list_too_long")
            items.append(self._operand())
        if not self._skip(")"):
            raise self.unexpected("',' or ')'")
        return tuple(items)

    def _operand(self) -> Operand:
        token = self.next
        word = token.word.upper()
        if token.kind in ("op", "end") or (token.kind == "name" and word in ("AND", "OR", "NOT", "IN", "IS")):
            raise self.unexpected("a field, a value or '('")
        self._advance()
        if token.kind in ("text", "number"):
            return Literal(token.value, token.position, token.word)
        if token.kind == "at":
            return _reference(token)
        if word in _WORDS:
            return Literal(_WORDS[word], token.position, token.word)
        if "." in token.word:
            text = f"{quoted(token.word)}: names with dots are reserved and cannot be used yet"
            raise error(text, token, "reserved_name")
        return FieldRef(token.word, token.position)

    def _macro(self) -> Expr:
        token = self._advance()
        if token.word not in ("@owns_record", "@has_role", "@has_group"):
            known = f"there are @request.auth.*, @request.data.* and the macros {_MACROS}"
            raise error(f"{quoted(token.word)} is not known ({known})", token)
        if not self._skip("("):
            raise self.unexpected("'('")
        if token.word == "@owns_record":
            expr: Expr = Comparison(FieldRef("created_by", token.position), "=", ClaimRef("id", token.position))
        else:
            if self.next.kind != "text":
                raise self.unexpected("a text in quotes")
            argument = self._advance()
            literal = Literal(argument.value, argument.position, argument.word)
            if token.word == "@has_role":
                expr = Comparison(ClaimRef("role", token.position), "=", literal)
            else:
                expr = InName(literal, ClaimRef("groups", token.position), negated=False)
        if not self._skip(")"):
            raise self.unexpected("')'")
        return expr

    def _count(self) -> None:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise error(f"too many conditions: more than {MAX_NODES}", self.next, "too_long")

    def _advance(self) -> Token:
        token = self.next
        self._at += 1
        return token

    def _skip(self, sign: str) -> bool:
        return self._skip_if(self.next.kind == "op" and self.next.word == sign)

    def _skip_word(self, word: str) -> bool:
        return self._skip_if(self.next.kind == "name" and self.next.word.upper() == word)

    def _skip_if(self, found: bool) -> bool:
        self._at += found
        return found

    def unexpected(self, expected: str) -> RuleError:
        found = "the text ends" if self.next.kind == "end" else f"found {quoted(self.next.word)}"
        return error(f"{found} where {expected} is expected", self.next)


def _deeper(depth: int, token: Token) -> int:
    if depth == MAX_DEPTH:
        raise error(f"nested too deep: more than {MAX_DEPTH} levels", token, "too_deep")
    return depth + 1


def _reference(token: Token) -> Operand:
    path = token.word[1:].split(".")
    if path[0] != "request" or len(path) < 2 or path[1] not in ("auth", "data"):
        raise error(f"{quoted(token.word)} is not known here (there are @request.auth.* and @request.data.*)", token)
    if len(path) > 3 or (path[1] == "data" and not all(path)):
        text = f"{quoted(token.word)}: one name follows @request.{path[1]}.; longer paths are reserved"
        raise error(text, token, "reserved_name")
    name = path[2] if len(path) == 3 else ""
    if path[1] == "auth":
        if name not in CLAIMS:
            known = ", ".join(f"@request.auth.{claim}" for claim in CLAIMS)
            raise error(f"{quoted(token.word)} is not known (there are {known})", token, "unknown_field")
        return ClaimRef(name, token.position)
    if not name:
        raise error(f"{quoted(token.word)} needs the name of a field, as in @request.data.title", token)
    return DataRef(name, token.position)
