"""The examples work as their words say: the live list comes through restarts, the page shows it, the demo ends well."""

import asyncio
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.conftest import MakeServer
from tests.docs import pages, running
from tests.docs.pages import ROOT
from tests.docs.running import EMAIL, PASSWORD, World
from tests.support.browser import open_page
from tests.support.node import NodeProcess

QUICKSTART = ROOT / "examples" / "quickstart"
PRINT_LIST = """
const list = new LiveList(server, "posts", new Tokens(server, login), (posts) =>
  console.log(JSON.stringify(posts.map((post) => post.title).sort())),
);
list.open();
"""


@pytest.mark.docs
def test_the_class_in_best_practices_is_the_one_of_the_example() -> None:
    parts = [one.code for one in pages.page("docs/howto/best-practices.md").snippets if one.wishes.get("as") == "part"]
    file = (QUICKSTART / "livelist.js").read_text()

    assert "\n".join(parts).split() == file.replace("export class", "class").split()


async def test_the_live_list_is_the_servers_list_after_a_restart_and_a_change_of_rights(
    make_server: MakeServer, node: ModuleType
) -> None:
    async with running.world(make_server) as made:
        await made.prepare()
        await _post(made, "before")
        login = 'const login = { token: "paste the token here", refresh_token: "paste the refresh token here" };\n'
        server = 'const server = "http://127.0.0.1:8000/api/v1";\n'
        code = (QUICKSTART / "livelist.js").read_text() + server + login + PRINT_LIST
        async with node.start_node(running.NODE_GLOBALS + made.filled(code)) as process:
            await _shown(process, ["before"])
            second = await _post(made, "second")
            await _shown(process, ["before", "second"])

            await made.server.stop()
            await made.server.start()
            (await made.ada.delete(f"/records/posts/{second}")).raise_for_status()
            await _post(made, "third")
            await _shown(process, ["before", "third"])

            rules = {"list_rule": "title != 'before'"}
            (await made.admin.put("/collections/posts/rules", json=rules)).raise_for_status()
            await _shown(process, ["third"])


async def test_the_page_logs_in_from_another_port_and_shows_what_two_people_write(
    make_server: MakeServer, browser: ModuleType
) -> None:
    async with running.world(make_server) as made, running.front_end(QUICKSTART) as url, open_page(url) as page:
        await made.prepare()
        await _post(made, "from the terminal")
        await page.evaluate(
            f"""
            const form = document.getElementById("login");
            form.server.value = "{made.server.base_url}";
            form.account.value = "ada";
            form.email.value = "{EMAIL}";
            form.password.value = "{PASSWORD}";
            form.requestSubmit();
            """
        )
        await running.shows(page, "from the terminal")
        await page.evaluate(
            'const form = document.getElementById("write"); form.title.value = "by hand"; form.requestSubmit();'
        )
        await running.shows(page, "by hand")
        await page.evaluate('document.querySelector("#posts button").click()')
        await running.shows(page, "1 posts, live")
        assert not page.errors


async def test_the_demo_shows_the_servers_own_list_and_leaves_nothing_behind(tmp_path: Path) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SNACKBASE_")}
    environment = {**clean, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "TMPDIR": str(tmp_path)}
    demo = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "examples.demo", "--seconds", "3"),
        cwd=ROOT,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(60):
            printed, _ = await demo.communicate()
    finally:
        if demo.returncode is None:
            demo.kill()
            await demo.wait()

    assert demo.returncode == 0, printed.decode()
    assert "tasks.create" in printed.decode()
    assert "the same as the one on the screen" in " ".join(printed.decode().split())
    assert _left_in(tmp_path) == []


def _left_in(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir()]


async def _post(made: World, title: str) -> str:
    answer = (await made.ada.post("/records/posts", json={"title": title})).raise_for_status()
    return str(answer.json()["id"])


async def _shown(process: NodeProcess, wanted: list[str]) -> None:
    """Read what the list shows until it is the wanted one."""
    seen: list[object] = []
    async with asyncio.timeout(running.LONGEST_S):
        while not seen or seen[-1] != wanted:
            seen.append(await process.next_message(timeout_s=running.LONGEST_S))
