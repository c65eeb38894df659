"""Joining, groups, roles, API keys and acting elsewhere over HTTP, with live subscribers who follow every change."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.e2e.support import API, TRANSPORTS, WHEN, House, Member, Messages, fresh, matches, remember

PASSWORD = remember("a-password-of-the-membership-tests")
ROOMS: dict[str, Any] = {"list_rule": "room IN @request.auth.groups", "view_rule": "room IN @request.auth.groups"}
MEMBERS: dict[str, Any] = {"list_rule": "@request.auth.id IN members", "view_rule": "@request.auth.id IN members"}


@pytest.fixture
async def ann(house: House) -> Member:
    return await house.founder("ann")


def refused(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    return str(answer.json()["code"])


async def group(admin: Member, name: str) -> str:
    return str((await admin.request("POST", "/groups", json={"name": name}, status=201)).json()["id"])


async def api_key(admin: Member, **facts: Any) -> dict[str, Any]:
    made = (await admin.request("POST", "/admin/api-keys", json={"name": "bot", **facts}, status=201)).json()
    remember(made["key"])
    return dict(made)


async def invited(admin: Member, **facts: Any) -> dict[str, Any]:
    made = (await admin.request("POST", "/invitations", json=facts, status=201)).json()
    remember(made["token"])
    return dict(made)


class Robot(Member):
    """Acts with an API key where a member acts with a login's token."""

    def __init__(self, of: Member, key: str) -> None:
        super().__init__(
            of.house,
            {"account": of.account, "user": of.user, "token": key, "refresh_token": key},
            email=of.email,
            password=of.password,
        )


# Groups in rules


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_who_comes_into_a_room_hears_it_and_who_leaves_does_not(
    house: House, ann: Member, transport: str
) -> None:
    name = await house.collection("room", "text", **ROOMS)
    bob, kitchen = await house.member(ann), await group(ann, "kitchen")
    following = await house.follow(transport, bob, name)
    await ann.create(name, room="kitchen", text="before")
    await ann.request("POST", f"/groups/{kitchen}/users", json={"user_id": bob.id}, status=204)
    told = await following.next()
    assert (told["type"], told["reason"], told["collection"]) == ("resync", "rights", name)
    assert (await bob.request("GET", f"/records/{name}")).json()["total"] == 1
    await ann.create(name, room="hall", text="elsewhere")
    await ann.create(name, room="kitchen", text="hello")
    heard = await following.next()
    assert (heard["type"], heard["data"]["text"]) == (f"{name}.create", "hello")
    await ann.request("PATCH", f"/groups/{kitchen}", json={"name": "cellar"})
    assert (await following.next())["reason"] == "rights"
    await ann.create(name, room="kitchen", text="nobody there")
    await ann.create(name, room="cellar", text="down here")
    assert (await following.next())["data"]["text"] == "down here"
    await ann.request("DELETE", f"/groups/{kitchen}/users/{bob.id}", status=204)
    assert (await following.next())["reason"] == "rights"
    await ann.create(name, room="cellar", text="not for bob")
    await ann.request("PATCH", f"/users/{bob.id}", json={"groups": ["cellar"]})
    assert (await following.next())["reason"] == "rights"
    await ann.create(name, room="cellar", text="again")
    assert (await following.next())["data"]["text"] == "again"


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_who_a_record_names_as_a_member_sees_it_come_and_go(house: House, ann: Member, transport: str) -> None:
    name = await house.collection("title", {"name": "members", "type": "json"}, **MEMBERS)
    bob = await house.member(ann)
    following = await house.follow(transport, bob, name)
    hidden = await ann.create(name, title="not yet", members=[ann.id])
    await ann.create(name, title="at once", members=[ann.id, bob.id])
    assert (await following.next())["data"]["title"] == "at once"
    await ann.update(name, hidden["id"], members=[bob.id])
    entered = await following.next()
    assert (entered["type"], entered["change"]) == (f"{name}.create", "enter")
    await bob.update(name, hidden["id"], members=[])
    left = await following.next()
    assert (left["type"], left["change"], left["data"]) == (f"{name}.delete", "leave", {"id": hidden["id"]})


async def test_a_deleted_group_takes_its_room_away(house: House, ann: Member) -> None:
    name = await house.collection("room", **ROOMS)
    bob = await house.member(ann, groups=["hall"])
    [hall] = (await ann.request("GET", "/groups?search=hall")).json()["items"]
    assert hall.keys() >= {"id", "account_id", "name", "description", "is_system", "created_at", "updated_at"}
    assert [user["id"] for user in (await ann.request("GET", f"/groups/{hall['id']}/users")).json()["items"]] == [
        bob.id
    ]
    following = await house.follow("websocket", bob, name)
    await ann.request("DELETE", f"/groups/{hall['id']}", status=204)
    assert (await following.next())["reason"] == "rights"
    assert (await bob.request("GET", "/auth/me")).json()["groups"] == []
    assert (await ann.request("GET", f"/groups/{hall['id']}", status=404)).json()["code"] == "group_not_found"


async def test_a_changed_role_reaches_a_live_subscriber(house: House, ann: Member) -> None:
    root = await house.superadmin()
    role = (await root.request("POST", "/roles", json={"name": fresh("editor")}, status=201)).json()
    name = await house.collection("title", list_rule=f"@has_role('{role['name']}')")
    bob = await house.member(ann)
    following = await house.follow("websocket", bob, name)
    await ann.create(name, title="unheard")
    await ann.request("PATCH", f"/users/{bob.id}", json={"role_id": role["id"]})
    assert (await following.next())["reason"] == "rights"
    await ann.create(name, title="heard")
    assert (await following.next())["data"]["title"] == "heard"
    assert refused(await root.request("DELETE", f"/roles/{role['id']}", status=409), 409) == "role_in_use"


async def test_groups_are_for_admins_and_come_in_pages(house: House, ann: Member) -> None:
    bob, root = await house.member(ann), await house.superadmin()
    for name in ("b", "a", "c"):
        await group(ann, name)
    page = (await ann.request("GET", "/groups?page=2&page_size=2")).json()
    assert ([one["name"] for one in page["items"]], page["total"], page["page"], page["page_size"]) == (["c"], 3, 2, 2)
    await bob.request("GET", "/groups", status=403)
    await bob.request("POST", "/groups", json={"name": "mine"}, status=403)
    assert (await root.request("GET", f"/groups?account_id={ann.account['slug']}")).json()["total"] == 3
    named = {"x-account-id": ann.account["slug"]}
    made = await root.request("POST", "/groups", json={"name": "d"}, headers=named, status=201)
    assert made.json()["account_id"] == ann.account_id
    assert refused(await ann.request("GET", "/groups?pages=1", status=400), 400) == "unknown_parameter"


async def test_roles_are_read_by_all_and_made_by_superadmins(house: House, ann: Member) -> None:
    root, name = await house.superadmin(), fresh("role")
    made = (await root.request("POST", "/roles", json={"name": name, "description": "x"}, status=201)).json()
    assert made == {"id": made["id"], "name": name, "description": "x", "created_at": WHEN, "updated_at": WHEN}
    assert (await ann.request("GET", f"/roles/{made['id']}")).json() == made
    for method, path in (("POST", ""), ("PUT", f"/{made['id']}"), ("DELETE", f"/{made['id']}")):
        body = None if method == "DELETE" else {"name": "mine"}
        await ann.request(method, f"/roles{path}", json=body, status=403)
    assert (await root.request("PUT", f"/roles/{made['id']}", json={"description": "y"})).json()["description"] == "y"
    await root.request("DELETE", f"/roles/{made['id']}", status=204)
    for role_id in (made["id"], "x", "²", "9" * 30):
        assert refused(await root.request("GET", f"/roles/{role_id}", status=404), 404) == "role_not_found"
    assert refused(await root.request("DELETE", "/roles/1", status=409), 409) == "role_fixed"


# Joining


async def test_an_invited_user_joins_with_the_token_and_a_password(house: House, ann: Member) -> None:
    email = f"{fresh('bob')}@example.com"
    made = await invited(ann, email=email, role_id="2", groups=["staff"])
    assert made["token"] == matches(r"sb_in\.[\w-]{43}")
    assert (made["email"], made["status"], made["account_id"]) == (email, "pending", ann.account_id)
    assert made.keys() >= {"id", "role_id", "expires_at", "created_at", "updated_at"}
    public = (await house.client.get(f"{API}/invitations/{made['token']}")).json()
    assert public == {
        "email": email,
        "account_name": ann.account["name"],
        "account_slug": ann.account["slug"],
        "invited_by_name": ann.email,
        "expires_at": made["expires_at"],
        "is_valid": True,
    }
    path = f"{API}/invitations/{made['token']}/accept"
    assert refused(await house.client.post(path, json={"password": "short"}), 422) == "validation_failed"
    answer = await house.client.post(path, json={"password": PASSWORD})
    assert (answer.status_code, answer.headers["cache-control"]) == (201, "no-store")
    told = answer.json()
    assert (told["user"]["groups"], told["user"]["role"], told["account"]["id"]) == (["staff"], "user", ann.account_id)
    bob = Member(house, told, email=email, password=PASSWORD)
    assert (await bob.request("GET", "/auth/me")).json()["email"] == email
    await bob.login_again()
    assert refused(await house.client.post(path, json={"password": PASSWORD}), 410) == "invitation_over"
    listed = (await ann.request("GET", "/invitations?status_filter=accepted")).json()
    assert ([one["id"] for one in listed["invitations"]], listed["total"]) == ([made["id"]], 1)
    assert "token" not in listed["invitations"][0]


async def test_an_invitation_is_renewed_and_cancelled_by_admins_only(house: House, ann: Member) -> None:
    made, bob, eve = await invited(ann, email="x@y.example"), await house.member(ann), await house.founder("eve")
    for who, status in ((bob, 403), (eve, 404)):
        await who.request("POST", f"/invitations/{made['id']}/resend", json={}, status=status)
        await who.request("DELETE", f"/invitations/{made['id']}", status=status)
    renewed = (await ann.request("POST", f"/invitations/{made['id']}/resend", json={})).json()
    remember(renewed["token"])
    assert renewed["message"]
    assert refused(await house.client.get(f"{API}/invitations/{made['token']}"), 404) == "invitation_not_found"
    await ann.request("DELETE", f"/invitations/{made['id']}", status=204)
    accepted = await house.client.post(f"{API}/invitations/{renewed['token']}/accept", json={"password": PASSWORD})
    assert refused(accepted, 410) == "invitation_over"
    assert not (await house.client.get(f"{API}/invitations/{renewed['token']}")).json()["is_valid"]


async def test_an_admin_opens_and_closes_the_own_account(house: House, ann: Member) -> None:
    body = {"email": "bob@example.com", "password": PASSWORD, "account": ann.account["slug"]}
    assert refused(await house.client.post(f"{API}/auth/register", json=body), 403) == "registration_closed"
    await ann.request("PATCH", f"/accounts/{ann.account_id}", json={"registration": "open"})
    assert (await house.client.post(f"{API}/auth/register", json=body)).status_code == 201
    await ann.request("PATCH", f"/accounts/{ann.account_id}", json={"registration": "closed"})
    refusal = await ann.request("POST", "/invitations", json={"email": "c@example.com"}, status=409)
    assert refused(refusal, 409) == "registration_closed"
    bob = await house.login(ann.account["slug"], "bob@example.com", PASSWORD)
    await bob.request("PATCH", f"/accounts/{ann.account_id}", json={"registration": "open"}, status=403)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"email":1}',
        b'{"email":"x@y.example","role_id":99}',
        b'{"email":"x@y.example","role_id":"king"}',
        b'{"email":"x@y.example","expires_in_hours":1e999}',
        b'{"email":"x@y.example","expires_in_hours":-1}',
        b'{"email":"x@y.example","groups":["\\u0000"]}',
    ],
)
async def test_no_body_of_an_invitation_is_a_500(ann: Member, body: bytes) -> None:
    answer = await ann.house.client.post(
        f"{API}/invitations", content=body, headers={"authorization": f"Bearer {ann.token}"}
    )
    assert answer.status_code in (400, 422)


# Keys


async def test_a_key_writes_and_is_the_creator(house: House, ann: Member) -> None:
    name = await house.collection("title")
    made = await api_key(ann)
    assert made["key"] == matches(r"sb_ak\.[0-9a-f-]{36}\.[\w-]{43}")
    assert made.keys() >= {"id", "name", "key", "last_used_at", "expires_at", "is_active", "created_at", "updated_at"}
    following = await house.follow("websocket", ann, name)
    for headers in ({"x-api-key": made["key"]}, {"authorization": f"Bearer {made['key']}"}):
        answer = await house.client.post(f"{API}/records/{name}", json={"title": "x"}, headers=headers)
        assert answer.status_code == 201
        assert (answer.json()["created_by"], answer.json()["account_id"]) == (made["id"], ann.account_id)
        assert (await following.next())["data"]["created_by"] == made["id"]
    me = (await house.client.get(f"{API}/auth/me", headers={"x-api-key": made["key"]})).json()
    assert (me["user_id"], me["account_id"], me["email"], me["role"]) == (made["id"], ann.account_id, None, "user")
    [listed] = (await ann.request("GET", "/admin/api-keys?limit=10&offset=0")).json()["items"]
    assert (listed["key"], listed["last_used_at"]) == (matches(r"sb_ak\.[0-9a-f]{8}\*{4}[\w-]{4}"), WHEN)


async def test_a_login_outranks_the_key_that_is_sent_along(house: House, ann: Member) -> None:
    made = await api_key(ann)
    both = {"x-api-key": made["key"], "authorization": f"Bearer {ann.token}"}
    assert (await house.client.get(f"{API}/auth/me", headers=both)).json()["user_id"] == ann.id
    await ann.request("POST", "/auth/logout", json={})
    assert refused(await house.client.get(f"{API}/auth/me", headers=both), 401) == "token_revoked"
    refusal = await house.refused_socket(None, headers=both)
    assert (refusal.status, refusal.code) == (400, "token_conflict")


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_key_subscribes_and_ends_when_it_is_revoked(house: House, ann: Member, transport: str) -> None:
    name = await house.collection("title")
    made = await api_key(ann)
    robot = Robot(ann, made["key"])
    following = await house.follow(transport, robot, name)
    await ann.create(name, title="for machines")
    assert (await following.next())["data"]["title"] == "for machines"
    await ann.request("DELETE", f"/admin/api-keys/{made['id']}", status=204)
    last = (await following.rest())[-1]
    assert (last["code"], last["close_code"]) == ("token_revoked", 4502)
    assert refused(await robot.request("GET", "/auth/me", status=401), 401) == "token_revoked"
    refusal = await (house.refused_stream(robot) if transport == "sse" else house.refused_socket(robot))
    assert (refusal.status, refusal.code) == (401, "token_revoked")


async def test_a_key_is_presented_to_realtime_in_every_way(house: House, ann: Member) -> None:
    key = (await api_key(ann))["key"]
    robot = Robot(ann, key)
    sockets = [
        await house.socket(robot),
        await house.socket(None, headers={"x-api-key": key}),
        await house.socket(None, headers={"authorization": f"Bearer {key}"}),
        await house.socket(None, subprotocols=[key]),
        await house.socket(None, subprotocols=["snackbase.v1", key]),
    ]
    first = await house.socket(None, subprotocols=["snackbase.v1"])
    assert (await first.ask("auth", token=key))["status"] == "ok"
    for socket in (*sockets, first):
        assert (await socket.ask("ping"))["type"] == "pong"
    again = await sockets[0].ask("auth", token=key)
    assert (again["status"], again["expires_at"]) == ("ok", WHEN)
    stream: Messages = await house.stream(None, headers={"x-api-key": key})
    assert (await stream.beat())["type"] == "heartbeat"


async def test_a_key_ends_at_its_time_with_its_connections(house: House, ann: Member) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=1)
    made = await api_key(ann, expires_at=soon.isoformat())
    socket = await house.socket(Robot(ann, made["key"]))
    assert await socket.ended() == (4001, "token_expired")
    refusal = await house.client.get(f"{API}/auth/me", headers={"x-api-key": made["key"]})
    assert refused(refusal, 401) == "token_expired"
    wrong = await ann.request("POST", "/admin/api-keys", json={"name": "x", "expires_at": "soon"}, status=422)
    assert [detail["field"] for detail in wrong.json()["details"]] == ["expires_at"]


async def test_keys_make_no_keys_and_are_their_accounts_alone(house: House, ann: Member) -> None:
    made, eve = await api_key(ann, role="admin"), await house.founder("eve")
    robot = Robot(ann, made["key"])
    assert (await robot.request("GET", "/users")).json()["total"] == 1
    assert refused(await robot.request("POST", "/admin/api-keys", json={"name": "x"}, status=403), 403) == (
        "key_restricted"
    )
    assert refused(await eve.request("DELETE", f"/admin/api-keys/{made['id']}", status=404), 404) == "key_not_found"
    named = {"x-account-id": eve.account["slug"]}
    await robot.request("GET", "/users", headers=named, status=403)


# A superadmin elsewhere


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_what_a_superadmin_writes_elsewhere_is_heard_there_once_and_nowhere_else(
    house: House, ann: Member, transport: str
) -> None:
    root, eve = await house.superadmin(), await house.founder("eve")
    name = await house.collection("title")
    there, elsewhere = await house.follow(transport, ann, name), await house.follow(transport, eve, name)
    at_home = await house.follow(transport, root, name)
    watching = await house.follow(transport, root, name, account=ann.account["slug"])
    named = {"x-account-id": ann.account["slug"]}
    by_header = await root.request("POST", f"/records/{name}", json={"title": "by header"}, headers=named)
    by_body = await root.request(
        "POST", f"/records/{name}", json={"title": "by body", "account_id": ann.account_id}, status=201
    )
    assert {one.json()["account_id"] for one in (by_header, by_body)} == {ann.account_id}
    assert by_header.json()["created_by"] == root.id
    record = f"/records/{name}/{by_body.json()['id']}"
    await root.request("PATCH", record, json={"title": "changed"}, headers=named)
    await root.request("DELETE", record, headers=named, status=204)
    await root.request("PATCH", record, json={"title": "not here"}, status=404)
    await eve.create(name, title="eve's")
    await root.create(name, title="root's")
    await ann.create(name, title="the last")
    expected = [("create", "by header"), ("create", "by body"), ("update", "changed"), ("delete", "changed")]
    for following in (there, watching):
        heard = await following.take(5)
        told = [(one["type"].partition(".")[2], one["data"]["title"]) for one in heard]
        assert told == [*expected, ("create", "the last")]
    assert (await elsewhere.next())["data"]["title"] == "eve's"
    assert (await at_home.next())["data"]["title"] == "root's"


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_nobody_else_watches_another_account(house: House, ann: Member, transport: str) -> None:
    eve = await house.founder("eve")
    if transport == "sse":
        refusal = await house.refused_stream(eve, ("account", ann.account["slug"]))
    else:
        refusal = await house.refused_socket(eve, query={"account": ann.account["slug"]})
    assert (refusal.status, refusal.code) == (403, "forbidden")


async def test_a_key_of_the_system_account_writes_elsewhere(house: House, ann: Member) -> None:
    root, name = await house.superadmin(), await house.collection("title")
    key = (await api_key(root))["key"]
    following = await house.follow("websocket", ann, name)
    named = {"x-api-key": key, "x-account-id": ann.account["account_code"]}
    assert (await house.client.post(f"{API}/records/{name}", json={"title": "x"}, headers=named)).status_code == 201
    assert (await following.next())["data"]["account_id"] == ann.account_id


async def test_a_deleted_account_is_disabled_and_comes_back(house: House, ann: Member) -> None:
    root, name = await house.superadmin(), await house.collection("title")
    await ann.create(name, title="kept")
    robot = Robot(ann, (await api_key(ann))["key"])
    sockets = [await house.socket(who) for who in (ann, robot)]
    await root.request("DELETE", f"/accounts/{ann.account_id}", status=204)
    for socket in sockets:
        assert await socket.ended() == (4504, "account_disabled")
    assert refused(await robot.request("GET", "/auth/me", status=401), 401) == "account_disabled"
    await root.request("PATCH", f"/accounts/{ann.account_id}", json={"is_active": True})
    assert (await ann.request("GET", f"/records/{name}")).json()["total"] == 1
    assert refused(await root.request("DELETE", "/accounts/system", status=409), 409) == "system_account"


# Lists


async def test_users_and_accounts_are_searched_filtered_and_sorted(house: House, ann: Member) -> None:
    root = await house.superadmin()
    for name in ("carl", "bob"):
        await ann.request("POST", "/users", json={"email": f"{name}@example.com", "groups": [name]}, status=201)

    async def emails(query: str) -> list[str]:
        found = (await ann.request("GET", f"/users?{query}")).json()
        assert found["total"] >= len(found["items"])
        return [user["email"].partition("@")[0] for user in found["items"] if user["id"] != ann.id]

    assert await emails("sort=email") == ["bob", "carl"]
    assert await emails("sort_by=email&sort_order=desc") == ["carl", "bob"]
    assert await emails("search=ARL@") == ["carl"]
    assert await emails("role_id=1") == []
    assert await emails("is_active=false") == []
    assert await emails("group=bob") == ["bob"]
    for query, status, code in (
        ("sort=password_hash", 422, "validation_failed"),
        ("sort_by=email&sort_order=up", 422, "validation_failed"),
        ("is_active=perhaps", 400, "invalid_is_active"),
        ("role_id=x", 422, "validation_failed"),
        ("emial=x", 400, "unknown_parameter"),
    ):
        assert refused(await ann.request("GET", f"/users?{query}", status=status), status) == code
    slug = ann.account["slug"]
    found = (await root.request("GET", f"/accounts?search={slug.upper()}&is_active=true&sort_by=name")).json()
    assert [account["id"] for account in found["items"]] == [ann.account_id]
    newest = (await root.request("GET", "/accounts?sort=-account_code&limit=1")).json()["items"]
    assert newest[0]["account_code"] >= ann.account["account_code"]


async def test_a_user_without_a_password_cannot_log_in_until_one_is_set(house: House, ann: Member) -> None:
    made = (await ann.request("POST", "/users", json={"email": "late@example.com"}, status=201)).json()
    body = {"account": ann.account["slug"], "email": "late@example.com", "password": PASSWORD}
    assert refused(await house.client.post(f"{API}/auth/login", json=body), 401) == "invalid_credentials"
    await ann.request("PUT", f"/users/{made['id']}/password", json={"new_password": PASSWORD})
    assert (await house.client.post(f"{API}/auth/login", json=body)).status_code == 200
