"""Idempotency-Key over HTTP: answers that come again, also after the server was killed between commit and answer."""

import uuid
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.conftest import MakeHouse
from tests.e2e.support import House, Member

DYING = """
import os, signal
from snackbase import SnackBase

class Dying(SnackBase):
    async def __call__(self, scope, receive, send):
        async def dies(message):
            # The answer is ready, so the write is committed: the client will never see it.
            if message["type"] == "http.response.start" and (b"x-die", b"now") in scope["headers"]:
                os.kill(os.getpid(), signal.SIGKILL)
            await send(message)
        await super().__call__(scope, receive, dies)

app = Dying()
"""


def answered(answer: httpx.Response) -> tuple[int, bytes, str]:
    return answer.status_code, answer.content, answer.headers["x-snackbase-position"]


async def write(member: Member, method: str, path: str, key: str, **more: Any) -> httpx.Response:
    return await member.request(method, path, headers={"Idempotency-Key": key}, **more)


async def test_every_kind_of_write_is_done_once_and_answered_again(house: House) -> None:
    ann = await house.founder("ann")
    name = await house.collection("title", {"name": "views", "type": "number"})
    base = f"/records/{name}"
    made = (await write(ann, "POST", base, "0", json={"title": "a"})).json()
    one = f"{base}/{made['id']}"
    listening = await house.follow("websocket", ann, name)
    batch = await ann.create_all(name, {"title": "b"}, {"title": "c"})
    await listening.take(2)
    edits = {"records": [{"id": batch[0]["id"], "data": {"views": 1}}]}
    requests: list[tuple[str, str, dict[str, Any], int]] = [
        ("POST", base, {"json": {"title": "d"}}, 201),
        ("PATCH", one, {"json": {"views": 3}}, 200),
        ("PUT", one, {"json": {"title": "e"}}, 200),
        ("DELETE", one, {}, 204),
        ("POST", f"{base}/batch", {"json": {"records": [{"title": "f"}]}}, 201),
        ("PATCH", f"{base}/batch", {"json": edits}, 200),
        ("DELETE", f"{base}/batch", {"json": {"ids": [batch[1]["id"]]}}, 200),
    ]
    for number, (method, path, more, status) in enumerate(requests, start=1):
        first = await write(ann, method, path, f"key-{number}", **more)
        again = await write(ann, method, path, f"key-{number}", **more)
        assert first.status_code == status
        assert answered(first) == answered(again)
        assert "idempotency-replayed" not in first.headers
        assert again.headers["idempotency-replayed"] == "true"
        assert first.headers.get("content-type") == again.headers.get("content-type")
    await ann.create(name, title="last")
    heard = await listening.until(lambda message: message["data"].get("title") == "last")
    assert len(heard) == 8


async def test_another_body_under_the_key_is_422_and_a_bad_key_400(house: House) -> None:
    ann = await house.founder("ann")
    name = await house.collection("title")
    headers = {"Idempotency-Key": "k"}
    await ann.request("POST", f"/records/{name}", json={"title": "a"}, headers=headers, status=201)
    for path, body in ((f"/records/{name}", {"title": "b"}), (f"/records/{name}/batch", {"records": [{"title": "a"}]})):
        refused = await ann.request("POST", path, json=body, headers=headers, status=422)
        assert refused.json()["code"] == "idempotency_mismatch"
    refused = await ann.request(
        "POST", f"/records/{name}", json={"title": "a"}, headers={"Idempotency-Key": "a b"}, status=400
    )
    assert refused.json()["code"] == "invalid_idempotency_key"


async def test_two_users_may_choose_the_same_key(house: House) -> None:
    ann = await house.founder("ann")
    bob = await house.member(ann)
    name = await house.collection("title")
    ids = {
        (await write(who, "POST", f"/records/{name}", "same", json={"title": "a"})).json()["id"] for who in (ann, bob)
    }
    assert len(ids) == 2


async def test_a_crash_between_commit_and_answer_is_healed_by_sending_again(
    make_house: MakeHouse, tmp_path: Path
) -> None:
    folder = tmp_path / "dying"
    folder.mkdir()
    (folder / "main.py").write_text(DYING)
    house = await make_house(folder=folder, arguments=("serve", "main:app"))
    ann = await house.founder("ann")
    name = await house.collection({"name": "title", "type": "text"})
    key = {"Idempotency-Key": str(uuid.uuid4())}
    with pytest.raises(httpx.TransportError):
        await ann.request("POST", f"/records/{name}", json={"title": "a"}, headers={**key, "x-die": "now"})
    await house.server.restart()
    again = await ann.request("POST", f"/records/{name}", json={"title": "a"}, headers=key, status=201)
    assert again.headers["idempotency-replayed"] == "true"
    listing = (await ann.request("GET", f"/records/{name}")).json()
    assert listing["items"] == [again.json()]
    assert listing["position"] == again.headers["x-snackbase-position"]
