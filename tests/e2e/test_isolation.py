"""Two accounts, the same collection, 10,000 random writes: neither ever receives anything of the other, on any wire."""

import asyncio
import random
import re
import uuid
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.e2e.support import TRANSPORTS, House, Member, Messages

WRITES = 10_000
BATCH = 50
WRITERS = 4
"""Per account."""


@dataclass(slots=True)
class Side:
    """One account: who writes, what exists, and what only this account may ever see."""

    member: Member
    collection: str
    chance: random.Random
    alive: list[str] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)
    written: int = 0

    @property
    def mark(self) -> str:
        return f"mark-of-{self.member.account['slug']}"

    def traces_in(self, raw: bytes) -> list[str]:
        """What in these bytes comes from this account."""
        words = [self.member.account_id, self.member.id, self.member.email, self.member.account["slug"], self.mark]
        found = {one.decode() for one in re.findall(rb"[0-9a-f]{8}-[0-9a-f-]{27}", raw)}
        return [*(one for one in words if one.encode() in raw), *(found & self.ids)]

    async def write_all(self, most: int) -> None:
        while self.written < most:
            await self.write_some(min(BATCH, most - self.written))

    async def write_some(self, count: int) -> None:
        """One random write, single or in a batch; what is touched is taken out first, so that writers never collide."""
        chosen = self.chance.choice(["create", "create", "update", "delete", "single"])
        self.written += count
        if chosen == "single":
            self.written -= count - 1
            self.note([await self.member.create(self.collection, **self.fields())])
        elif chosen == "create" or len(self.alive) < count:
            self.note(await self.member.create_all(self.collection, *(self.fields() for _ in range(count))))
        else:
            taken = [self.alive.pop(self.chance.randrange(len(self.alive))) for _ in range(count)]
            if chosen == "update":
                records = [{"id": one, "data": self.fields()} for one in taken]
                await self.member.batch("PATCH", self.collection, records=records)
                self.alive += taken
            else:
                await self.member.batch("DELETE", self.collection, ids=taken)

    def note(self, made: list[dict[str, Any]]) -> None:
        self.alive += [one["id"] for one in made]
        self.ids |= {one["id"] for one in made}

    def fields(self) -> dict[str, Any]:
        return {"text": f"{self.mark} {self.chance.random()}", "number": self.chance.randrange(100)}


async def write_and_read(side: Side, listeners: list[Messages], subscriptions: int) -> None:
    """Write one side's share; read until every subscription of every listener has told of the last record."""
    last = str(uuid.uuid4())

    async def read(listener: Messages) -> None:
        left = subscriptions
        while left:
            left -= (await listener.next()).get("data", {}).get("id") == last

    async def write() -> None:
        await asyncio.gather(*(side.write_all(WRITES // 2) for _ in range(WRITERS)))
        side.note([await side.member.create(side.collection, id=last, **side.fields())])

    await asyncio.gather(write(), *(read(listener) for listener in listeners))


@pytest.mark.slow
async def test_neither_account_receives_a_byte_of_the_other_in_10_000_writes(house: House) -> None:
    collection = await house.collection("text", {"name": "number", "type": "number"})
    subscriptions: list[dict[str, Any]] = [
        {"collection": collection, "id": "plain"},
        {"collection": collection, "id": "filtered", "filter": "number >= 0 && text ~ 'mark'"},
        {"collection": "*", "id": "every"},
    ]
    seed = random.SystemRandom().randrange(2**32)
    sides = [Side(await house.founder(), collection, random.Random(f"{seed} {n}")) for n in range(2)]
    listeners = [[await house.follow(each, side.member, *subscriptions) for each in TRANSPORTS] for side in sides]
    await asyncio.gather(
        *(write_and_read(side, mine, len(subscriptions)) for side, mine in zip(sides, listeners, strict=True))
    )

    assert sum(side.written for side in sides) >= WRITES, seed
    for side, other, mine in zip(sides, reversed(sides), listeners, strict=True):
        for listener in mine:
            found = other.traces_in(bytes(listener.raw))
            assert not found, (seed, listener.transport, found[:3])
            assert side.ids <= set(side.traces_in(bytes(listener.raw))), seed
            # The other way round as well: nobody is proved innocent by hearing nothing at all.
            counts = Counter(message.get("subscription") for message in listener.all if "." in message["type"])
            assert counts == dict.fromkeys(["plain", "filtered", "every"], side.written + 1), (seed, listener.transport)


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("name", ["filter", "id of a record", "position", "account", "reference"])
async def test_no_request_reaches_into_another_account(house: House, transport: str, name: str) -> None:
    """What a curious member may try with what was learned of another account."""
    collection = await house.collection("title")
    linked = await house.collection("title", {"name": "thing", "type": "reference", "collection": collection})
    victim, curious = await house.founder(), await house.founder()
    secret = await victim.create(collection, title="secret")
    listing = (await victim.request("GET", f"/records/{collection}")).json()
    subscription: dict[str, Any] = {"collection": collection}
    if name == "filter":
        subscription["filter"] = f"account_id = '{victim.account_id}' || created_by = '{victim.id}' || title ~ 'secret'"
    elif name == "position":
        subscription["since"] = listing["position"]
    elif name == "id of a record":
        for method in ("GET", "PATCH", "PUT", "DELETE"):
            body = {"json": {"title": "mine"}} if method in ("PATCH", "PUT") else {}
            await curious.request(method, f"/records/{collection}/{secret['id']}", status=404, **body)
    elif name == "reference":
        await curious.request("POST", f"/records/{linked}", json={"title": "x", "thing": secret["id"]}, status=422)
    elif name == "account":
        named = {"x-account-id": victim.account["slug"]}
        await curious.request("GET", f"/records/{collection}", headers=named, status=403)
        theirs = {"title": "x", "account_id": victim.account_id}
        await curious.request("POST", f"/records/{collection}", json=theirs, status=422)
    listener = await house.follow(transport, curious, subscription)
    await victim.update(collection, secret["id"], title="secret still")
    await victim.delete(collection, secret["id"])
    await curious.create(collection, title="secret of my own")

    await listener.until(lambda message: message["type"] == f"{collection}.create")
    assert {m["type"] for m in listener.all} <= {"subscribed", "resync", "heartbeat", f"{collection}.create"}
    assert not [one for one in (victim.account_id, victim.id, secret["id"]) if one.encode() in listener.raw]
