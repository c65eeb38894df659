"""The write path over a real store: rules, refusals, hooks, batches, lists. Nobody here is served over HTTP."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from snackbase.catalog import Catalog
from snackbase.errors import (
    BadRequest,
    Conflict,
    Forbidden,
    NotFound,
    SnackBaseError,
    TooLarge,
    Unauthorized,
    ValidationFailed,
)
from snackbase.hooks import HookAbort, Hooks
from snackbase.model import (
    MEMBERS_RULE,
    SYSTEM_ACCOUNT_ID,
    Account,
    Change,
    Collection,
    Field,
    FieldType,
    OnDelete,
    Op,
    Principal,
    Rules,
)
from snackbase.realtime.position import Positions
from snackbase.services.ids import Ids
from snackbase.services.listing import ListRequest
from snackbase.services.preparation import Context, Edit
from snackbase.services.records import Records
from snackbase.storage import system
from snackbase.storage.base import SchemaChange, Transaction
from snackbase.storage.sqlite import SQLiteStore, wall_clock_us

TIME = "2026-01-17T12:34:56.789Z"
ANN = "aaaaaaaa-0000-4000-8000-000000000001"
BOB = "bbbbbbbb-0000-4000-8000-000000000002"
GHOST = "99999999-9999-4999-8999-999999999999"
MEMBERS = Rules(
    list_rule=MEMBERS_RULE,
    view_rule=MEMBERS_RULE,
    create_rule=MEMBERS_RULE,
    update_rule=MEMBERS_RULE,
    delete_rule=MEMBERS_RULE,
)
TITLE = Field(name="title", required=True)
VIEWS = Field(name="views", type=FieldType.NUMBER, default=0)


class World:
    """A store with two accounts, and a records service whose after-hooks are run by hand."""

    def __init__(self, store: SQLiteStore) -> None:
        self.store = store
        self.catalog = Catalog()
        self.hooks = Hooks(timeout_s=5)
        self.later: list[Callable[[], Coroutine[Any, Any, None]]] = []
        self.changes: list[Change] = []
        self.accounts: dict[str, str] = {}

    async def open(self) -> None:
        await self.store.open()
        self.store.on_schema = self.catalog.replace
        self.store.on_commit = self._committed
        self.catalog.replace(*await self.store.collections())
        self.records = self.service()
        for slug in ("acme", "other"):
            self.accounts[slug] = await self._account(slug)

    def service(self, *, explain: bool = False) -> Records:
        return Records(
            self.store,
            self.catalog,
            self.hooks,
            Positions(self.store.epoch),
            later=self.later.append,
            new_id=Ids(wall_clock_us, secrets.randbits).new,
            now_us=wall_clock_us,
            explain=explain,
        )

    def _committed(self, changes: Sequence[Change]) -> None:
        self.changes.extend(changes)

    async def _account(self, slug: str) -> str:
        made = Account(id=self.new_id(), account_code="", slug=slug, name=slug, created_at=TIME, updated_at=TIME)
        statement = system.insert_account(made, error=ValueError("taken"))
        await self.store.write(Transaction(account_id=made.id, statements=(statement,)))
        return made.id

    def new_id(self) -> str:
        return Ids(wall_clock_us, secrets.randbits).new()

    def user(self, actor: str = ANN, account: str = "acme", **more: Any) -> Principal:
        words = {"kind": "user", "email": "ann@example.org", "role": "user"} | more
        return Principal(account_id=self.accounts[account], actor_id=actor, **words)

    def guest(self, account: str = "acme") -> Principal:
        return Principal(kind="guest", account_id=self.accounts[account])

    def root(self, account: str | None = "acme") -> Principal:
        account_id = SYSTEM_ACCOUNT_ID if account is None else self.accounts[account]
        return Principal(kind="user", account_id=account_id, actor_id=GHOST, superadmin=True)

    async def collection(self, name: str, *fields: Field, rules: Rules = MEMBERS, **more: Any) -> Collection:
        wanted = Collection(
            id=self.new_id(),
            name=name,
            table="",
            fields=fields,
            rules=rules,
            created_at=TIME,
            updated_at=TIME,
            **more,
        )
        made = await self.store.alter(SchemaChange(before=None, after=wanted))
        assert made is not None
        await asyncio.sleep(0)
        return made

    async def run_later(self) -> None:
        for work in self.later:
            await work()
        self.later.clear()

    async def log(self, account: str = "acme") -> list[Change]:
        return await self.store.read_changes(self.accounts[account], 0, 10_000)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(SQLiteStore(tmp_path / "data" / "snackbase.db"))
    await made.open()
    yield made
    await made.store.close()


def rules(**changed: str | None) -> Rules:
    return msgspec.structs.replace(MEMBERS, **changed)


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
    with pytest.raises(NotFound, match="view rule"):
        await telling.get(world.user(BOB), "posts", hidden["id"])
    with pytest.raises(NotFound, match="There is no record"):
        await telling.get(world.user(BOB), "posts", GHOST)
    with pytest.raises(Forbidden, match="update rule"):
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
