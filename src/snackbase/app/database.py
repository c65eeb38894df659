"""Which database the settings mean, and the store over it."""

from pathlib import Path

from snackbase.config import ConfigError, Settings
from snackbase.storage.base import Store
from snackbase.storage.postgres.store import PostgresStore
from snackbase.storage.retention import Retention
from snackbase.storage.sqlite import SQLiteStore

SQLITE = "sqlite:///"
POSTGRES = ("postgresql://", "postgres://")


def on_postgres(settings: Settings) -> bool:
    """Whether the data lies in PostgreSQL, where several nodes can share it."""
    return settings.database_url.startswith(POSTGRES)


def database_file(settings: Settings) -> Path:
    """The database's file. Raises ConfigError when the settings name something else."""
    if on_postgres(settings):
        raise ConfigError("The data lies in PostgreSQL, not in a file: use its own tools (pg_dump, pg_basebackup).")
    if not settings.database_url.startswith(SQLITE):
        raise ConfigError(
            "SNACKBASE_DATABASE_URL: sqlite:///relative/path.db, sqlite:////absolute/path.db or "
            "postgresql://user:password@host/name"
        )
    return Path(settings.database_url.removeprefix(SQLITE))


def make_store(settings: Settings) -> Store:
    """The store that the settings name, not yet open. Raises ConfigError."""
    retention = Retention(
        age_s=settings.retention_hours * 3600,
        changes=settings.retention_changes,
        size=settings.retention_bytes,
        keep=settings.retention_keep,
        sweep_s=settings.retention_sweep_seconds,
    )
    if on_postgres(settings):
        return PostgresStore(
            settings.database_url,
            direct_url=settings.database_direct_url,
            pool_size=settings.database_pool_size,
            lists=max(1, settings.database_pool_size * 2 // 3),
            queue_length=settings.write_queue_length,
            queue_bytes=settings.write_queue_bytes,
            queue_account_length=settings.write_queue_account_length,
            query_timeout_s=settings.query_timeout_seconds,
            retention=retention,
        )
    return SQLiteStore(
        database_file(settings),
        synchronous=settings.sqlite_synchronous,
        queue_length=settings.write_queue_length,
        queue_bytes=settings.write_queue_bytes,
        queue_account_length=settings.write_queue_account_length,
        query_timeout_s=settings.query_timeout_seconds,
        retention=retention,
        upgrade_backups=settings.upgrade_backups,
    )
