"""Ids for new records: UUIDs of version 7, which sort by the time they were made.

Random ids touch a random page of the primary key with every insert; these touch the last one. They are unique, not
secret: nothing may rest on an id that cannot be guessed.
"""

from collections.abc import Callable

IDS_A_DRAW = 64


class Ids:
    """Makes ids that rise strictly within this process, whatever the clock does.

    Args:
        now_us: the wall clock, microseconds since the epoch. random_bits: as `secrets.randbits`.

    Source: RFC 9562 §5.7, and §6.2 method 3 for the twelve bits below the millisecond.
    """

    def __init__(self, now_us: Callable[[], int], random_bits: Callable[[int], int]) -> None:
        self._now_us = now_us
        self._random_bits = random_bits
        self._last = 0
        self._pool = 0
        self._left = 0

    def new(self) -> str:
        """A new id in canonical form."""
        tick = max((self._now_us() << 12) // 1000, self._last + 1)
        self._last = tick
        milliseconds, fraction = tick >> 12, tick & 0xFFF
        number = milliseconds << 80 | 7 << 76 | fraction << 64 | 2 << 62 | self._random()
        # As str(UUID(int=number)), in half the time.
        text = f"{number:032x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

    def _random(self) -> int:
        # The system's source is asked for many ids at once: a call costs 20 us and more beside a busy writer thread.
        if not self._left:
            self._pool, self._left = self._random_bits(62 * IDS_A_DRAW), IDS_A_DRAW
        self._left -= 1
        found = self._pool & (1 << 62) - 1
        self._pool >>= 62
        return found
