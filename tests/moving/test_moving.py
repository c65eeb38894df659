"""A data folder moves to PostgreSQL and back: everything is there, and nobody goes on from an old position silently."""

import asyncio
import hashlib
from pathlib import Path
from typing import Any

from tests.conftest import MakeServer
from tests.e2e.support import API, House, remember
from tests.moving.support import LONG, People, folder_url, migrate, populate, settings, views


def digest(folder: Path) -> str:
    return hashlib.sha256((folder / "snackbase.db").read_bytes()).hexdigest()


async def positions_of(people: People) -> list[str]:
    """One from the middle of the log and the newest, of Ann."""
    ann = people.ann
    first = await ann.create("kinds", title="first", order="first")
    socket = await ann.house.socket(ann)
    middle = (await socket.subscribe("kinds"))["position"]
    await ann.update("kinds", first["id"], title="second")
    newest = (await socket.next())["position"]
    return [middle, newest]


async def test_everything_is_the_same_after_the_move_and_after_the_way_back(
    make_server: MakeServer, tmp_path: Path, postgres_url: str
) -> None:
    folder = tmp_path / "sb_data"
    old = await make_server(folder=folder, settings=settings(folder_url(folder)))
    async with House(old) as house:
        people = await populate(house)
        positions = await positions_of(people)
        write: dict[str, Any] = {"json": {"title": "once", "order": "once"}, "headers": {"Idempotency-Key": "the-key"}}
        once = await people.ann.request("POST", "/records/kinds", **write)
        before = await views(people)
    assert {status for status, _ in before.values()} <= {200, 403}
    assert [before[who, "/records/kinds?limit=100"][1]["total"] for who in ("ann", "bob", "eve")] == [24, 24, 1]

    in_use = await asyncio.to_thread(migrate, tmp_path, postgres_url)
    assert (in_use.returncode, "is in use: stop the server" in in_use.stderr) == (1, True)
    await old.stop()
    content = digest(folder)
    done = await asyncio.to_thread(migrate, tmp_path, postgres_url)
    assert done.returncode == 0, done.stderr
    assert "tables moved and compared" in done.stdout
    assert "compared   c_kinds  25 rows" in done.stderr
    assert digest(folder) == content
    again = await asyncio.to_thread(migrate, tmp_path, postgres_url)
    assert (again.returncode, "there is nothing left to do" in again.stderr) == (1, True)

    new = await make_server(settings=settings(postgres_url))
    async with House(new) as house:
        moved = people.at(house)
        assert await views(moved) == before
        repeated = await moved.ann.request("POST", "/records/kinds", **write)
        assert (repeated.status_code, repeated.content) == (once.status_code, once.content)
        await proofs_hold(moved)
        for position in positions:
            assert await told(moved, position) == ["resync"]
        fresh = await goes_on(moved)
        assert await told(moved, fresh) == ["kinds.update", "caught_up"]
        last = await views(moved)
    await new.stop()

    back = tmp_path / "back"
    done = await asyncio.to_thread(migrate, tmp_path, folder_url(back), "--from", postgres_url)
    assert done.returncode == 0, done.stderr
    third = await make_server(folder=back, settings=settings(folder_url(back)))
    async with House(third) as house:
        home = moved.at(house)
        assert await views(home) == last
        assert await told(home, fresh) == ["resync"]
        await goes_on(home)


async def proofs_hold(people: People) -> None:
    """Passwords, refresh tokens, API keys and invitations are as good as before; one that ended stays so."""
    ann = people.ann
    await ann.login_again()
    refreshed = await ann.house.client.post(f"{API}/auth/refresh", json={"refresh_token": ann.refresh_token})
    assert refreshed.status_code == 200
    assert (await ann.house.client.get(f"{API}/auth/me", headers={"x-api-key": people.key})).status_code == 200
    assert (await ann.house.client.get(f"{API}/invitations/{people.invitation}")).status_code == 200
    ann.token = remember(refreshed.json()["token"])
    ann.refresh_token = remember(refreshed.json()["refresh_token"])


async def told(people: People, position: str) -> list[str]:
    client = await people.ann.house.follow("websocket", people.ann, {"collection": "kinds", "since": position})
    messages = await client.until(lambda message: message["type"] in ("caught_up", "resync"))
    return [message["type"] for message in messages]


async def goes_on(people: People) -> str:
    """Writes, unique values, references and events work; gives the position before the last write."""
    ann = people.ann
    socket = await ann.house.socket(ann)
    await socket.subscribe("kinds")
    made = await ann.create("kinds", title="new", order=f"new{len(people.key)}{ann.house.server.port}")
    position = str((await socket.next())["position"])
    await ann.request("POST", "/records/kinds", json={"order": "A"}, status=409)
    await ann.create(LONG, name="refers", kind=made["id"])
    await ann.request("POST", f"/records/{LONG}", json={"kind": ann.id}, status=422)
    await ann.update("kinds", made["id"], count=1)
    assert (await socket.next())["type"] == "kinds.update"
    await ann.house.founder("another")
    return position
