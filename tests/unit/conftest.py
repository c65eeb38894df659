"""Fixtures that several unit tests share."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from snackbase.storage.sqlite import SQLiteStore
from tests.support.world import World


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(SQLiteStore(tmp_path / "data" / "snackbase.db"))
    await made.open()
    yield made
    await made.store.close()
