"""`python -m bench.kills`: SIGKILL under load, the same on SnackBase and PocketBase, and what became of the writes.

Writers create one record after the other; listeners follow the collection as an event stream and come back whenever it
ends, the way each server offers: SnackBase with Last-Event-ID, PocketBase by subscribing again. The server is killed at
random moments and started again on its data. Afterwards the database, the acknowledgements and what every listener
heard are compared. Both get the same load, the same pauses and the same kills, from one seed.
"""

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import httpx
import msgspec

from bench.aftermath import Aftermath, Heard, Place, aftermath, table
from bench.doors import DOORS, Door
from bench.programs import BenchError
from bench.report import machine
from bench.servers import PocketBaseServer, Server, SnackBaseServer

BUILD = Path(__file__).resolve().parent.parent / "build" / "bench"
WRITERS, LISTENERS = 4, 3
PAUSE_S = 0.02
MOST_S = 0.8
"""Between two kills the load runs for up to so long, after everybody has come back."""
BACK_S = 60.0
QUIET_S = 2.0
"""After the last write, who hears nothing new for so long has heard everything that will come."""
AWAY = (OSError, httpx.TransportError, EOFError)
TOKEN_MINUTES = 24 * 60


class Listener:
    """A client that follows the collection and comes back whenever the stream ends."""

    def __init__(self, door: Door) -> None:
        self.heard = Heard()
        self.here = asyncio.Event()
        self._door = door
        self._last_id: str | None = None

    async def run(self) -> None:
        async with httpx.AsyncClient(verify=False, timeout=httpx.Timeout(10, read=None)) as client:  # noqa: S501
            while True:
                with suppress(*AWAY):
                    await self._listen(client)
                self.here.clear()
                await asyncio.sleep(PAUSE_S)

    async def _listen(self, client: httpx.AsyncClient) -> None:
        async with self._door.stream(client, self._last_id) as answer:
            if answer.status_code != 200:
                return
            async for block in _blocks(answer):
                if await self._door.opened(client, block):
                    self.here.set()
                self.heard.places += self._door.places(block)
                self.heard.resyncs += self._door.resynced(block)
                self._last_id = block.get("id", self._last_id)


class Writer:
    """Creates records numbered 1, 2, 3 …, each when the one before was answered.

    Attributes:
        acknowledged: number -> the kill it came before. unanswered: numbers of unknown outcome.
    """

    def __init__(self, door: Door, number: int) -> None:
        self.number = number
        self.acknowledged: dict[int, int] = {}
        self.unanswered = 0
        self.round = 0
        self.go = asyncio.Event()
        self._door = door

    async def run(self) -> None:
        number = 0
        async with httpx.AsyncClient(verify=False, timeout=10) as client:  # noqa: S501
            while True:
                await self.go.wait()
                number += 1
                try:
                    answer = await self._door.create(client, self.number, number)
                except AWAY:
                    self.unanswered += 1
                    await asyncio.sleep(PAUSE_S)
                    continue
                if answer.is_success:
                    self.acknowledged[number] = self.round
                else:
                    self.unanswered += 1
                    await asyncio.sleep(PAUSE_S)


@asynccontextmanager
async def _running(people: list[Listener] | list[Writer]) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(one.run()) for one in people]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def kills(server: Server, count: int, seed: int) -> Aftermath:
    """Kill a started server so often; raises BenchError when it or somebody else does not come back."""
    door, chance = DOORS[server.style](server), random.Random(seed)
    listeners = [Listener(door) for _ in range(LISTENERS)]
    writers = [Writer(door, number) for number in range(1, WRITERS + 1)]
    async with _running(listeners):
        await _back(listeners)
        async with _running(writers):
            for number in range(count):
                for writer in writers:
                    writer.round = number
                    writer.go.set()
                await asyncio.sleep(chance.random() * MOST_S)
                await asyncio.to_thread(server.kill)
                await asyncio.to_thread(server.again)
                await _back(listeners)
            for writer in writers:
                writer.round = count
            await asyncio.sleep(MOST_S)
            for writer in writers:
                writer.go.clear()
        await _quiet(listeners)
    async with httpx.AsyncClient(verify=False, timeout=60) as client:  # noqa: S501
        stored = [place async for place in door.everything(client)]
    acknowledged: dict[Place, int] = {
        (writer.number, number): at for writer in writers for number, at in writer.acknowledged.items()
    }
    unanswered = sum(writer.unanswered for writer in writers)
    return aftermath(server.name, count, acknowledged, unanswered, stored, [one.heard for one in listeners])


async def _back(listeners: list[Listener]) -> None:
    try:
        async with asyncio.timeout(BACK_S):
            for listener in listeners:
                await listener.here.wait()
    except TimeoutError:
        raise BenchError(f"a listener did not come back within {BACK_S:g} s") from None


async def _quiet(listeners: list[Listener]) -> None:
    before = -1
    while (now := sum(len(one.heard.places) for one in listeners)) != before:
        before = now
        await asyncio.sleep(QUIET_S)


async def _blocks(answer: httpx.Response) -> AsyncIterator[dict[str, str]]:
    """The blocks of an event stream as their fields."""
    rest = b""
    async for chunk in answer.aiter_raw():
        *blocks, rest = (rest + chunk).split(b"\n\n")
        for block in blocks:
            pairs = (line.partition(":") for line in block.decode().split("\n"))
            yield {name: value.removeprefix(" ") for name, _, value in pairs if name}


def main(words: list[str]) -> int:
    """Returns the exit code: 1 when SnackBase was not as it should be."""
    parser = argparse.ArgumentParser(prog="python -m bench.kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="of each server (default 200)")
    parser.add_argument("--only", choices=("snackbase", "pocketbase"), help="one server alone")
    parser.add_argument("--seed", type=int, default=20261124)
    parser.add_argument("--output", type=Path, default=BUILD / "kills.json", help="the results file")
    chosen = parser.parse_args(words)
    servers: list[Server] = [SnackBaseServer("FULL", ACCESS_TOKEN_EXPIRE_MINUTES=TOKEN_MINUTES), PocketBaseServer()]
    found = []
    BUILD.mkdir(parents=True, exist_ok=True)
    try:
        for server in servers:
            if chosen.only in (None, server.style):
                found.append(_one(server, chosen.kills, chosen.seed))
    except BenchError as error:
        print(f"bench.kills: {error}", file=sys.stderr)
        return 2
    results = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine(), "servers": found}
    chosen.output.write_bytes(msgspec.json.format(msgspec.json.encode(results)))
    print(f"\n{table(found)}\n\n{chosen.output}")
    return 1 if any(one.broken for one in found if one.server.startswith("SnackBase")) else 0


def _one(server: Server, count: int, seed: int) -> Aftermath:
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="data-", dir=BUILD) as folder:
        try:
            server.start(Path(folder))
            found = asyncio.run(kills(server, count, seed))
        finally:
            server.stop()
    print(f"{server.name}: {count} kills in {time.monotonic() - began:.0f} s", file=sys.stderr)
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
