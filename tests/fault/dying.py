"""An application for `snackbase serve tests.fault.dying:app` that kills itself at one named point of the path.

`DIE_AT` names the point. It is armed by a file `die` in the server's folder that holds a number: the process ends with
SIGKILL when it comes to that point for so manieth time. The file goes first, so the next process lives. The file may
name the point itself, after the number.
"""

import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from snackbase import SnackBase
from snackbase.app import graph
from snackbase.hub import Hub, hub
from snackbase.hub.replays import Replays
from snackbase.model import Change, Collection
from snackbase.storage import schemachange, sqlite, writer
from snackbase.storage.asking import Asking
from snackbase.storage.group import Item
from snackbase.storage.retention import Pruner
from snackbase.storage.upgrade import Upgrade
from snackbase.storage.writer import Writer

POINTS = (
    "before the commit",
    "after the commit",
    "before the announcement",
    "while pruning",
    "while replaying",
    "while changing a schema",
)
UPGRADING = "while upgrading an old folder"
TOO_EARLY = "told before the commit"
"""A planted defect: the writer answers, then dies where it would have committed."""
ARMED = Path("die")
SERVING = not os.environ.keys().isdisjoint({"DIE_AT", "HOSTILE"})
"""Whether this process is a server that is to die; a test that imports the names above stays as it is."""
_passed = 0


def armed(point: str) -> int | None:
    """Whether it is the point, and the how manieth time it has to be."""
    if not ARMED.exists():
        return None
    number, _, named = ARMED.read_text().partition(" ")
    return int(number) if (named or os.environ.get("DIE_AT")) == point else None


def at(point: str) -> None:
    """Die here, if it is the point and the time."""
    global _passed
    number = armed(point)
    if number is None:
        return
    _passed += 1
    if _passed >= number:
        ARMED.unlink()
        os.kill(os.getpid(), signal.SIGKILL)


class DyingWriter(Writer):
    def _commit(self) -> None:
        if self._log._rows:
            self._log.flush(self._cursor)
            at("before the commit")
        super()._commit()

    def _apply(self, items: list[Item]) -> list[Change]:
        changes = super()._apply(items)
        if os.environ.get("DIE_AT") == TOO_EARLY and ARMED.exists():
            self._deliver(items)
            # Time for the answers to reach the clients.
            time.sleep(0.2)
            at(TOO_EARLY)
        return changes

    def _deliver(self, items: Sequence[Any], *settled: Any) -> None:
        if self._announcements:
            at("after the commit")
        super()._deliver(items, *settled)


class DyingPruner(Pruner):
    def delete(self) -> Asking[None]:
        yield from super().delete()
        at("while pruning")


class DyingHub(Hub):
    def deliver(self, changes: Sequence[Change]) -> None:
        at("before the announcement")
        super().deliver(changes)


class DyingReplays(Replays):
    def _tell(self, *args: Any) -> None:
        super()._tell(*args)
        at("while replaying")


class DyingUpgrade(Upgrade):
    def carry_out(self, *args: Any, **more: Any) -> bool:
        created = super().carry_out(*args, **more)
        at(UPGRADING)
        return created


def dying_carry_out(*args: Any, **more: Any) -> Asking[Collection | None]:
    after = yield from schemachange.carry_out(*args, **more)
    at("while changing a schema")
    return after


def install(module: Any, name: str, kind: Callable[..., Any]) -> None:
    assert hasattr(module, name)
    if SERVING:
        setattr(module, name, kind)


install(sqlite, "Upgrade", DyingUpgrade)
install(writer, "carry_out", dying_carry_out)
install(sqlite, "Writer", DyingWriter)
install(sqlite, "Pruner", DyingPruner)
install(graph, "Hub", DyingHub)
install(hub, "Replays", DyingReplays)

app = SnackBase()
