"""Export and import beside a running server: by command on its data folder and over REST; subscribers hear it once."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import MakeHouse
from tests.e2e.support import House, fresh
from tests.support.server import ROOT, ServerProcess

LINES = 1500


def run(server: ServerProcess, *arguments: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
    """`snackbase` in the server's folder."""
    return subprocess.run(
        [sys.executable, "-m", "snackbase", *arguments],
        cwd=server.folder,
        env=environment(server),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
    )


def environment(server: ServerProcess) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SNACKBASE_")}
    return {**clean, "PYTHONPATH": str(ROOT / "src"), "SNACKBASE_DATABASE_URL": server.database_url}


def titles(path: Path) -> list[str]:
    return [json.loads(line)["title"] for line in path.read_text().splitlines()]


async def test_an_import_by_command_reaches_the_servers_subscribers_once_and_can_be_exported(
    make_house: MakeHouse,
) -> None:
    house = await make_house()
    ann, bob = await house.founder("ann"), await house.founder("bob")
    name = await house.collection("title")
    file, out = house.server.folder / "in.jsonl", house.server.folder / "out.jsonl"
    file.write_text("".join(json.dumps({"title": str(number)}) + "\n" for number in range(LINES)))
    heard, others = await house.follow("websocket", ann, name), await house.follow("sse", bob, name)
    slug = ann.account["slug"]

    done = await asyncio.to_thread(run, house.server, "records", "import", name, str(file), "--account", slug)
    events = await heard.take(LINES)
    again = await asyncio.to_thread(
        run, house.server, "records", "import", name, str(file), "--account", slug, "--resume"
    )
    exported = await asyncio.to_thread(
        run, house.server, "records", "export", name, "--account", slug, "--output", str(out)
    )

    assert (done.returncode, done.stdout) == (0, f"{LINES} created, 0 updated, 0 skipped\n")
    assert [event["data"]["title"] for event in events] == [str(number) for number in range(LINES)]
    assert {event["type"] for event in events} == {f"{name}.create"}
    assert (again.returncode, again.stdout) == (0, f"0 created, 0 updated, {LINES} skipped\n")
    assert (exported.returncode, exported.stderr) == (0, f"{LINES} records\n")
    assert titles(out) == [str(number) for number in range(LINES)]
    await ann.create(name, title="after")
    assert (await heard.next())["data"]["title"] == "after"
    await bob.create(name, title="bob's")
    assert (await others.next())["data"]["title"] == "bob's"


async def test_an_import_that_was_killed_goes_on_with_resume(make_house: MakeHouse) -> None:
    house = await make_house()
    ann = await house.founder("ann")
    name = await house.collection("title")
    file = house.server.folder / "in.jsonl"
    file.write_text("".join(json.dumps({"title": str(number)}) + "\n" for number in range(LINES * 3)))
    heard = await house.follow("websocket", ann, name)
    command = ("records", "import", name, str(file), "--account", ann.account["slug"])
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "snackbase", *command, cwd=house.server.folder, env=environment(house.server)
    )
    while not (await ann.request("GET", f"/records/{name}?limit=1")).json()["total"]:
        assert process.returncode is None
    process.kill()
    await process.wait()

    done = await asyncio.to_thread(run, house.server, *command, "--resume")

    assert done.returncode == 0, done.stderr
    assert " 0 skipped" not in done.stdout
    events = await heard.take(LINES * 3)
    assert [event["data"]["title"] for event in events] == [str(number) for number in range(LINES * 3)]
    assert (await ann.request("GET", f"/records/{name}")).json()["total"] == LINES * 3


async def test_a_bad_line_ends_the_command_with_its_number(make_house: MakeHouse) -> None:
    house = await make_house()
    ann = await house.founder("ann")
    name = await house.collection("title")
    arguments = ("records", "import", name, "-", "--account", ann.account["slug"])
    text = '{"title": "a"}\n{"titel": "b"}\n{"title": "c"}\n'
    stopped = await asyncio.to_thread(run, house.server, *arguments, stdin=text)
    going_on = await asyncio.to_thread(run, house.server, *arguments, "--resume", "--keep-going", stdin=text)
    nobody = await asyncio.to_thread(run, house.server, "records", "export", name, "--account", "nobody")
    nothing = await asyncio.to_thread(run, house.server, "records", "export", "nothing", "--account", "system")

    assert (stopped.returncode, stopped.stdout) == (1, "1 created, 0 updated, 0 skipped\n")
    assert "line 2: validation_failed" in stopped.stderr
    assert "Did you mean 'title'" in stopped.stderr
    assert (going_on.returncode, going_on.stdout) == (1, "1 created, 0 updated, 1 skipped\n")
    assert (nobody.returncode, nobody.stderr) == (1, "snackbase: There is no account 'nobody'.\n")
    assert (nothing.returncode, nothing.stderr) == (1, "snackbase: There is no collection 'nothing'.\n")


async def test_collections_go_from_one_folder_to_another_by_command(make_house: MakeHouse, tmp_path: Path) -> None:
    house = await make_house()
    name = fresh("posts")
    await house.collection("title", name=name, list_rule="title != ''")
    file = tmp_path / "collections.json"
    exported = await asyncio.to_thread(run, house.server, "collections", "export", "--output", str(file))
    skipped = await asyncio.to_thread(run, house.server, "collections", "import", str(file), "--strategy", "skip")
    refused = await asyncio.to_thread(run, house.server, "collections", "import", str(file))
    other = ServerProcess(tmp_path / "other")
    other.folder.mkdir()
    made = await asyncio.to_thread(run, other, "collections", "import", str(file))
    again = await asyncio.to_thread(run, other, "collections", "export", name)
    wrong = await asyncio.to_thread(run, other, "collections", "import", "-", stdin="{}")

    assert (exported.returncode, exported.stderr) == (0, "1 collections\n")
    assert f"skipped   {name}" in skipped.stdout
    assert (refused.returncode, "exist already" in refused.stderr) == (1, True)
    assert (made.returncode, f"imported  {name}" in made.stdout) == (0, True)
    assert json.loads(again.stdout)["collections"] == json.loads(file.read_text())["collections"]
    assert (wrong.returncode, "not an exported document" in wrong.stderr) == (1, True)


# REST ----------------------------------------------------------------------------------------------------------------


async def test_records_go_out_and_come_in_over_rest(house: House) -> None:
    ann, bob, root = await house.founder("ann"), await house.founder("bob"), await house.superadmin()
    name = await house.collection("title")
    await ann.create_all(name, *({"title": str(number)} for number in range(100)))
    await ann.create_all(name, *({"title": str(number)} for number in range(100, 150)))
    headers = {"X-Account-ID": ann.account["slug"]}
    answer = await root.request("GET", f"/records/{name}/export", headers=headers)
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert "x-snackbase-position" in answer.headers
    lines = answer.text.splitlines()
    assert [json.loads(line)["title"] for line in lines] == [str(number) for number in range(150)]
    heard = await house.follow("websocket", bob, name)
    fresh_lines = [json.dumps({**json.loads(line), "id": None}) for line in lines]

    async def send(**query: Any) -> dict[str, Any]:
        where = {"X-Account-ID": bob.account["slug"]}
        body = "\n".join(fresh_lines)
        return dict(
            (await root.request("POST", f"/records/{name}/import", headers=where, content=body, params=query)).json()
        )

    report = await send()
    assert report == {
        "success": True,
        "lines": 150,
        "created": 150,
        "updated": 0,
        "skipped": 0,
        "stopped": False,
        "errors": [],
    }
    events = await heard.take(150)
    assert [event["data"]["title"] for event in events] == [str(number) for number in range(150)]
    assert (await send(strategy="skip"))["skipped"] == 150
    refused = await send()
    assert (refused["success"], refused["errors"][0]["code"], refused["errors"][0]["line"]) == (False, "id_taken", 1)


async def test_only_superadmins_transfer_records(house: House) -> None:
    ann, root = await house.founder("ann"), await house.superadmin()
    name = await house.collection("title")
    for method, path in (("GET", "export"), ("POST", "import")):
        refused = await ann.request(method, f"/records/{name}/{path}", status=403)
        assert refused.json()["code"] == "forbidden"
        missing = await root.request(method, f"/records/nothing/{path}", status=404, content=b"{}")
        assert missing.json()["code"] == "collection_not_found"
    wrong = await root.request("POST", f"/records/{name}/import", params={"strategy": "merge"}, status=400)
    assert wrong.json()["code"] == "invalid_strategy"


@pytest.mark.parametrize("content", [b"", b"\n\n"])
async def test_an_import_of_nothing_is_done_at_once(house: House, content: bytes) -> None:
    root = await house.superadmin()
    name = await house.collection("title")
    answer = await root.request("POST", f"/records/{name}/import", content=content)
    assert answer.json()["success"] is True
