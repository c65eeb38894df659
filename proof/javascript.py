"""Clients in JavaScript (`live.js`): one Node process and one page of a Chromium, each with several lists.

They come and go as their own code does it; from here they are only asked what they hold.
"""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import msgspec

from proof.checkpoint import Held
from proof.livelist import Difference
from proof.people import Login, Person
from tests.support.browser import Page, PageFailed, find_browser, open_page
from tests.support.node import NodeFailed, NodeProcess, find_node, start_node
from tests.support.server import ROOT

LIVE = Path(__file__).parent / "live.js"
CLIENT = ROOT / "clients" / "js" / "src"
STATIC = f"""
        types {{ text/javascript js; }}
        location /proof/client/ {{ alias {CLIENT}/; }}
        location = /proof/live.js {{ alias {LIVE}; }}
"""
"""For nginx: the page loads the same files that Node imports."""

NODE = """
import { createInterface } from "node:readline";
import { WebSocket } from "ws";
import { createClient } from "%(client)s";
import { start } from "%(live)s";
const held = start({ base: %(base)s, specs: %(specs)s, createClient, WebSocket });
for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(`${JSON.stringify({ id: JSON.parse(line).id, held: held() })}\\n`);
}
process.exit(0);
"""
PAGE = """
const { createClient } = await import("/proof/client/index.js");
const { start } = await import("/proof/live.js");
globalThis.held = start({ base: location.origin, specs: %(specs)s, createClient });
"""


@dataclass(frozen=True)
class Spec:
    """One list. `transport`: websocket, sse or auto of the project's client, or eventsource."""

    name: str
    person: Person
    login: Login
    transport: str
    collection: str
    filter: str | None = None
    fields: str | None = None

    def told(self) -> dict[str, Any]:
        """The same as JSON, with what is needed to log in."""
        person = {"account": self.person.account, "email": self.person.email, "password": self.person.password}
        mine = {"name": self.name, "transport": self.transport, "collection": self.collection}
        return {**mine, "person": person, "filter": self.filter, "fields": self.fields}


class ScriptHolder:
    """The lists of one script."""

    def __init__(self, name: str, specs: Sequence[Spec]) -> None:
        self.name = name
        self._specs = {spec.name: spec for spec in specs}

    async def _ask(self) -> Sequence[Mapping[str, Any]]:
        raise NotImplementedError

    async def held(self) -> Sequence[Held]:
        """What every list holds. Raises Difference when the script is gone."""
        try:
            return [self._held(one) for one in await self._ask()]
        except (NodeFailed, PageFailed) as error:
            raise Difference(f"{self.name}: {error}") from None

    def _held(self, told: Mapping[str, Any]) -> Held:
        spec = self._specs[told["name"]]
        return Held(
            name=spec.name,
            client=self.name,
            kind=spec.transport,
            login=spec.login,
            collection=spec.collection,
            filter=spec.filter,
            fields=spec.fields,
            settled=told["settled"],
            refused=told["refused"],
            cursor=told["cursor"],
            records={record["id"]: msgspec.json.encode(record) for record in told["records"]},
            exact=False,
            story="    " + "\n    ".join(told["story"]),
        )


class NodeHolder(ScriptHolder):
    """Live queries in Node."""

    def __init__(self, process: NodeProcess, specs: Sequence[Spec]) -> None:
        super().__init__("node", specs)
        self._process = process
        self._numbers = count(1)

    async def _ask(self) -> Sequence[Mapping[str, Any]]:
        number = next(self._numbers)
        await self._process.send({"id": number})
        while True:
            answer = await self._process.next_message()
            if answer["id"] == number:
                held: Sequence[Mapping[str, Any]] = answer["held"]
                return held


class PageHolder(ScriptHolder):
    """Live queries and EventSources in a page."""

    def __init__(self, page: Page, specs: Sequence[Spec]) -> None:
        super().__init__("chromium", specs)
        self._page = page

    async def _ask(self) -> Sequence[Mapping[str, Any]]:
        held: Sequence[Mapping[str, Any]] = await self._page.evaluate("return held()")
        return held


@asynccontextmanager
async def in_node(base: str, specs: Sequence[Spec]) -> AsyncIterator[NodeHolder]:
    """Start the lists in Node."""
    told = [spec.told() for spec in specs]
    places = {"client": (CLIENT / "index.js").as_uri(), "live": LIVE.as_uri()}
    text = NODE % {**places, "base": json.dumps(base), "specs": json.dumps(told)}
    async with start_node(text) as process:
        yield NodeHolder(process, specs)


@asynccontextmanager
async def in_chromium(base: str, specs: Sequence[Spec]) -> AsyncIterator[PageHolder]:
    """Start the lists in a page."""
    async with open_page(f"{base}/live") as page:
        await page.evaluate(PAGE % {"specs": json.dumps([spec.told() for spec in specs])})
        yield PageHolder(page, specs)


def missing() -> list[str]:
    """What keeps clients from taking part, as words to say loudly."""
    found = []
    if find_node() is None:
        found.append("Node.js (with the packages of tests/js) is missing: no JavaScript client takes part")
    elif find_browser() is None:
        found.append("Chrome or Chromium is missing: no EventSource and no page takes part")
    return found
