"""Continuity of each live account: every change once and in order, whatever the announcements do. Step 6 of the path.

Announcements are hints. A change is routed only when it is the next one (`seq == last + 1`). With a bus, which does not
keep the order between nodes, a change that comes early waits a moment for the missing ones. Then (without a bus at
once) the feed reads the log, which is the truth. Gapless numbers show a missing middle but not a missing tail, so the
feeds also poll the heads of all live accounts (invariants I6, I7). A transaction is only routed as a whole.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from math import inf
from time import monotonic

import structlog

from snackbase.bus.base import Bus
from snackbase.errors import Unavailable
from snackbase.metrics import Counters
from snackbase.model import Change, Head
from snackbase.realtime.fanout import Feed
from snackbase.storage.base import Store

log = structlog.get_logger("snackbase.hub")

POLL_S = 0.5
"""Between two polls: where every hint is lost, a change of rights still has to hold within a second."""
LONGEST_POLL_S = 1.5
POLLED_PER_S = 4000
"""Accounts; with more of them polls are rarer while hints are expected to come, and never rarer than LONGEST_POLL_S."""
VERSION_POLL_S = 0.5
POLL_CHUNK = 500
HOLD_S = 0.03
"""How long a change that came early waits for those before it, when a bus carries them (evidence: broker order across
nodes is not commit order, and a read of the log for each swap would cost more than the bus saves)."""
EARLY_ROWS = 256
GRACE_S = 0.1
"""How long an announcement of what the poll found committed may take; a commit's reaches the hub in milliseconds."""
REPAIR_ROWS = 100
"""Read from the log and routed in one go: the loop does nothing else meanwhile, and outboxes pile up."""
RETRY_S = 0.5


def failed(event: str, error: Exception, **more: object) -> None:
    """Write down what did not work and will be tried again.

    That the database is away is said once by its store: a stack trace for each try would hide everything else.
    """
    if isinstance(error, Unavailable):
        log.debug(event, reason=str(error), **more)
    else:
        log.warning(event, exc_info=error, **more)


class LiveFeed(Feed):
    """A feed with what this node knows of its account's log.

    Attributes:
        connections: everybody who acts in the account or belongs to it.
        judged: by user, how many of their subscriptions every event has to be judged for.
        partial: the rows of a transaction that has not arrived whole.
        announced: the highest number anybody has spoken of.
        controls: how many control rows came by; tells whether any did while somebody waited.
        early: rows that came before their turn, by number. holding: the timer that ends the wait, and for which number.
        users: how many openings hold it.
        doubtful: the log may have lost what was routed; nothing more is before that is known.
        quiet_since: monotonic seconds; whatever changed somebody's rights since is still to be routed. inf = not live.
    """

    __slots__ = (
        "announced",
        "connections",
        "controls",
        "doubtful",
        "early",
        "holding",
        "judged",
        "partial",
        "quiet_since",
        "ready",
        "repairing",
        "users",
    )

    def __init__(self, account_id: str, tally: Counters) -> None:
        super().__init__(account_id, Head(0, 0), tally)
        self.connections: dict[object, None] = {}
        self.judged: dict[str, int] = {}
        self.partial: list[Change] = []
        self.announced = self.controls = 0
        self.early: dict[int, Change] = {}
        self.holding: tuple[asyncio.TimerHandle, int] | None = None
        self.users = 0
        self.ready: asyncio.Future[None] | None = None
        self.repairing = self.doubtful = False
        self.quiet_since = inf

    @property
    def next_seq(self) -> int:
        return self.at.seq + len(self.partial) + 1


class Feeds:
    """All live feeds of this process.

    Args:
        route: called with a feed and the rows of one whole transaction, in order; afterwards `feed.at` is its last.
        lost: called when the log no longer holds what a feed needs next (`expired`: it was pruned past it), or what it
            has routed (`ahead`: a failover lost it); `at` is the head then.
        refresh: learns of rules and schemas that another process changed; awaited before what that process wrote is
            routed.
        spawn: starts a task that the application owns.
        bus: is told which accounts are followed here; while it is up, what is missing may still be on its way.
    """

    def __init__(
        self,
        store: Store,
        *,
        route: Callable[[LiveFeed, Sequence[Change]], None],
        lost: Callable[[LiveFeed, str], None],
        refresh: Callable[[], Awaitable[None]],
        spawn: Callable[..., object],
        tally: Counters,
        bus: Bus,
    ) -> None:
        self._store = store
        self._bus = bus
        self._tally = tally
        self._route = route
        self._lost = lost
        self._refresh = refresh
        self._spawn = spawn
        self._live: dict[str, LiveFeed] = {}

    def __len__(self) -> int:
        return len(self._live)

    def get(self, account_id: str) -> LiveFeed | None:
        return self._live.get(account_id)

    def all(self) -> Sequence[LiveFeed]:
        return tuple(self._live.values())

    def groups(self) -> int:
        """Different views among all subscriptions."""
        return sum(1 for live in self._live.values() for _ in live.groups())

    async def acquire(self, account_id: str) -> LiveFeed:
        """The account's feed, started at the log's head if it was not live. Pair with `release`.

        Raises:
            Unavailable: the head cannot be read now.
        """
        live = self._live.get(account_id)
        if live is None:
            live = self._live[account_id] = LiveFeed(account_id, self._tally)
            live.ready = asyncio.get_running_loop().create_future()
            self._bus.watch(account_id)
            self._spawn(self._read_head(live, live.ready), name="feed-head")
        live.users += 1
        try:
            if live.ready is not None:
                await asyncio.shield(live.ready)
        except BaseException:
            self.release(live)
            raise
        return live

    async def join(self, connection: object, account_id: str) -> LiveFeed:
        """`acquire`, for a connection that acts in the account or belongs to it."""
        live = await self.acquire(account_id)
        live.connections[connection] = None
        return live

    def release(self, live: LiveFeed) -> None:
        live.users -= 1
        if live.users == 0:
            self._stop_holding(live)
            if self._live.get(live.account_id) is live:
                del self._live[live.account_id]
                self._bus.unwatch(live.account_id)

    async def _read_head(self, live: LiveFeed, ready: asyncio.Future[None]) -> None:
        try:
            live.at = await self._store.head(live.account_id)
        except Exception as error:
            # The openings that wait for it fail with the store's own error; the next one tries again.
            if self._live.pop(live.account_id, None) is live:
                self._bus.unwatch(live.account_id)
            ready.set_exception(error)
            ready.exception()
            return
        live.ready = None
        live.quiet_since = monotonic()
        ready.set_result(None)
        if live.doubtful or live.announced > live.at.seq:
            self._repair(live)

    def accept(self, changes: Sequence[Change]) -> None:
        """Announced changes, of any accounts; order, loss and repetition do not matter."""
        for change in changes:
            live = self._live.get(change.account_id)
            if live is None:
                continue
            live.announced = max(live.announced, change.seq)
            if live.ready is not None:
                continue
            expected = live.next_seq
            if change.seq == expected and not live.repairing:
                self._take(live, change)
                if live.early:
                    self._take_early(live)
            elif change.seq >= expected:
                if len(live.early) < EARLY_ROWS:
                    live.early[change.seq] = change
                self._missing(live)

    def hinted(self, heads: Mapping[str, int], *, whole: bool) -> None:
        """Accounts' logs reach at least so far. `whole`: no announcement of the changes themselves will follow."""
        for account_id, seq in heads.items():
            live = self._live.get(account_id)
            if live is None:
                continue
            live.announced = max(live.announced, seq)
            if live.ready is None and live.next_seq <= seq:
                if whole:
                    self._repair(live)
                else:
                    self._missing(live)

    def _missing(self, live: LiveFeed) -> None:
        """Something before what was announced has not come: wait a moment for it if it may come, else read the log."""
        if live.repairing:
            return
        if not self._bus.up:
            self._repair(live)
        elif live.holding is None:
            timer = asyncio.get_running_loop().call_later(HOLD_S, self._waited, live)
            live.holding = (timer, live.next_seq)

    def _waited(self, live: LiveFeed) -> None:
        """The wait for one change is over."""
        if live.holding is None:
            return
        _, awaited = live.holding
        live.holding = None
        if live.next_seq > live.announced:
            return
        if live.next_seq > awaited:
            # That one came; what is missing now is another one, with a wait of its own.
            self._missing(live)
        else:
            self._repair(live)

    def _stop_holding(self, live: LiveFeed) -> None:
        if live.holding is not None:
            live.holding[0].cancel()
            live.holding = None

    def _take_early(self, live: LiveFeed) -> None:
        while (change := live.early.pop(live.next_seq, None)) is not None:
            self._take(live, change)
        if live.early and min(live.early) < live.next_seq:
            live.early = {seq: change for seq, change in live.early.items() if seq > live.next_seq}

    def _take(self, live: LiveFeed, change: Change) -> None:
        live.partial.append(change)
        if change.tx_index + 1 >= change.tx_size:
            rows, live.partial = live.partial, []
            live.at = Head(change.seq, change.ts_us)
            self._route(live, rows)

    def _repair(self, live: LiveFeed) -> None:
        if not live.repairing:
            live.repairing = True
            self._stop_holding(live)
            self._spawn(self._read_log(live), name="feed-repair")

    async def _read_log(self, live: LiveFeed) -> None:
        try:
            while live.users and (live.doubtful or live.announced >= live.next_seq):
                if live.doubtful:
                    await self._verify(live)
                    continue
                rows = await self._store.read_changes(live.account_id, live.next_seq - 1, REPAIR_ROWS)
                # After the rows: whatever rules they were committed under are known now.
                await self._refresh()
                self._tally.log_rows_read += len(rows)
                if not rows:
                    live.announced = live.next_seq - 1
                    live.early.clear()
                elif rows[0].seq != live.next_seq:
                    live.partial.clear()
                    live.early.clear()
                    live.at = await self._store.head(live.account_id)
                    live.quiet_since = monotonic()
                    self._lost(live, "expired")
                for row in rows:
                    if row.seq == live.next_seq:
                        self._take(live, row)
                if live.early:
                    self._take_early(live)
                await asyncio.sleep(0)
        except Exception as error:
            # The poll finds the gap again; until then the connections only see a pause.
            failed("feed_repair_failed", error, account_id=live.account_id)
            await asyncio.sleep(RETRY_S)
        finally:
            live.repairing = False
            if live.doubtful and live.users:
                self._repair(live)

    def doubt(self) -> None:
        """The database may have lost what it had committed: nothing is routed before each feed's place is found."""
        for live in self._live.values():
            live.doubtful, live.quiet_since = True, inf
            # What came but was not routed may be gone as well; the log tells.
            live.partial.clear()
            live.early.clear()
            if live.ready is None:
                self._repair(live)

    async def _verify(self, live: LiveFeed) -> None:
        """Whether the log still holds the row up to which was routed: by its time, as in every position."""
        at = live.at
        window = await self._store.window(live.account_id, at.seq)
        places = {window.floor, window.head, Head(at.seq, window.ts_us or 0)}
        live.doubtful, live.quiet_since = False, monotonic()
        if at.seq and (at not in places or at.seq > window.head.seq):
            live.partial.clear()
            live.early.clear()
            live.at, live.announced = window.head, window.head.seq
            self._lost(live, "ahead")

    async def poll(self) -> None:
        """Compare every live feed with the log's head, for ever; finds what no announcement told.

        The version of rules and schemas is asked for more often: it is one small row, and rights wait for it.
        """
        looked_at = monotonic()
        while True:
            await asyncio.sleep(VERSION_POLL_S)
            try:
                await self._refresh()
            except Exception as error:
                failed("version_poll_failed", error)
            if monotonic() - looked_at >= self.pause_s - VERSION_POLL_S / 2:
                looked_at = monotonic()
                await self.look_at_all()

    @property
    def pause_s(self) -> float:
        """Between two polls, by what they cost."""
        if self._bus.configured and not self._bus.up:
            return POLL_S
        return min(LONGEST_POLL_S, max(POLL_S, len(self._live) / POLLED_PER_S))

    async def look_at_all(self) -> None:
        """One poll of every live feed."""
        await self.look(list(self._live))

    async def look(self, accounts: Sequence[str], *, grace_s: float = GRACE_S) -> None:
        """One poll: compare feeds with the log's heads, and repair those that are behind and stay so.

        Under load the log is always a moment ahead of the announcements; reading it then would do everything twice. One
        moment for all: else a node with many accounts would take seconds for a poll.
        """
        behind: dict[LiveFeed, int] = {}
        for start in range(0, len(accounts), POLL_CHUNK):
            behind |= await self._behind(accounts[start : start + POLL_CHUNK])
        if behind:
            await asyncio.sleep(grace_s)
            left = [live.account_id for live, seq in behind.items() if live.next_seq <= seq]
            for start in range(0, len(left), POLL_CHUNK):
                await self.check(left[start : start + POLL_CHUNK])

    async def check(self, accounts: Sequence[str]) -> None:
        """Read the heads of some accounts and repair the feeds that are behind."""
        for live, seq in (await self._behind(accounts)).items():
            live.announced = max(live.announced, seq)
            self._repair(live)

    async def _behind(self, accounts: Sequence[str]) -> dict[LiveFeed, int]:
        """Those of the accounts' feeds that the log is ahead of, with the number of its head."""
        try:
            heads = await self._store.heads(accounts)
        except Exception as error:
            failed("head_poll_failed", error)
            return {}
        found: dict[LiveFeed, int] = {}
        for account_id, head in heads.items():
            live = self._live.get(account_id)
            if live is not None and live.ready is None and head.seq >= live.next_seq:
                found[live] = head.seq
        return found
