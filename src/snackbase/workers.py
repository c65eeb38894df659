"""A small pool of worker threads with a bounded queue, for code that blocks and may never come back.

Its threads are daemons: unlike those of concurrent.futures, one that hangs does not keep the process from ending.
Promises: at most `threads` + `queued` calls are held; one more is refused at once.
"""

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

from snackbase.errors import Unavailable

T = TypeVar("T")


class Workers:
    """Threads start when a call finds all others busy, up to `threads`. Used from one event loop at a time."""

    def __init__(self, threads: int, *, queued: int, name: str) -> None:
        self._threads = threads
        self._held_at_most = threads + queued
        self._name = name
        self._started = 0
        self._held = 0
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()

    async def run(self, function: Callable[[], T]) -> T:
        """`function()` in a thread, in a copy of the caller's context. Cancelling gives up waiting, not the call.

        Raises:
            Unavailable: `workers_busy`: too many calls are waiting.
            Exception: whatever the function raises.
        """
        if self._held >= self._held_at_most:
            raise Unavailable(f"All {self._threads} worker threads are busy.", code="workers_busy", retry_after_s=1)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        context = contextvars.copy_context()

        def job() -> None:
            result: T | None = None
            error: BaseException | None = None
            try:
                if not future.cancelled():
                    result = context.run(function)
            except BaseException as raised:
                error = raised
            with contextlib.suppress(RuntimeError):  # the loop may have been closed meanwhile
                loop.call_soon_threadsafe(self._done, future, result, error)

        self._held += 1
        if self._started < min(self._held, self._threads):
            self._started += 1
            name = f"{self._name}-{self._started}"
            threading.Thread(target=_work, args=(self._jobs,), name=name, daemon=True).start()
        self._jobs.put(job)
        return await future

    def close(self) -> None:
        """Let idle threads end; one that is stuck ends with the process."""
        for _ in range(self._started):
            self._jobs.put(None)
        self._started = 0

    def _done(self, future: "asyncio.Future[Any]", result: object, error: BaseException | None) -> None:
        self._held -= 1
        if future.cancelled():
            return
        if error is None:
            future.set_result(result)
        elif isinstance(error, StopIteration):  # a future refuses it
            future.set_exception(RuntimeError("the function raised StopIteration"))
        else:
            future.set_exception(error)


def _work(jobs: "SimpleQueue[Callable[[], None] | None]") -> None:
    while (job := jobs.get()) is not None:
        job()
