"""Whether the database still continues the history that clients hold positions of (invariant I8).

Owns the sidecar, a small file beside the database that says how far this history had come. A database that is behind
its sidecar is a restored backup, one with another epoch was put there by somebody, one without a sidecar came from
somewhere else, and below synchronous=FULL a power cut may have taken its end: each begins a new epoch, so that every
older position is answered with `resync`. A folder that is moved takes its sidecar along, and nothing happens.
What this cannot see (a copied folder that goes on in two places) the check in every position catches.
"""

import contextlib
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic
from typing import Any

import msgspec

from snackbase.storage.statements import READ_VERSION

log = logging.getLogger("snackbase.storage")

SUFFIX = ".epoch"
REFRESH_S = 1.0
NEWEST_CHANGE = "SELECT ifnull(max(id), 0) FROM _changes"
DURABLE = ("FULL", "EXTRA")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

Run = Callable[[str, Sequence[Any]], list[tuple[Any, ...]]]


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """How far a history had come when the sidecar was written.

    Attributes:
        changes: the newest log row of all. version: the global version of rules and schemas.
        boot: the run of the machine; "" = unknown. clean: everything was closed in order.
    """

    epoch: str
    changes: int
    version: int
    synchronous: str
    boot: str
    clean: bool


def boot_id() -> str:
    """Identifies the time since the machine was switched on; "" where the system does not tell."""
    try:
        return BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def broken(mark: Mark | None, *, epoch: str, changes: int, version: int, boot: str) -> str | None:
    """Why the database does not continue what the sidecar remembers; None = it does."""
    if mark is None:
        return "no sidecar"
    if mark.epoch != epoch:
        return "another database"
    if mark.changes > changes or mark.version > version:
        return "an older state of the database"
    same_boot = mark.boot == boot != ""
    if mark.synchronous not in DURABLE and not mark.clean and not same_boot:
        return f"synchronous={mark.synchronous} and the machine may have lost power"
    return None


class History:
    """The sidecar of one database.

    Args:
        database: the database file. synchronous: as the writer sets it.
    """

    def __init__(self, database: Path, *, synchronous: str, boot: Callable[[], str] = boot_id) -> None:
        self._path = database.with_name(database.name + SUFFIX)
        self._synchronous = synchronous
        self._boot = boot()
        self._mark: Mark | None = None
        self._refreshed = 0.0

    def begin(self, run: Run, new_epoch: str, *, created: bool) -> None:
        """Decide on the epoch, inside the transaction that opens the database.

        Raises:
            OSError: the sidecar cannot be written.
        """
        rows = run("SELECT value FROM _meta WHERE key = 'epoch'", ())
        epoch = str(rows[0][0]) if rows else ""
        changes, version = _reached(run)
        reason = broken(self._read(), epoch=epoch, changes=changes, version=version, boot=self._boot)
        if created or not epoch or reason is not None:
            if not created:
                why = reason if epoch else "a backup"
                log.warning("positions begin a new history, clients are told to fetch anew: %s", why)
            epoch = new_epoch
            run("INSERT OR REPLACE INTO _meta(key, value) VALUES ('epoch', ?)", (epoch,))
        self._write(self._made(epoch, changes, version, clean=False), durable=True)

    def refresh(self, run: Run) -> None:
        """Note how far it has come, at most once a second. Never raises: an older note is only less sharp."""
        now = monotonic()
        if self._mark is None or now - self._refreshed < REFRESH_S:
            return
        self._refreshed = now
        changes, version = _reached(run)
        if (changes, version) != (self._mark.changes, self._mark.version):
            self._renew(changes, version, clean=False)

    def end(self, run: Run) -> None:
        """The last note before the connection closes."""
        if self._mark is not None:
            self._renew(*_reached(run), clean=False)

    def closed(self) -> None:
        """Everything of this process is closed; nobody else has the database open: it was left in order."""
        if self._mark is not None:
            self._renew(self._mark.changes, self._mark.version, clean=True)

    def _renew(self, changes: int, version: int, *, clean: bool) -> None:
        stored = self._read()
        if self._mark is None or (stored is not None and stored.epoch != self._mark.epoch):
            # Another process found this history broken; its word stands.
            return
        if stored is not None:
            changes, version = max(changes, stored.changes), max(version, stored.version)
        with contextlib.suppress(OSError):
            self._write(self._made(self._mark.epoch, changes, version, clean=clean), durable=clean)

    def _made(self, epoch: str, changes: int, version: int, *, clean: bool) -> Mark:
        return Mark(
            epoch=epoch,
            changes=changes,
            version=version,
            synchronous=self._synchronous,
            boot=self._boot,
            clean=clean,
        )

    def _read(self) -> Mark | None:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=Mark)
        except (OSError, msgspec.DecodeError):
            return None

    def _write(self, mark: Mark, *, durable: bool) -> None:
        """Replace the file in one step; `durable`: it survives a power cut from here on."""
        fresh = self._path.with_name(f"{self._path.name}.{os.getpid()}-{id(self):x}")
        try:
            file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            try:
                os.write(file, msgspec.json.encode(mark))
                if durable:
                    os.fsync(file)
            finally:
                os.close(file)
            fresh.replace(self._path)
        except OSError:
            with contextlib.suppress(OSError):
                fresh.unlink(missing_ok=True)
            raise
        self._mark = mark


def _reached(run: Run) -> tuple[int, int]:
    """The newest log row, and the global version."""
    return int(run(NEWEST_CHANGE, ())[0][0]), int(run(READ_VERSION, ())[0][0])
