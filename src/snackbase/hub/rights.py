"""What happens to open connections when rights, rules or schemas change (contract §2).

Security first, work later: whoever may be concerned leaves their groups at once, in the order of the log, so not one
more event is judged by old rights; then they are judged anew, a slice a loop turn, and told `resync`, `unsubscribed` or
how the connection ends. Who has nothing to fetch again is told instead what was routed meanwhile. While a connection
holds such a subscription, nothing moves its resume point.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from itertools import islice
from time import monotonic

import msgspec
import structlog

from snackbase.catalog import PERSONAL_CLAIMS, Catalog
from snackbase.errors import (
    ACCOUNT_DISABLED,
    CLOSINGS,
    OVERLOADED,
    TOKEN_REVOKED,
    USER_DISABLED,
    Closing,
    SnackBaseError,
)
from snackbase.hub.budget import Budget, count, discount
from snackbase.hub.connection import Connection
from snackbase.hub.feeds import LiveFeed
from snackbase.hub.views import subscription_of
from snackbase.metrics import Counters, add
from snackbase.model import Change, Collection, Head, Principal
from snackbase.realtime import protocol
from snackbase.realtime.protocol import EVERY_COLLECTION, ProtocolError
from snackbase.realtime.session import State, Subscription

log = structlog.get_logger("snackbase.hub")

SLICE = 200


class _Waiting(msgspec.Struct):
    """A subscription that is to be judged anew.

    Attributes:
        reason: why its list may differ, told as `resync`; None = it does not.
        place: up to where it was told everything.
    """

    subscription: Subscription
    reason: str | None
    place: Head | None = None


class Rights:
    """Places subscriptions in their feeds, and judges them anew when something changed.

    Args:
        reload: the current principal of a connection; raises SnackBaseError with a word of CLOSINGS when it is gone.
        end: ends a connection.
        position: the token of the place up to which a feed was routed.
        unreplay: takes a subscription out of its replay, if it is in one.
        go_on: replays to a subscription what came after a place, and joins it.
        spawn: starts a task that the application owns.
    """

    def __init__(
        self,
        catalog: Catalog,
        *,
        budget: Budget,
        unreplay: Callable[[Connection, Subscription], None],
        go_on: Callable[[Connection, Subscription, Head], None],
        reload: Callable[[Connection], Awaitable[Principal]],
        end: Callable[[Connection, Closing], None],
        position: Callable[[LiveFeed], str],
        spawn: Callable[..., object],
        counters: Counters,
    ) -> None:
        self._catalog = catalog
        self._budget = budget
        self._unreplay = unreplay
        self._go_on = go_on
        self._reload = reload
        self._end = end
        self._position = position
        self._spawn = spawn
        self._counters = counters
        self._waiting: dict[tuple[Connection, str], _Waiting] = {}
        self._judging = False
        self._asked = 0

    # Places ----------------------------------------------------------------------------------------------------------

    def put(self, connection: Connection, subscription: Subscription) -> None:
        """Join the feed: from the next change on it is delivered. Replaces the subscription of the same key."""
        self.register(connection, subscription)
        subscription.since_seq = connection.feed.at.seq
        self.join(connection, subscription)

    def register(self, connection: Connection, subscription: Subscription) -> None:
        """Take the place of the same key, held: nothing is delivered before `join`."""
        self.take(connection, subscription.request.key)
        connection.subscriptions[subscription.request.key] = subscription
        count(connection, subscription)
        connection.held += 1
        if subscription.collection_id != EVERY_COLLECTION and subscription.request.id is None:
            self._refresh_every(connection)

    def take(self, connection: Connection, key: str) -> Subscription | None:
        """Remove a subscription; None when there is none of that key."""
        subscription = connection.subscriptions.pop(key, None)
        if subscription is None:
            return None
        discount(connection, subscription)
        self._hold(connection, subscription)
        connection.held -= 1
        if subscription.collection_id != EVERY_COLLECTION and subscription.request.id is None:
            self._refresh_every(connection)
        return subscription

    def take_all(self, connection: Connection) -> None:
        for subscription in connection.subscriptions.values():
            discount(connection, subscription)
            self._leave(connection, subscription)
        connection.subscriptions.clear()
        connection.replays = ()
        connection.held = 0

    def unnamed(self, connection: Connection) -> frozenset[str]:
        """Ids of the collections whose unnamed subscription takes precedence over `*` on this connection."""
        return frozenset(
            subscription.collection_id
            for subscription in connection.subscriptions.values()
            if subscription.request.id is None and subscription.collection_id != EVERY_COLLECTION
        )

    def knows(self, collection: str) -> bool:
        """Whether there is such a collection, as far as this process has heard."""
        return collection == EVERY_COLLECTION or self._catalog.by_name(collection) is not None

    def judge(self, connection: Connection, subscription_request: protocol.SubscribeRequest) -> Subscription:
        """What the connection's principal would see. Raises ProtocolError."""
        if connection.principal is None:
            raise ProtocolError("not_authenticated", "Send an `auth` message with a token first.")
        return subscription_of(self._catalog, connection.principal, subscription_request, self.unnamed(connection))

    def join(self, connection: Connection, subscription: Subscription) -> None:
        """End the hold: from the next change on it is delivered. While rights are asked for it stays held."""
        if self.renewing(connection, subscription):
            return
        connection.held -= 1
        if subscription.collection_id == EVERY_COLLECTION:
            subscription.views = self.judge(connection, subscription.request).views
            count(connection, subscription)
        self._join(connection, subscription)

    def check_cost(self, connection: Connection, subscription: Subscription) -> None:
        """Raises ProtocolError: `too_costly`."""
        self._budget.check(connection, subscription)

    def _join(self, connection: Connection, subscription: Subscription) -> None:
        live = connection.feed
        bits, name = subscription.bits, subscription.name
        if subscription.collection_id == EVERY_COLLECTION:
            subscription.membership = live.join_every(connection, subscription.views, bits=bits, name=name)
        else:
            view = subscription.views[subscription.collection_id]
            subscription.membership = live.join(connection, view, bits=bits, name=name)

    def _leave(self, connection: Connection, subscription: Subscription) -> None:
        if subscription.membership is not None and connection.live is not None:
            connection.live.leave(connection, subscription.membership)
            subscription.membership = None

    def _replace(self, connection: Connection, key: str, old: Subscription, fresh: Subscription) -> None:
        """The same subscription under other rights, in its place."""
        discount(connection, old)
        connection.subscriptions[key] = fresh
        count(connection, fresh)

    def _refresh_every(self, connection: Connection) -> None:
        """The unnamed subscriptions changed, so `*` covers other collections than before."""
        for key, subscription in list(connection.subscriptions.items()):
            if subscription.collection_id != EVERY_COLLECTION:
                continue
            fresh = self.judge(connection, subscription.request)
            if subscription.membership is None:
                subscription.views, subscription.claims = fresh.views, fresh.claims
            else:
                self._leave(connection, subscription)
                fresh.since_seq = subscription.since_seq
                self._replace(connection, key, subscription, fresh)
                self._join(connection, fresh)

    # Changes of somebody's rights, in the order of the log -----------------------------------------------------------

    def control(self, live: LiveFeed, change: Change) -> None:
        """Apply a control row of an account's log to everybody connected here."""
        live.controls += 1
        live.quiet_since = monotonic()
        what, subject = change.data.get("what"), change.record_id
        concerned = [connection for connection in live.connections if isinstance(connection, Connection)]
        for connection in concerned:
            claims = connection.claims
            if claims is None or connection.state is not State.LIVE:
                continue
            if what == "account_disabled" and subject in (live.account_id, claims.account_id):
                self._end(connection, ACCOUNT_DISABLED)
            elif what == "login_ended" and claims.session_id == subject:
                self._end(connection, TOKEN_REVOKED)
            elif claims.user_id != subject:
                continue
            elif what == "user_disabled":
                self._end(connection, USER_DISABLED)
            elif what == "key_revoked" or (what == "logins_ended" and claims.session_id != change.data.get("except")):
                self._end(connection, TOKEN_REVOKED)
            elif what == "user_rights":
                self._rights_changed(connection)

    def missed(self, connection: Connection, live: LiveFeed, reason: str) -> None:
        """Changes of an account went past a connection unread; changes of rights may have been among them."""
        self._rights_changed(connection)
        # Those that are held are told by what holds them: a replay meets the same gap.
        joined = [one for one in connection.subscriptions.values() if one.membership is not None]
        while joined and connection.live is live:
            self.resync(connection, joined.pop(0), reason, last=not joined)
        connection.flush()

    def renewing(self, connection: Connection, subscription: Subscription) -> bool:
        """Whether the rights it depends on are being asked for: it is held then, and judged by them afterwards."""
        return connection.renewals > 0 and bool(subscription.claims & PERSONAL_CLAIMS)

    def _rights_changed(self, connection: Connection) -> None:
        for subscription in connection.subscriptions.values():
            if subscription.claims & PERSONAL_CLAIMS:
                self._hold(connection, subscription)
        connection.renewals += 1
        self._spawn(self._renew(connection), name="principal-reload")

    async def _renew(self, connection: Connection) -> None:
        try:
            await self._renewed(connection)
        except SnackBaseError as error:
            # Whatever keeps the current rights from being known must not leave the old ones in force.
            self._end(connection, CLOSINGS.get(error.code, TOKEN_REVOKED if error.status < 500 else OVERLOADED))

    async def recheck(self, connection: Connection, read_at: float) -> None:
        """Ask for the principal anew if it may have changed before the feed was followed: that was told to nobody here.

        Not when the feed was followed before the principal was read, and has told of nobody's rights since.

        Raises:
            SnackBaseError: it is gone, or cannot be known.
        """
        if connection.home is None and connection.feed.quiet_since < read_at:
            return
        connection.renewals += 1
        await self._renewed(connection)

    async def _renewed(self, connection: Connection) -> None:
        self._asked += 1
        asked = self._asked
        try:
            principal = await self._reload(connection)
        finally:
            connection.renewals -= 1
        # Answers may overtake each other: that to an older question is of no use any more.
        if asked > connection.renewal:
            connection.renewal, connection.principal = asked, principal
        if connection.renewals:
            return
        # Also those that were made meanwhile.
        for key, subscription in connection.subscriptions.items():
            if subscription.claims & PERSONAL_CLAIMS:
                self._hold(connection, subscription)
                self._wait(connection, key, _Waiting(subscription, "rights"))
        self._judge_soon()

    def _hold(self, connection: Connection, subscription: Subscription) -> None:
        """Nothing more is delivered to it, live or replayed, until it is joined again."""
        if subscription.membership is not None:
            self._leave(connection, subscription)
            connection.held += 1
        else:
            self._unreplay(connection, subscription)

    # Changes of rules and schemas ------------------------------------------------------------------------------------

    def catalog_changed(self, feeds: list[LiveFeed], before: Mapping[str, Collection]) -> None:
        """The catalog is the new one; hold and judge every subscription whose list or whose views may differ."""
        after = {definition.collection.id: definition.collection for definition in self._catalog.all()}
        changed = {
            collection_id: _reason(before.get(collection_id), after.get(collection_id))
            for collection_id in before.keys() | after.keys()
            if before.get(collection_id) != after.get(collection_id)
        }
        if not changed:
            return
        reasons = [reason for reason in changed.values() if reason is not None]
        # One list over everything loses the records of a collection that is gone.
        reasons += ["schema" for collection_id in before.keys() - after.keys() if collection_id in changed]
        overall = next((reason for reason in ("rights", "schema") if reason in reasons), None)
        for live in feeds:
            for connection in list(live.connections):
                if not isinstance(connection, Connection) or connection.live is not live:
                    continue
                for key in list(connection.subscriptions):
                    subscription = connection.subscriptions.get(key)
                    if subscription is None:
                        continue
                    every = subscription.collection_id == EVERY_COLLECTION
                    if not every and subscription.collection_id not in changed:
                        continue
                    reason = overall if every else changed[subscription.collection_id]
                    if reason is None and subscription.membership is None:
                        self._look_anew(connection, key, subscription)
                        continue
                    self._hold(connection, subscription)
                    self._wait(connection, key, _Waiting(subscription, reason, live.at))
        self._judge_soon()

    def _look_anew(self, connection: Connection, key: str, subscription: Subscription) -> None:
        """It is being replayed, or waits for something: it goes on where it is, and sees what it sees now."""
        fresh = self._fresh(connection, key, subscription)
        if fresh is None:
            connection.flush()
        else:
            subscription.views, subscription.claims = fresh.views, fresh.claims
            count(connection, subscription)

    # Judging anew ----------------------------------------------------------------------------------------------------

    def _wait(self, connection: Connection, key: str, entry: "_Waiting") -> None:
        """To be judged anew; of several reasons the first is told, and a place before which all was told stays."""
        known = self._waiting.get((connection, key))
        if known is None or known.subscription is not entry.subscription:
            self._waiting[connection, key] = entry
        elif known.reason is None and entry.reason is not None:
            known.reason = entry.reason

    def _judge_soon(self) -> None:
        if self._waiting and not self._judging:
            self._judging = True
            asyncio.get_running_loop().call_soon(self._judge_slice)

    def _judge_slice(self) -> None:
        self._judging = False
        for connection, key in list(islice(self._waiting, SLICE)):
            entry = self._waiting.pop((connection, key))
            if connection.state is State.LIVE and connection.subscriptions.get(key) is entry.subscription:
                try:
                    self._judge_again(connection, key, entry)
                except Exception:
                    # A defect of ours: nobody may go on under rights that could not be judged.
                    log.exception("judging_failed", connection_id=connection.id)
                    connection.cut()
                connection.flush()
        self._judge_soon()

    def _judge_again(self, connection: Connection, key: str, entry: "_Waiting") -> None:
        subscription, reason = entry.subscription, entry.reason
        if subscription.membership is not None:
            return
        fresh = self._fresh(connection, key, subscription)
        if fresh is None:
            return
        self._replace(connection, key, subscription, fresh)
        if reason is None and entry.place is not None:
            fresh.since_seq = subscription.since_seq
            if entry.place != connection.feed.at:
                # What was routed while it was held went past it.
                self._go_on(connection, fresh, entry.place)
                return
        self.join(connection, fresh)
        if reason is not None:
            self.resync(connection, fresh, reason)

    def _fresh(self, connection: Connection, key: str, subscription: Subscription) -> Subscription | None:
        """It under the rights and rules of now; None = there is no such thing any more, as the client is told."""
        try:
            return self._same_collection(connection, subscription)
        except ProtocolError as error:
            self.take(connection, key)
            gone = "collection_deleted" if error.code == "collection_not_found" else "forbidden"
            request = subscription.request
            connection.send(protocol.unsubscribed(request.collection, name=request.id, reason=gone))
            return None

    def _same_collection(self, connection: Connection, subscription: Subscription) -> Subscription:
        """Judge by the collection's id: a new collection of an old name is another one, a renamed one the same."""
        request = subscription.request
        if subscription.collection_id != EVERY_COLLECTION:
            definition = self._catalog.by_id(subscription.collection_id)
            if definition is None:
                raise ProtocolError("collection_not_found", "The collection was deleted.")
            if definition.collection.name != request.collection:
                request = protocol.renamed(request, definition.collection.name)
        fresh = self.judge(connection, request)
        fresh.request = subscription.request
        fresh.since_seq = connection.feed.at.seq
        return fresh

    def resync(self, connection: Connection, subscription: Subscription, reason: str, *, last: bool = True) -> None:
        """Tell the client to fetch the list again; live events go on from the position told. `last`: of several."""
        add(self._counters.resyncs, reason)
        position = self._position(connection.feed)
        payload = protocol.resync(subscription.request.collection, reason, position, name=subscription.request.id)
        wire, resumable = connection.wire, last and not connection.held
        connection.out += (wire.resumable(payload, position.encode()) if resumable else wire.message(payload),)


def _reason(before: Collection | None, after: Collection | None) -> str | None:
    """Why a list may differ; None = it cannot, or the collection is new or gone."""
    if before is None or after is None:
        return None
    if before.rules_version != after.rules_version:
        return "rights"
    return "schema" if before.schema_version != after.schema_version else None
