"""The other nodes: their commits come in as hints, and this node's commits go out. Steps 5 and 6 of the path.

Decides nothing about order (feeds.py keeps it). Promises that a change of another node is never judged by rules older
than those which that node knew when it committed.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence

from snackbase.bus.base import Bus
from snackbase.catalog import Catalog
from snackbase.hub.feeds import HOLD_S, Feeds, failed
from snackbase.model import Change


class Neighbours:
    """
    Args:
        deliver: routes changes to this node's clients. refresh: learns of newer rules and schemas.
        spawn: starts a task that the application owns.
    """

    def __init__(
        self,
        bus: Bus,
        feeds: Feeds,
        catalog: Catalog,
        *,
        deliver: Callable[[Sequence[Change]], None],
        refresh: Callable[[], Awaitable[None]],
        spawn: Callable[..., object],
    ) -> None:
        self._bus = bus
        self._feeds = feeds
        self._catalog = catalog
        self._deliver = deliver
        self._refresh = refresh
        self._spawn = spawn

    def start(self) -> None:
        """Begin to hear; on the running loop."""
        self._spawn(self._bus.run(self), name="bus")

    def tell(self, changes: Sequence[Change]) -> None:
        """This node committed these."""
        self._bus.publish(changes, self._catalog.version)

    def tell_version(self, version: int) -> None:
        """This node knows of a change of a rule or a schema."""
        self._bus.publish_version(version)

    def heard(self, changes: Sequence[Change], version: int) -> None:
        if version > self._catalog.version:
            # There are rules that are not known here: the rows are read from the log, and after them the rules.
            self._feeds.hinted({change.account_id: change.seq for change in changes}, whole=True)
        else:
            self._deliver(changes)

    def hinted(self, heads: Mapping[str, int]) -> None:
        self._feeds.hinted(heads, whole=True)

    def noticed(self, heads: Mapping[str, int]) -> None:
        """The database told how far logs reach by now; a bus that is up tells the changes themselves a moment later."""
        self._feeds.hinted(heads, whole=False)

    def version_hinted(self, version: int) -> None:
        if version > self._catalog.version:
            self._spawn(self._refreshed(), name="version-refresh")

    async def _refreshed(self) -> None:
        try:
            await self._refresh()
        except Exception as error:
            # The poll of versions tries again.
            failed("version_refresh_failed", error)

    async def reconnected(self, account_ids: Sequence[str]) -> None:
        await self._feeds.look(account_ids, grace_s=HOLD_S)
