"""Every snippet of the README and the documentation does what the page says, against a real server."""

from pathlib import Path
from types import ModuleType

import pytest

from tests.conftest import MakeServer
from tests.docs import pages, running
from tests.docs.pages import Page, Snippet

FROM_NOTHING = {"README.md", "docs/start/quickstart.md", "examples/chat/README.md"}
"""Pages whose bash session makes its own collections and accounts."""
SETTINGS = {"examples/chat/README.md": {"SINGLE_TENANT_ACCOUNT": "chat"}}
"""What a page says that its server is started with."""


def _runnable(page: Page, language: str) -> list[Snippet]:
    return [one for one in page.snippets if one.language == language and "skip" not in one.wishes]


def _programs(page: Page) -> list[tuple[Snippet, str]]:
    """The JavaScript snippets, each with the parts before it that it goes on from."""
    programs, parts = [], ""
    for snippet in _runnable(page, "js"):
        if snippet.wishes.get("as") == "part":
            parts += snippet.code
            continue
        programs.append((snippet, parts + snippet.code))
        parts = ""
    assert not parts, f"{page.name}: a part that nothing goes on from"
    return programs


PAGES = pages.pages()
BASH = [page for page in PAGES if _runnable(page, "bash")]
JS = [(snippet, code) for page in PAGES for snippet, code in _programs(page)]
IN_NODE = [entry for entry in JS if entry[0].wishes.get("where", "node") in ("node", "both")]
IN_BROWSER = [entry for entry in JS if entry[0].wishes.get("where") in ("browser", "both")]
PYTHON = [one for page in PAGES for one in _runnable(page, "python")]
SCRIPTS = [one for one in PYTHON if one.wishes.get("as") != "app"]
APPS = [one for one in PYTHON if one.wishes.get("as") == "app"]


@pytest.mark.parametrize("page", BASH, ids=lambda page: page.name)
async def test_the_commands_of_a_page_work_when_pasted_in_order(page: Page, make_server: MakeServer) -> None:
    async with running.world(make_server, settings=SETTINGS.get(page.name, {})) as made:
        if page.name not in FROM_NOTHING:
            await made.prepare()
        await running.run_bash(made, _runnable(page, "bash"))


@pytest.mark.parametrize(("snippet", "code"), IN_NODE, ids=lambda value: getattr(value, "where", ""))
async def test_a_javascript_snippet_works_in_node(
    snippet: Snippet, code: str, make_server: MakeServer, node: ModuleType
) -> None:
    async with running.world(make_server) as made:
        await made.prepare()
        await running.run_in_node(made, node, code, snippet.wishes["prints"])


@pytest.mark.parametrize(("snippet", "code"), IN_BROWSER, ids=lambda value: getattr(value, "where", ""))
async def test_a_javascript_snippet_works_in_a_page_of_another_origin(
    snippet: Snippet, code: str, make_server: MakeServer, browser: ModuleType, tmp_path: Path
) -> None:
    async with running.world(make_server) as made:
        await made.prepare()
        await running.run_in_browser(made, tmp_path, code, snippet.wishes["prints"])


@pytest.mark.parametrize("snippet", SCRIPTS, ids=lambda snippet: snippet.where)
async def test_a_python_client_works(snippet: Snippet, make_server: MakeServer) -> None:
    async with running.world(make_server) as made:
        await made.prepare()
        await running.run_script(made, snippet.code, snippet.wishes["prints"])


@pytest.mark.parametrize("snippet", APPS, ids=lambda snippet: snippet.where)
async def test_an_application_with_hooks_works(snippet: Snippet, make_server: MakeServer, tmp_path: Path) -> None:
    await running.run_app(make_server, tmp_path, snippet.code, snippet.wishes["prints"])
