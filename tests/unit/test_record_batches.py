"""Batches: all or none, and an error names the record it is about."""

from collections.abc import Awaitable, Callable

import msgspec
import pytest

from snackbase.errors import SnackBaseError
from snackbase.hooks import HookAbort
from snackbase.model import Field, FieldType, OnDelete
from snackbase.services.preparation import Edit
from tests.support.world import ANN, BOB, GHOST, TITLE, VIEWS, World, rules

Act = Callable[[World, list[str]], Awaitable[object]]


def creating(**third: object) -> Act:
    async def act(world: World, ids: list[str]) -> object:
        bodies: list[dict[str, object]] = [{"title": "x"}, {"title": "y"}, {"title": "z"} | third]
        return await world.records.create_many(world.user(), "posts", bodies)

    return act


def updating(index: int, **data: object) -> Act:
    async def act(world: World, ids: list[str]) -> object:
        edits = [Edit(id=one, data={"views": 9}) for one in ids]
        edits.insert(index, Edit(id=str(data.pop("id", ids[0])), data=data))
        return await world.records.update_many(world.user(), "posts", edits)

    return act


def deleting(*more: str) -> Act:
    async def act(world: World, ids: list[str]) -> object:
        return await world.records.delete_many(world.user(), "posts", [ids[0], ids[0], *more, ids[1]])

    return act


@pytest.mark.parametrize(
    ("act", "code", "field", "detail"),
    [
        (creating(views="many"), "validation_failed", "records[2].views", "invalid_number"),
        (creating(title="a"), "not_unique", "records[2].title", "not_unique"),
        (creating(owner=GHOST), "validation_failed", "records[2].owner", "reference_not_found"),
        (creating(id=ANN), "id_taken", "records[2].id", "id_taken"),
        (
            creating(title="x" * 200_000, notes="y" * 200_000, more="z" * 200_000),
            "too_large",
            "records[2]",
            "too_large",
        ),
        (updating(1, id=GHOST), "not_found", "records[1]", "not_found"),
        (updating(2, id=BOB), "forbidden", "records[2]", "forbidden"),
        (updating(1, title="b"), "not_unique", "records[1].title", "not_unique"),
        (updating(0, nothing=1), "validation_failed", "records[0].nothing", "unknown_field"),
        (updating(1, id="no-id"), "not_found", "records[1]", "not_found"),
        (deleting(GHOST), "not_found", "ids[2]", "not_found"),
        (deleting(BOB), "forbidden", "ids[2]", "forbidden"),
    ],
)
async def test_an_error_in_a_batch_names_the_record_and_nothing_is_written(
    world: World, act: Act, code: str, field: str, detail: str
) -> None:
    people = await world.collection("people", TITLE)
    owner = Field(name="owner", type=FieldType.REFERENCE, collection=people.name, on_delete=OnDelete.RESTRICT)
    unique = msgspec.structs.replace(TITLE, unique=True)
    mine = rules(update_rule="title != 'locked'", delete_rule="title != 'locked'")
    await world.collection("posts", unique, VIEWS, owner, Field(name="notes"), Field(name="more"), rules=mine)
    bodies = [{"title": "a"}, {"title": "b"}, {"title": "c", "id": ANN}, {"title": "locked", "id": BOB}]
    made = (await world.records.create_many(world.user(), "posts", bodies)).records
    log = await world.log()
    with pytest.raises(SnackBaseError) as caught:
        await act(world, [one["id"] for one in made[:2]])
    assert (caught.value.code, caught.value.details[0].field) == (code, field)
    assert caught.value.details[0].code == detail
    assert caught.value.message.startswith(field.split(".")[0])
    assert await world.log() == log


async def test_a_rule_that_refuses_one_record_of_a_batch_names_it(world: World) -> None:
    await world.collection("posts", TITLE, rules=rules(create_rule="title != 'no'"))
    with pytest.raises(SnackBaseError) as caught:
        await world.records.create_many(world.user(), "posts", [{"title": "yes"}, {"title": "no"}])
    assert (caught.value.status, caught.value.details[0].field) == (403, "records[1]")


async def test_what_a_hook_says_is_shown_as_it_is_and_the_record_is_named(world: World) -> None:
    await world.collection("posts", TITLE)

    @world.hooks.on_record_before_create()
    async def refuse(data: dict[str, str]) -> None:
        if data["title"] == "no":
            raise HookAbort("No, thanks.", "not_now")

    with pytest.raises(HookAbort) as caught:
        await world.records.create_many(world.user(), "posts", [{"title": "yes"}, {"title": "no"}])
    assert (caught.value.message, caught.value.code) == ("No, thanks.", "not_now")
    assert caught.value.details[0].field == "records[1]"


async def test_the_one_write_of_a_single_request_is_not_numbered(world: World) -> None:
    await world.collection("posts", msgspec.structs.replace(TITLE, unique=True))
    await world.records.create(world.user(), "posts", {"title": "a"})
    with pytest.raises(SnackBaseError) as caught:
        await world.records.create(world.user(), "posts", {"title": "a"})
    assert caught.value.details[0].field == "title"
