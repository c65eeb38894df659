"""A server with a planted defect, `snackbase serve plants:app`: PLANT says which. The machine has to find each.

They are the faults that others had: permissions skipped on deletes, on replays, on what a cached payload holds, and
those that an index of subscribers invites.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from snackbase import SnackBase
from snackbase.hub import rights, views
from snackbase.model import Change, Op
from snackbase.realtime import fanout, resume
from snackbase.realtime.fanout import Events, Judged, Verdict
from snackbase.realtime.groups import IndexedOn, View
from snackbase.rules import Rule, conjunction, conjuncts, predicate, tie

_through = Judged.through
_data = fanout._data
_payload = fanout._payload
_index = views._index
_predicate = predicate


def no_rule_on_delete(judged: Judged, sees: Any) -> Verdict | None:
    """Deletes go to everybody."""
    return _through(judged, None if judged.change.op is Op.DELETE else sees)


def no_rule_on_leave(judged: Judged, sees: Any) -> Verdict | None:
    """Only the record after the change is looked at: what becomes invisible stays in the list for ever."""
    verdict = _through(judged, sees)
    return None if verdict is not None and verdict.crossing == "leave" else verdict


def no_rule_on_replay(changes: Iterable[Judged], seen: Mapping[str, View], bits: int) -> Events:
    """What was missed is told without asking anybody."""
    found: Events = []
    for judged in changes:
        view = seen.get(judged.change.collection_id)
        verdict = _through(judged, None)
        if view is not None and verdict is not None and verdict.bit & bits:
            found.append((judged, verdict, view))
    return found


def old_values(change: Change, verdict: Verdict, view: View) -> bytes:
    """An update tells what its fields were before, readable or not."""
    told = _data(change, verdict, view)
    if not change.prev or verdict.crossing == "leave":
        return told
    return told[:-1] + b',"old":' + fanout._encode(change.prev) + b"}"


def whole_leave(change: Change, verdict: Verdict, view: View) -> bytes:
    """A record that becomes invisible is shown once more."""
    return bytes(change.raw) if verdict.crossing == "leave" else _data(change, verdict, view)


def hidden_fields(change: Change, verdict: Verdict, view: View) -> bytes:
    """Fields are cut on creates and updates, and forgotten on deletes."""
    return bytes(change.raw) if verdict.bit == fanout.DELETE and not verdict.crossing else _data(change, verdict, view)


def shared_payload(
    events: Events, name: str | None, position: str, made: dict[tuple[object, ...], bytes] | None = None
) -> list[bytes]:
    """The payload made for one group serves all others, whatever fields they may read."""
    made = {} if made is None else made
    payloads = []
    for number, (judged, verdict, view) in enumerate(events, 1):
        last = number == len(events)
        key = (id(judged), verdict, name, len(events), last)
        if key not in made:
            made[key] = _payload(judged, verdict, view, name, position if last else None, len(events))
        payloads.append(made[key])
    return payloads


def no_indexed_condition(rule: Rule, auth: Any) -> Any:
    """What the index looks up is not judged any more: who owned the record before goes on seeing it."""
    found = tie(rule)
    if found is None:
        return _predicate(rule, auth)
    parts = [part for part in conjuncts(rule) if tie(part) is None or tie(part) != found]
    return _predicate(conjunction(parts), auth)


def half_an_index(rule: Rule) -> IndexedOn | None:
    """Of several values only the first is looked up."""
    found = _index(rule)
    return None if found is None else IndexedOn(found.field, found.values[:1], elements=found.elements)


def only_after(judged: Judged, field: str, *, elements: bool) -> set[object]:
    """The index looks at the record after the change only: nobody is told that it left."""
    if judged.after is not None:
        judged.before, kept = None, judged.before
        try:
            return _values(judged, field, elements=elements)
        finally:
            judged.before = kept
    return _values(judged, field, elements=elements)


def ignored(*given: Any, **more: Any) -> None:
    """Open connections keep the rights they were judged by."""


def no_suspension(made: rights.Rights, live: Any, change: Change) -> None:
    """Who is deactivated keeps the connections that are open."""
    if change.data.get("what") != "user_disabled":
        _control(made, live, change)


_control = rights.Rights.control
_values = Judged.values
_subscription_of = views.subscription_of


def view_fields(*given: Any, **more: Any) -> Any:
    """Realtime cuts records to no field at all."""
    made = _subscription_of(*given, **more)
    unasked = made.request.fields is None
    made.views = {
        one: View(
            **{name: getattr(view, name) for name in View.__struct_fields__} | ({"fields": None} if unasked else {})
        )
        for one, view in made.views.items()
    }
    return made


PLANTS: dict[str, list[tuple[object, str, Callable[..., Any]]]] = {
    "rules are skipped on deletes": [(Judged, "through", no_rule_on_delete)],
    "a record that leaves is not told": [(Judged, "through", no_rule_on_leave)],
    "rules are skipped on replays": [(resume, "events_through", no_rule_on_replay)],
    "old values are shown": [(fanout, "_data", old_values)],
    "a record that leaves is shown": [(fanout, "_data", whole_leave)],
    "hidden fields are shown on deletes": [(fanout, "_data", hidden_fields)],
    "one payload for different fields": [(fanout, "payloads_of", shared_payload)],
    "the indexed condition is dropped": [(views, "predicate", no_indexed_condition)],
    "half an index": [(views, "_index", half_an_index)],
    "the index looks at the present only": [(Judged, "values", only_after)],
    "list_fields are forgotten": [(rights, "subscription_of", view_fields)],
    "a changed role or group is not noticed": [(rights.Rights, "_rights_changed", ignored)],
    "a changed rule is not noticed": [(rights.Rights, "catalog_changed", ignored)],
    "a suspended user goes on": [(rights.Rights, "control", no_suspension)],
}

if "PLANT" in os.environ:
    for place in PLANTS[os.environ["PLANT"]]:
        setattr(*place)
app = SnackBase()
