"""`Idempotency-Key`: a write that is sent again is done once, and answered as the first time (contract §8).

Owns keys, whose they are, and that two requests with one key never run at once in this process: the second waits and
gets the first one's answer. Between processes, and across a crash, the answer that the store keeps in the write's own
transaction decides. A write that failed keeps nothing, so it may be tried again. Step 2 of the path of a write.
"""

import asyncio
import hashlib
import re
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from snackbase.errors import BadRequest, ValidationFailed
from snackbase.model import Principal, Record
from snackbase.storage.base import Kept, Store
from snackbase.storage.receipts import find_kept

LIFETIME_US = 24 * 3600 * 1_000_000
_KEY = re.compile(r"[!-~]{1,255}\Z")


class Once(msgspec.Struct, frozen=True, kw_only=True):
    """What a write needs to be done once.

    Attributes:
        fingerprint: tells this request from every other one. status, body: the answer, from the records as shown.
    """

    owner: str
    key: str
    fingerprint: str
    status: int
    body: Callable[[Sequence[Record]], bytes]


class Repeats:
    """
    Args:
        now_us: the wall clock, microseconds since the epoch.
    """

    def __init__(self, store: Store, *, now_us: Callable[[], int]) -> None:
        self._store = store
        self._now_us = now_us
        self._running: dict[tuple[str, str], asyncio.Future[None]] = {}

    async def run(self, once: Once, write: Callable[[], Awaitable[Kept | None]]) -> Kept | None:
        """Let the write happen unless it has; gives the first answer if that is what the client gets.

        Args:
            write: gives the answer it met in its transaction: another process did the write meanwhile.

        Raises:
            ValidationFailed: `idempotency_mismatch`: the key was used for another request. What the write raises.
        """
        place = (once.owner, once.key)
        while (running := self._running.get(place)) is not None:
            await asyncio.shield(running)
        done = self._running[place] = asyncio.get_running_loop().create_future()
        try:
            kept = await find_kept(self._store, once.owner, once.key, now_us=self._now_us())
            if kept is None:
                kept = await write()
        finally:
            del self._running[place]
            done.set_result(None)
        if kept is not None and kept.fingerprint != once.fingerprint:
            message = "This Idempotency-Key was used for another request; use a new one for each write."
            raise ValidationFailed(message, code="idempotency_mismatch")
        return kept


def check_key(keys: Sequence[str]) -> str | None:
    """The key of a request, from all its headers of that name; None = none was sent.

    Raises:
        BadRequest: `invalid_idempotency_key`.
    """
    if not keys:
        return None
    if len(keys) > 1 or _KEY.match(keys[0]) is None:
        message = "Idempotency-Key is one key of 1 to 255 visible ASCII characters, without spaces."
        raise BadRequest(message, code="invalid_idempotency_key")
    return keys[0]


def owner_of(principal: Principal) -> str:
    """Whose keys they are: guests of an account share theirs, as they share everything else."""
    return principal.actor_id or f"{principal.kind}:{principal.account_id}"


def fingerprint_of(principal: Principal, method: str, path: str, body: bytes) -> str:
    """A digest of all that makes the request, the account acted in included."""
    head = f"{principal.account_id} {method} {path}\n"
    return hashlib.sha256(head.encode("utf-8", "surrogatepass") + body).hexdigest()
