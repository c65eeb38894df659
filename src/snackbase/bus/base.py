"""The seam between nodes: `Bus` tells others what this node committed, `Listener` hears what they committed.

A bus may lose, repeat, delay and reorder messages; the hub's feeds repair that from the log (hub/feeds.py). It promises
three things: it only delivers what a node with the server's secret has signed and what belongs to the current history;
it never blocks a commit; everything it holds is bounded. Step 5 of the path.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from snackbase.model import Change


class Listener(Protocol):
    """What a bus tells its node; called on the event loop."""

    def heard(self, changes: Sequence[Change], version: int) -> None:
        """Another node committed these, under this global version of rules and schemas."""
        ...

    def hinted(self, heads: Mapping[str, int]) -> None:
        """Other nodes' logs reach at least so far: account id -> number. No full event will follow."""
        ...

    def version_hinted(self, version: int) -> None:
        """Another node changed a rule or a schema."""
        ...

    async def reconnected(self, account_ids: Sequence[str]) -> None:
        """From here on hints of these accounts arrive; what was committed before may have been missed."""
        ...


class Bus(Protocol):
    """All methods but `run` and `close` return at once and never raise."""

    configured: bool
    """Whether there are other nodes to be heard through it."""

    @property
    def up(self) -> bool:
        """Whether hints arrive at the moment, as far as this node can tell."""
        ...

    def publish(self, changes: Sequence[Change], version: int) -> None:
        """Tell the others what this node committed; `version`: the global one known here."""
        ...

    def publish_version(self, version: int) -> None:
        """Tell the others that a rule or a schema was changed."""
        ...

    def watch(self, account_id: str) -> None:
        """Somebody here follows this account. Idempotent."""
        ...

    def unwatch(self, account_id: str) -> None:
        """Nobody here follows it any more."""
        ...

    async def run(self, listener: Listener) -> None:
        """Carry hints, for ever, whatever happens to the connection."""
        ...

    async def close(self) -> None: ...


class NoBus:
    """One node, or nodes that hear of each other through the database alone."""

    configured = False
    up = False

    def publish(self, changes: Sequence[Change], version: int) -> None: ...

    def publish_version(self, version: int) -> None: ...

    def watch(self, account_id: str) -> None: ...

    def unwatch(self, account_id: str) -> None: ...

    async def run(self, listener: Listener) -> None:
        """Nothing to do."""

    async def close(self) -> None: ...
