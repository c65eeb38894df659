"""The stores that the suite runs over: everything here holds for SQLite and for PostgreSQL."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from snackbase.model import Record
from snackbase.storage.base import Store
from snackbase.storage.postgres.numbers import SCHEMA
from snackbase.storage.postgres.store import PostgresStore
from snackbase.storage.sqlite import SQLiteStore

OpenStore = Callable[..., Awaitable[Store]]
ONLY_SQLITE = ("synchronous", "upgrade_backups")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "database(name): the test is about this database only")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every test that opens a store by this folder's fixture runs over both, unless its module is about one of them."""
    if "database" in metafunc.fixturenames:
        about = metafunc.definition.get_closest_marker("database")
        only = about.args if about else getattr(metafunc.module, "DATABASES", ("sqlite", "postgres"))
        metafunc.parametrize("database", only, indirect=True)


@pytest.fixture
def database(request: pytest.FixtureRequest) -> str:
    """sqlite | postgres"""
    return str(request.param)


@pytest.fixture
async def open_store(database: str, request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[OpenStore]:
    """Opens a store over this test's one database, as often as asked; all are closed at the end."""
    stores: list[SQLiteStore | PostgresStore] = []
    url = request.getfixturevalue("postgres_url") if database == "postgres" else ""

    async def open_one(**options: Any) -> Store:
        store: SQLiteStore | PostgresStore
        if url:
            if "list_threads" in options:
                options["lists"] = options.pop("list_threads")
            store = PostgresStore(url, **{name: options[name] for name in options if name not in ONLY_SQLITE})
        else:
            store = SQLiteStore(tmp_path / "data" / "snackbase.db", **options)
        await store.open()
        stores.append(store)
        return store

    yield open_one
    for store in stores:
        await store.close()


@pytest.fixture
async def store(open_store: OpenStore) -> Store:
    return await open_store()


class Hold:
    """Keeps the writer of a store busy, inside a group, until it is let go."""

    def __init__(self, database: str, url: str) -> None:
        self._database = database
        self._url = url
        self._entered = threading.Event()
        self._open = threading.Event()
        self._locker: Any = None

    async def begin(self, store: Store, write: Callable[[Callable[[Record], bool] | None], Awaitable[Any]]) -> Any:
        """Start a write that does not come to its end. `write` makes one, given its rule."""
        if self._database == "sqlite":
            task = asyncio.ensure_future(write(self._rule))
            await asyncio.to_thread(self._entered.wait)
            return task
        # What a schema change does to the groups of all nodes.
        self._locker = await asyncpg.connect(self._url)
        await self._locker.execute(f"SELECT pg_advisory_lock({SCHEMA})")
        groups = store.stats()["groups"]
        task = asyncio.ensure_future(write(None))
        async with asyncio.timeout(30):
            while store.stats()["groups"] == groups:  # noqa: ASYNC110 - the writer tells nobody
                await asyncio.sleep(0.01)
        return task

    def _rule(self, _record: Record) -> bool:
        self._entered.set()
        return self._open.wait(30)

    async def end(self) -> None:
        """Let it go on."""
        self._open.set()
        if self._locker is not None:
            await self._locker.close()


@pytest.fixture
async def hold(database: str, request: pytest.FixtureRequest) -> AsyncIterator[Hold]:
    held = Hold(database, request.getfixturevalue("postgres_url") if database == "postgres" else "")
    yield held
    await held.end()


@pytest.fixture
async def session(postgres_url: str) -> AsyncIterator[Any]:
    """Somebody else's session of the test's PostgreSQL."""
    connection = await asyncpg.connect(postgres_url)
    yield connection
    await connection.close()


@pytest.fixture
async def watcher(postgres_url: str) -> AsyncIterator[Any]:
    """One more, outside of any transaction: within one, what sessions do is what they did at the first look."""
    connection = await asyncpg.connect(postgres_url)
    yield connection
    await connection.close()
