"""Writes as fast as it can and reports each acknowledged write on a line of standard output, until it is killed.

`python -m tests.fault.crash_writer FILE SEED`
"""

import asyncio
import contextlib
import os
import random
import sys
from pathlib import Path

import msgspec

from snackbase.errors import Conflict
from snackbase.storage.base import Store
from snackbase.storage.sqlite import SQLiteStore
from tests.storage.support import SYSTEM, creating, deleting, updating, write

WRITERS = 32


async def write_for_ever(store: Store, accounts: list[str], seed: str) -> None:
    _, (posts,) = await store.collections()
    chance = random.Random(seed)
    account_id = chance.choice(accounts)
    mine: list[str] = []
    for turn in range(1_000_000):
        kind = chance.random()
        if kind < 0.05:
            with contextlib.suppress(Conflict):
                await write(store, creating(posts, {"slug": seed}), creating(posts, {"slug": "taken"}))
            continue
        if kind < 0.3 and mine:
            done = await write(store, updating(posts, mine[-1], {"title": f"{seed}/{turn}"}), account_id=account_id)
        elif kind < 0.4 and mine:
            done = await write(store, deleting(posts, mine.pop()), account_id=account_id)
        else:
            done = await write(store, creating(posts, {"slug": f"{seed}/{turn}"}), account_id=account_id)
            mine.append(done.written[0]["id"])
        change = done.changes[0]
        line = [account_id, change.seq, change.ts_us, change.op.value, change.raw.decode()]
        os.write(1, msgspec.json.encode(line) + b"\n")


async def main(file: Path, seed: str) -> None:
    store = SQLiteStore(file)
    await store.open()
    others = await store.fetch("SELECT id FROM _accounts WHERE num > 0")
    accounts = [SYSTEM, *(account_id for (account_id,) in others)]
    await asyncio.gather(*(write_for_ever(store, accounts, f"{seed}.{number}") for number in range(WRITERS)))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
