"""How often somebody may guess: failed attempts per user and per address (contract: 429 with Retry-After).

Promises that a success costs nothing, that the count does not tell whether a user exists, and bounded memory. A user
who is under attack is slowed with the attacker, never locked out for longer than the limit's minute.
"""

import ipaddress
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from snackbase.auth import RateLimiter
from snackbase.errors import RateLimited, Unavailable

ADDRESS_FACTOR = 10
"""An address may stand for an office or a mobile network, so it gets more tries than one user."""
MAX_KEY_CHARS = 320


class Attempts:
    """Args:
    per_minute: failures allowed per user, and ten times as many per address; 0 = no limit.
    now: a monotonic clock, seconds.
    """

    def __init__(self, per_minute: int, *, now: Callable[[], float]) -> None:
        self._users = RateLimiter(limit=per_minute, window_s=60, now=now)
        self._addresses = RateLimiter(limit=per_minute * ADDRESS_FACTOR, window_s=60, now=now)

    def begin(self, who: str | None, address: str) -> None:
        """Count an attempt as failed until `forgive` says otherwise, so that parallel ones cannot exceed the limit.

        Args:
            who: the user who is tried, existing or not; None: nobody yet, only the address counts.

        Raises:
            RateLimited: with the seconds until the next attempt makes sense.
        """
        wait_s = self._addresses.take(_network(address))
        if not wait_s and who is not None:
            wait_s = self._users.take(_key(who))
        if wait_s:
            raise RateLimited("Too many failed attempts; wait before the next one.", retry_after_s=wait_s)

    def forgive(self, who: str | None, address: str) -> None:
        """The attempt was no failure."""
        self._addresses.give_back(_network(address))
        if who is not None:
            self._users.give_back(_key(who))


class Room:
    """How many passwords of one address may be computed or wait for it at once, so that a flood from one place leaves
    room in the queue for everybody else.

    Args:
        each: passwords of one address.
    """

    def __init__(self, each: int) -> None:
        self._each = each
        self._held: dict[str, int] = {}

    @contextmanager
    def taken(self, address: str) -> Iterator[None]:
        """Raises Unavailable (`workers_busy`)."""
        key = _network(address)
        held = self._held.get(key, 0)
        if held >= self._each:
            raise Unavailable("Too many logins at once from this address.", code="workers_busy", retry_after_s=1)
        self._held[key] = held + 1
        try:
            yield
        finally:
            left = self._held[key] - 1
            if left:
                self._held[key] = left
            else:
                del self._held[key]


def _key(who: str) -> str:
    return who[:MAX_KEY_CHARS]


def _network(address: str) -> str:
    """IPv6 hands every customer a /64, so single addresses there cost an attacker nothing."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return _key(address)
    if parsed.version == 6 and parsed.ipv4_mapped is None:
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
