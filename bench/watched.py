"""`snackbase serve bench.watched:app`: the server with a watch on its event loop, for bench.resumers and bench.stalled.

Every 2 ms something has to run on the loop. How late it is says how long the loop was held by the clock; how much CPU
the loop's thread used meanwhile says how much of that was the server's own doing and not another process's turn.
"""

import asyncio
import time
from collections import Counter
from typing import Any

from starlette.requests import Request

from snackbase import SnackBase

EVERY_S = 0.002
BOUNDS_MS = (1, 2, 5, 10, 20, 50, 100)
app = SnackBase()


class Watch:
    """What was seen since the last look.

    Attributes:
        clock_ms, cpu_ms: the longest the loop was held. late: bound in ms -> holds (CPU) above the bound before it.
        closed: close code -> connections that ended with it, as the hook was told.
    """

    def __init__(self) -> None:
        self.closed: Counter[str] = Counter()
        self._watching = False
        self._forget()

    def _forget(self) -> None:
        self.clock_ms = self.cpu_ms = 0.0
        self.holds: Counter[str] = Counter()
        self.closed.clear()

    def begin(self) -> None:
        """Forget everything, and watch."""
        self._forget()
        if not self._watching:
            self._watching = True
            self._next()

    def _next(self) -> None:
        self._due, self._cpu = time.monotonic() + EVERY_S, time.thread_time()
        asyncio.get_running_loop().call_later(EVERY_S, self._look)

    def _look(self) -> None:
        late, used = (time.monotonic() - self._due) * 1e3, (time.thread_time() - self._cpu) * 1e3
        self.clock_ms, self.cpu_ms = max(self.clock_ms, late), max(self.cpu_ms, used)
        self.holds[next((f"to {bound} ms" for bound in BOUNDS_MS if used <= bound), "more")] += 1
        self._next()

    def found(self) -> dict[str, Any]:
        return {"clock_ms": self.clock_ms, "cpu_ms": self.cpu_ms, "holds": self.holds, "closed": self.closed}


watch = Watch()


@app.hook.on_realtime_disconnect()
def ended(code: int | None) -> None:
    watch.closed[str(code)] += 1


@app.route("/bench/watch", auth="none")
async def begin(request: Request) -> dict[str, bool]:
    watch.begin()
    return {"watching": True}


@app.route("/bench/watched", auth="none")
async def watched(request: Request) -> dict[str, Any]:
    return watch.found()
