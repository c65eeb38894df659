"""When a read has to end: what SQLite asks while it runs one, between its instructions and within a long one.

Owns the moment and the function that statements call (rules.IN_TIME). One read of a thread is watched at a time. Must
not decide how long anything may take.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_thread = threading.local()


class Late(Exception):
    """The read is to end."""


class Deadline:
    """A moment after which the query stops; earlier when nobody waits for it any more."""

    __slots__ = ("at", "given_up")

    def __init__(self, seconds: float) -> None:
        self.at = time.monotonic() + seconds
        self.given_up = False

    def passed(self) -> bool:
        return self.given_up or time.monotonic() > self.at

    @contextmanager
    def watched(self) -> Iterator[None]:
        """What this thread reads inside asks `in_time`."""
        _thread.deadline = self
        try:
            yield
        finally:
            _thread.deadline = None


def in_time(*_: object) -> int:
    """1. Raises Late when the read of this thread is to end."""
    deadline: Deadline | None = getattr(_thread, "deadline", None)
    if deadline is not None and deadline.passed():
        raise Late
    return 1
