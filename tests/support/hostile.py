"""`snackbase serve tests.support.hostile:app`: a node that loses, doubles and delays what other nodes tell it.

HOSTILE is the share that is lost, and of what is left the share that is doubled and the share that is late.
"""

import asyncio
import os
import random
from collections.abc import Callable, Mapping, Sequence

from snackbase import SnackBase
from snackbase.hub.neighbours import Neighbours
from snackbase.model import Change

SHARE = float(os.environ.get("HOSTILE", "0"))
LATE_S = 0.06
_heard, _hinted, _noticed = Neighbours.heard, Neighbours.hinted, Neighbours.noticed


def _pass(deliver: Callable[[], None]) -> None:
    """Deliver never, once or twice, now or late."""
    if random.random() < SHARE:
        return
    for _ in range(2 if random.random() < SHARE else 1):
        delay_s = LATE_S * random.random() if random.random() < SHARE else 0.0
        asyncio.get_running_loop().call_later(delay_s, deliver)


def heard(self: Neighbours, changes: Sequence[Change], version: int) -> None:
    for change in changes:
        _pass(lambda change=change: _heard(self, [change], version))  # type: ignore[misc]  # bound now


def hinted(self: Neighbours, heads: Mapping[str, int]) -> None:
    _pass(lambda: _hinted(self, heads))


def noticed(self: Neighbours, heads: Mapping[str, int]) -> None:
    _pass(lambda: _noticed(self, heads))


if SHARE:
    # Only in a node: a test that imports what stands beside the nodes leaves its own process as it is.
    Neighbours.heard = heard  # type: ignore[method-assign]
    Neighbours.hinted = hinted  # type: ignore[method-assign]
    Neighbours.noticed = noticed  # type: ignore[method-assign]
app = SnackBase()
