"""Brings the folder of an older program to this one's shape, and keeps a copy of what it was.

Owns `backups/` in the data folder. Promises: the copy is complete and on the disk before the first statement of a
migration, holds exactly what is migrated (the write lock is held meanwhile), and without it nothing is migrated; no
more copies are kept than is set. The copy is a backup like any other (`backup.py`): restored, it begins a new history.
"""

import logging
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import apsw

from snackbase.config import ConfigError
from snackbase.storage.asking import Run, answered
from snackbase.storage.backup import back_up
from snackbase.storage.schema import MIGRATIONS, SQLITE, migrate, stored_version

log = logging.getLogger("snackbase.storage")

FOLDER = "backups"
_COPY = re.compile(r"\d+-\d{8}T\d{6}Z\.db\Z")
SPARE_BYTES = 8 << 20
"""What has to stay free beside the copy, for the migration itself."""


def free_bytes(folder: Path) -> int:
    """What this user may still write there."""
    return shutil.disk_usage(folder).free


class Upgrade:
    """One opening of a folder.

    Args:
        database: the database file. kept: how many copies stay; 0 = none is made.
    """

    def __init__(self, database: Path, *, kept: int, free: Callable[[Path], int] = free_bytes) -> None:
        self._database = database
        self._kept = kept
        self._free = free
        self._copy: Path | None = None

    def carry_out(self, run: Run, *, now: str) -> bool:
        """Copy if there is something to migrate, then migrate, inside the caller's transaction; True: a new database.

        Args:
            now: RFC 3339 time.

        Raises:
            ConfigError: another program's database, a newer one's, or the copy cannot be made.
        """
        at, newest = answered(run, stored_version(SQLITE)), len(MIGRATIONS)
        if 0 < at < newest:
            log.warning("the data folder is upgraded from schema version %d to %d", at, newest)
            if self._kept:
                self._keep_copy(run, at, now)
        return answered(run, migrate(SQLITE, now=now))

    def failed(self) -> None:
        """Nothing was migrated: a copy made at each try would fill the disk."""
        if self._copy is not None:
            self._copy.unlink(missing_ok=True)

    def done(self) -> None:
        """The migration is committed: the oldest copies go."""
        if self._copy is None:
            return
        log.warning("the data folder as it was before is kept in %s", self._copy)
        prefix = _name(self._database)
        copies = sorted((one for one in self._copy.parent.iterdir() if _is_copy(one, prefix)), key=_time_of)
        for old in copies[: -self._kept]:
            old.unlink(missing_ok=True)

    def _keep_copy(self, run: Run, at: int, now: str) -> None:
        folder = self._database.parent / FOLDER
        taken = int(run("PRAGMA page_count", ())[0][0]) * int(run("PRAGMA page_size", ())[0][0])
        time = now[:19].replace("-", "").replace(":", "")
        copy = folder / f"{_name(self._database)}{at}-{time}Z.db"
        unfinished = copy.with_name(f"{copy.name}.part")
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            missing = taken + SPARE_BYTES - self._free(folder)
            if missing > 0:
                raise OSError(f"{-(-missing // 1_000_000)} MB more of free space are needed")
            unfinished.unlink(missing_ok=True)
            back_up(self._database, unfinished)
            unfinished.replace(copy)
            _settle(folder)
        except (OSError, apsw.Error) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise ConfigError(
                f"The data folder has to be upgraded (schema version {at} to {len(MIGRATIONS)}), and the backup before "
                f"it could not be made in {folder}: {reason}. Nothing was changed. Mend that, or make a backup "
                "yourself (snackbase backup PATH) and set SNACKBASE_UPGRADE_BACKUPS=0."
            ) from None
        self._copy = copy


def _name(database: Path) -> str:
    return f"{database.stem}-schema"


def _is_copy(file: Path, prefix: str) -> bool:
    return file.name.startswith(prefix) and _COPY.match(file.name.removeprefix(prefix)) is not None


def _time_of(copy: Path) -> str:
    return copy.stem.rpartition("-")[2]


def _settle(folder: Path) -> None:
    """Have the folder's new name survive a power cut."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
