"""What each field type accepts, the one form it is kept in, and how refusals name the field."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snackbase.errors import TooLarge, ValidationFailed
from snackbase.model import Collection, Field, FieldType, Rules
from snackbase.services import values

ACCOUNT = "11111111-1111-4111-8111-111111111111"
ID = "550e8400-e29b-41d4-a716-446655440000"
TIME = "2026-01-17T12:34:56.789Z"
LOCKED = Rules(list_rule=None, view_rule=None, create_rule=None, update_rule=None, delete_rule=None)


def collection(*fields: Field) -> Collection:
    return Collection(
        id=ID, name="posts", table="c_posts", fields=fields, rules=LOCKED, created_at=TIME, updated_at=TIME
    )


def field(type: FieldType, **more: Any) -> Field:
    return Field(name="f", type=type, **more)


def refusal(type: FieldType, value: object, **more: Any) -> str:
    with pytest.raises(values.Invalid) as caught:
        values.check(field(type, **more), value)
    assert caught.value.message.startswith("f")
    return caught.value.code


def details(error: ValidationFailed) -> dict[str, str]:
    return {detail.field: detail.code for detail in error.details}


@pytest.mark.parametrize(
    ("type", "given_value", "kept"),
    [
        (FieldType.TEXT, "", ""),
        (FieldType.TEXT, "Grüße 👋\n", "Grüße 👋\n"),
        (FieldType.NUMBER, 1, 1),
        (FieldType.NUMBER, 1.0, 1),
        (FieldType.NUMBER, -0.0, 0),
        (FieldType.NUMBER, 1.5, 1.5),
        (FieldType.NUMBER, 1e300, 1e300),
        (FieldType.NUMBER, 2**53 - 1, 2**53 - 1),
        (FieldType.NUMBER, -(2**53 - 1), -(2**53 - 1)),
        (FieldType.BOOLEAN, True, True),
        (FieldType.BOOLEAN, False, False),
        (FieldType.DATE, "2024-02-29", "2024-02-29"),
        (FieldType.EMAIL, "ann.o'neil+x@mail.example.org", "ann.o'neil+x@mail.example.org"),
        (FieldType.EMAIL, "jörg@bücher.example", "jörg@bücher.example"),
        (FieldType.URL, "https://example.org:8080/a?b=c#d", "https://example.org:8080/a?b=c#d"),
        (FieldType.URL, "http://[::1]/x", "http://[::1]/x"),
        (FieldType.REFERENCE, ID.upper(), ID),
        (FieldType.REFERENCE, UUID(ID), ID),
        (FieldType.JSON, {"a": [1, 2.0, None, True, {"b": "c"}]}, {"a": [1, 2, None, True, {"b": "c"}]}),
        (FieldType.JSON, "text", "text"),
        (FieldType.JSON, 0, 0),
    ],
)
def test_an_accepted_value_is_kept_in_one_form(type: FieldType, given_value: object, kept: object) -> None:
    result = values.check(field(type), given_value)
    assert msgspec.json.encode(result) == msgspec.json.encode(kept)


@pytest.mark.parametrize(
    ("given_value", "kept"),
    [
        ("2026-01-17T12:34:56.789Z", "2026-01-17T12:34:56.789Z"),
        ("2026-01-17T12:34:56.789999Z", "2026-01-17T12:34:56.789Z"),
        ("2026-01-17T12:34:56.7Z", "2026-01-17T12:34:56.700Z"),
        ("2026-01-17T14:34:56+02:00", "2026-01-17T12:34:56.000Z"),
        ("2026-01-17T14:34+02:00", "2026-01-17T12:34:00.000Z"),
        ("2026-01-17 12:34:56", "2026-01-17T12:34:56.000Z"),
        ("2026-01-17t12:34:56z", "2026-01-17T12:34:56.000Z"),
        ("2026-01-17", "2026-01-17T00:00:00.000Z"),
        ("0001-01-01", "0001-01-01T00:00:00.000Z"),
        (datetime(2026, 1, 17, 14, tzinfo=timezone(timedelta(hours=2))), "2026-01-17T12:00:00.000Z"),
    ],
)
def test_a_time_with_any_offset_is_kept_in_utc_to_the_millisecond(given_value: object, kept: str) -> None:
    assert values.check(field(FieldType.DATETIME), given_value) == kept


@given(st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30)), st.integers(-1439, 1439))  # noqa: DTZ001
def test_every_offset_names_the_same_instant(naive: datetime, minutes: int) -> None:
    moment = naive.replace(microsecond=naive.microsecond // 1000 * 1000, tzinfo=timezone(timedelta(minutes=minutes)))
    kept = values.check(field(FieldType.DATETIME), moment.isoformat())
    assert datetime.fromisoformat(kept) == moment
    assert values.check(field(FieldType.DATETIME), kept) == kept
    assert datetime.fromisoformat(kept).tzinfo == UTC


@pytest.mark.parametrize(
    ("type", "value", "code"),
    [
        (FieldType.TEXT, 1, "invalid_text"),
        (FieldType.TEXT, "x" * (values.MAX_TEXT_CHARACTERS + 1), "too_long"),
        (FieldType.TEXT, "a\x00b", "invalid_character"),
        (FieldType.TEXT, "a\ud800b", "invalid_character"),
        (FieldType.NUMBER, "1", "invalid_number"),
        (FieldType.NUMBER, True, "invalid_number"),
        (FieldType.NUMBER, 2**53, "number_out_of_range"),
        (FieldType.NUMBER, -(2**53), "number_out_of_range"),
        (FieldType.NUMBER, 10**400, "number_out_of_range"),
        (FieldType.NUMBER, float("nan"), "invalid_number"),
        (FieldType.NUMBER, float("inf"), "invalid_number"),
        (FieldType.BOOLEAN, 1, "invalid_boolean"),
        (FieldType.BOOLEAN, "true", "invalid_boolean"),
        (FieldType.DATETIME, "yesterday", "invalid_datetime"),
        (FieldType.DATETIME, 1768653296, "invalid_datetime"),
        (FieldType.DATETIME, "2026-02-30T00:00:00Z", "invalid_datetime"),
        (FieldType.DATETIME, "2026-01-17T24:01:00Z", "invalid_datetime"),
        (FieldType.DATETIME, "2026-01-17T12:34.5Z", "invalid_datetime"),
        (FieldType.DATETIME, "2026-01-17T12:34:56+25:00", "invalid_datetime"),
        (FieldType.DATETIME, "0001-01-01T00:00:00+01:00", "invalid_datetime"),
        (FieldType.DATETIME, "\uff12\uff1026-01-17", "invalid_datetime"),
        (FieldType.DATE, "2026-02-30", "invalid_date"),
        (FieldType.DATE, "2026-01-17T00:00:00Z", "invalid_date"),
        (FieldType.DATE, "20260117", "invalid_date"),
        (FieldType.EMAIL, "ann", "invalid_email"),
        (FieldType.EMAIL, "ann@localhost", "invalid_email"),
        (FieldType.EMAIL, "ann@example.org\n", "invalid_email"),
        (FieldType.EMAIL, "a@b@example.org", "invalid_email"),
        (FieldType.EMAIL, "a" * 250 + "@example.org", "invalid_email"),
        (FieldType.EMAIL, "ann@-example.org", "invalid_email"),
        (FieldType.URL, "example.org", "invalid_url"),
        (FieldType.URL, "javascript:alert(1)", "invalid_url"),
        (FieldType.URL, "https://", "invalid_url"),
        (FieldType.URL, "https://example.org/a b", "invalid_url"),
        (FieldType.URL, "https://example.org:99999/", "invalid_url"),
        (FieldType.URL, "https://[::1", "invalid_url"),
        (FieldType.URL, "https://example.org/" + "x" * values.MAX_URL_CHARACTERS, "invalid_url"),
        (FieldType.REFERENCE, "1", "invalid_reference"),
        (FieldType.REFERENCE, ID.replace("-", ""), "invalid_reference"),
        (FieldType.JSON, {"a": 2**53}, "number_out_of_range"),
        (FieldType.JSON, {"a": float("inf")}, "invalid_number"),
        (FieldType.JSON, {"a\x00": 1}, "invalid_character"),
        (FieldType.JSON, ["\udfff"], "invalid_character"),
        (FieldType.JSON, {1: 2}, "invalid_json"),
        (FieldType.JSON, {1, 2}, "invalid_json"),
        (FieldType.JSON, "x" * values.MAX_JSON_BYTES, "too_long"),
    ],
)
def test_an_unacceptable_value_is_refused_with_its_code(type: FieldType, value: object, code: str) -> None:
    assert refusal(type, value) == code


def test_json_nested_too_deep_is_refused_and_never_exhausts_the_stack() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert refusal(FieldType.JSON, deep) == "too_deep"


def test_a_select_takes_only_its_options() -> None:
    assert values.check(field(FieldType.SELECT, options=["draft", "live"]), "live") == "live"
    assert refusal(FieldType.SELECT, "dead", options=["draft", "live"]) == "invalid_option"
    assert refusal(FieldType.SELECT, ["live"], options=["draft", "live"]) == "invalid_option"


def test_required_means_neither_null_nor_empty_text() -> None:
    assert refusal(FieldType.TEXT, None, required=True) == "required"
    assert refusal(FieldType.TEXT, "", required=True) == "required"
    assert values.check(field(FieldType.NUMBER, required=True), 0) == 0
    assert values.check(field(FieldType.BOOLEAN, required=True), False) is False
    assert values.check(field(FieldType.TEXT), None) is None


POSTS = collection(
    Field(name="title", required=True),
    Field(name="views", type=FieldType.NUMBER, default=0),
    Field(name="notes"),
)


def test_a_new_record_has_every_field_with_defaults_for_what_is_missing() -> None:
    reading = values.for_create(POSTS, {"title": "a"}, account_id=ACCOUNT)
    assert (reading.record_id, reading.accept()) == (None, {"title": "a", "views": 0, "notes": None})
    assert reading.given == {"title": "a"}


def test_a_given_null_is_not_replaced_by_the_default() -> None:
    assert values.for_create(POSTS, {"title": "a", "views": None}, account_id=ACCOUNT).accept()["views"] is None


def test_a_client_may_bring_a_uuid_and_its_canonical_form_is_kept() -> None:
    assert values.for_create(POSTS, {"id": ID.upper(), "title": "a"}, account_id=ACCOUNT).record_id == ID


def test_what_is_acceptable_stays_known_beside_what_is_not() -> None:
    reading = values.for_create(POSTS, {"title": "a", "views": "x"}, account_id=ACCOUNT)
    assert reading.given == {"title": "a"}
    assert [error.field for error in reading.errors] == ["views"]


def test_every_bad_field_is_named_at_once() -> None:
    with pytest.raises(ValidationFailed) as caught:
        values.for_create(
            POSTS, {"id": "7", "created_at": TIME, "views": "x", "titel": "a"}, account_id=ACCOUNT
        ).accept()
    assert details(caught.value) == {
        "id": "invalid_id",
        "created_at": "read_only",
        "title": "required",
        "views": "invalid_number",
        "titel": "unknown_field",
    }
    assert "Did you mean 'title'?" in caught.value.details[-1].message


def test_the_own_account_id_may_stand_in_a_new_record_and_another_may_not() -> None:
    values.for_create(POSTS, {"title": "a", "account_id": ACCOUNT}, account_id=ACCOUNT).accept()
    with pytest.raises(ValidationFailed) as caught:
        values.for_create(POSTS, {"title": "a", "account_id": ID}, account_id=ACCOUNT).accept()
    assert details(caught.value) == {"account_id": "read_only"}


def test_put_replaces_every_field_and_patch_only_the_given_ones() -> None:
    assert values.for_replace(POSTS, {"title": "b"}).accept() == {"title": "b", "views": 0, "notes": None}
    assert values.for_patch(POSTS, {"notes": "n"}).accept() == {"notes": "n"}
    with pytest.raises(ValidationFailed):
        values.for_replace(POSTS, {"notes": "n"}).accept()
    with pytest.raises(ValidationFailed):
        values.for_patch(POSTS, {"title": None}).accept()


def test_a_record_that_was_read_can_be_sent_back_with_its_system_fields() -> None:
    read = {"id": ID, "title": "a", "views": 1, "notes": None, "account_id": ACCOUNT, "created_at": TIME}
    read |= {"created_by": ID, "updated_at": TIME, "updated_by": None}
    assert values.for_replace(POSTS, read).accept() == {"title": "a", "views": 1, "notes": None}
    assert values.for_patch(POSTS, read).accept() == {"title": "a", "views": 1, "notes": None}


def test_unknown_fields_cannot_flood_the_answer() -> None:
    with pytest.raises(ValidationFailed) as caught:
        values.for_patch(POSTS, {f"x{number}": 1 for number in range(5000)}).accept()
    assert len(caught.value.details) == 100


def test_an_unknown_name_that_is_not_text_for_every_client_is_still_named() -> None:
    with pytest.raises(ValidationFailed) as caught:
        values.for_patch(POSTS, {"\ud800" * 500: 1}).accept()
    msgspec.json.encode(caught.value.details)


def test_a_record_over_the_size_limit_is_too_large() -> None:
    wide = collection(*(Field(name=f"f{number}") for number in range(4)))
    with pytest.raises(TooLarge):
        values.for_create(wide, {f"f{number}": "x" * 150_000 for number in range(4)}, account_id=ACCOUNT).accept()


@given(st.recursive(st.none() | st.booleans() | st.text() | st.integers() | st.floats(), lambda inner: st.lists(inner)))
def test_no_value_of_any_type_does_anything_but_pass_or_be_refused(value: object) -> None:
    for type in FieldType:
        try:
            kept = values.check(field(type, options=["a"]), value)
        except values.Invalid:
            continue
        assert values.check(field(type, options=["a"]), kept) == kept
        msgspec.json.encode(kept)


def test_only_the_first_unknown_fields_are_told_which_one_was_meant() -> None:
    fields = [Field(name=f"field_number_{number}") for number in range(100)]
    sent = {f"feild_number_{number}": 1 for number in range(1000)}

    reading = values.for_patch(collection(*fields), sent)

    assert len(reading.errors) == 100
    assert [number for number, one in enumerate(reading.errors) if "Did you mean" in one.message] == [0, 1, 2]
