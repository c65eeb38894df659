"""Runs a page's snippets against a real server: bash as one session, JavaScript in Node or Chromium, Python as it is.

A snippet is run as it is printed; only the address of the server, the path of the command and the placeholder for a
token are filled in. While one runs, posts are created, changed and deleted, so that whatever it waits for comes.
"""

import asyncio
import json
import os
import re
import shlex
import signal
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import monotonic
from types import ModuleType
from typing import Any

import httpx

from tests.docs.pages import Snippet
from tests.support.browser import BLANK, Page, open_page
from tests.support.server import ROOT, ServerProcess, free_port

BASE = "http://127.0.0.1:8000"
EMAIL, PASSWORD = "ada@example.com", "correct horse"
LONGEST_S = 30.0
TRAFFIC_PAUSE_S = 0.1
POSTS = {
    "name": "posts",
    "schema": [
        {"name": "title", "type": "text", "required": True},
        {"name": "status", "type": "select", "options": ["draft", "published"], "default": "draft"},
    ],
}
COMMENTS = {"name": "comments", "schema": [{"name": "text", "type": "text"}]}
TITLES = ("ready", "Hello from the page", "hello")


class World:
    """A server with what the pages take for granted: the account `ada` with its admin, posts and comments."""

    def __init__(self, server: ServerProcess) -> None:
        self.server = server
        self.admin = httpx.AsyncClient(base_url=f"{server.base_url}/api/v1", timeout=30)
        self.ada = httpx.AsyncClient(base_url=f"{server.base_url}/api/v1", timeout=30)
        self.token = ""
        self.refresh_token = ""

    async def prepare(self) -> None:
        """Make what a page takes for granted."""
        login = {"email": self.server.settings["SUPERADMIN_EMAIL"], "password": self.server.SUPERADMIN_PASSWORD}
        self.admin.headers["Authorization"] = f"Bearer {await _token(self.admin, '/auth/login', login)}"
        for body in (POSTS, COMMENTS):
            (await self.admin.post("/collections", json=body)).raise_for_status()
        founding = {"email": EMAIL, "password": PASSWORD, "account_name": "Ada"}
        answer = await self.ada.post("/auth/register", json=founding)
        answer.raise_for_status()
        self.token, self.refresh_token = answer.json()["token"], answer.json()["refresh_token"]
        self.ada.headers["Authorization"] = f"Bearer {self.token}"

    async def traffic(self) -> None:
        """Create, change and delete posts and comments until cancelled."""
        while True:
            for title in TITLES:
                post = (await self.ada.post("/records/posts", json={"title": title})).raise_for_status().json()
                await self.ada.patch(f"/records/posts/{post['id']}", json={"status": "published"})
                await self.ada.post("/records/comments", json={"text": title})
                await asyncio.sleep(TRAFFIC_PAUSE_S)
                await self.ada.delete(f"/records/posts/{post['id']}")

    async def close(self) -> None:
        await self.admin.aclose()
        await self.ada.aclose()

    def filled(self, code: str) -> str:
        """The code with the server's address and a token in place of what a reader replaces."""
        code = code.replace(BASE, self.server.base_url).replace("127.0.0.1:8000", f"127.0.0.1:{self.server.port}")
        code = code.replace("paste the token here", self.token).replace(
            "paste the refresh token here", self.refresh_token
        )
        code = code.replace(".venv/bin/python", sys.executable)
        return code.replace(".venv/bin/snackbase", f"{sys.executable} -m snackbase")


async def _token(client: httpx.AsyncClient, path: str, body: dict[str, Any]) -> str:
    answer = await client.post(path, json=body)
    answer.raise_for_status()
    return str(answer.json()["token"])


@asynccontextmanager
async def world(make_server: Callable[..., Awaitable[ServerProcess]], **arguments: Any) -> AsyncIterator[World]:
    """A server of the page's own, with the first superadmin that a fresh start makes."""
    settings = {"SUPERADMIN_EMAIL": "admin@localhost", **arguments.pop("settings", {})}
    made = World(await make_server(settings=settings, **arguments))
    try:
        yield made
    finally:
        await made.close()


@asynccontextmanager
async def busy(made: World) -> AsyncIterator[None]:
    """Traffic while the block runs; a fault of it fails the test."""
    task = asyncio.create_task(made.traffic())
    try:
        yield
    finally:
        task.cancel()
        done = await asyncio.gather(task, return_exceptions=True)
    for outcome in done:
        if isinstance(outcome, Exception):
            raise outcome


async def comes(wanted: str, said: Callable[[], str], *, over: Callable[[], bool] = lambda: False) -> None:
    """Return when the text is there; fail when it is not in time, or when nothing more can come."""
    until = monotonic() + LONGEST_S
    while wanted not in said():
        assert monotonic() < until and not over(), f"{wanted!r} did not come:\n{said()}"
        await asyncio.sleep(0.05)


# bash -----------------------------------------------------------------------------------------------------------------


async def run_bash(made: World, snippets: list[Snippet]) -> None:
    """Run a page's bash snippets as one session, as a reader would, and look at what each of them printed."""
    folder = made.server.folder
    lines = ["set -eu -o pipefail"]
    for number, snippet in enumerate(snippets):
        out = folder / f"bash-{number}.txt"
        code = made.filled(snippet.code)
        if "background" in snippet.wishes:
            lines.append(f"{{ {code}\n}} > {out} 2>&1 & BACKGROUND=$!")
            lines.append(_until(made, r'realtime_connections{transport="sse"} [1-9]'))
        else:
            lines.append(f"{{ {code}\n}} > {out} 2>&1")
    lines += [
        _awaited(one.wishes["prints"], folder / f"bash-{number}.txt")
        for number, one in enumerate(snippets)
        if "background" in one.wishes
    ]
    exit_code = await _shell("\n".join(lines), made)
    for number, snippet in enumerate(snippets):
        out = folder / f"bash-{number}.txt"
        text = out.read_text() if out.exists() else ""
        told = f"{snippet.where} (exit code of the session: {exit_code})\n{snippet.code}\nprinted:\n{text}"
        if "background" not in snippet.wishes:
            assert out.exists(), told
        assert snippet.wishes.get("prints", "") in text, told
        if "refused" not in snippet.wishes:
            assert '"error":"' not in text, told
    assert exit_code == 0


def _awaited(wanted: str, file: Path) -> str:
    """A line of bash that waits until a snippet in the background has printed something."""
    return f"for i in $(seq 300); do grep -qF -- {shlex.quote(wanted)} {file} && break; sleep 0.1; done"


def _until(made: World, pattern: str) -> str:
    """A line of bash that waits for a line of /metrics: the other terminal is connected."""
    return f"until curl -s {made.server.base_url}/metrics | grep -q '{pattern}'; do sleep 0.05; done"


async def _shell(script: str, made: World) -> int:
    """Run it; its exit code, or -1 when it did not end in time."""
    process = await asyncio.create_subprocess_exec(
        "bash",
        "-c",
        script,
        cwd=made.server.folder,
        env=_environment(made),
        stdin=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(LONGEST_S):
            return await process.wait()
    except TimeoutError:
        return -1
    finally:
        _end_group(process)


def _end_group(process: asyncio.subprocess.Process) -> None:
    """End what the session left behind: only what it started is in its group."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _environment(made: World) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SNACKBASE_")}
    settings = {
        "SNACKBASE_DATABASE_URL": f"sqlite:///{made.server.folder}/snackbase.db",
        "SNACKBASE_PORT": str(made.server.port),
    }
    return {**clean, **settings, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "PYTHONUNBUFFERED": "1"}


# JavaScript -----------------------------------------------------------------------------------------------------------

NODE_GLOBALS = """
import WebSocket from "ws";
import { EventSource } from "eventsource";
globalThis.WebSocket = WebSocket;
globalThis.EventSource = EventSource;
globalThis.window = globalThis;
"""


async def run_in_node(made: World, node: ModuleType, code: str, wanted: str) -> None:
    """Run until the wanted text was printed."""
    async with busy(made), node.start_node(NODE_GLOBALS + made.filled(code)) as process:
        ending = asyncio.create_task(process.finish(timeout_s=LONGEST_S))
        await comes(wanted, lambda: _said(process), over=ending.done)
        ending.cancel()


def _said(process: Any) -> str:
    return str(process.printed) + "".join(json.dumps(message) for message in process.messages)


@asynccontextmanager
async def front_end(folder: Path) -> AsyncIterator[str]:
    """Serve a folder on another port, as a front end's development server does; gives its address.

    The page has to come from a real server: Chromium lets one that Playwright made up speak to no loopback address.
    """

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *arguments: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as front:
        thread = threading.Thread(target=front.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://localhost:{front.server_port}/"
        finally:
            await asyncio.to_thread(front.shutdown)
            thread.join()


async def run_in_browser(made: World, folder: Path, code: str, wanted: str) -> None:
    """Run in a page on another port until the wanted text is in its console or its body."""
    (folder / "index.html").write_text(BLANK)
    async with busy(made), front_end(folder) as url, open_page(url) as page:
        await page.evaluate(f"{made.filled(code)}\n; return null;")
        await shows(page, wanted)


async def shows(page: Page, wanted: str) -> None:
    """Return when the text is in the page or its console."""
    until, said = monotonic() + LONGEST_S, ""
    while wanted not in said:
        said = "\n".join([await page.evaluate("return document.body.innerText"), *page.console, *page.errors])
        assert monotonic() < until, f"{wanted!r} did not come:\n{said}"
        await asyncio.sleep(0.05)


# Python ---------------------------------------------------------------------------------------------------------------


async def run_script(made: World, code: str, wanted: str) -> None:
    """Run a client until the wanted text was printed, or to its end."""
    async with busy(made):
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            made.filled(code),
            cwd=made.server.folder,
            env=_environment(made),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        assert process.stdout is not None
        printed = ""
        try:
            async with asyncio.timeout(LONGEST_S):
                while wanted not in printed:
                    line = await process.stdout.readline()
                    if not line:
                        raise AssertionError(f"ended without {wanted!r}:\n{printed}")
                    printed += line.decode()
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def run_app(make_server: Callable[..., Awaitable[ServerProcess]], folder: Path, code: str, wanted: str) -> None:
    """Serve the application, use it, and wait for the wanted text in what the server printed."""
    whole = code if "SnackBase()" in code else f"from snackbase import SnackBase\n\napp = SnackBase()\n\n{code}"
    (folder / "main.py").write_text(whole)
    command: dict[str, Any] = {"arguments": ["serve", "main:app"]}
    if "/backend" in code:
        # The page's application is another one, and SnackBase is mounted in it.
        port = free_port()
        arguments = ["main:api", "--port", str(port)]
        command = {"module": "uvicorn", "prefix": "/backend", "port": port, "arguments": arguments}
    async with world(make_server, folder=folder, **command) as made:
        await made.prepare()
        async with busy(made), _listener(made):
            await comes(wanted, lambda: made.server.output)


@asynccontextmanager
async def _listener(made: World) -> AsyncIterator[None]:
    """A client that connects, subscribes, unsubscribes and goes, again and again: every realtime hook fires."""

    async def once() -> None:
        async with made.ada.stream("GET", "/realtime/subscribe", params={"collection": "posts"}) as answer:
            async for line in answer.aiter_lines():
                if re.match(r"data: .*posts", line):
                    return

    async def again() -> None:
        while True:
            await once()

    task = asyncio.create_task(again())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
