"""Lists and single reads over a real store: fields, sort, filter, pages, and what is refused."""

import asyncio
from typing import Any

import msgspec
import pytest

from snackbase.errors import (
    BadRequest,
)
from snackbase.model import (
    Field,
    FieldType,
    User,
)
from snackbase.realtime.position import Positions
from snackbase.services.listing import ListRequest
from snackbase.storage import system
from snackbase.storage.base import Control, Page, Query, SchemaChange, Statement, Transaction
from tests.support.world import ANN, BOB, TIME, TITLE, VIEWS, World, rules

# Fields ------------------------------------------------------------------------------------------------------------


async def test_lists_and_single_reads_show_their_own_fields(world: World) -> None:
    await world.collection("posts", TITLE, VIEWS, list_fields=("title",), view_fields=("views",))
    written = await world.records.create(world.user(), "posts", {"title": "a", "views": 3})
    record_id = written.records[0]["id"]
    assert written.records[0] == {"id": record_id, "views": 3}
    assert await world.records.get(world.user(), "posts", record_id) == {"id": record_id, "views": 3}
    listing = await world.records.list(world.user(), "posts", ListRequest())
    assert listing.items == ({"id": record_id, "title": "a"},)
    assert "created_at" in await world.records.get(world.root(), "posts", record_id)


async def test_asking_for_some_fields_gives_these_and_the_id(world: World) -> None:
    await world.collection("posts", TITLE, VIEWS)
    record = (await world.records.create(world.user(), "posts", {"title": "a"})).records[0]
    listing = await world.records.list(world.user(), "posts", ListRequest(fields="title, created_by"))
    assert listing.items == ({"id": record["id"], "title": "a", "created_by": ANN},)
    one = await world.records.get(world.user(), "posts", record["id"], fields="views")
    assert one == {"id": record["id"], "views": 0}
    assert await world.records.get(world.user(), "posts", record["id"], fields="*") == record


async def test_a_list_obeys_rules_that_another_node_has_changed_before_anybody_told_of_it(world: World) -> None:
    posts = await world.collection("posts", TITLE)
    for title in "ab":
        await world.records.create(world.user(), "posts", {"title": title})
    told, heard = asyncio.Event(), world.store.on_schema
    world.store.on_schema = lambda _version, _collections: told.set()
    after = msgspec.structs.replace(posts, rules=rules(list_rule="title = 'b'"))
    changed = await world.store.alter(SchemaChange(before=posts, after=after))
    await told.wait()
    world.store.on_schema = heard
    assert changed is not None
    assert world.catalog.version < changed.version

    listing = await world.records.list(world.user(), "posts", ListRequest())

    assert [record["title"] for record in listing.items] == ["b"]
    position = Positions.parse(listing.position)
    assert position is not None
    assert position.version == changed.version


async def test_a_list_that_waited_obeys_the_rights_that_its_position_speaks_of(world: World) -> None:
    await world.collection("posts", TITLE, rules=rules(list_rule="title IN @request.auth.groups"))
    for title in ("old", "new"):
        await world.records.create(world.root(), "posts", {"title": title})
    user = User(
        id=ANN,
        account_id=world.accounts["acme"],
        email="ann@example.org",
        role="user",
        role_id=2,
        groups=("old",),
        created_at=TIME,
    )
    await _note(world, system.insert_user(user, "", error=ValueError("taken")))
    asked, plain = world.user(groups=("old",)), world.store.list

    async def waits(query: Query) -> Page:
        moved = msgspec.structs.replace(user, groups=("new",))
        world.store.list = plain  # type: ignore[method-assign]
        await _note(
            world, system.update_user(user, moved, at=TIME, error=None), Control(what="user_rights", subject=ANN)
        )
        return await plain(query)

    world.store.list = waits  # type: ignore[method-assign]  # others came first
    listing = await world.records.list(asked, "posts", ListRequest())

    assert [record["title"] for record in listing.items] == ["new"]
    position = Positions.parse(listing.position)
    assert position is not None
    assert position.seq == (await world.log())[-1].seq


async def _note(world: World, statement: Statement, *controls: Control) -> None:
    await world.store.write(Transaction(account_id=world.accounts["acme"], statements=(statement,), controls=controls))


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"fields": "salary"}, "invalid_fields"),
        ({"sort": "salary"}, "invalid_sort"),
        ({"filter": "salary > 1"}, "invalid_filter"),
    ],
)
async def test_a_field_one_may_not_read_is_refused_like_one_that_is_not_there(
    world: World, asked: dict[str, Any], code: str
) -> None:
    salary = Field(name="salary", type=FieldType.NUMBER)
    await world.collection("staff", TITLE, salary, list_fields=("title",))
    answers: list[str] = []
    for request in (asked, {key: text.replace("salary", "wealth") for key, text in asked.items()}):
        with pytest.raises(BadRequest) as caught:
            await world.records.list(world.user(), "staff", ListRequest(**request))
        assert caught.value.code == code
        assert caught.value.details[0].code == "unknown_field"
        answers.append(caught.value.message.replace("salary", "wealth"))
    assert answers[0] == answers[1]
    await world.records.list(world.root(), "staff", ListRequest(**asked))


# Lists -------------------------------------------------------------------------------------------------------------


async def _titles(world: World, **asked: Any) -> list[str]:
    listing = await world.records.list(world.user(), "posts", ListRequest(**asked))
    return [item["title"] for item in listing.items]


async def test_a_list_is_sorted_filtered_and_cut_into_pages(world: World) -> None:
    await world.collection("posts", TITLE, VIEWS)
    for title, views in (("a", 1), ("b", 3), ("c", 2), ("d", 2)):
        await world.records.create(world.user(), "posts", {"title": title, "views": views})
    assert await _titles(world) == ["d", "c", "b", "a"]
    assert await _titles(world, sort="-views,+title") == ["b", "c", "d", "a"]
    assert await _titles(world, sort="-views") == ["b", "d", "c", "a"]
    assert await _titles(world, sort="-views, title") == ["b", "c", "d", "a"]
    assert await _titles(world, sort="views,-id") == ["a", "d", "c", "b"]
    assert await _titles(world, filter="views >= 2", sort="title") == ["b", "c", "d"]
    assert await _titles(world, sort="title", skip=1, limit=2) == ["b", "c"]


async def test_a_total_is_counted_only_when_asked_for(world: World) -> None:
    await world.collection("posts", TITLE)
    await world.records.create_many(world.user(), "posts", [{"title": str(number)} for number in range(40)])
    counted = await world.records.list(world.user(), "posts", ListRequest())
    assert (counted.total, len(counted.items)) == (40, 30)
    quick = await world.records.list(world.user(), "posts", ListRequest(total=False))
    assert (quick.total, len(quick.items)) == (None, 30)


async def test_the_list_rule_and_the_filter_must_both_be_true(world: World) -> None:
    await world.collection("posts", TITLE, VIEWS, rules=rules(list_rule="@owns_record() || title = 'open'"))
    for actor, title in ((ANN, "mine"), (BOB, "open"), (BOB, "closed")):
        await world.records.create(world.user(actor), "posts", {"title": title})
    assert sorted(await _titles(world)) == ["mine", "open"]
    assert await _titles(world, filter="title = 'closed' || title = 'mine'") == ["mine"]


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"limit": 0}, "invalid_limit"),
        ({"limit": 101}, "invalid_limit"),
        ({"skip": -1}, "invalid_skip"),
        ({"skip": 10**12}, "invalid_skip"),
        ({"sort": "nothing"}, "invalid_sort"),
        ({"sort": "a,b,c,d,e,f"}, "invalid_sort"),
        ({"sort": "tags"}, "invalid_sort"),
        ({"sort": "--title"}, "invalid_sort"),
        ({"filter": "title ="}, "invalid_filter"),
        ({"filter": "title = 1"}, "invalid_filter"),
        ({"filter": "x" * 5000}, "invalid_filter"),
        ({"filter": "@request.data.title = 'a'"}, "invalid_filter"),
        ({"fields": "nothing"}, "invalid_fields"),
    ],
)
async def test_a_list_that_cannot_be_is_refused_naming_the_parameter(
    world: World, asked: dict[str, Any], code: str
) -> None:
    await world.collection("posts", TITLE, Field(name="tags", type=FieldType.JSON))
    with pytest.raises(BadRequest) as caught:
        await world.records.list(world.user(), "posts", ListRequest(**asked))
    assert caught.value.code == code
    assert caught.value.details[0].field == next(iter(asked))
