"""The plumbing of the client tests: Node scripts, and pages of a real browser."""

from types import ModuleType, SimpleNamespace

import pytest

from tests.support import missing


async def test_a_script_imports_the_installed_packages_and_its_json_lines_are_read(node: ModuleType) -> None:
    result = await node.run_node(
        """
        import { WebSocketServer } from "ws";
        import { EventSource } from "eventsource";
        import * as sdk from "@snackbase/sdk";
        const types = [typeof WebSocketServer, typeof EventSource, Object.keys(sdk).length > 0];
        console.log(JSON.stringify({ types }));
        console.log("plain words");
        console.log(JSON.stringify(process.argv.slice(2)));
        """,
        "one",
        "two",
    )

    assert result.messages == [{"types": ["function", "function", True]}, ["one", "two"]]
    assert result.text == "plain words\n"


async def test_a_failing_script_fails_with_its_own_words(node: ModuleType) -> None:
    with pytest.raises(node.NodeFailed, match="the reason"):
        await node.run_node("throw new Error('the reason')")


async def test_a_script_that_never_ends_is_ended(node: ModuleType) -> None:
    async with node.start_node("console.log('1'); setInterval(() => {}, 1000)") as running:
        assert await running.next_message() == 1
        with pytest.raises(node.NodeFailed, match="did not end"):
            await running.finish(timeout_s=0.1)


async def test_a_running_script_is_spoken_with_line_by_line(node: ModuleType) -> None:
    source = """
        import { createInterface } from "node:readline";
        for await (const line of createInterface({ input: process.stdin })) {
          console.log(JSON.stringify({ heard: JSON.parse(line) }));
        }
        """
    async with node.start_node(source) as running:
        await running.send({"number": 1})
        assert await running.next_message() == {"heard": {"number": 1}}
        await running.send([2])
        assert await running.next_message() == {"heard": [2]}
        assert (await running.finish()).exit_code == 0
        with pytest.raises(node.NodeFailed, match="ended"):
            await running.next_message()


async def test_a_page_of_any_origin_runs_a_script_and_reports(browser: ModuleType) -> None:
    result = await browser.run_in_browser(
        "http://localhost:5173/app",
        "report({ origin: location.origin }); console.warn('careful'); await report(2); return [typeof WebSocket, 3];",
        html=browser.BLANK,
    )

    assert result.value == ["function", 3]
    assert result.reports == [{"origin": "http://localhost:5173"}, 2]
    assert "warning: careful" in result.console


async def test_a_page_that_throws_fails_with_its_words_and_goes_on(browser: ModuleType) -> None:
    async with browser.open_page("http://localhost:5173/", html=browser.BLANK) as page:
        with pytest.raises(browser.PageFailed, match="broken on purpose"):
            await page.evaluate("throw new Error('broken on purpose')")
        await page.evaluate("setTimeout(() => report('later'), 20)")
        assert await page.next_report() == "later"
        assert await page.evaluate("window.kept = 1; return window.kept + 1") == 2


def test_tests_left_out_for_a_missing_program_are_named_at_the_end() -> None:
    words = missing.reason("Node.js", "install it")
    reports = [
        SimpleNamespace(nodeid="tests/b.py::two", longrepr=("b.py", 1, f"Skipped: {words}")),
        SimpleNamespace(nodeid="tests/a.py::one", longrepr=("a.py", 1, f"Skipped: {words}")),
        SimpleNamespace(nodeid="tests/a.py::other", longrepr=("a.py", 1, "Skipped: only on another system")),
    ]

    assert missing.blocks(reports) == [
        "2 tests NOT RUN, Node.js is missing: install it\n    tests/a.py::one\n    tests/b.py::two"
    ]
