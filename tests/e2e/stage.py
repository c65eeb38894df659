"""Runs one and the same client script in Node and in a page of a real Chromium."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import ModuleType
from typing import Any

import pytest

from tests.support.node import JS

KINDS = ("node", "chromium")
SCENE = (JS / "scene.js").read_text()
NODE_GLOBALS = """
import { EventSource as NpmEventSource } from "eventsource";
import { WebSocket as NpmWebSocket } from "ws";
globalThis.WebSocket = NpmWebSocket;
globalThis.EventSource = NpmEventSource;
const report = (value) => process.stdout.write(`${JSON.stringify(value)}\\n`);
"""

everywhere = pytest.mark.parametrize("kind", KINDS)


class Stage:
    """A script that runs. It calls `tell(value)` for `next`; what it returns is the `result`."""

    def __init__(self, read: Callable[[], Awaitable[Any]]) -> None:
        self._read = read

    async def next(self) -> Any:
        """The next value that the script told. Raises AssertionError when it failed instead."""
        message = await self._read()
        assert "failed" not in message, message["failed"]
        assert "told" in message, f"the script ended with {message}"
        return message["told"]

    async def result(self) -> Any:
        """What the script returned; what it told before is passed over."""
        while "told" in (message := await self._read()):
            pass
        assert "failed" not in message, message["failed"]
        return message["result"]


def script_text(body: str, values: dict[str, Any]) -> str:
    """The body of an async function, with `scene`, `tell` and the values as its variables."""
    names = ", ".join(values)
    return f"""
{SCENE}
await (async ({{ {names} }}) => {{
  const tell = (value) => report({{ told: value }});
  const scene = openScene({{ base, token }});
  {{
{body}
  }}
}})({json.dumps(values)}).then(
  (result) => report({{ result: result ?? null }}),
  (error) => report({{ failed: String(error?.stack ?? error) }}),
);
"""


@asynccontextmanager
async def perform(
    request: pytest.FixtureRequest, kind: str, body: str, *, origin: str | None = None, **values: Any
) -> AsyncIterator[Stage]:
    """Start a script.

    Args:
        request: asked for the fixtures that say loudly when Node or the browser is missing.
        body: of an async function; `base` and `token` have to be among the values.
        origin: of the page in the browser; by default the server's own.
    """
    text = script_text(body, values)
    if kind == "node":
        node: ModuleType = request.getfixturevalue("node")
        async with node.start_node(f"{NODE_GLOBALS}{text}\nprocess.exit(0);") as running:
            yield Stage(running.next_message)
        return
    browser: ModuleType = request.getfixturevalue("browser")
    # A page that is really served: Chromium lets no page of an unknown network reach this machine.
    async with browser.open_page(f"{origin or values['base']}/live") as page:
        await page.evaluate(f"void (async () => {{ {text} }})()")
        yield Stage(page.next_report)


async def run(request: pytest.FixtureRequest, kind: str, body: str, **more: Any) -> Any:
    """Run a script to its end and return what it returned."""
    async with perform(request, kind, body, **more) as stage:
        return await stage.result()
