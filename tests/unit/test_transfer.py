"""Records as JSON lines over a real store: whole, once, in bounded pieces, through the one write path."""

import asyncio
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snackbase.errors import Forbidden, NotFound, SnackBaseError, Unauthorized, Unavailable
from snackbase.hooks import HookAbort
from snackbase.model import Field, FieldType, Op, Record
from snackbase.services.listing import ListRequest
from snackbase.services.records import Records
from snackbase.services.transfer import (
    BATCH_BYTES,
    BATCH_RECORDS,
    FEWEST_RECORDS,
    MAX_LINE_BYTES,
    MOST_FAULTS,
    MOST_PAUSE_S,
    Export,
    Import,
    Pace,
    Progress,
    read_line,
)
from snackbase.storage.base import Committed, Transaction
from tests.support.world import ANN, BOB, TITLE, VIEWS, World, rules


def lines_of(*records: dict[str, Any]) -> list[bytes]:
    return [msgspec.json.encode(record) + b"\n" for record in records]


async def imported(world: World, lines: list[bytes], *, account: str = "acme", **more: Any) -> Progress:
    return await Import(world.records, world.root(account), "posts", **more).run(lines)


async def exported(world: World, account: str = "acme") -> list[Record]:
    export = Export(world.records, world.root(account), "posts")
    await export.begin()
    text = b"".join([page async for page, _ in export.pages()])
    return [msgspec.json.decode(line) for line in text.splitlines()]


async def test_what_was_exported_comes_back_as_it_was(world: World) -> None:
    fields = (TITLE, VIEWS, Field(name="tags", type=FieldType.JSON), Field(name="on", type=FieldType.BOOLEAN))
    await world.collection("posts", *fields)
    many = [{"title": f"it's\n{n}", "views": n / 8, "tags": {"n": [n, None]}, "on": n % 2 == 0} for n in range(100)]
    await world.records.create_many(world.user(), "posts", many)
    await world.records.create(world.user(BOB), "posts", {"title": "last"})
    before = await exported(world)
    await world.records.delete_many(world.root(), "posts", [one["id"] for one in before[:100]])
    await world.records.delete(world.root(), "posts", before[100]["id"])
    assert await exported(world) == []

    progress = await imported(world, lines_of(*before))

    assert (progress.success, progress.created, progress.lines) == (True, 101, 101)
    assert await exported(world) == before
    assert [one["title"] for one in before] == [*(one["title"] for one in many), "last"]


async def test_an_export_holds_one_account_and_everything_in_it(world: World) -> None:
    await world.collection("posts", TITLE, rules=rules(list_rule=None, view_rule=None), list_fields=("title",))
    await world.records.create(world.user(), "posts", {"title": "mine"})
    await world.records.create(world.user(account="other"), "posts", {"title": "theirs"})
    (one,) = await exported(world)
    assert (one["title"], one["created_by"]) == ("mine", ANN)


async def test_an_import_is_told_to_subscribers_and_hooks_like_any_write(world: World) -> None:
    await world.collection("posts", TITLE)
    seen = []

    @world.hooks.on_record_before_create(collection="posts")
    async def before(data: dict[str, Any]) -> None:
        data["title"] = data["title"].upper()
        seen.append(data["title"])

    await imported(world, lines_of({"title": "a"}, {"title": "b"}))
    assert seen == ["A", "B"]
    assert [(change.op, change.data["title"]) for change in await world.log()] == [(Op.CREATE, "A"), (Op.CREATE, "B")]
    await asyncio.sleep(0)
    assert [change.data["title"] for change in world.changes] == ["A", "B"]


async def test_importing_a_file_again_does_nothing_twice_also_without_ids(world: World) -> None:
    await world.collection("posts", TITLE)
    lines = lines_of({"title": "same"}, {"title": "same"}, {"title": "own", "id": ANN})
    await imported(world, lines[:2])
    progress = await imported(world, lines, strategy="skip")
    assert (progress.created, progress.skipped) == (1, 2)
    assert len(await world.log()) == 3
    again = await imported(world, lines)
    assert [(fault.line, fault.code) for fault in again.errors] == [(1, "id_taken")]
    elsewhere = await imported(world, lines[:2], account="other")
    assert elsewhere.created == 2


async def test_update_changes_what_exists_and_makes_the_rest(world: World) -> None:
    await world.collection("posts", TITLE, VIEWS)
    await imported(world, lines_of({"id": ANN, "title": "a", "views": 1}))
    progress = await imported(world, lines_of({"id": ANN, "title": "b"}, {"title": "c"}), strategy="update")
    assert (progress.created, progress.updated) == (1, 1)
    kept = await world.records.get(world.root(), "posts", ANN)
    assert (kept["title"], kept["views"]) == ("b", 1)


async def test_one_id_twice_in_a_file_is_two_writes_in_order(world: World) -> None:
    await world.collection("posts", TITLE)
    lines = lines_of({"id": ANN, "title": "a"}, {"id": ANN, "title": "b"})
    assert (await imported(world, lines, strategy="update")).updated == 1
    assert (await world.records.get(world.root(), "posts", ANN))["title"] == "b"


async def test_a_line_that_cannot_be_stops_the_import_after_everything_before_it(world: World) -> None:
    await world.collection("posts", TITLE, VIEWS)
    lines = lines_of(*({"title": str(number)} for number in range(5)))
    lines[3] = b'{"title": "x", "views": "many"}'
    progress = await imported(world, [*lines, b"not json"])
    assert (progress.success, progress.stopped, progress.created) == (False, True, 3)
    (fault,) = progress.errors
    assert (fault.line, fault.code, fault.details[0].field) == (4, "validation_failed", "views")
    assert not fault.message.startswith("records[")


async def test_keep_going_imports_all_other_lines_and_names_each_bad_one(world: World) -> None:
    unique = msgspec.structs.replace(TITLE, unique=True)
    await world.collection("people", TITLE)
    owner = Field(name="owner", type=FieldType.REFERENCE, collection="people")
    await world.collection("posts", unique, owner)

    @world.hooks.on_record_before_create(collection="posts")
    async def no_spam(data: dict[str, Any]) -> None:
        if data["title"] == "spam":
            raise HookAbort("No spam.", "spam")

    lines = [
        *lines_of({"title": "a"}, {"title": "a"}, {"title": "b", "owner": BOB}, {}, {"title": "c"}),
        *(b"[]", b"\xff", b"", b'{"id": 7, "title": "d"}', b'{"title": "e", "created_at": "now"}'),
        *lines_of({"title": "spam"}, {"title": "f", "created_at": "2026-01-01T00:00:00Z", "created_by": "me"}),
        *lines_of({"title": "g", "nothing": 1}, {"title": "z"}),
    ]
    progress = await imported(world, lines, keep_going=True)
    assert progress.created == 3
    assert [(fault.line, fault.code) for fault in progress.errors] == [
        (2, "not_unique"),
        (3, "validation_failed"),
        (4, "validation_failed"),
        (6, "invalid_json"),
        (7, "invalid_json"),
        (9, "validation_failed"),
        (10, "validation_failed"),
        (11, "spam"),
        (12, "validation_failed"),
        (13, "validation_failed"),
    ]
    assert (progress.stopped, progress.success) == (False, False)


async def test_keeping_going_ends_at_a_hundred_bad_lines(world: World) -> None:
    await world.collection("posts", TITLE)
    progress = await imported(world, [b"x"] * (MOST_FAULTS + 50), keep_going=True)
    assert (len(progress.errors), progress.stopped, progress.lines) == (MOST_FAULTS, True, MOST_FAULTS)


async def test_no_transaction_is_larger_than_its_bounds(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.collection("posts", TITLE)
    sizes: list[int] = []
    real = world.store.write

    async def watching(transaction: Transaction) -> Committed:
        sizes.append(len(transaction.writes))
        assert sum(len(write.values["title"]) for write in transaction.writes) <= BATCH_BYTES
        return await real(transaction)

    monkeypatch.setattr(world.store, "write", watching)
    small = [{"title": str(number)} for number in range(BATCH_RECORDS * 2 + 1)]
    large = [{"title": "x" * 100_000} for _ in range(5)]
    running = Import(world.records, world.root(), "posts", now=lambda: 0.0)
    assert (await running.run(lines_of(*small, *large))).created == len(small) + 5
    assert sizes == [BATCH_RECORDS, BATCH_RECORDS, 3, 2, 1]


def test_transactions_that_take_long_become_smaller_and_grow_again() -> None:
    pace = Pace(0.01)

    assert [pace.took(seconds) for seconds in (0.0, 0.02, 0.2, 2.0)] == [0.01, 0.01, 0.05, MOST_PAUSE_S]
    assert pace.most == BATCH_RECORDS // 4, "at most halved each time: once by the third, once by the fourth"
    for _ in range(5):
        pace.took(1.0)
    assert pace.most == FEWEST_RECORDS
    for _ in range(5):
        pace.took(0.001)
    assert pace.most == BATCH_RECORDS


async def test_a_slow_machine_imports_in_smaller_transactions(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.collection("posts", TITLE)
    clock, sizes, real = [0.0], list[int](), world.store.write

    async def slow(transaction: Transaction) -> Committed:
        sizes.append(len(transaction.writes))
        clock[0] += 0.001 * len(transaction.writes)
        return await real(transaction)

    monkeypatch.setattr(world.store, "write", slow)
    lines = lines_of(*({"title": str(number)} for number in range(200)))
    assert (await Import(world.records, world.root(), "posts", now=lambda: clock[0]).run(lines)).created == 200
    assert sizes == [100, 50, 25, 25]


async def test_references_within_one_file_hold_wherever_they_stand_in_a_transaction(world: World) -> None:
    await world.collection("posts", TITLE, Field(name="parent", type=FieldType.REFERENCE, collection="posts"))
    child = {"title": "child", "parent": ANN}
    assert (await imported(world, lines_of(child, {"id": ANN, "title": "parent"}))).created == 2


async def test_stamps_come_along_and_are_now_where_there_are_none(world: World) -> None:
    await world.collection("posts", TITLE)
    made = {"id": ANN, "title": "a", "created_at": "2020-01-01T00:00:00+01:00", "created_by": BOB.upper()}
    await imported(world, lines_of(made, {"id": BOB, "title": "b", "account_id": "whatever"}))
    old = await world.records.get(world.root(), "posts", ANN)
    assert (old["created_at"], old["created_by"], old["updated_by"]) == ("2019-12-31T23:00:00.000Z", BOB, None)
    assert old["updated_at"] == old["created_at"]
    new = await world.records.get(world.root(), "posts", BOB)
    assert new["created_at"] > "2026"
    assert new["account_id"] == world.accounts["acme"]


async def test_a_store_that_is_busy_is_waited_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.collection("posts", TITLE)
    real, refusals = world.store.write, [Unavailable("busy", code="overloaded")]

    async def busy(transaction: Transaction) -> Committed:
        if refusals:
            raise refusals.pop()
        return await real(transaction)

    monkeypatch.setattr(world.store, "write", busy)
    assert (await imported(world, lines_of({"title": "a"}))).created == 1
    refusals.append(Unavailable("full", code="storage_full"))
    with pytest.raises(Unavailable):
        await imported(world, lines_of({"title": "b"}))


async def test_only_superadmins_and_only_what_exists(world: World) -> None:
    await world.collection("posts", TITLE)
    for principal, refusal in ((world.user(role="admin"), Forbidden), (world.guest(), Unauthorized)):
        with pytest.raises(refusal):
            Export(world.records, principal, "posts")
        with pytest.raises(refusal):
            Import(world.records, principal, "posts")
    with pytest.raises(NotFound):
        await Export(world.records, world.root(), "nothing").begin()
    with pytest.raises(NotFound):
        await Import(world.records, world.root(), "nothing").run(lines_of({"title": "a"}))
    for nothing_to_do in ([], [b"{"]):
        with pytest.raises(NotFound):
            await Import(world.records, world.root(), "nothing").run(nothing_to_do)


async def test_what_is_there_all_the_time_is_exported_once_beside_writers(world: World) -> None:
    await world.collection("posts", TITLE)
    stay = [{"title": f"stay {number}"} for number in range(100)]
    for _ in range(3):
        await world.records.create_many(world.user(), "posts", stay)
    busy = True

    async def write() -> None:
        while busy:
            made = (await world.records.create(world.user(), "posts", {"title": "comes"})).records[0]
            await world.records.delete(world.user(), "posts", made["id"])

    writer = asyncio.create_task(write())
    found = await exported(world)
    busy = False
    await writer
    ids = [one["id"] for one in found if one["title"] != "comes"]
    assert len(ids) == len(set(ids)) == 300


async def test_an_import_lets_other_writers_in_between(world: World) -> None:
    await world.collection("posts", TITLE)
    order: list[str] = []

    class Watched(Records):
        async def bring_in(self, *args: Any) -> Any:
            written = await super().bring_in(*args)
            order.append("batch")
            return written

    records = world.service()
    records.__class__ = Watched
    running = Import(records, world.root(), "posts")
    lines = lines_of(*({"title": "x"} for _ in range(BATCH_RECORDS * 10)))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(running.run(lines))
        for _ in range(3):
            await world.records.create(world.user(), "posts", {"title": "between"})
            order.append("other")
    assert order.index("other") < order.index("batch") + 2
    assert order[-1] == "batch"
    listing = await world.records.list(world.root(), "posts", ListRequest(limit=1))
    assert listing.total == BATCH_RECORDS * 10 + 3


async def test_records_too_large_for_one_page_are_exported_and_skipped_all_the_same(world: World) -> None:
    await world.collection("posts", *(Field(name=name) for name in "abc"))
    lines = lines_of(*({name: "x" * 170_000 for name in "abc"} for _ in range(70)))
    assert (await imported(world, lines)).created == 70

    assert len(await exported(world)) == 70
    assert (await imported(world, lines, strategy="skip")).skipped == 70


@given(st.binary(max_size=200) | st.from_regex(rb'\{"(id|created_at|updated_by)": *.{0,40}\}\Z'))
def test_any_line_is_read_or_refused(text: bytes) -> None:
    try:
        line = read_line(1, text, "a/posts")
    except SnackBaseError as error:
        assert error.status == 422
    else:
        assert len(line.record_id) == 36


def test_a_line_has_a_length_it_may_not_pass() -> None:
    with pytest.raises(SnackBaseError) as caught:
        read_line(1, b"x" * (MAX_LINE_BYTES + 1), "a/posts")
    assert caught.value.code == "too_long"
