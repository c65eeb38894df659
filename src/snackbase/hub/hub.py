"""The hub: opens and ends connections, keeps their time, and ties the other parts of this folder together. Step 6-8.

Single-threaded by design: everything here runs on the event loop, and no `await` stands between reading shared state
and changing it. It decides nothing about rights (views.py asks the rules) and nothing about order (feeds.py keeps it).
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import structlog

from snackbase import errors
from snackbase.auth import Claims
from snackbase.bus.base import Bus
from snackbase.catalog import Catalog
from snackbase.config import Settings
from snackbase.errors import Closing, Forbidden, Unavailable
from snackbase.hooks import HookAbort, Hooks, Later
from snackbase.hub.admission import Admission, Refused, limits_of, retry_after_ms
from snackbase.hub.attendance import Attendance
from snackbase.hub.budget import Budget
from snackbase.hub.connection import Connection
from snackbase.hub.delivery import Delivery
from snackbase.hub.dialogue import Dialogue, who
from snackbase.hub.explain import Explainer
from snackbase.hub.feeds import Feeds, LiveFeed
from snackbase.hub.neighbours import Neighbours
from snackbase.hub.opening import Authenticated, Opening
from snackbase.hub.passages import Passages
from snackbase.hub.past import Past, ReadSnapshot
from snackbase.hub.polling import Polling
from snackbase.hub.replays import Replays
from snackbase.hub.rights import Rights
from snackbase.hub.standings import Standings
from snackbase.hub.timekeeper import Timekeeper, now_us, timing_of
from snackbase.hub.turns import Turns
from snackbase.metrics import Counters, add
from snackbase.model import Change, Collection, Head, Op, Position, Principal
from snackbase.realtime import protocol
from snackbase.realtime.position import Positions
from snackbase.realtime.protocol import ProtocolError, SubscribeRequest
from snackbase.realtime.session import State
from snackbase.storage.base import Store

log = structlog.get_logger("snackbase.hub")

DRAIN_BATCH = 200
PART_AT_ONCE = 32
"""Connections that are gone and taken off in one turn of the loop: 30 us each, with a line of the log."""
MOST_LOOKS = 10
SLOW_GRACE_S = 5.0
"""A slow consumer may still take what is buffered and the close code within this time; then it is cut off."""


class Hub:
    """All realtime connections of this process.

    Args:
        authenticate: (token, account named by `?account=`) -> who; raises SnackBaseError.
        reload: (claims, id of the account acted in) -> the current principal; raises SnackBaseError with a word of
            CLOSINGS.
        snapshot: reads a whole list with its place in the log (services.records).
        bus: carries what is committed to and from other nodes.
        spawn: starts a task that the application owns. later: runs the hooks of what has happened.
    """

    def __init__(
        self,
        *,
        store: Store,
        catalog: Catalog,
        hooks: Hooks,
        positions: Positions,
        settings: Settings,
        counters: Counters,
        authenticate: Callable[[str, str | None], Awaitable[Authenticated]],
        reload: Callable[[Claims, str], Awaitable[Principal]],
        snapshot: ReadSnapshot,
        bus: Bus,
        spawn: Callable[..., object],
        later: Later,
    ) -> None:
        self._catalog = catalog
        self._hooks = hooks
        self._positions = positions
        self.counters = counters
        self._authenticate = authenticate
        self._spawn = spawn
        self._partings = Turns(PART_AT_ONCE)
        self._timing = timing_of(settings)
        self._time = Timekeeper(self._timing, end=self.end, token=self._token)
        self._admission = Admission(limits_of(settings))
        self._pending: list[Sequence[Change]] = []
        self._store = store
        self.feeds = Feeds(
            store,
            route=self._route,
            lost=self._lost_history,
            refresh=self.refresh,
            spawn=spawn,
            tally=counters,
            bus=bus,
        )
        self.neighbours = Neighbours(bus, self.feeds, catalog, deliver=self.deliver, refresh=self.refresh, spawn=spawn)
        self.delivery = Delivery(
            most=settings.realtime_outbox_bytes,
            most_in_all=settings.realtime_outbox_total_bytes,
            stall_s=settings.realtime_stall_seconds,
            slow=self._slow,
            counters=counters,
        )

        self._passages = Passages(store.read_changes, position=self._token, counters=counters)
        self._replays = Replays(
            self._passages,
            caught_up=lambda connection, replay: self._past.caught_up(connection, replay),
            expired=lambda connection, replay: self._past.expired(connection, replay),
            behind=self._catch_up,
            spawn=spawn,
            counters=counters,
        )
        budget = Budget.of(settings)
        self.rights = Rights(
            catalog,
            budget=budget,
            unreplay=self._replays.drop,
            go_on=lambda connection, subscription, place: self._past.go_on(connection, subscription, place),
            reload=lambda connection: reload(connection.identity, connection.feed.account_id),
            end=self.end,
            position=self.position,
            spawn=spawn,
            counters=counters,
        )
        standings = Standings(store, catalog, positions)
        self.explainer = Explainer(store, catalog, positions)
        self._attendance = Attendance(
            admission=self._admission,
            feeds=self.feeds,
            explainer=self.explainer,
            hooks=hooks,
            later=later,
            counters=counters,
        )
        self.counts = self._attendance.counts
        self.polling = Polling(store, catalog, standings, self._passages, budget=budget, token=self._token)
        self._past = Past(
            standings=standings,
            catalog=catalog,
            positions=positions,
            rights=self.rights,
            replays=self._replays,
            delivery=self.delivery,
            counters=counters,
            position=self.position,
            read=snapshot,
            spawn=spawn,
            now_us=now_us,
        )
        self._dialogue = Dialogue(
            hooks=hooks,
            rights=self.rights,
            past=self._past,
            counters=counters,
            timing=self._timing,
            position=self.position,
            authenticate=self._take_token,
            end=self.end,
            refresh=self.refresh,
            spawn=spawn,
            later=later,
            now_us=now_us,
        )
        self.lagging = self.delivery.lagging

    def start(self) -> None:
        """Begin to keep time and to hear other nodes; on the running loop."""
        self.neighbours.start()
        self._spawn(self.feeds.poll(), name="head-poll")
        self._spawn(self.delivery.watch(), name="outbox-watch")
        self._spawn(self._passages.tidy(), name="log-passages")
        self._spawn(self._time.run(), name="realtime-timers")

    @property
    def size(self) -> int:
        """Live connections."""
        return len(self._attendance)

    def subscriptions(self) -> int:
        return sum(live.members for live in self.feeds.all())

    def position(self, live: LiveFeed) -> str:
        """The token of the place up to which a feed was routed, under the rules now in force."""
        return self._token(live.account_id, live.at)

    def _token(self, account_id: str, at: Head) -> str:
        return self._positions.token(account_id, Position(at.seq, at.ts_us, self._catalog.version))

    # Opening ---------------------------------------------------------------------------------------------------------

    async def open(self, opening: Opening) -> Connection:
        """Make a connection, without a transport yet.

        Raises:
            Refused: draining, over a limit, slowed down, or a hook said no.
        """
        now = time.monotonic()
        try:
            self._admission.admit(opening.address, now, known=opening.authenticated is not None)
        except Refused as refused:
            add(self.counters.connections, (opening.wire.name, refused.error.code))
            raise
        connection = Connection(
            os.urandom(12).hex(),
            opening.wire,
            desk=self,
            address=opening.address,
            account=opening.account,
            stages=opening.wire.name == "sse" and opening.subscriptions > 1,
            now=now,
            timing=self._timing,
        )
        self._attendance.connections[connection] = None
        try:
            if opening.authenticated is not None:
                await self._enter(connection, opening.authenticated)
        except BaseException as error:
            if connection.state is not State.ENDED:
                self._attendance.forget(connection)
            if isinstance(error, Refused):
                add(self.counters.connections, (opening.wire.name, error.error.code))
            raise
        add(self.counters.connections, (opening.wire.name, "opened"))
        self._time.begin(connection)
        return connection

    async def _enter(self, connection: Connection, authenticated: Authenticated) -> None:
        """The principal is known: limits of the user, hooks, feeds."""
        principal, claims = authenticated.principal, authenticated.claims
        self._admission.admit_user(claims.user_id, time.monotonic())
        connection.principal, connection.claims = principal, claims
        try:
            await self._hooks.fire("on_realtime_connect", refusing=True, **who(connection))  # type: ignore[arg-type]  # none of its values is the collection
        except HookAbort as refusal:
            raise Refused(Forbidden(refusal.message, code=refusal.code), errors.refused_by_hook(refusal)) from None
        try:
            connection.live = await self.feeds.join(connection, principal.account_id)
            if claims.account_id != principal.account_id:
                connection.home = await self.feeds.join(connection, claims.account_id)
        except BaseException:
            self._attendance.release(connection)
            raise
        if connection.state is State.ENDED:  # the client went meanwhile: what was taken since then is nobody's
            self._attendance.release(connection)
            return
        connection.authenticated(principal, claims.expires_at)
        await self.rights.recheck(connection, authenticated.at)

    async def _take_token(self, connection: Connection, token: str) -> None:
        """Serve an `auth` message. Raises SnackBaseError."""
        fresh = await self._authenticated_now(connection, token)
        if connection.state is State.ENDED:
            return
        if connection.state is State.AUTHENTICATING:
            try:
                await self._enter(connection, fresh)
            except Refused as refused:
                self.end(connection, refused.closing)
                raise refused.error from None
            return
        old = connection.identity
        if (fresh.claims.user_id, fresh.claims.account_id) != (old.user_id, old.account_id):
            raise Forbidden("A fresh token has to belong to the same user and account.", code="auth_mismatch")
        connection.claims, connection.principal = fresh.claims, fresh.principal
        connection.renew(fresh.claims.expires_at)
        self._time.soon(connection)

    async def _authenticated_now(self, connection: Connection, token: str) -> Authenticated:
        """Whose token it is, by rows that no control row has overtaken while they were read. Raises SnackBaseError."""
        for _ in range(MOST_LOOKS):
            controls = connection.controls
            fresh = await self._authenticate(token, connection.account)
            if connection.controls == controls:
                return fresh
        raise Unavailable("Rights are changing too quickly.", code="overloaded", retry_after_s=1)

    async def subscribe_all(
        self, connection: Connection, requests: Sequence[SubscribeRequest], *, resuming: bool
    ) -> None:
        """The subscriptions an SSE stream begins with; before the transport is attached.

        Args:
            resuming: a stream that comes back is told `unsubscribed` of what cannot be any more, and goes on: any
                answer but 200 would end an EventSource for ever (contract §4).

        Raises:
            ProtocolError, HookAbort: the first request that cannot be served; of a stream that comes back only what the
                store cannot answer now.
        """

        def refused(request: SubscribeRequest, error: ProtocolError | HookAbort) -> None:
            if not resuming or (isinstance(error, ProtocolError) and error.origin is not None):
                raise error
            reason = "collection_deleted" if error.code == "collection_not_found" else "forbidden"
            connection.send(protocol.unsubscribed(request.collection, name=request.id, reason=reason))

        self._round()
        await self._dialogue.subscribe_all(connection, requests, action=None, refused=refused)

    def beat(self, connection: Connection) -> None:
        """A heartbeat now, if everything is live: what a stream that was told nothing yet can be resumed from."""
        if connection.state is State.LIVE:
            self._time.beat(connection)
            connection.flush()

    # Ending ----------------------------------------------------------------------------------------------------------

    def end(self, connection: Connection, closing: Closing) -> None:
        """End a connection from this side: the last message, the close code, the hook. Idempotent."""
        if connection.state is State.ENDED:
            return
        user = connection.claims.user_id if connection.claims is not None else None
        self._admission.ended(closing, connection.address, user, time.monotonic())
        self.rights.take_all(connection)
        connection.send(protocol.closing(closing, retry_after_ms(closing, len(self._attendance))))
        connection.shut(closing)
        self._attendance.leave(connection, closing.code, code=closing.close_code, reason=closing.code)

    def gone(self, connection: Connection, code: int | None, reason: str) -> None:
        """The client went, or its transport broke. Idempotent."""
        self.delivery.forget(connection)
        if connection.state is State.ENDED:
            return
        connection.state = State.ENDED
        # At once, for whoever comes back at once. The rest in turn: a proxy that ends takes all of its clients along.
        self._attendance.vacate(connection)
        if self._partings.free():
            self._part(connection, code, reason)
        else:
            self._partings.later(partial(self._part, connection, code, reason))

    def _part(self, connection: Connection, code: int | None, reason: str) -> None:
        self.rights.take_all(connection)
        word = "lost" if code in (None, 1006) else "client"
        self._attendance.leave(connection, word, code=code, reason=reason)

    def _slow(self, connection: Connection, nothing_kept: bool) -> None:
        link = connection.link
        self.end(connection, errors.SLOW_CONSUMER)
        if link is not None:
            if nothing_kept:
                link.abort()
            else:
                asyncio.get_running_loop().call_later(SLOW_GRACE_S, link.abort)

    async def drain(self, within_s: float, *, closing: Closing = errors.RESTARTING) -> None:
        """End every connection, in batches spread over half of the time; new ones are refused from now on."""
        self._admission.draining = closing
        waiting = list(self._attendance.connections)
        batches = max(1, -(-len(waiting) // DRAIN_BATCH))
        pause = min(0.1, within_s / 2 / batches)
        for start in range(0, len(waiting), DRAIN_BATCH):
            for connection in waiting[start : start + DRAIN_BATCH]:
                self.end(connection, closing)
            await asyncio.sleep(pause)

    @property
    def draining(self) -> Closing | None:
        return self._admission.draining

    # Changes ---------------------------------------------------------------------------------------------------------

    def receive(self, connection: Connection, payload: bytes) -> None:
        """One message of a client. Who was told of a commit and then subscribes begins after that commit."""
        if self._pending:
            self._round()
        self._dialogue.receive(connection, payload)

    def deliver(self, changes: Sequence[Change]) -> None:
        """Committed changes, from the store or the bus: announced, not trusted. Routed in the loop's next turn."""
        if not self._pending:
            asyncio.get_running_loop().call_soon(self._round)
        self._pending.append(changes)

    def committed(self, changes: Sequence[Change]) -> None:
        """What this node committed: for the clients here and for the other nodes."""
        self.deliver(changes)
        self.neighbours.tell(changes)

    def _round(self) -> None:
        pending, self._pending = self._pending, []
        for changes in pending:
            self.feeds.accept(changes)
        self.delivery.flush()

    def _route(self, live: LiveFeed, changes: Sequence[Change]) -> None:
        """One whole transaction, in the order of the log."""
        self.counters.event_lag.observe(max(0, now_us() - changes[-1].ts_us) / 1_000_000)
        try:
            live.route(changes, self.position(live), self.delivery.dirty)
            self.delivery.end(live.left_out)
            self._passages.extend(live.account_id, changes, time.monotonic())
        except Exception:
            # A defect of ours: whoever might have missed an event must not go on as if nothing happened; they resume.
            log.exception("route_failed", account_id=live.account_id, seq=live.at.seq)
            for connection in list(live.connections):
                if isinstance(connection, Connection):
                    connection.cut()
        for change in changes:
            if change.op is Op.CONTROL:
                self.rights.control(live, change)
        if len(live.connections) and live.repairing:
            self.delivery.flush()

    def _catch_up(self, account_id: str) -> None:
        """The store is ahead of a feed, as a snapshot showed."""
        self._spawn(self.feeds.check([account_id]), name="feed-check")

    def doubt(self) -> None:
        """The database may have lost what it had committed: what was read of the log may not be of its history."""
        self._passages.clear()
        self.feeds.doubt()

    def _lost_history(self, live: LiveFeed, reason: str) -> None:
        """The log was pruned past what this feed had still to read, or (`ahead`) lost what it has told."""
        for connection in [one for one in live.connections if isinstance(one, Connection)]:
            if reason == "ahead":
                connection.cut()
            elif connection.state is State.LIVE:
                self.rights.missed(connection, live, reason)

    async def refresh(self) -> None:
        """Another process may have changed a schema or a rule; its announcements do not come here."""
        if await self._store.version() > self._catalog.version:
            self.schema_changed(*await self._store.collections())

    def schema_changed(self, version: int, collections: tuple[Collection, ...]) -> None:
        """Every definition after a committed change of a schema or a rule; in commit order with `deliver`."""
        if version <= self._catalog.version:
            return
        self._round()
        before = {definition.collection.id: definition.collection for definition in self._catalog.all()}
        self._catalog.replace(version, collections)
        self.neighbours.tell_version(version)
        self._passages.clear()
        self.rights.catalog_changed(list(self.feeds.all()), before)
