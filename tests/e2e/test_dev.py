"""`snackbase serve --dev`: a change of the developer's code is served at once, and listeners lose nothing."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest

from tests.conftest import MakeServer
from tests.e2e.support import House, Member
from tests.support.files import write_whole
from tests.support.server import ServerProcess

CODE = """
from snackbase import SnackBase
import words

app = SnackBase()

@app.hook.on_record_before_create(collection="posts")
def stamp(data):
    data["note"] = words.NOTE

@app.route("/breaks", auth="none")
def breaks(request):
    raise LookupError("nothing in the drawer")
"""
WAITING = "waiting for a change"


class Desk:
    """A developer's folder with a server that follows it."""

    def __init__(self, server: ServerProcess) -> None:
        self.server = server
        self.folder = server.folder

    def write(self, name: str, text: str) -> None:
        write_whole(self.folder / name, text)

    async def says(self, text: str, *, times: int = 1) -> None:
        await until(lambda: self.server.output.count(text) >= times)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110  # another process
            await asyncio.sleep(0.05)


@pytest.fixture
async def desk(make_server: MakeServer, tmp_path: Path) -> AsyncIterator[Desk]:
    folder = tmp_path / "desk"
    folder.mkdir()
    (folder / "main.py").write_text(CODE)
    (folder / "words.py").write_text("NOTE = 'one'")
    arguments = ("serve", "main:app", "--dev")
    yield Desk(await make_server(folder=folder, arguments=arguments, settings={"HOOK_TIMEOUT_SECONDS": 9}))


async def noted(member: Member, wanted: str) -> int:
    """Create posts until one has the note; how many it took. None of them may fail."""
    async with asyncio.timeout(60):
        count = 1
        while (await member.create("posts", title=str(count)))["note"] != wanted:
            count += 1
            await asyncio.sleep(0.05)
    return count


async def test_a_change_of_a_hook_is_served_and_whoever_listens_goes_on(desk: Desk) -> None:
    async with House(desk.server) as house:
        member, _ = await house.founder(), await house.collection("title", "note", name="posts")
        clients = [await house.follow(transport, member, "posts") for transport in ("websocket", "sse")]
        assert await noted(member, "one") == 1
        # As long as before and within the same second: no compiled file may be taken for fresh.
        desk.write("words.py", "NOTE = 'two'")
        made = 1 + await noted(member, "two")

        titles = []
        for client in clients:
            told = await client.rest()
            assert (told[-1]["type"], told[-1]["code"]) == ("closing", "restarting")
            events = [message for message in told if message["type"] == "posts.create"]
            again = await house.follow("websocket", member, {"collection": "posts", "since": events[-1]["position"]})
            events += (await again.until(lambda message: message["type"] == "caught_up"))[:-1]
            titles.append(len({event["data"]["id"] for event in events}))
            assert len(events) == titles[-1]
        assert titles == [made, made]
    assert "words.py changed" in desk.server.output


async def test_a_syntax_error_is_shown_and_the_server_from_before_goes_on(desk: Desk) -> None:
    async with House(desk.server) as house:
        member, _ = await house.founder(), await house.collection("title", "note", name="posts")
        desk.write("words.py", "NOTE = = 'two'")
        await desk.says("the old server keeps serving; waiting for a change")
        assert "SyntaxError: invalid syntax" in desk.server.output
        assert 'words.py", line 1' in desk.server.output
        assert (await member.create("posts", title="a"))["note"] == "one"

        desk.write("words.py", "NOTE = 'three'")
        await noted(member, "three")


async def test_a_change_of_the_environment_file_counts(desk: Desk) -> None:
    desk.write(".env", "SNACKBASE_REALTIME_ENABLED=flase\n")
    await desk.says("SNACKBASE_REALTIME_ENABLED")
    await desk.says(WAITING)
    desk.write(".env", "SNACKBASE_REALTIME_ENABLED=false\n")
    async with httpx.AsyncClient(base_url=desk.server.base_url) as client, asyncio.timeout(60):
        while (await client.get("/api/v1/realtime/subscribe")).status_code != 404:  # noqa: ASYNC110  # another process
            await asyncio.sleep(0.05)


async def test_whoever_is_refused_is_told_why_and_a_fault_is_named(desk: Desk) -> None:
    async with House(desk.server) as house:
        member = await house.founder()
        await house.collection("title", "note", name="posts", update_rule="title = 'open'")
        post = await member.create("posts", title="shut")
        refused = await member.request("PATCH", f"/records/posts/{post['id']}", json={"title": "x"}, status=403)
        broken = (await house.client.get("/breaks")).json()
        page = {"origin": "http://localhost:5173", "access-control-request-method": "POST"}
        preflight = await house.client.options("/api/v1/records/posts", headers=page)

    assert "The update rule of posts does not allow this. It says: title = 'open'" in refused.json()["message"]
    assert f"email='{member.email}'" in refused.json()["message"]
    assert broken["message"].startswith("LookupError: nothing in the drawer")
    assert "Traceback (most recent call last)" in desk.server.output
    assert preflight.headers["access-control-allow-origin"] == "http://localhost:5173"


async def test_pages_of_this_machine_may_call_wherever_it_listens(make_server: MakeServer) -> None:
    page = {"origin": "http://localhost:5173"}
    for arguments, allowed in ((("serve", "--host", "0.0.0.0"), None), (("serve", "--dev", "--host", "0.0.0.0"), page)):  # noqa: S104
        server = await make_server(arguments=arguments)
        async with httpx.AsyncClient(base_url=server.base_url) as client:
            answer = await client.get("/live", headers=page)
        assert answer.headers.get("access-control-allow-origin") == (allowed["origin"] if allowed else None)


async def test_without_dev_nobody_is_told(make_server: MakeServer, tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(CODE.replace("import words", "class words: NOTE = 1"))
    server = await make_server(folder=tmp_path, arguments=("serve", "main:app"))
    async with House(server) as house:
        broken = (await house.client.get("/breaks")).json()
    assert "LookupError" not in broken["message"]


async def test_what_does_not_start_at_first_starts_when_it_is_mended(make_server: MakeServer, tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text("app = 1")
    server = ServerProcess(tmp_path, arguments=("serve", "main:app", "--dev"))
    starting = asyncio.create_task(server.start())
    await until(lambda: "nothing is served; waiting for a change" in server.output)
    assert "is not a SnackBase()" in server.output
    (tmp_path / "main.py").write_text("from snackbase import SnackBase\napp = SnackBase()\n")
    await starting
    assert await server.stop() == 0


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
async def test_the_server_ends_when_its_supervisor_does(desk: Desk, sign: signal.Signals) -> None:
    os.kill(desk.server.pid, sign)
    await until(lambda: desk.server.returncode is not None)

    assert desk.server.returncode == (-sign if sign == signal.SIGKILL else 0)
    async with httpx.AsyncClient(base_url=desk.server.base_url) as client, asyncio.timeout(60):
        with pytest.raises(httpx.TransportError):
            while True:
                await client.get("/live")
                await asyncio.sleep(0.02)
