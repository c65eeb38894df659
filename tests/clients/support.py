"""Our own JavaScript client in Node, driven by a test: `await js("return S.clients.main.state")`."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

from tests.e2e.support import Member
from tests.support.node import JS, NodeProcess, start_node
from tests.support.server import ROOT

CLIENT = ROOT / "clients" / "js"
SCENE = (JS / "client-scene.js").read_text()


class Script:
    """A Node process that holds clients; a call evaluates the body of an async function in it."""

    def __init__(self, process: NodeProcess) -> None:
        self._process = process
        self._ids = count(1)
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._uncaught: list[str] = []
        self._reader = asyncio.create_task(self._read())

    async def __call__(self, code: str, **values: Any) -> Any:
        """What the code returns (JSON); the values are its variables. Raises AssertionError when it throws."""
        number = next(self._ids)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        names = "".join(f"const {name} = {json.dumps(value)};\n" for name, value in values.items())
        await self._process.send({"id": number, "evaluate": names + code})
        return await answer

    async def follow(self, name: str, collection: str, **query: Any) -> None:
        """Begin a live query and wait until it stands."""
        await self("await S.follow(name, collection, query)", name=name, collection=collection, query=query)

    async def same(self, name: str, records: list[dict[str, Any]]) -> None:
        """Wait until the live query shows exactly these records, in this order."""
        plain = [dict(sorted(record.items())) for record in records]
        # As JavaScript writes them: no spaces, characters as they are, 1.0 as 1.
        await self("await S.same(name, records)", name=name, records=plain)

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


async def listed(member: Member, collection: str, **query: Any) -> list[dict[str, Any]]:
    """The whole list as REST gives it, page by page; nobody may write meanwhile."""
    records: list[dict[str, Any]] = []
    while True:
        asked = {"limit": 100, "skip": len(records), **query}
        page = (await member.request("GET", f"/records/{collection}", params=asked)).json()
        records += page["items"]
        if len(records) >= page["total"]:
            return records
