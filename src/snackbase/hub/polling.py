"""Changes for programs that poll (`GET /realtime/changes`): the same judgement and the same events as on a connection.

Reads the log, not the live stream, so an answer holds everything committed when it was asked for. Whole transactions
only; filtered-out changes move the position too.
"""

import asyncio
import time
from collections.abc import Callable, Sequence

import msgspec

from snackbase.catalog import Catalog
from snackbase.errors import BadRequest, Gone
from snackbase.hub.budget import Budget
from snackbase.hub.passages import Passages, Pruned
from snackbase.hub.standings import Standings
from snackbase.hub.views import subscription_of
from snackbase.model import Head, Principal
from snackbase.realtime.protocol import SubscribeRequest
from snackbase.realtime.session import Subscription
from snackbase.storage.base import Store

MOST_EVENTS = 1000
PIECE = 200
MOST_BYTES = 4 << 20
"""Of one answer's events; a transaction more than that is not begun."""
TURN_S = 0.002
MOST_TRANSACTIONS = 5000
"""Looked at in one answer, however few of them are visible; then `has_more` and the position reached."""

GONE = {
    "expired": "The position is older than the change log reaches back; list the records again.",
    "epoch": "The position belongs to another history of this database; list the records again.",
    "ahead": "The position lies ahead of the log; list the records again.",
    "unknown": "The position is not one of this account; list the records again.",
    "rights": "Rules or rights have changed since this position; list the records again.",
    "schema": "The collections have changed since this position; list the records again.",
}


class Polled(msgspec.Struct, frozen=True, kw_only=True):
    """Events in the order of the log, the position after the last change looked at, and whether there is more."""

    events: tuple[msgspec.Raw, ...]
    position: str
    has_more: bool


class Polling:
    """
    Args:
        token: (account, place) -> the position token under the rules now in force.
    """

    def __init__(
        self,
        store: Store,
        catalog: Catalog,
        standings: Standings,
        passages: Passages,
        *,
        budget: Budget,
        token: Callable[[str, Head], str],
    ) -> None:
        self._store = store
        self._catalog = catalog
        self._standings = standings
        self._passages = passages
        self._budget = budget
        self._token = token

    async def changes(
        self, principal: Principal, requests: Sequence[SubscribeRequest], *, since: str | None, limit: int
    ) -> Polled:
        """What came after `since`; without it nothing but the present position, to begin from.

        Args:
            limit: events at most; one transaction is never cut, so there may be more.

        Raises:
            ProtocolError: a request that cannot be served. BadRequest: invalid_limit. Gone: its code is the reason a
            connection would be told as `resync`. Unavailable: the store has a fault.
        """
        if not 1 <= limit <= MOST_EVENTS:
            raise BadRequest(f"limit is 1 to {MOST_EVENTS}, not {limit}.", code="invalid_limit")
        account_id = principal.account_id
        judged = self._judge(principal, requests)
        self._budget.check_searches(judged)
        if since is None:
            head = await self._store.head(account_id)
            return Polled(events=(), position=self._token(account_id, head), has_more=False)
        standing = await self._standings.of(account_id, principal.actor_id, since)
        judged = self._judge(principal, requests)
        for subscription in judged:
            reason = self._standings.refusal(standing, subscription)
            if reason is not None:
                raise _gone(reason)
        if standing.reason is not None:
            raise _gone(standing.reason)
        return await self._read(account_id, judged, standing.place, standing.head, limit)

    def _judge(self, principal: Principal, requests: Sequence[SubscribeRequest]) -> list[Subscription]:
        """Raises ProtocolError."""
        named = [self._catalog.by_name(request.collection) for request in requests]
        unnamed = frozenset(definition.collection.id for definition in named if definition is not None)
        return [subscription_of(self._catalog, principal, request, unnamed) for request in requests]

    async def _read(
        self, account_id: str, subscriptions: Sequence[Subscription], at: Head, head: Head, limit: int
    ) -> Polled:
        events: list[msgspec.Raw] = []
        version, looked, size = self._catalog.version, 0, 0

        def full() -> bool:
            return len(events) >= limit or size >= MOST_BYTES

        while at.seq < head.seq and not full() and looked < MOST_TRANSACTIONS:
            now = time.monotonic()
            found = self._passages.at_hand(account_id, at.seq, PIECE, now)
            if not found:
                try:
                    await self._passages.fetch(account_id, at.seq, now)
                except Pruned:
                    raise _gone("expired") from None
                found = []
            for passage in found:
                if passage.head.seq > head.seq or full():
                    break
                for subscription in subscriptions:
                    payloads = passage.payloads(subscription)
                    events.extend(map(msgspec.Raw, payloads))
                    size += sum(map(len, payloads))
                at, looked = passage.head, looked + 1
                if time.monotonic() - now > TURN_S:
                    # A filter may take long over long texts; others have their turn.
                    await asyncio.sleep(0)
                    break
            if self._catalog.version != version:
                raise _gone("rights")
        return Polled(events=tuple(events), position=self._token(account_id, at), has_more=at.seq < head.seq)


def _gone(reason: str) -> Gone:
    return Gone(GONE[reason], code=reason)
