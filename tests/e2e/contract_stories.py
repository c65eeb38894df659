"""What happens to each group of routes: every answer that is not the same for all, every parameter, every key."""

import json
from typing import Any

from tests.e2e.audit import ENDLESS, WS, Audit
from tests.e2e.support import API, Member, fresh

PASSWORD = "a-likely-password-1"


def email() -> str:
    return f"{fresh('somebody')}@example.com"


async def server(audit: Audit, root: Member, ada: Member) -> None:
    for path in ("/health", "/api/v1/health", "/ready", "/live", "/_/", "/docs", "/asyncapi.json", "/metrics"):
        await audit.ask(None, "GET", path, 200)
    for path in ("/_/app.js", "/_/client/index.js"):
        assert (await audit.house.client.get(path)).headers["content-type"].startswith("text/javascript")
    for path in ("/", "/_"):
        assert (await audit.ask(None, "GET", path, 307)).headers["location"] == "/_/"
    await audit.ask(None, "GET", "/metrics", 403, headers={"x-forwarded-for": "203.0.113.9"})
    await audit.ask(None, "GET", "/openapi.json", 200)
    await audit.ask("dead", "GET", "/openapi.json", 401)
    await audit.ask(ada, "GET", "/openapi.json", 403, headers={"x-account-id": "system"})
    await audit.ask(root, "GET", "/openapi.json", 404, headers={"x-account-id": "nowhere"})


async def logins(audit: Audit, root: Member, ada: Member) -> None:
    slug, mine = fresh("found").lower(), email()
    founding = {"email": mine, "password": PASSWORD, "account_name": "Found", "account_slug": slug}
    login = (await audit.ask(None, "POST", "/auth/register", 201, json=founding)).json()
    await audit.ask(None, "POST", "/auth/register", 409, json={**founding, "email": email()})
    await audit.ask(login["token"], "PATCH", f"/accounts/{slug}", 200, json={"registration": "open"})
    joining = {"email": email(), "password": PASSWORD, "account": slug}
    await audit.ask(None, "POST", "/auth/register", 201, json=joining)
    await audit.ask(None, "POST", "/auth/register", 403, json={**joining, "account": ada.account["slug"]})
    knock = {"account": slug, "email": mine, "password": PASSWORD}
    second = (await audit.ask(None, "POST", "/auth/login", 200, json=knock)).json()
    assert second["token_type"] == "bearer"
    await audit.ask(None, "POST", "/auth/login", 401, json={**knock, "password": "another-password"})
    await audit.ask(login["token"], "GET", "/auth/me", 200)
    change = {"old_password": PASSWORD, "new_password": "another-password"}
    await audit.ask(login["token"], "POST", "/auth/password", 200, json=change)
    await audit.ask(login["token"], "POST", "/auth/password", 422, json=change)
    await audit.ask(second["token"], "GET", "/auth/me", 401)
    refresh = {"refresh_token": login["refresh_token"]}
    fresh_one = (await audit.ask(None, "POST", "/auth/refresh", 200, json=refresh)).json()
    await audit.ask(fresh_one["token"], "POST", "/auth/logout", 200)
    await audit.ask(None, "POST", "/auth/refresh", 401, json={"refresh_token": fresh_one["refresh_token"]})


async def accounts(audit: Audit, root: Member, ada: Member) -> None:
    slug = fresh("made").lower()
    made = (await audit.ask(root, "POST", "/accounts", 201, json={"name": "Made", "slug": slug})).json()
    await audit.ask(root, "POST", "/accounts", 409, json={"name": "Made", "slug": slug})
    for page in ({"skip": "0", "limit": "2"}, {"page": "1", "page_size": "2"}):
        listing = await audit.ask(root, "GET", "/accounts", 200, params={**page, "sort": "-name"})
        assert len(listing.json()["items"]) == 2
    named = {"search": slug, "is_active": "true", "sort_by": "slug", "sort_order": "desc"}
    assert (await audit.ask(root, "GET", "/accounts", 200, params=named)).json()["items"] == [made]
    await audit.ask(root, "GET", "/accounts", 422, params={"limit": "0"})
    for reference in (made["id"], made["account_code"], slug):
        assert (await audit.ask(root, "GET", f"/accounts/{reference}", 200)).json() == made
    change = {"name": "Changed", "is_active": True, "registration": "closed"}
    for method in ("PUT", "PATCH"):
        whole = {**(await audit.ask(root, method, f"/accounts/{slug}", 200, json=change)).json(), "name": "Again"}
        assert (await audit.ask(root, method, f"/accounts/{slug}", 200, json=whole)).json()["name"] == "Again"
        refused = await audit.ask(root, method, f"/accounts/{slug}", 422, json={"slug": "another"})
        assert refused.json()["details"][0]["code"] == "read_only"
        await audit.ask(root, method, "/accounts/system", 409, json={"is_active": False})
    await audit.ask(root, "DELETE", f"/accounts/{slug}", 204)
    await audit.ask(root, "DELETE", "/accounts/system", 409)


async def users(audit: Audit, root: Member, ada: Member) -> None:
    body = {"email": email(), "password": PASSWORD, "account_id": ada.account_id, "role_id": 2, "role": "user"}
    made = (await audit.ask(root, "POST", "/users", 201, json={**body, "is_active": True, "groups": ["red"]})).json()
    await audit.ask(root, "POST", "/users", 409, json=body)
    await audit.ask(ada, "GET", f"/users/{made['id']}", 200)
    wanted = {"search": made["email"], "role_id": "2", "is_active": "true", "sort": "email"}
    for path, more in (
        ("/users", {"account_id": ada.account_id, "group": "red"}),
        (f"/accounts/{ada.account_id}/users", {"account_id": ada.account_id, "group": "red"}),
    ):
        found = await audit.ask(root, "GET", path, 200, params={**wanted, **more, "skip": "0", "limit": "5"})
        assert [one["id"] for one in found.json()["items"]] == [made["id"]]
        order = {"page": "1", "page_size": "5", "sort_by": "created_at", "sort_order": "desc"}
        await audit.ask(root, "GET", path, 200, params=order)
        await audit.ask(root, "GET", path, 422, params={"limit": "0"})
    change = {"email": email(), "role_id": 2, "role": "user", "is_active": True, "groups": []}
    whole = (await audit.ask(ada, "PATCH", f"/users/{made['id']}", 200, json=change)).json()
    assert (await audit.ask(ada, "PATCH", f"/users/{made['id']}", 200, json=whole)).json()["groups"] == []
    await audit.ask(ada, "PATCH", f"/users/{made['id']}", 422, json={"account_id": root.account_id})
    await audit.ask(ada, "PATCH", f"/users/{ada.id}", 409, json={"role_id": 2})
    await audit.ask(ada, "PUT", f"/users/{made['id']}/password", 200, json={"new_password": "another-password"})
    await audit.ask(ada, "DELETE", f"/users/{made['id']}", 204)
    await audit.ask(ada, "DELETE", f"/users/{ada.id}", 409)


async def membership(audit: Audit, root: Member, ada: Member) -> None:
    name = fresh("rôle")
    role = (await audit.ask(root, "POST", "/roles", 201, json={"name": name, "description": "of a test"})).json()
    await audit.ask(root, "POST", "/roles", 409, json={"name": name})
    await audit.ask(ada, "GET", "/roles", 200)
    await audit.ask(ada, "GET", f"/roles/{role['id']}", 200)
    for method in ("PUT", "PATCH"):
        await audit.ask(root, method, f"/roles/{role['id']}", 200, json={**role, "name": fresh("x"), "description": ""})
        await audit.ask(root, method, "/roles/1", 409, json={"name": "boss"})
    await audit.ask(root, "DELETE", f"/roles/{role['id']}", 204)
    await audit.ask(root, "DELETE", "/roles/1", 409)

    body = {"name": "grün", "description": "of a test", "account_id": ada.account_id}
    group = (await audit.ask(root, "POST", "/groups", 201, json=body)).json()
    await audit.ask(root, "POST", "/groups", 409, json=body)
    await audit.ask(ada, "POST", "/groups", 201, json={"name": "other"})
    path = f"/groups/{group['id']}"
    await audit.ask(ada, "GET", path, 200)
    asked = {"account_id": ada.account_id, "search": "rü", "skip": "0", "limit": "3"}
    assert (await audit.ask(root, "GET", "/groups", 200, params=asked)).json()["items"] == [group]
    await audit.ask(ada, "GET", "/groups", 200, params={"page": "1", "page_size": "3"})
    await audit.ask(ada, "GET", "/groups", 422, params={"page": "0"})
    for method in ("PUT", "PATCH"):
        group = (await audit.ask(ada, method, path, 200, json={**group, "name": "blau", "description": ""})).json()
        await audit.ask(ada, method, path, 409, json={"name": "other"})
    await audit.ask(ada, "POST", f"{path}/users", 204, json={"user_id": ada.id})
    wanted = {"search": "@", "role_id": "1", "is_active": "true", "sort": "email", "skip": "0", "limit": "3"}
    assert (await audit.ask(ada, "GET", f"{path}/users", 200, params=wanted)).json()["total"] == 1
    order = {"page": "1", "page_size": "3", "sort_by": "email", "sort_order": "asc"}
    await audit.ask(ada, "GET", f"{path}/users", 200, params=order)
    await audit.ask(ada, "GET", f"{path}/users", 422, params={"limit": "0"})
    await audit.ask(ada, "DELETE", f"{path}/users/{ada.id}", 204)
    await audit.ask(ada, "DELETE", path, 204)


async def keys(audit: Audit, root: Member, ada: Member) -> None:
    body = {"name": "robot", "expires_at": "2099-01-01T00:00:00Z", "role_id": 1, "role": "admin"}
    path = "/admin/api-keys"
    made = (await audit.ask(root, "POST", path, 201, json={**body, "account_id": ada.account_id})).json()
    shown = (await audit.ask(ada, "GET", f"{path}/{made['id']}", 200)).json()
    assert shown == {**made, "key": shown["key"]}
    assert "****" in shown["key"]
    for page in ({"skip": "0", "limit": "2", "account_id": ada.account_id}, {"page": "1", "page_size": "2"}):
        assert (await audit.ask(ada, "GET", path, 200, params=page)).json()["total"] == 1
    await audit.ask(ada, "GET", path, 200, params={"offset": "0"})
    await audit.ask(ada, "GET", path, 422, params={"offset": "x"})
    me = (await audit.ask(made["key"], "GET", "/auth/me", 200)).json()
    assert (me["user_id"], me["role"], me["email"], me["user"]) == (made["id"], "admin", None, None)
    await audit.ask(None, "GET", "/auth/me", 200, headers={"x-api-key": made["key"]})
    assert (await audit.ask(made["key"], "GET", path, 403)).json()["code"] == "key_restricted"
    await audit.ask(ada, "DELETE", f"{path}/{made['id']}", 204)
    await audit.ask(made["key"], "GET", "/auth/me", 401)


async def invitations(audit: Audit, root: Member, ada: Member) -> None:
    path, guest = "/invitations", email()
    more = {"account_id": ada.account_id, "role_id": 2, "role": "user", "groups": ["red"], "expires_in_hours": 1}
    first = (await audit.ask(root, "POST", path, 201, json={"email": guest, **more})).json()
    await audit.ask(ada, "POST", path, 409, json={"email": guest})
    for page in ({"skip": "0", "limit": "5", "status_filter": "pending", "account_id": ada.account_id}, {"page": "1"}):
        assert (await audit.ask(ada, "GET", path, 200, params={**page, "page_size": "5"})).json()["total"] == 1
    await audit.ask(ada, "GET", path, 422, params={"status_filter": "lost"})
    renewed = (await audit.ask(ada, "POST", f"{path}/{first['id']}/resend", 200)).json()
    assert renewed["token"] != first["token"]
    await audit.ask(None, "GET", f"{path}/{first['token']}", 404)
    assert (await audit.ask(None, "GET", f"{path}/{renewed['token']}", 200)).json()["email"] == guest
    accept = f"{path}/{renewed['token']}/accept"
    await audit.ask(None, "POST", f"{path}/{first['token']}/accept", 404, json={"password": PASSWORD})
    await audit.ask(None, "POST", accept, 422, json={"password": "short"})
    joined = (await audit.ask(None, "POST", accept, 201, json={"password": PASSWORD})).json()
    assert joined["user"]["groups"] == ["red"]
    await audit.ask(None, "POST", accept, 410, json={"password": PASSWORD})
    await audit.ask(ada, "POST", f"{path}/{first['id']}/resend", 410)
    await audit.ask(ada, "DELETE", f"{path}/{first['id']}", 410)
    late = (await audit.ask(ada, "POST", path, 201, json={"email": email()})).json()
    await audit.ask(ada, "POST", "/users", 201, json={"email": late["email"], "password": PASSWORD})
    await audit.ask(None, "POST", f"{path}/{late['token']}/accept", 409, json={"password": PASSWORD})
    await audit.ask(ada, "PATCH", f"/accounts/{ada.account_id}", 200, json={"registration": "closed"})
    await audit.ask(ada, "POST", f"{path}/{late['id']}/resend", 409)
    await audit.ask(None, "POST", f"{path}/{late['token']}/accept", 410, json={"password": PASSWORD})
    await audit.ask(ada, "DELETE", f"{path}/{late['id']}", 204)


RULES: dict[str, Any] = {
    **dict.fromkeys(("list_rule", "view_rule", "create_rule", "update_rule"), '@request.auth.id != ""'),
    "delete_rule": None,
    "list_fields": "title",
    "view_fields": ["title", "state"],
}


async def collections(audit: Audit, root: Member, ada: Member) -> None:
    name = fresh("Things")
    schema = [
        {"name": "title", "type": "text", "required": True, "unique": True},
        {"name": "state", "type": "select", "options": ["new", "old"], "default": "new"},
        {"name": "parent", "type": "reference", "collection": name, "on_delete": "restrict"},
    ]
    body = {"name": name, "schema": schema, "indexes": [{"fields": ["state"], "unique": False}], **RULES}
    made = (await audit.ask(root, "POST", "/collections", 201, json=body)).json()
    assert made["has_public_access"] is False
    await audit.ask(root, "POST", "/collections", 409, json=body)
    other = (await audit.ask(root, "POST", "/collections", 201, json={"name": fresh("Others")})).json()
    listing = {"page": "1", "page_size": "5", "sort_by": "name", "sort_order": "desc", "search": name.lower()}
    assert (await audit.ask(root, "GET", "/collections", 200, params=listing)).json()["items"] == [made]
    assert name in (await audit.ask(root, "GET", "/collections/names", 200)).json()["names"]
    for method in ("PUT", "PATCH"):
        for reference in (made["id"], name):
            await audit.ask(root, method, f"/collections/{reference}", 200, json={**made, **RULES})
        await audit.ask(root, method, f"/collections/{name}", 409, json={"name": other["name"]})
        rules = (await audit.ask(root, method, f"/collections/{name}/rules", 200, json=RULES)).json()
    assert (await audit.ask(root, "GET", f"/collections/{name}/rules", 200)).json() == rules
    assert (await audit.ask(root, "GET", f"/collections/{name}", 200)).json()["id"] == made["id"]

    wanted: dict[str, Any] = {
        "rule": "title = 'x'",
        "operation": "list",
        "collection": name,
        "collectionFields": ["title"],
    }
    wanted |= {"filter": "title != ''", "auth": {"id": ada.id}}
    assert (await audit.ask(root, "POST", "/rules/validate", 200, json=wanted)).json()["valid"] is True
    trial = {"rule": "title = 'x'", "collection": name, "context": {"record": {"title": "x"}}}
    assert (await audit.ask(root, "POST", "/rules/test", 200, json=trial)).json()["result"] is True

    exported = await audit.ask(root, "GET", "/collections/export", 200, params={"collection_ids": made["id"]})
    document = exported.json()
    await audit.ask(root, "POST", "/collections/import", 409, json={"data": document})
    brought = await audit.ask(root, "POST", "/collections/import", 200, json={"data": document, "strategy": "update"})
    assert brought.json()["updated_count"] == 1
    schema = [{"name": "thing", "type": "reference", "collection": name}]
    await audit.ask(root, "PUT", f"/collections/{other['name']}", 200, json={"schema": schema})
    await audit.ask(root, "DELETE", f"/collections/{name}", 409)
    await audit.ask(root, "DELETE", f"/collections/{other['name']}", 204)


async def records(audit: Audit, root: Member, ada: Member) -> None:
    parents = await audit.house.collection("title")
    fields = ({"name": "title", "unique": True}, {"name": "parent", "type": "reference", "collection": parents})
    path = f"/records/{await audit.house.collection(*fields)}"
    await audit.reload()
    parent = await ada.create(parents, title="parent")
    once = {"idempotency-key": fresh("once")}
    made = (await audit.ask(ada, "POST", path, 201, json={"title": "a", "parent": parent["id"]}, headers=once)).json()
    again = await audit.ask(ada, "POST", path, 201, json={"title": "a", "parent": parent["id"]}, headers=once)
    assert (again.json(), again.headers["idempotency-replayed"]) == (made, "true")
    await audit.ask(ada, "POST", path, 409, json={"id": made["id"], "title": "b"})
    await audit.ask(ada, "POST", path, 422, json={"titel": "b"})
    one = f"{path}/{made['id']}"
    seen = await audit.ask(ada, "GET", one, 200, params={"fields": "title", "expand": "parent"})
    assert seen.json()["expand"]["parent"] == parent

    many = (
        await audit.ask(ada, "POST", f"{path}/batch", 201, json={"records": [{"title": "b"}, {"title": "c"}]})
    ).json()
    b, c = (created["id"] for created in many["created"])
    await audit.ask(ada, "POST", f"{path}/batch", 409, json={"records": [{"title": "b"}]})
    edits = [{"id": b, "data": {"title": "bb"}}]
    await audit.ask(ada, "PATCH", f"{path}/batch", 200, json={"records": edits})
    await audit.ask(ada, "PATCH", f"{path}/batch", 409, json={"records": [{"id": b, "data": {"title": "c"}}]})
    for method in ("PUT", "PATCH"):
        await audit.ask(ada, method, f"{path}/{c}", 200, json={"title": "cc"})
        await audit.ask(ada, method, f"{path}/{c}", 409, json={"title": "a"})
        await audit.ask(ada, method, f"{path}/{c}", 422, json={"titel": "a"})
    listing = {"filter": "title != 'x'", "sort": "-title", "fields": "title", "expand": "parent", "skip": "0"}
    page = (await audit.ask(ada, "GET", path, 200, params={**listing, "limit": "2", "total": "true"})).json()
    assert [shown["title"] for shown in page["items"]] == ["cc", "bb"]
    asked = {"cursor": page["next_cursor"], "include_count": "false"}
    rest = (await audit.ask(ada, "GET", path, 200, params=asked)).json()
    assert [shown["title"] for shown in rest["items"]] == ["a"]
    await audit.ask(ada, "GET", path, 200, params={"cursor_before": rest["prev_cursor"]})
    await audit.ask(
        ada, "DELETE", f"{path}/batch", 200, json={"ids": [b]}, headers=(twice := {"idempotency-key": "two"})
    )
    await audit.ask(ada, "DELETE", f"{path}/{c}", 422, headers=twice)
    for method, target, body in (
        ("DELETE", f"/records/{parents}/{parent['id']}", {}),
        ("DELETE", f"/records/{parents}/batch", {"json": {"ids": [parent["id"]]}}),
    ):
        assert (await audit.ask(ada, method, target, 409, **body)).json()["code"] == "referenced"
    await audit.ask(ada, "DELETE", one, 204)


async def transfer(audit: Audit, root: Member, ada: Member) -> None:
    path = f"/records/{await audit.house.collection('title')}"
    acting = {"x-account-id": ada.account["slug"]}
    lines = b"".join(json.dumps({"title": str(number)}).encode() + b"\n" for number in range(3))
    asked = {"strategy": "skip", "keep_going": "true"}
    done = await audit.ask(root, "POST", f"{path}/import", 200, content=lines, params=asked, headers=acting)
    assert done.json()["created"] == 3
    kinds = ("application/x-ndjson", "application/jsonl; charset=utf-8", "text/plain")
    for kind in kinds:
        await audit.ask(
            root, "POST", f"{path}/import", 200, content=lines, params=asked, headers={**acting, "content-type": kind}
        )
    out = await audit.ask(root, "GET", f"{path}/export", 200, headers=acting)
    assert (len(out.text.splitlines()), out.headers["content-type"]) == (3, "application/x-ndjson")
    assert out.headers["x-snackbase-position"]


async def realtime(audit: Audit, root: Member, ada: Member) -> None:
    posts = await audit.house.collection("title")
    start = (await audit.ask(ada, "GET", "/realtime/changes", 200, params={"collection": posts})).json()["position"]
    made = await ada.create(posts, title="first")
    asked = {"collection": posts, "since": start, "filter": "title != ''", "fields": "title", "limit": "5"}
    polled = (await audit.ask(ada, "GET", "/realtime/changes", 200, params=asked)).json()
    assert [event["data"]["id"] for event in polled["events"]] == [made["id"]]
    await audit.ask(ada, "GET", "/realtime/changes", 410, params={**asked, "since": "elsewhere"})
    for question in (
        {"position": polled["position"], "user": ada.id},
        {"record_id": made["id"], "collection": posts, "connection": "x"},
    ):
        await audit.ask(ada, "POST", "/realtime/explain", 200, json=question)

    whole = json.dumps({"collection": posts})
    for query in (
        {"token": root.token, "collection": posts, "since": start, "account": ada.account["slug"]},
        {"token": root.token, "collections": posts},
        {"token": root.token, "subscription": whole},
    ):
        answer = await audit.house.stream(None, *query.items())
        audit.note(("GET", ENDLESS), answer.response.status_code)
        audit.given(("GET", ENDLESS), query)
        await answer.response.aclose()
    misplaced = await audit.ask(
        ada, "GET", "/realtime/subscribe", 400, params={"collection": posts, "filter": "title = 'x'"}
    )
    assert "subscription=" in misplaced.json()["message"]

    await audit.ask(ada, "GET", "/realtime/ws", 426)
    for status, who, query in (
        (401, None, {"token": "dead"}),
        (403, ada, {"account": "system"}),
        (404, root, {"account": "no"}),
    ):
        refused = await audit.house.refused_socket(who, query=query)
        assert refused.status == status
        audit.note(("GET", WS), status)
    conflict = await audit.house.refused_socket(ada, headers={"x-api-key": "another"})
    audit.note(("GET", WS), conflict.status)
    open_ones = [await audit.house.socket(root, query={"account": ada.account["slug"]}) for _ in range(2)]
    audit.note(("GET", WS), 101)
    audit.given(("GET", WS), {"token", "account"})
    assert (await audit.house.refused_socket(root)).status == 429
    audit.note(("GET", WS), 429)
    assert (await audit.ask(root, "GET", "/realtime/subscribe", 429)).json()["code"] == "connection_limit"
    for one in open_ones:
        await one.connection.close()


async def too_many(audit: Audit, root: Member, ada: Member) -> None:
    """Last of all: afterwards nobody at this address may try a password for a minute."""
    change = {"old_password": "not-the-old-one", "new_password": "another-password"}
    for _ in range(5):
        await audit.ask(ada, "POST", "/auth/password", 422, json=change)
    await audit.ask(ada, "POST", "/auth/password", 429, json=change)
    knock = {"account": ada.account["slug"], "email": email(), "password": PASSWORD}
    for _ in range(5):
        await audit.ask(None, "POST", "/auth/login", 401, json=knock)
    await audit.ask(None, "POST", "/auth/login", 429, json=knock)
    found = {"password": PASSWORD, "account_name": "x", "account_slug": ada.account["slug"]}
    invited = (
        await audit.ask(
            root, "POST", "/invitations", 201, json={"email": email(), "account_id": await _open(audit, root)}
        )
    ).json()
    while (await audit.house.client.post(f"{API}/auth/register", json={"email": email(), **found})).status_code != 429:
        pass
    await audit.ask(None, "POST", "/auth/register", 429, json={"email": email(), **found})
    await audit.ask(None, "POST", f"/invitations/{invited['token']}/accept", 429, json={"password": PASSWORD})


async def _open(audit: Audit, root: Member) -> str:
    return str((await audit.ask(root, "POST", "/accounts", 201, json={"name": "Open"})).json()["id"])
