"""Explain: an administrator learns why a change reached a client or did not, in the words of what stopped it."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.support import House, Member, remember
from tests.e2e.test_cli import Command


async def explained(admin: Member, status: int = 200, **asked: Any) -> dict[str, Any]:
    answer = await admin.request("POST", "/realtime/explain", json=asked, status=status)
    body: dict[str, Any] = answer.json()
    return body


def reasons(body: dict[str, Any]) -> list[tuple[str | None, bool, str]]:
    return [
        (one.get("id"), one["delivered"], one["reason"])
        for connection in body["connections"]
        for one in connection["subscriptions"]
    ]


async def test_each_subscription_says_what_stopped_a_change(house: House) -> None:
    admin = await house.founder()
    user = await house.member(admin)
    rule = "title != 'secret'"
    collection = await house.collection("title", list_rule=rule, view_rule="", create_rule="")
    other = await house.collection("title")
    socket = await house.socket(user)
    await socket.subscribe(collection, id="all")
    await socket.subscribe(collection, id="some", filter="title ~ 'a%'")
    await socket.subscribe(collection, id="deletes", operations=["delete"])
    seen = await admin.create(collection, title="abc")
    body = await explained(admin, record_id=seen["id"], user=user.id)
    assert reasons(body) == [("all", True, "delivered"), ("some", True, "delivered"), ("deletes", False, "operation")]
    assert (body["change"]["operation"], body["change"]["collection"]) == ("create", collection)
    assert body["summary"] == "delivered"
    filtered = await admin.create(collection, title="xyz")
    assert reasons(await explained(admin, record_id=filtered["id"], user=user.id))[1] == ("some", False, "filter")
    hidden = await admin.create(collection, title="secret")
    body = await explained(admin, record_id=hidden["id"], user=user.id)
    assert [reason for _, _, reason in reasons(body)] == ["rule"] * 3
    elsewhere = await admin.create(other, title="x")
    body = await explained(admin, record_id=elsewhere["id"], user=user.id)
    assert reasons(body) == [(None, False, "not_subscribed")]
    await socket.send({"action": "subscribe", "collection": collection, "id": "late"})
    await socket.until(lambda message: message["type"] == "subscribed")
    body = await explained(admin, record_id=seen["id"], user=user.id)
    assert reasons(body)[-1] == ("late", False, "subscribed_later")


async def test_a_client_that_is_away_is_told_with_how_it_left(house: House) -> None:
    admin = await house.founder()
    user = await house.member(admin)
    collection = await house.collection("title")
    socket = await house.socket(user)
    await socket.subscribe(collection)
    await user.request("POST", "/auth/logout", json={})
    assert (await socket.ended())[0] == 4502
    record = await admin.create(collection, title="missed")
    body = await explained(admin, record_id=record["id"], user=user.id)
    assert body["connections"] == []
    assert body["ended"][-1]["code"] == "token_revoked"
    assert body["summary"] == "not_connected: the last connection ended with token_revoked"


async def test_a_change_is_named_by_its_position_as_well(house: House) -> None:
    admin = await house.founder()
    collection = await house.collection("title")
    socket = await house.socket(admin)
    await socket.subscribe(collection)
    await admin.create(collection, title="x")
    event = await socket.next()
    body = await explained(admin, position=event["position"], user=admin.id)
    assert body["change"]["record_id"] == event["data"]["id"]
    assert reasons(body) == [(None, True, "delivered")]


async def test_a_user_may_be_named_by_email_and_a_record_with_its_collection(house: House) -> None:
    admin = await house.founder()
    collection, other = await house.collection("title"), await house.collection("title")
    socket = await house.socket(admin)
    await socket.subscribe(collection)
    made = await admin.create(collection, title="x")
    await socket.next()
    asked = {"record_id": made["id"], "user": admin.email}
    assert reasons(await explained(admin, collection=collection, **asked)) == [(None, True, "delivered")]
    assert (await explained(admin, 404, collection=other, **asked))["code"] == "change_not_found"
    assert (await explained(admin, record_id=made["id"], user="nobody@example.com"))["summary"] == "not_connected"


async def test_a_connection_that_ended_after_the_change_is_told_as_one_that_was_there(house: House) -> None:
    admin = await house.founder()
    user = await house.member(admin)
    collection = await house.collection("title")
    socket = await house.socket(user)
    await socket.subscribe(collection)
    made = await admin.create(collection, title="x")
    await socket.next()
    await user.request("POST", "/auth/logout", json={})
    await socket.ended()
    body = await explained(admin, record_id=made["id"], user=user.id)
    assert body["summary"] == "ended_since: the connection was there, and ended afterwards with token_revoked"


async def test_the_command_line_says_it_in_lines_or_as_the_server_does(house: House, tmp_path: Path) -> None:
    admin = await house.founder()
    user = await house.member(admin)
    collection = await house.collection("title", list_rule="title != 'secret'", view_rule="", create_rule="")
    socket = await house.socket(user)
    await socket.subscribe(collection)
    await socket.subscribe(collection, id="deletes", operations=["delete"])
    made = await admin.create(collection, title="abc")
    event = await socket.next()

    async def run(*words: str, token: str = admin.token) -> tuple[int, str, str]:
        arguments = ("explain", *words, "--url", house.server.base_url, "--token", "-")
        done = await asyncio.to_thread(Command(tmp_path), *arguments, stdin=f"{remember(token)}\n")
        return done.returncode, done.stdout, done.stderr

    code, text, _ = await run(made["id"], "--user", user.email, "--collection", collection)
    assert code == 0
    lines = text.splitlines()
    assert lines[0].endswith(f"create of {made['id']} in {collection}")
    assert lines[1].startswith("connection ") and "(websocket, 0 bytes unsent)" in lines[1]
    assert lines[2:] == [
        f"  yes  {collection}: delivered. It was delivered as create.",
        "  no   deletes: operation. It would be delivered as create, which the subscription did not ask for.",
        "delivered",
    ]
    code, text, _ = await run("--position", event["position"], "--user", user.id, "--json")
    assert (code, json.loads(text)["change"]["record_id"]) == (0, made["id"])
    code, _, problem = await run(made["id"], "--user", user.id, token=user.token)
    assert (code, problem) == (1, "snackbase: Only administrators may ask why somebody received something.\n")
    root = await house.superadmin()
    slug = admin.account["slug"]
    code, text, _ = await run(made["id"], "--user", user.id, "--account", slug, token=root.token)
    assert (code, text.splitlines()[-1]) == (0, "delivered")
    assert (await run(made["id"]))[0] == (await run("--user", user.id))[0] == 2


def test_a_server_that_does_not_answer_is_said_in_one_line(tmp_path: Path) -> None:
    done = Command(tmp_path)("explain", "r", "--user", "u", "--token", "t", "--url", "http://127.0.0.1:1")
    assert done.returncode == 1
    assert done.stderr.startswith("snackbase: http://127.0.0.1:1: ") and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("asked", "status", "code"),
    [
        ({"user": "x"}, 400, "invalid_message"),
        ({"position": "p", "record_id": "r", "user": "x"}, 400, "invalid_message"),
        ({"position": "nonsense", "user": "x"}, 400, "invalid_position"),
        ({"record_id": "nothere", "user": "x"}, 404, "change_not_found"),
        ({"record_id": "r"}, 400, "invalid_message"),
    ],
)
async def test_a_question_that_cannot_be_answered_says_why(
    house: House, asked: dict[str, str], status: int, code: str
) -> None:
    body = await explained(await house.founder(), status, **asked)
    assert body["code"] == code


async def test_only_administrators_may_ask_and_only_about_their_own_account(house: House) -> None:
    admin, stranger = await house.founder(), await house.founder()
    user = await house.member(admin)
    collection = await house.collection("title")
    record = await admin.create(collection, title="x")
    assert (await explained(user, 403, record_id=record["id"], user=user.id))["code"] == "forbidden"
    assert (await explained(stranger, 404, record_id=record["id"], user=user.id))["code"] == "change_not_found"
