"""The reference pages list exactly what the code has: settings, errors, hooks, metrics, commands, links, layout."""

import ast
import json
import re
from pathlib import Path

import pytest

from snackbase.config import setting_names
from snackbase.errors import CLOSINGS
from snackbase.model import COLLECTION_NAME
from tests.docs import pages
from tests.docs.pages import ROOT, Page
from tests.docs.vocabulary import error_codes
from tools import docs

pytestmark = pytest.mark.docs

MOST_SKIPPED = 12
"""Snippets that do not run. A new one needs a better reason than the worst of these."""
ERRORS = "docs/reference/errors.md"
PAGES_FOR_BROWSERS = {"/", "/_", "/_/"}
NAMES = [page.name for page in pages.pages()]


@pytest.mark.parametrize("name", sorted(docs.PAGES))
def test_a_generated_table_is_what_the_code_says(name: str) -> None:
    path, text, wanted = docs.renewed(name)

    assert text == wanted, f"{path.relative_to(ROOT)} is out of date; run: python -m tools.docs"


def test_every_way_a_connection_ends_is_documented_with_its_code() -> None:
    rows = pages.page(ERRORS).rows(under="How the server ends a connection")

    assert {(row[0].strip("`"), int(row[1])) for row in rows} == {
        (closing.code, closing.close_code) for closing in CLOSINGS.values()
    }


def test_every_error_code_is_documented_and_no_other() -> None:
    text = pages.page(ERRORS).text
    listed = [word for line in text.splitlines() if line.startswith("| `") for word in _first_cell(line)]
    computed = set(re.findall(r"<!-- computed: (\w+) -->", text))

    assert error_codes() - set(listed) == set(), "not in errors.md"
    assert set(listed) - error_codes() - computed == set(), "in errors.md, but nothing gives them out"


def test_every_documented_error_has_a_sentence() -> None:
    for line in pages.page(ERRORS).text.splitlines():
        if line.startswith("| `"):
            assert re.search(r"\w{3}.*[.!]\s*\|$", line), line


def test_every_route_is_documented() -> None:
    text = "".join(pages.page(f"docs/reference/{name}.md").text for name in ("rest", "protocol"))
    named = re.findall(r"[ `](/(?:[a-z0-9_/-]|\.json|\{[^}]*\})+)", text)
    documented = {_nameless(path.removeprefix("/api/v1")) for path in named}
    served = {_nameless(path.removeprefix("/api/v1")) for path in docs.routes()}

    assert served - documented - PAGES_FOR_BROWSERS == set()


@pytest.mark.parametrize("name", NAMES)
def test_every_relative_link_leads_somewhere(name: str) -> None:
    page = pages.page(name)
    for text, target in page.links:
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        path = (ROOT / page.name).parent / file if file else ROOT / page.name
        assert path.exists(), f"{page.name}: [{text}]({target})"
        if anchor:
            assert path.suffix == ".md", f"{page.name}: [{text}]({target})"
            assert anchor in Page(target, path.read_text(encoding="utf-8")).anchors, f"{page.name}: [{text}]({target})"


@pytest.mark.parametrize("name", NAMES)
def test_a_linked_name_exists_in_the_linked_source(name: str) -> None:
    page = pages.page(name)
    for text, target in page.links:
        names = re.fullmatch(r"`([A-Za-z_]\w*(?:\.\w+)?)(?:\(\))?`", text)
        if names is None or not target.endswith(".py") or names[1].endswith(".py"):
            continue
        path = (ROOT / page.name).parent / target
        assert names[1] in set(_definitions(path)), f"{page.name}: {names[1]} is not in {target}"


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        path = waiting.pop().resolve()
        if path in reached or path.suffix != ".md" or not path.exists():
            continue
        reached.add(path)
        waiting += [path.parent / target.partition("#")[0] for _, target in Page("", path.read_text()).links]

    assert {ROOT / name for name in NAMES} - reached == set()


@pytest.mark.parametrize("name", NAMES)
def test_a_json_snippet_is_json(name: str) -> None:
    for snippet in pages.page(name).snippets:
        if snippet.language == "json":
            json.loads(snippet.code)


@pytest.mark.parametrize("name", NAMES)
def test_a_python_snippet_compiles(name: str) -> None:
    for snippet in pages.page(name).snippets:
        if snippet.language == "python":
            compile(snippet.code, snippet.where, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@pytest.mark.parametrize("name", NAMES)
def test_every_snippet_says_its_language_and_what_it_shows(name: str) -> None:
    for snippet in pages.page(name).snippets:
        assert snippet.language in (*pages.RUNNABLE, *pages.OTHER), snippet.where
        if snippet.language in ("js", "python"):
            assert snippet.wishes.keys() & {"prints", "skip"} or snippet.wishes.get("as") == "part", snippet.where


def test_few_snippets_are_left_out_and_each_says_why() -> None:
    skipped = [one for page in pages.pages() for one in page.snippets if "skip" in one.wishes]

    assert all(len(one.wishes["skip"]) > 15 for one in skipped)
    assert len(skipped) <= MOST_SKIPPED, [one.where for one in skipped]


@pytest.mark.parametrize("name", NAMES)
def test_collections_in_examples_have_names_that_work(name: str) -> None:
    for found in re.findall(r'"collection": ?"([^"]+)"', pages.page(name).text):
        assert found == "*" or COLLECTION_NAME.match(found), found


@pytest.mark.parametrize("name", NAMES)
def test_a_page_names_no_setting_that_does_not_exist(name: str) -> None:
    known = {"SNACKBASE_TEST_BROWSER", *setting_names()}

    assert set(re.findall(r"SNACKBASE_[A-Z_]*[A-Z]", pages.page(name).text)) - known == set()


def test_every_option_member_and_state_of_the_javascript_client_is_documented() -> None:
    types = (ROOT / "clients" / "js" / "src" / "index.d.ts").read_text(encoding="utf-8")
    in_code = " ".join(re.findall(r"`([^`]+)`", pages.page("docs/clients/javascript.md").prose))
    bodies = dict(re.findall(r"^export (?:class|interface) (\w+).*?\{\n(.*?)^\}", types, re.MULTILINE | re.DOTALL))
    told = ("ClientOptions", "SubscribeOptions", "LiveQueryOptions", "WriteOptions", "Handlers")
    offered = ("SnackBaseError", "Client", "Feed", "LiveQuery", "Records")
    text = "".join(bodies[one] for one in (*told, *offered))
    names = set(re.findall(r"^  (?:readonly )?(\w+)\??[(<:]", text, re.MULTILINE)) - {"constructor", "name"}
    states = set(re.findall(r'"(\w+)"', "".join(re.findall(r"^export type \w*State = (.*);$", types, re.MULTILINE))))

    assert names >= {"getToken", "idempotencyKey"}
    assert states >= {"stopped", "catching_up"}
    assert {word for word in names | states if not re.search(rf"\b{word}\b", in_code)} == set()


def _nameless(path: str) -> str:
    return re.sub(r"\{[^}]*\}", "{}", path)


def _first_cell(line: str) -> list[str]:
    return re.findall(r"`([a-z0-9_]+)`", line.split("|")[1])


def _definitions(path: Path) -> list[str]:
    """Names that a source file defines: `f`, `C`, `C.method`, `CONSTANT`."""
    found = []
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef):
            found.append(node.name)
            inner = [one for one in node.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)]
            found += [f"{node.name}.{one.name}" for one in inner]
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.append(node.name)
        elif isinstance(node, ast.Assign):
            found += [target.id for target in node.targets if isinstance(target, ast.Name)]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.append(node.target.id)
    return found
