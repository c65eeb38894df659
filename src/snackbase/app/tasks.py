"""The background tasks of one application: started here, watched here, ended here.

Promises: none is garbage collected while it runs, none fails in silence, none outlives `cancel`.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Coroutine
from time import monotonic
from typing import Any

import structlog

from snackbase.errors import SnackBaseError
from snackbase.hub.turns import Turns
from snackbase.metrics import Counters, Histogram

log = structlog.get_logger("snackbase.app")

LAG_PROBE_S = 0.05
RUNNING_AFTER_HOOKS = 1000
WAITING_AFTER_HOOKS = 20_000
WAITING_BYTES = 64 << 20
BEGUN_A_TURN = 16
"""After-hooks that begin in one turn of the loop: some 0.1 ms each."""

Work = Callable[[], Coroutine[Any, Any, None]]


class Tasks:
    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()

    def spawn(self, coroutine: Coroutine[Any, Any, Any], *, name: str) -> "asyncio.Task[Any]":
        """Start a task. What it raises is logged; nobody has to wait for it."""
        task = asyncio.get_running_loop().create_task(coroutine, name=name)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    def __len__(self) -> int:
        return len(self._running)

    async def wait(self, within_s: float) -> None:
        """Wait until all have ended, at most so long."""
        if self._running:
            await asyncio.wait(tuple(self._running), timeout=within_s)

    async def cancel(self) -> None:
        """Cancel what still runs and wait for its end."""
        tasks = tuple(self._running)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, task: "asyncio.Task[Any]") -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("task_failed", task=task.get_name(), exc_info=error)


class AfterHooks:
    """Runs the hooks of what has happened, behind it: they begin in its order, a few in each turn of the loop.

    Args:
        running, waiting: so many at most; what is over is dropped, counted and logged.
    """

    def __init__(
        self, counters: Counters, *, running: int = RUNNING_AFTER_HOOKS, waiting: int = WAITING_AFTER_HOOKS
    ) -> None:
        self._tasks = Tasks()
        self._counters = counters
        self._most_running = running
        self._most_waiting = waiting
        self._waiting: deque[tuple[Work, int]] = deque()
        self._waiting_bytes = 0
        self._turns = Turns(BEGUN_A_TURN)
        self._dropping = False

    def __call__(self, work: Work, size: int = 0) -> None:
        full = self._waiting_bytes + size > WAITING_BYTES and len(self._waiting) > 0
        if full or len(self._waiting) >= self._most_waiting:
            self._drop(1)
            return
        self._dropping = False
        self._waiting.append((work, size))
        self._waiting_bytes += size
        self._go_on()

    def _go_on(self, ended: "asyncio.Task[None] | None" = None) -> None:
        if self._turns.free():
            self._begin()
        else:
            self._turns.later(self._begin)

    def _begin(self) -> None:
        if self._waiting and len(self._tasks) < self._most_running:
            work, size = self._waiting.popleft()
            self._waiting_bytes -= size
            task = self._tasks.spawn(_run(work), name="after-hooks")
            task.add_done_callback(self._go_on)

    def _drop(self, some: int) -> None:
        self._counters.hooks_dropped += some
        if not self._dropping:
            log.error("after_hooks_dropped", running=len(self._tasks), hint="an after hook is too slow")
        self._dropping = True

    async def finish(self, within_s: float) -> None:
        """Let those that run or wait come to their end, then cut off the others."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while self._waiting or len(self._tasks):
                    # What waits for its turn begins after the next one.
                    await asyncio.sleep(0)
                    await self._tasks.wait(within_s)
        left = len(self._waiting)
        self._waiting.clear()
        self._waiting_bytes = 0
        if left:
            self._drop(left)
        await self._tasks.cancel()


async def _run(work: Work) -> None:
    """So that what is wrong already with the call is a task that failed, and the next one begins."""
    await work()


async def write_now_and_then(write: Work, *, every_s: float) -> None:
    """Call `write` again and again, for ever. What fails is logged and tried again the next time."""
    while True:
        await asyncio.sleep(every_s)
        try:
            await write()
        except SnackBaseError as error:
            log.warning("periodic_write_failed", code=error.code)


async def probe_lag(histogram: Histogram) -> None:
    """Observe, for ever, how late the event loop wakes a sleeper: the pause that every request feels."""
    while True:
        due = monotonic() + LAG_PROBE_S
        await asyncio.sleep(LAG_PROBE_S)
        histogram.observe(max(0.0, monotonic() - due))
