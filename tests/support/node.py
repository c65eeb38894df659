"""Runs ES modules with Node beside the installed npm packages of `tests/js`, and reads the JSON lines they print."""

import asyncio
import contextlib
import json
import os
import shutil
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

JS = Path(__file__).resolve().parent.parent / "js"
MODULES = JS / "node_modules"
# One JSON line may be a whole snapshot; asyncio's own limit of 64 KiB would end the reading.
LINE_BYTES = 32 * 1024 * 1024
OLDEST = 20


class NodeFailed(AssertionError):
    """The script ended with an error or not in time; the text holds everything it printed."""


@dataclass(frozen=True, slots=True)
class NodeResult:
    """What a finished script printed: `messages` are its JSON lines, `text` its other lines, `errors` its stderr."""

    exit_code: int
    messages: list[Any]
    text: str
    errors: str


def find_node() -> str | None:
    """The Node program, or None where Node, or the packages that `npm ci` installs, are not here."""
    node = shutil.which("node")
    return node if node and MODULES.is_dir() else None


class NodeProcess:
    """A running script: `next_message` reads its next JSON line, `send` writes it one."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.messages: list[Any] = []
        self._process = process
        self._text: list[str] = []
        self._errors: list[str] = []
        self._arrived: asyncio.Queue[Any] = asyncio.Queue()
        self._readers = [asyncio.create_task(self._read_messages()), asyncio.create_task(self._read_errors())]

    @property
    def printed(self) -> str:
        """Everything that was printed so far and is no JSON, for messages of failure."""
        return "".join([*self._text, *self._errors])

    async def next_message(self, *, timeout_s: float = 30) -> Any:
        """The next JSON line. Raises NodeFailed when the script ends or says nothing more in time."""
        waiting = asyncio.create_task(self._arrived.get())
        try:
            await asyncio.wait({waiting, self._readers[0]}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if waiting.done():
                return waiting.result()
            if not self._arrived.empty():
                return self._arrived.get_nowait()
        finally:
            waiting.cancel()
        what = "ended" if self._readers[0].done() else f"printed nothing for {timeout_s} s"
        raise NodeFailed(f"The script {what} after {len(self.messages)} messages: {self.messages[-5:]}\n{self.printed}")

    async def send(self, message: object) -> None:
        """Writes one JSON line to the script's standard input."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message).encode() + b"\n")
        await self._process.stdin.drain()

    async def finish(self, *, timeout_s: float = 30) -> NodeResult:
        """Closes the script's input and waits for its end. Raises NodeFailed when it does not end in time."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        _, late = await asyncio.wait(self._readers, timeout=timeout_s)
        if late:
            await self.close()
            raise NodeFailed(f"The script did not end within {timeout_s} s: {self.messages[-5:]}\n{self.printed}")
        code = await self._process.wait()
        return NodeResult(code, self.messages, "".join(self._text), "".join(self._errors))

    async def close(self) -> None:
        """Ends the script at once, whatever it is doing."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
        await self._process.wait()
        await asyncio.gather(*self._readers)
        if self._process.stdin is not None:
            self._process.stdin.close()
            with contextlib.suppress(OSError):
                await self._process.stdin.wait_closed()

    async def _read_messages(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            try:
                message = json.loads(line)
            except ValueError:
                self._text.append(line.decode(errors="replace"))
            else:
                self.messages.append(message)
                self._arrived.put_nowait(message)

    async def _read_errors(self) -> None:
        assert self._process.stderr is not None
        async for line in self._process.stderr:
            self._errors.append(line.decode(errors="replace"))


@asynccontextmanager
async def start_node(
    script: Path | str, *args: str, env: Mapping[str, str] | None = None
) -> AsyncIterator[NodeProcess]:
    """Starts a script and ends it with the block.

    Args:
        script: a file, or (as text) the source of an ES module; either way its imports resolve in `tests/js`.
        args: its command-line arguments.
        env: variables added to this process's own.
    """
    node = find_node()
    assert node is not None, "ask for the fixture `node`: it says loudly when Node is missing"
    with _as_file(script) as file:
        process = await asyncio.create_subprocess_exec(
            node,
            str(file),
            *args,
            cwd=JS,
            env={**os.environ, "PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD": "1", **(env or {})},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=LINE_BYTES,
        )
        running = NodeProcess(process)
        try:
            yield running
        finally:
            await running.close()


async def run_node(
    script: Path | str,
    *args: str,
    env: Mapping[str, str] | None = None,
    timeout_s: float = 60,
    check: bool = True,
) -> NodeResult:
    """Runs a script to its end (see `start_node`). Raises NodeFailed when it is late or, with `check`, fails."""
    async with start_node(script, *args, env=env) as running:
        result = await running.finish(timeout_s=timeout_s)
    if check and result.exit_code != 0:
        raise NodeFailed(f"exit code {result.exit_code}\n{result.text}{result.errors}\n{result.messages[-5:]}")
    return result


@contextmanager
def _as_file(script: Path | str) -> Iterator[Path]:
    if isinstance(script, Path) and script.resolve().is_relative_to(JS):
        yield script.resolve()
        return
    source = script.read_text() if isinstance(script, Path) else script
    # Node resolves imports from a file's own place, so a script from elsewhere is laid beside the packages.
    folder = MODULES / ".scripts"
    folder.mkdir(exist_ok=True)
    file = folder / f"{uuid.uuid4().hex}.mjs"
    file.write_text(source)
    try:
        yield file
    finally:
        file.unlink(missing_ok=True)
