"""What a client that comes back is told when the data it knew was moved, restored, replaced or copied (I8)."""

import asyncio
import copy
import shutil
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from tests.e2e.support import House, Member, Messages, place
from tests.support.server import ROOT, ServerProcess

MakeHouse = Callable[..., Awaitable[House]]


async def left_at(house: House, member: Member, collection: str) -> str:
    """Write one record and give the position a client holds after it."""
    socket = await house.socket(member)
    await socket.subscribe(collection)
    await member.create(collection, title="seen")
    position = (await socket.next())["position"]
    await socket.connection.close()
    return str(position)


async def coming_back(house: House, member: Member, collection: str, since: str) -> list[dict[str, Any]]:
    """What a client is told over WebSocket, up to where it is live; over SSE it has to be the same."""
    told = []
    for transport in ("websocket", "sse"):
        following: Messages = await house.follow(transport, member, {"collection": collection, "since": since})
        told.append(await following.until(lambda message: message["type"] in ("caught_up", "resync")))
    facts = [[(m["type"], m.get("reason"), m.get("data", {}).get("title")) for m in messages] for messages in told]
    assert facts[0] == facts[1]
    return told[0]


def kinds(messages: list[dict[str, Any]]) -> list[str]:
    return [message.get("reason", message["type"].rpartition(".")[2]) for message in messages]


def back_up(server: ServerProcess, target: Path) -> None:
    variables = {"PYTHONPATH": str(ROOT / "src"), "SNACKBASE_DATABASE_URL": f"sqlite:///{server.folder}/snackbase.db"}
    subprocess.run([sys.executable, "-m", "snackbase", "backup", str(target)], env=variables, check=True)


async def test_a_moved_folder_is_no_reason_to_fetch_anything_again(make_house: MakeHouse, tmp_path: Path) -> None:
    house = await make_house()
    member, posts = await house.founder(), await house.collection("title")
    position = await left_at(house, member, posts)
    await member.create(posts, title="missed")
    await house.server.stop()
    house.server.folder.rename(tmp_path / "elsewhere")

    moved = await make_house(folder=tmp_path / "elsewhere")
    member.house = moved

    told = await coming_back(moved, member, posts, position)
    assert kinds(told) == ["create", "caught_up"]
    assert told[0]["data"]["title"] == "missed"


async def test_a_restored_backup_is_told_once(make_house: MakeHouse, tmp_path: Path) -> None:
    house = await make_house()
    member, posts = await house.founder(), await house.collection("title")
    await member.create(posts, title="first")
    back_up(house.server, tmp_path / "backup.db")
    position = await left_at(house, member, posts)
    await house.server.stop()
    shutil.copy(tmp_path / "backup.db", house.server.folder / "snackbase.db")
    await house.server.start()

    (told,) = await coming_back(house, member, posts, position)

    assert (told["type"], told["reason"]) == ("resync", "epoch")
    await member.create(posts, title="after")
    assert kinds(await coming_back(house, member, posts, told["position"])) == ["create", "caught_up"]


async def test_an_older_file_put_back_by_hand_is_told_too(make_house: MakeHouse, tmp_path: Path) -> None:
    house = await make_house()
    member, posts = await house.founder(), await house.collection("title")
    await house.server.stop()
    shutil.copy(house.server.folder / "snackbase.db", tmp_path / "copy.db")
    await house.server.start()
    position = await left_at(house, member, posts)
    await house.server.stop()
    shutil.copy(tmp_path / "copy.db", house.server.folder / "snackbase.db")
    await house.server.start()

    assert kinds(await coming_back(house, member, posts, position)) == ["epoch"]


async def test_a_data_file_deleted_and_made_anew_is_told(make_house: MakeHouse) -> None:
    house = await make_house()
    root = await house.login("system", ServerProcess.SUPERADMIN_EMAIL, ServerProcess.SUPERADMIN_PASSWORD)
    definition = {"name": "things", "schema": [{"name": "title", "type": "text"}]}
    await root.request("POST", "/collections", json=definition, status=201)
    position = await left_at(house, root, "things")
    await house.server.kill()
    for file in house.server.folder.glob("snackbase.db*"):
        if file.suffix != ".epoch":
            file.unlink()
    await house.server.start()
    root = await house.login("system", ServerProcess.SUPERADMIN_EMAIL, ServerProcess.SUPERADMIN_PASSWORD)
    await root.request("POST", "/collections", json=definition, status=201)
    await root.create("things", title="another one")

    assert kinds(await coming_back(house, root, "things", position)) == ["epoch"]


async def test_a_copy_that_went_its_own_way_does_not_honour_the_others_positions(
    make_house: MakeHouse, tmp_path: Path
) -> None:
    house = await make_house()
    member, posts = await house.founder(), await house.collection("title")
    common = await left_at(house, member, posts)
    await house.server.stop()
    shutil.copytree(house.server.folder, tmp_path / "copy")
    await house.server.start()
    here = await left_at(house, member, posts)
    other = await make_house(folder=tmp_path / "copy")
    there = copy.copy(member)
    there.house = other
    for title in ("one", "two", "three"):
        await there.create(posts, title=title)

    assert kinds(await coming_back(other, there, posts, here)) == ["unknown"]
    assert kinds(await coming_back(other, there, posts, common)) == ["create"] * 3 + ["caught_up"]


async def test_a_killed_server_goes_on_where_it_was(make_house: MakeHouse) -> None:
    house = await make_house()
    member, posts = await house.founder(), await house.collection("title")
    position = await left_at(house, member, posts)
    await member.create(posts, title="missed")
    await house.server.kill()
    await house.server.start()

    assert kinds(await coming_back(house, member, posts, position)) == ["create", "caught_up"]


async def test_a_client_away_for_longer_than_the_log_reaches_is_told_and_one_within_it_is_not(
    make_house: MakeHouse,
) -> None:
    house = await make_house(
        RETENTION_CHANGES=20, RETENTION_KEEP=5, RETENTION_SWEEP_SECONDS=0.05, REALTIME_HEARTBEAT_SECONDS=0.2
    )
    member = await house.founder()
    posts, others = await house.collection("title"), await house.collection("title")
    quiet = await house.socket(member, max_queue=None)
    await quiet.subscribe(posts)
    old = await left_at(house, member, posts)

    for number in range(60):
        await member.create(others, title=f"{number}")
        if number == 50:
            recent = await left_at(house, member, others)
    head = place(await left_at(house, member, others))
    async with asyncio.timeout(20):
        while kinds(await coming_back(house, member, posts, old)) != ["expired"]:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.05)

    assert kinds(await coming_back(house, member, others, recent)) == ["create"] * 10 + ["caught_up"]
    # Who was there all the time, and heard nothing of its own, was moved along by heartbeats.
    while place((await quiet.beat())["position"]) < head:
        pass
    assert kinds(await coming_back(house, member, posts, quiet.all[-1]["position"])) == ["caught_up"]
