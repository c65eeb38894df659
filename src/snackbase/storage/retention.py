"""How much of the change log is kept, and the pruning of the rest, in pieces that no write has to wait for.

A row goes when it is older than the age, or further back than the newest so many of its account, or while the logs of
all accounts together are over the size (the largest log gives first, so one busy account does not shorten everybody's
window); the newest few of each account always stay. Promises I3: an account's log loses a prefix, whole transactions
only, and its floor moves in the same SQL transaction. Runs on the writer thread between groups, at most 500 rows at
once unless one transaction is larger, and in a small share of the time.
"""

from collections import deque
from collections.abc import Callable
from time import monotonic

import msgspec

from snackbase.storage.asking import Ask, Asking
from snackbase.storage.statements import (
    LARGEST_LOGS,
    PRUNE_CHANGES,
    READ_CUT,
    READ_ENDS,
    READ_LOG_SIZES,
    READ_SIZE,
    SET_FLOOR,
)

CHUNK_ROWS = 500
FEWEST_ROWS = 20
CHUNK_S = 0.003
"""What deleting a piece may take; the next one is smaller or larger by that. Its commit takes what a group's takes."""
SHARE, URGENT_SHARE = 9, 1
"""A piece is followed by so many times its duration without one, so it has a tenth of the time; half of it when the
logs are a quarter over their size."""
ACCOUNTS_AT_ONCE = 500
"""Accounts looked at in one step of a sweep, a microsecond or two each."""
FOR_EVER = 1 << 62


class Retention(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of the log.

    Attributes:
        age_s, changes, size: pruned beyond any of them: older, more in one account, more bytes in all.
        keep: the newest of each account that stay in any case; at least 1.
        sweep_s: how often is looked for what is to be pruned.
    """

    age_s: float = 72 * 3600
    changes: int = 100_000
    size: int = 2 << 30
    keep: int = 1000
    sweep_s: float = 5.0


class Pruner:
    """Finds what may go and deletes it piece by piece; belongs to the writer.

    Args:
        oldest: SQL that gives the time of the oldest row.

    Attributes:
        rows, size: what all logs hold, in rows and bytes. pruned: rows deleted since the start.
        sweeps: how often all accounts were looked at.
        oldest_us: when the oldest row was written, at the last sweep; 0 = there is none.
    """

    def __init__(self, retention: Retention, now_us: Callable[[], int], *, oldest: str) -> None:
        self._oldest = oldest
        self._keep = retention
        self._now_us = now_us
        self._due: deque[int] = deque()
        self._after: int | None = None
        self._sums = (0, 0)
        self._next_sweep = monotonic()
        self._next_piece = 0.0
        self._piece = CHUNK_ROWS
        self.rows = self.size = self.pruned = self.oldest_us = self.sweeps = 0

    def patience(self) -> float:
        """How long the writer may sleep before there is something to do here."""
        due = self._next_piece if self._busy else max(self._next_piece, self._next_sweep)
        return max(0.0, due - monotonic())

    @property
    def _busy(self) -> bool:
        return bool(self._due) or self._after is not None

    def wanted(self) -> Asking[bool]:
        """Look on; True: there is a piece to delete, in a transaction of its own. Only reads."""
        if not self._due:
            if self._after is None and monotonic() < self._next_sweep:
                return False
            yield from self._look()
        return bool(self._due)

    def delete(self) -> Asking[None]:
        """Delete one piece of the first account's log, inside the caller's transaction."""
        began, account = monotonic(), self._due[0]
        ((seq, floor),) = yield Ask(READ_ENDS, (account,))
        end = yield from self._cut(account, seq, floor)
        if end is None:
            self._due.popleft()
            return
        self._due.rotate(-1)
        ((freed, ts_us),) = yield Ask(READ_SIZE, (account, floor, end))
        yield Ask(PRUNE_CHANGES, (account, end))
        yield Ask(SET_FLOOR, (end, ts_us, freed, account))
        self.rows -= end - floor
        self.size -= freed
        self.pruned += end - floor
        took = monotonic() - began
        if took > CHUNK_S:
            self._piece = max(FEWEST_ROWS, self._piece // 2)
        elif took < CHUNK_S / 2:
            self._piece = min(CHUNK_ROWS, self._piece * 2)

    def over(self, seconds: float) -> None:
        """A piece was committed and took so long."""
        share = URGENT_SHARE if self.size > self._keep.size * 5 // 4 else SHARE
        self._next_piece = monotonic() + share * seconds

    def give_up(self) -> None:
        """A piece failed: the next sweep finds it again."""
        self._due.clear()
        self._after = None
        self._next_sweep = monotonic() + self._keep.sweep_s

    # Which accounts --------------------------------------------------------------------------------------------------

    def _look(self) -> Asking[None]:
        """One step of a sweep over all accounts."""
        if self._after is None:
            self._after, self._sums = -1, (0, 0)
        found = yield Ask(READ_LOG_SIZES, (self._after, ACCOUNTS_AT_ONCE, self._keep.keep))
        rows, size = self._sums
        oldest = self._now_us() - int(self._keep.age_s * 1_000_000)
        for account, seq, floor, bytes_, first_us in found:
            rows += seq - floor
            size += bytes_
            old = first_us is not None and first_us < oldest
            if seq - floor > self._keep.keep and (old or seq - floor > self._keep.changes):
                self._due.append(account)
        self._sums = rows, size
        if len(found) == ACCOUNTS_AT_ONCE:
            self._after = found[-1][0]
            return
        self._after = None
        self._next_sweep = monotonic() + self._keep.sweep_s
        self.sweeps += 1
        self.rows, self.size = rows, size
        self.oldest_us = next((int(us) for (us,) in (yield Ask(self._oldest)) if us is not None), 0)
        yield from self._largest()

    def _largest(self) -> Asking[None]:
        """Over the size: the largest logs, a piece of each in turn."""
        if self.size > self._keep.size and not self._due:
            self._due.extend(account for (account,) in (yield Ask(LARGEST_LOGS, (self._keep.keep,))))

    # How far ---------------------------------------------------------------------------------------------------------

    def _cut(self, account: int, seq: int, floor: int) -> Asking[int | None]:
        """The last row to delete now: the end of a transaction; None = nothing more may go."""
        rules = [(seq - self._keep.changes, FOR_EVER), (seq, self._now_us() - int(self._keep.age_s * 1_000_000))]
        if self.size > self._keep.size:
            rules.insert(0, (seq, FOR_EVER))
        for most, before_us in rules:
            end = yield from self._end(account, floor, min(most, seq - self._keep.keep), before_us)
            if end is not None:
                return end
        return None

    def _end(self, account: int, floor: int, most: int, before_us: int) -> Asking[int | None]:
        if most <= floor:
            return None
        found = yield Ask(READ_CUT, (account, floor, min(most, floor + self._piece), before_us))
        if not found:
            return None
        last, index, size = found[0]
        end = int(last) if index + 1 == size else int(last) - index - 1
        if end <= floor:
            # One transaction is longer than a piece: it goes whole or not at all.
            end = int(last) - index + size - 1
        return end if end <= most else None
