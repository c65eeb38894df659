"""Every hook of contract §9 fires in a running server, with each value that the reference says it is given."""

import json
from pathlib import Path
from typing import Any

from snackbase.hooks import EVENTS
from tests.e2e.conftest import MakeHouse

TELLING = """
import json
from pathlib import Path
from snackbase import SnackBase
from snackbase.hooks import EVENTS

app = SnackBase()

def listen(event):
    @getattr(app.hook, event)()
    def told(**values):
        given = sorted(name for name, value in values.items() if value is not None)
        with Path("told.jsonl").open("a") as file:
            file.write(json.dumps([event, given, values.get("collection")]) + "\\n")

for event in EVENTS:
    listen(event)
"""
NOT_ALWAYS: dict[str, set[str]] = {
    # Nothing is written by a deletion.
    "on_record_before_delete": {"data"},
    "on_record_after_delete": {"data"},
    "on_collection_before_delete": {"data"},
    "on_collection_after_delete": {"data"},
    # Not every subscription has a filter.
    "on_realtime_subscribe": {"filter"},
    "on_realtime_unsubscribe": {"filter"},
}


async def test_every_hook_fires_with_what_it_is_to_be_given(make_house: MakeHouse, tmp_path: Path) -> None:
    folder = tmp_path / "telling"
    folder.mkdir()
    (folder / "main.py").write_text(TELLING)
    house = await make_house(folder=folder, arguments=("serve", "main:app"))
    ann = await house.founder("ann")
    await ann.login_again()
    posts = await house.collection("title")
    superadmin = await house.superadmin()
    await superadmin.request("PUT", f"/collections/{posts}/rules", json={"list_rule": "title != 'x'"})
    socket = await house.socket(ann)
    await socket.subscribe(posts)
    post = await ann.create(posts, title="one")
    await ann.update(posts, post["id"], title="two")
    await ann.delete(posts, post["id"])
    await socket.take(3)
    await socket.ask("unsubscribe", collection=posts)
    await superadmin.request("DELETE", f"/collections/{posts}", status=204)
    await house.server.stop()

    told: list[tuple[str, list[str], Any]] = [
        tuple(json.loads(line)) for line in (folder / "told.jsonl").read_text().splitlines()
    ]
    given = {event: set(names) for event, names, _ in told}
    expected = {event: set(names) - NOT_ALWAYS.get(event, set()) for event, names in EVENTS.items()}
    assert {event: names - NOT_ALWAYS.get(event, set()) for event, names in given.items()} == expected
    assert {of for event, _, of in told if "_record_" in event or "_collection_" in event} == {posts}
