"""Our own JavaScript client in Node or Chromium, driven by a test: `await js("return S.clients.main.state")`."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.docs.running import front_end
from tests.e2e.support import Member
from tests.support.browser import BLANK, Page, open_page
from tests.support.node import JS, NodeProcess, start_node
from tests.support.server import ROOT

TRANSPORTS = ("websocket", "sse")
both = pytest.mark.parametrize("transport", TRANSPORTS)
CLIENT = ROOT / "clients" / "js"
SCENE = (JS / "client-scene.js").read_text()


class Runtime:
    """Holds clients; a call evaluates the body of an async function there."""

    async def run(self, code: str) -> Any:
        """What the code returns (JSON). Raises AssertionError when it throws."""
        raise NotImplementedError

    async def __call__(self, code: str, **values: Any) -> Any:
        """What the code returns; the values are its variables."""
        names = "".join(f"const {name} = {json.dumps(value)};\n" for name, value in values.items())
        return await self.run(names + code)

    async def follow(self, name: str, collection: str, **query: Any) -> None:
        """Begin a live query and wait until it stands."""
        await self("await S.follow(name, collection, query)", name=name, collection=collection, query=query)

    async def same(self, name: str, records: list[dict[str, Any]]) -> None:
        """Wait until the live query shows exactly these records, in this order."""
        plain = [dict(sorted(record.items())) for record in records]
        await self("await S.same(name, records)", name=name, records=plain)


class Script(Runtime):
    """A Node process."""

    def __init__(self, process: NodeProcess) -> None:
        self._process = process
        self._ids = count(1)
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._uncaught: list[str] = []
        self._reader = asyncio.create_task(self._read())

    async def run(self, code: str) -> Any:
        number = next(self._ids)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        await self._process.send({"id": number, "evaluate": code})
        return await answer

    async def close(self) -> None:
        """End it; nothing may have been thrown that nobody caught."""
        await self._process.finish()
        await self._reader
        assert not self._uncaught, self._uncaught

    async def _read(self) -> None:
        try:
            while True:
                message = await self._process.next_message(timeout_s=600)
                if message["event"] == "uncaught":
                    self._uncaught.append(message["message"])
                elif message["event"] == "result":
                    self._answers.pop(message["id"]).set_result(message["value"])
                elif message["event"] == "failed":
                    self._answers.pop(message["id"]).set_exception(AssertionError(message["message"]))
        except AssertionError as ended:
            for answer in self._answers.values():
                if not answer.done():
                    answer.set_exception(ended)


@asynccontextmanager
async def script(base_url: str, **options: Any) -> AsyncIterator[Script]:
    """Start a Node process; every client made in it gets the options."""
    job = {"client": str(CLIENT / "src" / "index.js"), "scene": SCENE, "common": {"url": base_url, **options}}
    async with start_node(JS / "client-driver.mjs", json.dumps(job)) as process:
        made = Script(process)
        try:
            yield made
        except BaseException:
            await process.close()
            await asyncio.gather(made._reader, return_exceptions=True)
            raise
        await made.close()


class PageScript(Runtime):
    """A page of a browser."""

    def __init__(self, page: Page) -> None:
        self.page = page

    async def run(self, code: str) -> Any:
        return await self.page.evaluate(code, timeout_s=60)


@asynccontextmanager
async def in_page(base_url: str, folder: Path, **options: Any) -> AsyncIterator[PageScript]:
    """Open a page of another origin that serves the client's modules as they are, without a bundler.

    Args:
        folder: an empty one, for the page's files.
    """
    (folder / "index.html").write_text(BLANK)
    (folder / "src").symlink_to(CLIENT / "src")
    begin = f"""
    const openScene = new Function({json.dumps(SCENE)} + "; return openScene;")();
    globalThis.S = openScene(await import("/src/index.js"), {json.dumps({"url": base_url, **options})});
    """
    async with front_end(folder) as url, open_page(url) as page:
        made = PageScript(page)
        await made.run(begin)
        yield made
        assert not page.errors, page.errors


async def listed(member: Member, collection: str, **query: Any) -> list[dict[str, Any]]:
    """The whole list as REST gives it, page by page; nobody may write meanwhile."""
    records: list[dict[str, Any]] = []
    while True:
        asked = {"limit": 100, "skip": len(records), **query}
        page = (await member.request("GET", f"/records/{collection}", params=asked)).json()
        records += page["items"]
        if len(records) >= page["total"]:
            return records


async def begun(js: Runtime, me: Member, *, transport: str = "websocket", **options: Any) -> None:
    await js("S.client(options)", options={"token": me.token, "transport": transport, **options})


REFRESHING = """
let refresh = refresh_token;
S.client({ transport, getToken: async ({ fresh, reason }) => {
  S.tokens.push(reason);
  if (!fresh) return token;
  const answer = await fetch(`${url}/api/v1/auth/refresh`, {
    method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ refresh_token: refresh }),
  });
  if (!answer.ok) return null;
  const body = await answer.json();
  refresh = body.refresh_token;
  S.look();
  return body.token;
}});
"""


async def refreshing(js: Runtime, me: Member, *, transport: str) -> None:
    """A client that keeps itself logged in, as an app does."""
    url = me.house.server.base_url
    await js(REFRESHING, url=url, token=me.token, refresh_token=me.refresh_token, transport=transport)
