"""What the catalog hands out: definitions by name and id, compiled rules, the fields a principal may read."""

import msgspec
import pytest

from snackbase.catalog import Catalog, Definition, auth_of, project
from snackbase.model import SYSTEM_FIELDS, Collection, Field, FieldType, Principal, Rules
from snackbase.rules import Kind, RuleError, predicate

ACCOUNT = "11111111-1111-4111-8111-111111111111"
USER = "22222222-2222-4222-8222-222222222222"
TIME = "2026-01-17T12:34:56.789Z"
MEMBER = Principal(kind="user", account_id=ACCOUNT, actor_id=USER, email="a@example.org", role="user", groups=("red",))
ROOT = Principal(kind="user", account_id=ACCOUNT, actor_id=USER, superadmin=True)
RULES = Rules(
    list_rule="",
    view_rule="title != null",
    create_rule="@request.data.title = 'x'",
    update_rule="@owns_record()",
    delete_rule=None,
)
POSTS = Collection(
    id="33333333-3333-4333-8333-333333333333",
    name="posts",
    table="c_posts",
    fields=(
        Field(name="title"),
        Field(name="views", type=FieldType.NUMBER),
        Field(name="due", type=FieldType.DATE),
        Field(name="tags", type=FieldType.JSON),
        Field(name="state", type=FieldType.SELECT, options=["a"]),
    ),
    rules=RULES,
    list_fields=("title",),
    version=4,
    created_at=TIME,
    updated_at=TIME,
)


def test_names_are_looked_up_in_their_exact_spelling() -> None:
    catalog = Catalog(4, [POSTS])
    found = catalog.by_name("posts")
    assert found is not None
    assert catalog.by_id(POSTS.id) is found
    assert catalog.by_name("Posts") is None
    assert catalog.all() == (found,)


def test_a_replaced_catalog_keeps_what_did_not_change_and_forgets_what_is_gone() -> None:
    catalog = Catalog(4, [POSTS])
    kept = catalog.by_name("posts")
    other = msgspec.structs.replace(POSTS, id=USER, name="other", table="c_other")
    catalog.replace(5, (POSTS, other))
    assert catalog.by_name("posts") is kept
    catalog.replace(6, (other,))
    assert catalog.version == 6
    assert catalog.by_name("posts") is None
    assert catalog.by_id(POSTS.id) is None


def test_fields_stand_in_the_order_a_record_shows_them() -> None:
    kinds = Definition(POSTS).kinds
    assert list(kinds) == ["id", "title", "views", "due", "tags", "state", *SYSTEM_FIELDS[1:]]
    assert (kinds["views"], kinds["due"], kinds["tags"]) == (Kind.NUMBER, Kind.DATE, Kind.JSON)
    assert (kinds["state"], kinds["created_at"], kinds["created_by"]) == (Kind.TEXT, Kind.DATETIME, Kind.TEXT)


def test_a_null_rule_is_locked_and_an_empty_one_is_true_for_everybody() -> None:
    definition = Definition(POSTS)
    assert definition.rule("delete") is None
    public = definition.rule("list")
    guest = Principal(kind="guest", account_id=ACCOUNT)
    assert public is not None
    assert predicate(public, auth_of(guest))({})


def test_rules_speak_of_the_principal() -> None:
    rule = Definition(POSTS).rule("update")
    assert rule is not None
    mine = predicate(rule, auth_of(MEMBER))
    assert mine({"created_by": USER})
    assert not mine({"created_by": ACCOUNT})


def test_only_create_and_update_rules_may_ask_for_the_request_data() -> None:
    rules = msgspec.structs.replace(RULES, list_rule="@request.data.title = 'x'")
    with pytest.raises(RuleError):
        Definition(msgspec.structs.replace(POSTS, rules=rules))


def test_a_filter_on_a_field_one_may_not_read_is_refused_like_an_unknown_one() -> None:
    definition = Definition(POSTS)
    readable = definition.readable(MEMBER, "list")
    assert definition.filter("views > 1", None).fields == {"views"}
    with pytest.raises(RuleError) as hidden:
        definition.filter("views > 1", readable)
    with pytest.raises(RuleError) as unknown:
        definition.filter("vjews > 1", readable)
    assert hidden.value.message.replace("views", "") == unknown.value.message.replace("vjews", "")


def test_filters_are_kept_but_not_without_bound() -> None:
    definition = Definition(POSTS)
    assert definition.filter("views > 1", None) is definition.filter("views > 1", None)
    for number in range(1000):
        definition.filter(f"views > {number}", None)
    assert len(definition._filters) <= 128


def test_a_superadmin_reads_every_field_and_others_what_is_listed_with_the_id() -> None:
    definition = Definition(POSTS)
    assert definition.readable(ROOT, "list") is None
    assert definition.readable(MEMBER, "view") is None
    assert definition.readable(MEMBER, "list") == frozenset({"id", "title"})


def test_a_rule_is_bound_to_a_principal_once_and_not_kept_without_bound() -> None:
    definition = Definition(POSTS)
    judge = definition.judge("update", auth_of(MEMBER))
    assert judge is not None
    assert judge is definition.judge("update", auth_of(MEMBER))
    assert judge({"created_by": USER})
    other = definition.judge("update", auth_of(msgspec.structs.replace(MEMBER, actor_id=ACCOUNT)))
    assert other is not None
    assert not other({"created_by": USER})
    assert definition.judge("delete", auth_of(MEMBER)) is None
    for number in range(5000):
        definition.judge("update", auth_of(msgspec.structs.replace(MEMBER, actor_id=str(number))))
    assert len(definition._judges) <= 1024


def test_a_projection_keeps_the_records_own_order() -> None:
    record = {"id": "1", "title": "a", "views": 2}
    assert project(record, None) is record
    assert list(project(record, {"views", "id", "gone"}).items()) == [("id", "1"), ("views", 2)]
