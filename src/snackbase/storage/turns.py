"""Whose list runs next: so many at once, in turn between accounts, and never all for one.

Owns the waiting in front of the pool of lists, on the event loop. Promises that an account whose lists take long leaves
a place free for the others, and that what waits is bounded, in all and for each.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from snackbase.errors import Unavailable


class Turns:
    """
    Args:
        at_once: how many run at the same time; one owner gets one fewer, if there are several.
        waiting, waiting_each: how many wait at most, in all and of one owner.
    """

    def __init__(self, *, at_once: int, waiting: int, waiting_each: int) -> None:
        self._free = at_once
        self._each = max(1, at_once - 1)
        self._most = waiting
        self._most_each = waiting_each
        self._running: dict[str, int] = {}
        self._queues: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self.waiting = 0

    @asynccontextmanager
    async def turn(self, owner: str) -> AsyncIterator[None]:
        """Wait for a turn, and have it.

        Raises:
            Unavailable: `overloaded`: too many wait.
        """
        if not self._take(owner):
            await self._wait(owner)
        try:
            yield
        finally:
            self._give_back(owner)

    def _take(self, owner: str) -> bool:
        running = self._running.get(owner, 0)
        if not self._free or running >= self._each:
            return False
        self._free -= 1
        self._running[owner] = running + 1
        return True

    async def _wait(self, owner: str) -> None:
        queue = self._queues.get(owner)
        each = 0 if queue is None else len(queue)
        if each >= self._most_each or (self.waiting >= self._most and not self._displaced(each)):
            raise _overloaded()
        if queue is None:
            queue = self._queues[owner] = deque()
        turn = asyncio.get_running_loop().create_future()
        queue.append(turn)
        self.waiting += 1
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._give_back(owner)
            else:
                self._forget(owner, turn)
            raise

    def _displaced(self, waiting: int) -> bool:
        """Whether the last one of whoever has most waiting gave its place to one of an owner who has only so many: else
        a few owners together would keep everybody out."""
        owner, queue = max(self._queues.items(), key=lambda entry: len(entry[1]))
        if len(queue) <= waiting + 1:
            return False
        turn = queue[-1]
        self._forget(owner, turn)
        if not turn.done():
            turn.set_exception(_overloaded())
        return True

    def _forget(self, owner: str, turn: "asyncio.Future[None]") -> None:
        """It waits no more, if it still did."""
        queue = self._queues.get(owner)
        if queue is None or turn not in queue:
            return
        queue.remove(turn)
        self.waiting -= 1
        if not queue:
            del self._queues[owner]

    def _give_back(self, owner: str) -> None:
        self._free += 1
        left = self._running[owner] - 1
        if left:
            self._running[owner] = left
        else:
            del self._running[owner]
        for next_owner in list(self._queues):
            if not self._free:
                return
            # Who was cancelled a moment ago has yet to say so; a turn that it were given would never come back.
            while next_owner in self._queues and (turn := self._queues[next_owner][0]).done():
                self._forget(next_owner, turn)
            if next_owner in self._queues and self._take(next_owner):
                turn = self._queues[next_owner][0]
                self._forget(next_owner, turn)
                if next_owner in self._queues:
                    # Whoever had a turn stands at the end again.
                    self._queues.move_to_end(next_owner)
                turn.set_result(None)


def _overloaded() -> Unavailable:
    return Unavailable("Too many lists are waiting.", code="overloaded", retry_after_s=1)
