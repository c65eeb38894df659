"""The side lanes: where a transaction waits whose record somebody else holds, on a connection of its own.

Promises that the node's other writes go on meanwhile, that later writes of the same record queue behind it in the order
in which they were asked, and that what waits is bounded in number and time.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic

from snackbase.errors import Unavailable
from snackbase.storage.group import Item
from snackbase.storage.postgres.wave import Key

AT_ONCE = 4
MOST = 1000
PATIENCE_S = 30.0
"""How long a transaction waits, in the queue behind others of its record too."""


class Lanes:
    """
    Args:
        run: carries out one transaction that waits for these records, until a monotonic second, and settles it; never
            raises.
        refuse: settles one that cannot wait.
    """

    def __init__(
        self, run: Callable[[Item, Sequence[Key], float], Awaitable[None]], refuse: Callable[[Item, Exception], None]
    ) -> None:
        self._run = run
        self._refuse = refuse
        self._turn = asyncio.Semaphore(AT_ONCE)
        self._keys: Counter[Key] = Counter()
        self._last: dict[Key, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def busy(self, key: Key) -> bool:
        """Whether somebody waits for this record."""
        return key in self._keys

    def add(self, item: Item, keys: Sequence[Key]) -> None:
        """Have it wait here."""
        if len(self._tasks) >= MOST:
            self._refuse(item, Unavailable("Too many writes are waiting.", code="overloaded", retry_after_s=1))
            return
        before = [self._last[key] for key in dict.fromkeys(keys) if key in self._last]
        waiting = self._wait(item, keys, before, monotonic() + PATIENCE_S)
        task = asyncio.get_running_loop().create_task(waiting, name="write-side-lane")
        self._keys.update(keys)
        for key in keys:
            self._last[key] = task
        self._tasks.add(task)

        def ended(done: asyncio.Task[None]) -> None:
            self._tasks.discard(done)
            for key in keys:
                self._keys[key] -= 1
                if not self._keys[key]:
                    del self._keys[key]
                if self._last.get(key) is done:
                    del self._last[key]

        task.add_done_callback(ended)

    async def _wait(
        self, item: Item, keys: Sequence[Key], before: Sequence["asyncio.Task[None]"], deadline: float
    ) -> None:
        if before:
            await asyncio.wait(before)
        async with self._turn:
            await self._run(item, keys, deadline)

    async def close(self) -> None:
        """Wait for all of them."""
        while self._tasks:
            await asyncio.wait(tuple(self._tasks))
