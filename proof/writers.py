"""Writers: each changes records of its own, alone and in batches, and knows what the server acknowledged."""

import asyncio
import json
import random
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from proof.livelist import Difference
from proof.people import Login, Unanswered
from proof.world import ROOMS

MOST = 40
"""Records of one writer in one collection; above it deletes more than it creates."""
WORDS = ("apple", "bean", "cherry", "date", "elder", "fig")


class Gate:
    """Lets writers pass, or makes them wait until the checkpoint is over."""

    def __init__(self) -> None:
        self._open = asyncio.Event()
        self._open.set()
        self._inside = 0
        self._empty = asyncio.Event()
        self._empty.set()

    async def __aenter__(self) -> None:
        await self._open.wait()
        self._inside += 1
        self._empty.clear()

    async def __aexit__(self, *error: object) -> None:
        self._inside -= 1
        if not self._inside:
            self._empty.set()

    async def close(self) -> None:
        """Nobody passes any more, and nobody is inside."""
        self._open.clear()
        await self._empty.wait()

    def open(self) -> None:
        self._open.set()


class Writer:
    """Writes as one user, as fast as `pause_s` allows.

    Attributes:
        known: collection -> id -> the title that was acknowledged.
        unsure: ids whose last write was not answered; left alone until the truth is known (`settle`).
    """

    def __init__(self, login: Login, gate: Gate, *, chance: random.Random, pause_s: float) -> None:
        self.login = login
        self.counts: Counter[str] = Counter()
        self.known: dict[str, dict[str, str]] = {"tasks": {}, "notes": {}}
        self.unsure: dict[str, set[str]] = {"tasks": set(), "notes": set()}
        self.may_write = True
        self._gate = gate
        self._chance = chance
        self._pause_s = pause_s

    async def run(self) -> None:
        """For ever."""
        while True:
            await asyncio.sleep(self._pause_s * self._chance.expovariate(1.0))
            async with self._gate:
                await self._write()

    async def _write(self) -> None:
        collection = self._chance.choice(("tasks", "tasks", "notes"))
        mine = list(self.known[collection])
        kinds = ["delete"] * 3 if len(mine) > MOST else ["create", "create", "update"] if len(mine) < 5 else []
        kind = self._chance.choice(kinds or ["create", "update", "update", "delete"])
        count = self._chance.choice((1, 1, 1, 2, 5, 12))
        chosen = self._chance.sample(mine, min(count, len(mine))) if kind != "create" else []
        if kind == "create":
            await self._create(collection, [self._record(collection) for _ in range(count)])
        elif kind == "update" and chosen:
            await self._update(collection, {one: self._record(collection, partly=True) for one in chosen})
        elif chosen:
            await self._delete(collection, chosen)

    def _record(self, collection: str, *, partly: bool = False) -> dict[str, Any]:
        chance = self._chance
        title = f"{chance.choice(WORDS)} {chance.randrange(10**9)}"
        fields: dict[str, Any] = {
            "title": title,
            "points": chance.choice((chance.randrange(100), chance.random() * 100)),
        }
        if collection == "tasks":
            fields["done"] = chance.random() < 0.5
            fields["room"] = chance.choice((*ROOMS, None))
            fields["members"] = [self.login.person.id] if chance.random() < 0.4 else ["somebody", {"ü": [1, 2.5, None]}]
        else:
            tasks = list(self.known["tasks"])
            fields["task"] = chance.choice(tasks) if tasks and chance.random() < 0.7 else None
        if partly:
            return {"title": title, **{name: fields[name] for name in fields if chance.random() < 0.5}}
        return {"id": str(uuid.UUID(int=chance.getrandbits(128), version=4)), **fields}

    # The writes ------------------------------------------------------------------------------------------------------

    async def _create(self, collection: str, records: Sequence[Mapping[str, Any]]) -> None:
        ids = [record["id"] for record in records]
        path, body = f"/records/{collection}", dict(records[0])
        if len(records) > 1:
            path, body = f"{path}/batch", {"records": list(records)}
        if await self._send("POST", path, collection, ids, body):
            self.known[collection].update({record["id"]: record["title"] for record in records})

    async def _update(self, collection: str, changes: Mapping[str, Mapping[str, Any]]) -> None:
        ids = list(changes)
        path, body = f"/records/{collection}/{ids[0]}", dict(changes[ids[0]])
        if len(ids) > 1:
            path = f"/records/{collection}/batch"
            body = {"records": [{"id": one, "data": data} for one, data in changes.items()]}
        if await self._send("PATCH", path, collection, ids, body):
            self.known[collection].update({one: data["title"] for one, data in changes.items()})

    async def _delete(self, collection: str, ids: Sequence[str]) -> None:
        path, body = f"/records/{collection}/{ids[0]}", None
        if len(ids) > 1:
            path, body = f"/records/{collection}/batch", {"ids": list(ids)}
        # What else goes with it is known only to the server.
        if collection == "tasks":
            self.unsure["notes"] |= self.known["notes"].keys()
            self.known["notes"].clear()
        if await self._send("DELETE", path, collection, ids, body):
            for one in ids:
                self.known[collection].pop(one, None)

    async def _send(
        self, method: str, path: str, collection: str, ids: Sequence[str], body: Mapping[str, Any] | None
    ) -> bool:
        """Whether it was acknowledged; records of a write without an answer become unsure."""
        what = f"{method} {'batch' if path.endswith('batch') else 'one'}"
        try:
            answer = await self.login.once(
                method, path, content=json.dumps(body) if body is not None else None, headers={"content-type": JSON}
            )
        except Unanswered:
            self.counts["writes without an answer"] += 1
            self._forget(collection, ids)
            return False
        if answer.is_success:
            self.counts[what] += 1
            return True
        self.counts[f"{what} refused {answer.status_code}"] += 1
        # A task may have gone with its own cascade, or a reference lead to one that is no more: a fair answer.
        if answer.status_code not in (401, 404, 409, 422):
            raise AssertionError(f"{method} {path}: {answer.status_code} {answer.text}")
        self._forget(collection, ids)
        return False

    def _forget(self, collection: str, ids: Sequence[str]) -> None:
        for one in ids:
            self.known[collection].pop(one, None)
        self.unsure[collection].update(ids)

    # Against the truth -----------------------------------------------------------------------------------------------

    def settle(self, collection: str, truth: Mapping[str, Mapping[str, Any]]) -> int:
        """Compare what was acknowledged with all records of the account; how many. Raises Difference.

        What was unsure is known afterwards.
        """
        for record_id, title in self.known[collection].items():
            if record_id not in truth:
                raise Difference(
                    f"{self.login.person.name} wrote {collection}/{record_id}, acknowledged: it is missing"
                )
            if truth[record_id]["title"] != title:
                found = truth[record_id]["title"]
                raise Difference(f"{collection}/{record_id}: {title!r} was acknowledged, the server has {found!r}")
        for record_id in self.unsure[collection]:
            if record_id in truth:
                self.known[collection][record_id] = truth[record_id]["title"]
        self.unsure[collection].clear()
        return len(self.known[collection])


JSON = "application/json"
