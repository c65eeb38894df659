"""Positions as clients hold them: opaque tokens `<epoch>.<seq>.<check>.<version>`, at most 128 of `[A-Za-z0-9._-]`.

The epoch names the history, the sequence number the place, the version is the global version of rules and schemas it
was issued under, the check binds them to the account and to the row that stands there (a hash over account, number, the
row's time and the version, and before it one over the account alone). So another account's position, one of a forked or
restored history, and one from before a change of rights are all noticed; a data folder that was merely moved changes
nothing (invariant I8).
"""

from functools import lru_cache
from hashlib import blake2b

import msgspec

from snackbase.model import Position

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_PAIRS = tuple(high + low for high in _DIGITS for low in _DIGITS)
MAX_TOKEN_LENGTH = 128
MAX_SEQ = 2**63 - 1
FORMER_CHECK = 10
"""Hex digits of a check that did not cover the version yet: clients may hold such positions."""


class Token(msgspec.Struct, frozen=True):
    """A token taken apart. Nothing in it is trusted: the check is compared with the log's own row."""

    epoch: str
    seq: int
    check: str
    version: int


class Positions:
    """Makes and reads position tokens of one history.

    Args:
        epoch: the store's epoch; letters and digits only.
    """

    def __init__(self, epoch: str) -> None:
        if not epoch.isalnum() or not epoch.isascii() or len(epoch) > 32:
            raise ValueError("an epoch is 1 to 32 ASCII letters and digits")
        self.epoch = epoch

    def token(self, account_id: str, position: Position) -> str:
        """The token of a place in an account's log."""
        check = self.check(account_id, position)
        return f"{self.epoch}.{_base36(position.seq)}.{check}.{_base36(position.version)}"

    def check(self, account_id: str, position: Position) -> str:
        """What binds a place to its account, row and version: 24 and 40 bits, enough against accidents; no secret."""
        place = f"{account_id}.{position.seq}.{position.ts_us}.{position.version}"
        return _mark(account_id) + blake2b(place.encode(), digest_size=5).hexdigest()

    def foreign(self, account_id: str, token: Token) -> bool:
        """Whether a token is another account's; known also of places that the account's log has not reached."""
        return len(token.check) != FORMER_CHECK and not token.check.startswith(_mark(account_id))

    def stands(self, account_id: str, token: Token, ts_us: int) -> bool:
        """Whether the token names the row of this time. One that was issued before 24 November 2026 still does."""
        if len(token.check) == FORMER_CHECK:
            row = f"{account_id}.{token.seq}.{ts_us}"
            return token.check == blake2b(row.encode(), digest_size=FORMER_CHECK // 2).hexdigest()
        return token.check == self.check(account_id, Position(token.seq, ts_us, token.version))

    @staticmethod
    def parse(text: str) -> Token | None:
        """Take a token apart; None when it cannot be one."""
        parts = text.split(".") if len(text) <= MAX_TOKEN_LENGTH else []
        if len(parts) != 4 or not text.isascii():
            return None
        epoch, seq_text, check, version_text = parts
        seq, version = _from_base36(seq_text), _from_base36(version_text)
        if not epoch.isalnum() or not check.isalnum() or seq is None or version is None:
            return None
        return Token(epoch, seq, check, version)


@lru_cache(maxsize=4096)
def _mark(account_id: str) -> str:
    return blake2b(account_id.encode(), digest_size=3, person=b"account").hexdigest()


def _base36(number: int) -> str:
    if number < 36:
        return _DIGITS[number]
    # Two digits at a time: each write's answer and each event has one.
    found = ""
    while number >= 1296:
        number, rest = divmod(number, 1296)
        found = _PAIRS[rest] + found
    return (_PAIRS[number] if number >= 36 else _DIGITS[number]) + found


def _from_base36(text: str) -> int | None:
    """The number, or None: only the canonical spelling counts, so a token has one form."""
    if not text or len(text) > 13 or any(digit not in _DIGITS for digit in text) or (text[0] == "0" and len(text) > 1):
        return None
    number = int(text, 36)
    return number if number <= MAX_SEQ else None
