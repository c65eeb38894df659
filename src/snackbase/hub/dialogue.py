"""What clients ask for: subscribe, unsubscribe, auth, ping; each message answered in order (contract §3).

A message is served at once, on the call that delivered it. Only what has to wait (a token to be checked, a hook) goes
through a connection's inbox, and while one waits the later ones queue behind it, bounded by not reading on.
"""

import contextlib
import difflib
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from time import monotonic

import structlog

from snackbase.errors import (
    ACCOUNT_DISABLED,
    BAD_REQUEST,
    CLOSINGS,
    CONNECTION_LIMIT,
    OVERLOADED,
    TOKEN_INVALID,
    Closing,
    SnackBaseError,
)
from snackbase.hooks import HookAbort, Hooks, Later
from snackbase.hub.connection import Connection
from snackbase.hub.feeds import LiveFeed
from snackbase.hub.past import Past
from snackbase.hub.rights import Rights
from snackbase.hub.turns import Turns
from snackbase.metrics import Counters, add
from snackbase.model import Head, rfc3339
from snackbase.realtime import protocol
from snackbase.realtime.protocol import ClientMessage, Echo, ProtocolError, SubscribeRequest
from snackbase.realtime.session import State, Subscription, Timing

log = structlog.get_logger("snackbase.hub")

INBOX = 64
"""Messages that may wait behind one that is being served before the transport stops reading."""
INBOX_BYTES = 128 << 10
"""The same for their size: messages in which a client asks for hundreds of subscriptions are large."""
AT_ONCE = 16
"""Messages and subscriptions served in one turn of the loop (about 0.1 ms each)."""
FILTER_A_TURN = 128
"""Characters of a filter that cost as much as a message; a long one takes some milliseconds to compile."""
ACTIONS = ("subscribe", "unsubscribe", "auth", "ping")


class Dialogue:
    """Serves client messages.

    Args:
        authenticate: checks the token of an `auth` message and takes it over; raises SnackBaseError.
        end: ends a connection with a Closing.
        spawn: starts a task that the application owns. later: runs the hooks of what has happened.
        now_us: wall clock in µs, for the timestamps of replies.
    """

    def __init__(
        self,
        *,
        hooks: Hooks,
        rights: Rights,
        past: Past,
        counters: Counters,
        timing: Timing,
        position: Callable[[LiveFeed], str],
        authenticate: Callable[[Connection, str], Awaitable[None]],
        end: Callable[[Connection, Closing], None],
        refresh: Callable[[], Awaitable[None]],
        spawn: Callable[..., object],
        later: Later,
        now_us: Callable[[], int],
    ) -> None:
        self._hooks = hooks
        self._rights = rights
        self._past = past
        self._counters = counters
        self._timing = timing
        self._position = position
        self._authenticate = authenticate
        self._end = end
        self._refresh = refresh
        self._spawn = spawn
        self._later = later
        self._now_us = now_us
        self._turns = Turns(AT_ONCE)

    def receive(self, connection: Connection, payload: bytes) -> None:
        """One message of a client. Never raises."""
        if connection.state is State.ENDED:
            return
        self._counters.messages_received += 1
        closing = connection.accept(monotonic(), self._timing)
        if closing is not None:
            self._end(connection, closing)
            return
        try:
            message = protocol.decode(payload)
            self._check_action(message)
        except ProtocolError as error:
            self._mistake(connection, error, protocol.echo_of(payload))
            return
        connection.understood()
        if message.action == "auth":
            connection.token_came()
        if connection.inbox is not None:
            connection.inbox.append((message, len(payload)))
            connection.inbox_bytes += len(payload)
            full = len(connection.inbox) >= INBOX or connection.inbox_bytes > INBOX_BYTES
            if full and connection.link is not None:
                connection.link.pause_reading()
        elif self._must_wait(connection, message):
            connection.inbox, connection.inbox_bytes = deque(((message, len(payload)),)), len(payload)
            self._spawn(self._work(connection), name="realtime-messages")
        else:
            self._serve(connection, message)
            connection.flush()

    def _check_action(self, message: ClientMessage) -> None:
        if message.action in ACTIONS:
            return
        near = difflib.get_close_matches(message.action[:40], ACTIONS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(ACTIONS)}."
        raise ProtocolError("unknown_action", f"{message.action[:40]!r} is no action{hint}")

    def _mistake(self, connection: Connection, error: ProtocolError, asked: Echo) -> None:
        self._refuse(connection, error, asked)
        closing = connection.mistake()
        if closing is not None:
            self._end(connection, closing)
        connection.flush()

    def _refuse(self, connection: Connection, error: ProtocolError, asked: ClientMessage | Echo) -> None:
        add(self._counters.errors, error.code)
        payload = protocol.error(
            error.code, error.message, collection=error.collection, name=asked.id, action=asked.action
        )
        connection.send(payload)

    def _refuse_one(self, connection: Connection, request: SubscribeRequest, error: ProtocolError | HookAbort) -> None:
        """One of several subscriptions cannot be served: told with its own id, and the others are."""
        add(self._counters.errors, error.code)
        payload = protocol.error(
            error.code, error.message, collection=request.collection, name=request.id, action="subscribe"
        )
        connection.send(payload)

    # What has to wait ------------------------------------------------------------------------------------------------

    def _must_wait(self, connection: Connection, message: ClientMessage) -> bool:
        if message.action == "auth" or self._hooks.has("on_realtime_message"):
            return True
        if message.action != "subscribe":
            return False
        if message.subscriptions or len(message.filter or "") > FILTER_A_TURN:
            return True
        # An empty position is one that cannot be read, and is told so.
        from_the_past = message.since is not None or message.snapshot
        unknown = message.collection and not self._rights.knows(message.collection)
        if from_the_past or unknown or self._hooks.has("on_realtime_subscribe"):
            return True
        # Hundreds may come in one piece: whoever sends them waits, and not everybody else.
        return not self._turns.free()

    async def _work(self, connection: Connection) -> None:
        """Serve the inbox in order, then forget it."""
        inbox = connection.inbox
        while inbox and connection.state is not State.ENDED:
            await self._turns.take()
            message, size = inbox.popleft()
            connection.inbox_bytes -= size
            try:
                await self._serve_waiting(connection, message)
            except Exception:
                # A defect of ours: who is not answered must not wait for ever, nor for what came after it.
                log.exception("message_failed", connection_id=connection.id)
                connection.cut()
            connection.flush()
            roomy = len(inbox) <= INBOX // 2 and connection.inbox_bytes <= INBOX_BYTES // 2
            if roomy and connection.link is not None:
                connection.link.resume_reading()
        connection.inbox = None
        if connection.link is not None:
            connection.link.resume_reading()

    async def _serve_waiting(self, connection: Connection, message: ClientMessage) -> None:
        try:
            if self._hooks.has("on_realtime_message"):
                await self._fire("on_realtime_message", connection, message=protocol.shown(message))
            if message.action == "auth":
                await self._auth(connection, message)
                return
            if message.action == "subscribe" and connection.state is State.LIVE:
                await self.subscribe_all(
                    connection,
                    protocol.subscribe_requests(message),
                    action=message.action,
                    refused=partial(self._refuse_one, connection),
                )
                return
        except HookAbort as refusal:
            self._refuse(
                connection, ProtocolError(refusal.code, refusal.message, collection=message.collection), message
            )
        except ProtocolError as error:
            self._refuse(connection, error, message)
        else:
            if connection.state is not State.ENDED:
                self._serve(connection, message)

    async def subscribe_all(
        self,
        connection: Connection,
        requests: Sequence[SubscribeRequest],
        *,
        action: str | None,
        refused: Callable[[SubscribeRequest, ProtocolError | HookAbort], None] | None = None,
    ) -> None:
        """Serve several requests; those that resume are replayed as one, merged in the order of the log.

        Args:
            refused: told of a request that cannot be served, which then does not stop the others.

        Raises:
            ProtocolError, HookAbort: the first request that cannot be served, when nobody is told.
        """
        parts: list[tuple[Subscription, Head]] = []
        try:
            for number, request in enumerate(requests):
                # The first one's turn is its message's.
                turns = (number > 0) + len(request.filter or "") // FILTER_A_TURN
                more_to_come = number + 1 < len(requests)
                try:
                    part = await self._subscribe_held(
                        connection, request, action, more_to_come=more_to_come, turns=turns
                    )
                except (ProtocolError, HookAbort) as error:
                    if refused is None:
                        raise
                    refused(request, error)
                else:
                    parts.extend([] if part is None else [part])
        finally:
            if parts:
                self._past.replay(connection, parts)

    async def _subscribe_held(
        self,
        connection: Connection,
        request: SubscribeRequest,
        action: str | None,
        *,
        more_to_come: bool,
        turns: int,
    ) -> tuple[Subscription, Head] | None:
        """While others are still to come nothing moves the resume point: who lost the stream then would skip them."""
        connection.held += more_to_come
        try:
            for _ in range(turns):
                await self._turns.take()
            if connection.state is not State.LIVE:
                return None
            return await self._subscribe_one(connection, request, action)
        finally:
            if connection.state is not State.ENDED:
                connection.held -= more_to_come

    async def _subscribe_one(
        self, connection: Connection, request: SubscribeRequest, action: str | None
    ) -> tuple[Subscription, Head] | None:
        protocol.check_request(request)
        if not self._rights.knows(request.collection):
            # Another node may have made it a moment ago.
            with contextlib.suppress(SnackBaseError):
                await self._refresh()
        if self._hooks.has("on_realtime_subscribe", request.collection):
            operations = list(request.operations or protocol.OPERATIONS)
            await self._fire(
                "on_realtime_subscribe",
                connection,
                collection=request.collection,
                operations=operations,
                filter=request.filter,
            )
        if connection.state is not State.LIVE:
            return None
        self._check_room(connection, request)
        if request.snapshot:
            await self._past.snapshot(connection, request, action)
            return None
        if request.since is not None:
            return await self._past.resume(connection, request, action)
        self.subscribe(connection, request, action=action)
        return None

    async def _fire(self, event: str, connection: Connection, **values: object) -> None:
        await self._hooks.fire(event, refusing=True, **who(connection), **values)  # type: ignore[arg-type]  # `collection` is among the values

    async def _auth(self, connection: Connection, message: ClientMessage) -> None:
        """A first token, or a fresh one in place. A refused fresh one leaves the old one in force until it expires."""
        first = connection.state is State.AUTHENTICATING
        try:
            if not message.token:
                raise ProtocolError("invalid_message", "`auth` needs a `token`.")
            await self._authenticate(connection, message.token)
        except SnackBaseError as error:
            add(self._counters.auth_failures, error.code)
            self._refuse(connection, ProtocolError.passing_on(error), message)
            if first:
                self._end(connection, closing_of(error))
            return
        expires_at = rfc3339(int(min(connection.expires_at, 253402300799) * 1_000_000))
        connection.send(protocol.authenticated("ok", expires_at, name=message.id, action=message.action))

    # What is served at once ------------------------------------------------------------------------------------------

    def _serve(self, connection: Connection, message: ClientMessage) -> None:
        try:
            if connection.state is not State.LIVE:
                raise ProtocolError("not_authenticated", "Send an `auth` message with a token first.")
            if message.action == "ping":
                connection.send(protocol.pong(rfc3339(self._now_us()), name=message.id, action=message.action))
            elif message.action == "subscribe":
                for request in protocol.subscribe_requests(message):
                    try:
                        self.subscribe(connection, request, action=message.action)
                    except ProtocolError as error:
                        self._refuse_one(connection, request, error)
            elif message.action == "unsubscribe":
                self._unsubscribe(connection, message)
        except ProtocolError as error:
            self._refuse(connection, error, message)

    def subscribe(self, connection: Connection, request: SubscribeRequest, *, action: str | None) -> None:
        """Place one subscription and acknowledge it; what commits from now on is delivered.

        Raises:
            ProtocolError: subscription_limit, collection_not_found, forbidden, invalid_filter, invalid_fields, ...
        """
        protocol.check_request(request)
        self._check_room(connection, request)
        subscription = self._rights.judge(connection, request)
        self._rights.check_cost(connection, subscription)
        self._rights.put(connection, subscription)
        self._past.acknowledge(connection, subscription, self._position(connection.feed), action)

    def _check_room(self, connection: Connection, request: SubscribeRequest) -> None:
        most = self._timing.max_subscriptions
        if request.key not in connection.subscriptions and len(connection.subscriptions) >= most:
            raise ProtocolError(
                "subscription_limit", f"Maximum {most} subscriptions per connection.", collection=request.collection
            )

    def _unsubscribe(self, connection: Connection, message: ClientMessage) -> None:
        if message.collection is None and message.id is None:
            raise ProtocolError("invalid_message", "`unsubscribe` needs a `collection` or an `id`.")
        key = f"#{message.id}" if message.id is not None else str(message.collection)
        subscription = self._rights.take(connection, key)
        collection = subscription.request.collection if subscription is not None else message.collection
        connection.send(protocol.unsubscribed(collection, name=message.id, action=message.action))
        if subscription is not None and self._hooks.has("on_realtime_unsubscribe", collection):
            values = {
                **who(connection),
                "operations": list(subscription.operations),
                "filter": subscription.request.filter,
            }
            self._later(
                lambda: self._hooks.fire("on_realtime_unsubscribe", collection=collection, refusing=False, **values)
            )


def who(connection: Connection) -> dict[str, object]:
    """The values that every realtime hook may declare."""
    principal = connection.principal
    return {
        "connection_id": connection.id,
        "user_id": principal.actor_id if principal is not None else None,
        "account_id": principal.account_id if principal is not None else None,
        "transport": connection.wire.name,
    }


def closing_of(error: SnackBaseError) -> Closing:
    """The end of a connection for which this error was raised before it began."""
    word = CLOSINGS.get(error.code)
    if word is not None:
        return word
    by_status = {
        400: BAD_REQUEST,
        401: TOKEN_INVALID,
        403: TOKEN_INVALID,
        404: ACCOUNT_DISABLED,  # the one named by `?account=`: nothing else is looked for before
        429: CONNECTION_LIMIT,
        431: BAD_REQUEST,
    }
    return by_status.get(error.status, OVERLOADED)
