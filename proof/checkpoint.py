"""The comparison: every live list of every client with what `GET /records` answers for that user, byte for byte."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from proof.livelist import EVERY, Difference
from proof.people import Login
from proof.world import COLLECTIONS

PATIENCE_S = 60.0
LOOK_AGAIN_S = 0.5
Question = tuple[str, str, str, str, int | None]
"""User, collection, filter, fields, node."""
Answer = tuple[int, Mapping[str, bytes]]
_decode = msgspec.json.Decoder().decode


@dataclass(frozen=True)
class Held:
    """A list as a client holds it now.

    Attributes:
        settled: nothing is under way: it is live, or it was refused.
        refused: the user may not read it, as the client was told.
        cursor: up to where the client has it; None = it does not say.
        exact: whether the records are the server's bytes; else (JavaScript) they are equal values.
    """

    name: str
    client: str
    kind: str
    login: Login
    collection: str
    filter: str | None
    fields: str | None
    settled: bool
    refused: bool
    cursor: str | None
    records: Mapping[str, bytes]
    exact: bool = True
    story: str = ""

    @property
    def label(self) -> str:
        return f"{self.name} of {self.client} ({self.kind})"


class Holder(Protocol):
    """A client that keeps lists."""

    async def held(self) -> Sequence[Held]: ...


@dataclass
class Comparison:
    """What one checkpoint compared."""

    lists: int = 0
    answers: int = 0
    refused: int = 0
    records: int = 0
    waited_s: float = 0.0
    waited_for: str = ""


async def compare(
    holders: Sequence[Holder],
    heads: Callable[[], Awaitable[Mapping[str, str]]],
    *,
    nodes: Sequence[int | None] = (None,),
    patience_s: float = PATIENCE_S,
) -> Comparison:
    """Wait until every list stands at its account's head, then compare all of them. Nobody writes meanwhile.

    Args:
        heads: the position of each account by its slug. nodes: who is asked what is in the lists: each of them.

    Raises:
        Difference: a list is not what the server answers, or does not get there.
    """
    began = time.monotonic()
    last = ""
    while True:
        at, late = await _until_there(holders, heads, began + patience_s)
        last = late or last
        truths: dict[Question, Answer] = {}
        every = [one for holder in holders for one in await holder.held()]
        for one in every:
            for node in nodes:
                await _fetch(one, node, truths)
        # Somebody's rights may have changed while it was read; then the question is asked again.
        again = [one for holder in holders for one in await holder.held()]
        if await heads() != at or not all(_there(one, at) for one in again):
            continue
        wrong = [
            (one, f"{text}{'' if node is None else f' (at node {node})'}")
            for one in every
            for node in nodes
            if (text := _difference(one, truths[_question(one, node)])) is not None
        ]
        if not wrong:
            break
        # Nobody tells a client that was refused that it might ask again, and one without a cursor cannot say how far
        # it is: they get some time. All others have heard everything.
        for one, text in wrong:
            if _sure(one) or time.monotonic() - began > patience_s:
                raise Difference(f"{_who(one)}: {text}")
            last = one.label
        await asyncio.sleep(0.1)
    return Comparison(
        waited_for=last,
        lists=len(every),
        answers=len(every) * len(nodes),
        refused=sum(one.refused for one in every),
        records=sum(len(one.records) for one in every),
        waited_s=time.monotonic() - began,
    )


def _sure(one: Held) -> bool:
    return not one.refused and one.cursor is not None


async def _until_there(
    holders: Sequence[Holder], heads: Callable[[], Awaitable[Mapping[str, str]]], until: float
) -> tuple[Mapping[str, str], str]:
    """Returns where everybody is, and the last one that was waited for.

    The heads are looked at again and again: nobody writes records, but a login may end an older one, which is a row of
    the log too.
    """
    last, at, asked = "", await heads(), time.monotonic()
    while True:
        late = [one for holder in holders for one in await holder.held() if not _there(one, at)]
        if not late:
            return at, last
        last = late[0].label
        if time.monotonic() > until:
            names = ", ".join(f"{one.label} at {one.cursor}" for one in late)
            head = at[late[0].login.person.account]
            raise Difference(f"never caught up with {head}: {names}\n{late[0].story}")
        await asyncio.sleep(0.05)
        if time.monotonic() - asked > LOOK_AGAIN_S:
            at, asked = await heads(), time.monotonic()


def _there(one: Held, at: Mapping[str, str]) -> bool:
    return one.settled and (not _sure(one) or one.cursor == at[one.login.person.account])


def _question(one: Held, node: int | None) -> Question:
    return (one.login.person.name, one.collection, one.filter or "", one.fields or "", node)


async def _fetch(one: Held, node: int | None, truths: dict[Question, Answer]) -> None:
    question = _question(one, node)
    if question not in truths:
        asked = {key: value for key, value in (("filter", one.filter), ("fields", one.fields)) if value}
        truths[question] = await _listed(one, asked, node)


async def _listed(one: Held, asked: Mapping[str, str], node: int | None) -> Answer:
    if one.collection != EVERY:
        found = await one.login.list(one.collection, asked, node=node)
        return found.status, found.records
    every: dict[str, bytes] = {}
    for collection in COLLECTIONS:
        every |= (await one.login.list(collection, asked, node=node)).records
    return 200, every


def _difference(one: Held, answer: Answer) -> str | None:
    status, wanted = answer
    if one.refused != (status in (400, 403, 404)):
        return f"the client was {'' if one.refused else 'not '}refused, REST says {status}"
    if one.records.keys() != wanted.keys():
        missing, extra = sorted(wanted.keys() - one.records.keys()), sorted(one.records.keys() - wanted.keys())
        return f"missing {missing[:5]} ({len(missing)}), too many {extra[:5]} ({len(extra)})"
    for record_id, record in wanted.items():
        mine = one.records[record_id]
        if mine != record if one.exact else _decode(mine) != _decode(record):
            return f"{record_id} is\n    {mine!r}\n  but REST says\n    {record!r}"
    return None


def _who(one: Held) -> str:
    what = f"{one.collection}, filter {one.filter!r}, fields {one.fields!r}"
    return f"{one.label}, {what}, cursor {one.cursor}\n{one.story}\n  "
