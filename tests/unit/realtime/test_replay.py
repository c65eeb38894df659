"""realtime/resume.py: a large transaction is told to the subscriptions of a connection a few at a time."""

from snackbase.model import Head, Op
from snackbase.realtime.protocol import SubscribeRequest
from snackbase.realtime.resume import Passage, Replay
from snackbase.realtime.session import Subscription

from .test_fanout import ALL, STREAM, Client, Log, view


def subscription(name: str) -> Subscription:
    made = Subscription(SubscribeRequest(collection="posts", id=name), "c1", ALL)
    made.views = {"c1": view()}
    return made


def test_what_a_stream_was_about_to_be_told_is_not_told_once_its_subscription_is_dropped() -> None:
    client, log = Client(STREAM, stages=True), Log()
    one, two = subscription("one"), subscription("two")
    client.held = 2
    replay = Replay(client, [(one, Head(0, 0)), (two, Head(0, 0))])
    passage = Passage([log.change(Op.CREATE, "r1", {"title": "x" * 100})], "p1")

    replay.tell(passage, 0)
    assert (client.messages(), replay.at) == ([], Head(0, 0)), "it may have to carry the position"
    replay.drop(one)
    client.held = 1
    replay.tell(passage, 0)

    assert [message["subscription"] for message in client.messages()] == ["two"]
    assert client.lines()[0].startswith(b"id p1 ")
    assert replay.at == passage.head


def test_of_what_was_made_for_those_who_resume_only_so_much_is_kept() -> None:
    log = Log()
    passage = Passage([log.change(Op.CREATE, "r1", {"title": "x" * 100_000})], "p1")
    made = [passage.payloads(subscription(f"s{number}")) for number in range(20)]
    again = [passage.payloads(subscription(f"s{number}")) for number in range(20)]

    assert made == again
    assert [first is second for first, second in zip(made, again, strict=True)] == [True] * 8 + [False] * 12
