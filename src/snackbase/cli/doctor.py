"""`snackbase doctor`: looks at everything a start needs, and changes nothing.

Each check answers with one line: what was looked at, whether it is right, and what to do if it is not.
"""

import asyncio
import os
import resource
import socket
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import apsw
import asyncpg
import msgspec

from snackbase.app.database import database_file, on_postgres
from snackbase.auth import load_secret
from snackbase.bus.nats_ import check_url, refusal
from snackbase.config import ConfigError, Settings
from snackbase.errors import SnackBaseError
from snackbase.gateway.echo import echo_routes
from snackbase.origins import Origins
from snackbase.services.members import single_tenant_of, superadmin_of
from snackbase.storage.asking import answered
from snackbase.storage.connection import BUSY_WRITER_MS
from snackbase.storage.postgres.link import LOST, Connection, Server, closed, drive, reason_of
from snackbase.storage.postgres.schema import POSTGRES
from snackbase.storage.schema import MIGRATIONS, SQLITE, stored_version
from snackbase.storage.upgrade import FOLDER

FIXED_IN = (3, 51, 3)
"""The first SQLite release without the WAL-reset bug (3.7.0 to 3.51.2), which can corrupt a database."""
ENOUGH_FILES = 4096
BESIDE_THE_POOL = 8
"""Connections that a node may take beside its pool (docs/howto/postgresql.md)."""
CLOCKS_S = 2.0
ROOM = """SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int,
    (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),
    (SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user),
    (SELECT count(*) FROM pg_stat_activity WHERE usename = current_user)"""


class Finding(msgspec.Struct, frozen=True):
    """What one check saw. `ok` None = worth knowing, nothing to repair."""

    what: str
    ok: bool | None
    text: str


def examine(settings: Settings) -> Iterator[Finding]:
    """Every check, in the order a start would stumble over them."""
    yield _settings(settings)
    yield _folder(settings.data_dir)
    yield _secret(settings)
    yield _sqlite()
    yield from _database(settings)
    if settings.bus_url:
        yield _bus(settings.bus_url)
    yield _port(settings)
    yield _files()


def _settings(settings: Settings) -> Finding:
    """What only a start reads of them, by the code that reads it."""
    try:
        Origins(settings)
        echo_routes(settings)
        if settings.single_tenant_account:
            single_tenant_of(settings)
        if not settings.data_dir.exists():
            superadmin_of(settings)
    except ConfigError as error:
        return Finding("settings", False, str(error))
    return Finding("settings", True, "every setting can be used")


def _folder(folder: Path) -> Finding:
    if not folder.exists():
        return Finding("data folder", None, f"{folder} is not there yet; the first start makes it")
    if not folder.is_dir() or not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        return Finding("data folder", False, f"{folder} has to be a folder this user may read and write")
    if folder.stat().st_mode & 0o022:
        return Finding("data folder", False, f"others may write into {folder}: chmod go-w {folder}")
    return Finding("data folder", True, str(folder))


def _secret(settings: Settings) -> Finding:
    path = settings.data_dir / "secret"
    if not settings.secret_key:
        if on_postgres(settings):
            text = f"from the file {path}: another node would make its own; set SNACKBASE_SECRET_KEY for all of them"
            return Finding("secret", None, text)
        if not path.exists():
            return Finding("secret", None, f"{path} is not there yet; the first start makes it")
        if path.stat().st_mode & 0o077:
            return Finding("secret", False, f"others may read {path}: chmod 600 {path}")
    try:
        load_secret(settings)
    except ConfigError as error:
        return Finding("secret", False, str(error))
    return Finding("secret", True, "set" if settings.secret_key else str(path))


def _sqlite() -> Finding:
    version = apsw.sqlite_lib_version()
    if tuple(map(int, version.split("."))) < FIXED_IN:
        return Finding("SQLite", False, f"{version} can corrupt databases in WAL mode; install apsw 3.51.3 or newer")
    return Finding("SQLite", True, version)


def _database(settings: Settings) -> Iterator[Finding]:
    if on_postgres(settings):
        yield from asyncio.run(_server(settings))
        return
    try:
        path = database_file(settings)
    except ConfigError as error:
        yield Finding("database", False, str(error))
        return
    if not path.exists():
        yield Finding("database", None, f"{path} is not there yet; the first start makes it")
        return
    try:
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        connection.set_busy_timeout(BUSY_WRITER_MS)
        faults = [str(row[0]) for row in connection.execute("PRAGMA quick_check(5)")]
        sound = faults == ["ok"]
        damage = f"{path} is damaged: {'; '.join(faults)}; restore a backup"
        yield Finding("database", sound, str(path) if sound else damage)
        if sound:
            yield _schema(connection)
        connection.close()
    except apsw.Error as error:
        yield Finding("database", False, f"{path}: {error}")


async def _server(settings: Settings) -> list[Finding]:
    server = Server(url=settings.database_url, direct_url=settings.database_direct_url)
    connection: Connection | None = None
    try:
        await server.check_sessions()
        if server.pooled:
            await closed(await server.connect())
        connection = await server.connect(direct=True)
        return [one async for one in _findings(connection, settings)]
    except ConfigError as error:
        return [Finding("database", False, str(error))]
    except SnackBaseError as error:
        return [Finding("database", False, f"{error} ({reason_of(error)})")]
    except (asyncpg.PostgresError, *LOST) as error:
        return [Finding("database", False, reason_of(error))]
    finally:
        await closed(connection)


async def _findings(connection: Connection, settings: Settings) -> AsyncIterator[Finding]:
    at, newest = await drive(connection, stored_version(POSTGRES)), len(MIGRATIONS)
    version = ".".join(map(str, connection.get_server_version()[:2]))
    if not at:
        yield Finding("database", None, f"PostgreSQL {version}; the first start makes the tables")
    elif at < newest:
        text = f"schema version {at}; the next start brings it to {newest}: make a backup before"
        yield Finding("database", None, text)
    else:
        yield Finding("database", True, f"PostgreSQL {version}, schema version {newest}")
    if await connection.fetchval("SELECT pg_is_in_recovery()"):
        yield Finding("primary", False, "it is a standby, which takes no writes")
    most, taken, allowed, own = await connection.fetchrow(ROOM)
    room = most - taken if allowed < 0 else min(most - taken, allowed - own)
    wanted = settings.database_pool_size + BESIDE_THE_POOL
    text = f"room for {room} more; a node takes up to {wanted} (SNACKBASE_DATABASE_POOL_SIZE and {BESIDE_THE_POOL})"
    yield Finding("connections", room >= wanted or None, text)
    if await connection.fetchval("SHOW synchronous_commit") == "off":
        yield Finding("durability", None, "synchronous_commit is off: a crash of the server loses acknowledged writes")
    began, there = time.time(), await connection.fetchval("SELECT extract(epoch FROM clock_timestamp())::float8")
    if abs(there - (began + time.time()) / 2) > CLOCKS_S:
        yield Finding(
            "clock", None, f"{there - time.time():+.1f} s there, compared with this machine: keep both by NTP"
        )


def _bus(url: str) -> Finding:
    try:
        check_url(url)
    except ConfigError as error:
        return Finding("bus", False, str(error))
    reason = asyncio.run(refusal(url))
    if reason is not None:
        return Finding(
            "bus", False, f"it cannot be used: {reason}; until then nodes hear of each other by the database"
        )
    return Finding("bus", True, "the broker answers")


def _schema(connection: apsw.Connection) -> Finding:
    def run(sql: str, args: Sequence[Any]) -> list[tuple[Any, ...]]:
        return connection.execute(sql, tuple(args)).fetchall()

    try:
        at = answered(run, stored_version(SQLITE))
    except ConfigError as error:
        return Finding("schema", False, str(error))
    newest = len(MIGRATIONS)
    if 0 < at < newest:
        text = f"version {at}; the next start copies the database into {FOLDER}/ and brings it to version {newest}"
        return Finding("schema", None, text)
    return Finding("schema", True, f"version {newest}")


def _port(settings: Settings) -> Finding:
    where = f"{settings.host}:{settings.port}"
    try:
        with socket.create_server((settings.host, settings.port)):
            return Finding("address", True, f"{where} is free")
    except OSError as error:
        return Finding("address", None, f"{where}: {error.strerror}; a server may be running there already")


def _files() -> Finding:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < ENOUGH_FILES:
        return Finding("open files", None, f"{soft}: each connection needs one; to serve more, raise `ulimit -n`")
    return Finding("open files", True, str(soft))
