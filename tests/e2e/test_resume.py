"""Ten events written while a client is away: ten come back, whatever happened to the server meanwhile (contract §2-§4).

Over a raw WebSocket, an event stream that comes back with Last-Event-ID, a stream that names its position, and polling;
after a mere disconnect, a clean restart and a kill. And the same for native EventSource in Chromium.
"""

import json
from collections.abc import Awaitable, Callable
from types import ModuleType
from typing import Any

import pytest

from tests.e2e.support import API, House, Member, place

from .conftest import MakeHouse

TOKENS = 24 * 60


async def _restarted(house: House) -> None:
    await house.server.restart()


async def _killed(house: House) -> None:
    await house.server.kill()
    await house.server.start()


async def _untouched(house: House) -> None:
    """The server goes on."""


MEANWHILE: dict[str, Callable[[House], Awaitable[None]]] = {
    "nothing else happened": _untouched,
    "the server was restarted": _restarted,
    "the server was killed": _killed,
}


async def over_websocket(house: House, member: Member, collection: str, since: str) -> list[dict[str, Any]]:
    socket = await house.socket(member)
    await socket.send({"action": "subscribe", "collection": collection, "since": since})
    return await socket.until(lambda message: message["type"] in ("caught_up", "resync"))


async def over_last_event_id(house: House, member: Member, collection: str, since: str) -> list[dict[str, Any]]:
    stream = await house.stream(member, ("collection", collection), headers={"last-event-id": since})
    return await stream.until(lambda message: message["type"] in ("caught_up", "resync"))


async def over_since(house: House, member: Member, collection: str, since: str) -> list[dict[str, Any]]:
    stream = await house.stream(member, ("collection", collection), ("since", since))
    return await stream.until(lambda message: message["type"] in ("caught_up", "resync"))


async def over_polling(house: House, member: Member, collection: str, since: str) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    while True:
        asked = {"collection": collection, "since": since, "limit": "4"}
        answer = await member.request("GET", f"/realtime/changes?{_query(asked)}", status=200)
        page = answer.json()
        events += page["events"]
        since = page["position"]
        if not page["has_more"]:
            return events


def _query(asked: dict[str, str]) -> str:
    return "&".join(f"{name}={value}" for name, value in asked.items())


WAYS = [over_websocket, over_last_event_id, over_since, over_polling]


@pytest.mark.parametrize("meanwhile", MEANWHILE, ids=lambda name: name.replace(" ", "_"))
async def test_ten_events_written_while_a_client_is_away_come_back(make_house: MakeHouse, meanwhile: str) -> None:
    house = await make_house(ACCESS_TOKEN_EXPIRE_MINUTES=TOKENS)
    member, collection = await house.founder(), await house.collection("title")
    socket = await house.socket(member)
    await socket.subscribe(collection)
    await member.create(collection, title="seen")
    since = (await socket.next())["position"]
    await socket.connection.close()
    for number in range(5):
        await member.create(collection, title=str(number))
    await MEANWHILE[meanwhile](house)
    await member.create_all(collection, *({"title": str(number)} for number in range(5, 10)))
    for way in WAYS:
        messages = await way(house, member, collection, since)
        events = [message for message in messages if message["type"] == f"{collection}.create"]
        assert [event["data"]["title"] for event in events] == [str(number) for number in range(10)], way.__name__
        assert [event.get("tx_size") for event in events] == [None] * 5 + [5] * 5
        assert all("position" in event for event in events[:5])
        assert ["position" in event for event in events[5:]] == [False] * 4 + [True]


async def test_an_update_and_a_delete_come_back_with_the_bytes_of_the_live_event(house: House) -> None:
    member, collection = await house.founder(), await house.collection("title")
    live = await house.socket(member)
    start = (await live.subscribe(collection))["position"]
    record = await member.create(collection, title="a")
    await member.update(collection, record["id"], title="b")
    await member.delete(collection, record["id"])
    told = await live.take(3)
    back = await over_websocket(house, member, collection, start)
    assert back[1:-1] == told
    assert (await over_polling(house, member, collection, start)) == told


async def test_a_stream_moves_its_resume_point_by_events_and_heartbeats_only(quick_house: House) -> None:
    member, collection = await quick_house.founder(), await quick_house.collection("title")
    other = await quick_house.collection("title")
    start = (await member.create(collection, title="1"), await _position(member, collection))[1]
    await member.create_all(collection, {"title": "2"}, {"title": "3"})
    await member.create(other, title="4")
    query = [("collection", collection), ("collection", other), ("since", start)]
    stream = await quick_house.stream(member, *query)
    blocks = [await stream.block()]
    while blocks[-1].data["type"] != "caught_up" or len([b for b in blocks if b.data["type"] == "caught_up"]) < 2:
        blocks.append(await stream.block())
    marks = [(block.data["type"].split(".")[-1], block.id is not None) for block in blocks]
    assert marks == [
        ("subscribed", False),
        ("subscribed", False),
        ("create", False),
        ("create", True),
        ("create", True),
        ("caught_up", False),
        ("caught_up", False),
    ]
    while (block := await stream.block()).data["type"] != "heartbeat":
        pass
    assert block.id == block.data["position"]
    again = await over_last_event_id(quick_house, member, collection, str(block.id))
    assert [message["type"] for message in again] == ["subscribed", "caught_up"]


async def _position(member: Member, collection: str) -> str:
    answer = await member.request("GET", f"/records/{collection}", status=200)
    return str(answer.json()["position"])


async def test_the_position_of_a_list_begins_a_stream_that_fits_it(house: House) -> None:
    member, collection = await house.founder(), await house.collection("title")
    await member.create(collection, title="listed")
    since = await _position(member, collection)
    await member.create(collection, title="later")
    messages = await over_websocket(house, member, collection, since)
    assert [m["data"]["title"] for m in messages if "." in m["type"]] == ["later"]


async def test_the_position_of_a_write_is_the_place_after_it(house: House) -> None:
    member, collection = await house.founder(), await house.collection("title")
    answer = await member.request("POST", f"/records/{collection}", json={"title": "mine"}, status=201)
    await member.create(collection, title="next")
    messages = await over_websocket(house, member, collection, answer.headers["x-snackbase-position"])
    assert [m["data"]["title"] for m in messages if "." in m["type"]] == ["next"]


async def test_a_snapshot_over_a_socket_and_a_stream_is_the_list_and_then_its_stream(house: House) -> None:
    member, collection = await house.founder(), await house.collection("title")
    await member.create_all(collection, *({"title": str(number)} for number in range(5)))
    wanted = {"collection": collection, "snapshot": {"sort": "title", "limit": 2}, "filter": "title != '3'"}
    for transport in ("websocket", "sse"):
        client = await house.follow(transport, member, wanted)
        told = await client.until(lambda message: message["type"] == "caught_up")
        pages = [message for message in told if message["type"] == "snapshot"]
        assert [page["complete"] for page in pages] == [False, True]
        assert [record["title"] for page in pages for record in page["data"]] == ["0", "1", "2", "4"]
        await member.create(collection, title="3")
        record = await member.create(collection, title=f"by {transport}")
        assert (await client.next())["data"] == record
        await member.delete(collection, record["id"])


async def test_a_page_of_a_snapshot_may_be_larger_than_what_may_wait_unsent(house: House) -> None:
    member, collection = await house.founder(), await house.collection("title")
    made = [(await member.create(collection, title=f"{number:02}" + "x" * 190_000))["id"] for number in range(30)]
    wanted = {"collection": collection, "snapshot": {"sort": "title"}}
    socket = await house.socket(member, max_size=None)
    await socket.send({"action": "subscribe", **wanted})
    for client in (socket, await house.stream(member, ("subscription", json.dumps(wanted)))):
        told = await client.until(lambda message: message["type"] == "caught_up")
        [page] = [message for message in told if message["type"] == "snapshot"]
        assert ([record["id"] for record in page["data"]], page["complete"]) == (made, True)
        record = await member.create(collection, title="zz")
        assert (await client.next())["data"] == record
        await member.delete(collection, record["id"])


@pytest.mark.parametrize("reason", ["unknown", "epoch", "ahead"])
async def test_polling_from_a_place_that_is_gone_is_410_with_the_reason(house: House, reason: str) -> None:
    member, collection = await house.founder(), await house.collection("title")
    await member.create(collection, title="x")
    epoch, seq, check, version = (await _position(member, collection)).split(".")
    since = {"unknown": "nonsense", "epoch": f"zz.{seq}.{check}.{version}", "ahead": f"{epoch}.zzz.{check}.{version}"}
    path = f"/realtime/changes?collection={collection}&since={since[reason]}"
    answer = await member.request("GET", path, status=410)
    assert answer.json()["code"] == reason
    messages = await over_websocket(house, member, collection, since[reason])
    assert messages[-1]["reason"] == reason


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("", 400, "invalid_message"),
        ("collection=nothere", 404, "collection_not_found"),
        ("collection={c}&limit=0", 400, "invalid_limit"),
        ("collection={c}&limit=1001", 400, "invalid_limit"),
        ("collection={c}&limit=x", 400, "invalid_limit"),
        ("collection={c}&filter=nope%20=%201", 400, "invalid_filter"),
        ("collection={c}&colection=x", 400, "unknown_parameter"),
        ("collection={c}&collection=*&filter=true", 400, "invalid_message"),
    ],
)
async def test_a_poll_that_cannot_be_is_refused_with_its_own_code(
    house: House, query: str, status: int, code: str
) -> None:
    member, collection = await house.founder(), await house.collection("title")
    answer = await member.request("GET", f"/realtime/changes?{query.replace('{c}', collection)}", status=status)
    assert answer.json()["code"] == code


async def test_a_poll_without_a_position_begins_at_the_present(house: House) -> None:
    member, collection = await house.founder(), await house.collection("title")
    await member.create(collection, title="before")
    begun = (await member.request("GET", f"/realtime/changes?collection={collection}", status=200)).json()
    assert (begun["events"], begun["has_more"]) == ([], False)
    await member.create(collection, title="after")
    path = (
        f"/realtime/changes?collection={collection}&filter=title%20=%20'after'&fields=title&since={begun['position']}"
    )
    (event,) = (await member.request("GET", path, status=200)).json()["events"]
    assert set(event["data"]) == {"id", "title"}
    assert place(event["position"]) == place(begun["position"]) + 1


async def test_nobody_polls_without_a_token(house: House) -> None:
    answer = await house.client.get(f"{API}/realtime/changes?collection=posts")
    assert answer.status_code == 401


NATIVE = """
const source = new EventSource(`/api/v1/realtime/subscribe?token=${TOKEN}&collection=${COLLECTION}`);
source.onmessage = (event) => {
  const message = JSON.parse(event.data);
  if (message.type !== "heartbeat") report({ type: message.type, title: message.data?.title ?? null });
};
globalThis.source = source;
"""


@pytest.mark.parametrize("meanwhile", ["the server was restarted", "the server was killed"])
async def test_a_native_event_source_gets_everything_back_by_itself(
    make_house: MakeHouse, browser: ModuleType, meanwhile: str
) -> None:
    house = await make_house(ACCESS_TOKEN_EXPIRE_MINUTES=TOKENS)
    member, collection = await house.founder(), await house.collection("title")
    script = f"const TOKEN = {json.dumps(member.token)}, COLLECTION = {json.dumps(collection)};{NATIVE}"
    async with browser.open_page(house.server.base_url) as page:
        await page.evaluate(script)
        assert (await page.next_report())["type"] == "subscribed"
        await member.create(collection, title="seen")
        assert (await page.next_report())["title"] == "seen"
        await MEANWHILE[meanwhile](house)
        await member.create_all(collection, *({"title": str(number)} for number in range(10)))
        seen: list[str] = []
        while len(seen) < 10:
            told = await page.next_report()
            if told["type"].endswith(".create"):
                seen.append(told["title"])
        assert seen == [str(number) for number in range(10)]
