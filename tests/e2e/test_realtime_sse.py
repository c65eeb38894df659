"""What is particular to Server-Sent Events (contract §4): the form of a block, its `id:` and `retry:`, coming back."""

import json
from typing import Any

import pytest

from tests.e2e.conftest import MakeHouse
from tests.e2e.stage import perform
from tests.e2e.support import House, Member, Stream, fresh, place


def titles(stream: Stream) -> list[str]:
    return [message["data"]["title"] for message in stream.all if "." in message["type"]]


async def read_until(stream: Stream, title: str) -> None:
    await stream.until(lambda message: message.get("data", {}).get("title") == title)


def subscription(**keys: Any) -> tuple[str, str]:
    return ("subscription", json.dumps(keys))


# Form ----------------------------------------------------------------------------------------------------------------


async def test_a_stream_has_the_headers_that_keep_proxies_out_of_the_way(house: House) -> None:
    headers = (await house.stream(await house.founder())).response.headers

    assert headers["content-type"].partition(";")[0] == "text/event-stream"
    assert headers["cache-control"] == "no-store, no-transform"
    assert headers["x-accel-buffering"] == "no"
    assert "content-length" not in headers
    assert "content-encoding" not in headers


async def test_retry_stands_in_the_block_of_the_first_message_and_differs_between_connections(house: House) -> None:
    posts = await house.collection("title")
    me = await house.founder()
    delays = set()
    for _ in range(8):
        stream = await house.stream(me, ("collection", posts))
        first = await stream.block()
        assert first.data["type"] == "subscribed"
        assert first.retry is not None and 1000 <= first.retry <= 5000
        delays.add(first.retry)
    await me.create(posts, title="x")

    assert (await stream.block()).retry is None
    assert len(delays) > 1


async def test_every_message_is_a_default_event_with_one_line_of_data(quick_house: House) -> None:
    posts = await quick_house.collection("title")
    me = await quick_house.founder()
    stream = await quick_house.stream(me, ("collection", posts))
    await me.create(posts, title="two\nlines\r\n\u2028and more")
    await stream.beat()
    await stream.beat()

    for block in stream.blocks:
        names = [line.partition(":")[0] for line in block.lines]
        assert sorted(names) == sorted({"data", *(["id"] if block.id else []), *(["retry"] if block.retry else [])})
    assert titles(stream) == ["two\nlines\r\n\u2028and more"]


async def test_a_stream_without_a_collection_begins_with_a_heartbeat_at_once(house: House) -> None:
    """With default settings the next one comes after half a minute, so it can only be the first message."""
    block = await (await house.stream(await house.founder())).block()

    assert (block.data["type"], block.data["event"]) == ("heartbeat", "heartbeat")
    assert block.id == block.data["position"]


# Which blocks have an id ---------------------------------------------------------------------------------------------


async def test_events_and_heartbeats_have_an_id_and_acknowledgements_have_none(quick_house: House) -> None:
    posts = await quick_house.collection("title")
    me = await quick_house.founder()
    stream = await quick_house.stream(me, ("collection", posts))
    made = await me.create(posts, title="x")
    await me.delete(posts, made["id"])
    await stream.until(lambda message: message["type"] == f"{posts}.delete")
    await stream.beat()

    for block in stream.blocks:
        expected = None if block.data["type"] == "subscribed" else block.data["position"]
        assert block.id == expected, block.lines


async def test_inside_a_transaction_only_the_last_event_has_an_id(house: House) -> None:
    posts = await house.collection("title")
    me = await house.founder()
    stream = await house.stream(me, subscription(collection=posts), subscription(collection=posts, id="twice"))
    await stream.take(2)
    await me.create_all(posts, {"title": "a"}, {"title": "b"}, {"title": "c"})
    await stream.take(6)

    assert [block.id is None for block in stream.blocks[-6:]] == [True] * 5 + [False]
    assert stream.blocks[-1].id == stream.blocks[-1].data["position"]


async def test_of_several_events_of_one_change_only_the_last_has_an_id(house: House) -> None:
    posts = await house.collection("title")
    me = await house.founder()
    named = [subscription(collection=posts, id=name) for name in "abc"]
    stream = await house.stream(me, *named, subscription(collection="*", id="every"))
    await stream.take(4)
    await me.create(posts, title="x")
    await stream.take(4)

    assert [block.id is None for block in stream.blocks[-4:]] == [True, True, True, False]


async def test_of_several_resyncs_only_the_last_has_an_id(house: House) -> None:
    posts, notes = await house.collection("title"), await house.collection("title")
    me = await house.founder()
    stream = await house.stream(me, ("collection", posts), ("collection", notes), ("since", "nonsense"))
    await stream.until(lambda message: message["type"] == "resync")
    await stream.until(lambda message: message["type"] == "resync")

    ids = [(block.data["type"], block.id is not None) for block in stream.blocks]
    assert [given for type_, given in ids if type_ == "resync"] == [False, True]
    assert ("subscribed", True) not in ids


# Spellings -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "query",
    [
        [("collection", "POSTS:create,update"), ("collection", "NOTES:delete")],
        [("collections", "POSTS:create,update"), ("collections", "NOTES:delete")],
        [("collection", "POSTS:create,update"), ("collections", "NOTES:delete")],
        [
            ("subscription", '{"collection":"POSTS","operations":["create","update"]}'),
            ("subscription", '{"collection":"NOTES","operations":["delete"]}'),
        ],
    ],
    ids=["collection", "collections", "both", "subscription"],
)
async def test_subscriptions_are_spelled_in_the_url(house: House, query: list[tuple[str, str]]) -> None:
    posts, notes = await house.collection("title"), await house.collection("title")
    me = await house.founder()
    asked = [(name, text.replace("POSTS", posts).replace("NOTES", notes)) for name, text in query]
    stream = await house.stream(me, *asked)
    told = await stream.take(2)
    for collection in (posts, notes):
        made = await me.create(collection, title="x")
        await me.update(collection, made["id"], title="y")
        await me.delete(collection, made["id"])

    assert [(one["collection"], one["operations"]) for one in told] == [
        (posts, ["create", "update"]),
        (notes, ["delete"]),
    ]
    assert [one["type"] for one in await stream.take(3)] == [f"{posts}.create", f"{posts}.update", f"{notes}.delete"]


REFUSED: list[tuple[int, str, list[tuple[str, str]]]] = [
    (404, "collection_not_found", [("collection", "nowhere")]),
    (404, "collection_not_found", [("collection", "")]),
    (403, "forbidden", [("collection", "LOCKED")]),
    (400, "invalid_operations", [("collection", "POSTS:read")]),
    (400, "invalid_operations", [("collection", "POSTS:")]),
    (400, "invalid_message", [("collection", "POSTS"), ("subscription", '{"collection":"POSTS"}')]),
    (400, "invalid_message", [("subscription", '{"collection":"POSTS","operation":"create"}')]),
    (400, "invalid_json", [("subscription", "nonsense")]),
    (400, "invalid_id", [("subscription", '{"collection":"POSTS","id":"a b"}')]),
    (400, "invalid_filter", [("subscription", '{"collection":"POSTS","filter":"nothing = 1"}')]),
    (400, "invalid_fields", [("subscription", '{"collection":"POSTS","fields":["nothing"]}')]),
    (400, "subscription_limit", [("subscription", json.dumps({"collection": "P", "id": f"s{n}"})) for n in range(101)]),
    (403, "forbidden", [("account", "system")]),
]


@pytest.mark.parametrize(
    ("status", "code", "query"), REFUSED, ids=[f"{n}-{code}" for n, (_, code, _) in enumerate(REFUSED)]
)
async def test_a_stream_that_can_never_work_is_refused_on_a_first_connect(
    house: House, status: int, code: str, query: list[tuple[str, str]]
) -> None:
    posts = await house.collection("title", name="sse_posts", missing_ok=True)
    locked = await house.collection("title", name="sse_locked", missing_ok=True, list_rule=None)
    asked = [(name, text.replace("POSTS", posts).replace("LOCKED", locked)) for name, text in query]
    refused = await house.refused_stream(await house.founder(), *asked)

    assert (refused.status, refused.code) == (status, code)
    assert refused.body.keys() == {"error", "message", "detail", "code", "details"}


@pytest.mark.parametrize(("which", "reason"), [("nowhere", "collection_deleted"), ("LOCKED", "forbidden")])
async def test_a_stream_that_comes_back_to_nothing_is_told_so_in_the_stream(
    house: House, which: str, reason: str
) -> None:
    posts, locked = await house.collection("title"), await house.collection("title", list_rule=None)
    me = await house.founder()
    gone = which.replace("LOCKED", locked)
    last = {"last-event-id": "x"}
    stream = await house.stream(me, ("collection", gone), ("collection", posts), headers=last)
    told = await stream.until(lambda message: message["type"] == "resync")

    ended = {"type": "unsubscribed", "status": "unsubscribed", "collection": gone, "reason": reason}
    assert ended in told
    assert {one["collection"] for one in told if one["type"] == "subscribed"} == {posts}


@pytest.mark.parametrize(
    ("wish", "change"),
    [
        ({"filter": "state = 'new'"}, {"schema": [{"name": "title", "type": "text"}]}),
        ({"fields": ["state"]}, {"list_fields": ["title"]}),
        ({"filter": "state = 'new'"}, {"list_fields": ["title"]}),
    ],
    ids=["the filter's field was dropped", "a field was hidden", "the filter's field was hidden"],
)
async def test_what_a_change_made_impossible_ends_one_subscription_of_a_stream_that_comes_back_and_not_the_stream(
    house: House, wish: dict[str, Any], change: dict[str, Any]
) -> None:
    """A 400 would end a browser's EventSource for ever, for its other subscriptions as well (contract §4)."""
    posts, notes = await house.collection("title", "state"), await house.collection("title")
    me, root = await house.founder(), await house.superadmin()
    wanted = [subscription(collection=posts, id="narrow", **wish), subscription(collection=notes)]
    live = await house.stream(me, *wanted)
    await live.take(2)
    await me.create(notes, title="heard")
    await live.next()
    last = live.blocks[-1].id
    await root.request("PUT", f"/collections/{posts}", json=change)
    ended = {"type": "unsubscribed", "status": "unsubscribed", "collection": posts, "id": "narrow"}
    assert await live.next() == {**ended, "reason": "forbidden"}
    await live.response.aclose()
    await me.create(notes, title="missed")

    back = await house.stream(me, *wanted, headers={"last-event-id": str(last)})
    told = await back.until(lambda message: message["type"] == "caught_up")
    assert told[0] == {**ended, "reason": "forbidden"}
    assert titles(back) == ["missed"]
    refused = await house.refused_stream(me, *wanted)
    assert refused.status == 400


async def test_under_a_lower_limit_a_stream_that_comes_back_keeps_as_many_subscriptions_as_there_may_be(
    make_house: MakeHouse,
) -> None:
    house = await make_house(REALTIME_MAX_SUBSCRIPTIONS=2)
    posts, me = await house.collection("title"), await house.founder()
    three = [subscription(collection=posts, id=name) for name in "abc"]
    stream = await house.stream(me, *three, headers={"last-event-id": "x"})
    told = await stream.take(5)

    assert {(one["type"], one["id"]) for one in told if one["type"] != "resync"} == {
        ("subscribed", "a"),
        ("subscribed", "b"),
        ("unsubscribed", "c"),
    }
    assert (await house.refused_stream(me, *three)).code == "subscription_limit"


async def test_a_dead_token_is_a_right_stop_also_for_who_comes_back(house: House) -> None:
    me = await house.member(await house.founder())
    await me.request("POST", "/auth/logout")
    refused = await house.refused_stream(me, headers={"last-event-id": "x"})

    assert (refused.status, refused.code) == (401, "token_revoked")


# Coming back ---------------------------------------------------------------------------------------------------------


async def missed(me: Member, posts: str) -> str:
    """Write what a stream hears of, and then what it misses; returns the id to come back with."""
    stream = await me.house.stream(me, ("collection", posts))
    await me.create(posts, title="heard")
    await read_until(stream, "heard")
    await stream.response.aclose()
    await me.create(posts, title="missed")
    await me.create_all(posts, {"title": "missed too"}, {"title": "missed last"})
    return str(stream.blocks[-1].id)


@pytest.mark.parametrize("place_of", ["last-event-id", "since", "since within a subscription"])
async def test_who_comes_back_gets_exactly_what_was_missed_and_then_lives_on(house: House, place_of: str) -> None:
    posts = await house.collection("title")
    me = await house.founder()
    last = await missed(me, posts)
    query, headers = {
        "last-event-id": ([("collection", posts)], {"last-event-id": last}),
        "since": ([("collection", posts), ("since", last)], {}),
        "since within a subscription": ([subscription(collection=posts, since=last)], {}),
    }[place_of]
    stream = await house.stream(me, *query, headers=headers)
    await stream.until(lambda message: message["type"] == "caught_up")
    await me.create(posts, title="live")
    await read_until(stream, "live")

    assert titles(stream) == ["missed", "missed too", "missed last", "live"]
    assert stream.all[0]["type"] == "subscribed"
    ids = [place(block.id) for block in stream.blocks if block.id]
    assert ids == sorted(ids)


async def test_a_stream_that_was_lost_before_its_first_event_can_be_come_back_to(house: House) -> None:
    posts = await house.collection("title")
    me = await house.founder()
    stream = await house.stream(me, ("collection", posts))
    await stream.beat()
    last = str(stream.blocks[-1].id)
    await stream.response.aclose()
    await me.create(posts, title="missed")
    back = await house.stream(me, ("collection", posts), headers={"last-event-id": last})
    await back.until(lambda message: message["type"] == "caught_up")

    assert titles(back) == ["missed"]


async def test_the_last_event_id_wins_over_since_and_over_a_snapshot(house: House) -> None:
    posts = await house.collection("title")
    me = await house.founder()
    last = await missed(me, posts)
    for query in ([("collection", posts), ("since", "nonsense")], [subscription(collection=posts, snapshot=True)]):
        stream = await house.stream(me, *query, headers={"last-event-id": last})
        await stream.until(lambda message: message["type"] == "caught_up")

        assert titles(stream) == ["missed", "missed too", "missed last"]
        assert not {"snapshot", "resync"} & {message["type"] for message in stream.all}


async def test_a_snapshot_comes_in_pages_before_the_live_events(house: House) -> None:
    posts = await house.collection("title")
    me = await house.founder()
    for name in "abcde":
        await me.create(posts, title=name)
    stream = await house.stream(me, subscription(collection=posts, snapshot={"sort": "-title", "limit": 2}))
    told = await stream.until(lambda message: message["type"] == "caught_up")
    await me.create(posts, title="live")
    await read_until(stream, "live")

    pages = [message for message in told if message["type"] == "snapshot"]
    assert [[one["title"] for one in page["data"]] for page in pages] == [["e", "d"], ["c", "b"], ["a"]]
    assert [page["complete"] for page in pages] == [False, False, True]
    assert all(block.id is None for block in stream.blocks[: len(told) - 1])


EVENT_SOURCE = """
const titles = [];
const source = new EventSource(`${base}/api/v1/realtime/subscribe?token=${token}&collection=${collection}`);
source.onmessage = ({ data }) => {
  const message = JSON.parse(data);
  if (message.type.includes(".")) { titles.push(message.data.title); tell(message.data.title); }
};
await scene.hears("subscribed");
tell("subscribed");
await scene.until(() => titles.at(-1) === "last");
source.close();
return { titles, told: scene.heard.map((one) => one.type) };
"""


async def test_the_event_source_of_npm_comes_back_by_itself_after_a_restart_and_misses_nothing(
    request: pytest.FixtureRequest, make_house: MakeHouse
) -> None:
    """As a browser's own does in `test_resume.py`."""
    house = await make_house()
    me, collection = await house.founder(), await house.collection("title", name=fresh("posts"))
    more = {"base": house.server.base_url, "token": me.token, "collection": collection}
    async with perform(request, "node", EVENT_SOURCE, **more) as stage:
        assert await stage.next() == "subscribed"
        await me.create(collection, title="first")
        assert await stage.next() == "first"
        await house.server.restart()
        await me.create_all(collection, {"title": "between"}, {"title": "and more"})
        await me.create(collection, title="last")
        told = await stage.result()

    assert told["titles"] == ["first", "between", "and more", "last"]
    assert "closing" in told["told"]
    assert "resync" not in told["told"]
