"""Changes of definitions, on collections with records."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from snackbase.errors import Conflict, NotFound, SnackBaseError, Unavailable, ValidationFailed
from snackbase.model import Collection, Field, FieldType, Index, Rules
from snackbase.storage.base import Query, SchemaChange, Store
from tests.storage.support import (
    SYSTEM,
    account,
    altered,
    announcements_arrive,
    collection,
    created,
    definition,
    new_id,
    reference,
    text,
    updating,
    whole_log,
    write,
)

OpenStore = Callable[..., Awaitable[Store]]


async def refusal(store: Store, before: Collection, **changes: Any) -> SnackBaseError:
    """The error of a change, which must leave everything as it was."""
    at = await store.collections()
    with pytest.raises(SnackBaseError) as refused:
        await altered(store, before, **changes)
    assert await store.collections() == at
    return refused.value


async def test_a_new_collection_gets_its_table_its_versions_and_an_announcement(store: Store) -> None:
    told: list[tuple[int, tuple[Collection, ...]]] = []
    store.on_schema = lambda version, collections: told.append((version, collections))
    before, _ = await store.collections()

    posts = await collection(store, "Posts", text("title"))
    await announcements_arrive()

    assert posts.table == "c_posts"
    assert (posts.version, posts.schema_version, posts.rules_version) == (before + 1,) * 3
    assert told == [(before + 1, (posts,))] == [await store.collections()]


async def test_definitions_survive_a_restart(open_store: OpenStore) -> None:
    store = await open_store()
    await collection(
        store, "posts", text("title", default="x"), indexes=[Index(fields=("title",))], list_fields=("id",)
    )
    known = await store.collections()
    await store.close()

    assert await (await open_store()).collections() == known


async def test_names_are_unique_without_regard_to_case(store: Store) -> None:
    posts = await collection(store, "posts")
    notes = await collection(store, "notes")

    with pytest.raises(Conflict) as refused:
        await collection(store, "POSTS")

    assert refused.value.code == "name_taken"
    assert (await refusal(store, notes, name="Posts")).code == "name_taken"
    assert (await altered(store, posts, name="POSTS")).name == "POSTS"


async def test_a_renamed_collection_keeps_its_records_and_frees_its_name(store: Store) -> None:
    posts = await collection(store, "posts", text("title"))
    record = await created(store, posts, title="x")

    renamed = await altered(store, posts, name="articles")
    other = await collection(store, "posts", text("title"))

    assert (renamed.table, other.table) == ("c_posts", "c_posts_2")
    assert await store.get(renamed, SYSTEM, record["id"]) == record
    assert await store.get(other, SYSTEM, record["id"]) is None


async def test_a_field_with_a_default_fills_existing_records_and_bumps_the_schema(store: Store) -> None:
    posts = await collection(store, "posts", text("title"))
    record = await created(store, posts, title="x")
    # PostgreSQL has no text with U+0000.
    odd = "a\0b" if store.dialect == "sqlite" else "a\tb"
    new = (
        text("quote", default='it\'s "x"'),
        text("odd", default=odd),
        Field(name="amount", type=FieldType.NUMBER, default=1.0, required=True),
        Field(name="done", type=FieldType.BOOLEAN, default=False),
        Field(name="extra", type=FieldType.JSON, default={"a": [1, "'"]}),
    )

    after = await altered(store, posts, fields=(*posts.fields, *new))

    read = await store.get(after, SYSTEM, record["id"])
    assert read is not None
    assert list(read)[1:7] == ["title", "quote", "odd", "amount", "done", "extra"]
    assert [read[field.name] for field in new] == ['it\'s "x"', odd, 1, False, {"a": [1, "'"]}]
    assert type(read["amount"]) is int
    assert (after.schema_version, after.rules_version) == (after.version, posts.rules_version)
    assert len(await whole_log(store)) == 1
    # The default is the service's to apply to new records; the table does not do it on its own.
    assert (await created(store, after, title="y"))["quote"] is None


async def test_a_field_without_a_default_is_null_and_leaves_the_schema_version(store: Store) -> None:
    posts = await collection(store, "posts", text("title"))
    record = await created(store, posts, title="x")

    after = await altered(store, posts, fields=(text("first"), *posts.fields))

    assert (await store.get(after, SYSTEM, record["id"]) or {})["first"] is None
    assert (after.version, after.schema_version) == (posts.version + 1, posts.schema_version)
    assert (await created(store, after, first="a"))["first"] == "a"


async def test_a_dropped_field_is_gone_with_its_indexes_and_bumps_the_schema(store: Store) -> None:
    posts = await collection(
        store, "posts", text("a", unique=True), text("b"), indexes=[Index(fields=("a", "b")), Index(fields=("b",))]
    )
    record = await created(store, posts, a="1", b="2")

    after = await altered(store, posts, fields=(text("b"),), indexes=(Index(fields=("b",)),))

    assert "a" not in (await store.get(after, SYSTEM, record["id"]) or {"a": 1})
    assert (after.schema_version, after.rules_version) == (after.version, posts.rules_version)
    again = await altered(store, after, fields=(text("b"), text("A", unique=True)))
    assert (await store.get(again, SYSTEM, record["id"]) or {})["A"] is None
    assert [change.schema_version for change in await whole_log(store)] == [posts.schema_version]


async def test_a_type_change_is_refused(store: Store) -> None:
    other = await collection(store, "others")
    posts = await collection(store, "posts", text("title"), reference("other", "others"))
    await collection(store, "more")

    error = await refusal(store, posts, fields=(Field(name="title", type=FieldType.NUMBER), posts.fields[1]))
    assert (type(error), error.code, [d.field for d in error.details]) == (ValidationFailed, "type_change", ["title"])
    assert (await refusal(store, posts, fields=(posts.fields[0], reference("other", "more")))).code == "type_change"
    same = await altered(store, posts, fields=(posts.fields[0], reference("other", other.id)))
    assert same.fields[1].collection == other.id


async def test_a_required_field_without_default_needs_an_empty_collection(store: Store) -> None:
    posts = await collection(store, "posts")
    posts = await altered(store, posts, fields=(text("one", required=True),))
    other = await account(store, "other")
    await created(store, posts, account_id=other, one="x")

    error = await refusal(store, posts, fields=(*posts.fields, text("two", required=True)))

    assert [(d.field, d.code) for d in error.details] == [("two", "required_without_default")]
    assert isinstance(error, ValidationFailed)
    after = await altered(store, posts, fields=(*posts.fields, text("two", required=True, default="x")))
    assert after.version > posts.version


async def test_uniqueness_that_the_records_break_is_refused_naming_the_fields(store: Store) -> None:
    posts = await collection(store, "posts", text("a"), text("b"))
    other = await account(store, "other")
    for account_id in (SYSTEM, other, other):
        await created(store, posts, account_id=account_id, a="x", b="y")

    error = await refusal(store, posts, fields=(text("a", unique=True), text("b")))
    assert (error.code, [d.field for d in error.details]) == ("not_unique", ["a"])
    error = await refusal(store, posts, indexes=(Index(fields=("a", "b"), unique=True),))
    assert (error.code, [d.field for d in error.details]) == ("not_unique", ["a", "b"])

    second = (await store.list(Query(collection=posts, account_id=other))).items[1]
    await write(store, updating(posts, second["id"], {"a": "z"}), account_id=other)
    unique = await altered(store, posts, fields=(text("a", unique=True), text("b")))
    with pytest.raises(Conflict):
        await created(store, unique, account_id=other, a="z")
    free = await altered(store, unique, fields=(text("a"), text("b")))
    assert await created(store, free, account_id=other, a="z")


async def test_rules_and_visible_fields_bump_the_rules_version_only(store: Store) -> None:
    posts = await collection(store, "posts", text("title"))
    locked = Rules(list_rule=None, view_rule="", create_rule="", update_rule="", delete_rule="")

    for changes in ({"rules": locked}, {"list_fields": ("title",)}, {"view_fields": ("title",)}):
        after = await altered(store, posts, **changes)
        assert (after.version, after.rules_version) == (posts.version + 1,) * 2
        assert after.schema_version == posts.schema_version
        posts = after

    after = await altered(store, posts, fields=(text("title", default="x", required=True),))
    assert (after.schema_version, after.rules_version) == (posts.schema_version, posts.rules_version)


async def test_a_change_of_what_somebody_else_changed_is_refused(store: Store) -> None:
    posts = await collection(store, "posts", text("title"))
    await altered(store, posts, list_fields=("title",))

    with pytest.raises(Conflict) as refused:
        await altered(store, posts, view_fields=("title",))
    assert refused.value.code == "changed_meanwhile"
    with pytest.raises(Conflict):
        await store.alter(SchemaChange(before=posts, after=None))


async def test_a_dropped_collection_leaves_its_log_and_never_answers_for_the_next_of_its_name(store: Store) -> None:
    posts = await collection(store, "posts", text("title"))
    record = await created(store, posts, title="x")

    assert await store.alter(SchemaChange(before=posts, after=None)) is None
    with pytest.raises(NotFound) as refused:
        await created(store, posts, title="y")
    assert refused.value.code == "collection_not_found"
    with pytest.raises(NotFound):
        await store.alter(SchemaChange(before=posts, after=None))

    again = await collection(store, "posts", text("title"))
    assert again.schema_version > posts.schema_version
    assert await store.get(again, SYSTEM, record["id"]) is None
    assert [change.collection_id for change in await whole_log(store)] == [posts.id]


async def test_a_collection_that_others_refer_to_cannot_be_dropped(store: Store) -> None:
    folders = await collection(store, "folders", reference("parent", "folders"))
    papers = await collection(store, "papers", reference("folder", "folders"))

    with pytest.raises(Conflict, match="papers") as refused:
        await store.alter(SchemaChange(before=folders, after=None))
    assert refused.value.code == "referenced"

    await altered(store, papers, fields=())
    await store.alter(SchemaChange(before=folders, after=None))
    assert [c.name for c in (await store.collections())[1]] == ["papers"]


@pytest.mark.parametrize(
    ("fields", "more", "code"),
    [
        ((text("a"), text("A")), {}, "duplicate_field"),
        ((text("Created_At"),), {}, "duplicate_field"),
        ((reference("a", "nowhere"),), {}, "collection_not_found"),
        ((text("a"),), {"indexes": [Index(fields=("b",))]}, "unknown_field"),
    ],
)
async def test_a_definition_that_no_table_can_have_is_refused(
    store: Store, fields: tuple[Field, ...], more: dict[str, Any], code: str
) -> None:
    with pytest.raises(ValidationFailed) as refused:
        await collection(store, "posts", *fields, **more)

    assert [detail.code for detail in refused.value.details] == [code]
    assert await store.collections() == (1, ())


async def test_a_reader_with_an_old_definition_is_told_to_try_again(store: Store) -> None:
    posts = await collection(store, "posts", text("a"), text("b"))
    record = await created(store, posts, a="1", b="2")
    await altered(store, posts, fields=(text("b"),))

    for reading in (store.get(posts, SYSTEM, record["id"]), store.list(Query(collection=posts, account_id=SYSTEM))):
        with pytest.raises(Unavailable) as refused:
            await reading
        assert refused.value.code == "schema_changed"


async def test_schema_changes_between_writes_of_a_busy_store_lose_nothing(store: Store) -> None:
    posts = await collection(store, "posts", text("title"))
    done: list[dict[str, Any]] = []
    stop = asyncio.Event()

    async def writer() -> None:
        while not stop.is_set():
            current = next(c for c in (await store.collections())[1] if c.id == posts.id)
            try:
                done.append(await created(store, current, title="x"))
            except Conflict as refused:
                assert refused.code == "changed_meanwhile"

    writers = [asyncio.ensure_future(writer()) for _ in range(16)]
    current = posts
    for number in range(10):
        current = await altered(store, current, fields=(*current.fields, text(f"f{number}", default=str(number))))
    current = await altered(store, current, fields=posts.fields)
    stop.set()
    await asyncio.gather(*writers)

    log = await whole_log(store)
    assert [change.seq for change in log] == list(range(1, len(done) + 1))
    assert {change.record_id for change in log} == {record["id"] for record in done}
    page = await store.list(Query(collection=current, account_id=SYSTEM, limit=10_000))
    assert {record["id"] for record in page.items} == {record["id"] for record in done}


async def test_a_definition_keeps_its_id_and_its_time_of_creation(store: Store) -> None:
    posts = await collection(store, "posts")

    after = await altered(store, posts, created_at="1999-01-01T00:00:00.000Z", table="c_other")

    assert (after.created_at, after.table) == (posts.created_at, posts.table)
    assert after.updated_at >= posts.updated_at
    other = definition("posts", id=new_id(), version=after.version)
    with pytest.raises(ValueError, match="another id"):
        await store.alter(SchemaChange(before=after, after=other))
