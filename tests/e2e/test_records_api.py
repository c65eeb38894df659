"""Records over REST as clients see them: shapes, status codes, headers and error bodies of contract §6 and §8."""

from typing import Any

import pytest

from tests.e2e.support import API, House, Member, place

GHOST = "99999999-9999-4999-8999-999999999999"
SYSTEM = {"id", "account_id", "created_at", "created_by", "updated_at", "updated_by"}
VIEWS = {"name": "views", "type": "number", "default": 0}
TITLE = {"name": "title", "type": "text", "required": True}


@pytest.fixture
async def ann(house: House) -> Member:
    return await house.founder("ann")


@pytest.fixture
async def posts(house: House) -> str:
    return await house.collection(TITLE, VIEWS)


async def test_a_record_is_flat_and_reads_the_same_everywhere(ann: Member, posts: str) -> None:
    answer = await ann.request("POST", f"/records/{posts}", json={"title": "a", "views": 2.0}, status=201)
    record = answer.json()
    assert set(record) == {"title", "views"} | SYSTEM
    assert (record["views"], record["account_id"], record["created_by"]) == (2, ann.account_id, ann.id)
    assert (await ann.request("GET", f"/records/{posts}/{record['id'].upper()}")).json() == record
    listing = (await ann.request("GET", f"/records/{posts}")).json()
    cursors = {"next_cursor": None, "prev_cursor": None, "has_more": False}
    page = {"items": [record], "total": 1, "skip": 0, "limit": 30, "position": listing["position"]}
    assert listing == page | cursors


async def test_every_write_answers_with_its_position(ann: Member, posts: str) -> None:
    made = await ann.request("POST", f"/records/{posts}", json={"title": "a"})
    path = f"/records/{posts}/{made.json()['id']}"
    answers = [
        made,
        await ann.request("PUT", path, json={"title": "b"}, status=200),
        await ann.request("PATCH", path, json={"views": 2}, status=200),
        await ann.request("DELETE", path, status=204),
        await ann.request("POST", f"/records/{posts}/batch", json={"records": [{"title": "c"}]}),
    ]
    places = [place(answer.headers["x-snackbase-position"]) for answer in answers]
    assert places == [places[0] + number for number in range(5)]
    assert (await ann.request("GET", f"/records/{posts}")).json()["position"] == answers[-1].headers[
        "x-snackbase-position"
    ]


async def test_put_replaces_and_patch_changes(ann: Member, posts: str) -> None:
    record = await ann.create(posts, title="a", views=5)
    path = f"/records/{posts}/{record['id']}"
    patched = (await ann.request("PATCH", path, json={"title": "b"})).json()
    assert (patched["title"], patched["views"]) == ("b", 5)
    put = (await ann.request("PUT", path, json={"title": "c"})).json()
    assert (put["title"], put["views"]) == ("c", 0)


async def test_batches_answer_with_what_they_did(ann: Member, posts: str) -> None:
    path = f"/records/{posts}/batch"
    made = (await ann.request("POST", path, json={"records": [{"title": "a"}, {"title": "b"}]}, status=201)).json()
    assert (made["count"], [one["title"] for one in made["created"]]) == (2, ["a", "b"])
    edits = [{"id": one["id"], "data": {"views": 9}} for one in made["created"]]
    changed = (await ann.request("PATCH", path, json={"records": edits}, status=200)).json()
    assert (changed["count"], [one["views"] for one in changed["updated"]]) == (2, [9, 9])
    ids = [one["id"] for one in made["created"]]
    gone = (await ann.request("DELETE", path, json={"ids": ids}, status=200)).json()
    assert gone == {"deleted": ids, "count": 2}


async def test_a_batch_changes_all_or_nothing(ann: Member, posts: str) -> None:
    answer = await ann.request(
        "POST", f"/records/{posts}/batch", json={"records": [{"title": "a"}, {"views": 1}]}, status=422
    )
    assert answer.json()["details"][0]["field"] == "records[1].title"
    too_many = {"records": [{"title": "a"}] * 101}
    answer = await ann.request("POST", f"/records/{posts}/batch", json=too_many, status=422)
    assert answer.json()["code"] == "invalid_batch"
    assert (await ann.request("GET", f"/records/{posts}")).json()["total"] == 0


async def test_lists_are_sorted_filtered_paged_and_cut(ann: Member, posts: str) -> None:
    await ann.create_all(posts, *({"title": title, "views": views} for title, views in (("a", 1), ("b", 3), ("c", 2))))

    async def titles(query: str) -> list[str]:
        items = (await ann.request("GET", f"/records/{posts}?{query}")).json()["items"]
        return [item["title"] for item in items]

    assert await titles("sort=-views,+title") == ["b", "c", "a"]
    assert await titles("sort=title&skip=1&limit=1") == ["b"]
    assert await titles("sort=title&filter=views%20%3E%3D%202%20%26%26%20title%20!%3D%20%27c%27") == ["b"]
    cut = (await ann.request("GET", f"/records/{posts}?fields=title&sort=title&total=false")).json()
    assert cut["total"] is None
    assert [set(item) for item in cut["items"]] == [{"id", "title"}] * 3


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("limit=101", "invalid_limit"),
        ("limit=ten", "invalid_limit"),
        ("skip=-1", "invalid_skip"),
        ("skip=9999999999999999999999", "invalid_skip"),
        ("sort=nothing", "invalid_sort"),
        ("filter=title%20%3D", "invalid_filter"),
        ("filter=%00", "invalid_filter"),
        ("filter=%FF%FE", "invalid_filter"),
        ("fields=nothing", "invalid_fields"),
        ("total=perhaps", "invalid_total"),
        ("flter=title", "unknown_parameter"),
        ("limit=1&limit=2", "duplicate_parameter"),
    ],
)
async def test_a_bad_query_is_400_and_names_the_parameter(ann: Member, posts: str, query: str, code: str) -> None:
    body = (await ann.request("GET", f"/records/{posts}?{query}", status=400)).json()
    assert body["code"] == code
    assert body["details"][0]["field"] == query.partition("=")[0]
    assert body["detail"] == body["message"]


async def test_bad_values_are_422_with_every_field(ann: Member, posts: str) -> None:
    body = {"views": "many", "titel": "a", "id": "7"}
    answer = (await ann.request("POST", f"/records/{posts}", json=body, status=422)).json()
    assert answer["code"] == "validation_failed"
    assert {detail["field"]: detail["code"] for detail in answer["details"]} == {
        "id": "invalid_id",
        "title": "required",
        "views": "invalid_number",
        "titel": "unknown_field",
    }


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "invalid_json"),
        (b"{", 400, "invalid_json"),
        (b'{"title": NaN}', 400, "invalid_json"),
        (b'{"title": "\xff"}', 400, "invalid_json"),
        (b'{"title": "\\ud800"}', 400, "invalid_json"),
        (b'{"title": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400, "invalid_json"),
        (b"[]", 422, "validation_failed"),
        (b"null", 422, "validation_failed"),
        (b'{"title": "a\\u0000b"}', 422, "validation_failed"),
        (b'{"title": "a", "views": 9007199254740992}', 422, "validation_failed"),
        (b'{"title": "a", "views": 1e400}', 422, "validation_failed"),
        (b'{"title": "a", "\\u0000": 1}', 422, "validation_failed"),
        (b'{"title": "' + b"x" * 300_000 + b'"}', 422, "validation_failed"),
        (b'{"title": "' + b"x" * 2_000_000 + b'"}', 413, "too_large"),
    ],
)
async def test_no_body_makes_the_server_fail(ann: Member, posts: str, body: bytes, status: int, code: str) -> None:
    headers = {"content-type": "application/json"}
    record = await ann.create(posts, title="a")
    for method, path in (("POST", f"/records/{posts}"), ("PATCH", f"/records/{posts}/{record['id']}")):
        answer = await ann.request(method, path, content=body, headers=headers, status=status)
        assert answer.json()["code"] == code


@pytest.mark.parametrize("record_id", [GHOST, "1", "batch", "%00", "..%2f", "x" * 3000])
async def test_an_id_that_names_no_record_is_404(ann: Member, posts: str, record_id: str) -> None:
    for method, more in (("GET", {}), ("PUT", {"json": {"title": "a"}}), ("PATCH", {"json": {}}), ("DELETE", {})):
        if record_id == "batch" and method in {"PATCH", "DELETE"}:
            continue
        answer = await ann.request(method, f"/records/{posts}/{record_id}", status=404, **more)
        assert answer.json()["code"] in {"not_found", "route_not_found"}


async def test_an_unknown_collection_is_404(ann: Member) -> None:
    for method, path in (("GET", ""), ("POST", ""), ("GET", f"/{GHOST}"), ("DELETE", f"/{GHOST}")):
        more: dict[str, Any] = {"json": {}} if method == "POST" else {}
        answer = await ann.request(method, f"/records/nosuch{path}", status=404, **more)
        assert answer.json()["code"] == "collection_not_found"


async def test_another_accounts_records_are_404_and_lists_hold_only_ones_own(
    house: House, ann: Member, posts: str
) -> None:
    record = await ann.create(posts, title="a")
    eve = await house.founder("eve")
    for method, more in (("GET", {}), ("PATCH", {"json": {"title": "b"}}), ("DELETE", {})):
        await eve.request(method, f"/records/{posts}/{record['id']}", status=404, **more)
    assert (await eve.request("GET", f"/records/{posts}")).json()["total"] == 0
    headers = {"x-account-id": ann.account["slug"]}
    await eve.request("GET", f"/records/{posts}", headers=headers, status=403)


async def test_a_superadmin_acts_in_the_named_account(house: House, ann: Member, posts: str) -> None:
    root = await house.superadmin()
    headers = {"x-account-id": ann.account["slug"]}
    made = (await root.request("POST", f"/records/{posts}", json={"title": "a"}, headers=headers)).json()
    assert (made["account_id"], made["created_by"]) == (ann.account_id, root.id)
    assert (await ann.request("GET", f"/records/{posts}/{made['id']}")).json() == made
    body = {"title": "b", "account_id": ann.account_id}
    second = (await root.request("POST", f"/records/{posts}", json=body)).json()
    assert second["account_id"] == ann.account_id
    for method, title in (("PATCH", "c"), ("PUT", "d")):
        changed = await root.request(method, f"/records/{posts}/{second['id']}", json={**body, "title": title})
        assert (changed.json()["title"], changed.json()["account_id"]) == (title, ann.account_id)
    await root.request("PATCH", f"/records/{posts}/{second['id']}", json={"title": "e"}, status=404)
    assert (await ann.request("GET", f"/records/{posts}")).json()["total"] == 2


async def test_rules_decide_between_403_and_404(house: House, ann: Member) -> None:
    notes = await house.collection("title", view_rule="title != 'secret'", update_rule="@owns_record()")
    bob = await house.member(ann)
    shown, hidden = await ann.create(notes, title="open"), await ann.create(notes, title="secret")
    refused = await bob.request("PATCH", f"/records/{notes}/{shown['id']}", json={"title": "b"}, status=403)
    assert refused.json()["code"] == "forbidden"
    await bob.request("PATCH", f"/records/{notes}/{hidden['id']}", json={"title": "b"}, status=404)
    assert (await ann.update(notes, shown["id"], title="b"))["title"] == "b"


async def test_guests_read_public_records_of_the_account_they_name(house: House, ann: Member) -> None:
    news = await house.collection("title", list_rule="", view_rule="")
    record = await ann.create(news, title="a")
    named = {"x-account-id": ann.account["account_code"]}
    listing = await house.client.get(f"{API}/records/{news}", headers=named)
    assert (listing.status_code, listing.json()["items"]) == (200, [record])
    assert (await house.client.get(f"{API}/records/{news}/{record['id']}", headers=named)).status_code == 200
    refused = await house.client.post(f"{API}/records/{news}", headers=named, json={"title": "b"})
    assert (refused.status_code, refused.json()["code"]) == (401, "token_missing")
    assert refused.headers["www-authenticate"] == "Bearer"
    nameless = await house.client.get(f"{API}/records/{news}")
    assert (nameless.status_code, nameless.json()["code"]) == (401, "token_missing")


async def test_fields_that_may_not_be_read_are_in_no_answer(house: House, ann: Member) -> None:
    staff = await house.collection(
        "title", VIEWS, list_fields="title", view_fields=["title", "created_at"], update_rule=""
    )
    made = await ann.create(staff, title="a", views=7)
    assert set(made) == {"id", "title", "created_at"}
    assert set(await ann.update(staff, made["id"], title="b")) == {"id", "title", "created_at"}
    assert set((await ann.request("GET", f"/records/{staff}")).json()["items"][0]) == {"id", "title"}
    for query in ("filter=views%3D7", "sort=views", "fields=views"):
        await ann.request("GET", f"/records/{staff}?{query}", status=400)


async def test_conflicts_name_the_field(house: House, ann: Member) -> None:
    pages = await house.collection({"name": "slug", "type": "text", "unique": True})
    await ann.create(pages, slug="a")
    taken = (await ann.request("POST", f"/records/{pages}", json={"slug": "a"}, status=409)).json()
    assert [detail["field"] for detail in taken["details"]] == ["slug"]
    await ann.create(pages, slug="b", id=GHOST)
    again = await ann.request("POST", f"/records/{pages}", json={"slug": "c", "id": GHOST}, status=409)
    assert again.json()["code"] == "id_taken"


async def test_references_cascade_restrict_and_let_go(house: House, ann: Member) -> None:
    rooms = await house.collection("title")

    def to(action: str) -> dict[str, Any]:
        return {"name": "room", "type": "reference", "collection": rooms, "on_delete": action}

    messages, tickets, hints = [await house.collection(to(one)) for one in ("cascade", "restrict", "set_null")]
    room = (await ann.create(rooms, title="r"))["id"]
    message, ticket, hint = [await ann.create(one, room=room) for one in (messages, tickets, hints)]
    refused = await ann.request("DELETE", f"/records/{rooms}/{room}", status=409)
    assert refused.json()["code"] == "referenced"
    await ann.delete(tickets, ticket["id"])
    await ann.delete(rooms, room)
    await ann.request("GET", f"/records/{messages}/{message['id']}", status=404)
    assert (await ann.request("GET", f"/records/{hints}/{hint['id']}")).json()["room"] is None
    absent = await ann.request("POST", f"/records/{messages}", json={"room": room}, status=422)
    assert absent.json()["details"][0]["code"] == "reference_not_found"


async def test_a_transaction_of_more_than_1000_changes_is_409_and_changes_nothing(house: House, ann: Member) -> None:
    rooms = await house.collection("title")
    room = {"name": "room", "type": "reference", "collection": rooms, "on_delete": "cascade"}
    messages = await house.collection(room)
    full = (await ann.create(rooms, title="r"))["id"]
    for _ in range(10):
        last = await ann.create_all(messages, *({"room": full} for _ in range(100)))
    refused = (await ann.request("DELETE", f"/records/{rooms}/{full}", status=409)).json()
    assert (refused["code"], "1,000" in refused["message"]) == ("too_many_changes", True)
    assert (await ann.request("GET", f"/records/{messages}?limit=1")).json()["total"] == 1000
    await ann.delete(messages, last[0]["id"])
    await ann.delete(rooms, full)
    assert (await ann.request("GET", f"/records/{messages}")).json()["total"] == 0


async def test_every_type_is_kept_in_its_one_form(house: House, ann: Member) -> None:
    names = ("text", "number", "boolean", "datetime", "date", "email", "url", "json")
    fields = [{"name": f"a_{name}", "type": name} for name in names]
    everything = await house.collection(*fields, {"name": "a_select", "type": "select", "options": ["x", "y"]})
    sent = {
        "a_text": "Grüße 👋",
        "a_number": -1.25,
        "a_boolean": False,
        "a_datetime": "2026-01-17T14:34:56.7891+02:00",
        "a_date": "2026-01-17",
        "a_email": "ann@example.org",
        "a_url": "https://example.org/a?b=c",
        "a_json": {"list": [1, 2.5, None, "x"], "nested": {"yes": True}},
        "a_select": "y",
    }
    kept = sent | {"a_datetime": "2026-01-17T12:34:56.789Z"}
    made = await ann.create(everything, **sent)
    assert {name: made[name] for name in kept} == kept
    assert (await ann.request("GET", f"/records/{everything}/{made['id']}")).json() == made
    nothing = await ann.create(everything)
    assert all(nothing[name] is None for name in sent)


async def test_a_method_that_is_not_there_is_405(ann: Member, posts: str) -> None:
    answer = await ann.request("DELETE", f"/records/{posts}", status=405)
    assert {"GET", "POST"} <= set(answer.headers["allow"].split(", "))
