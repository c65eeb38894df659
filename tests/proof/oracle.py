"""What a client has to hold and to be told, computed from the acknowledged writes alone. It knows no server."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from proof.livelist import Told

Facts = Mapping[str, Any]
RULES: dict[str, str | None] = {
    "everybody": '@request.auth.id != ""',
    "few points": "points < 10",
    "own": "@owns_record()",
    "in my rooms": "room IN @request.auth.groups",
    "own or done": "created_by = @request.auth.id || done = true",
    "nobody": None,
}
FILTERS: dict[str, str | None] = {"all": None, "done": "done = true", "red ones": "points >= 4 && room = 'red'"}


@dataclass(frozen=True)
class Reader:
    """Who looks: the user's id and groups as they are now."""

    user_id: str
    groups: tuple[str, ...]


def sees(rule: str, wanted: str, reader: Reader, record: Facts) -> bool:
    """Whether a record is in a list, by the names of its rule and filter."""
    allowed: dict[str, Callable[[], bool]] = {
        "everybody": lambda: True,
        "few points": lambda: record["points"] < 10,
        "own": lambda: record["created_by"] == reader.user_id,
        "in my rooms": lambda: record["room"] in reader.groups,
        "own or done": lambda: record["created_by"] == reader.user_id or record["done"],
        "nobody": lambda: False,
    }
    chosen: dict[str, Callable[[], bool]] = {
        "all": lambda: True,
        "done": lambda: bool(record["done"]),
        "red ones": lambda: record["points"] >= 4 and record["room"] == "red",
    }
    return allowed[rule]() and chosen[wanted]()


@dataclass(frozen=True)
class Step:
    """One change of one record; None = there is none before or after."""

    record_id: str
    before: bytes | None
    after: bytes | None


@dataclass
class History:
    """One account: its records as the server's bytes, and every committed transaction with its place."""

    records: dict[str, bytes] = field(default_factory=dict)
    transactions: list[tuple[int, tuple[Step, ...]]] = field(default_factory=list)

    def commit(self, at: int, after: Mapping[str, bytes | None]) -> None:
        """A transaction was acknowledged: the records after it, None = deleted. Who changes nothing writes nothing."""
        steps = tuple(
            Step(one, self.records.get(one), made) for one, made in after.items() if made != self.records.get(one)
        )
        self.transactions.append((at, steps))
        for one, made in after.items():
            if made is None:
                del self.records[one]
            else:
                self.records[one] = made

    def visible(self, rule: str, wanted: str, reader: Reader) -> dict[str, bytes]:
        """The list."""
        return {one: text for one, text in self.records.items() if sees(rule, wanted, reader, json.loads(text))}

    def told(self, since: int, rule: str, wanted: str, reader: Reader) -> list[Told]:
        """Every event after a place, in order."""

        def seen(text: bytes | None) -> bool:
            return text is not None and sees(rule, wanted, reader, json.loads(text))

        steps = [step for at, steps in self.transactions if at > since for step in steps]
        return [event for step in steps for event in _event(step, was=seen(step.before), now=seen(step.after))]


def _event(step: Step, *, was: bool, now: bool) -> Sequence[Told]:
    if step.after is not None and now:
        if was:
            return [Told("update", None, step.after)]
        return [Told("create", None if step.before is None else "enter", step.after)]
    if not was or step.before is None:
        return []
    if step.after is None:
        return [Told("delete", None, step.before)]
    return [Told("delete", "leave", b'{"id":"%s"}' % step.record_id.encode())]
