"""Whatever stands in a body, reading a definition ends in a definition that compiles or in a refusal."""

from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from snackbase.catalog import Definition
from snackbase.errors import ValidationFailed
from snackbase.model import Collection, FieldType, OnDelete
from snackbase.services.definitions import Revision

ID = "550e8400-e29b-41d4-a716-446655440000"
WORDS = ("title", "Title", "id", "a", "posts", "other", "", "*", "id,a", "\x00", "x" * 70, "a = 1", "@owns_record()")
anything = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2**60) | st.floats(allow_nan=False) | st.sampled_from(WORDS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=3),
    max_leaves=6,
)


def mostly(*likely: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from(likely) | st.sampled_from(likely) | anything


FIELDS = st.fixed_dictionaries(
    {"name": mostly("a", "b", "title", "Title")},
    optional={
        "type": mostly(*FieldType),
        "required": mostly(True, False),
        "unique": mostly(True, False),
        "default": anything,
        "options": mostly(["x", "y"], {"values": ["x"]}),
        "collection": mostly("posts", "other", ID),
        "on_delete": mostly(*OnDelete),
        "encrypted": anything,
    },
)
INDEXES = st.fixed_dictionaries({"fields": mostly(["a"], ["title", "a"])}, optional={"unique": mostly(True)})
BODIES = st.fixed_dictionaries(
    {},
    optional={
        "name": mostly("posts", "names", "Posts"),
        "schema": st.lists(FIELDS, max_size=4) | anything,
        "fields": anything,
        "indexes": st.lists(INDEXES, max_size=3) | anything,
        "list_rule": mostly("", "a = 'x'", "title ~ 'b'", "@owns_record()"),
        "create_rule": mostly("@request.data.a = 'x'"),
        "list_fields": mostly("*", "a,title", ["a"]),
        "view_fields": anything,
        "create_fields": anything,
        "other": anything,
    },
)


def revised(current: Collection | None, body: dict[str, Any]) -> Collection | None:
    find = {"posts": "posts", "other": "other", ID: "other"}
    try:
        return Revision(current, body, find_name=lambda name: find.get(name.lower())).apply(collection_id=ID)
    except ValidationFailed as error:
        assert error.details
        msgspec.json.encode(error.details)
        return None


@settings(max_examples=300)
@given(BODIES, BODIES)
def test_a_body_of_any_shape_is_read_or_refused(first: dict[str, Any], second: dict[str, Any]) -> None:
    made = revised(None, {"name": "posts", "schema": [{"name": "title"}], **first})
    changed = revised(made, second) if made else None
    for collection in (made, changed):
        if collection is not None:
            Definition(collection)
            stored = msgspec.json.decode(msgspec.json.encode(collection), type=Collection)
            assert stored == collection
            assert revised(collection, {}) == collection
