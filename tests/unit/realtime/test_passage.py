"""realtime/resume.py: one transaction of the log is judged for everybody who resumes, and little of that is kept."""

from collections.abc import Mapping
from typing import Any

import pytest

from snackbase.model import Op
from snackbase.realtime.groups import IndexedOn, View
from snackbase.realtime.protocol import SubscribeRequest
from snackbase.realtime.resume import MOST_KEPT, Passage
from snackbase.realtime.session import Subscription

from .test_fanout import ALL, WIRE, Log, view


def passage(log: Log, owner: str) -> Passage:
    return Passage([log.change(Op.CREATE, f"of {owner}", {"owner": owner})], f"p{log.seq}")


def subscription(one: View) -> Subscription:
    made = Subscription(SubscribeRequest(collection="posts"), "c1", ALL)
    made.views = {"c1": one}
    return made


def own(name: str, *, indexed: bool) -> Subscription:
    def sees(record: Mapping[str, Any]) -> bool:
        return bool(record["owner"] == name)

    return subscription(view(sees, key=name, index=IndexedOn("owner", (name,)) if indexed else None))


@pytest.mark.parametrize("indexed", [True, False])
def test_each_of_many_views_sees_its_own_and_next_to_nothing_is_kept_of_the_others(indexed: bool) -> None:
    log = Log()
    passages = [passage(log, f"user{number}") for number in range(20)]
    people = [own(f"user{number}", indexed=indexed) for number in range(3 * MOST_KEPT)]
    for _ in range(2):
        seen = {
            (number, at)
            for number, one in enumerate(people)
            for at, made in enumerate(passages)
            if made.frame(one, WIRE)
        }
        told = {
            (number, at) for number, one in enumerate(people) for at, made in enumerate(passages) if made.payloads(one)
        }
        assert seen == told == {(number, number) for number in range(20)}
    most = 1 if indexed else MOST_KEPT
    assert all(len(made._frames) <= most and len(made._payloads) <= most for made in passages)


def test_who_shares_a_view_shares_the_bytes() -> None:
    made = passage(Log(), "ann")
    one, other = (own("ann", indexed=True) for _ in range(2))
    assert made.frame(one, WIRE) is made.frame(other, WIRE)


def test_a_record_that_leaves_an_indexed_view_is_told_on_a_replay_too() -> None:
    log = Log()
    passage(log, "ann")
    moved = Passage([log.change(Op.UPDATE, "of ann", {"owner": "bob"})], "p2")
    assert b'"change":"leave"' in moved.frame(own("ann", indexed=True), WIRE)
    assert b'"change":"enter"' in moved.frame(own("bob", indexed=True), WIRE)
    assert moved.frame(own("cid", indexed=True), WIRE) == b""
