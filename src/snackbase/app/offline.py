"""The services of an installation without a server: what the command line works with, on the data folder itself.

The application's hooks are not there, since nobody named the application. A server that runs on the same folder notices
what is written and tells its subscribers.
"""

import secrets
from collections.abc import Callable, Coroutine
from typing import Any

from snackbase.app.graph import Core
from snackbase.hooks import Hooks
from snackbase.realtime.position import Positions
from snackbase.services.collections import Collections
from snackbase.services.ids import Ids
from snackbase.services.records import Records
from snackbase.storage.sqlite import wall_clock_us


class Offline:
    """Records and collections on an open core."""

    def __init__(self, core: Core) -> None:
        hooks, new_id = Hooks(), Ids(wall_clock_us, secrets.randbits).new
        self.records = Records(
            core.store,
            core.catalog,
            hooks,
            Positions(core.store.epoch),
            later=_nothing_later,
            new_id=new_id,
            now_us=wall_clock_us,
        )
        self.collections = Collections(core.store, core.catalog, hooks, later=_nothing_later, new_id=new_id)


def _nothing_later(work: Callable[[], Coroutine[Any, Any, None]], size: int = 0) -> None:
    """Without hooks there is nothing to run after a write."""
