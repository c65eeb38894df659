"""The stores that the suite runs over."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from snackbase.storage.sqlite import SQLiteStore

OpenStore = Callable[..., Awaitable[SQLiteStore]]


@pytest.fixture
async def open_store(tmp_path: Path) -> AsyncIterator[OpenStore]:
    """Opens a store over this test's one database, as often as asked; all are closed at the end."""
    stores: list[SQLiteStore] = []

    async def open_one(**options: Any) -> SQLiteStore:
        store = SQLiteStore(tmp_path / "data" / "snackbase.db", **options)
        await store.open()
        stores.append(store)
        return store

    yield open_one
    for store in stores:
        await store.close()


@pytest.fixture
async def store(open_store: OpenStore) -> SQLiteStore:
    return await open_store()
