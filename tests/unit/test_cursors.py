"""Cursor pages over a real store: page after page they are the list, whatever is added or removed meanwhile."""

import asyncio
import base64
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snackbase.errors import BadRequest
from snackbase.model import Field, FieldType, Record
from snackbase.services import cursors
from snackbase.services.listing import NEWEST_FIRST, ListRequest
from snackbase.services.records import Listing
from snackbase.storage.base import Query
from snackbase.storage.lists import Select
from snackbase.storage.statements import Table
from tests.support.stores import new_store
from tests.support.world import TITLE, VIEWS, World, rules

FIELDS = (
    Field(name="text"),
    Field(name="number", type=FieldType.NUMBER),
    Field(name="flag", type=FieldType.BOOLEAN),
    Field(name="day", type=FieldType.DATE),
)
VALUES = st.fixed_dictionaries(
    {
        "text": st.none() | st.sampled_from(["", "a", "A", "ä", "b", "\U0001d4b3", "a\u0301", "\ufffd"]),
        "number": st.none() | st.sampled_from([-1, 0, 0.1, 0.30000000000000004, 1, 2**53 - 1, -1e300, 5e-324]),
        "flag": st.none() | st.booleans(),
        "day": st.none() | st.sampled_from(["2026-01-17", "2025-12-31"]),
    }
)
KEYS = st.lists(
    st.tuples(st.sampled_from(["+", "-"]), st.sampled_from([*(one.name for one in FIELDS), "created_at", "id"])),
    max_size=3,
)


async def page(world: World, **asked: Any) -> Listing:
    return await world.records.list(world.user(), "posts", ListRequest(**asked))


async def walk(world: World, *, back_from: str = "", **asked: Any) -> list[Record]:
    """Every record by following `next_cursor`, or `prev_cursor` from a place to the beginning."""
    found: list[Record] = []
    listing = await page(world, **asked, **({"cursor_before": back_from} if back_from else {}))
    while True:
        found = [*listing.items, *found] if back_from else [*found, *listing.items]
        place = listing.prev_cursor if back_from else listing.next_cursor
        if place is None:
            return found
        assert back_from or listing.has_more
        listing = await page(world, **asked, **{"cursor_before" if back_from else "cursor": place})


@settings(max_examples=60)
@given(records=st.lists(VALUES, min_size=1, max_size=12), keys=KEYS, limit=st.integers(1, 5))
def test_pages_by_cursor_are_the_list_in_any_order(
    records: list[dict[str, Any]], keys: list[tuple[str, str]], limit: int
) -> None:
    async def check() -> None:
        with tempfile.TemporaryDirectory() as folder:
            world = World(new_store(Path(folder) / "snackbase.db", synchronous="OFF"))
            await world.open()
            await world.collection("posts", *FIELDS)
            await world.records.create_many(world.user(), "posts", records)
            sort = ",".join(sign + name for sign, name in keys)
            whole = list((await page(world, sort=sort, limit=100)).items)
            assert await walk(world, sort=sort, limit=limit) == whole
            last = await page(world, sort=sort, skip=len(whole) - 1, limit=1)
            if len(whole) > 1:
                assert last.prev_cursor is not None
                before = await walk(world, sort=sort, limit=limit, back_from=last.prev_cursor)
                assert before == whole[:-1]
            await world.store.close()

    asyncio.run(check())


async def titles(world: World, **asked: Any) -> tuple[list[str], Listing]:
    listing = await page(world, **asked)
    return [item["title"] for item in listing.items], listing


async def test_records_that_come_and_go_do_not_shift_the_next_page(world: World) -> None:
    await world.collection("posts", TITLE)
    user = world.user()
    made = [(await world.records.create(user, "posts", {"title": title})).records[0] for title in "bdfh"]
    first, listing = await titles(world, sort="title", limit=2)
    assert first == ["b", "d"]
    await world.records.create_many(user, "posts", [{"title": title} for title in "ace"])
    await world.records.delete(user, "posts", made[1]["id"])
    assert (await titles(world, sort="title", limit=2, cursor=listing.next_cursor))[0] == ["e", "f"]


async def test_the_same_place_can_be_left_in_both_directions(world: World) -> None:
    await world.collection("posts", TITLE)
    await world.records.create_many(world.user(), "posts", [{"title": title} for title in "abcdef"])
    _, one = await titles(world, sort="title", limit=2)
    there, two = await titles(world, sort="title", limit=2, cursor=one.next_cursor)
    back, again = await titles(world, sort="title", limit=2, cursor_before=two.prev_cursor)
    assert (there, back) == (["c", "d"], ["a", "b"])
    assert (one.prev_cursor, again.prev_cursor, again.has_more) == (None, None, True)
    assert (await titles(world, sort="title", limit=2, cursor=again.next_cursor))[0] == there
    end, last = await titles(world, sort="title", limit=5, cursor=one.next_cursor)
    assert (end, last.next_cursor, last.has_more) == (["c", "d", "e", "f"], None, False)


async def test_a_sort_need_not_be_repeated_and_cannot_be_changed(world: World) -> None:
    await world.collection("posts", TITLE, VIEWS)
    await world.records.create_many(world.user(), "posts", [{"title": title} for title in "abc"])
    _, one = await titles(world, sort="-title", limit=1)
    assert (await titles(world, limit=1, cursor=one.next_cursor))[0] == ["b"]
    for sort in ("title", "-title,views", "views"):
        with pytest.raises(BadRequest) as caught:
            await page(world, sort=sort, cursor=one.next_cursor)
        assert caught.value.code == "invalid_cursor"


async def test_a_total_is_counted_with_a_cursor_only_when_asked_for_and_is_that_of_the_list(world: World) -> None:
    await world.collection("posts", TITLE)
    await world.records.create_many(world.user(), "posts", [{"title": title} for title in "abc"])
    first = await page(world, limit=1)
    assert first.total == 3
    assert (await page(world, limit=1, cursor=first.next_cursor)).total is None
    assert (await page(world, limit=5, cursor=first.next_cursor, total=True)).total == 3


async def test_filter_and_list_rule_hold_on_every_page(world: World) -> None:
    await world.collection("posts", TITLE, VIEWS, rules=rules(list_rule="views > 0"))
    many = [{"title": str(number), "views": number % 3} for number in range(12)]
    await world.records.create_many(world.user(), "posts", many)
    found = await walk(world, filter="views < 2", limit=1, sort="views")
    assert [item["views"] for item in found] == [1, 1, 1, 1]


async def test_a_cursor_over_a_long_text_goes_on_while_its_record_stays_as_it_was(world: World) -> None:
    await world.collection("posts", TITLE)
    long = "x" * 5000
    await world.records.create_many(world.user(), "posts", [{"title": long + title} for title in "abc"])
    assert [item["title"][-1] for item in await walk(world, sort="title", limit=1)] == ["a", "b", "c"]
    first = await page(world, sort="title", limit=1)
    assert first.next_cursor is not None
    assert len(first.next_cursor) < 500
    await world.records.update(world.user(), "posts", first.items[0]["id"], {"title": "other"})
    with pytest.raises(BadRequest) as caught:
        await page(world, cursor=first.next_cursor)
    assert caught.value.code == "invalid_cursor"


async def test_the_default_order_works_where_times_are_hidden_and_the_cursor_does_not_tell_them(world: World) -> None:
    await world.collection("posts", TITLE, list_fields=("title",))
    await world.records.create_many(world.user(), "posts", [{"title": title} for title in "abc"])
    one = await page(world, limit=1)
    assert one.next_cursor is not None
    assert [item["title"] for item in await walk(world, limit=1)] == ["c", "b", "a"]
    root = await world.records.list(world.root(), "posts", ListRequest(limit=1))
    assert root.next_cursor is not None
    assert len(one.next_cursor) < len(root.next_cursor)


@pytest.mark.parametrize(
    "text",
    ["x", "!!!", "e30", "W10", "é", "a" * 5000, "WyJhIl0", "bnVsbA", "\x00", "W1tbW1tbW1tbW1tbW1tbW1tbW1tbW1tbW1tb"],
)
async def test_a_cursor_that_is_none_is_refused(world: World, text: str) -> None:
    await world.collection("posts", TITLE)
    for asked in ({"cursor": text}, {"cursor_before": text}):
        with pytest.raises(BadRequest) as caught:
            await page(world, **asked)
        assert caught.value.code == "invalid_cursor"


async def test_a_cursor_of_another_collection_and_a_skip_besides_one_are_refused(world: World) -> None:
    await world.collection("posts", TITLE)
    await world.collection("others", TITLE)
    await world.records.create_many(world.user(), "posts", [{"title": title} for title in "ab"])
    place = (await page(world, limit=1)).next_cursor or ""
    for name, asked in (
        ("others", {"cursor": place}),
        ("posts", {"cursor": place, "skip": 1}),
        ("posts", {"cursor": place, "cursor_before": place}),
    ):
        with pytest.raises(BadRequest) as caught:
            await world.records.list(world.user(), name, ListRequest(**asked))
        assert caught.value.code == "invalid_cursor"


async def test_going_on_in_the_default_order_seeks_by_the_index(world: World) -> None:
    made = await world.collection("posts", TITLE)
    await world.records.create_many(world.user(), "posts", [{"title": "a"}] * 3)
    beyond = cursors.beyond(NEWEST_FIRST, ["2026-01-17T12:34:56.789Z", made.id])
    query = Query(collection=made, account_id=world.accounts["acme"], sort=NEWEST_FIRST, beyond=beyond)
    select = Select(query, Table(made))
    plan = await world.store.fetch(f"EXPLAIN QUERY PLAN {select.items}", select.args)
    assert len(plan) == 1
    assert "account_id=? AND created_at<?" in plan[0][3]


async def test_a_forged_cursor_tells_nothing_about_a_field_its_holder_may_not_read(world: World) -> None:
    await world.collection("posts", TITLE, list_fields=("title",))
    made = (await world.records.create(world.root(), "posts", {"title": "a"})).records[0]
    collection = world.catalog.by_name("posts")
    assert collection is not None
    values = [made["created_at"], made["id"]]
    place = (collection.collection.id, cursors.text_of(NEWEST_FIRST), made["id"])
    for forged in (cursors.Cursor(*place, values), cursors.Cursor(*place, None, cursors.digest_of(values))):
        text = base64.urlsafe_b64encode(msgspec.json.encode(forged)).decode().rstrip("=")
        with pytest.raises(BadRequest) as caught:
            await page(world, cursor=text)
        assert caught.value.code == "invalid_cursor"
