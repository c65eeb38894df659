"""What 200 kills did, from three books: what was acknowledged, what is stored, what every listener heard. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

Place = tuple[int, int]
"""(writer, number): the name of a record. Every writer's numbers grow."""


@dataclass
class Heard:
    """One listener's book: what it was told was created, in order; how often it was told to fetch anew."""

    places: list[Place] = field(default_factory=list)
    resyncs: int = 0


class Aftermath(msgspec.Struct, frozen=True, kw_only=True):
    """One server's result.

    Attributes:
        acknowledged: creates that were answered with success. unanswered: those whose outcome the writer cannot know.
        stored: records in the database afterwards. lost: acknowledged ones that are not among them.
        missed: stored records that a listener never heard of and was not told to fetch anew for, all listeners added.
        unheard: acknowledged records that no listener heard of.
        kills_missed: kills around which a listener missed an acknowledged record.
        kills_unheard: kills around which one reached nobody.
        repeated: events that a listener heard more than once. swapped: events that came after a later one of the same
            writer. phantoms: events of records that are not in the database.
        resyncs: times a listener was told to fetch the list again.
    """

    server: str
    kills: int
    listeners: int
    acknowledged: int
    unanswered: int
    stored: int
    lost: int
    missed: int
    unheard: int
    kills_missed: int
    kills_unheard: int
    repeated: int
    swapped: int
    phantoms: int
    resyncs: int

    @property
    def broken(self) -> bool:
        """Whether a promise of SnackBase would be broken."""
        return any((self.lost, self.missed, self.repeated, self.swapped, self.phantoms, self.resyncs))


def aftermath(
    server: str,
    kills: int,
    acknowledged: Mapping[Place, int],
    unanswered: int,
    stored: Sequence[Place],
    heard: Sequence[Heard],
) -> Aftermath:
    """Compare the books.

    Args:
        acknowledged: record -> the kill before which it was written.
    """
    there = set(stored)
    missing = [there - set(one.places) for one in heard]
    nobody = set.intersection(*missing) if missing else set()
    counts = [Counter(one.places) for one in heard]
    return Aftermath(
        server=server,
        kills=kills,
        listeners=len(heard),
        acknowledged=len(acknowledged),
        unanswered=unanswered,
        stored=len(stored),
        lost=len(acknowledged.keys() - there),
        missed=sum(map(len, missing)),
        unheard=len(nobody & acknowledged.keys()),
        kills_missed=_around(acknowledged, set().union(*missing), kills),
        kills_unheard=_around(acknowledged, nobody, kills),
        repeated=sum(number - 1 for count in counts for number in count.values()),
        swapped=sum(_swapped(one.places) for one in heard),
        phantoms=sum(len(set(one.places) - there) for one in heard),
        resyncs=sum(one.resyncs for one in heard),
    )


def _around(acknowledged: Mapping[Place, int], missed: set[Place], kills: int) -> int:
    """A record written after the last kill can only have been missed because of that."""
    return len({min(acknowledged[place], kills - 1) for place in missed & acknowledged.keys()})


def _swapped(places: Sequence[Place]) -> int:
    last: dict[int, int] = {}
    found = 0
    for writer, number in places:
        found += number < last.get(writer, 0)
        last[writer] = max(number, last.get(writer, 0))
    return found


ROWS = (
    ("kills", "kills"),
    ("creates acknowledged", "acknowledged"),
    ("acknowledged, but not in the database", "lost"),
    ("in the database, but never heard by a listener (of 3)", "missed"),
    ("acknowledged, but heard by no listener", "unheard"),
    ("kills around which a listener missed an acknowledged write", "kills_missed"),
    ("kills around which one reached no listener", "kills_unheard"),
    ("events heard twice", "repeated"),
    ("events out of their writer's order", "swapped"),
    ("events of what is not in the database", "phantoms"),
    ("listeners told to fetch the list again", "resyncs"),
)


def table(found: Sequence[Aftermath]) -> str:
    """A Markdown table, a column a server."""
    lines = ["| | " + " | ".join(one.server for one in found) + " |", "|---|" + "---:|" * len(found)]
    lines += [f"| {text} | " + " | ".join(f"{getattr(one, name):,}" for one in found) + " |" for text, name in ROWS]
    return "\n".join(lines)
