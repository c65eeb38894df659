"""A member who means harm: what they can do to the memory of a server, and what they can learn of others."""

import asyncio
import json
from pathlib import Path
from typing import Any

from snackbase.web.documents.tables import OPERATIONS
from tests.e2e.conftest import MakeHouse
from tests.e2e.support import API, House, Member, fresh, remember
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


async def test_an_email_of_a_megabyte_of_accents_is_a_wrong_one_like_any_other(house: House) -> None:
    marks = "e" + "\u0301\u0316" * 80_000
    for path, more in (("login", {"account": "system"}), ("register", {"account_name": "x"})):
        body = {"email": marks, "password": "a-password-of-eve", **more}
        answer = await house.client.post(f"{API}/auth/{path}", json=body)
        assert answer.json()["code"] in ("invalid_credentials", "validation_failed"), answer.text


async def _belongings(house: House, ada: Member) -> dict[str, str]:
    """One of everything that an account has, by the names of path parameters."""
    collection = await house.collection("title")
    group = (await ada.request("POST", "/groups", json={"name": "secret group"})).json()
    key = (await ada.request("POST", "/admin/api-keys", json={"name": "secret key"})).json()
    invited = (await ada.request("POST", "/invitations", json={"email": f"{fresh('x')}@example.com"})).json()
    remember(key["key"])
    remember(invited["token"])
    return {
        "collection": collection,
        "record_id": (await ada.create(collection, title="secret"))["id"],
        "group_id": group["id"],
        "key_id": key["id"],
        "invitation_id": invited["id"],
        "user_id": ada.id,
        "account": ada.account["slug"],
        "account_id": ada.account_id,
    }


BODIES: dict[str, object] = {
    "/password": {"new_password": "a-password-of-eve"},
    "/batch": {"records": [{"id": "{record_id}", "data": {"title": "x"}}], "ids": ["{record_id}"]},
    "/groups/{group_id}/users": {"user_id": "{user_id}"},
    "/realtime/explain": {"record_id": "{record_id}", "user": "{user_id}"},
}


async def test_what_belongs_to_another_account_answers_like_what_is_not_there(house: House) -> None:
    ada, eve = await house.founder("ada"), await house.founder("eve")
    theirs = await _belongings(house, ada)
    nobody = dict.fromkeys(theirs, "01890a5d-ac96-774b-bcce-b302099a8057") | {"collection": theirs["collection"]}
    asked = 0
    for (method, path), operation in OPERATIONS.items():
        body = next((one for part, one in BODIES.items() if path.endswith(part)), {})
        owned = [name for name in theirs if name != "collection" and f"{{{name}}}" in f"{path} {body}"]
        parameters = {one.name for one in operation.query} & {"account_id", "account"}
        if operation.access == "open" or not (owned or parameters) or path.endswith("/subscribe"):
            continue
        answers = [await _answer(eve, method, path, body, parameters, names) for names in (theirs, nobody)]
        assert answers[0] == answers[1], (method, path, answers)
        assert answers[0][0] in (400, 403, 404, 422), (method, path, answers)
        asked += 1

    assert asked > 30


async def _answer(
    eve: Member, method: str, path: str, body: object, parameters: set[str], names: dict[str, str]
) -> tuple[int, str]:
    """Status and text, without what was asked for."""
    for name, value in names.items():
        path = path.replace(f"{{{name}}}", value)
    text = json.dumps(body)
    for name, value in names.items():
        text = text.replace(f"{{{name}}}", value)
    query = {name: names[name] for name in parameters}
    headers = {"authorization": f"Bearer {eve.token}", "content-type": "application/json"}
    sent: dict[str, Any] = {} if method == "GET" else {"content": _fitting(method, path, json.loads(text))}
    answer = await eve.house.client.request(method, path, headers=headers, params=query, **sent)
    said = answer.text
    for value in names.values():
        said = said.replace(value, "…")
    return answer.status_code, said


def _fitting(method: str, path: str, body: dict[str, object]) -> bytes:
    """Of a batch's two forms the one that the method takes."""
    if path.endswith("/batch"):
        body = {"ids": body["ids"]} if method == "DELETE" else {"records": body["records"]}
    return json.dumps(body).encode()
