"""A hub over a real store, with clients whose transport remembers what was written."""

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import msgspec

from snackbase.auth import Claims
from snackbase.bus.base import NoBus
from snackbase.catalog import Catalog
from snackbase.config import Settings
from snackbase.errors import Closing, Unauthorized
from snackbase.hooks import Hooks
from snackbase.hub import Connection, Hub, Opening
from snackbase.metrics import Counters
from snackbase.model import Collection, Field, Principal, Rules
from snackbase.realtime.link import Wire
from snackbase.realtime.position import Positions
from snackbase.realtime.protocol import SubscribeRequest
from snackbase.services.reading import Snapshot
from snackbase.services.records import Records
from snackbase.storage.base import Committed, SchemaChange, Transaction, Write
from snackbase.storage.sqlite import wall_clock_us
from tests.storage import support as rows
from tests.support.stores import AnyStore, new_store

OPEN = Rules(list_rule="", view_rule="", create_rule="", update_rule="", delete_rule="")


class LineWire:
    """A message a line; a leading `id <position> ` where the resume point moves."""

    def __init__(self, name: str) -> None:
        self.name = name

    def message(self, payload: bytes) -> bytes:
        return payload + b"\n"

    def resumable(self, payload: bytes, position: bytes) -> bytes:
        return b"id " + position + b" " + payload + b"\n"


WEBSOCKET = LineWire("websocket")
SSE = LineWire("sse")


class RecordingLink:
    """A transport that keeps what is written; `stuck` bytes look as if the kernel did not take them."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.pings = False
        self.written: list[bytes] = []
        self.writes = 0
        self.closed: Closing | None = None
        self.aborted = False
        self.paused = False
        self.stuck = 0
        self.news = asyncio.Event()

    def write(self, frames: Sequence[bytes]) -> int:
        self.written.extend(frames)
        self.writes += 1
        self.news.set()
        return self.stuck

    def buffered(self) -> int:
        return self.stuck

    def ping(self) -> None: ...

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def close(self, closing: Closing) -> None:
        self.closed = closing
        self.news.set()

    def abort(self) -> None:
        self.aborted = True
        self.news.set()


class FullLink(RecordingLink):
    """One whose kernel takes nothing by itself."""

    def write(self, frames: Sequence[bytes]) -> int:
        super().write(frames)
        self.stuck += sum(map(len, frames))
        return self.stuck


class Person(msgspec.Struct, kw_only=True):
    """Who a token stands for in these tests; checked when this was made."""

    principal: Principal
    claims: Claims
    at: float = msgspec.field(default_factory=monotonic)


def person(name: str, account_id: str, *, role: str = "user", **more: Any) -> Person:
    facts = {"groups": (), "superadmin": False, **more}
    return Person(
        principal=Principal(kind="user", account_id=account_id, actor_id=name, email=f"{name}@x.y", role=role, **facts),
        claims=Claims(user_id=name, account_id=account_id, session_id=f"login of {name}", expires_at=float("inf")),
    )


class Client:
    """One connection as its user sees it."""

    def __init__(self, connection: Connection, link: RecordingLink) -> None:
        self.connection = connection
        self.link = link

    def send(self, **message: Any) -> None:
        self.connection.receive(json.dumps(message).encode())

    def lines(self) -> list[bytes]:
        return b"".join(self.link.written).splitlines()

    def messages(self, *types: str) -> list[dict[str, Any]]:
        parsed = [json.loads(line[line.index(b"{") :]) for line in self.lines()]
        return [message for message in parsed if not types or message["type"] in types]

    def events(self) -> list[dict[str, Any]]:
        return [message for message in self.messages() if "." in message["type"]]

    async def until(self, condition: Any) -> None:
        """Wait until what was written satisfies `condition`."""
        try:
            async with asyncio.timeout(10):
                while not condition():
                    self.link.news.clear()
                    await self.link.news.wait()
        except TimeoutError:
            raise AssertionError(f"still waiting; so far: {[m['type'] for m in self.messages()]}") from None

    async def until_types(self, *types: str) -> None:
        await self.until(lambda: [m["type"] for m in self.messages()][-len(types) :] == list(types))


class Gate:
    """Holds whoever comes by while it is shut; `met` is set as soon as somebody waits."""

    def __init__(self) -> None:
        self.met = asyncio.Event()
        self._open = asyncio.Event()
        self._open.set()

    def shut(self) -> None:
        self._open.clear()

    def open(self) -> None:
        self._open.set()

    async def passed(self) -> None:
        if not self._open.is_set():
            self.met.set()
        await self._open.wait()


class House:
    """A store, a catalog and a hub, wired as the application wires them."""

    def __init__(self, store: AnyStore, settings: Settings, tasks: asyncio.TaskGroup) -> None:
        self.store = store
        self.catalog = Catalog()
        self.hooks = Hooks()
        self.counters = Counters()
        self.positions = Positions(store.epoch)
        self.people: dict[str, Person] = {}
        self.reloaded, self.read = Gate(), Gate()
        self.records = Records(
            store,
            self.catalog,
            self.hooks,
            self.positions,
            later=lambda work, size=0: None,
            new_id=rows.new_id,
            now_us=wall_clock_us,
        )
        self.tasks: set[asyncio.Task[Any]] = set()

        def spawn(work: Coroutine[Any, Any, Any], *, name: str) -> None:
            task = tasks.create_task(work, name=name)
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

        self.hub = Hub(
            store=store,
            catalog=self.catalog,
            hooks=self.hooks,
            positions=self.positions,
            settings=settings,
            counters=self.counters,
            authenticate=self.authenticate,
            reload=self.reload,
            snapshot=self.snapshot,
            bus=NoBus(),
            spawn=spawn,
            later=lambda work, size=0: spawn(work(), name="after-hooks"),
        )
        store.on_commit = self.hub.deliver
        store.on_schema = self._schema_changed
        self._told = asyncio.Event()
        self.hub.start()

    def _schema_changed(self, version: int, collections: tuple[Collection, ...]) -> None:
        self.hub.schema_changed(version, collections)
        self._told.set()

    async def authenticate(self, token: str, account: str | None) -> Person:
        if token not in self.people:
            raise Unauthorized("The token is not valid.", code="token_invalid")
        return self.people[token]

    async def reload(self, claims: Claims, account_id: str) -> Principal:
        if claims.user_id not in self.people:
            raise Unauthorized("The user is disabled.", code="user_disabled")
        principal = self.people[claims.user_id].principal
        await self.reloaded.passed()
        return principal

    async def snapshot(self, principal: Principal, request: SubscribeRequest, sort: str, most: int) -> Snapshot:
        found = await self.records.snapshot(principal, request, sort, most)
        await self.read.passed()
        return found

    async def account(self, slug: str) -> str:
        return await rows.account(self.store, slug)

    async def collection(self, name: str, *fields: Field, **more: Any) -> Collection:
        return await self._known(await rows.collection(self.store, name, *fields, **more))

    async def alter(self, before: Collection, **changes: Any) -> Collection:
        return await self._known(await rows.altered(self.store, before, **changes))

    async def _known(self, collection: Collection) -> Collection:
        """Wait until the catalog has it too: the store tells it in a later turn of the loop."""
        while self.catalog.version < collection.version:
            self._told.clear()
            await self._told.wait()
        return collection

    async def drop(self, collection: Collection) -> None:
        await self.store.alter(SchemaChange(before=collection, after=None))

    async def write(self, account_id: str, *writes: Write, **more: Any) -> Committed:
        return await self.store.write(Transaction(account_id=account_id, writes=writes, **more))

    async def client(self, who: Person | None, *, wire: Wire = WEBSOCKET, **more: Any) -> Client:
        if who is not None and who.claims.user_id not in self.people:
            self.people[who.claims.user_id] = who
        opening = Opening(wire=wire, address="127.0.0.1", authenticated=who, **more)
        connection = await self.hub.open(opening)
        link = RecordingLink(wire)
        connection.attach(link)
        return Client(connection, link)


@asynccontextmanager
async def house(folder: Path, **settings: Any) -> AsyncIterator[House]:
    store = new_store(folder / "snackbase.db", synchronous="OFF")
    await store.open()
    try:
        async with asyncio.TaskGroup() as tasks:
            made = House(store, Settings(**settings), tasks)
            try:
                yield made
            finally:
                for task in made.tasks.copy():
                    task.cancel()
    finally:
        await store.close()
