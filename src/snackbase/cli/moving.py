"""`snackbase migrate-data`: everything from a data folder to PostgreSQL, or back."""

import asyncio
import os
import secrets
from pathlib import Path
from time import monotonic

import click

from snackbase.app.database import POSTGRES, database_file, on_postgres
from snackbase.config import Settings, load
from snackbase.storage.moving.folder import FolderSource, FolderTarget
from snackbase.storage.moving.move import Move, Source, Target
from snackbase.storage.moving.server import ServerSource, ServerTarget
from snackbase.storage.moving.tables import MoveRefused
from snackbase.storage.postgres.link import Server
from snackbase.storage.sqlite import wall_clock_us

DATABASE = "snackbase.db"
TELL_EVERY_S = 5.0
_EPOCH_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"


@click.command("migrate-data")
@click.option("--from", "given", help="A data folder or its database file; or, to move back, a postgresql:// URL.")
def migrate_data(given: str | None) -> None:
    """Move everything into the empty database that SNACKBASE_DATABASE_URL names.

    With a postgresql:// URL there, a data folder is moved (sb_data, when --from names none); with a file there, a
    PostgreSQL is moved back. Ids, times, passwords, logins and API keys stay as they are. Positions do not: every
    client is told `resync` once. No server may run on either side.

    It happens in one transaction, and what arrived is read back and compared before that is committed: when the
    command is interrupted, the target is as empty as before, and the source is unchanged in any case.
    """
    settings = load(os.environ, dotenv=Path(".env"))
    back = given is not None and given.startswith(POSTGRES)
    if back == on_postgres(settings):
        raise click.UsageError(
            "set SNACKBASE_DATABASE_URL to the target: postgresql://… to leave a data folder; "
            "sqlite:///…, together with --from postgresql://…, to go back"
        )
    path = database_file(settings) if back else _file(settings, given)
    source, target = _back(given or "", path) if back else _there(settings, path)
    progress = Progress()
    try:
        sums = asyncio.run(Move(source, target, progress).run())
    except MoveRefused as error:
        raise click.ClickException(str(error)) from None
    except OSError as error:
        raise click.ClickException(f"{path}: {error.strerror}") from None
    rows = sum(one.rows for one in sums.values())
    click.echo(f"{rows} rows of {len(sums)} tables moved and compared in {progress.passed_s:.1f} s")
    if not back and not settings.secret_key and path.parent != settings.data_dir:
        secret = path.parent / "secret"
        click.echo(f"Logins stay valid if SNACKBASE_SECRET_KEY is set to the content of {secret}.")


def _file(settings: Settings, given: str | None) -> Path:
    """The database file of a data folder, or the file itself."""
    named = settings.data_dir if given is None else Path(given)
    return named / DATABASE if named.is_dir() or not named.exists() else named


def _there(settings: Settings, path: Path) -> tuple[Source, Target]:
    server = Server(url=settings.database_url, direct_url=settings.database_direct_url)
    epoch = "".join(secrets.choice(_EPOCH_ALPHABET) for _ in range(6))
    return FolderSource(path), ServerTarget(server, new_epoch=epoch, now_us=wall_clock_us())


def _back(url: str, path: Path) -> tuple[Source, Target]:
    return ServerSource(Server(url=url)), FolderTarget(path, now_us=wall_clock_us())


class Progress:
    """A line for each table; one in between when a table takes long. To stderr."""

    def __init__(self) -> None:
        self._began = self._told = monotonic()

    @property
    def passed_s(self) -> float:
        return monotonic() - self._began

    def __call__(self, doing: str, table: str, rows: int, total: int) -> None:
        done = doing in ("moved", "compared")
        if done or monotonic() - self._told > TELL_EVERY_S:
            self._told = monotonic()
            text = f"{rows}" if done else f"{rows} of {total}"
            click.echo(f"{self.passed_s:8.1f} s  {doing.ljust(9)}  {table}  {text} rows", err=True)
