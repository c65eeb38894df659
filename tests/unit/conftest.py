"""Fixtures that several unit tests share."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.stores import new_store
from tests.support.world import World


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(new_store(tmp_path / "data" / "snackbase.db"))
    await made.open()
    yield made
    await made.store.close()
