"""Who is connected to this process, and what ends with a connection: its places, its feeds, its line in the log.

Promises that whoever leaves is let go of completely, and that the hook hears of everybody who had entered.
"""

from snackbase.hooks import Hooks, Later
from snackbase.hub.admission import Admission
from snackbase.hub.connection import Connection
from snackbase.hub.dialogue import who
from snackbase.hub.explain import Explainer
from snackbase.hub.feeds import Feeds
from snackbase.metrics import Counters, add


class Attendance:
    """The live connections.

    Args:
        later: runs the hooks of what has happened.

    Attributes:
        connections: all of them, in the order of their coming.
    """

    def __init__(
        self,
        *,
        admission: Admission,
        feeds: Feeds,
        explainer: Explainer,
        hooks: Hooks,
        later: Later,
        counters: Counters,
    ) -> None:
        self._admission = admission
        self._feeds = feeds
        self._explainer = explainer
        self._hooks = hooks
        self._later = later
        self._counters = counters
        self.connections: dict[Connection, None] = {}

    def __len__(self) -> int:
        return len(self.connections)

    def counts(self) -> dict[str, int]:
        """Live connections by transport."""
        found = {"websocket": 0, "sse": 0}
        for connection in self.connections:
            found[connection.wire.name] = found.get(connection.wire.name, 0) + 1
        return found

    def leave(self, connection: Connection, word: str, *, code: int | None, reason: str) -> None:
        """A connection has ended. Once for each.

        Args:
            word: how, as the metric and the log say it. code, reason: of the close frame.
        """
        add(self._counters.closes, word)
        entered, values = connection.live is not None, {**who(connection), "code": code, "reason": reason}
        self._explainer.note_end(connection, word)
        self.forget(connection)
        if entered and self._hooks.has("on_realtime_disconnect"):
            self._later(lambda: self._hooks.fire("on_realtime_disconnect", refusing=False, **values))  # type: ignore[arg-type]  # none of its values is the collection

    def vacate(self, connection: Connection) -> None:
        """Somebody else may have its places. Idempotent."""
        if connection in self.connections:
            del self.connections[connection]
            self._admission.release(connection.address, connection.claims.user_id if connection.claims else None)

    def forget(self, connection: Connection) -> None:
        """As if it had never come."""
        self.vacate(connection)
        self.release(connection)

    def release(self, connection: Connection) -> None:
        """It follows no account any more."""
        for live in (connection.live, connection.home):
            if live is not None:
                live.connections.pop(connection, None)
                self._feeds.release(live)
        connection.live = connection.home = None
