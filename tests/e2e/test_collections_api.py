"""Collections over REST: definitions, schema changes on collections with records, rules, and their refusals."""

from typing import Any

import pytest

from tests.e2e.support import House, Member, fresh

RULE_KEYS = ("list_rule", "view_rule", "create_rule", "update_rule", "delete_rule")
MEMBERS = '@request.auth.id != ""'
TITLE = {"name": "title", "type": "text"}


@pytest.fixture
async def root(house: House) -> Member:
    return await house.superadmin()


async def made(root: Member, **body: Any) -> dict[str, Any]:
    body.setdefault("name", fresh("made"))
    return dict((await root.request("POST", "/collections", json=body, status=201)).json())


async def codes(root: Member, method: str, path: str, body: dict[str, Any], status: int = 422) -> dict[str, str]:
    answer = (await root.request(method, path, json=body, status=status)).json()
    return {detail["field"]: detail["code"] for detail in answer["details"]}


async def test_a_definition_is_answered_with_everything_clients_look_for(root: Member) -> None:
    collection = await made(root, schema=[TITLE, {"name": "state", "type": "select", "options": ["a", "b"]}])
    assert collection["schema"] == collection["fields"]
    assert collection["schema"][1] == {
        "name": "state",
        "type": "select",
        "required": False,
        "default": None,
        "unique": False,
        "options": ["a", "b"],
        "collection": None,
        "on_delete": None,
    }
    assert (collection["fields_count"], collection["field_count"]) == (2, 2)
    assert (collection["records_count"], collection["record_count"]) == (0, 0)
    assert (collection["list_fields"], collection["view_fields"]) == ("*", "*")
    for reference in (collection["id"], collection["name"]):
        assert (await root.request("GET", f"/collections/{reference}")).json() == collection


async def test_an_omitted_rule_is_the_members_null_is_locked_and_empty_is_public(root: Member) -> None:
    collection = await made(root, list_rule="", delete_rule=None)
    assert [collection[key] for key in RULE_KEYS] == ["", MEMBERS, MEMBERS, MEMBERS, None]
    assert collection["has_public_access"] is True


async def test_fields_may_be_sent_under_either_name(root: Member) -> None:
    collection = await made(root, fields=[TITLE])
    assert [field["name"] for field in collection["schema"]] == ["title"]
    both = {"schema": [TITLE], "fields": []}
    assert await codes(root, "POST", "/collections", {"name": fresh("both"), **both}) == {"fields": "invalid_schema"}


async def test_collections_are_listed_in_pages_and_by_name(root: Member) -> None:
    word = fresh("listed")
    names = [(await made(root, name=f"{word}_{number}"))["name"] for number in range(3)]
    page = (await root.request("GET", f"/collections?search={word.upper()}&page=2&page_size=2")).json()
    assert [item["name"] for item in page["items"]] == names[2:]
    assert (page["total"], page["page"], page["page_size"], page["total_pages"]) == (3, 2, 2, 2)
    down = (await root.request("GET", f"/collections?search={word}&sort_by=created_at&sort_order=desc")).json()
    assert [item["name"] for item in down["items"]] == names[::-1]
    every = (await root.request("GET", "/collections/names")).json()
    assert set(names) <= set(every["names"])
    assert every["total"] == len(every["names"])
    for query in ("page=0", "page_size=5000", "page=x", "sort_by=table", "sort_order=up", "serach=x"):
        await root.request("GET", f"/collections?{query}", status=400)


async def test_only_superadmins_see_and_change_collections(house: House, root: Member) -> None:
    collection = await made(root)
    ann = await house.founder("ann")
    for method, path, body in (
        ("GET", "/collections", None),
        ("GET", "/collections/names", None),
        ("POST", "/collections", {"name": fresh()}),
        ("GET", f"/collections/{collection['id']}", None),
        ("PUT", f"/collections/{collection['id']}", {}),
        ("DELETE", f"/collections/{collection['id']}", None),
        ("GET", f"/collections/{collection['name']}/rules", None),
        ("PUT", f"/collections/{collection['name']}/rules", {}),
        ("POST", "/rules/validate", {"rule": ""}),
    ):
        await ann.request(method, path, status=403, **({} if body is None else {"json": body}))
        answer = await house.client.request(method, f"/api/v1{path}", json=body)
        assert answer.status_code == 401


@pytest.mark.parametrize(
    ("body", "field", "code"),
    [
        ({"name": None}, "name", "required"),
        ({"name": "ab"}, "name", "invalid_name"),
        ({"name": "_users"}, "name", "invalid_name"),
        ({"name": "with.dot"}, "name", "invalid_name"),
        ({"name": "x" * 65}, "name", "invalid_name"),
        ({"name": "names"}, "name", "reserved_name"),
        ({"schema": {}}, "schema", "invalid_schema"),
        ({"schema": ["title"]}, "schema[0]", "invalid_schema"),
        ({"schema": [{"type": "text"}]}, "schema[0].name", "required"),
        ({"schema": [{"name": "a b"}]}, "schema[0].name", "invalid_name"),
        ({"schema": [{"name": "Created_At"}]}, "schema[0].name", "reserved_name"),
        ({"schema": [{"name": "and"}]}, "schema[0].name", "reserved_name"),
        ({"schema": [TITLE, {"name": "Title"}]}, "schema[1].name", "duplicate_field"),
        ({"schema": [{"name": "a", "type": "file"}]}, "schema[0].type", "invalid_type"),
        ({"schema": [{"name": "a", "type": ["text"]}]}, "schema[0].type", "invalid_type"),
        ({"schema": [{"name": "a", "required": "yes"}]}, "schema[0].required", "invalid_schema"),
        ({"schema": [{"name": "a", "requird": True}]}, "schema[0].requird", "unknown_field"),
        ({"schema": [{"name": "a", "encrypted": True}]}, "schema[0].encrypted", "unsupported"),
        ({"schema": [{"name": "a", "type": "select"}]}, "schema[0].options", "invalid_options"),
        ({"schema": [{"name": "a", "type": "select", "options": ["x", "x"]}]}, "schema[0].options", "invalid_options"),
        ({"schema": [{"name": "a", "options": ["x"]}]}, "schema[0].options", "unsupported"),
        ({"schema": [{"name": "a", "type": "number", "default": "x"}]}, "schema[0].default", "invalid_default"),
        ({"schema": [{"name": "a", "unique": True, "default": "x"}]}, "schema[0].default", "invalid_default"),
        ({"schema": [{"name": "a", "type": "json", "unique": True}]}, "schema[0].unique", "invalid_schema"),
        ({"schema": [{"name": "a", "type": "reference"}]}, "schema[0].collection", "required"),
        (
            {"schema": [{"name": "a", "type": "reference", "collection": "nosuch"}]},
            "schema[0].collection",
            "collection_not_found",
        ),
        ({"schema": [{"name": "a", "collection": "posts"}]}, "schema[0].collection", "invalid_schema"),
        ({"schema": [{"name": f"f{number}"} for number in range(101)]}, "schema", "invalid_schema"),
        ({"indexes": [{"fields": ["nothing"]}]}, "indexes[0].fields", "invalid_index"),
        ({"indexes": [{"fields": []}]}, "indexes[0]", "invalid_index"),
        ({"indexes": ["title"]}, "indexes[0]", "invalid_index"),
        ({"list_rule": "titel = 'x'"}, "list_rule", "unknown_field"),
        ({"list_rule": "title ="}, "list_rule", "syntax"),
        ({"list_rule": "title = 1"}, "list_rule", "type_mismatch"),
        ({"view_rule": "@request.data.title = 'x'"}, "view_rule", "not_allowed"),
        ({"create_rule": 5}, "create_rule", "invalid_rule"),
        ({"list_fields": ["nothing"]}, "list_fields", "unknown_field"),
        ({"view_fields": []}, "view_fields", "invalid_fields"),
        ({"create_fields": "title"}, "create_fields", "unsupported"),
        ({"lst_rule": ""}, "lst_rule", "unknown_field"),
    ],
)
async def test_a_bad_definition_is_refused_part_by_part(
    root: Member, body: dict[str, Any], field: str, code: str
) -> None:
    whole = {"name": fresh("bad"), "schema": [TITLE], **body}
    assert await codes(root, "POST", "/collections", whole) == {field: code}


async def test_a_rules_error_tells_the_position(root: Member) -> None:
    body = {"name": fresh("bad"), "schema": [TITLE], "list_rule": "title = 'a' && owner = 'b'"}
    answer = (await root.request("POST", "/collections", json=body, status=422)).json()
    assert "position 15" in answer["message"]


async def test_names_are_unique_without_regard_to_case_and_looked_up_exactly(root: Member) -> None:
    name = fresh("Cased")
    await made(root, name=name)
    assert await codes(root, "POST", "/collections", {"name": name.lower()}, 409) == {"name": "name_taken"}
    await root.request("GET", f"/collections/{name.lower()}", status=404)


async def test_fields_are_added_to_and_dropped_from_a_collection_with_records(house: House, root: Member) -> None:
    ann = await house.founder("ann")
    collection = await made(root, schema=[TITLE, {"name": "old", "type": "text"}])
    record = await ann.create(collection["name"], title="a", old="x")
    schema = [TITLE, {"name": "stars", "type": "number", "default": 3}, {"name": "note", "type": "text"}]
    changed = (await root.request("PUT", f"/collections/{collection['id']}", json={"schema": schema})).json()
    assert [field["name"] for field in changed["schema"]] == ["title", "stars", "note"]
    assert changed["records_count"] == 1
    read = (await ann.request("GET", f"/records/{collection['name']}/{record['id']}")).json()
    assert (read["title"], read["stars"], read["note"], "old" in read) == ("a", 3, None, False)
    unfilled = [*schema, {"name": "must", "type": "text", "required": True}]
    path = f"/collections/{collection['id']}"
    assert await codes(root, "PUT", path, {"schema": unfilled}) == {"must": "required_without_default"}


async def test_a_type_cannot_be_changed(root: Member) -> None:
    collection = await made(root, schema=[TITLE])
    body = {"schema": [{"name": "title", "type": "number"}]}
    assert await codes(root, "PUT", f"/collections/{collection['id']}", body) == {"title": "type_change"}


async def test_a_drop_that_breaks_a_rule_an_index_or_shown_fields_is_refused_naming_them(root: Member) -> None:
    collection = await made(
        root,
        schema=[TITLE, {"name": "owner", "type": "text"}],
        list_rule="owner = @request.auth.id",
        list_fields=["title", "owner"],
        indexes=[{"fields": ["owner", "title"], "unique": True}],
    )
    path = f"/collections/{collection['id']}"
    assert await codes(root, "PUT", path, {"schema": [TITLE]}) == {
        "indexes[0].fields": "invalid_index",
        "list_rule": "unknown_field",
        "list_fields": "unknown_field",
    }
    together = {"schema": [TITLE], "list_rule": "", "list_fields": "*", "indexes": []}
    changed = (await root.request("PUT", path, json=together)).json()
    assert (changed["list_fields"], changed["indexes"]) == ("*", [])


async def test_a_definition_that_was_read_can_be_sent_back(root: Member) -> None:
    collection = await made(root, schema=[TITLE], list_fields="id,title", indexes=[{"fields": ["title"]}])
    back = await root.request("PUT", f"/collections/{collection['id']}", json=collection)
    assert back.json() == collection


async def test_a_unique_index_is_refused_over_values_that_are_there_twice(house: House, root: Member) -> None:
    ann = await house.founder("ann")
    collection = await made(root, schema=[TITLE])
    await ann.create_all(collection["name"], {"title": "a"}, {"title": "a"})
    body = {"schema": [{**TITLE, "unique": True}]}
    await root.request("PUT", f"/collections/{collection['id']}", json=body, status=409)
    assert (await ann.create(collection["name"], title="a"))["title"] == "a"


async def test_a_renamed_collection_keeps_records_and_references(house: House, root: Member) -> None:
    ann = await house.founder("ann")
    rooms = await made(root, schema=[TITLE])
    reference = {"name": "room", "type": "reference", "collection": rooms["name"]}
    messages = await made(root, schema=[reference])
    room = await ann.create(rooms["name"], title="r")
    name = fresh("renamed")
    await root.request("PUT", f"/collections/{rooms['id']}", json={"name": name})
    assert (await ann.request("GET", f"/records/{name}/{room['id']}")).json() == room
    await ann.request("GET", f"/records/{rooms['name']}", status=404)
    assert (await ann.create(messages["name"], room=room["id"]))["room"] == room["id"]
    found = (await root.request("GET", f"/collections/{messages['id']}")).json()
    assert found["schema"][0]["collection"] == name


async def test_a_collection_may_refer_to_itself(house: House, root: Member) -> None:
    ann = await house.founder("ann")
    name = fresh("tree")
    parent = {"name": "parent", "type": "reference", "collection": name, "on_delete": "cascade"}
    await made(root, name=name, schema=[parent])
    above = await ann.create(name)
    below = await ann.create(name, parent=above["id"])
    await ann.delete(name, above["id"])
    await ann.request("GET", f"/records/{name}/{below['id']}", status=404)


async def test_a_dropped_collection_is_gone_unless_another_refers_to_it(house: House, root: Member) -> None:
    ann = await house.founder("ann")
    rooms = await made(root, schema=[TITLE])
    messages = await made(root, schema=[{"name": "room", "type": "reference", "collection": rooms["name"]}])
    refused = await root.request("DELETE", f"/collections/{rooms['id']}", status=409)
    assert messages["name"] in refused.json()["message"]
    await root.request("DELETE", f"/collections/{messages['name']}", status=204)
    await root.request("DELETE", f"/collections/{rooms['id']}", status=204)
    await ann.request("GET", f"/records/{rooms['name']}", status=404)
    again = await made(root, name=rooms["name"], schema=[TITLE])
    assert again["id"] != rooms["id"]
    assert (await ann.request("GET", f"/records/{rooms['name']}")).json()["total"] == 0


async def test_rules_are_read_and_changed_by_themselves(house: House, root: Member) -> None:
    ann = await house.founder("ann")
    collection = await made(root, schema=[TITLE])
    path = f"/collections/{collection['name']}/rules"
    rules = (await root.request("GET", path)).json()
    assert rules == {
        **dict.fromkeys(RULE_KEYS, MEMBERS),
        "list_fields": "*",
        "view_fields": "*",
        "create_fields": "*",
        "update_fields": "*",
    }
    await ann.create(collection["name"], title="a")
    changed = (await root.request("PUT", path, json={"create_rule": None, "list_fields": "title"})).json()
    assert (changed["create_rule"], changed["list_fields"], changed["list_rule"]) == (None, "title", MEMBERS)
    await ann.request("POST", f"/records/{collection['name']}", json={"title": "b"}, status=403)
    items = (await ann.request("GET", f"/records/{collection['name']}")).json()["items"]
    assert [set(item) for item in items] == [{"id", "title"}]
    assert await codes(root, "PUT", path, {"list_rule": "nothing = 1"}) == {"list_rule": "unknown_field"}
    assert await codes(root, "PUT", path, {"name": "other"}) == {"name": "unknown_field"}


async def test_a_rule_is_validated_without_being_stored(root: Member) -> None:
    collection = await made(root, schema=[TITLE, {"name": "stars", "type": "number"}])

    async def validated(**body: Any) -> dict[str, Any]:
        return dict((await root.request("POST", "/rules/validate", json=body)).json())

    known = {"collection": collection["name"]}
    assert (await validated(rule="stars > 3 && @owns_record()", **known))["valid"]
    assert (await validated(rule=None, **known))["valid"]
    wrong = await validated(rule="title = 'a' && stars > 'x'", **known)
    assert (wrong["valid"], wrong["code"]) == (False, "type_mismatch")
    names = {"collectionFields": ["title", "stars"], "operation": "list"}
    assert (await validated(rule="stars > 3 && title ~ 'x'", **names))["valid"]
    wrong = await validated(rule="stars > 3 && owner = 'x'", **names)
    assert (wrong["valid"], wrong["position"], len(wrong["errors"])) == (False, 13, 1)
    assert not (await validated(rule="@request.data.title = 'x'", **names))["valid"]
    assert (await validated(rule="@request.data.title = 'x'", **(names | {"operation": "create"})))["valid"]
    await root.request("POST", "/rules/validate", json={"rule": "", "operation": "look"}, status=422)


async def test_validation_shows_the_plan_of_a_rule_and_a_filter(root: Member) -> None:
    owner = {"name": "owner", "type": "text"}
    collection = await made(root, schema=[TITLE, owner], list_fields="title")

    async def plan(**body: Any) -> dict[str, Any]:
        asked = {"collection": collection["name"], **body}
        answer = (await root.request("POST", "/rules/validate", json=asked)).json()
        assert answer["valid"], answer
        return dict(answer["plan"])

    own = await plan(rule="title ~ 'x' && owner = @request.auth.id")
    assert (own["events"]["cost"], own["events"]["index"]) == ("indexed", "owner = @request.auth.id")
    assert [condition["cost"] for condition in own["conditions"]] == ["compare", "text"]
    assert "index" in " ".join(own["lists"]).lower()
    both = await plan(rule="", filter="title ~ 'x'")
    assert (both["text"], both["events"]["cost"], both["events"]["budgeted"]) == ("title ~ 'x'", "judged", True)
    mixed = "@has_role('admin') || owner = @request.auth.id"
    assert (await plan(rule=mixed))["events"]["cost"] == "judged"
    assert (await plan(rule=mixed, auth={"id": "u", "role": "user"}))["events"]["cost"] == "indexed"
    assert (await plan(rule=mixed, auth={"id": "u", "role": "admin"}))["events"]["cost"] == "none"
    assert (await plan(rule=None))["events"]["message"].startswith("Locked")
    create = await plan(rule="@request.data.title = 'x'", operation="create")
    assert (create["events"], create["lists"]) == (None, None)
    body = {"collection": collection["name"], "rule": "title = 'x'", "filter": "title = 'x' && owner = 'x'"}
    wrong = (await root.request("POST", "/rules/validate", json=body)).json()
    assert (wrong["valid"], wrong["part"], wrong["position"], wrong["code"]) == (False, "filter", 15, "unknown_field")


@pytest.mark.parametrize("reference", ["nosuch", "99999999-9999-4999-8999-999999999999", "%00", "x" * 3000])
async def test_an_unknown_collection_is_404(root: Member, reference: str) -> None:
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/rules")):
        await root.request(method, f"/collections/{reference}{path}", status=404)
    await root.request("PUT", f"/collections/{reference}", json={}, status=404)
