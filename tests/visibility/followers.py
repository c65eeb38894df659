"""Clients that hold lists, as a live query does: they apply what comes, ask again after `resync`, and come back.

They are strict: an update or a delete of what is not held, or a create of what is, is a fault. `raw` keeps every byte.
"""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.e2e.support import API, House, Messages, Socket, Stream, place
from tests.unit.rules.reference import Tree
from tests.visibility.scene import Person, Record

PATIENCE_S = 20.0


class Fault(AssertionError):
    """A client holds, or was told, what it should not."""


@dataclass(eq=False)
class Sub:
    """One list. `state`: new, catching up, live, stale (told to ask again), asked, refused, or gone with its
    collection."""

    collection: str
    name: str
    text: str
    tree: Tree
    fields: tuple[str, ...] | None
    records: dict[str, Record] = field(default_factory=dict)
    cursor: str | None = None
    state: str = "new"
    incoming: dict[str, Record] | None = None

    def request(self) -> dict[str, Any]:
        asked: dict[str, Any] = {"collection": self.collection, "id": self.name}
        if self.text:
            asked["filter"] = self.text
        if self.fields is not None:
            asked["fields"] = list(self.fields)
        return asked | ({"since": self.cursor} if self.cursor else {"snapshot": {"limit": 3}})

    def forget(self, state: str) -> None:
        self.state, self.cursor, self.incoming = state, None, None
        self.records.clear()


class Follower:
    """One connection with its lists, over one of the transports.

    Attributes:
        ended: the word the server ended it with; None = it is open or the client left.
        at: the place of the newest heartbeat.
    """

    def __init__(self, house: House, person: Person, transport: str, subs: list[Sub]) -> None:
        self.house = house
        self.person = person
        self.transport = transport
        self.subs = {sub.name: sub for sub in subs}
        self.ended: str | None = None
        self.left = True
        self.raw = bytearray()
        self.at: tuple[int, int] = (0, 0)
        self.messages: Messages | None = None
        self.story: list[str] = []
        self._reading: asyncio.Task[None] | None = None
        self._news = asyncio.Event()

    async def join(self) -> None:
        """Connect, and ask for every list: from its cursor, or whole."""
        self.ended, self.left, self.at = None, False, (0, 0)
        asked = [sub for sub in self.subs.values() if sub.state != "refused" and sub.state != "gone"]
        member: Any = self.person
        self.story.append(f"join with {[(sub.name, bool(sub.cursor)) for sub in asked]}")
        if self.transport == "sse":
            query = [("subscription", json.dumps(sub.request())) for sub in asked]
            response = await self.house._stream(member, query, None)
            if response.status_code != 200:
                body = json.loads(await response.aread())
                await response.aclose()
                await self._refused_stream(str(body["code"]), asked)
                return
            self.messages = Stream(response)
        else:
            try:
                self.messages = await self.house.socket(member, max_queue=None)
            except Exception as error:
                raise Fault(f"{self}: {error}") from None
            for sub in asked:
                await self._ask(sub)
        self._reading = asyncio.create_task(self._read(self.messages))

    async def _refused_stream(self, code: str, asked: list[Sub]) -> None:
        """A stream is refused whole; so each list is tried alone, to learn which one it was."""
        if len(asked) == 1:
            asked[0].forget("gone" if code == "collection_not_found" else "refused")
            self.left = True
            return
        for sub in asked:
            member: Any = self.person
            response = await self.house._stream(member, [("subscription", json.dumps(sub.request()))], None)
            if response.status_code != 200:
                code = str(json.loads(await response.aread())["code"])
                sub.forget("gone" if code == "collection_not_found" else "refused")
            await response.aclose()
        await self.join()

    async def _ask(self, sub: Sub) -> None:
        assert isinstance(self.messages, Socket)
        self.story.append(f"ask {sub.name} {'since' if sub.cursor else 'snapshot'}")
        await self.messages.send({"action": "subscribe", **sub.request()})

    async def leave(self) -> None:
        """The client goes; its lists and cursors stay."""
        self.left = True
        self.story.append("leave")
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
            self._reading = None
        if isinstance(self.messages, Socket):
            self.messages.connection.transport.abort()
        elif self.messages is not None:
            await self.messages.response.aclose()  # type: ignore[attr-defined]  # a Stream
        for sub in self.subs.values():
            if sub.cursor is None and sub.state not in ("refused", "gone"):
                # Half a snapshot is no list.
                sub.forget("new")
        self._keep()

    def _keep(self) -> None:
        if self.messages is not None:
            self.raw += self.messages.raw
            self.messages = None

    async def _read(self, messages: Messages) -> None:
        try:
            while True:
                self._take(await messages.next(beats=True))
                self._news.set()
        except EOFError:
            self.left = True
            self._keep()
            self._news.set()

    # What the server says --------------------------------------------------------------------------------------------

    def _take(self, message: dict[str, Any]) -> None:
        kind = str(message["type"])
        if kind != "heartbeat":
            self.story.append(json.dumps(message)[:300])
        if kind == "heartbeat":
            self._beat(str(message["position"]))
        elif "close_code" in message:
            self.ended = str(message["code"])
        elif "." in kind:
            self._event(kind.partition(".")[2], message)
        elif kind in ("snapshot", "caught_up", "resync", "unsubscribed", "error", "subscribed"):
            name = message.get("subscription") or message.get("id")
            sub = self.subs.get(str(name))
            if sub is None:
                raise Fault(f"{self}: a message about no subscription: {message}")
            self._about(sub, kind, message)

    def _beat(self, position: str) -> None:
        self.at = (place(position), _version(position))
        for sub in self.subs.values():
            if sub.state == "live":
                sub.cursor = position

    def _about(self, sub: Sub, kind: str, message: dict[str, Any]) -> None:
        if kind == "snapshot":
            sub.incoming = {} if sub.incoming is None else sub.incoming
            sub.incoming.update({record["id"]: record for record in message["data"]})
            if message["complete"]:
                sub.records, sub.incoming = sub.incoming, None
                sub.state = "catching up"
        elif kind == "caught_up":
            sub.state, sub.cursor = "live", message["position"]
        elif kind == "resync":
            sub.forget("stale")
        elif kind == "unsubscribed":
            sub.forget("gone" if message["reason"] == "collection_deleted" else "refused")
        elif kind == "error":
            sub.forget("gone" if message["code"] == "collection_not_found" else "refused")
        elif sub.state == "asked":
            sub.state = "new"

    def _event(self, operation: str, message: dict[str, Any]) -> None:
        sub = self.subs[message["subscription"]]
        if sub.state in ("stale", "asked"):
            # It goes on after `resync`, but this client asks for the whole again.
            return
        if sub.state not in ("live", "catching up"):
            raise Fault(f"{self}: an event for a list that is {sub.state}: {message}")
        record: Record = message["data"]
        held = sub.records
        if (record["id"] in held) is (operation == "create"):
            raise Fault(f"{self}: {operation} of {record['id']}, while it holds {sorted(held)}: {message}")
        if operation == "delete":
            if message.get("change") == "leave" and set(record) != {"id"}:
                raise Fault(f"{self}: a record that left shows more than its id: {message}")
            del held[record["id"]]
        else:
            held[record["id"]] = record
        if "position" in message and sub.state == "live":
            sub.cursor = message["position"]

    # Being quiet -----------------------------------------------------------------------------------------------------

    async def settle(self, target: tuple[int, int], expected_end: str | None, wanted: Callable[[Sub], bool]) -> None:
        """Until everything up to a place has arrived, lists that were told to are asked again; or until it ended.

        Args:
            wanted: whether a list is served as things stand.
        """
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not self.left:
                    await self._tend(wanted)
                    if expected_end is None and self._quiet(target):
                        return
                    self._news.clear()
                    if self._reading is not None and self._reading.done():
                        self._reading.result()
                    if not self.left:
                        waiting = asyncio.ensure_future(self._news.wait())
                        await asyncio.wait(
                            [waiting, *([self._reading] if self._reading else [])], return_when=asyncio.FIRST_COMPLETED
                        )
                        waiting.cancel()
        except TimeoutError:
            states = {sub.name: sub.state for sub in self.subs.values()}
            raise Fault(f"{self}: not quiet at {self.at}, wanted {target}, end {expected_end}; {states}") from None
        if self._reading is not None and self._reading.done():
            self._reading.result()

    async def _tend(self, wanted: Callable[[Sub], bool]) -> None:
        stale = [sub for sub in self.subs.values() if sub.state == "stale"]
        again = [sub for sub in self.subs.values() if sub.state in ("refused", "gone") and wanted(sub)]
        if not stale and not again:
            return
        for sub in (*stale, *again):
            sub.forget("new" if self.transport == "sse" else "asked")
        if self.transport == "sse":
            await self.leave()
            await self.join()
        else:
            for sub in (*stale, *again):
                await self._ask(sub)

    def _quiet(self, target: tuple[int, int]) -> bool:
        reached = self.at[0] >= target[0] and self.at[1] >= target[1]
        return reached and all(sub.state in ("live", "refused", "gone") for sub in self.subs.values())

    def __str__(self) -> str:
        return f"{self.person.name} over {self.transport}"


class Poller(Follower):
    """Asks for changes now and then; what a position cannot tell any more is listed anew."""

    async def join(self) -> None:
        self.left = False

    async def leave(self) -> None:
        self.left = True

    async def settle(self, target: tuple[int, int], expected_end: str | None, wanted: Callable[[Sub], bool]) -> None:
        for sub in self.subs.values():
            if expected_end is None:
                if sub.state not in ("refused", "gone") or wanted(sub):
                    await self._poll(sub)
            else:
                answer = await self._get("/realtime/changes", {"collection": sub.collection, "since": sub.cursor or ""})
                if answer.status_code != 401:
                    raise Fault(f"{self}: {answer.status_code} for somebody who is gone: {answer.text}")
                self.ended, self.left = str(answer.json()["code"]), True
                sub.forget("new")

    async def _poll(self, sub: Sub) -> None:
        more = True
        while more:
            if sub.cursor is None and not await self._list(sub):
                return
            answer = await self._get("/realtime/changes", self._query(sub) | {"since": sub.cursor or "", "limit": "3"})
            if answer.status_code == 410:
                sub.forget("new")
                continue
            if answer.status_code != 200:
                sub.forget("gone" if answer.json()["code"] == "collection_not_found" else "refused")
                return
            told = answer.json()
            sub.state = "catching up"
            for event in told["events"]:
                self._event(str(event["type"]).partition(".")[2], {**event, "subscription": sub.name})
            sub.state, sub.cursor, more = "live", told["position"], told["has_more"]

    async def _list(self, sub: Sub) -> bool:
        """Read the whole list, page by page. While nothing is written the pages are of one moment."""
        found: dict[str, Record] = {}
        while True:
            page = await self._get(
                f"/records/{sub.collection}",
                self._query(sub, drop="collection") | {"limit": "5", "skip": str(len(found))},
            )
            if page.status_code != 200:
                sub.forget("gone" if page.json()["code"] == "collection_not_found" else "refused")
                return False
            body = page.json()
            found |= {record["id"]: record for record in body["items"]}
            if len(found) >= body["total"]:
                sub.records, sub.cursor = found, body["position"]
                return True

    def _query(self, sub: Sub, *, drop: str = "") -> dict[str, str]:
        query = {"collection": sub.collection, "filter": sub.text, "fields": ",".join(sub.fields or ())}
        return {name: value for name, value in query.items() if value and name != drop}

    async def _get(self, path: str, query: dict[str, str]) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.person.token}"}
        answer = await self.house.client.get(f"{API}{path}", params=query, headers=headers)
        self.raw += answer.content
        self.story.append(f"{path} {query}: {answer.status_code} {answer.text[:300]}")
        return answer


def _version(position: str) -> int:
    return int(position.split(".")[3], 36)
