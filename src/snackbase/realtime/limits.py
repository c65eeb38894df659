"""Limits that need memory: how fast a client may send, and how soon one that was sent away may come back.

Pure: the time comes in as monotonic seconds. Everything is bounded; what is forgotten first is what is oldest.
"""

from collections import OrderedDict


class Bucket:
    """A token bucket: `burst` at once, `rate` a second in the long run; rate 0 = no limit."""

    __slots__ = ("_at", "_tokens")

    def __init__(self, now: float, burst: int) -> None:
        self._at = now
        self._tokens = float(burst)

    def take(self, now: float, rate: float, burst: int) -> bool:
        """Use one token; False when there is none."""
        if rate <= 0:
            return True
        self._tokens = min(float(burst), self._tokens + (now - self._at) * rate)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class Penalties:
    """Slows those who come back at once after the server ended their connection for cause (contract §5).

    The first end costs nothing; every further one within the memory doubles the wait: 0.5 s, 1 s, … up to 30 s.
    """

    FIRST_S, MOST_S, MEMORY_S, SIZE = 0.5, 30.0, 60.0, 10_000

    def __init__(self) -> None:
        self._known: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def ended(self, key: str, now: float) -> None:
        """Remember that a connection of `key` was ended for cause."""
        count, _ = self._current(key, now)
        self._known[key] = (count + 1, now)
        self._known.move_to_end(key)
        while len(self._known) > self.SIZE:
            self._known.popitem(last=False)

    def wait_s(self, key: str, now: float) -> float:
        """Seconds until `key` may connect again; 0 = now."""
        count, last = self._current(key, now)
        if count < 2:
            return 0.0
        wait = min(self.MOST_S, self.FIRST_S * 2.0 ** (count - 2))
        return max(0.0, last + wait - now)

    def _current(self, key: str, now: float) -> tuple[int, float]:
        count, last = self._known.get(key, (0, now))
        if now - last > self.MEMORY_S:
            del self._known[key]
            return 0, now
        return count, last
