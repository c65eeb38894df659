"""`snackbase collections|records export|import`: definitions and records as files, on the data folder.

What is written goes through the one write path, so a server that runs on the folder tells its subscribers; hooks of an
application do not run. A file being written gets its name when it is whole. Progress goes to stderr.
"""

import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import click
import msgspec

from snackbase.app import Core
from snackbase.app.offline import Offline
from snackbase.cli.offline import OPERATOR, with_core
from snackbase.cli.serve import FAILED
from snackbase.errors import NotFound
from snackbase.model import Principal
from snackbase.services.porting import Document, Porting, Report
from snackbase.services.transfer import MAX_LINE_BYTES, Export, Import, Progress, Strategy
from snackbase.storage.sqlite import wall_clock_us
from snackbase.storage.system import find_account

PAUSE_S = 0.02
"""Between two transactions of an import: another process that wants to write asks again every 25 to 100 ms only."""
_LINE_BYTES = MAX_LINE_BYTES + 2

_output = click.option(
    "--output", "-o", type=click.Path(dir_okay=False, path_type=Path), help="Write to a file instead of stdout."
)
_strategy = click.option(
    "--strategy",
    type=click.Choice(["error", "skip", "update"]),
    default="error",
    show_default=True,
    help="What to do with those that exist already.",
)
_account = click.option("--account", required=True, help="Slug, code or id of the account.")


@click.group()
def collections() -> None:
    """Definitions of collections as a file."""


@click.group()
def records() -> None:
    """Records of an account as a file of JSON lines."""


@collections.command("export")
@click.argument("names", nargs=-1)
@_output
def export_collections(names: tuple[str, ...], output: Path | None) -> None:
    """Write definitions and rules as one JSON document; without NAMES, those of all collections."""

    async def work(core: Core) -> None:
        porting = Porting(Offline(core).collections)
        document = porting.document(OPERATOR, names, now_us=wall_clock_us())
        with _written(output) as file:
            file.write(msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n")
        click.echo(f"{len(document['collections'])} collections", err=True)

    with_core(work)


@collections.command("import")
@click.argument("file", type=click.File("rb"))
@_strategy
def import_collections(file: IO[bytes], strategy: Strategy) -> None:
    """Create the collections of FILE (- reads stdin). `update` adds and changes fields, and drops none."""
    try:
        document = msgspec.json.decode(file.read(), type=Document)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise click.ClickException(f"{file.name} is not an exported document: {error}") from None

    async def work(core: Core) -> Report:
        return await Porting(Offline(core).collections).bring_in(OPERATOR, document, strategy)

    report = with_core(work)
    for one in report.collections:
        click.echo(f"{one.status.ljust(8)}  {one.name}  {one.message}")
    if not report.success:
        sys.exit(FAILED)


@records.command("export")
@click.argument("collection")
@_account
@_output
def export_records(collection: str, account: str, output: Path | None) -> None:
    """Write the records of COLLECTION, oldest first, one JSON object per line."""

    async def work(core: Core) -> int:
        export = Export(Offline(core).records, await _acting_in(core, account), collection)
        await export.begin()
        with _written(output) as file, _bar(export.total, "records") as bar:
            return await _write_all(export.pages(), file, bar)

    click.echo(f"{with_core(work)} records", err=True)


@records.command("import")
@click.argument("collection")
@click.argument("file", type=click.File("rb"))
@_account
@_strategy
@click.option("--resume", is_flag=True, help="Continue an interrupted import: skip what is there already.")
@click.option("--keep-going", is_flag=True, help="Continue after a line that cannot be imported, up to 100 times.")
def import_records(
    collection: str, file: IO[bytes], account: str, strategy: Strategy, resume: bool, keep_going: bool
) -> None:
    """Create the records of FILE (JSON lines; - reads stdin) in COLLECTION.

    Records keep their ids and stamps; a line without an id gets one made from the line, so that the same file can be
    imported again and nothing is there twice.
    """
    known: Strategy = "skip" if resume and strategy == "error" else strategy

    async def work(core: Core) -> Progress:
        principal = await _acting_in(core, account)
        with _bar(_size(file), f"to {collection}") as bar:
            running = Import(
                Offline(core).records, principal, collection, strategy=known, keep_going=keep_going, pause_s=PAUSE_S
            )
            return await running.run(_counted(file, bar))

    progress = with_core(work)
    for fault in progress.errors:
        details = "".join(f"; {detail.field}: {detail.message}" for detail in fault.details)
        click.echo(f"line {fault.line}: {fault.code}: {fault.message}{details}", err=True)
    click.echo(f"{progress.created} created, {progress.updated} updated, {progress.skipped} skipped")
    if not progress.success:
        if progress.stopped:
            click.echo("stopped; correct the line and run it again with --resume", err=True)
        sys.exit(FAILED)


async def _acting_in(core: Core, reference: str) -> Principal:
    found = await find_account(core.store, reference)
    if found is None:
        raise NotFound(f"There is no account {reference[:64]!r}.", code="account_not_found")
    return msgspec.structs.replace(OPERATOR, account_id=found.id)


async def _write_all(pages: AsyncIterator[tuple[bytes, int]], file: IO[bytes], bar: Any) -> int:
    written = 0
    async for page, count in pages:
        file.write(page)
        written += count
        bar.update(count)
    return written


@contextmanager
def _written(output: Path | None) -> Iterator[IO[bytes]]:
    """The file to write, or stdout; an earlier file of that name stays until the new one is whole."""
    if output is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    partial = output.with_name(f"{output.name}.part")
    with partial.open("wb") as file:
        yield file
    partial.replace(output)


def _bar(length: int | None, label: str) -> Any:
    """Progress on stderr, for somebody who looks at it."""
    return click.progressbar(length=length or 0, label=label, file=sys.stderr, hidden=not sys.stderr.isatty())


def _size(file: IO[bytes]) -> int | None:
    """Bytes of a file; None where it has no end that could be known."""
    if not file.seekable():
        return None
    size = file.seek(0, 2)
    file.seek(0)
    return size


def _counted(file: IO[bytes], bar: Any) -> Iterator[bytes]:
    while line := file.readline(_LINE_BYTES):
        yield line
        bar.update(len(line))
        while len(line) == _LINE_BYTES and not line.endswith(b"\n"):
            # The rest of a line that was refused for its length.
            line = file.readline(_LINE_BYTES)
            bar.update(len(line))
