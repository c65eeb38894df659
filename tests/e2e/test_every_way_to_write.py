"""A hook's write, a cascade, an import and a superadmin's write each reach the right account's subscribers, once.

Ann listens over both transports and has to hear the same bytes; Bob, in another account, must not get one byte of it.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import MakeHouse
from tests.e2e.support import TRANSPORTS, House, Member, Messages, fresh
from tests.e2e.test_transfer import run

APPLICATION = """
from snackbase import SnackBase

app = SnackBase()


@app.hook.on_record_after_create(collection="orders")
async def ship(record, context):
    await app.records.create("parcels", {"title": "for " + record["title"]}, account=context.account_id)
"""
Deed = Callable[[House, Member, str, Path], Awaitable[list[tuple[str, str]]]]
"""Writes with the given word in every title; returns (collection.operation, title) of what has to be heard."""


async def a_hook(house: House, ann: Member, word: str, folder: Path) -> list[tuple[str, str]]:
    await ann.create("orders", title=word)
    return [("orders.create", word), ("parcels.create", f"for {word}")]


async def a_cascade(house: House, ann: Member, word: str, folder: Path) -> list[tuple[str, str]]:
    shelf = await ann.create("shelves", title=word)
    books = [{"title": f"{word} {number}", "shelf": shelf["id"]} for number in range(3)]
    await ann.create_all("books", *books)
    await ann.delete("shelves", shelf["id"])
    made = [("shelves.create", word), *(("books.create", one["title"]) for one in books)]
    return [*made, ("shelves.delete", word), *(("books.delete", one["title"]) for one in books)]


async def an_import_over_rest(house: House, ann: Member, word: str, folder: Path) -> list[tuple[str, str]]:
    titles = [f"{word} {number}" for number in range(150)]
    lines = "".join(json.dumps({"title": title}) + "\n" for title in titles)
    where = {"X-Account-ID": ann.account["slug"], "Content-Type": "application/x-ndjson"}
    root = await house.superadmin()
    await root.request("POST", "/records/parcels/import", headers=where, content=lines.encode())
    return [("parcels.create", title) for title in titles]


async def an_import_by_command(house: House, ann: Member, word: str, folder: Path) -> list[tuple[str, str]]:
    titles = [f"{word} {number}" for number in range(150)]
    file = folder / "parcels.jsonl"
    file.write_text("".join(json.dumps({"title": title}) + "\n" for title in titles))
    arguments = ("records", "import", "parcels", str(file), "--account", ann.account["slug"])
    done = await asyncio.to_thread(run, house.server, *arguments)
    assert done.returncode == 0, done.stderr
    return [("parcels.create", title) for title in titles]


async def a_superadmin(house: House, ann: Member, word: str, folder: Path) -> list[tuple[str, str]]:
    root, there = await house.superadmin(), {"X-Account-ID": ann.account["slug"]}
    made = await root.request("POST", "/records/parcels", headers=there, json={"title": word})
    path = f"/records/parcels/{made.json()['id']}"
    await root.request("PATCH", path, headers=there, json={"title": f"{word}!"})
    await root.request("DELETE", path, headers=there)
    return [("parcels.create", word), ("parcels.update", f"{word}!"), ("parcels.delete", f"{word}!")]


@pytest.mark.parametrize("deed", [a_hook, a_cascade, an_import_over_rest, an_import_by_command, a_superadmin])
async def test_it_reaches_the_subscribers_of_the_right_account_once(
    make_house: MakeHouse, tmp_path: Path, deed: Deed
) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "main.py").write_text(APPLICATION)
    house = await make_house(folder=folder, arguments=("serve", "main:app"))
    names = ("orders", "parcels", "shelves", "books")
    for name in names[:3]:
        await house.collection("title", name=name)
    shelf = {"name": "shelf", "type": "reference", "collection": "shelves", "on_delete": "cascade"}
    await house.collection("title", shelf, name="books")
    ann, bob = await house.founder("ann"), await house.founder("bob")
    at_ann = [await house.follow(transport, ann, *names) for transport in TRANSPORTS]
    at_bob = [await house.follow(transport, bob, *names) for transport in TRANSPORTS]
    # A superadmin who watches the system account is in another account, too.
    at_bob += [await house.follow(transport, await house.superadmin(), *names) for transport in TRANSPORTS]

    word = fresh("secret")
    wanted = await deed(house, ann, word, tmp_path)
    for listener in at_ann:
        # A hook after the commit may write after the answer.
        while len(events_of(listener)) < len(wanted):
            await listener.next()
    await ann.create("shelves", title="the last")
    await bob.create("shelves", title="the last")
    await (await house.superadmin()).create("shelves", title="the last")

    for listener in (*at_ann, *at_bob):
        await listener.until(lambda message: message.get("data", {}).get("title") == "the last")
    heard = [(one["type"], one["data"]["title"]) for one in at_ann[0].all if "." in one["type"]]
    # Within one transaction, the order is the writer's own.
    assert sorted(heard[:-1]) == sorted(wanted)
    assert events_of(at_ann[0]) == events_of(at_ann[1])
    assert len(set(events_of(at_ann[0]))) == len(wanted) + 1
    for listener in at_bob:
        assert len(events_of(listener)) == 1
        for trace in (word, ann.account_id, ann.id):
            assert trace.encode() not in listener.raw


def events_of(listener: Messages) -> list[bytes]:
    """Every event as it came, to the byte."""
    if listener.transport == "sse":
        found = [
            line.removeprefix(b"data: ") for line in bytes(listener.raw).split(b"\n") if line.startswith(b"data: ")
        ]
    else:
        text, at, found = bytes(listener.raw).decode(), 0, []
        while at < len(text):
            _, end = json.JSONDecoder().raw_decode(text, at)
            found.append(text[at:end].encode())
            at = end
    return [one for one in found if is_event(json.loads(one))]


def is_event(message: dict[str, Any]) -> bool:
    return "." in message["type"]
