"""The log as those who resume read it: each stretch is read once, whoever asks, and what was made of it is shared.

A stretch is a gapless run of whole transactions. Readers extend it; live changes extend it while somebody reads near
the head, so a replay can always catch up with the live stream without another read. What nobody used for a while is
forgotten, the oldest first when it grows over its budget.
"""

import asyncio
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic

from snackbase.metrics import Counters
from snackbase.model import Change, Head
from snackbase.realtime.resume import Passage

CHUNK_ROWS = 200
MOST_BYTES = 16 << 20
"""JSON bytes of log rows kept; decoded and encoded again they take some three times that."""
KEEP_S = 5.0
TIDY_S = 1.0

Read = Callable[[str, int, int], Awaitable[list[Change]]]


class Pruned(Exception):
    """The log begins only after the place asked for."""


class Stretch:
    """Transactions without a gap after the number `after`."""

    __slots__ = ("after", "ends", "passages", "size", "used")

    def __init__(self, after: int, now: float) -> None:
        self.after = after
        self.passages: list[Passage] = []
        self.ends: list[int] = []
        self.size = 0
        self.used = now

    @property
    def end(self) -> int:
        return self.ends[-1] if self.ends else self.after

    def add(self, passages: Sequence[Passage]) -> None:
        for passage in passages:
            self.passages.append(passage)
            self.ends.append(passage.head.seq)
            self.size += passage.size

    def following(self, seq: int, most: int) -> list[Passage]:
        start = bisect_right(self.ends, seq)
        return self.passages[start : start + most]


class Passages:
    """Reads and keeps stretches of every account's log.

    Args:
        read: (account, after, limit) -> log rows.
        position: (account, place) -> the token of a place under the rules now in force.
    """

    def __init__(self, read: Read, *, position: Callable[[str, Head], str], counters: Counters) -> None:
        self._read = read
        self._position = position
        self._counters = counters
        self._stretches: dict[str, list[Stretch]] = {}
        self._clears = 0

    def at_hand(self, account_id: str, seq: int, most: int, now: float) -> list[Passage]:
        """What follows `seq`, as far as it is kept; empty = it has to be read."""
        for stretch in self._stretches.get(account_id, ()):
            if stretch.after <= seq < stretch.end:
                stretch.used = now
                return stretch.following(seq, most)
        return []

    async def fetch(self, account_id: str, seq: int, now: float) -> None:
        """Read what follows `seq`, up to the next stretch that is kept.

        Raises:
            Pruned: the log does not hold `seq` + 1 (any longer: ask only for what is there).
        """
        stretches = self._stretches.get(account_id, [])
        later = min((stretch.after for stretch in stretches if stretch.after > seq), default=None)
        clears = self._clears
        rows = await self._whole(account_id, seq, CHUNK_ROWS if later is None else min(CHUNK_ROWS, later - seq))
        # Others ran meanwhile: what they read of the same place stands already, or nothing read before holds any more.
        if clears == self._clears and not self.at_hand(account_id, seq, 1, now):
            self._keep(account_id, self._made(account_id, rows), seq, now)

    async def _whole(self, account_id: str, seq: int, limit: int) -> list[Change]:
        """Rows of whole transactions only."""
        rows = await self._asked(account_id, seq, limit)
        if not rows or rows[0].seq != seq + 1:
            raise Pruned
        if rows[0].tx_size > len(rows):
            rows = await self._asked(account_id, seq, rows[0].tx_size)
        while rows and rows[-1].tx_index + 1 < rows[-1].tx_size:
            rows.pop()
        return rows

    async def _asked(self, account_id: str, seq: int, limit: int) -> list[Change]:
        rows = await self._read(account_id, seq, limit)
        self._counters.replay_rows += len(rows)
        return rows

    def _made(self, account_id: str, rows: Sequence[Change]) -> list[Passage]:
        made, start = [], 0
        for number, row in enumerate(rows, 1):
            if row.tx_index + 1 == row.tx_size:
                made.append(Passage(rows[start:number], self._position(account_id, Head(row.seq, row.ts_us))))
                start = number
        return made

    def _keep(self, account_id: str, made: list[Passage], seq: int, now: float) -> None:
        stretches = self._stretches.setdefault(account_id, [])
        stretch = next((one for one in stretches if one.end == seq), None)
        if stretch is None:
            stretch = Stretch(seq, now)
            stretches.append(stretch)
        stretch.add(made)
        stretch.used = now
        following = next((one for one in stretches if one.after == stretch.end and one is not stretch), None)
        if following is not None:
            stretch.add(following.passages)
            stretches.remove(following)

    def extend(self, account_id: str, rows: Sequence[Change], now: float) -> None:
        """Live changes: kept where they follow a stretch that somebody reads."""
        stretches = self._stretches.get(account_id)
        if stretches is None:
            return
        for stretch in stretches:
            if stretch.end == rows[0].seq - 1:
                stretch.add(self._made(account_id, rows))
                return

    async def tidy(self) -> None:
        """Forget now and then, for ever: also when nobody resumes any more, and for those who only poll."""
        while True:
            await asyncio.sleep(TIDY_S)
            self.forget(monotonic())

    def forget(self, now: float) -> None:
        """Drop what was not used lately, and the oldest while there is too much."""
        everything = [(stretch.used, account, stretch) for account, kept in self._stretches.items() for stretch in kept]
        total = sum(stretch.size for _, _, stretch in everything)
        for used, account_id, stretch in sorted(everything, key=lambda entry: entry[0]):
            if total <= MOST_BYTES and now - used < KEEP_S:
                break
            total -= stretch.size
            kept = self._stretches[account_id]
            kept.remove(stretch)
            if not kept:
                del self._stretches[account_id]

    def clear(self) -> None:
        """Positions are made under rules that no longer hold, or rows may be of a lost history: make it all anew."""
        self._clears += 1
        self._stretches.clear()
