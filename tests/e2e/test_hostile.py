"""A member who means harm: what one of them can do to the memory, the threads and the patience of a server."""

import asyncio
from pathlib import Path

from tests.e2e.conftest import MakeHouse
from tests.e2e.support import API, House, Member
from tests.protocol.raw import Raw

LARGE = {"a": "x" * 150_000, "b": "x" * 150_000}


def resident_mb(house: House) -> int:
    """The most memory that the server ever had."""
    lines = Path(f"/proc/{house.server.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) // 1024


async def large_records(house: House, member: Member, count: int) -> str:
    collection = await house.collection("a", "b")
    for _ in range(count):
        await member.create(collection, **LARGE)
    return collection


async def test_answers_that_nobody_reads_do_not_fill_the_memory(make_house: MakeHouse) -> None:
    house = await make_house()
    ada = await house.founder()
    collection = await large_records(house, ada, 50)
    before = resident_mb(house)
    head = f"GET {API}/records/{collection}?limit=50 HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {ada.token}\r\n\r\n"
    crowd = [Raw(house.server.port) for _ in range(40)]
    try:
        for one in crowd:
            one.send(head.encode())
        statuses = [await asyncio.to_thread(_status, one) for one in crowd]
    finally:
        for one in crowd:
            one.socket.close()

    # 40 answers of 15 MB would be 600 MB.
    assert resident_mb(house) - before < 400
    assert set(statuses) == {200, 503}
    assert statuses.count(200) >= 8
    answer = await ada.request("GET", f"/records/{collection}?limit=50")
    assert len(answer.json()["items"]) == 50


def _status(one: Raw) -> int:
    return int(one.read_until(b"\r\n").split()[1])


async def test_an_answer_to_a_poll_is_bounded_in_bytes_and_says_that_there_is_more(house: House) -> None:
    ada = await house.founder()
    collection = await house.collection("a", "b")
    first = (await ada.request("GET", f"/realtime/changes?collection={collection}")).json()["position"]
    made = [(await ada.create(collection, **LARGE))["id"] for _ in range(30)]

    heard: list[str] = []
    since, answers = first, 0
    while True:
        answer = await ada.request("GET", f"/realtime/changes?collection={collection}&since={since}&limit=1000")
        assert len(answer.content) < 5_000_000
        heard += [event["data"]["id"] for event in answer.json()["events"]]
        since, answers = answer.json()["position"], answers + 1
        if not answer.json()["has_more"]:
            break

    assert (heard, answers) == (made, 3)


async def test_a_set_too_large_for_a_snapshot_is_refused_before_it_is_read_whole(make_house: MakeHouse) -> None:
    house = await make_house()
    ada = await house.founder()
    collection = await large_records(house, ada, 200)
    before = resident_mb(house)
    socket = await house.socket(ada)

    answer = await socket.ask("subscribe", collection=collection, snapshot=True)

    assert answer["code"] == "snapshot_too_large"
    assert resident_mb(house) - before < 45, "the set has 60 MB"
