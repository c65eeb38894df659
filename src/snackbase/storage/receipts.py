"""Answers kept under an Idempotency-Key, in the transaction of the write they answer (contract §8).

Promises: an answer is there exactly when its write is, and of two transactions with one key, in whatever processes, the
second finds the first one's answer: both run under the database's write lock. What has expired counts as absent and is
removed a few rows at a time, so that no write pays for a day of others. Must not know what an answer says.
"""

from collections.abc import Sequence
from typing import Any

from snackbase.model import Head, Record
from snackbase.storage.asking import Ask, Asking
from snackbase.storage.base import Kept, Receipt, Store

PRUNED_AT_ONCE = 8
"""Expired answers that each new one removes; more than one, so that they never pile up."""

_FIND = "SELECT fingerprint, status, body, position FROM _idempotency WHERE owner = ? AND key = ? AND expires_us > ?"
_KEEP = """INSERT INTO _idempotency(owner, key, fingerprint, status, body, position, expires_us)
    VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT(owner, key) DO UPDATE SET fingerprint = excluded.fingerprint,
    status = excluded.status, body = excluded.body, position = excluded.position, expires_us = excluded.expires_us"""
_PRUNE = """DELETE FROM _idempotency WHERE (owner, key) IN
    (SELECT owner, key FROM _idempotency WHERE expires_us <= ? ORDER BY expires_us LIMIT ?)"""


async def find_kept(store: Store, owner: str, key: str, *, now_us: int) -> Kept | None:
    """The answer kept under a key, for a look before any work is done."""
    rows = await store.fetch(_FIND, (owner, key, now_us))
    return _kept(rows[0]) if rows else None


def repeated(receipt: Receipt, *, now_us: int) -> Asking[Kept | None]:
    """The same, inside the transaction."""
    rows = yield Ask(_FIND, (receipt.owner, receipt.key, now_us))
    return _kept(rows[0]) if rows else None


def keep(receipt: Receipt, written: Sequence[Record], head: Head, *, now_us: int) -> Asking[None]:
    """Write the transaction's answer down, and remove some that nobody will ask for any more."""
    answer = receipt.answer(written, head)
    place = (receipt.owner, receipt.key, answer.fingerprint, answer.status, answer.body, answer.position)
    yield Ask(_PRUNE, (now_us, PRUNED_AT_ONCE))
    yield Ask(_KEEP, (*place, now_us + receipt.lifetime_us))


def _kept(row: Sequence[Any]) -> Kept:
    fingerprint, status, body, position = row
    return Kept(fingerprint=fingerprint, status=status, body=bytes(body), position=position)
