"""`python -m bench.postgres`: writes into PostgreSQL, in groups and one by one, and while somebody holds a record.

A real server on this machine with fsync. "One by one" is what a backend does that has the same log: for each request
BEGIN, insert the record, count the account's number up, insert the log row, COMMIT, on a connection of a pool; same
record, same rows. Both run in the same minute on the same server, turn by turn. Figures are of this machine.
"""

import argparse
import asyncio
import json
import statistics
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg

from snackbase.errors import SnackBaseError
from snackbase.model import SYSTEM_ACCOUNT_ID, Account, Change, Collection, Field, Op, Rules
from snackbase.storage import system
from snackbase.storage.base import SchemaChange, Transaction, Write
from snackbase.storage.postgres.store import PostgresStore
from tests.support.postgres import Cluster

SETTINGS = {"fsync": "on", "full_page_writes": "on", "shared_buffers": "256MB", "deadlock_timeout": "1s"}
RULES = Rules(list_rule="", view_rule="", create_rule="", update_rule="", delete_rule="")
NOW = "2026-01-01T00:00:00.000Z"
TITLE = "x" * 200
HELD_S = 20.0
LOG = """INSERT INTO _changes(account, seq, ts_us, op, collection_id, schema_version, record_id, data, tx_id, tx_index,
    tx_size) VALUES (0, $1, $2, 'create', $3, 1, $4, $5, 't', 0, 1)"""

Once = Callable[[], Awaitable[None]]


async def rate(once: Once, *, in_flight: int, seconds: float) -> tuple[float, list[float]]:
    """Completions a second with so many at once, and how long each took."""
    took: list[float] = []
    end = time.monotonic() + seconds

    async def worker() -> None:
        while (began := time.monotonic()) < end:
            await once()
            took.append(time.monotonic() - began)

    began = time.monotonic()
    await asyncio.gather(*(worker() for _ in range(in_flight)))
    return len(took) / (time.monotonic() - began), took


def quantile(took: list[float], share: float) -> float:
    """In milliseconds."""
    return sorted(took)[min(len(took) - 1, int(len(took) * share))] * 1000


class Bench:
    def __init__(self, cluster: Cluster) -> None:
        self._url = cluster.url(cluster.create())

    async def open(self) -> None:
        self.store = PostgresStore(self._url)
        await self.store.open()
        fields = (Field(name="title"),)
        wanted = Collection(
            id=str(uuid.uuid4()), name="posts", table="", fields=fields, rules=RULES, created_at=NOW, updated_at=NOW
        )
        made = await self.store.alter(SchemaChange(before=None, after=wanted))
        assert made is not None
        self.posts = made
        self.pool = await asyncpg.create_pool(self._url, min_size=64, max_size=64)
        await self.pool.execute(
            "INSERT INTO _heads(account, seq, ts_us) VALUES (-1, 0, 0) ON CONFLICT(account) DO NOTHING"
        )

    async def close(self) -> None:
        await self.pool.close()
        await self.store.close()

    def create(self, account_id: str = SYSTEM_ACCOUNT_ID, store: PostgresStore | None = None) -> Once:
        into = store or self.store

        async def once() -> None:
            write = Write(op=Op.CREATE, collection=self.posts, record_id=str(uuid.uuid4()), values={"title": TITLE})
            await into.write(Transaction(account_id=account_id, writes=(write,)))

        return once

    async def one_by_one(self) -> None:
        """The same record and log row, in a transaction of its own."""
        record_id, now = str(uuid.uuid4()), time.time_ns() // 1000
        data = json.dumps({"id": record_id, "title": TITLE, "account_id": "a", "created_at": NOW, "updated_at": NOW})
        async with self.pool.acquire() as connection, connection.transaction():
            await connection.execute(
                f"INSERT INTO {self.posts.table}(id, account_id, created_at, updated_at, title)"  # noqa: S608 - ours
                " VALUES ($1, 'a', $2, $2, $3)",
                *(record_id, NOW, TITLE),
            )
            seq = await connection.fetchval(
                "UPDATE _heads SET seq = seq + 1, ts_us = $1 WHERE account = -1 RETURNING seq", now
            )
            await connection.execute(LOG.replace("(0,", "(-1,"), seq, now, self.posts.id, record_id, data)

    async def accounts(self, count: int, *, word: str = "a") -> list[str]:
        made = []
        for number in range(count):
            one = Account(
                id=str(uuid.uuid4()), account_code="", slug=f"{word}{number}", name="a", created_at=NOW, updated_at=NOW
            )
            founding = system.insert_account(one, error=ValueError())
            await self.store.write(Transaction(account_id=one.id, statements=(founding,)))
            made.append(one.id)
        return made

    async def compare(self, in_flight: int, seconds: float, rounds: int) -> dict[str, Any]:
        """Turn by turn; the medians."""
        ours, theirs, took = [], [], list[float]()
        for _ in range(rounds):
            theirs.append((await rate(self.one_by_one, in_flight=in_flight, seconds=seconds))[0])
            one, more = await rate(self.create(), in_flight=in_flight, seconds=seconds)
            ours.append(one)
            took += more
        group, single = statistics.median(ours), statistics.median(theirs)
        return {
            "in_flight": in_flight,
            "writes_per_s": round(group),
            "one_by_one_per_s": round(single),
            "times": round(group / single, 1),
            "p50_ms": round(quantile(took, 0.5), 1),
            "p99_ms": round(quantile(took, 0.99), 1),
        }

    async def many_accounts(self, seconds: float) -> dict[str, Any]:
        creates = [self.create(one) for one in await self.accounts(100)]
        turn = iter(range(10**9))

        async def once() -> None:
            await creates[next(turn) % len(creates)]()

        per_s, took = await rate(once, in_flight=64, seconds=seconds)
        return {"accounts": 100, "writes_per_s": round(per_s), "p99_ms": round(quantile(took, 0.99), 1)}

    async def two_nodes(self, seconds: float) -> dict[str, Any]:
        """One account through two stores: numbers without a gap, in the order of the log."""
        other = PostgresStore(self._url)
        await other.open()
        before = await self.store.head(SYSTEM_ACCOUNT_ID)
        (first, took), (second, more) = await asyncio.gather(
            rate(self.create(), in_flight=32, seconds=seconds),
            rate(self.create(store=other), in_flight=32, seconds=seconds),
        )
        log: list[Change] = []
        at = before.seq
        while rows := await self.store.read_changes(SYSTEM_ACCOUNT_ID, at, 5000):
            log += rows
            at = rows[-1].seq
        gapless = [change.seq for change in log] == list(range(before.seq + 1, at + 1))
        await other.close()
        return {
            "per_s": round(first + second),
            "p99_ms": round(quantile(took + more, 0.99), 1),
            "gapless": gapless and len(log) == len(took) + len(more),
            "retries": self.store.stats()["retries"] + other.stats()["retries"],
        }

    async def held_record(self, held_s: float, *, held: bool = True) -> dict[str, Any]:
        """Creates in four accounts and writes of another record, 200 a second, while one that is wanted is held.

        `held=False`: the same, and nobody holds it; what that takes is the machine's.
        """
        ids = [str(uuid.uuid4()) for _ in range(2)]
        for one in ids:
            write = Write(op=Op.CREATE, collection=self.posts, record_id=one, values={"title": "x"})
            await self.store.write(Transaction(account_id=SYSTEM_ACCOUNT_ID, writes=(write,)))
        creates = [self.create(one) for one in (SYSTEM_ACCOUNT_ID, *await self.accounts(3, word=f"beside{held:d}"))]
        session = await asyncpg.connect(self._url)
        holding = session.transaction()
        await holding.start()
        if held:
            await session.execute(f"SELECT 1 FROM {self.posts.table} WHERE id = $1 FOR UPDATE", ids[0])  # noqa: S608 - ours
        took: list[float] = []

        def update(record_id: str, number: int) -> Awaitable[Any]:
            values = {"title": f"{number}"}
            write = Write(op=Op.UPDATE, collection=self.posts, record_id=record_id, values=values)
            return self.store.write(Transaction(account_id=SYSTEM_ACCOUNT_ID, writes=(write,)))

        async def timed(work: Awaitable[Any]) -> None:
            began = time.monotonic()
            await work
            took.append(time.monotonic() - began)

        tasks: list[asyncio.Future[None]] = []
        wanting: list[asyncio.Future[Any]] = []
        end = time.monotonic() + held_s
        number = 0
        while time.monotonic() < end:
            number += 1
            if number % 20 == 0 and len(wanting) < 50:
                wanting.append(asyncio.ensure_future(update(ids[0], number)))
            work = update(ids[1], number) if number % 4 == 0 else creates[number // 4 % 4]()
            tasks.append(asyncio.ensure_future(timed(work)))
            await asyncio.sleep(0.005)
        await asyncio.gather(*tasks)
        early = sum(one.done() for one in wanting)
        await holding.rollback()
        await session.close()
        done = await asyncio.gather(*wanting, return_exceptions=True)
        return {
            "held_s": held_s if held else 0,
            "writes": len(took),
            "p50_ms": round(quantile(took, 0.5), 1),
            "p99_ms": round(quantile(took, 0.99), 1),
            "waited_for_the_record": len(wanting),
            "answered_before_it_was_free": early,
            "refused": sum(isinstance(one, SnackBaseError) for one in done),
        }


async def measure(cluster: Cluster, seconds: float, rounds: int, held_s: float) -> dict[str, Any]:
    bench = Bench(cluster)
    await bench.open()
    results: dict[str, Any] = {"one_account": []}
    for in_flight in (1, 16, 64):
        row = await bench.compare(in_flight, seconds, rounds)
        results["one_account"].append(row)
        print(json.dumps(row), flush=True)
    scenes: dict[str, Callable[[], Awaitable[dict[str, Any]]]] = {
        "many_accounts": lambda: bench.many_accounts(seconds),
        "two_nodes": lambda: bench.two_nodes(seconds),
        "not_held": lambda: bench.held_record(held_s / 2, held=False),
        "held_record": lambda: bench.held_record(held_s),
    }
    for name, scene in scenes.items():
        results[name] = await scene()
        print(name, json.dumps(results[name]), flush=True)
    await bench.close()
    return results


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.postgres", description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each turn")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--held", type=float, default=HELD_S, help="seconds for which the record is held")
    parser.add_argument("--output", type=Path, help="a JSON file for the results")
    chosen = parser.parse_args()
    cluster = Cluster(settings=SETTINGS)
    try:
        cluster.start()
        results = asyncio.run(measure(cluster, chosen.seconds, chosen.rounds, chosen.held))
        if chosen.output is not None:
            chosen.output.parent.mkdir(parents=True, exist_ok=True)
            chosen.output.write_text(json.dumps(results, indent=1) + "\n")
    finally:
        cluster.remove()


if __name__ == "__main__":
    main()
