"""Finds a Chrome or Chromium and runs scripts in a page of it, through `tests/js/browser.mjs`."""

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from tests.support.node import JS, NodeFailed, NodeProcess, start_node

DRIVER = JS / "browser.mjs"
VARIABLE = "SNACKBASE_TEST_BROWSER"
NAMES = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
    "chrome-headless-shell",
    "microsoft-edge",
)
PLACES = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)
BLANK = "<!doctype html><meta charset=utf-8><title>blank</title>"


class PageFailed(AssertionError):
    """The script threw in the page, or the page is gone; the text holds the console."""


def find_browser() -> str | None:
    """The path of an installed Chrome or Chromium; SNACKBASE_TEST_BROWSER names another one."""
    named = os.environ.get(VARIABLE)
    if named:
        if not os.access(named, os.X_OK):
            raise FileNotFoundError(f"{VARIABLE} names no program: {named}")
        return named
    found = (shutil.which(name) for name in NAMES)
    installed = (place for place in PLACES if Path(place).exists())
    return next(filter(None, found), None) or next(installed, None)


@dataclass(slots=True)
class Page:
    """One page of a real browser. What the page passes to `report(value)` comes out of `next_report`, in order."""

    process: NodeProcess
    reports: list[Any] = field(default_factory=list)
    console: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    _unread: list[Any] = field(default_factory=list)
    _ids: Any = field(default_factory=lambda: count(1))
    _answers: dict[int, dict[str, Any]] = field(default_factory=dict)

    async def evaluate(self, script_text: str, *, timeout_s: float = 30) -> Any:
        """Runs the body of an async function in the page and returns what it returns (JSON). Raises PageFailed."""
        return await self._command({"evaluate": script_text}, timeout_s)

    async def goto(self, url: str, *, timeout_s: float = 30) -> None:
        """Opens another URL in the same page."""
        await self._command({"goto": url}, timeout_s)

    async def act(self, name: str, *values: Any, timeout_s: float = 40) -> None:
        """What a user does, by a method of Playwright's page: `act("fill", "role=textbox[name='E-mail']", "a@b.c")`.

        It waits until the element is there and can be used, up to 30 s. Raises PageFailed.
        """
        await self._command({"act": [name, *values]}, timeout_s)

    async def next_report(self, *, timeout_s: float = 30) -> Any:
        """The next value that the page reported and nobody read yet."""
        async with asyncio.timeout(timeout_s):
            while not self._unread:
                await self._step(timeout_s)
        return self._unread.pop(0)

    async def ready(self) -> None:
        """Waits until the first page has loaded."""
        while (await self._step(60))["event"] != "ready":
            pass

    async def _command(self, command: dict[str, Any], timeout_s: float) -> Any:
        number = next(self._ids)
        await self.process.send({"id": number, **command})
        try:
            async with asyncio.timeout(timeout_s):
                while number not in self._answers:
                    await self._step(timeout_s)
        except TimeoutError:
            raise PageFailed(self._said(f"no answer within {timeout_s} s")) from None
        answer = self._answers.pop(number)
        if answer["event"] == "failed":
            raise PageFailed(self._said(answer["message"]))
        return answer["value"]

    async def _step(self, timeout_s: float) -> dict[str, Any]:
        try:
            event: dict[str, Any] = await self.process.next_message(timeout_s=timeout_s)
        except NodeFailed as error:
            raise PageFailed(self._said(str(error))) from None
        if event["event"] == "report":
            self.reports.append(event["value"])
            self._unread.append(event["value"])
        elif event["event"] == "console":
            self.console.append(f"{event['level']}: {event['text']}")
        elif event["event"] == "page_error":
            self.errors.append(event["text"])
        elif event.get("id") is not None:
            self._answers[event["id"]] = event
        elif event["event"] == "failed":
            raise PageFailed(event["message"])
        return event

    def _said(self, what: str) -> str:
        return "\n".join([what, f"reports: {self.reports[-5:]}", *self.console[-20:], *self.errors[-20:]])


@dataclass(frozen=True, slots=True)
class BrowserResult:
    """What a script in a page returned, and what it said on the way."""

    value: Any
    reports: list[Any]
    console: list[str]
    errors: list[str]


@asynccontextmanager
async def open_page(page_url: str, *, html: str | None = None) -> AsyncIterator[Page]:
    """Starts a browser with an empty profile and opens a page; ends it with the block.

    Args:
        page_url: what to open; its origin is the origin of everything the page does.
        html: answered for exactly this URL instead of asking its server, so that a page can have any origin (`BLANK`).
    """
    executable = find_browser()
    assert executable is not None, "ask for the fixture `browser`: it says loudly when the browser is missing"
    job = {"executable": executable, "url": page_url, "html": html}
    async with start_node(DRIVER, json.dumps(job)) as process:
        page = Page(process)
        await page.ready()
        yield page
        await process.finish(timeout_s=30)


async def run_in_browser(
    page_url: str, script_text: str, *, timeout_s: float = 30, html: str | None = None
) -> BrowserResult:
    """Opens a page, runs the body of an async function in it and returns what it returned and reported."""
    async with open_page(page_url, html=html) as page:
        value = await page.evaluate(script_text, timeout_s=timeout_s)
        return BrowserResult(value, page.reports, page.console, page.errors)
