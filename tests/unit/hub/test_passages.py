"""What was read of the log is shared, and not kept for longer than somebody uses it."""

from snackbase.hub.passages import KEEP_S, MOST_BYTES, Passages
from snackbase.metrics import Counters
from snackbase.model import Change, Head, Op


def row(seq: int, *, raw: bytes = b"{}") -> Change:
    return Change(
        account_id="acme",
        seq=seq,
        ts_us=seq,
        op=Op.CREATE,
        collection_id="c",
        schema_version=1,
        record_id=str(seq),
        data={},
        prev=None,
        raw=raw,
        tx_id=str(seq),
        tx_index=0,
        tx_size=1,
        actor=None,
    )


class Log:
    """Rows 1 to `head`, and how the reading of them is kept."""

    def __init__(self, head: int, *, raw: bytes = b"{}") -> None:
        self.rows = [row(seq, raw=raw) for seq in range(1, head + 1)]
        self.counters = Counters()
        self.passages = Passages(self.read, position=self.position, counters=self.counters)

    async def read(self, account_id: str, after: int, limit: int) -> list[Change]:
        return self.rows[after : after + limit]

    @staticmethod
    def position(account_id: str, head: Head) -> str:
        return str(head.seq)

    async def all_read(self, now: float) -> None:
        at = 0
        while at < len(self.rows):
            found = self.passages.at_hand("acme", at, 1000, now)
            if not found:
                await self.passages.fetch("acme", at, now)
            at = found[-1].head.seq if found else at


async def test_what_is_there_is_not_read_again_and_every_row_read_is_counted() -> None:
    log = Log(1000)
    for _ in range(5):
        await log.all_read(0.0)

    assert log.counters.replay_rows == 1000


async def test_what_nobody_used_for_a_while_is_forgotten() -> None:
    log = Log(100)
    await log.all_read(0.0)
    log.passages.forget(KEEP_S - 1)
    assert log.passages.at_hand("acme", 0, 1, KEEP_S - 1)

    log.passages.forget(3 * KEEP_S)

    assert not log.passages.at_hand("acme", 0, 1, 3 * KEEP_S)


async def test_live_changes_do_not_keep_a_stretch_that_nobody_reads_any_more() -> None:
    log = Log(10)
    await log.all_read(0.0)
    log.passages.extend("acme", [row(11)], 2 * KEEP_S)

    log.passages.forget(2 * KEEP_S)

    assert not log.passages.at_hand("acme", 0, 1, 2 * KEEP_S)


async def test_more_than_the_budget_is_not_kept_however_much_it_is_used() -> None:
    log = Log(3, raw=b" " * (MOST_BYTES // 2))
    await log.all_read(0.0)

    log.passages.forget(0.0)

    assert not log.passages.at_hand("acme", 0, 1, 0.0)


async def test_what_was_being_read_when_all_was_dropped_is_not_kept() -> None:
    log = Log(10)
    plain = log.read

    async def interrupted(account_id: str, after: int, limit: int) -> list[Change]:
        rows = await plain(account_id, after, limit)
        log.passages.clear()
        return rows

    log.passages = Passages(interrupted, position=log.position, counters=log.counters)
    await log.passages.fetch("acme", 0, 0.0)

    assert not log.passages.at_hand("acme", 0, 1, 0.0)
