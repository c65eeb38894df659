"""Writes the tables of the reference documentation that the code itself knows: settings, hooks, metrics, commands.

Usage: python -m tools.docs [--check]. A table stands between `<!-- generated: NAME -->` and `<!-- end -->`; the rest of
a page is written by hand. `make check` fails when a table is not what this script would write.
"""

import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, get_args, get_type_hints

import click
import msgspec
from prometheus_client.core import Metric
from starlette.routing import BaseRoute

from snackbase.app.graph import Core, Graph, build
from snackbase.cli import main as command_line
from snackbase.config import PREFIX, Settings, load
from snackbase.hooks import EVENTS, Hooks
from snackbase.metrics import Metrics
from snackbase.storage.sqlite import SQLiteStore

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / "docs" / "reference"
BEGIN, END = "<!-- generated: {} -->", "<!-- end -->"
STORE_NUMBERS = {
    "queue_length": "Transactions that wait for the writer.",
    "queue_bytes": "Their size in bytes.",
    "groups": "Groups committed since the start: each is one SQL transaction, with one fsync.",
    "group_writes": "Transactions in those groups; divided by the groups, it is the mean size of a group.",
    "last_group_size": "Transactions in the newest group.",
    "changes": "Rows written to the change log since the start.",
    "faults": "Groups that failed because of the disk or the file.",
    "healthy": "1, or 0 while the last attempt to write failed.",
    "wal_pages": "Pages in the write-ahead log when it was last checked.",
    "checkpoints": "Checkpoints made since the start.",
    "log_rows": "Changes that the logs of all accounts hold.",
    "log_bytes": "Their size in bytes, roughly.",
    "pruned_rows": "Changes deleted from the logs since the start.",
    "log_sweeps": "Searches for changes to delete, since the start.",
    "oldest_change_seconds": "Age of the oldest change in any log when it was last checked; 0 when there is none.",
    "lists_waiting": "List queries that wait for a thread.",
}
"""What the numbers of `Store.stats` say: they have no help text in the code."""


def settings_table() -> str:
    """One row a setting, in the order of the code."""
    hints = get_type_hints(Settings, include_extras=True)
    rows = []
    for field in msgspec.structs.fields(Settings):
        kind, meta = get_args(hints[field.name])
        unit = (meta.extra or {}).get("unit", "")
        rows.append(
            (
                f"`{PREFIX}{field.name.upper()}`",
                _value(field.default),
                unit or "-",
                _allowed(kind, meta),
                meta.description or "",
            )
        )
    return _table(("Name", "Default", "Unit", "Allowed", "What it does"), rows)


def _value(default: object) -> str:
    if default == "":
        return "empty"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return f"`{default}`"


def _allowed(kind: Any, meta: msgspec.Meta) -> str:
    if choices := get_args(kind):
        return ", ".join(f"`{choice}`" for choice in choices)
    if kind is bool:
        return "`true`, `false`"
    if kind is str:
        return "text"
    number = "whole number" if kind is int else "number"
    if meta.ge is not None and meta.le is not None:
        return f"{number}, {meta.ge:g} to {meta.le}"
    return f"{number}, {meta.ge} or more" if meta.ge is not None else number


def hooks_table() -> str:
    """One row an event: its parameters, when it fires, whether it may refuse; the words are the decorators' own."""
    rows = []
    for event, parameters in EVENTS.items():
        text = (getattr(Hooks, event).__doc__ or "").strip()
        moment, _, rest = text.partition(":")
        rows.append(
            (
                f"`{event}`",
                ", ".join(f"`{name}`" for name in parameters),
                f"{moment.rstrip('.')}.",
                "yes" if "May refuse" in rest else "no",
            )
        )
    return _table(("Event", "A callback may declare", "When", "May refuse"), rows)


def metrics_table() -> str:
    """One row a metric, as /metrics shows it. The process's own ones are left to a sentence of the page."""
    rows = []
    for family in _families():
        labels = ", ".join(f"`{label}`" for label in getattr(family, "_labelnames", ()) if label != "le")
        name = f"{family.name}_total" if family.type == "counter" else family.name
        rows.append((f"`{name}`", family.type, labels or "-", _meaning(family)))
    return _table(("Name", "Type", "Labels", "Meaning"), rows)


def _meaning(family: Metric) -> str:
    """A number of the store's comes without words of its own; a new one has to get some here (KeyError)."""
    name = family.name.removeprefix("snackbase_store_")
    return family.documentation if name == family.name else STORE_NUMBERS[name]


def _families() -> Iterator[Metric]:
    metrics = Metrics()
    _application(metrics)
    yield from metrics.collect()


def routes() -> list[str]:
    """The paths that an application serves."""
    return sorted({str(getattr(route, "path", "")) for route in served()})


def served() -> Sequence[BaseRoute]:
    """The routes that an application serves."""
    return _application(Metrics()).http._router.routes


def _application(metrics: Metrics) -> Graph:
    """An application whose parts are put together and nothing of it opened."""
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "snackbase.db"
        settings = load({}, database_url=f"sqlite:///{database}")
        store = SQLiteStore(database)
        store.epoch = "docs"
        core = Core(settings, store, b"0123456789abcdef0123456789abcdef")
        return build(
            core,
            hooks=Hooks(),
            metrics=metrics,
            spawn=lambda *args, **kwargs: None,
            later=lambda work, size=0: None,
            stopping=lambda: False,
        )


def commands_text() -> str:
    """A chapter a command: how it is called, what it does, its options."""
    context = click.Context(command_line, info_name="snackbase")
    chapters = [_command(command_line, context, "snackbase")]
    for name, command in _commands(command_line):
        own = click.Context(command, info_name=name, parent=context)
        chapters.append(_command(command, own, f"snackbase {name}"))
    return "\n\n".join(chapters)


def _commands(group: click.Command, path: str = "") -> Iterator[tuple[str, click.Command]]:
    for name, command in sorted(getattr(group, "commands", {}).items()):
        yield f"{path}{name}", command
        yield from _commands(command, f"{path}{name} ")


def _command(command: click.Command, context: click.Context, called: str) -> str:
    pieces = " ".join(command.collect_usage_pieces(context))
    lines = [f"## `{called}`", "", f"    {called} {pieces}".rstrip()]
    lines += ["\n" + " ".join(paragraph.split()) for paragraph in (command.help or "").split("\n\n")]
    records = (parameter.get_help_record(context) for parameter in command.get_params(context))
    rows = [(f"`{record[0]}`", record[1]) for record in records if record and record[1] and "--help" not in record[0]]
    text = "\n".join(lines).rstrip()
    return f"{text}\n\n{_table(('Option', 'Meaning'), rows)}" if rows else text


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines)


PAGES: dict[str, Callable[[], str]] = {
    "settings": settings_table,
    "hooks": hooks_table,
    "metrics": metrics_table,
    "cli": commands_text,
}


def renewed(name: str) -> tuple[Path, str, str]:
    """A page of the reference: its path, what it says, and what it should say. Raises ValueError without markers."""
    path = REFERENCE / f"{name}.md"
    text = path.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN.format(name))
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{path.relative_to(ROOT)} lacks the line {(begin and END) or BEGIN.format(name)}")
    return path, text, f"{before}{begin}\n\n{PAGES[name]()}\n\n{end}{after}"


def main(arguments: list[str]) -> int:
    stale = 0
    for name in PAGES:
        path, text, wanted = renewed(name)
        if text == wanted:
            continue
        stale += 1
        if "--check" in arguments:
            print(f"{path.relative_to(ROOT)} is out of date; run: python -m tools.docs")
        else:
            path.write_text(wanted, encoding="utf-8")
            print(f"wrote {path.relative_to(ROOT)}")
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
