r"""Owns: what `~` means (contract section 7), in Python. `sql.py` says the same in SQL.

- A pattern without `%` is looked for as it stands, anywhere in the text: `_` and `\` are ordinary characters in it.
- A pattern with a `%` is matched against the whole text: `%` is any run of characters, `_` one character, `\x` is `x`
  itself; one that ends in a single `\`, or that is longer than MAX_PATTERN, matches nothing.
- A-Z and a-z are the same letters; every other character only equals itself.

Promises: time bounded by (length of text x length of pattern); never raises on text.
Must not: know rules or records.
On the path: step 7, in predicates.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache

MAX_PATTERN = 10_000
"""Characters, of at most four bytes. SQLite ends a query with an error for a pattern over 50,000 bytes."""


KEPT_MASKS = 128
"""Characters of a pattern whose masks are kept: those of 2,000 different ones take 700 KB, and making them takes little
beside looking through a text."""

LONG = 2_000
"""Characters from which folding is remembered: many predicates ask for the same long text one after the other."""


def folded(text: str) -> str:
    """The text with A-Z in lower case and nothing else changed."""
    return _folded(text) if len(text) < LONG else _folded_once(text)


def _folded(text: str) -> str:
    # bytes.lower() is the ASCII-only one; str.lower() is quicker and the same on ASCII.
    if text.isascii():
        return text.lower()
    return text.encode("utf-8", "surrogatepass").lower().decode("utf-8", "surrogatepass")


_folded_once = lru_cache(maxsize=4)(_folded)


def like(text: str, pattern: str) -> bool:
    if "%" not in pattern:
        return folded(pattern) in folded(text)
    matcher = wildcard(pattern)
    return matcher is not None and matcher(folded(text))


@lru_cache(maxsize=512)
def wildcard(pattern: str) -> Callable[[str], bool] | None:
    """Whether a folded text matches a pattern that has a `%`; None when nothing does."""
    segments = _segments(pattern)
    if segments is None:
        return None
    if len(segments) == 1:
        # Its `%` is a character.
        (whole,) = segments
        return lambda text: len(text) == len(whole) and whole.at(text, 0)
    first, *inner, last = segments
    least = sum(len(one) for one in segments)

    def matches(text: str) -> bool:
        if len(text) < least or not first.at(text, 0) or not last.at(text, len(text) - len(last)):
            return False
        place, end = len(first), len(text) - len(last)
        # The earliest place for each inner segment is always good enough, so none is tried twice (CWE-1333).
        for one in inner:
            place = one.find(text, place, end)
            if place < 0:
                return False
            place += len(one)
        return place <= end

    return matches


class _Segment:
    """What stands between two wildcards `%`: characters, None for `_`."""

    __slots__ = ("_characters", "_masks", "_text")

    def __init__(self, characters: Sequence[str | None]) -> None:
        self._characters = characters
        self._text = None if None in characters else "".join(one or "" for one in characters)
        self._masks: dict[str, int] | None = None

    def __len__(self) -> int:
        return len(self._characters)

    def at(self, text: str, place: int) -> bool:
        """Whether the text has it at this place, which leaves room for it."""
        if self._text is not None:
            return text.startswith(self._text, place)
        return all(one is None or one == text[place + index] for index, one in enumerate(self._characters))

    def find(self, text: str, start: int, end: int) -> int:
        """The first place between two others; -1: none."""
        if self._text is not None:
            return text.find(self._text, start, end)
        return self._search(text, start, end)

    def _search(self, text: str, start: int, end: int) -> int:
        """With `_` in it: all places at once, one bit each, so that the time is that of the text (Baeza-Yates and
        Gonnet 1992, "A new approach to text searching"). A regular expression tried every place anew: 0.24 s for a text
        of 200,000 characters, on the event loop."""
        masks, others = self._bits()
        found, wanted = 0, 1 << len(self) - 1
        for place in range(start, end):
            found = (found << 1 | 1) & masks.get(text[place], others)
            if found & wanted:
                return place - len(self) + 1
        return -1

    def _bits(self) -> tuple[dict[str, int], int]:
        """For each character the places where it fits, and those where any does."""
        others = sum(1 << index for index, one in enumerate(self._characters) if one is None)
        if self._masks is not None:
            return self._masks, others
        masks: dict[str, int] = {}
        for index, one in enumerate(self._characters):
            if one is not None:
                masks[one] = masks.get(one, others) | 1 << index
        if len(self) <= KEPT_MASKS:
            self._masks = masks
        return masks, others


def _segments(pattern: str) -> list[_Segment] | None:
    """What stands between the wildcards `%`, folded. None: the pattern matches nothing."""
    if len(pattern) > MAX_PATTERN:
        return None
    segments: list[list[str | None]] = [[]]
    characters = iter(folded(pattern))
    for character in characters:
        if character == "%":
            segments.append([])
        elif character == "_":
            segments[-1].append(None)
        else:
            literal = next(characters, None) if character == "\\" else character
            if literal is None:
                return None
            segments[-1].append(literal)
    return [_Segment(one) for one in segments]
