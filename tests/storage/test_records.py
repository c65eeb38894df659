"""What a record is after it was written, and what a write that cannot be is answered with."""

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snackbase.errors import Conflict, Forbidden, NotFound, ValidationFailed
from snackbase.model import Field, FieldType, Index, Op
from snackbase.storage.base import Store, Write
from snackbase.storage.codec import Codec
from tests.storage.support import (
    ACTOR,
    SYSTEM,
    account,
    altered,
    collection,
    created,
    creating,
    deleting,
    new_id,
    text,
    updating,
    whole_log,
    write,
)

NUMBER = Field(name="amount", type=FieldType.NUMBER)
BOOLEAN = Field(name="done", type=FieldType.BOOLEAN)
JSON = Field(name="extra", type=FieldType.JSON)


async def test_a_created_record_has_every_field_then_the_system_fields_in_this_order(store: Store) -> None:
    posts = await collection(store, "posts", text("title"), NUMBER, BOOLEAN, JSON)

    record = await created(store, posts, title="Hello", done=True)

    system = ["account_id", "created_at", "created_by", "updated_at", "updated_by"]
    assert list(record) == ["id", "title", "amount", "done", "extra", *system]
    assert (record["title"], record["amount"], record["done"], record["extra"]) == ("Hello", None, True, None)
    assert (record["account_id"], record["created_by"], record["updated_by"]) == (SYSTEM, ACTOR, ACTOR)
    assert record["created_at"] == record["updated_at"]


async def test_a_record_reads_back_in_the_very_bytes_that_the_log_holds(store: Store) -> None:
    posts = await collection(store, "posts", text("title"), NUMBER, BOOLEAN, JSON)
    # PostgreSQL has no text with U+0000.
    odd = "\0" if store.dialect == "sqlite" else "\x01"
    record = await created(
        store, posts, title=f'a"{odd}ü\U0001f600', amount=2.0, done=False, extra={"b": [1, 1.5, None]}
    )

    read = await store.get(posts, SYSTEM, record["id"])
    (change,) = await whole_log(store)

    assert list(read or {}) == list(record)
    assert msgspec.json.encode(read) == msgspec.json.encode(record) == change.raw
    assert change.data == record


@pytest.mark.parametrize(
    ("given_value", "seen"),
    [
        (1, "1"),
        (1.0, "1"),
        (-0.0, "0"),
        (1.5, "1.5"),
        (2**53 - 1, "9007199254740991"),
        (1e300, "1e300"),
        (None, "null"),
    ],
)
async def test_numbers_are_doubles_and_whole_ones_look_like_integers(
    store: Store, given_value: object, seen: str
) -> None:
    posts = await collection(store, "posts", NUMBER)
    record = await created(store, posts, amount=given_value)

    read = await store.get(posts, SYSTEM, record["id"])

    assert read is not None
    assert msgspec.json.encode(record["amount"]).decode() == msgspec.json.encode(read["amount"]).decode() == seen


_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
_values = st.fixed_dictionaries(
    {
        "title": st.none() | st.text(),
        "amount": st.none() | st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53) + 1, 2**53 - 1),
        "done": st.none() | st.booleans(),
        "extra": _json,
    }
)


@given(_values)
def test_any_record_survives_the_way_into_columns_and_back(values: dict[str, Any]) -> None:
    codec = Codec([text("title"), NUMBER, BOOLEAN, JSON])
    whole = codec.whole(values)

    columns = [math.nan if value is math.nan else value for value in codec.bind(whole)]
    columns[1] = None if columns[1] is None else float(columns[1])
    columns[2] = None if columns[2] is None else int(columns[2])
    record = codec.record(["id", *columns, SYSTEM, "t", None, "t", None])

    assert msgspec.json.encode({name: record[name] for name in whole}) == msgspec.json.encode(whole)
    assert codec.changed(record, whole) == {}


async def test_an_update_writes_the_changed_fields_and_keeps_their_old_values(store: Store) -> None:
    posts = await collection(store, "posts", text("title"), NUMBER, JSON)
    before = await created(store, posts, title="one", amount=1, extra={"a": 1})

    done = await write(store, updating(posts, before["id"], {"title": "two", "amount": 1.0}), actor="somebody")

    (after,), (change,) = done.written, done.changes
    assert (after["title"], after["amount"], after["updated_by"]) == ("two", 1, "somebody")
    assert (after["created_at"], after["created_by"]) == (before["created_at"], ACTOR)
    assert change.prev == {"title": "one", "updated_at": before["updated_at"], "updated_by": ACTOR}
    assert change.data == after == await store.get(posts, SYSTEM, before["id"])
    assert {**change.data, **change.prev} == before
    assert (await whole_log(store))[-1] == change


async def test_an_update_that_changes_nothing_writes_no_log_row_and_no_time(store: Store) -> None:
    posts = await collection(store, "posts", text("title"), JSON)
    before = await created(store, posts, title="one", extra={"a": [1, {"b": None}]})

    done = await write(
        store, updating(posts, before["id"], dict(title="one", extra={"a": [1, {"b": None}]})), actor="x"
    )

    assert done.changes == ()
    assert done.written == (before,)
    assert done.head.seq == 1
    assert await store.get(posts, SYSTEM, before["id"]) == before


async def test_true_and_1_inside_json_are_different_values(store: Store) -> None:
    posts = await collection(store, "posts", JSON)
    before = await created(store, posts, extra={"a": 1})

    done = await write(store, updating(posts, before["id"], {"extra": {"a": True}}))

    assert done.changes[0].raw.find(b'"extra":{"a":true}') > 0
    assert done.changes[0].prev is not None
    assert done.changes[0].prev["extra"] == {"a": 1}


async def test_a_deletes_data_is_the_last_state(store: Store) -> None:
    posts = await collection(store, "posts", text("title"))
    record = await created(store, posts, title="gone")

    done = await write(store, deleting(posts, record["id"]))

    assert [(change.op, change.data, change.prev) for change in done.changes] == [(Op.DELETE, record, None)]
    assert done.written == (record,)
    assert await store.get(posts, SYSTEM, record["id"]) is None


@pytest.mark.parametrize("op", [Op.UPDATE, Op.DELETE])
async def test_a_refused_write_says_forbidden_to_who_may_see_and_not_found_to_who_may_not(store: Store, op: Op) -> None:
    posts = await collection(store, "posts", text("title"))
    record = await created(store, posts, title="mine")
    seen: list[object] = []

    def refusing(visible: bool | None) -> Write:
        def allowed(before: object) -> bool:
            seen.append(before)
            return False

        sees = None if visible is None else lambda _record: visible
        values = {"title": "x"} if op is Op.UPDATE else {}
        return Write(op=op, collection=posts, record_id=record["id"], values=values, allowed=allowed, visible=sees)

    for visible, answer in ((None, Forbidden), (True, Forbidden), (False, NotFound)):
        with pytest.raises(answer):
            await write(store, refusing(visible))

    assert seen == [record] * 3
    assert await store.get(posts, SYSTEM, record["id"]) == record
    assert len(await whole_log(store)) == 1


async def test_the_rule_judges_what_an_earlier_write_of_the_transaction_left(store: Store) -> None:
    posts = await collection(store, "posts", text("title"))
    record = await created(store, posts, title="one")
    first = updating(posts, record["id"], {"title": "two"})
    second = updating(posts, record["id"], {"title": "three"}, allowed=lambda before: before["title"] == "two")

    done = await write(store, first, second)

    assert [change.data["title"] for change in done.changes] == ["two", "three"]
    assert [(change.tx_index, change.tx_size) for change in done.changes] == [(0, 2), (1, 2)]
    assert len({change.tx_id for change in done.changes}) == 1


@pytest.mark.parametrize("op", [Op.UPDATE, Op.DELETE])
async def test_another_accounts_record_does_not_exist(store: Store, op: Op) -> None:
    posts = await collection(store, "posts", text("title"))
    other = await account(store, "other")
    record = await created(store, posts, account_id=other, title="theirs")

    with pytest.raises(NotFound):
        await write(store, Write(op=op, collection=posts, record_id=record["id"], values={"title": "x"}))

    assert await store.get(posts, SYSTEM, record["id"]) is None
    assert await store.get(posts, other, record["id"]) == record


async def test_an_id_belongs_to_an_account_and_tells_nothing_about_others(store: Store) -> None:
    posts = await collection(store, "posts", text("title"))
    other = await account(store, "other")
    theirs = await created(store, posts, account_id=other, title="theirs")

    mine = await write(store, creating(posts, {"title": "mine"}, record_id=theirs["id"]))
    assert mine.written[0]["title"] == "mine"
    with pytest.raises(Conflict) as refused:
        await write(store, creating(posts, {"title": "again"}, record_id=theirs["id"]))
    assert (refused.value.code, refused.value.details[0].field) == ("id_taken", "id")

    await write(store, updating(posts, theirs["id"], {"title": "changed"}))
    assert await store.get(posts, other, theirs["id"]) == theirs
    await write(store, deleting(posts, theirs["id"]))
    assert await store.get(posts, other, theirs["id"]) == theirs


async def test_a_unique_value_is_unique_within_an_account_and_names_its_field(store: Store) -> None:
    posts = await collection(
        store, "posts", text("slug", unique=True), text("a"), text("b"), indexes=[Index(fields=("a", "b"), unique=True)]
    )
    other = await account(store, "other")
    await created(store, posts, slug="x", a="1", b="1")
    await created(store, posts, account_id=other, slug="x", a="1", b="1")
    await created(store, posts, slug=None, a=None, b="1")
    second = await created(store, posts, slug=None, a="1", b="2")

    for refused, fields in (
        (creating(posts, {"slug": "x"}), ["slug"]),
        (updating(posts, second["id"], {"slug": "x"}), ["slug"]),
        (creating(posts, {"a": "1", "b": "1"}), ["a", "b"]),
    ):
        with pytest.raises(Conflict) as conflict:
            await write(store, refused)
        assert conflict.value.code == "not_unique"
        assert [(detail.field, detail.code) for detail in conflict.value.details] == [(f, "not_unique") for f in fields]


@pytest.mark.parametrize(
    "values", [{"title": "\ud800"}, {"extra": {"a": ["\udfff"]}}, {"extra": {"\ud800": 1}}, {"amount": 2**70}]
)
async def test_what_no_column_can_hold_is_a_validation_error_and_harms_nobody(
    store: Store, values: dict[str, Any]
) -> None:
    posts = await collection(store, "posts", text("title"), NUMBER, JSON)

    with pytest.raises(ValidationFailed) as refused:
        await created(store, posts, **values)

    assert refused.value.code == "invalid_value"
    assert (await created(store, posts, title="next"))["title"] == "next"
    assert [change.seq for change in await whole_log(store)] == [1]


async def test_a_write_judged_by_rules_that_changed_meanwhile_is_refused(store: Store) -> None:
    old = await collection(store, "posts", text("title"))
    record = await created(store, old, title="one")
    new = await altered(store, old, fields=(*old.fields, text("more")))

    for stale in (
        creating(old, {"title": "x"}),
        updating(old, record["id"], {"title": "x"}),
        deleting(old, record["id"]),
    ):
        with pytest.raises(Conflict) as refused:
            await write(store, stale)
        assert refused.value.code == "changed_meanwhile"

    assert (await write(store, updating(new, record["id"], {"more": "x"}))).written[0]["more"] == "x"


async def test_an_account_that_does_not_exist_has_no_records(store: Store) -> None:
    posts = await collection(store, "posts", text("title"))

    with pytest.raises(NotFound) as refused:
        await created(store, posts, account_id=new_id(), title="x")

    assert refused.value.code == "account_not_found"


async def test_field_names_that_are_words_of_sql_are_ordinary_names(store: Store) -> None:
    words = await collection(
        store, "select", text("group", unique=True), text("order"), Field(name="rowid", type=FieldType.NUMBER)
    )

    record = await created(store, words, group="a", order="b", rowid=7)

    assert await store.get(words, SYSTEM, record["id"]) == record
    assert (await write(store, updating(words, record["id"], {"group": "z"}))).written[0]["group"] == "z"
