"""How the parts of a transaction ask the database, in words both databases answer.

A part is a generator that yields questions and is sent the answers, so the same code runs on SQLite's thread (`drive`)
and on a PostgreSQL connection (`postgres.link.drive`). Must not know either. A unique value that is taken comes into
the generator as `Taken`; every other error of the database ends it.
"""

from collections.abc import Callable, Generator, Sequence
from typing import Any, NamedTuple, TypeVar

import apsw

from snackbase.errors import Conflict, FieldError, SnackBaseError
from snackbase.model import Collection

T = TypeVar("T")


class Ask(NamedTuple):
    """One statement with `?` placeholders. The answer: its rows, or (`counted`) how many rows it changed."""

    sql: str
    args: Sequence[Any] = ()
    counted: bool = False


Asking = Generator[Ask, Any, T]
Run = Callable[[str, Sequence[Any]], list[tuple[Any, ...]]]
"""Executes one statement with `?` placeholders and gives its rows."""


class Taken(Exception):
    """A unique value exists already. `columns`: of the violated index, as far as the database says them."""

    def __init__(self, columns: Sequence[str]) -> None:
        super().__init__(", ".join(columns))
        self.columns = list(columns)


def drive(cursor: apsw.Cursor, asking: Asking[T]) -> T:
    """Run a part on SQLite. Raises what it raises, and apsw.Error."""
    execute, changes = cursor.execute, cursor.connection.changes
    try:
        ask = next(asking)
        while True:
            try:
                rows = execute(ask.sql, ask.args).fetchall()
            except apsw.ConstraintError as error:
                ask = asking.throw(_taken(error))
            else:
                ask = asking.send(changes() if ask.counted else rows)
    except StopIteration as done:
        result: T = done.value
        return result


def answered(run: Run, asking: Asking[T]) -> T:
    """Run a part that only wants rows, through a function that executes a statement and gives its rows."""
    try:
        ask = next(asking)
        while True:
            ask = asking.send(run(ask.sql, ask.args))
    except StopIteration as done:
        result: T = done.value
        return result


def _taken(error: apsw.ConstraintError) -> Taken:
    """SQLite names the columns: `UNIQUE constraint failed: c_posts.account_id, c_posts.slug`"""
    return Taken([part.rsplit(".", 1)[-1] for part in str(error).partition(": ")[2].split(", ")])


def violation(taken: Taken, collection: Collection) -> SnackBaseError:
    """The answer to a write whose value is taken: which, in the words of the collection."""
    if taken.columns in (["id", "account_id"], ["id"]):  # the second: of a table made before ids belonged to accounts
        detail = FieldError(field="id", message="This id is taken.", code="id_taken")
        return Conflict("A record with this id exists already.", code="id_taken", details=[detail])
    names = [name for name in taken.columns if collection.field(name) is not None]
    together = f" together with {', '.join(names)}" if len(names) > 1 else ""
    message = f"Another record of {collection.name} has this value{together}."
    details = [FieldError(field=name, message=message, code="not_unique") for name in names]
    return Conflict(f"{', '.join(names)}: {message}" if names else message, code="not_unique", details=details)
