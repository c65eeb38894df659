"""The write path over a real store: values, accounts, rules, batches, what the store refuses."""

import asyncio

import msgspec
import pytest

from snackbase.errors import (
    Conflict,
    Forbidden,
    NotFound,
    TooLarge,
    Unauthorized,
    ValidationFailed,
)
from snackbase.model import (
    Field,
    FieldType,
    OnDelete,
    Op,
    Rules,
)
from snackbase.realtime.position import Positions
from snackbase.services.ids import Ids
from snackbase.services.listing import ListRequest
from snackbase.services.preparation import Edit
from snackbase.storage.base import SchemaChange
from tests.support.world import ANN, BOB, GHOST, TITLE, VIEWS, World, rules

# Writing -----------------------------------------------------------------------------------------------------------


async def test_a_created_record_is_answered_as_it_is_read_and_logged(world: World) -> None:
    await world.collection("posts", TITLE, VIEWS)
    written = await world.records.create(world.user(), "posts", {"title": "a", "views": 1.0})
    (record,) = written.records
    assert record == await world.records.get(world.user(), "posts", record["id"])
    assert (record["title"], record["views"], record["created_by"]) == ("a", 1, ANN)
    assert record["account_id"] == world.accounts["acme"]
    (change,) = await world.log()
    assert (change.op, change.data, change.actor) == (Op.CREATE, record, ANN)


async def test_a_write_answers_with_the_position_right_after_it(world: World) -> None:
    await world.collection("posts", TITLE)
    written = await world.records.create(world.user(), "posts", {"title": "a"})
    listing = await world.records.list(world.user(), "posts", ListRequest())
    assert written.position == listing.position
    parsed = Positions.parse(written.position)
    assert parsed is not None
    assert (parsed.seq, parsed.version) == (1, world.catalog.version)


async def test_patch_changes_the_given_fields_and_put_replaces_all(world: World) -> None:
    await world.collection("posts", TITLE, VIEWS, Field(name="notes"))
    user = world.user()
    record = (await world.records.create(user, "posts", {"title": "a", "views": 5, "notes": "n"})).records[0]
    patched = (await world.records.update(user, "posts", record["id"], {"views": 6})).records[0]
    assert (patched["title"], patched["views"], patched["notes"]) == ("a", 6, "n")
    put = (await world.records.update(user, "posts", record["id"], {"title": "b"}, replace=True)).records[0]
    assert (put["title"], put["views"], put["notes"]) == ("b", 0, None)


async def test_a_record_that_was_read_can_be_changed_and_sent_back(world: World) -> None:
    await world.collection("posts", TITLE)
    record = (await world.records.create(world.user(), "posts", {"title": "a"})).records[0]
    sent = record | {"title": "b"}
    back = (await world.records.update(world.user(), "posts", record["id"], sent, replace=True)).records[0]
    assert back["title"] == "b"


async def test_an_update_that_changes_nothing_is_answered_and_not_logged(world: World) -> None:
    await world.collection("posts", TITLE)
    record = (await world.records.create(world.user(), "posts", {"title": "a"})).records[0]
    again = (await world.records.update(world.user(), "posts", record["id"], {"title": "a"})).records[0]
    assert again == record
    assert len(await world.log()) == 1


async def test_the_id_in_a_body_cannot_name_another_record(world: World) -> None:
    await world.collection("posts", TITLE)
    record = (await world.records.create(world.user(), "posts", {"title": "a"})).records[0]
    with pytest.raises(ValidationFailed) as caught:
        await world.records.update(world.user(), "posts", record["id"], {"id": GHOST})
    assert [(detail.field, detail.code) for detail in caught.value.details] == [("id", "read_only")]
    await world.records.update(world.user(), "posts", record["id"], {"id": record["id"].upper()})


async def test_a_client_made_id_is_used_once(world: World) -> None:
    await world.collection("posts", TITLE)
    written = await world.records.create(world.user(), "posts", {"id": GHOST.upper(), "title": "a"})
    assert written.records[0]["id"] == GHOST
    with pytest.raises(Conflict) as caught:
        await world.records.create(world.user(), "posts", {"id": GHOST, "title": "b"})
    assert caught.value.code == "id_taken"


async def test_a_deleted_record_is_gone_and_answered_by_its_id(world: World) -> None:
    await world.collection("posts", TITLE)
    record = (await world.records.create(world.user(), "posts", {"title": "a"})).records[0]
    written = await world.records.delete(world.user(), "posts", record["id"])
    assert written.records == ({"id": record["id"]},)
    with pytest.raises(NotFound):
        await world.records.get(world.user(), "posts", record["id"])


async def test_ids_rise_even_within_a_millisecond() -> None:
    ids = Ids(lambda: 1_768_653_296_789_000, lambda bits: 0)
    made = [ids.new() for _ in range(5000)]
    assert made == sorted(set(made))
    assert {(record_id[14], record_id[19]) for record_id in made} == {("7", "8")}


# Accounts ----------------------------------------------------------------------------------------------------------


async def test_another_accounts_records_do_not_exist(world: World) -> None:
    await world.collection("posts", TITLE)
    record = (await world.records.create(world.user(), "posts", {"title": "a"})).records[0]
    stranger = world.user(BOB, "other")
    for attempt in (
        world.records.get(stranger, "posts", record["id"]),
        world.records.update(stranger, "posts", record["id"], {"title": "b"}),
        world.records.delete(stranger, "posts", record["id"]),
    ):
        with pytest.raises(NotFound):
            await attempt
    assert (await world.records.list(stranger, "posts", ListRequest())).total == 0


async def test_a_superadmin_creates_in_the_account_that_the_body_names(world: World) -> None:
    await world.collection("posts", TITLE)
    body = {"title": "a", "account_id": world.accounts["other"]}
    record = (await world.records.create(world.root(None), "posts", body)).records[0]
    assert record["account_id"] == world.accounts["other"]
    assert [change.record_id for change in await world.log("other")] == [record["id"]]


async def test_a_superadmin_changes_a_record_in_the_account_that_the_body_names(world: World) -> None:
    await world.collection("posts", TITLE)
    other, root = world.accounts["other"], world.root(None)
    made = (await world.records.create(root, "posts", {"title": "a", "account_id": other})).records[0]
    patched = await world.records.update(root, "posts", made["id"], {"title": "b", "account_id": other})
    whole = {**patched.records[0], "title": "c"}
    put = await world.records.update(root, "posts", made["id"], whole, replace=True)
    edit = Edit(id=made["id"], data={"title": "d", "account_id": other})
    edited = await world.records.update_many(root, "posts", [edit])
    assert [one.records[0]["title"] for one in (patched, put, edited)] == ["b", "c", "d"]
    assert [change.op for change in await world.log("other")] == [Op.CREATE, Op.UPDATE, Op.UPDATE, Op.UPDATE]
    for body in ({"title": "e"}, {"title": "e", "account_id": world.accounts["acme"]}):
        with pytest.raises(NotFound):
            await world.records.update(root, "posts", made["id"], body)
    with pytest.raises(NotFound):
        await world.records.update(world.user(), "posts", made["id"], {"title": "e", "account_id": other})


async def test_nobody_else_chooses_an_account_by_the_body(world: World) -> None:
    await world.collection("posts", TITLE)
    body = {"title": "a", "account_id": world.accounts["other"]}
    for principal in (world.user(), world.root("acme")):
        with pytest.raises(ValidationFailed) as caught:
            await world.records.create(principal, "posts", body)
        assert caught.value.details[0].field == "account_id"
    with pytest.raises(NotFound) as missing:
        await world.records.create(world.root(None), "posts", {"title": "a", "account_id": GHOST})
    assert missing.value.code == "account_not_found"


# Rules -------------------------------------------------------------------------------------------------------------


async def test_the_create_rule_judges_the_new_record_and_the_given_data(world: World) -> None:
    await world.collection(
        "posts", TITLE, VIEWS, rules=rules(create_rule="@owns_record() && views < 10 && @request.data.views = null")
    )
    await world.records.create(world.user(), "posts", {"title": "a"})
    with pytest.raises(Forbidden):
        await world.records.create(world.user(), "posts", {"title": "a", "views": 1})


async def test_who_may_not_create_does_not_learn_what_is_wrong_with_the_values(world: World) -> None:
    await world.collection("posts", TITLE, rules=rules(create_rule="@has_role('admin')"))
    with pytest.raises(Forbidden):
        await world.records.create(world.user(), "posts", {"nothing": 1})


async def test_a_visible_record_that_may_not_be_changed_is_403_and_an_invisible_one_404(world: World) -> None:
    await world.collection(
        "posts",
        TITLE,
        rules=rules(view_rule="title != 'secret'", update_rule="@owns_record()", delete_rule="@owns_record()"),
    )
    shown = (await world.records.create(world.user(), "posts", {"title": "open"})).records[0]
    hidden = (await world.records.create(world.user(), "posts", {"title": "secret"})).records[0]
    bob = world.user(BOB)
    with pytest.raises(Forbidden):
        await world.records.update(bob, "posts", shown["id"], {"title": "b"})
    with pytest.raises(Forbidden):
        await world.records.delete(bob, "posts", shown["id"])
    absent = []
    for record_id in (hidden["id"], GHOST, "not-a-uuid"):
        for attempt in (
            world.records.update(bob, "posts", record_id, {"title": "b"}),
            world.records.update(bob, "posts", record_id, {"nothing": 1}),
            world.records.delete(bob, "posts", record_id),
            world.records.get(bob, "posts", record_id),
        ):
            with pytest.raises(NotFound) as caught:
                await attempt
            absent.append(caught.value.message)
    assert set(absent) == {"The record does not exist."}


async def test_an_update_rule_judges_the_record_before_the_change(world: World) -> None:
    await world.collection("posts", TITLE, rules=rules(update_rule="title = 'draft'"))
    record = (await world.records.create(world.user(), "posts", {"title": "draft"})).records[0]
    await world.records.update(world.user(), "posts", record["id"], {"title": "live"})
    with pytest.raises(Forbidden):
        await world.records.update(world.user(), "posts", record["id"], {"title": "draft"})


async def test_an_update_rule_sees_the_given_data(world: World) -> None:
    await world.collection("posts", TITLE, VIEWS, rules=rules(update_rule="@request.data.title = null"))
    record = (await world.records.create(world.user(), "posts", {"title": "a"})).records[0]
    await world.records.update(world.user(), "posts", record["id"], {"views": 2})
    with pytest.raises(Forbidden):
        await world.records.update(world.user(), "posts", record["id"], {"title": "b"})


async def test_a_locked_rule_is_for_superadmins_only(world: World) -> None:
    locked = Rules(list_rule=None, view_rule=None, create_rule=None, update_rule=None, delete_rule=None)
    await world.collection("posts", TITLE, rules=locked)
    root, user = world.root(), world.user()
    record = (await world.records.create(root, "posts", {"title": "a"})).records[0]
    await world.records.update(root, "posts", record["id"], {"title": "b"})
    assert (await world.records.get(root, "posts", record["id"]))["title"] == "b"
    assert (await world.records.list(root, "posts", ListRequest())).total == 1
    for attempt in (
        world.records.create(user, "posts", {"title": "a"}),
        world.records.update(user, "posts", record["id"], {"title": "c"}),
        world.records.delete(user, "posts", record["id"]),
        world.records.get(user, "posts", record["id"]),
        world.records.list(user, "posts", ListRequest()),
    ):
        with pytest.raises(Forbidden):
            await attempt


async def test_a_guest_reads_what_is_public_and_is_asked_for_a_token_otherwise(world: World) -> None:
    await world.collection("posts", TITLE, rules=rules(list_rule="", view_rule="title = 'open'"))
    record = (await world.records.create(world.user(), "posts", {"title": "open"})).records[0]
    closed = (await world.records.create(world.user(), "posts", {"title": "closed"})).records[0]
    guest = world.guest()
    assert (await world.records.list(guest, "posts", ListRequest())).total == 2
    assert (await world.records.get(guest, "posts", record["id"]))["title"] == "open"
    with pytest.raises(NotFound):
        await world.records.get(guest, "posts", closed["id"])
    for attempt in (
        world.records.create(guest, "posts", {"title": "a"}),
        world.records.update(guest, "posts", record["id"], {"title": "a"}),
        world.records.delete(guest, "posts", record["id"]),
    ):
        with pytest.raises(Unauthorized) as caught:
            await attempt
        assert caught.value.code == "token_missing"


async def test_a_guest_writes_where_the_rule_is_public_and_leaves_no_name(world: World) -> None:
    await world.collection("forms", TITLE, rules=rules(create_rule="", view_rule=None))
    written = await world.records.create(world.guest(), "forms", {"title": "hello"})
    assert list(written.records[0]) == ["id"]
    record = await world.records.get(world.root(), "forms", written.records[0]["id"])
    assert (record["title"], record["created_by"]) == ("hello", None)


async def test_in_dev_mode_everybody_is_told_which(world: World) -> None:
    await world.collection("posts", TITLE, rules=rules(view_rule="title != 'secret'", update_rule="@owns_record()"))
    hidden = (await world.records.create(world.user(), "posts", {"title": "secret"})).records[0]
    telling = world.service(explain=True)
    with pytest.raises(NotFound, match=r"view rule .* It says: title != 'secret' \(asked as id="):
        await telling.get(world.user(BOB), "posts", hidden["id"])
    with pytest.raises(NotFound, match="There is no record"):
        await telling.get(world.user(BOB), "posts", GHOST)
    with pytest.raises(Forbidden, match=r"update rule .* It says: @owns_record.* \(asked as .*role="):
        await telling.update(world.user(BOB), "posts", hidden["id"], {"title": "b"})
    with pytest.raises(NotFound, match="Did you mean 'posts'"):
        await telling.get(world.user(BOB), "post", GHOST)


async def test_an_unknown_collection_is_not_found(world: World) -> None:
    for attempt in (
        world.records.create(world.user(), "posts", {}),
        world.records.list(world.user(), "posts", ListRequest()),
    ):
        with pytest.raises(NotFound) as caught:
            await attempt
        assert caught.value.code == "collection_not_found"


# Batches -----------------------------------------------------------------------------------------------------------


async def test_a_batch_is_one_transaction(world: World) -> None:
    await world.collection("posts", TITLE)
    user = world.user()
    made = (await world.records.create_many(user, "posts", [{"title": "a"}, {"title": "b"}])).records
    edits = [Edit(id=record["id"], data={"title": record["title"] * 2}) for record in made]
    updated = await world.records.update_many(user, "posts", edits)
    assert [record["title"] for record in updated.records] == ["aa", "bb"]
    ids = [record["id"] for record in made]
    deleted = await world.records.delete_many(user, "posts", [*ids, ids[0]])
    assert [record["id"] for record in deleted.records] == ids
    log = await world.log()
    assert [change.op for change in log] == [Op.CREATE, Op.CREATE, Op.UPDATE, Op.UPDATE, Op.DELETE, Op.DELETE]
    assert [change.tx_size for change in log] == [2] * 6
    assert len({change.tx_id for change in log}) == 3


async def test_a_batch_with_one_bad_record_changes_nothing_and_names_it(world: World) -> None:
    await world.collection("posts", TITLE)
    with pytest.raises(ValidationFailed) as caught:
        await world.records.create_many(world.user(), "posts", [{"title": "a"}, {"title": 5}])
    assert [detail.field for detail in caught.value.details] == ["records[1].title"]
    record = (await world.records.create(world.user(), "posts", {"title": "a"})).records[0]
    edits = [Edit(id=record["id"], data={"title": "b"}), Edit(id=GHOST, data={"title": "b"})]
    with pytest.raises(NotFound):
        await world.records.update_many(world.user(), "posts", edits)
    with pytest.raises(NotFound):
        await world.records.delete_many(world.user(), "posts", [record["id"], GHOST])
    assert (await world.records.get(world.user(), "posts", record["id"]))["title"] == "a"
    assert len(await world.log()) == 1


async def test_a_batch_is_refused_as_a_whole_by_a_rule_on_one(world: World) -> None:
    await world.collection("posts", TITLE, rules=rules(create_rule="title != 'no'"))
    with pytest.raises(Forbidden):
        await world.records.create_many(world.user(), "posts", [{"title": "a"}, {"title": "no"}])
    assert await world.log() == []


@pytest.mark.parametrize("count", [0, 101])
async def test_a_batch_holds_1_to_100_records(world: World, count: int) -> None:
    await world.collection("posts", TITLE)
    for attempt in (
        world.records.create_many(world.user(), "posts", [{"title": "a"}] * count),
        world.records.update_many(world.user(), "posts", [Edit(id=GHOST, data={})] * count),
        world.records.delete_many(world.user(), "posts", [GHOST] * count),
    ):
        with pytest.raises(ValidationFailed) as caught:
            await attempt
        assert caught.value.code == "invalid_batch"


# What the store refuses --------------------------------------------------------------------------------------------


async def test_a_taken_unique_value_is_a_conflict_within_the_account_only(world: World) -> None:
    await world.collection("posts", Field(name="slug", unique=True))
    await world.records.create(world.user(), "posts", {"slug": "a"})
    await world.records.create(world.user(BOB, "other"), "posts", {"slug": "a"})
    with pytest.raises(Conflict) as caught:
        await world.records.create(world.user(), "posts", {"slug": "a"})
    assert [detail.field for detail in caught.value.details] == ["slug"]


async def test_a_reference_must_exist_in_the_same_account(world: World) -> None:
    await world.collection("rooms", TITLE)
    room = Field(name="room", type=FieldType.REFERENCE, collection="rooms", on_delete=OnDelete.CASCADE)
    await world.collection("messages", room)
    foreign = (await world.records.create(world.user(BOB, "other"), "rooms", {"title": "r"})).records[0]
    with pytest.raises(ValidationFailed) as caught:
        await world.records.create(world.user(), "messages", {"room": foreign["id"]})
    assert caught.value.details[0].code == "reference_not_found"


async def test_a_record_that_grows_over_the_limit_by_patches_is_too_large(world: World) -> None:
    await world.collection("posts", *(Field(name=f"f{number}") for number in range(4)))
    record = (await world.records.create(world.user(), "posts", {})).records[0]
    with pytest.raises(TooLarge):
        for number in range(4):
            await world.records.update(world.user(), "posts", record["id"], {f"f{number}": "x" * 150_000})


# Schema changes meanwhile ------------------------------------------------------------------------------------------


async def test_writes_and_reads_beside_schema_changes_never_fail(world: World) -> None:
    made = await world.collection("posts", TITLE)
    user = world.user()

    async def write() -> int:
        for number in range(30):
            record = (await world.records.create(user, "posts", {"title": str(number)})).records[0]
            await world.records.get(user, "posts", record["id"])
            await world.records.list(user, "posts", ListRequest(limit=5))
        return 30

    async def alter() -> int:
        current = made
        for number in range(10):
            after = msgspec.structs.replace(current, fields=(TITLE, Field(name=f"f{number}")))
            altered = await world.store.alter(SchemaChange(before=current, after=after))
            assert altered is not None
            current = altered
        return 0

    assert sum(await asyncio.gather(write(), write(), alter())) == 60
    assert (await world.records.list(user, "posts", ListRequest())).total == 60
