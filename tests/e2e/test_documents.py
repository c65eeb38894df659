"""The documents that a running server gives out: valid, for whom they are, and true of what it really sends."""

import asyncio
import json
from typing import Any

import pytest
from openapi_spec_validator import validate

from tests.e2e.conftest import MakeHouse
from tests.e2e.support import API, House, Member, Messages
from tests.support.browser import open_page
from tests.support.documents import asyncapi_faults, kind_of, message_faults

LOCKED: dict[str, Any] = dict.fromkeys(("list_rule", "view_rule", "create_rule", "update_rule", "delete_rule"))


async def openapi(house: House, member: Member | None = None) -> dict[str, Any]:
    headers = {"authorization": f"Bearer {member.token}"} if member else {}
    answer = await house.client.get("/openapi.json", headers=headers)
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


async def test_openapi_is_valid_for_whoever_asks(house: House) -> None:
    await house.collection("title", {"name": "at", "type": "datetime", "required": True}, list_rule="")

    for member in (None, await house.founder(), await house.superadmin()):
        validate(await openapi(house, member))


async def test_a_collection_is_described_as_soon_as_it_is_there_and_no_longer_than_that(house: House) -> None:
    me, root = await house.founder(), await house.superadmin()
    posts = await house.collection("title")
    path = f"{API}/records/{posts}"

    assert list((await openapi(house, me))["paths"][path]) == ["get", "post"]
    changed = {"schema": [{"name": "title"}, {"name": "body"}]}
    await root.request("PUT", f"/collections/{posts}", json=changed)
    assert "body" in (await openapi(house, me))["components"]["schemas"][f"{posts}.New"]["properties"]
    await root.request("DELETE", f"/collections/{posts}")
    assert path not in (await openapi(house, me))["paths"]


async def test_what_is_locked_is_named_to_superadmins_only(house: House) -> None:
    secrets = await house.collection("title", **LOCKED)

    assert f"{API}/records/{secrets}" in (await openapi(house, await house.superadmin()))["paths"]
    for member in (None, await house.founder()):
        assert secrets not in str(await openapi(house, member))


async def test_a_wrong_token_is_refused_rather_than_taken_for_a_stranger(house: House) -> None:
    answer = await house.client.get("/openapi.json", headers={"authorization": "Bearer nonsense"})

    assert (answer.status_code, answer.json()["code"]) == (401, "token_invalid")


async def test_many_who_ask_at_once_get_the_same(house: House) -> None:
    await house.collection("title", list_rule="")
    answers = await asyncio.gather(*(house.client.get("/openapi.json") for _ in range(20)))

    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1


async def test_asyncapi_is_valid_by_its_official_schema(house: House, node: object) -> None:
    document = (await house.client.get("/asyncapi.json")).json()

    assert asyncapi_faults(document) == []
    assert asyncapi_faults({**document, "operations": {"x": {"action": "shout"}}})


@pytest.mark.parametrize("transport", ["websocket", "sse"])
async def test_every_message_of_a_running_server_is_as_described(make_house: MakeHouse, transport: str) -> None:
    house = await make_house(REALTIME_HEARTBEAT_SECONDS=0.3, SHUTDOWN_SECONDS=1)
    document = (await house.client.get("/asyncapi.json")).json()
    described = set(document["channels"]["websocket" if transport == "websocket" else "events"]["messages"])

    heard = await _everything(house, transport)

    faults = [fault for message in heard for fault in message_faults(document, kind_of(message), message)]
    assert faults == []
    missed = {name for name in described if not name.endswith("Request")} - {kind_of(message) for message in heard}
    assert missed <= ({"error"} if transport == "sse" else set())


async def _everything(house: House, transport: str) -> list[dict[str, Any]]:
    """All that a server can say, provoked one after the other; the last is its goodbye."""
    me, root = await house.founder(), await house.superadmin()
    posts = await house.collection("title", {"name": "state"})
    notes = await house.collection("title")
    start = (await me.request("POST", f"/records/{posts}", json={"title": "first"})).headers["x-snackbase-position"]
    replayed = {"collection": posts, "since": start}
    broken = {"collection": posts, "since": "not-a-position", "id": "broken"}
    named = {"collection": posts, "id": "named", "filter": "state = 'on'", "snapshot": True}
    wanted: list[dict[str, Any]] = [replayed, named, {"collection": notes}, broken]
    followers: list[Messages]
    if transport == "sse":
        followers = [await house.stream(me, *(("subscription", json.dumps(one)) for one in wanted))]
    else:
        first, socket = await house.socket(me), await house.socket(me)
        followers = [first, socket]
        for one in wanted:
            await first.send({"action": "subscribe", **one})
        await socket.ask("ping")
        await socket.ask("auth", token=me.token)
        await socket.ask("subscribe", collection=posts, filter="nothing = 1")
        await socket.ask("unsubscribe", collection=posts)
    await followers[0].until(lambda message: message["type"] == "resync")
    made = await me.create(posts, title="second", state="on")
    await me.update(posts, made["id"], state="off")
    await me.create_all(posts, {"title": "a", "state": "on"}, {"title": "b", "state": "on"})
    await followers[0].until(lambda message: message.get("tx_size") == 2 and "position" in message)
    await root.request("PUT", f"/collections/{notes}/rules", json=LOCKED)
    await followers[0].until(lambda message: message["type"] == "unsubscribed")
    await followers[0].beat()
    await house.server.stop()
    for follower in followers:
        await follower.rest()
    return [message for follower in followers for message in follower.all]


async def test_the_page_shows_routes_and_messages_and_nothing_foreign(house: House, browser: object) -> None:
    me = await house.founder()
    posts = await house.collection("title")
    answer = await house.client.get("/docs")
    assert "default-src 'none'" in answer.headers["content-security-policy"]

    async with open_page(f"{house.server.base_url}/docs") as page:
        shown = await page.evaluate(
            """
            const until = async (ready) => { while (!ready()) await new Promise((go) => setTimeout(go, 20)); };
            const boxes = () => [...document.querySelectorAll("details")];
            await until(() => boxes().length > 40);
            const stranger = boxes().length;
            document.getElementById("token").value = TOKEN;
            document.getElementById("ask").requestSubmit();
            await until(() => boxes().length > stranger);
            const box = boxes().find((one) => one.dataset.words.includes(`post /api/v1/records/${NAME} `));
            box.open = true;
            await until(() => box.querySelector(".body"));
            const message = boxes().find((one) => one.dataset.words.startsWith("message heartbeat "));
            message.open = true;
            await until(() => message.querySelector(".body"));
            return [box.textContent, message.textContent, document.getElementById("state").textContent];
            """.replace("TOKEN", repr(me.token)).replace("NAME", repr(posts))
        )
        assert page.errors == []

    record, heartbeat, state = shown
    assert '"title"' in record
    assert "409" in record
    assert '"const": "heartbeat"' in heartbeat
    assert state == ""
