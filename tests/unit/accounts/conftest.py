"""The services of accounts over a real store: one hasher a module, a world a test, and the first account's founder."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from snackbase.auth import PasswordHasher
from snackbase.model import Principal
from snackbase.services.logins import Login
from tests.support.accounts import World, open_world


@pytest.fixture(scope="module")
def hasher() -> PasswordHasher:
    return PasswordHasher(threads=2, queue=64)


@pytest.fixture
async def world(tmp_path: Path, hasher: PasswordHasher) -> AsyncIterator[World]:
    made = await open_world(tmp_path, hasher)
    yield made
    await made.store.close()


@pytest.fixture
async def ada(world: World) -> Login:
    return await world.found()


@pytest.fixture
async def admin(world: World, ada: Login) -> Principal:
    return await world.principal(ada)
