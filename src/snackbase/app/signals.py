"""Hears a foreign server's signals to stop, so that streams end before that server waits for them.

An ASGI application is told to stop only after its server has waited for all answers to end. An event stream never ends
by itself, so under plain `uvicorn main:app` the two would wait for each other until somebody kills the process.
Promises: the server's own handler is called as before, and is back in its place after `restore`.
"""

import asyncio
import contextlib
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

Handler = Callable[[int, FrameType | None], Any]
STOPPING = (signal.SIGTERM, signal.SIGINT)


class Signals:
    """
    Args:
        on_stop: called on the event loop, at each signal.
    """

    def __init__(self, on_stop: Callable[[], object]) -> None:
        self._on_stop = on_stop
        self._replaced: dict[int, tuple[Any, Handler]] = {}

    def listen(self) -> None:
        """Step in front of handlers that somebody else has set; where none is set, nobody stops in order anyway."""
        if threading.current_thread() is not threading.main_thread():
            return  # Python knows signals in the main thread only
        loop = asyncio.get_running_loop()
        for number in STOPPING:
            before = signal.getsignal(number)
            if callable(before) and before is not signal.default_int_handler and number not in self._replaced:
                handler = self._handler(loop, before)
                signal.signal(number, handler)
                self._replaced[number] = (before, handler)

    def restore(self) -> None:
        """Step back, unless somebody has stepped in front of us since."""
        for number, (before, handler) in self._replaced.items():
            if signal.getsignal(number) is handler:
                signal.signal(number, before)
        self._replaced.clear()

    def _handler(self, loop: asyncio.AbstractEventLoop, before: Callable[..., Any]) -> Handler:
        def handle(number: int, frame: FrameType | None) -> None:
            with contextlib.suppress(RuntimeError):  # the loop may be closed by now
                loop.call_soon_threadsafe(self._on_stop)
            before(number, frame)

        return handle
