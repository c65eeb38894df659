"""The worker example: one invoice for each order, however often it is killed and whatever the server does meanwhile."""

import asyncio
import os
import random
import sqlite3
import sys
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import MakeHouse
from tests.e2e.support import House, Member, remember
from tests.support.server import ROOT

PATIENCE_S = 60.0
ORDERS: dict[str, Any] = {"name": "amount", "type": "number"}


class Worker:
    """The worker as its own process, with its own file; started and killed as often as the test likes."""

    def __init__(self, house: House, folder: Path, **credentials: str) -> None:
        self.file = folder / "worker.db"
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("SNACKBASE_", "WORKER_"))}
        self._environment = {
            **clean,
            "PYTHONPATH": str(ROOT),
            "WORKER_SERVER": house.server.base_url,
            "WORKER_DATABASE": str(self.file),
            **{f"WORKER_{name.upper()}": value for name, value in credentials.items()},
        }
        self._process: Process | None = None
        self.said: list[str] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Worker"]:
        """Until the end of the block, which it does not see coming."""
        command = (sys.executable, "-m", "examples.worker")
        self._process = process = await asyncio.create_subprocess_exec(
            *command, env=self._environment, stdout=PIPE, stderr=STDOUT
        )
        try:
            yield self
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            rest, _ = await process.communicate()
            self.said += rest.decode().splitlines()

    async def line(self) -> str:
        """The next thing it says; empty when it has ended."""
        assert self._process is not None
        assert self._process.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            line = (await self._process.stdout.readline()).decode().strip()
        self.said.append(line)
        return line

    async def says(self, beginning: str) -> str:
        while not (line := await self.line()).startswith(beginning):
            assert line, f"it ended: {self.said}"
        return line

    async def exit_code(self) -> int:
        assert self._process is not None
        async with asyncio.timeout(PATIENCE_S):
            return await self._process.wait()

    def invoices(self) -> list[tuple[int, str]]:
        with sqlite3.connect(self.file) as db:
            return list(db.execute("SELECT number, order_id FROM invoices ORDER BY number"))

    def fact(self, name: str) -> Any:
        with sqlite3.connect(self.file) as db:
            return db.execute(f"SELECT {name} FROM place").fetchone()[0]  # noqa: S608


@pytest.fixture
async def key(house: House) -> tuple[Member, str]:
    """A founder, and an API key for the worker."""
    return await with_key(house)


async def with_key(house: House) -> tuple[Member, str]:
    await house.collection(ORDERS, name="orders", missing_ok=True)
    boss = await house.founder()
    made = (await boss.request("POST", "/admin/api-keys", json={"name": "Invoices"})).json()
    return boss, remember(made["key"])


async def test_a_worker_that_is_killed_at_random_makes_one_invoice_for_each_order_in_their_order(
    house: House, key: tuple[Member, str], tmp_path: Path
) -> None:
    boss, token = key
    worker, chance = Worker(house, tmp_path, key=token), random.Random(5)
    orders: list[str] = []
    over = asyncio.Event()

    async def write() -> None:
        while not over.is_set():
            if chance.random() < 0.3:
                # Their events come as one transaction, which no position lies inside of.
                made = await boss.create_all("orders", *({"amount": number} for number in range(5)))
                orders.extend(one["id"] for one in made)
            else:
                orders.append((await boss.create("orders", amount=1))["id"])
            await asyncio.sleep(0.003)

    async with worker.running():
        # From the first event on there is a position, so nothing is looked at twice. The first order may have been
        # found by looking at the list; the second one is an event.
        for _ in range(2):
            orders.append((await boss.create("orders", amount=0))["id"])
            await worker.says("invoice")
    writing = asyncio.create_task(write())
    for _ in range(12):
        async with worker.running():
            for _ in range(chance.randrange(1, 25)):
                await worker.says("invoice")
    over.set()
    await writing
    async with worker.running():
        while len(worker.invoices()) < len(orders):
            await worker.line()

    assert worker.invoices() == list(enumerate(orders, start=1))
    # The first one was there already when it looked at the list, or came as an event.
    assert worker.fact("handled") in (len(orders), len(orders) - 1)
    assert not [line for line in worker.said if "Error" in line or "resync" in line]


async def test_a_worker_comes_back_to_a_server_that_was_away(make_house: MakeHouse, tmp_path: Path) -> None:
    house = await make_house()
    boss, token = await with_key(house)
    worker = Worker(house, tmp_path, key=token)
    orders = [(await boss.create("orders", amount=number))["id"] for number in range(3)]
    async with worker.running():
        await worker.says("invoice 3")
        await house.server.stop()
        await worker.says("again in")
        await house.server.start()
        orders.append((await boss.create("orders", amount=9))["id"])
        await worker.says("invoice 4")

    assert worker.invoices() == list(enumerate(orders, start=1))


async def still_there(boss: Member, place: dict[str, str]) -> bool:
    """Whether the change log still reaches back to a place."""
    bearer = {"authorization": f"Bearer {boss.token}"}
    answer = await boss.house.client.get("/api/v1/realtime/changes", params=place, headers=bearer)
    return answer.status_code != 410


async def test_after_a_resync_every_order_is_looked_at_and_none_invoiced_twice(
    make_house: MakeHouse, tmp_path: Path
) -> None:
    """More than one page of them: 130, of which 10 were invoiced before."""
    house = await make_house(RETENTION_CHANGES=1, RETENTION_KEEP=1, RETENTION_SWEEP_SECONDS=0.05)
    boss, token = await with_key(house)
    worker = Worker(house, tmp_path, key=token)
    orders = [one["id"] for one in await boss.create_all("orders", *({"amount": 1} for _ in range(10)))]
    async with worker.running():
        await worker.says("invoice 10")
        # The position stands once the stream is open and its first order is in.
        orders.append((await boss.create("orders", amount=1))["id"])
        await worker.says("invoice 11")
    for _ in range(7):
        orders += [one["id"] for one in await boss.create_all("orders", *({"amount": 1} for _ in range(17)))]
    gone = {"since": worker.fact("position"), "collection": "orders"}
    async with asyncio.timeout(PATIENCE_S):
        # The change log is pruned by the clock.
        while await still_there(boss, gone):  # noqa: ASYNC110 - and nothing tells of it
            await asyncio.sleep(0.02)
    async with worker.running():
        await worker.says("resync (expired)")
        await worker.says("invoice 130")
        orders.append((await boss.create("orders", amount=2))["id"])
        await worker.says("invoice 131")

    made = worker.invoices()
    assert [number for number, _ in made] == list(range(1, 132))
    assert sorted(order for _, order in made) == sorted(orders)


async def test_a_worker_with_a_password_outlives_its_tokens(make_house: MakeHouse, tmp_path: Path) -> None:
    house = await make_house(ACCESS_TOKEN_EXPIRE_MINUTES=0.02)
    _, _ = await with_key(house)
    boss = await house.founder()
    worker = Worker(house, tmp_path, account=boss.account["slug"], email=boss.email, password=boss.password)
    async with worker.running():
        for _ in range(3):
            await worker.says("again in")
            assert "token" in worker.said[-1]
        await (await boss.login_again()).create("orders", amount=1)
        await worker.says("invoice 1")

    assert house.server.output.count('"path":"/api/v1/auth/refresh","status":200') >= 3


async def test_a_worker_whose_key_is_revoked_ends_and_says_so(
    house: House, key: tuple[Member, str], tmp_path: Path
) -> None:
    boss, token = key
    await boss.create("orders", amount=1)
    worker = Worker(house, tmp_path, key=token)
    async with worker.running():
        await worker.says("invoice 1")
        # Its stream is open once it hears of another one.
        await boss.create("orders", amount=1)
        await worker.says("invoice 2")
        [one] = (await boss.request("GET", "/admin/api-keys")).json()["items"]
        await boss.request("DELETE", f"/admin/api-keys/{one['id']}")
        await worker.says("worker: the server does not take this API key (any more)")

        assert await worker.exit_code() == 1


async def test_a_worker_that_may_not_list_the_orders_ends_and_says_so(make_house: MakeHouse, tmp_path: Path) -> None:
    house = await make_house()
    _, token = await with_key(house)
    worker = Worker(house, tmp_path, key=token)
    superadmin = await house.superadmin()
    await superadmin.request("PUT", "/collections/orders/rules", json={"list_rule": None})
    async with worker.running():
        await worker.says("worker: GET /records/orders was answered with 403")

        assert await worker.exit_code() == 1
