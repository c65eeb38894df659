"""Writers and resuming clients that go on through whatever happens to the server, and what has to be true afterwards.

A follower is a client as the documentation wants it: it keeps the position of the last event (or heartbeat) it has
applied, comes back with it, and forgets the beginning of a transaction that did not arrive whole.
"""

import asyncio
import contextlib
import json
import random
import uuid
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from snackbase.model import Change, Op
from snackbase.storage.base import Store
from snackbase.storage.sqlite import SQLiteStore
from tests.e2e.support import API, STREAM, House, Member, place
from tests.storage.support import whole_log

AWAY = (OSError, ConnectionClosed, InvalidHandshake, httpx.TransportError, EOFError, TimeoutError)
"""How a server that is not there, or goes away, looks to a client."""
PAUSE_S = 0.02
Told = tuple[str, str, object]
"""(operation, record id, `n`): what a follower remembers of an event, and the log of a row."""


class Writer:
    """Creates, updates, deletes and writes batches, one after the other; remembers what was acknowledged.

    Attributes:
        acknowledged: (operation, id, n) -> number in the log. failed: requests that got no answer, or 503.
    """

    def __init__(self, member: Member, collection: str, seed: int, *, keep_alive: bool = True) -> None:
        self.member = member
        self.collection = collection
        self.acknowledged: dict[Told, int] = {}
        self.failed: list[str] = []
        self.enough = False
        self._chance = random.Random(seed)
        self._mine: list[str] = []
        self._number = 0
        self._headers = {} if keep_alive else {"connection": "close"}

    async def run(self) -> None:
        while not self.enough:
            try:
                await self._write()
            except AWAY as error:
                # Unknown outcome: it may be in the log or not.
                self.failed.append(f"{type(error).__name__}: {error}")
                await asyncio.sleep(PAUSE_S)

    async def _write(self) -> None:
        self._number += 1
        n = f"{id(self)}-{self._number}"
        kind = self._chance.random()
        if kind < 0.2 and self._mine:
            record_id = self._chance.choice(self._mine)
            await self._send("PATCH", f"/{record_id}", {"n": n}, [("update", record_id, n)])
        elif kind < 0.3 and self._mine:
            record_id = self._mine.pop(self._chance.randrange(len(self._mine)))
            await self._send("DELETE", f"/{record_id}", None, [("delete", record_id, None)])
        elif kind < 0.4:
            ids = [str(uuid.uuid4()) for _ in range(self._chance.randrange(2, 6))]
            body = {"records": [{"id": one, "n": n} for one in ids]}
            await self._send("POST", "/batch", body, [("create", one, n) for one in ids])
        else:
            record_id = str(uuid.uuid4())
            await self._send("POST", "", {"id": record_id, "n": n}, [("create", record_id, n)])

    async def _send(self, method: str, path: str, body: Any, done: list[Told]) -> None:
        answer = await self.member.house.client.request(
            method,
            f"{API}/records/{self.collection}{path}",
            json=body,
            headers={"authorization": f"Bearer {self.member.token}", **self._headers},
        )
        if answer.status_code == 503:
            self.failed.append(answer.text)
            await asyncio.sleep(PAUSE_S)
            return
        # 404: an update or delete of a record whose delete had an unknown outcome.
        assert answer.is_success or (answer.status_code == 404 and self.failed), answer.text
        if answer.is_success:
            last = place(answer.headers["x-snackbase-position"])
            for index, one in enumerate(done):
                self.acknowledged[one] = last - len(done) + 1 + index
            if method == "POST":
                self._mine += [record_id for _, record_id, _ in done]


class Follower:
    """A client that stays: subscribed, or on its way back.

    Attributes:
        told: every event it applied, in order. numbers: index in `told` -> its position's number, where it had one.
        resyncs: reasons. returns: how often it came back.
    """

    def __init__(self, member: Member, collection: str, *, transport: str = "websocket") -> None:
        self.member = member
        self.collection = collection
        self.told: list[Told] = []
        self.numbers: dict[int, int] = {}
        self.resyncs: list[str] = []
        self.returns = -1
        self.position: str | None = None
        self.subscribed = asyncio.Event()
        self._partial: list[Told] = []
        self._listen = self._websocket if transport == "websocket" else self._sse

    async def run(self) -> None:
        while True:
            with contextlib.suppress(*AWAY):
                await self._listen()
            self._partial.clear()
            await asyncio.sleep(PAUSE_S)

    async def _websocket(self) -> None:
        since = {"since": self.position} if self.position else {}
        url = f"{self.member.house.server.ws_url}?{urlencode({'token': self.member.token})}"
        async with connect(url, proxy=None, compression=None, ping_interval=None, max_queue=None) as socket:
            await socket.send(json.dumps({"action": "subscribe", "collection": self.collection, **since}))
            async for text in socket:
                self.hear(json.loads(text))

    async def _sse(self) -> None:
        query = {"token": self.member.token, "collection": self.collection}
        headers = {"last-event-id": self.position} if self.position else {}
        timeout = httpx.Timeout(10, read=None)
        async with self.member.house.client.stream(
            "GET", STREAM, params=query, headers=headers, timeout=timeout
        ) as answer:
            async for line in answer.aiter_lines():
                if line.startswith("data: "):
                    self.hear(json.loads(line[6:]))

    def hear(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        _, _, operation = kind.partition(".")
        if operation:
            data = message["data"]
            self._partial.append((operation, data["id"], None if operation == "delete" else data["n"]))
            if "position" in message:
                self.told += self._partial
                self._partial.clear()
                self._at(message["position"])
        elif kind == "subscribed":
            self.returns += 1
            self.position = self.position or message["position"]
            self.subscribed.set()
        elif kind == "resync":
            self.resyncs.append(message["reason"])
            self.position = message["position"]
        elif kind in ("heartbeat", "caught_up"):
            self.position = message["position"]
        else:
            assert kind == "closing", message

    def _at(self, position: str) -> None:
        self.position = position
        self.numbers[len(self.told) - 1] = place(position)

    async def reach(self, seq: int) -> None:
        """Wait until it has heard of everything up to a number."""
        async with asyncio.timeout(30):
            while self.position is None or place(self.position) < seq:  # noqa: ASYNC110 - polled so that nothing of it slows the load
                await asyncio.sleep(PAUSE_S)


class Load:
    """One account with writers and followers on one collection.

    Attributes:
        house: replace its server's address and everybody goes there.
    """

    def __init__(self, member: Member, collection: str, writers: list[Writer], followers: list[Follower]) -> None:
        self.member = member
        self.collection = collection
        self.writers = writers
        self.followers = followers
        self._following: dict[Follower, asyncio.Task[None]] = {}

    def come(self, follower: Follower) -> None:
        """Have a follower connect, with the position it has."""
        self._following[follower] = asyncio.create_task(follower.run())

    async def leave(self, follower: Follower) -> None:
        """Have a follower go away until it is told to `come`."""
        await end([self._following.pop(follower)])

    async def all_leave(self) -> None:
        for follower in tuple(self._following):
            await self.leave(follower)

    @property
    def acknowledged(self) -> dict[Told, int]:
        return {told: seq for writer in self.writers for told, seq in writer.acknowledged.items()}

    async def more(self, count: int) -> None:
        """Wait until so many more writes were acknowledged."""
        wanted = len(self.acknowledged) + count
        async with asyncio.timeout(60):
            while len(self.acknowledged) < wanted:  # noqa: ASYNC110 - as above
                await asyncio.sleep(PAUSE_S)


@asynccontextmanager
async def load(
    house: House, *, seed: int, writers: int = 4, followers: Iterable[str] = ("websocket", "websocket", "sse")
) -> AsyncIterator[Load]:
    """Run writers and followers; at the end the writers stop first."""
    member = await house.founder()
    collection = await house.collection("n")
    made = Load(
        member,
        collection,
        [Writer(member, collection, seed + number, keep_alive=number % 2 == 0) for number in range(writers)],
        [Follower(member, collection, transport=transport) for transport in followers],
    )
    for follower in made.followers:
        made.come(follower)
        await follower.subscribed.wait()
    writing = [asyncio.create_task(writer.run()) for writer in made.writers]
    try:
        yield made
        await finish(made, writing)
        head = await head_of(made)
        for follower in made.followers:
            await follower.reach(head)
    finally:
        await end(writing)
        await made.all_leave()


async def end(tasks: list[asyncio.Task[None]]) -> None:
    """Stop tasks; a writer that met a wrong answer raises here."""
    for task in tasks:
        task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(result, Exception):
            raise result


async def finish(made: Load, writing: list[asyncio.Task[None]]) -> None:
    """Let the writers come to their end: what was cut off could still be committed after the last change, elsewhere."""
    for writer in made.writers:
        writer.enough = True
    async with asyncio.timeout(60):
        await asyncio.gather(*writing)


async def head_of(made: Load) -> int:
    """The number of a last change, written for its number."""
    answer = await made.member.request("POST", f"/records/{made.collection}", json={"n": "the last one"})
    return place(answer.headers["x-snackbase-position"])


async def check(made: Load, database: Path) -> list[Change]:
    """Compare log, acknowledgements and what every follower was told, on the database of a server that stopped."""
    store = SQLiteStore(database)
    await store.open()
    try:
        assert await store.fetch("PRAGMA integrity_check") == [("ok",)]
        return await compare(made, store)
    finally:
        await store.close()


async def compare(made: Load, store: Store) -> list[Change]:
    """The same on an open store."""
    _, collections = await store.collections()
    (table,) = (one for one in collections if one.name == made.collection)
    log = await whole_log(store, made.member.account_id)
    floor = (await store.window(made.member.account_id, 0)).floor.seq
    head = await store.head(made.member.account_id)
    assert [change.seq for change in log] == list(range(floor + 1, head.seq + 1))
    rows = [change for change in log if change.collection_id == table.id]
    wanted: list[Told] = [(one.op.value, one.record_id, None if one.op is Op.DELETE else one.data["n"]) for one in rows]
    numbers = {told: change.seq for told, change in zip(wanted, rows, strict=True)}
    for told, seq in made.acknowledged.items():
        assert seq <= floor or numbers.get(told) == seq, f"acknowledged, but not there: {told} at {seq}"
    for follower in made.followers:
        assert made.acknowledged.keys() <= set(follower.told)
        # What was pruned can only be compared by its end.
        heard = follower.told[len(follower.told) - len(wanted) :] if floor else follower.told
        assert follower.resyncs == []
        assert heard == wanted, difference(heard, wanted)
        offset = len(follower.told) - len(wanted)
        for index, seq in follower.numbers.items():
            assert index < offset or rows[index - offset].seq == seq
    return rows


def difference(heard: list[Told], wanted: list[Told]) -> str:
    """Where two lists begin to differ."""
    at = next((i for i, (a, b) in enumerate(zip(heard, wanted, strict=False)) if a != b), min(len(heard), len(wanted)))
    return f"{len(heard)} heard, {len(wanted)} in the log; from {at}: {heard[at : at + 3]} but {wanted[at : at + 3]}"
