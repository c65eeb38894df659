"""The database that tests without a wish of their own use: SQLite, or with TEST_DATABASE=postgres a real PostgreSQL.

A store or a server of a folder finds the same data again when it is opened anew, whichever database it is.
"""

import os
import sqlite3
from contextlib import closing
from hashlib import blake2b
from pathlib import Path
from typing import Any

import asyncpg

from snackbase.storage.postgres.link import translated
from snackbase.storage.postgres.store import PostgresStore
from snackbase.storage.sqlite import SQLiteStore
from tests.support import postgres

VARIABLE = "TEST_DATABASE"
ONLY_SQLITE = ("synchronous", "upgrade_backups")

AnyStore = SQLiteStore | PostgresStore


def on_postgres() -> bool:
    return os.environ.get(VARIABLE) == "postgres"


def new_store(file: Path, **options: Any) -> AnyStore:
    """The store of a database file, not yet open; on PostgreSQL the database that stands for the file."""
    if not on_postgres():
        return SQLiteStore(file, **options)
    return PostgresStore(
        url_of(file), pool_size=4, **{name: options[name] for name in options if name not in ONLY_SQLITE}
    )


async def rows_in(url: str, sql: str, *args: Any) -> list[tuple[Any, ...]]:
    """What a database holds, asked past any store; `?` placeholders."""
    if not url.startswith("sqlite:///"):
        connection = await asyncpg.connect(url)
        try:
            return [tuple(row) for row in await connection.fetch(translated(sql), *args)]
        finally:
            await connection.close()
    with closing(sqlite3.connect(f"file:{url.removeprefix('sqlite:///')}?mode=ro", uri=True)) as database:
        return database.execute(sql, args).fetchall()


def url_of(file: Path) -> str:
    """What DATABASE_URL is for a database file."""
    if not on_postgres():
        return f"sqlite:///{file}"
    cluster = postgres.shared()
    name = f"f{blake2b(str(file).encode(), digest_size=8).hexdigest()}"
    if not cluster.sql(f"SELECT 1 FROM pg_database WHERE datname = '{name}'"):  # noqa: S608 - a hash
        cluster.sql(f"CREATE DATABASE {name} TEMPLATE template0")
    return cluster.url(name)
