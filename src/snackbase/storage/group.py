"""What the writer thread commits together, and how each waiting request learns of its outcome."""

import asyncio
from collections.abc import Sequence
from typing import Any

from snackbase.errors import Unavailable
from snackbase.storage.base import Committed
from snackbase.storage.transaction import Prepared


class Item:
    """One waiting transaction and where its outcome goes."""

    __slots__ = ("error", "future", "prepared", "result", "size")

    def __init__(self, prepared: Prepared, future: "asyncio.Future[Committed]") -> None:
        self.prepared = prepared
        self.size = prepared.size
        self.future = future
        self.result: Committed | None = None
        self.error: Exception | None = None


class GroupLost(Exception):
    """The group's SQL transaction is gone; nothing of it may be acknowledged or announced."""

    def __init__(self, answer: Unavailable) -> None:
        super().__init__(answer.message)
        self.answer = answer


def fail(items: Sequence[Item], error: Exception) -> None:
    """Those that were refused for reasons of their own keep them."""
    for item in items:
        item.result, item.error = None, item.error or error


def settle(future: "asyncio.Future[Any]", result: object, error: Exception | None) -> None:
    """Resolve a future unless its client went away."""
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)
