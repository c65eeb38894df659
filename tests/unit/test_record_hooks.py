"""Record and collection hooks around the write path: what they may change, refuse and hear of."""

import asyncio
from typing import Any

import pytest

from snackbase.errors import (
    Conflict,
    Forbidden,
    NotFound,
    SnackBaseError,
    ValidationFailed,
)
from snackbase.hooks import HookAbort
from snackbase.model import (
    Field,
    FieldType,
    OnDelete,
)
from snackbase.services import collections
from snackbase.services.collections import CollectionContext
from snackbase.services.preparation import Context
from tests.support.world import ANN, BOB, GHOST, TITLE, VIEWS, World, rules

# Hooks -------------------------------------------------------------------------------------------------------------


async def test_a_before_hook_changes_the_data_and_what_it_makes_is_validated_again(world: World) -> None:
    await world.collection("posts", TITLE, VIEWS)

    @world.hooks.on_record_before_create(collection="posts")
    async def clean(data: dict[str, Any], context: Context) -> None:
        data["title"] = data["title"].strip() or None
        assert context.user_id == ANN

    record = (await world.records.create(world.user(), "posts", {"title": " a "})).records[0]
    assert record["title"] == "a"
    with pytest.raises(ValidationFailed) as caught:
        await world.records.create(world.user(), "posts", {"title": "  "})
    assert caught.value.details[0].code == "required"


async def test_a_before_hook_may_fill_a_required_field(world: World) -> None:
    await world.collection("posts", TITLE, Field(name="slug", required=True))

    @world.hooks.on_record_before_create()
    def fill(data: dict[str, Any]) -> None:
        data["slug"] = data["title"].lower()

    assert (await world.records.create(world.user(), "posts", {"title": "A"})).records[0]["slug"] == "a"


async def test_a_hook_that_fails_over_a_missing_field_leaves_a_validation_error_not_a_500(world: World) -> None:
    await world.collection("posts", TITLE)

    @world.hooks.on_record_before_create()
    async def clean(data: dict[str, Any]) -> None:
        data["title"] = data["title"].strip()

    with pytest.raises(ValidationFailed):
        await world.records.create(world.user(), "posts", {})
    with pytest.raises(ValidationFailed):
        await world.records.create(world.user(), "posts", {"title": 5})


async def test_a_before_hook_that_fails_writes_nothing(world: World) -> None:
    await world.collection("posts", TITLE)

    @world.hooks.on_record_before_create()
    async def broken() -> None:
        raise RuntimeError("broken")

    with pytest.raises(SnackBaseError) as caught:
        await world.records.create(world.user(), "posts", {"title": "a"})
    assert caught.value.code == "hook_failed"
    assert await world.log() == []


async def test_before_hooks_refuse_every_kind_of_write_with_their_code(world: World) -> None:
    await world.collection("posts", TITLE)
    record = (await world.records.create(world.user(), "posts", {"title": "a"})).records[0]
    asked = []

    def refuse(record: dict[str, Any]) -> None:
        asked.append(record["title"])
        raise HookAbort("Not today.", "closed")

    world.hooks.on_record_before_create()(refuse)
    world.hooks.on_record_before_update()(refuse)
    world.hooks.on_record_before_delete()(refuse)
    for attempt in (
        world.records.create(world.user(), "posts", {"title": "new"}),
        world.records.update(world.user(), "posts", record["id"], {"title": "b"}),
        world.records.delete(world.user(), "posts", record["id"]),
        world.records.create_many(world.user(), "posts", [{"title": "many"}]),
    ):
        with pytest.raises(HookAbort) as caught:
            await attempt
        assert caught.value.code == "closed"
    assert asked == ["new", "a", "a", "many"]
    assert len(await world.log()) == 1


async def test_a_hook_does_not_run_for_a_write_that_is_not_allowed(world: World) -> None:
    await world.collection("posts", TITLE, rules=rules(update_rule="@owns_record()", delete_rule="@owns_record()"))
    record = (await world.records.create(world.user(), "posts", {"title": "a"})).records[0]
    ran = []
    world.hooks.on_record_before_update()(lambda: ran.append("update"))
    world.hooks.on_record_before_delete()(lambda: ran.append("delete"))
    for attempt in (
        world.records.update(world.user(BOB), "posts", record["id"], {"title": "b"}),
        world.records.delete(world.user(BOB), "posts", record["id"]),
    ):
        with pytest.raises(Forbidden):
            await attempt
    with pytest.raises(NotFound):
        await world.records.delete(world.user(), "posts", GHOST)
    assert ran == []


async def test_after_hooks_run_behind_the_answer_with_copies(world: World) -> None:
    await world.collection("posts", TITLE, VIEWS)
    told: list[tuple[str, str, dict[str, Any]]] = []

    @world.hooks.on_record_after_create()
    async def created(record: dict[str, Any], data: dict[str, Any]) -> None:
        told.append(("create", record["title"], data))
        record.clear()

    @world.hooks.on_record_after_update(collection="posts")
    async def updated(record: dict[str, Any], data: dict[str, Any]) -> None:
        told.append(("update", record["title"], data))

    @world.hooks.on_record_after_delete()
    async def deleted(record: dict[str, Any], collection: str) -> None:
        told.append(("delete", record["title"], {"collection": collection}))

    user = world.user()
    record = (await world.records.create(user, "posts", {"title": "a"})).records[0]
    assert told == []
    await world.records.update(user, "posts", record["id"], {"title": "b"})
    await world.records.delete(user, "posts", record["id"])
    await world.run_later()
    assert told == [
        ("create", "a", {"title": "a", "views": 0}),
        ("update", "b", {"title": "b"}),
        ("delete", "b", {"collection": "posts"}),
    ]
    assert world.changes[0].data["title"] == "a"


async def test_after_hooks_hear_of_cascades(world: World) -> None:
    await world.collection("rooms", TITLE)
    room = Field(name="room", type=FieldType.REFERENCE, collection="rooms", on_delete=OnDelete.CASCADE)
    await world.collection("messages", room)
    told = []

    @world.hooks.on_record_after_delete()
    async def deleted(collection: str) -> None:
        told.append(collection)

    made = (await world.records.create(world.user(), "rooms", {"title": "r"})).records[0]
    await world.records.create(world.user(), "messages", {"room": made["id"]})
    await world.records.delete(world.user(), "rooms", made["id"])
    await world.run_later()
    assert sorted(told) == ["messages", "rooms"]


async def test_a_collection_hook_refuses_or_changes_a_definition(world: World) -> None:
    told = []

    @world.hooks.on_collection_before_create()
    async def before(collection: str, data: dict[str, Any], context: CollectionContext) -> None:
        if collection.startswith("tmp"):
            raise HookAbort("No such names.", "bad_prefix")
        data["list_rule"] = None
        told.append(context.user_id)

    world.hooks.on_collection_after_create()(lambda collection: told.append(collection))
    world.hooks.on_collection_after_delete()(lambda collection: told.append(f"-{collection}"))
    with pytest.raises(HookAbort):
        await world.collections.create(world.root(), {"name": "tmp_posts"})
    made = await world.collections.create(world.root(), {"name": "posts", "list_rule": ""})
    assert made.rules.list_rule is None
    await world.collections.drop(world.root(), "posts")
    await world.run_later()
    assert told == [GHOST, "posts", "-posts"]


async def test_a_hook_after_a_change_of_a_collection_hears_what_was_asked_for(world: World) -> None:
    told: list[tuple[str, dict[str, Any], str]] = []

    @world.hooks.on_collection_after_update(collection="posts")
    def after(collection: str, data: dict[str, Any], context: CollectionContext) -> None:
        told.append((collection, data, context.operation))

    for name in ("posts", "notes"):
        await world.collections.create(world.root(), {"name": name})
        await world.collections.update(world.root(), name, {"list_rule": ""})
    await world.collections.update(world.root(), "posts", {"list_rule": ""})
    await world.run_later()

    assert told == [("posts", {"list_rule": ""}, "update")], "once: the second one changed nothing"


async def test_a_server_has_so_many_collections_and_no_more(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collections, "MAX_COLLECTIONS", 2)
    for name in ("posts", "notes"):
        await world.collections.create(world.root(), {"name": name})

    with pytest.raises(Conflict) as refused:
        await world.collections.create(world.root(), {"name": "more"})
    assert refused.value.code == "too_many_collections"


async def test_a_collection_hook_that_makes_nonsense_is_a_validation_error(world: World) -> None:
    @world.hooks.on_collection_before_update(collection="posts")
    def before(data: dict[str, Any]) -> None:
        data["list_rule"] = "nothing = 1"

    await world.collections.create(world.root(), {"name": "posts"})
    with pytest.raises(ValidationFailed):
        await world.collections.update(world.root(), "posts", {"list_rule": ""})
    assert world.collections.get(world.root(), "posts").rules.list_rule != ""


async def test_a_collection_can_be_used_the_moment_it_is_made(world: World) -> None:
    for number in range(5):
        name = f"posts{number}"
        await world.collections.create(world.root(), {"name": name, "schema": [{"name": "title"}]})
        await world.records.create(world.user(), name, {"title": "a"})
        await world.collections.update(world.root(), name, {"schema": [{"name": "title"}, {"name": "b"}]})
        await world.records.create(world.user(), name, {"b": "c"})
        await world.collections.drop(world.root(), name)
        with pytest.raises(NotFound):
            await world.records.create(world.user(), name, {"title": "a"})


async def test_schema_changes_at_once_take_turns(world: World) -> None:
    await world.collections.create(world.root(), {"name": "posts"})

    async def rule(number: int) -> None:
        await world.collections.update(world.root(), "posts", {"list_rule": f"id = '{number}'"})

    await asyncio.gather(*(rule(number) for number in range(10)))
    assert (world.collections.get(world.root(), "posts").rules.list_rule or "").startswith("id = ")
