"""The copy before an upgrade: how many are kept, what stops it, and what a failed one leaves behind."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import pytest

from snackbase.config import ConfigError
from snackbase.storage.schema import MIGRATIONS
from snackbase.storage.sqlite import SQLiteStore
from snackbase.storage.upgrade import SPARE_BYTES, Upgrade

NOW = "2026-01-02T03:04:05.678Z"
Run = Callable[[str, Any], list[tuple[Any, ...]]]


async def folder_of(path: Path, version: int) -> Path:
    """A database that says it has an older shape; what is migrated is not the point here."""
    file = path / "data.db"
    store = SQLiteStore(file)
    await store.open()
    await store.close()
    connection = apsw.Connection(str(file))
    connection.execute("UPDATE _meta SET value = ? WHERE key = 'schema_version'", (str(version),)).fetchall()
    connection.close()
    return file


def runner(file: Path) -> tuple[apsw.Connection, Run]:
    connection = apsw.Connection(str(file))
    return connection, lambda sql, args: connection.execute(sql, tuple(args)).fetchall()


def upgraded(file: Path, *, now: str = NOW, **options: Any) -> None:
    """One upgrade that finds its migration done, as far as the copies are concerned."""
    connection, run = runner(file)
    upgrade = Upgrade(file, **{"kept": 2, **options})

    def without_migrations(sql: str, args: Any) -> list[tuple[Any, ...]]:
        return run(sql, args) if sql.startswith(("SELECT", "PRAGMA")) else []

    try:
        upgrade.carry_out(without_migrations, now=now)
        upgrade.done()
    finally:
        connection.close()


def copies(file: Path) -> list[str]:
    return sorted(copy.name for copy in (file.parent / "backups").glob("*"))


async def test_only_the_newest_copies_are_kept_and_strange_files_stay(tmp_path: Path) -> None:
    file = await folder_of(tmp_path, 1)
    for year in (2023, 2024):
        upgraded(file, now=f"{year}-01-01T00:00:00.000Z")
    connection, run = runner(file)
    run("UPDATE _meta SET value = '2' WHERE key = 'schema_version'", ())
    connection.close()
    (tmp_path / "backups" / "data-schema1-mine.db").touch()
    upgraded(file, now="2025-01-01T00:00:00.000Z")

    assert copies(file) == [
        "data-schema1-20240101T000000Z.db",
        "data-schema1-mine.db",
        "data-schema2-20250101T000000Z.db",
    ]


async def test_a_folder_of_todays_shape_is_not_copied(tmp_path: Path) -> None:
    file = await folder_of(tmp_path, len(MIGRATIONS))
    upgraded(file)

    assert not (tmp_path / "backups").exists()


async def test_no_copy_is_begun_without_space_for_it(tmp_path: Path) -> None:
    file = await folder_of(tmp_path, 1)
    size = file.stat().st_size

    with pytest.raises(ConfigError, match=r"schema version 1 to \d+.*1 MB more of free space are needed.*Nothing was"):
        upgraded(file, free=lambda _: size + SPARE_BYTES - 1)
    assert copies(file) == []

    upgraded(file, free=lambda _: size + SPARE_BYTES)
    assert len(copies(file)) == 1


async def test_what_a_crash_left_of_a_copy_is_in_nobodys_way(tmp_path: Path) -> None:
    file = await folder_of(tmp_path, 1)
    upgraded(file)
    [copy] = copies(file)
    (tmp_path / "backups" / copy).rename(tmp_path / "backups" / f"{copy}.part")
    upgraded(file)

    assert copies(file) == [copy]


async def test_a_migration_that_fails_leaves_the_folder_as_it_was_and_no_copy(tmp_path: Path) -> None:
    file = await folder_of(tmp_path, 1)
    # Everything of the newest shape is there already, so making it fails.
    before = file.read_bytes()
    store = SQLiteStore(file)

    with pytest.raises(apsw.SQLError):
        await store.open()

    assert file.read_bytes() == before
    assert copies(file) == []
