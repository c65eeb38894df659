"""Finds a PgBouncer and runs it in transaction mode before a test's PostgreSQL: no connection is anybody's own."""

import asyncio
import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.postgres import Cluster
from tests.support.server import ROOT, free_port

VARIABLE = "SNACKBASE_TEST_PGBOUNCER"
UNPACKED = ROOT / "build" / "pgbouncer"
"""Where the Debian package is unpacked with the libraries it brings along: installing it would start a service."""
PACKAGES = ("pgbouncer", "libc-ares2", "libevent-2.1-7")
REMEDY = f"install pgbouncer, or set {VARIABLE} to its path"

CONFIG = """\
[databases]
* = host={host} port={port} user=postgres

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {own}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {size}
max_client_conn = 300
logfile = {folder}/log
pidfile = {folder}/pid
{user}
"""


def find_pgbouncer() -> str | None:
    """The path of a PgBouncer that starts; SNACKBASE_TEST_PGBOUNCER names another one."""
    named = os.environ.get(VARIABLE)
    if named:
        return named
    places = (shutil.which("pgbouncer"), "/usr/sbin/pgbouncer", f"{UNPACKED}/usr/sbin/pgbouncer")
    return next((place for place in places if place and Path(place).is_file() and _starts(place)), None)


def environment() -> dict[str, str]:
    """Lets a program that was unpacked find its libraries."""
    folders = ":".join(map(str, UNPACKED.glob("usr/lib/*-linux-*")))
    return {**os.environ, **({"LD_LIBRARY_PATH": folders} if folders else {})}


def _starts(program: str) -> bool:
    try:
        return subprocess.run([program, "--version"], capture_output=True, env=environment()).returncode == 0
    except OSError:
        return False


class PgBouncer:
    """`async with PgBouncer(cluster) as pooler:` runs it on loopback.

    Args:
        size: connections to each database, for all clients together.
    """

    def __init__(self, cluster: Cluster, *, size: int) -> None:
        self._cluster = cluster
        self._size = size
        self.port = free_port()
        self._folder = Path(tempfile.mkdtemp(prefix="pgbouncer-", dir="/tmp"))
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, database: str) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    @property
    def log(self) -> str:
        log = self._folder / "log"
        return log.read_text(errors="replace") if log.exists() else ""

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self._start)
        for _ in range(1000):
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:
                assert self._process is not None and self._process.poll() is None, self.log
                await asyncio.sleep(0.02)
            else:
                writer.close()
                return self
        raise AssertionError(f"PgBouncer does not listen: {self.log}")

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.kill()
            await asyncio.to_thread(self._process.wait)
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    def _start(self) -> None:
        program = find_pgbouncer()
        assert program is not None, "ask for the fixture `pgbouncer`: it says loudly when it is missing"
        # It refuses to stay root.
        user = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        config = self._folder / "pgbouncer.ini"
        config.write_text(
            CONFIG.format(
                host=self._cluster.folder,
                port=self._cluster.port,
                own=self.port,
                size=self._size,
                folder=self._folder,
                user="user = nobody" if user is not None else "",
            )
        )
        if user is not None:
            for path in (self._folder, config):
                os.chown(path, user.pw_uid, user.pw_gid)
        self._process = subprocess.Popen(
            [program, str(config)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment(),
        )
