"""One timer wheel for every connection: heartbeats, pings, expiry. No task and no timer handle a connection.

Pure: `due` is asked with the time and gives what has come. An entry is cheap and never cancelled: who is woken looks
at its own deadlines and says when to be woken next.
"""

from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Wheel(Generic[T]):
    """Slots of `resolution_s` seconds; an entry is woken at most one slot late."""

    def __init__(self, resolution_s: float) -> None:
        self.resolution_s = resolution_s
        self._slots: dict[int, list[T]] = {}
        self._done: int | None = None

    def add(self, entry: T, at: float) -> None:
        """Wake `entry` at the monotonic time `at`, or in the next slot when that has passed."""
        slot = int(at / self.resolution_s) + 1
        if self._done is not None and slot <= self._done:
            slot = self._done + 1
        self._slots.setdefault(slot, []).append(entry)

    def due(self, now: float) -> Iterator[T]:
        """Everything whose time has come. Entries added meanwhile wait for the next call."""
        slot = int(now / self.resolution_s)
        ready = sorted(number for number in self._slots if number <= slot)
        self._done = slot if self._done is None else max(slot, self._done)
        for number in ready:
            yield from self._slots.pop(number)

    def __len__(self) -> int:
        return sum(len(entries) for entries in self._slots.values())
