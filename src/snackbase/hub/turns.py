"""A few at a time: what a thousand clients ask for in the same moment is spread over turns of the event loop.

Whatever is done for one client is short, but the loop runs everything that is ready before it looks at its sockets
again; a thousand short things would be one long hold for everybody else. Promises to keep the order, and that who
comes alone never waits.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial


class Turns:
    """Lets at most `most` go on in one turn of the loop.

    Args:
        most: so many that what they do together takes some 2 ms.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._left = most
        self._waiting: deque[Callable[[], object]] = deque()
        self._planned = False

    def __len__(self) -> int:
        return len(self._waiting)

    async def take(self) -> None:
        """Go on, now or as soon as it is this one's turn."""
        if self.free():
            return
        turn = asyncio.get_running_loop().create_future()
        self.later(partial(_wake, turn))
        await turn

    def free(self) -> bool:
        """Whether the caller may go on at once; its place is taken then. Otherwise it goes on `later`."""
        self._plan()
        if self._waiting or not self._left:
            return False
        self._left -= 1
        return True

    def later(self, go: Callable[[], object]) -> None:
        """Call this when it is its turn. It must not raise."""
        self._waiting.append(go)
        self._plan()

    def _plan(self) -> None:
        if not self._planned:
            self._planned = True
            asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        self._planned = False
        self._left = self._most
        try:
            while self._waiting and self._left:
                self._left -= 1
                self._waiting.popleft()()
        finally:
            # Also after a defect of one: the others go on.
            if self._waiting or self._left < self._most:
                self._plan()


def _wake(turn: "asyncio.Future[None]") -> None:
    if not turn.done():
        turn.set_result(None)
