"""64 concurrent writers and 50 subscribers: everybody hears every committed change once, in the order of the log.

Writes that fail in between, each for another reason, are heard by nobody and harm none of their neighbours.
"""

import asyncio
import itertools
import json
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import MakeHouse
from tests.e2e.support import House, Member, Messages, place
from tests.support.stores import rows_in

WRITERS = 64
SUBSCRIBERS = 50
TURNS = 4
"""How often each writer does each of its deeds."""

APPLICATION = """
from snackbase import SnackBase
from snackbase.hooks import HookAbort

app = SnackBase()


@app.hook.on_record_before_create()
async def refuse(data):
    if data.get("title") == "refused by the hook":
        raise HookAbort("No.", code="not_today")
"""


@pytest.fixture
async def house(make_house: MakeHouse, tmp_path: Path) -> AsyncIterator[House]:
    """A server with a hook that refuses, and room for everybody's logins."""
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "main.py").write_text(APPLICATION)
    yield await make_house(folder=folder, arguments=("serve", "main:app"))


@dataclass(slots=True)
class Work:
    """What the writers did.

    Attributes:
        heard: (operation, title) of every change that has to be told, with how often.
        positions: what the answers said about the place of each committed write.
        refused: how many failed, by the status and code of the answer.
    """

    member: Member
    collection: str
    heard: Counter[tuple[str, str]] = field(default_factory=Counter)
    positions: list[int] = field(default_factory=list)
    refused: Counter[tuple[int, str]] = field(default_factory=Counter)
    numbers: Any = field(default_factory=itertools.count)

    def title(self) -> str:
        return f"t{next(self.numbers)}"

    async def good(self, method: str, path: str, *heard: tuple[str, str], body: Any = None) -> Any:
        sent = {} if body is None else {"json": body}
        answer = await self.member.request(method, f"/records/{self.collection}{path}", **sent)
        self.heard.update(heard)
        self.positions.append(place(answer.headers["x-snackbase-position"]))
        return answer.json() if answer.content else None

    async def bad(self, status: int, code: str, method: str, path: str, *, body: Any) -> None:
        """A write that has to be refused, and that a batch takes its good neighbours down with."""
        path = f"/records/{self.collection}{path}"
        answer = await self.member.request(method, path, json=body, status=status)
        assert answer.json()["code"] == code, answer.text
        self.refused[status, code] += 1

    async def create(self) -> dict[str, Any]:
        title = self.title()
        made: dict[str, Any] = await self.good("POST", "", ("create", title), body={"title": title, "slug": title})
        return made

    async def change(self) -> None:
        made, title = await self.create(), self.title()
        path = f"/{made['id']}"
        await self.good("PATCH", path, ("update", title), body={"title": title})
        await self.good("DELETE", path, ("delete", title))

    async def batch(self) -> None:
        titles = [self.title() for _ in range(5)]
        made = (
            await self.good(
                "POST", "/batch", *(("create", one) for one in titles), body={"records": [{"title": t} for t in titles]}
            )
        )["created"]
        await self.good("DELETE", "/batch", *(("delete", t) for t in titles), body={"ids": [one["id"] for one in made]})

    async def fail(self) -> None:
        taken = (await self.create())["slug"]
        fine = {"title": "never heard of"}
        await self.bad(409, "not_unique", "POST", "", body={**fine, "slug": taken})
        await self.bad(409, "not_unique", "POST", "/batch", body={"records": [fine, {**fine, "slug": taken}]})
        await self.bad(403, "forbidden", "POST", "", body={**fine, "locked": True})
        await self.bad(403, "not_today", "POST", "", body={"title": "refused by the hook"})
        await self.bad(413, "too_large", "POST", "", body={"title": "x" * (1 << 20)})
        await self.bad(422, "validation_failed", "POST", "", body={**fine, "unheard": 1})


async def hear(listener: Messages, last: str) -> list[dict[str, Any]]:
    """The events of one subscriber, up to the record that is written last of all."""
    found = await listener.until(lambda message: message.get("data", {}).get("title") == last)
    return [message for message in found if "." in message["type"]]


async def the_log(house: House, member: Member) -> list[tuple[int, str, str]]:
    """The account's change log as the database holds it: (number, operation, title)."""
    rows = await rows_in(
        house.server.database_url,
        "SELECT seq, op, data FROM _changes WHERE account = (SELECT num FROM _accounts WHERE id = ?) "
        "AND collection_id != '' ORDER BY seq",
        member.account_id,
    )
    return [(seq, op, json.loads(data)["title"]) for seq, op, data in rows]


def assert_heard(events: list[dict[str, Any]], log: list[tuple[int, str, str]]) -> None:
    """Every change of the log once, in its order; positions grow, within a transaction only the last has one."""
    assert [(one["type"].partition(".")[2], one["data"]["title"]) for one in events] == [row[1:] for row in log]
    number_of = dict(zip((id(event) for event in events), (row[0] for row in log), strict=True))
    placed = [(place(one["position"]), number_of[id(one)]) for one in events if "position" in one]
    assert all(told == number for told, number in placed)
    assert sorted({told for told, _ in placed}) == [told for told, _ in placed]
    # A transaction of five events weighs as much as a single one: each has exactly one position.
    assert sum(1 / one.get("tx_size", 1) for one in events) == pytest.approx(len(placed))


@pytest.mark.slow
async def test_64_writers_and_50_subscribers_hear_one_and_the_same_history(house: House) -> None:
    collection = await house.collection(
        "title",
        {"name": "slug", "type": "text", "unique": True},
        {"name": "locked", "type": "boolean"},
        create_rule="@request.data.locked IS NULL || @request.data.locked = false",
    )
    me = await house.founder()
    work = Work(me, collection)
    listeners = [
        await house.follow("sse" if number % 2 else "websocket", me, collection) for number in range(SUBSCRIBERS)
    ]
    hearing = [asyncio.create_task(hear(one, "the last of all")) for one in listeners]

    async def write(number: int) -> None:
        deeds = [work.create, work.change, work.batch, work.fail]
        for turn in range(TURNS):
            await deeds[(number + turn) % len(deeds)]()

    await asyncio.gather(*(write(number) for number in range(WRITERS)))
    await work.good("POST", "", ("create", "the last of all"), body={"title": "the last of all"})
    heard = await asyncio.gather(*hearing)

    log = await the_log(house, me)
    assert [seq for seq, _, _ in log] == list(range(log[0][0], log[0][0] + len(log)))
    assert Counter((operation, title) for _, operation, title in log) == work.heard
    assert set(work.positions) <= {seq for seq, _, _ in log}
    assert work.refused == dict.fromkeys(
        [(409, "not_unique"), (403, "forbidden"), (403, "not_today"), (413, "too_large"), (422, "validation_failed")],
        WRITERS,
    ) | {(409, "not_unique"): 2 * WRITERS}
    for events in heard:
        assert_heard(events, log)
