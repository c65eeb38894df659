"""A server with a planted defect, `snackbase serve plants:app`: PLANT says which. The state machine has to find each.

What is done wrong depends on the records alone (`marked`), so that the same steps show the same defect again.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any

from snackbase import SnackBase
from snackbase.hub.feeds import Feeds
from snackbase.model import Change, Head
from snackbase.realtime.fanout import Feed, Judged, Verdict
from snackbase.realtime.groups import Variant
from snackbase.realtime.resume import Passage, Replay

Route = Callable[[Feed, Sequence[Change], str, list[Any]], None]
Through = Callable[[Judged, Any], Verdict | None]
_route: Route = Feed.route
_through: Through = Judged.through
_held: list[tuple[Sequence[Change], str]] = []
_feeds: dict[Feed, None] = {}


def marked(changes: Sequence[Change]) -> bool:
    """Half of all records are treated wrongly."""
    return any(int(change.data.get("points") or 0) % 2 for change in changes)


def loss(feed: Feed, changes: Sequence[Change], position: str, dirty: list[Any]) -> None:
    if not marked(changes):
        _route(feed, changes, position, dirty)


def duplicate(feed: Feed, changes: Sequence[Change], position: str, dirty: list[Any]) -> None:
    _route(feed, changes, position, dirty)
    if marked(changes):
        _route(feed, changes, position, dirty)


def reorder(feed: Feed, changes: Sequence[Change], position: str, dirty: list[Any]) -> None:
    """A marked transaction comes after the next one."""
    if marked(changes):
        _held.append((changes, position))
        return
    _route(feed, changes, position, dirty)
    while _held:
        _route(feed, *_held.pop(), dirty)


def reorder_inside(feed: Feed, changes: Sequence[Change], position: str, dirty: list[Any]) -> None:
    _route(feed, list(reversed(changes)) if marked(changes) else changes, position, dirty)


def leak_account(feed: Feed, changes: Sequence[Change], position: str, dirty: list[Any]) -> None:
    """A marked transaction goes to every account that listens."""
    for other in list(_feeds) if marked(changes) else [feed]:
        _route(other, changes, position, dirty)


def join(feed: Feed, *given: Any, **more: Any) -> Variant:
    _feeds[feed] = None
    return _join(feed, *given, **more)


def leak_rule(judged: Judged, sees: Any) -> Verdict | None:
    """A marked record is seen whatever rule and filter say."""
    return _through(judged, None if marked([judged.change]) else sees)


def loss_on_replay(replay: Replay, passage: Passage, room: int) -> tuple[int, int]:
    if not marked(passage.rows):
        return _tell(replay, passage, room)
    replay.at = passage.head
    return 0, 0


def trust(feeds: Feeds, changes: Sequence[Change]) -> None:
    """What was told to this node is taken for everything there is: a gap is never looked for in the log."""
    for change in changes:
        live = feeds.get(change.account_id)
        if live is not None and live.ready is None and change.seq > live.next_seq:
            live.partial.clear()
            live.at = Head(change.seq - 1, change.ts_us)
    _accept(feeds, changes)


_accept = Feeds.accept
_tell = Replay.tell
_join = Feed.join
LISTENERS = (Feed, "join", join)
PLANTS: dict[str, tuple[type, str, Callable[..., Any]]] = {
    "loss": (Feed, "route", loss),
    "duplicate": (Feed, "route", duplicate),
    "reorder": (Feed, "route", reorder),
    "reorder inside a transaction": (Feed, "route", reorder_inside),
    "leak of another account": (Feed, "route", leak_account),
    "leak past a rule": (Judged, "through", leak_rule),
    "loss on replay": (Replay, "tell", loss_on_replay),
}
AMONG_NODES: dict[str, tuple[type, str, Callable[..., Any]]] = {
    "hints trusted without the log": (Feeds, "accept", trust),
}

if "PLANT" in os.environ:
    setattr(*LISTENERS)
    setattr(*(PLANTS | AMONG_NODES)[os.environ["PLANT"]])
app = SnackBase()
