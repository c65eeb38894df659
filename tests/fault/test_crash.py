"""SIGKILL of a process that writes: what was acknowledged is there, what is there is whole (I1 to I3, I5, I8)."""

import asyncio
import os
import random
import sys
from pathlib import Path

import msgspec
import pytest

import snackbase
from snackbase.model import Head
from snackbase.storage.sqlite import SQLiteStore
from tests.storage.support import SYSTEM, account, collection, created, ids_in, replayed, text, whole_log

KILLS = 10
PATH = os.pathsep.join([str(Path(snackbase.__file__).parents[1]), str(Path(__file__).resolve().parents[2])])
Acknowledged = dict[tuple[str, int], tuple[int, str, bytes]]
"""(account, number) -> (time, operation, JSON) of every write that the killed process was told is done."""


async def write_until_killed(file: Path, seed: str, after: int) -> Acknowledged:
    """Run the writer, kill it after so many acknowledgements, give all it had reported."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.fault.crash_writer", str(file), seed),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": PATH},
    )
    assert process.stdout is not None
    lines: list[bytes] = []
    try:
        async with asyncio.timeout(60):
            while len(lines) < after:
                lines.append(await process.stdout.readuntil(b"\n"))
    finally:
        process.kill()
    lines += [line + b"\n" for line in (await process.stdout.read()).split(b"\n")[:-1]]
    await process.wait()
    acknowledged: Acknowledged = {}
    for line in lines:
        account_id, seq, ts_us, op, raw = msgspec.json.decode(line)
        assert (account_id, seq) not in acknowledged
        acknowledged[account_id, seq] = (ts_us, op, raw.encode())
    return acknowledged


async def check(store: SQLiteStore, accounts: list[str], acknowledged: Acknowledged) -> int:
    """Compare log, records and acknowledgements; gives the number of log rows."""
    _, (posts,) = await store.collections()
    rows = 0
    for account_id in accounts:
        log = await whole_log(store, account_id)
        rows += len(log)
        assert [change.seq for change in log] == list(range(1, len(log) + 1))
        assert await store.head(account_id) == Head(log[-1].seq, log[-1].ts_us)
        state = replayed(log)
        assert await ids_in(store, posts, account_id) == state.keys()
        for record_id, record in state.items():
            assert await store.get(posts, account_id, record_id) == record
        found = {(account_id, change.seq): (change.ts_us, change.op.value, change.raw) for change in log}
        assert {key: value for key, value in acknowledged.items() if key[0] == account_id}.items() <= found.items()
    return rows


@pytest.mark.slow
async def test_ten_kills_lose_no_acknowledged_write_and_reuse_no_number(tmp_path: Path) -> None:
    file = tmp_path / "data" / "snackbase.db"
    chance = random.Random(20261123)
    store = SQLiteStore(file)
    await store.open()
    posts = await collection(store, "posts", text("slug", unique=True), text("title"))
    accounts = [SYSTEM, await account(store, "one"), await account(store, "two")]
    for account_id in accounts:
        await created(store, posts, account_id=account_id, slug="taken")
    await store.close()
    acknowledged: Acknowledged = {}
    rows = 0

    for kill in range(KILLS):
        reported = await write_until_killed(file, str(kill), chance.randrange(1, 800))
        assert not reported.keys() & acknowledged.keys()
        acknowledged |= reported
        store = SQLiteStore(file)
        await store.open()
        rows = await check(store, accounts, acknowledged)
        assert await store.fetch("PRAGMA integrity_check") == [("ok",)]
        await store.close()

    assert len(acknowledged) > KILLS
    assert rows >= len(acknowledged)
