"""The console's files as they are served: names, types, validators, and nothing else of the machine."""

import re
from collections.abc import Callable

import httpx
import pytest
from starlette.routing import Router

from snackbase.config import Settings
from snackbase.metrics import Counters
from snackbase.origins import Origins
from snackbase.web.console import ConsoleRoutes
from snackbase.web.middleware import Http, not_found
from tests.support.server import ROOT

FOLDER = ROOT / "src" / "snackbase" / "console"
CLIENT = ROOT / "clients" / "js" / "src"
NAMES = sorted(
    [one.name for one in FOLDER.iterdir() if one.is_file()] + [f"client/{one.name}" for one in CLIENT.glob("*.js")]
)


@pytest.fixture
def open_client() -> Callable[..., httpx.AsyncClient]:
    def make(*, root_path: str = "", enabled: bool = True) -> httpx.AsyncClient:
        router = Router(ConsoleRoutes(enabled=enabled).routes(), redirect_slashes=False, default=not_found)
        settings = Settings()
        http = Http(router, settings=settings, origins=Origins(settings), counters=Counters())
        transport = httpx.ASGITransport(http, root_path=root_path)
        return httpx.AsyncClient(transport=transport, base_url="http://sb.test")

    return make


@pytest.fixture
def client(open_client: Callable[..., httpx.AsyncClient]) -> httpx.AsyncClient:
    return open_client()


@pytest.mark.parametrize("name", NAMES)
async def test_every_file_comes_with_its_type_its_policy_and_a_validator(client: httpx.AsyncClient, name: str) -> None:
    answer = await client.get(f"/_/{name}")

    assert answer.status_code == 200
    assert answer.content == (FOLDER / name).read_bytes()
    wanted = {"html": "text/html", "js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
    assert answer.headers["content-type"].partition(";")[0] == wanted[name.rpartition(".")[2]]
    assert answer.headers["cache-control"] == "no-cache"
    assert re.fullmatch(r'"[0-9a-f]{32}"', answer.headers["etag"])
    policy = dict(part.strip().partition(" ")[::2] for part in answer.headers["content-security-policy"].split(";"))
    assert policy == {
        "default-src": "'none'",
        **dict.fromkeys(("script-src", "style-src", "img-src", "connect-src"), "'self'"),
        **dict.fromkeys(("base-uri", "form-action", "frame-ancestors", "trusted-types"), "'none'"),
        "require-trusted-types-for": "'script'",
    }


async def test_the_folder_itself_is_the_page(client: httpx.AsyncClient) -> None:
    assert (await client.get("/_/")).content == (FOLDER / "index.html").read_bytes()


@pytest.mark.parametrize(
    "path",
    [
        "/_/nothing.js",
        "/_/client",
        "/_/client/",
        "/_/client/index.d.ts",
        "/_/app.js/",
        "/_//app.js",
        "/_/../_/../web/console.py",
        "/_/%2e%2e/web/console.py",
        "/_/..%2fweb%2fconsole.py",
        "/_/client/..%2f..%2fpackage.json",
        "/_/%2fetc%2fpasswd",
        "/_/app.js%00.html",
        "/_/APP.JS",
    ],
)
async def test_what_is_no_file_of_the_console_is_not_found(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(path)

    assert (answer.status_code, answer.json()["code"]) == (404, "route_not_found")


async def test_a_head_is_the_get_without_its_body(client: httpx.AsyncClient) -> None:
    got, head = await client.get("/_/app.js"), await client.head("/_/app.js")

    assert head.status_code == 200
    for name in ("content-type", "content-length", "etag", "cache-control", "content-security-policy"):
        assert head.headers[name] == got.headers[name], name


@pytest.mark.parametrize("asked", ["{}", "W/{}", '"another", {}', "*"])
async def test_a_file_that_the_browser_has_is_not_sent_again(client: httpx.AsyncClient, asked: str) -> None:
    etag = (await client.get("/_/style.css")).headers["etag"]

    answer = await client.get("/_/style.css", headers={"if-none-match": asked.format(etag)})

    assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", etag)
    assert "content-length" not in answer.headers


async def test_another_file_than_the_browser_has_is_sent(client: httpx.AsyncClient) -> None:
    answer = await client.get("/_/style.css", headers={"if-none-match": '"another"'})

    assert answer.status_code == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_files_are_only_read(client: httpx.AsyncClient, method: str) -> None:
    answer = await client.request(method, "/_/app.js")

    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("root_path", ["", "/backend"])
@pytest.mark.parametrize("path", ["/", "/_"])
async def test_the_root_leads_to_the_console_also_below_a_path(
    open_client: Callable[..., httpx.AsyncClient], root_path: str, path: str
) -> None:
    answer = await open_client(root_path=root_path).get(root_path + path)

    assert (answer.status_code, answer.headers["location"]) == (307, f"{root_path}/_/")


@pytest.mark.parametrize("path", ["/", "/_", "/_/", "/_/app.js"])
async def test_switched_off_it_answers_404(open_client: Callable[..., httpx.AsyncClient], path: str) -> None:
    assert (await open_client(enabled=False).get(path)).status_code == 404


# What is in the files ------------------------------------------------------------------------------------------------


async def test_everything_that_the_files_name_is_served(client: httpx.AsyncClient) -> None:
    page = (FOLDER / "index.html").read_text()
    named = set(re.findall(r'<(?:script|link)[^>]*(?:src|href)="([^"]+)"', page))
    for name in (one for one in NAMES if one.endswith(".js")):
        here = name.rpartition("/")[0]
        for target in re.findall(r'(?:from|import) "\./([^"]+)"', (FOLDER / name).read_text()):
            named.add(f"{here}/{target}" if here else target)

    assert named - {"index.html"} == set(NAMES) - {"index.html"}


def test_nothing_comes_from_elsewhere_and_nothing_becomes_markup() -> None:
    for name in NAMES:
        text = (FOLDER / name).read_text()
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text), (
            name
        )
        assert not re.search(r"""(?:src|href|from|import|fetch)\W{1,3}https?://""", text), name
        if name.endswith(".html"):
            assert not re.search(r"<style|style=|\son\w+=|<script(?![^>]*\ssrc=)", text), name
    assert "localStorage" not in "".join((FOLDER / name).read_text() for name in NAMES)
