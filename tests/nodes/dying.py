"""`snackbase serve tests.nodes.dying:app`: a node on PostgreSQL that kills itself at one named point of the path.

Armed as `tests.fault.dying` says, whose points above the store are these nodes' too. Hints are hostile besides.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

from snackbase.app import graph
from snackbase.bus.nats_ import NatsBus
from snackbase.model import Change, Collection
from snackbase.storage import schemachange
from snackbase.storage.asking import Asking
from snackbase.storage.postgres import alter, keeper, store, writer
from snackbase.storage.postgres.run import Run
from tests.fault.dying import DyingPruner, app, armed, at, install
from tests.support import hostile

__all__ = ("app", "hostile")

COMMITTING = (
    "before the commit",
    "during the commit",
    "after the commit",
    "before the announcement",
    "before the hint",
)
REPLAYING = "while replaying"
CHANGING = ("while changing a schema", "after changing a schema")
PRUNING = "while pruning"
TOO_EARLY = "told before the commit"
"""A planted defect: the node answers and tells, then dies where it would have committed."""
TELLS_S = 0.3


class DyingRun(Run):
    pretended = False

    async def _commit(self) -> None:
        if self.changes:
            at("before the commit")
            if armed("during the commit"):
                # When COMMIT is on its way and nobody knows whether it arrived.
                asyncio.get_running_loop().call_soon(at, "during the commit")
            if armed(TOO_EARLY):
                await self._pretend()
                return
        await super()._commit()
        if self.changes:
            at("after the commit")

    async def _pretend(self) -> None:
        if DyingRun.pretended:
            # The connection is in the middle of what was not committed.
            await asyncio.Event().wait()
        DyingRun.pretended = True
        asyncio.get_running_loop().call_later(TELLS_S, at, TOO_EARLY)


class DyingBus(NatsBus):
    def publish(self, changes: Sequence[Change], version: int) -> None:
        at("before the hint")
        super().publish(changes, version)


class DyingChanger(alter.Changer):
    async def _change(self, *args: Any) -> alter.Outcome:
        outcome = await super()._change(*args)
        at("after changing a schema")
        return outcome


def dying_carry_out(*args: Any, **more: Any) -> Asking[Collection | None]:
    after = yield from schemachange.carry_out(*args, **more)
    at("while changing a schema")
    return after


install(alter, "carry_out", dying_carry_out)
install(keeper, "Pruner", DyingPruner)
install(writer, "Run", DyingRun)
install(graph, "NatsBus", DyingBus)
install(store, "Changer", DyingChanger)
