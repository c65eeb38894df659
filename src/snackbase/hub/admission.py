"""Who may connect now: room in the process, limits per user and address, and patience with those just sent away.

Owns the counts. Promises that what was admitted is released exactly once by whoever asked. Knows no rights.
"""

import asyncio
import hashlib
import random
import resource
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import msgspec

from snackbase import errors
from snackbase.config import Settings
from snackbase.errors import Closing, RateLimited, SnackBaseError, Unauthorized, Unavailable
from snackbase.realtime.limits import Penalties

T = TypeVar("T")

SPARE_FILES = 200
"""File descriptors kept for the database, requests and logs (evidence: a server out of them burns its CPU)."""
PENALIZED = frozenset({"slow_consumer", "rate_limited", "heartbeat_timeout"})
"""Ends for cause besides 45xx."""
DEEDS = frozenset({"token_revoked", "user_disabled", "account_disabled"})
"""Ends that a person caused, not the client: a dead token is refused by itself, and who logs in again has to get in,
however many connections of theirs ended with a logout or a change of password."""


class Refused(Exception):
    """A connection that may not be made: as an HTTP answer (`error`) or, once accepted, as an end (`closing`)."""

    def __init__(self, error: SnackBaseError, closing: Closing) -> None:
        super().__init__(error.message)
        self.error = error
        self.closing = closing


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Connections at most; 0 = no limit."""

    process: int
    user: int
    address: int


def limits_of(settings: Settings) -> Limits:
    return Limits(
        process=settings.realtime_max_connections or _file_limit(),
        user=settings.realtime_max_connections_per_user,
        address=settings.realtime_max_connections_per_address,
    )


class Admission:
    """Counts connections and refuses what is too many or too soon."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._users: dict[str, int] = {}
        self._addresses: dict[str, int] = {}
        self._penalties = Penalties()
        self._connections = 0
        self.draining: Closing | None = None

    def admit(self, address: str, now: float, *, known: bool) -> None:
        """Count a connection in. Raises Refused.

        Args:
            known: whether its token was checked. Who only shares an address with those who were sent away (behind a
                proxy, in an office) does not wait with them.
        """
        if self.draining is not None:
            raise Refused(Unavailable("The server restarts.", code="restarting", retry_after_s=2), self.draining)
        if self._connections >= self._limits.process:
            error = Unavailable("This server has no room for more connections.", code="overloaded", retry_after_s=5)
            raise Refused(error, errors.OVERLOADED)
        self._check_limit(self._addresses, address, self._limits.address, "address")
        if not known:
            self._check_patience("address", address, now)
        self._connections += 1
        self._addresses[address] = self._addresses.get(address, 0) + 1

    def admit_user(self, user: str, now: float) -> None:
        """Count a connection's user in, once known. Raises Refused."""
        self._check_limit(self._users, user, self._limits.user, "user")
        self._check_patience("user", user, now)
        self._users[user] = self._users.get(user, 0) + 1

    def release(self, address: str, user: str | None) -> None:
        """Count a connection out; `user` if it was counted."""
        self._connections -= 1
        _less(self._addresses, address)
        if user is not None:
            _less(self._users, user)

    def ended(self, closing: Closing, address: str, user: str | None, now: float) -> None:
        """The server ended a connection: who comes back at once after an end for cause is slowed (contract §5)."""
        if closing.code in DEEDS or (closing.close_code < 4500 and closing.code not in PENALIZED):
            return
        if user is not None:
            self._penalties.ended(f"user {user}", now)
        else:
            self._penalties.ended(f"address {address}", now)

    @staticmethod
    def _check_limit(counts: dict[str, int], key: str, limit: int, what: str) -> None:
        if limit and counts.get(key, 0) >= limit:
            message = f"Too many connections of one {what}: at most {limit} are allowed."
            raise Refused(RateLimited(message, code="connection_limit", retry_after_s=5), errors.CONNECTION_LIMIT)

    def _check_patience(self, what: str, key: str, now: float) -> None:
        wait = self._penalties.wait_s(f"{what} {key}", now)
        if wait > 0:
            error = RateLimited("Reconnecting too often; slow down.", code="rate_limited", retry_after_s=wait)
            raise Refused(error, errors.RATE_LIMITED)


class Patience(Generic[T]):
    """Authenticates for realtime, and slows those who come back at once with a token that is dead (contract §5).

    Whoever ignores the refusal would make the server look the same token up without end. The first two refusals of a
    token are immediate, every further one within a minute waits before it is told: 0.5 s, 1 s, … up to `MOST_S`. Nobody
    else waits, whatever their address, and a token that is good never does.
    """

    MOST_S = 5.0
    MOST_HELD = 1000
    """Refusals that wait at once; one more is told at once."""

    def __init__(
        self,
        authenticate: Callable[[str, str | None], Awaitable[T]],
        *,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._authenticate = authenticate
        self._now = now
        self._sleep = sleep
        self._refused = Penalties()
        self._held = 0

    async def authenticate(self, token: str, account: str | None) -> T:
        """Raises what the authentication raises."""
        try:
            return await self._authenticate(token, account)
        except Unauthorized:
            await self._wait(hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest())
            raise

    async def _wait(self, key: str) -> None:
        now = self._now()
        wait_s = min(self.MOST_S, self._refused.wait_s(key, now))
        self._refused.ended(key, now + wait_s)
        if wait_s <= 0 or self._held >= self.MOST_HELD:
            return
        self._held += 1
        try:
            await self._sleep(wait_s)
        finally:
            self._held -= 1


def _less(counts: dict[str, int], key: str) -> None:
    left = counts.get(key, 0) - 1
    if left > 0:
        counts[key] = left
    else:
        counts.pop(key, None)


def _file_limit() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(50, soft - SPARE_FILES) if soft != resource.RLIM_INFINITY else 1_000_000


def retry_after_ms(closing: Closing, connections: int) -> int:
    """When to come back: spread wider the more clients there are (a token's end is the client's own: at once)."""
    if closing is errors.TOKEN_EXPIRED:
        return 0
    window = 1000 + min(30_000, connections * 2)
    return 200 + int(random.random() * window)  # noqa: S311 - jitter, not a secret
