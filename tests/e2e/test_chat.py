"""The chat example as its users have it: real browsers, a real proxy, a real server, everything done in the page.

Both layouts are used: page and server behind one nginx, and the page on another port, as with a front end's own
development server.
"""

import asyncio
import json
import os
import socket
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

from examples.chat import page as chat_page
from examples.chat.setup import ACCOUNT, prepare
from tests.conftest import MakeServer
from tests.docs import pages
from tests.e2e.support import API, fresh, remember
from tests.support.browser import Page, open_page
from tests.support.nginx import Nginx
from tests.support.server import ROOT, ServerProcess, free_port

PASSWORD = remember("a-password-for-the-chat")
XSS = "<img src=x onerror=\"report('xss')\"><script>report('xss')</script><b>bold</b> & \"quoted\""
LAYOUTS = ("one origin behind nginx", "another port", "another port, the server behind nginx")
TYPES = "types { text/javascript js; text/css css; text/html html; }\n"
"""What /etc/nginx/mime.types says of these."""
SHOWN = """
return [...document.querySelectorAll("#messages li")].map((item) =>
  [".author", ".text", ".state"].map((place) => item.querySelector(place).textContent));
"""


class Window:
    """One person's browser, with a profile of its own."""

    def __init__(self, page: Page, name: str) -> None:
        self.page = page
        self.name = name
        self.email = f"{fresh('person')}@example.com"

    async def enter(self, *, password: str = PASSWORD, signs_up: bool = False) -> None:
        if signs_up:
            await self.page.act("click", "role=button[name='I am new here: sign up']")
            await self.page.act("fill", "role=textbox[name='Your name'] >> visible=true", self.name)
        await self.page.act("fill", "role=textbox[name='E-mail']", self.email)
        await self.page.act("fill", "#entry [type=password]", password)
        await self.page.act("press", "#entry [type=password]", "Enter")

    async def says(self, text: str) -> None:
        await self.page.act("fill", "role=textbox[name='Message']", text)
        await self.page.act("press", "role=textbox[name='Message']", "Enter")

    async def until(self, expression: str) -> None:
        """Until an expression in the page is true."""
        # Not Playwright's own way, which is `eval` in the page: the page forbids that.
        await self.page.evaluate(f"while (!({expression})) await new Promise((resolve) => setTimeout(resolve, 20));")

    async def count(self, selector: str) -> int:
        return int(await self.page.evaluate(f"return document.querySelectorAll({json.dumps(selector)}).length"))

    async def older(self, total: int) -> None:
        """Fetch one more page of the past, until there are so many messages."""
        await self.page.act("click", "role=button[name='Show older messages']")
        await self.until(f"document.querySelectorAll('#messages li').length >= {total}")

    async def is_told(self, text: str) -> None:
        """Until some message, alert or status that can be seen has the text."""
        await self.until(
            f"[...document.querySelectorAll('#messages li, [role=alert], [role=status]')].some("
            f"(one) => one.checkVisibility() && one.textContent.includes({json.dumps(text)}))"
        )

    async def sees(self, *wanted: tuple[str, str]) -> None:
        """Until the messages are these, author and text, all of them sent."""
        shown = f"(() => {{ {SHOWN} }})()"
        rows = json.dumps([[author, text, ""] for author, text in wanted])
        try:
            await self.until(f"JSON.stringify({shown}) === JSON.stringify({rows})")
        except AssertionError:
            assert await self.page.evaluate(SHOWN) == json.loads(rows), "not in time"

    async def connected(self) -> None:
        await self.until("document.querySelector('#chat:not([hidden]) .connection')?.dataset.state === 'open'")


class Chat:
    """A running chat: its server, set up as the example does it, and the address of its page."""

    def __init__(self, server: ServerProcess, address: str, url: str) -> None:
        self.server = server
        self.url = url
        self.api = httpx.AsyncClient(base_url=f"{address}{API}", timeout=30)

    async def token(self, email: str, password: str, account: str = ACCOUNT) -> str:
        body = {"account": account, "email": email, "password": password}
        answer = (await self.api.post("/auth/login", json=body)).raise_for_status().json()
        return remember(str(answer["token"]))

    async def superadmin(self) -> dict[str, str]:
        server = self.server
        token = await self.token(server.SUPERADMIN_EMAIL, server.SUPERADMIN_PASSWORD, "system")
        return {"authorization": f"Bearer {token}", "x-account-id": ACCOUNT}

    async def rule(self, **rules: str | None) -> None:
        answer = await self.api.put("/collections/messages/rules", json=rules, headers=await self.superadmin())
        answer.raise_for_status()


OpenChat = Callable[..., Awaitable[Chat]]


@pytest.fixture
async def windows(browser: ModuleType) -> AsyncIterator[Callable[[Chat, str], Awaitable[Window]]]:
    """Opens windows on a chat, each of a browser of its own."""
    async with AsyncExitStack() as opened:

        async def open_window(chat: Chat, name: str) -> Window:
            return Window(await opened.enter_async_context(open_page(chat.url)), name)

        yield open_window


OpenWindow = Callable[[Chat, str], Awaitable[Window]]


@contextmanager
def front_end(server: str, port: int) -> Any:
    with chat_page.serving(server, port=port) as front:
        thread = threading.Thread(target=front.serve_forever, daemon=True)
        thread.start()
        yield f"http://localhost:{front.server_port}/"
        front.shutdown()
        thread.join()


@asynccontextmanager
async def running(layout: str, make_server: MakeServer, folder: Path, **settings: Any) -> AsyncIterator[Chat]:
    port = free_port()
    settings = {"SINGLE_TENANT_ACCOUNT": ACCOUNT, **settings}
    if "nginx" in layout:
        settings["TRUSTED_PROXIES"] = "127.0.0.1"
    if layout == LAYOUTS[2]:
        # Only a server that others can reach asks for origins; on loopback any page of this machine may call.
        settings |= {"HOST": "0.0.0.0", "CORS_ORIGINS": f"http://localhost:{port}"}  # noqa: S104
    server = await make_server(settings=settings)
    async with AsyncExitStack() as opened:
        address = server.base_url
        if "nginx" in layout:
            chat_page.write(folder / "static")
            [told] = [one.code for one in pages.page("examples/chat/README.md").snippets if one.language == "nginx"]
            more = TYPES + told.replace("/path/to/build/chat", str(folder / "static"))
            nginx = await opened.enter_async_context(Nginx(folder / "nginx", upstream=server.port, more=more))
            address = f"http://127.0.0.1:{nginx.port}"
        url = f"{address}/chat/"
        if layout != LAYOUTS[0]:
            url = opened.enter_context(front_end(address, port))
        chat = Chat(server, address, url)
        opened.push_async_callback(chat.api.aclose)
        token = (await chat.superadmin())["authorization"].removeprefix("Bearer ")
        for _ in range(2):  # twice is as once
            await asyncio.to_thread(prepare, address, token)
        yield chat


@pytest.mark.parametrize("layout", LAYOUTS)
async def test_two_people_who_signed_up_talk_in_two_windows(
    layout: str, make_server: MakeServer, windows: OpenWindow, nginx: ModuleType, tmp_path: Path
) -> None:
    async with running(layout, make_server, tmp_path) as chat:
        ann, bob = await windows(chat, "Ann"), await windows(chat, "Bob <i>B.</i>")
        await asyncio.gather(ann.enter(signs_up=True), bob.enter(signs_up=True))
        await asyncio.gather(ann.connected(), bob.connected())
        await ann.says("Hello!")
        await bob.sees(("Ann", "Hello!"))
        await bob.says(XSS)
        said = [("Ann", "Hello!"), (bob.name, XSS)]
        await asyncio.gather(ann.sees(*said), bob.sees(*said))
        assert await ann.count("#messages :is(img, script, b, i)") == 0

        await chat.server.stop()
        await asyncio.gather(ann.is_told("Connection lost"), bob.is_told("Connection lost"))
        await ann.says("Written while it was away.")
        await ann.is_told("sending…")
        await chat.server.start()
        said.append(("Ann", "Written while it was away."))
        await asyncio.gather(ann.sees(*said), bob.sees(*said))

        await bob.page.act("reload")
        await bob.sees(*said)
        await bob.page.act("click", "role=button[name='Sign out']")
        await bob.enter(password="not the password")
        await bob.is_told("password")
        assert await bob.page.evaluate("return localStorage.length") == 0
        assert await bob.count("#messages li") == 0
        await bob.enter()
        await bob.sees(*said)

        await ann.page.act("click", "#messages li:has-text('Hello!') >> role=button[name='Delete']")
        await asyncio.gather(ann.sees(*said[1:]), bob.sees(*said[1:]))
        assert await ann.count("#messages button") == 1
        assert await bob.count("#messages button") == 1
        for window in (ann, bob):
            assert "xss" not in window.page.reports
            assert window.page.errors == []


async def test_the_past_comes_page_by_page_and_stays_true(
    make_server: MakeServer, windows: OpenWindow, tmp_path: Path
) -> None:
    async with running("another port", make_server, tmp_path) as chat:
        ann = await windows(chat, "Ann")
        await ann.enter(signs_up=True)
        await ann.connected()
        token = await chat.token(ann.email, PASSWORD)
        mine = {"authorization": f"Bearer {token}"}
        room = (await chat.api.get("/records/rooms?sort=name", headers=mine)).json()["items"][0]["id"]
        texts = [f"number {number}" for number in range(75)]
        for text in texts:
            answer = await chat.api.post("/records/messages", json={"room": room, "text": text}, headers=mine)
            answer.raise_for_status()
        await ann.page.act("reload")
        await ann.until("document.querySelectorAll('#messages li').length === 30")
        await ann.older(60)
        await ann.older(75)
        await ann.sees(*[("Ann", text) for text in texts])
        assert await ann.page.evaluate("return document.querySelector('#older').hidden")

        found = (await chat.api.get("/records/messages?filter=text%20%3D%20'number%205'", headers=mine)).json()["items"]
        (await chat.api.delete(f"/records/messages/{found[0]['id']}", headers=mine)).raise_for_status()
        texts.remove("number 5")
        await ann.sees(*[("Ann", text) for text in texts])

        # Rights change: the server says `resync` to the live list and to the follower of the past, fetched anew then.
        await chat.rule(list_rule="text !~ '7'")
        newest = [text for text in texts[-30:] if "7" not in text]
        await ann.sees(*[("Ann", text) for text in newest])
        everything = [text for text in texts if "7" not in text]
        await ann.older(len(newest) + 30)
        await ann.older(len(everything))
        await ann.sees(*[("Ann", text) for text in everything])


async def test_a_message_that_is_refused_says_so_and_can_be_sent_again(
    make_server: MakeServer, windows: OpenWindow, tmp_path: Path
) -> None:
    async with running("another port", make_server, tmp_path, ACCESS_TOKEN_EXPIRE_MINUTES=0.05) as chat:
        ann = await windows(chat, "Ann")
        await ann.enter(signs_up=True)
        await ann.connected()
        await chat.rule(create_rule="text = 'nothing else'")
        await ann.says("May I?")
        await ann.is_told("not sent")
        await chat.rule(create_rule="")
        await ann.page.act("click", "role=button[name='Try again']")
        await ann.sees(("Ann", "May I?"))

        # Tokens end after three seconds here: the login goes on.
        token = "JSON.parse(localStorage.getItem('snackbase-chat')).token"
        for _ in range(2):
            before = await ann.page.evaluate(f"return {token}")
            await ann.until(f"{token} !== {json.dumps(before)}")
        await ann.says("Still here.")
        await ann.sees(("Ann", "May I?"), ("Ann", "Still here."))
        await ann.page.act("reload")
        await ann.sees(("Ann", "May I?"), ("Ann", "Still here."))


async def test_a_name_is_one_persons_and_rooms_are_apart(
    make_server: MakeServer, windows: OpenWindow, tmp_path: Path
) -> None:
    async with running("another port", make_server, tmp_path) as chat:
        ann, bob = await windows(chat, "Ann"), await windows(chat, "Ann")
        await ann.enter(signs_up=True)
        await ann.connected()
        await bob.enter(signs_up=True)
        await bob.is_told("Somebody has this name already.")
        await bob.page.act("fill", "role=textbox[name='Your name'] >> visible=true", "Bob")
        await bob.page.act("click", "role=button[name='Go on']")
        await bob.connected()

        await ann.page.act("fill", "role=textbox[name='New room']", "Kitchen")
        await ann.page.act("click", "role=button[name='Add the room']")
        await ann.until("document.querySelector('#room-name').textContent === 'Kitchen'")
        await ann.says("Soup?")
        await bob.says("Anybody here?")
        await bob.sees(("Bob", "Anybody here?"))
        await bob.page.act("click", "role=link[name='Kitchen']")
        await bob.sees(("Ann", "Soup?"))


async def test_one_command_starts_the_chat_for_development(tmp_path: Path, browser: ModuleType) -> None:
    ports = (free_port(), free_port())
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SNACKBASE_")}
    command = ("-m", "examples.chat", "--port", str(ports[0]), "--page-port", str(ports[1]), "--data", "chat_data")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *command,
        cwd=tmp_path,
        env={**clean, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(60):
            printed = ""
            while "The chat: " not in printed:
                printed += (await process.stdout.readline()).decode()
        address = printed.partition("The chat: ")[2].split()[0]
        async with open_page(address) as page:
            ann = Window(page, "Ann")
            await ann.enter(signs_up=True)
            await ann.says("Hello!")
            await ann.sees(("Ann", "Hello!"))
    finally:
        process.terminate()
        rest, _ = await process.communicate()
    assert process.returncode == 0, rest.decode()
    assert b"Traceback" not in rest
    with pytest.raises(OSError):
        await asyncio.open_connection("127.0.0.1", ports[0])


@pytest.mark.parametrize("option", ["--port", "--page-port"])
async def test_a_port_that_something_else_uses_is_named_and_nothing_begins(tmp_path: Path, option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        ports = {"--port": free_port(), "--page-port": free_port(), option: taken}
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "examples.chat", "--data", "chat_data"),
            *(str(word) for pair in ports.items() for word in pair),
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(60):
            said, _ = await process.communicate()

    assert process.returncode == 1
    assert f"Port {taken} cannot be used" in said.decode()
    assert f"choose another with {option}." in said.decode()
    assert not (tmp_path / "chat_data").exists()
