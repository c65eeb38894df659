"""Where a client's position stands: can what came after it be told completely, under the same rights? (contract §3)

Asks the store once for the log's window and for changes of the principal's own rights, then judges each subscription by
the versions of its collections. The one answer for WebSocket, SSE and polling.
"""

import msgspec

from snackbase.catalog import PERSONAL_CLAIMS, Catalog
from snackbase.model import Head
from snackbase.realtime.position import Positions, Token
from snackbase.realtime.protocol import EVERY_COLLECTION
from snackbase.realtime.resume import crossing, refusal
from snackbase.realtime.session import Subscription
from snackbase.storage.base import Store


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What the store said of one position.

    Attributes:
        place: the row it names. head: the newest row at that moment.
        reason: why nothing can be resumed from it; None = it can, as far as the log goes.
        personal: whether the principal's own rights changed since.
    """

    token: Token | None
    place: Head
    head: Head
    reason: str | None
    personal: bool


class Standings:
    """Judges positions."""

    def __init__(self, store: Store, catalog: Catalog, positions: Positions) -> None:
        self._store = store
        self._catalog = catalog
        self._positions = positions

    async def of(self, account_id: str, user_id: str | None, since: str) -> Standing:
        """Ask the store. Raises Unavailable."""
        token = self._positions.parse(since)
        if token is None:
            return Standing(token=None, place=Head(0, 0), head=Head(0, 0), reason="unknown", personal=False)
        window = await self._store.window(account_id, token.seq)
        reason = refusal(token, self._positions, account_id, window)
        personal = False
        if reason is None and user_id is not None:
            personal = await self._store.rights_changed(account_id, token.seq, user_id)
        place = Head(token.seq, window.floor.ts_us if token.seq == window.floor.seq else window.ts_us or 0)
        return Standing(token=token, place=place, head=window.head, reason=reason, personal=personal)

    def refusal(self, standing: Standing, subscription: Subscription) -> str | None:
        """Why this subscription cannot go on from there, under the rules now in force; None = it can."""
        if standing.reason is not None or standing.token is None:
            return standing.reason
        versions = [
            (definition.collection.schema_version, definition.collection.rules_version)
            for definition in self._catalog.all()
            if definition.collection.id in subscription.views
        ]
        return crossing(
            standing.token,
            self._catalog.version,
            versions,
            every=subscription.collection_id == EVERY_COLLECTION,
            personal=standing.personal and bool(subscription.claims & PERSONAL_CLAIMS),
        )
