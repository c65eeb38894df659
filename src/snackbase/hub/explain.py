"""Why did this change reach that client, or not? The answer for administrators, by the same judgement as delivery.

For one committed change and one user or connection it walks through what delivery asks, in its order: connected,
subscribed before the change, operation, rule, filter; and says at which step the change stopped. Connections that ended
lately are remembered with their reason, since a slow or expired client is the commonest answer of all.
"""

import asyncio
import time
from collections import deque
from collections.abc import Iterable
from typing import Any

import msgspec
import structlog

from snackbase.catalog import Catalog, Definition, auth_of
from snackbase.errors import GOING_AWAY, RESTARTING, BadRequest, NotFound
from snackbase.hub.connection import Connection
from snackbase.model import Change, Op, Principal, rfc3339
from snackbase.realtime.fanout import OPERATION_NAMES, Judged, Verdict
from snackbase.realtime.position import Positions
from snackbase.realtime.protocol import EVERY_COLLECTION
from snackbase.realtime.session import Subscription
from snackbase.rules import RuleError, predicate
from snackbase.storage.base import Store

log = structlog.get_logger("snackbase.hub")

MOST_REMEMBERED = 1000
SEARCHED = 2000
"""Newest changes of an account among which a record's last change is looked for."""
UNTOLD = frozenset({RESTARTING.code, GOING_AWAY.code, "client"})
"""Ends that come to everybody at once, or that the client wished: no lines of the log."""

WORDS = {
    "delivered": "It was delivered as {operation}.",
    "not_yet": "It is committed and about to be judged; ask again.",
    "not_subscribed": "The connection has no subscription to this collection.",
    "subscribed_later": "The subscription began after this change.",
    "replaying": "The subscription is still receiving what it missed; this change comes in its turn.",
    "rights": "The subscription waits to be judged again, because rights, rules or schemas changed.",
    "rule": "The list rule hides the record from this user, before and after the change.",
    "filter": "The record did not match the subscription's filter, before and after the change.",
    "rule_and_filter": "No state of the record passed both the list rule and the filter.",
    "operation": "It would be delivered as {operation}, which the subscription did not ask for.",
    "collection_deleted": "The collection of this change is gone.",
}


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """A connection that is gone. `seq`: the newest change of the account that it was shown."""

    account_id: str
    user_id: str
    email: str | None
    connection_id: str
    transport: str
    code: str
    at: str
    seq: int


class Answer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of the change at one subscription. `reason` is a key of WORDS."""

    collection: str
    id: str | None = None
    delivered: bool
    reason: str
    message: str
    operation: str | None = None


class Explained(msgspec.Struct, frozen=True, kw_only=True):
    """The change, and what became of it at every connection asked for, live and lately ended."""

    change: dict[str, Any]
    connections: list[dict[str, Any]]
    ended: list[Ended]
    summary: str


class Explainer:
    """Explains changes. Fed by the hub with the connections that end."""

    def __init__(self, store: Store, catalog: Catalog, positions: Positions) -> None:
        self._store = store
        self._catalog = catalog
        self._positions = positions
        self._ended: deque[Ended] = deque(maxlen=MOST_REMEMBERED)

    def note_end(self, connection: Connection, word: str) -> None:
        """Remember a connection that ended, and write it down."""
        if connection.live is not None and connection.claims is not None:
            if word not in UNTOLD:
                log.info(
                    "connection_ended",
                    reason=word,
                    connection_id=connection.id,
                    transport=connection.wire.name,
                    client=connection.address,
                    user_id=connection.claims.user_id,
                    account_id=connection.live.account_id,
                    unsent_bytes=connection.link.buffered() if connection.link is not None else 0,
                )
            self._ended.append(
                Ended(
                    account_id=connection.live.account_id,
                    user_id=connection.claims.user_id,
                    email=_email(connection),
                    connection_id=connection.id,
                    transport=connection.wire.name,
                    code=word,
                    at=rfc3339(time.time_ns() // 1000),
                    seq=connection.live.at.seq,
                )
            )

    async def change(
        self, account_id: str, *, position: str | None, record_id: str | None, collection: str | None = None
    ) -> Change:
        """The change at a position, or a record's newest one.

        Args:
            collection: the record's, where it is known; None = any.

        Raises:
            BadRequest: neither or both are given, or the position is none. NotFound: it is not in the log.
        """
        if (position is None) == (record_id is None):
            raise BadRequest("Give either `position` or `record_id`.", code="invalid_message")
        if record_id is not None:
            head = await self._store.head(account_id)
            rows = await self._of_record(account_id, record_id, collection, max(0, head.seq - SEARCHED), head.seq)
        else:
            token = self._positions.parse(position or "")
            if token is None:
                raise BadRequest("This is not a position.", code="invalid_position")
            rows = await self._store.read_changes(account_id, max(0, token.seq - 1), 1)
            rows = [row for row in rows if row.seq == token.seq and self._is_of(row, collection)]
        if not rows:
            raise NotFound("There is no such change of a record in this account's log.", code="change_not_found")
        return rows[-1]

    async def _of_record(
        self, account_id: str, record_id: str, collection: str | None, after: int, until: int
    ) -> list[Change]:
        """A record's newest change between two places; the loop turns while many are looked through."""
        found: list[Change] = []
        while after < until and (rows := await self._store.read_changes(account_id, after, until - after)):
            after = rows[-1].seq
            found = [row for row in rows if row.record_id == record_id and self._is_of(row, collection)] or found
            await asyncio.sleep(0)
        return found[-1:]

    def _is_of(self, row: Change, collection: str | None) -> bool:
        definition = self._catalog.by_id(row.collection_id)
        named = collection is None or (definition is not None and definition.collection.name == collection)
        return named and row.op is not Op.CONTROL

    def explain(
        self, change: Change, connections: Iterable[Connection], *, user_id: str | None, connection_id: str | None
    ) -> Explained:
        """What became of a change at the connections of a user, or at one.

        Args:
            connections: everybody connected to this process who acts in the change's account.
            user_id: an id or an email.
        """
        definition = self._catalog.by_id(change.collection_id)
        judged = Judged(change)
        chosen = [
            one for one in connections if _is((one.identity.user_id, _email(one)), one.id, user_id, connection_id)
        ]
        told = [self._at(connection, definition, judged) for connection in chosen]
        ended = [
            one
            for one in self._ended
            if one.account_id == change.account_id
            and _is((one.user_id, one.email), one.connection_id, user_id, connection_id)
        ]
        return Explained(
            change={
                "seq": change.seq,
                "timestamp": judged.timestamp,
                "operation": change.op.value,
                "collection": definition.collection.name if definition is not None else None,
                "record_id": change.record_id,
                "tx_size": change.tx_size,
            },
            connections=told,
            ended=ended,
            summary=_summary(told, ended, change),
        )

    def _at(self, connection: Connection, definition: Definition | None, judged: Judged) -> dict[str, Any]:
        answers = [
            self._through(connection, subscription, definition, judged)
            for subscription in connection.subscriptions.values()
            if subscription.collection_id in (judged.change.collection_id, EVERY_COLLECTION)
        ]
        if not answers:
            answers = [_answer(None, "not_subscribed" if definition is not None else "collection_deleted")]
        unsent = connection.link.buffered() if connection.link is not None else 0
        if unsent:
            slow = f" {unsent} bytes of this connection are not sent yet: its client or the network is slow."
            answers = [
                msgspec.structs.replace(one, message=one.message + slow) if one.delivered else one for one in answers
            ]
        facts = {"id": connection.id, "transport": connection.wire.name, "unsent_bytes": unsent}
        return {**facts, "subscriptions": answers}

    def _through(
        self, connection: Connection, subscription: Subscription, definition: Definition | None, judged: Judged
    ) -> Answer:
        if any(part is subscription for replay in connection.replays for part, _ in replay.parts):
            return _answer(subscription, "replaying")
        if subscription.membership is None:
            return _answer(subscription, "rights")
        if connection.live is None or connection.live.at.seq < judged.change.seq:
            return _answer(subscription, "not_yet")
        if judged.change.seq <= subscription.since_seq:
            return _answer(subscription, "subscribed_later")
        view = subscription.views.get(judged.change.collection_id)
        verdict = judged.through(view.sees) if view is not None else None
        if verdict is None:
            return _answer(subscription, self._why(connection.principal, subscription, definition, judged))
        reason = "delivered" if verdict.bit & subscription.bits else "operation"
        return _answer(subscription, reason, verdict)

    def _why(
        self, principal: Principal | None, subscription: Subscription, definition: Definition | None, judged: Judged
    ) -> str:
        """Which of rule and filter, taken alone, hides both states of the record."""
        if definition is None or principal is None:
            return "collection_deleted"
        rule, auth = definition.rule("list"), auth_of(principal)
        if not principal.superadmin and (rule is None or judged.through(predicate(rule, auth)) is None):
            return "rule"
        if subscription.request.filter:
            try:
                wanted = definition.filter(subscription.request.filter, None)
            except RuleError:
                return "filter"
            if judged.through(predicate(wanted, auth)) is None:
                return "filter"
        return "rule_and_filter"


def _email(connection: Connection) -> str | None:
    return connection.principal.email if connection.principal is not None else None


def _is(user: tuple[str, str | None], connection: str, user_id: str | None, connection_id: str | None) -> bool:
    return (user_id is None or user_id in user) and (connection_id is None or connection == connection_id)


def _answer(subscription: Subscription | None, reason: str, verdict: Verdict | None = None) -> Answer:
    operation = OPERATION_NAMES[verdict.bit] if verdict is not None else None
    return Answer(
        collection=subscription.request.collection if subscription is not None else "",
        id=subscription.request.id if subscription is not None else None,
        delivered=reason == "delivered",
        reason=reason,
        message=WORDS[reason].format(operation=operation),
        operation=operation,
    )


def _summary(told: list[dict[str, Any]], ended: list[Ended], change: Change) -> str:
    answers = [answer for one in told for answer in one["subscriptions"]]
    if any(answer.delivered for answer in answers):
        return "delivered"
    if answers:
        return str(answers[0].reason)
    if ended and ended[-1].seq >= change.seq:
        return f"ended_since: the connection was there, and ended afterwards with {ended[-1].code}"
    return f"not_connected: the last connection ended with {ended[-1].code}" if ended else "not_connected"
