r"""Owns: what `~` means (contract section 7), in Python. `sql.py` says the same in SQL.

- A pattern without `%` is looked for as it stands, anywhere in the text: `_` and `\` are ordinary characters in it.
- A pattern with a `%` is matched against the whole text: `%` is any run of characters, `_` one character, `\x` is `x`
  itself; one that ends in a single `\`, or that is longer than MAX_PATTERN, matches nothing.
- A-Z and a-z are the same letters; every other character only equals itself.

Promises: time bounded by (length of text x length of pattern); never raises on text.
Must not: know rules or records.
On the path: step 7, in predicates.
"""

import re
from functools import lru_cache

MAX_PATTERN = 10_000
"""Characters, of at most four bytes. SQLite ends a query with an error for a pattern over 50,000 bytes."""


def folded(text: str) -> str:
    """The text with A-Z in lower case and nothing else changed."""
    # bytes.lower() is the ASCII-only one; str.lower() is quicker and the same on ASCII.
    if text.isascii():
        return text.lower()
    return text.encode("utf-8", "surrogatepass").lower().decode("utf-8", "surrogatepass")


def like(text: str, pattern: str) -> bool:
    if "%" not in pattern:
        return folded(pattern) in folded(text)
    matcher = wildcard(pattern)
    return matcher is not None and matcher.fullmatch(text) is not None


@lru_cache(maxsize=512)
def wildcard(pattern: str) -> re.Pattern[str] | None:
    """A regular expression for a pattern that has a `%`; None when it matches nothing."""
    segments = _segments(pattern)
    if segments is None:
        return None
    first, *others = segments
    expression = first
    if others:
        # The earliest place for each inner segment is always good enough, so none is tried twice: `(?>` keeps `%a%a%a%`
        # from exploding (CWE-1333).
        inner = "".join(f"(?>.*?{segment})" for segment in others[:-1] if segment)
        expression = f"{first}{inner}.*{others[-1]}"
    return re.compile(expression, re.DOTALL | re.IGNORECASE | re.ASCII)


def _segments(pattern: str) -> list[str] | None:
    """What stands between the wildcards `%`, as regular expressions."""
    if len(pattern) > MAX_PATTERN:
        return None
    segments = [""]
    characters = iter(pattern)
    for character in characters:
        if character == "%":
            segments.append("")
        elif character == "_":
            segments[-1] += "."
        else:
            literal = next(characters, None) if character == "\\" else character
            if literal is None:
                return None
            segments[-1] += re.escape(literal)
    return segments
