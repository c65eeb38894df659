"""Hints as bytes: whole changes of one account, or only how far its log reaches; signed with the server's secret.

Whoever can write to the broker, but does not know the secret, can neither make an event nor change one: a hint whose
signature is wrong is dropped. A recorded hint that is sent again is a change that was committed, with its number, so
the feeds drop it as a repetition; one from before a promotion, which may have lost it, is of another lineage. The rows
are the bytes of the log, so what is heard is what would have been read.
"""

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from hmac import compare_digest

import msgspec

from snackbase.model import Change, Op

FORMAT = b"sb1"
MAC_BYTES = 16
MOST_BYTES = 64 << 10
"""Of one message. What is larger is told as a number, and read from the log by whoever wants it."""
_START = len(FORMAT) + MAC_BYTES
_OPS = {op.value: op for op in Op}
_json = msgspec.json.Encoder()
_unjson = msgspec.json.Decoder()


class Row(msgspec.Struct, frozen=True, array_like=True):
    """A `Change` without what all rows of a hint share. `data` and `prev` are JSON."""

    seq: int
    ts_us: int
    op: str
    collection_id: str
    schema_version: int
    record_id: str
    data: bytes
    prev: bytes | None
    tx_id: str
    tx_index: int
    tx_size: int
    actor: str | None


class Hint(msgspec.Struct, frozen=True, array_like=True):
    """
    Attributes:
        node: who sent it. lineage: of the history it belongs to.
        account_id: "" = a change of rules or schemas. version: the global version the sender knew.
        head: the newest number of the account's log that it speaks of.
    """

    node: str
    lineage: str
    account_id: str
    version: int
    head: int
    rows: list[Row] = []


class Refused(Exception):
    """A message that is no hint for this node; `word` says why: malformed, forged, foreign, own."""

    def __init__(self, word: str) -> None:
        super().__init__(word)
        self.word = word


class Hints:
    """Packs and unpacks.

    Args:
        secret: the server's secret, the same on every node. node: a word for this process.
    """

    def __init__(self, secret: bytes, *, node: str, most_bytes: int = MOST_BYTES) -> None:
        self._key = blake2b(secret, digest_size=32, person=b"snackbase-bus").digest()
        self._node = node
        self._most_bytes = most_bytes
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(Hint)

    def pack(self, lineage: str, version: int, changes: Sequence[Change]) -> Iterator[bytes]:
        """Messages with the changes of one account, in order; each is small enough."""
        account_id, rows, size = changes[0].account_id, list[Row](), 0
        for change in changes:
            prev = None if change.prev is None else _json.encode(change.prev)
            more = len(change.raw) + (len(prev) if prev is not None else 0) + 200
            if rows and size + more > self._most_bytes:
                yield self._signed(Hint(self._node, lineage, account_id, version, rows[-1].seq, rows))
                rows, size = [], 0
            if more > self._most_bytes:
                yield self._signed(Hint(self._node, lineage, account_id, version, change.seq))
                continue
            rows.append(_row(change, prev))
            size += more
        if rows:
            yield self._signed(Hint(self._node, lineage, account_id, version, rows[-1].seq, rows))

    def pack_version(self, lineage: str, version: int) -> bytes:
        return self._signed(Hint(self._node, lineage, "", version, 0))

    def unpack(self, message: bytes, lineage: str) -> Hint:
        """Raises Refused."""
        if message[: len(FORMAT)] != FORMAT or len(message) <= _START:
            raise Refused("malformed")
        body = message[_START:]
        if not compare_digest(message[len(FORMAT) : _START], self._mac(body)):
            raise Refused("forged")
        try:
            hint = self._decoder.decode(body)
        except msgspec.DecodeError:
            raise Refused("malformed") from None
        if hint.node == self._node:
            raise Refused("own")
        if hint.lineage != lineage:
            raise Refused("foreign")
        return hint

    def _signed(self, hint: Hint) -> bytes:
        body = self._encoder.encode(hint)
        return FORMAT + self._mac(body) + body

    def _mac(self, body: bytes) -> bytes:
        return blake2b(body, key=self._key, digest_size=MAC_BYTES).digest()


def changes_of(hint: Hint) -> list[Change]:
    """The changes as if they had been read from the log. Raises Refused."""
    try:
        return [
            Change(
                account_id=hint.account_id,
                seq=row.seq,
                ts_us=row.ts_us,
                op=_OPS[row.op],
                collection_id=row.collection_id,
                schema_version=row.schema_version,
                record_id=row.record_id,
                data=_unjson.decode(row.data),
                prev=None if row.prev is None else _unjson.decode(row.prev),
                raw=row.data,
                tx_id=row.tx_id,
                tx_index=row.tx_index,
                tx_size=row.tx_size,
                actor=row.actor,
            )
            for row in hint.rows
        ]
    except (KeyError, msgspec.DecodeError):
        raise Refused("malformed") from None


def _row(change: Change, prev: bytes | None) -> Row:
    return Row(
        change.seq,
        change.ts_us,
        change.op.value,
        change.collection_id,
        change.schema_version,
        change.record_id,
        change.raw,
        prev,
        change.tx_id,
        change.tx_index,
        change.tx_size,
        change.actor,
    )
