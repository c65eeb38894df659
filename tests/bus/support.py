"""Changes to be told, and somebody who listens."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from snackbase.model import Change, Op


def change(seq: int, account_id: str = "a", **data: Any) -> Change:
    record = {"id": f"r{seq}", "account_id": account_id, **data}
    return Change(
        account_id=account_id,
        seq=seq,
        ts_us=seq * 1000,
        op=Op.CREATE,
        collection_id="c",
        schema_version=3,
        record_id=f"r{seq}",
        data=record,
        raw=msgspec.json.encode(record),
        tx_id=f"t{seq}",
        actor="u",
    )


class Ear:
    """A listener that keeps what it hears."""

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.heads: dict[str, int] = {}
        self.versions: list[int] = []
        self.watched: list[str] = []
        self.connections = 0
        self.news = asyncio.Event()

    def heard(self, changes: Sequence[Change], version: int) -> None:
        self.changes.extend(changes)
        self.news.set()

    def hinted(self, heads: Mapping[str, int]) -> None:
        self.heads.update(heads)
        self.news.set()

    def version_hinted(self, version: int) -> None:
        self.versions.append(version)
        self.news.set()

    async def reconnected(self, account_ids: Sequence[str]) -> None:
        self.watched.extend(account_ids)
        self.connections += 1
        self.news.set()

    async def until(self, condition: Any, what: str) -> None:
        try:
            async with asyncio.timeout(30):
                while not condition():
                    self.news.clear()
                    await self.news.wait()
        except TimeoutError:
            raise AssertionError(f"still waiting: {what}; {len(self.changes)} changes, {self.heads}") from None
