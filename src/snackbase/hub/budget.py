"""What subscriptions may cost: each change of a record is judged for them while the event loop waits.

Owns the count of each user's, from the moment a subscription takes its place (also held, or told of the past) until it
gives it up, so that no way of subscribing passes it by. Must not judge anything.
"""

from collections.abc import Sequence
from typing import Self

import msgspec

from snackbase.config import Settings
from snackbase.hub.connection import Connection
from snackbase.realtime.protocol import EVERY_COLLECTION, ProtocolError
from snackbase.realtime.session import Subscription


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """How much the subscriptions of a user may cost, and how many different views of an account may be judged for every
    event."""

    user: int
    account: int

    @classmethod
    def of(cls, settings: Settings) -> Self:
        return cls(user=settings.realtime_max_judged_per_user, account=settings.realtime_max_judged_per_account)

    def check(self, connection: Connection, subscription: Subscription) -> None:
        """Refuse what would cost too much (views with an index, and views that somebody else has too, cost next to
        nothing).

        Raises:
            ProtocolError: `too_costly`.
        """
        cost = cost_of(subscription)
        if not cost:
            return
        live, request = connection.feed, subscription.request
        replaced = connection.subscriptions.get(request.key)
        others = live.judged.get(connection.identity.user_id, 0) - (replaced.cost if replaced is not None else 0)
        every = subscription.collection_id == EVERY_COLLECTION
        if others + cost > self.user:
            raise _too_costly(f"{self.user} subscriptions of one user", request.collection)
        if _judged(subscription) and live.costly >= self.account and not live.has(subscription.views, every=every):
            raise _too_costly(f"{self.account} different views of one account", request.collection)

    def check_searches(self, subscriptions: Sequence[Subscription]) -> None:
        """The same for one look at the log, which is judged by their filters. Raises ProtocolError: `too_costly`."""
        if sum(one.searches for one in subscriptions) > self.user:
            raise _too_costly(f"{self.user} conditions of one request", subscriptions[0].request.collection)


def _too_costly(most: str, collection: str) -> ProtocolError:
    """`most`: what the budget allows."""
    return ProtocolError(
        "too_costly",
        f"Changes are judged for this subscription, and {most} of that kind are the most; each `~` and `IN field` of a "
        "filter counts. A condition such as `field = value`, `field IN (...)` or `@request.auth.id IN field` at the "
        "top level makes it cheap.",
        collection=collection,
    )


def cost_of(subscription: Subscription) -> int:
    """1 for what every event is judged for; and what its filter looks through, since that is the client's to choose."""
    return max(int(_judged(subscription)), subscription.searches)


def count(connection: Connection, subscription: Subscription) -> None:
    """It has taken its place, or shows something else now: count it anew."""
    cost = cost_of(subscription)
    if cost != subscription.cost:
        _add(connection, cost - subscription.cost)
        subscription.cost = cost


def discount(connection: Connection, subscription: Subscription) -> None:
    """It has given up its place."""
    if subscription.cost:
        _add(connection, -subscription.cost)
        subscription.cost = 0


def _add(connection: Connection, more: int) -> None:
    judged, user = connection.feed.judged, connection.identity.user_id
    left = judged.get(user, 0) + more
    if left > 0:
        judged[user] = left
    else:
        judged.pop(user, None)


def _judged(subscription: Subscription) -> bool:
    return any(view.costly for view in subscription.views.values())
