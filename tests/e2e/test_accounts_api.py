"""Logins, users, accounts and roles over HTTP: the shapes of the contract, and refusals that tell nothing."""

import uuid
from typing import Any

import httpx
import jwt
import pytest

from tests.e2e.conftest import MakeHouse
from tests.e2e.support import API, House, Member, fresh, remember

SYSTEM_ACCOUNT_ID = "00000000-0000-0000-0000-000000000000"
PASSWORD = remember("a-password-of-this-file")
MORE_LOGIN_KEYS = {"token", "refresh_token", "token_type", "expires_in", "account", "user"}


@pytest.fixture
async def ann(house: House) -> Member:
    return await house.founder("ann")


async def login(house: House, account: str | None, email: str, password: str = PASSWORD) -> httpx.Response:
    return await house.client.post(f"{API}/auth/login", json={"account": account, "email": email, "password": password})


async def me(house: House, token: str, **headers: str) -> httpx.Response:
    return await house.client.get(f"{API}/auth/me", headers={"authorization": f"Bearer {token}", **headers})


def code(answer: httpx.Response, status: int) -> str:
    """The code of a refusal, whose body has the one shape of an error."""
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert {"error", "message", "detail", "code", "details"} <= body.keys()
    assert (status == 401) == ("www-authenticate" in answer.headers)
    return str(body["code"])


# Logins


async def test_registering_answers_with_the_account_the_user_and_the_tokens(house: House) -> None:
    slug = fresh("acme").lower()
    body = {"email": "Ada@Example.com", "password": PASSWORD, "account_name": "Acme", "account_slug": slug}
    answer = await house.client.post(f"{API}/auth/register", json=body)
    assert answer.status_code == 201
    assert answer.headers["cache-control"] == "no-store"
    told = answer.json()
    assert told.keys() == MORE_LOGIN_KEYS | {"message"}
    assert told["account"].keys() >= {"id", "account_code", "slug", "name", "created_at"}
    assert told["user"].keys() >= {"id", "account_id", "email", "role", "groups", "is_active", "created_at"}
    assert (told["account"]["slug"], told["user"]["email"], told["user"]["role"]) == (slug, "ada@example.com", "admin")
    assert told["user"]["account_id"] == told["account"]["id"] == str(uuid.UUID(told["account"]["id"]))
    again = await house.client.post(f"{API}/auth/register", json=body)
    assert code(again, 409) == "slug_taken"
    assert [detail["field"] for detail in again.json()["details"]] == ["account_slug"]


async def test_a_login_answers_with_the_shape_of_the_contract(house: House, ann: Member) -> None:
    answer = await login(house, ann.account["account_code"], ann.email, ann.password)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    told = answer.json()
    assert told.keys() == MORE_LOGIN_KEYS
    assert (told["token_type"], told["expires_in"]) == ("bearer", 3600)
    assert told["user"]["id"] == ann.id
    claims = jwt.decode(told["token"], options={"verify_signature": False})
    assert claims.keys() == {
        *("iss", "sub", "iat", "exp", "jti", "sid", "type"),
        *("user_id", "account_id", "email", "role"),
    }
    assert jwt.decode(told["refresh_token"], options={"verify_signature": False})["type"] == "refresh"


async def test_every_failed_login_gets_the_same_bytes(house: House, ann: Member) -> None:
    slug = ann.account["slug"]
    answers = [
        await login(house, slug, ann.email, "a-wrong-password"),
        await login(house, slug, "nobody@example.com", ann.password),
        await login(house, "nowhere", ann.email, ann.password),
        await login(house, None, ann.email, ann.password),
        await login(house, slug, ann.email, "x" * 100_000),
    ]
    assert {code(answer, 401) for answer in answers} == {"invalid_credentials"}
    assert len({answer.content for answer in answers}) == 1


async def test_too_many_failed_logins_are_429_with_retry_after(make_house: MakeHouse) -> None:
    house = await make_house(LOGIN_ATTEMPTS_PER_MINUTE=2)
    ann = await house.founder("ann")
    for _ in range(2):
        assert code(await login(house, ann.account["slug"], ann.email, "a-wrong-password"), 401)
    answer = await login(house, ann.account["slug"], ann.email, ann.password)
    assert code(answer, 429) == "rate_limited"
    assert 1 <= int(answer.headers["retry-after"]) <= 30


async def test_a_refresh_rotates_and_a_reused_one_ends_every_login(house: House, ann: Member) -> None:
    other = await ann.login_again()
    first = await house.client.post(f"{API}/auth/refresh", json={"refresh_token": ann.refresh_token})
    assert first.status_code == 200
    assert first.headers["cache-control"] == "no-store"
    assert first.json().keys() == MORE_LOGIN_KEYS
    assert (await me(house, remember(first.json()["token"]))).status_code == 200
    second = await house.client.post(f"{API}/auth/refresh", json={"refresh_token": ann.refresh_token})
    assert code(second, 401) == "token_revoked"
    for token in (ann.token, other.token, first.json()["token"]):
        assert code(await me(house, token), 401) == "token_revoked"


async def test_a_refresh_does_not_look_at_the_token_in_the_header(house: House, ann: Member) -> None:
    """The SDK sends its expired access token along."""
    answer = await house.client.post(
        f"{API}/auth/refresh",
        json={"refresh_token": ann.refresh_token},
        headers={"authorization": "Bearer expired", "x-api-key": "other"},
    )
    assert answer.status_code == 200


async def test_each_kind_of_bad_token_is_401_with_its_word(house: House, ann: Member) -> None:
    assert code(await house.client.get(f"{API}/auth/me"), 401) == "token_missing"
    head, payload, signature = ann.token.split(".")
    unsigned = jwt.encode(jwt.decode(ann.token, options={"verify_signature": False}), "", algorithm="none")
    for token in (ann.refresh_token, unsigned, f"{head}.{payload}.{signature[:-6]}AAAAAA", "nonsense", "sb_ak.x.y"):
        assert code(await me(house, token), 401) == "token_invalid"
    conflict = await me(house, ann.token, **{"x-api-key": "another"})
    assert code(conflict, 400) == "token_conflict"


async def test_me_tells_who_one_is(house: House, ann: Member) -> None:
    told = (await me(house, ann.token)).json()
    expected = {"user_id": ann.id, "account_id": ann.account_id, "email": ann.email, "role": "admin", "groups": []}
    assert {name: told[name] for name in expected} == expected
    assert (told["user"], told["account"]["slug"]) == (ann.user, ann.account["slug"])


async def test_a_logout_ends_the_login_and_its_connections(house: House, ann: Member) -> None:
    other = await ann.login_again()
    leaving, staying = await house.socket(ann), await house.socket(other)
    await ann.request("POST", "/auth/logout", json={}, status=200)
    assert await leaving.ended() == (4502, "token_revoked")
    assert code(await me(house, ann.token), 401) == "token_revoked"
    assert (await staying.ask("ping"))["type"] == "pong"
    assert (await me(house, other.token)).status_code == 200


async def test_a_changed_password_ends_all_other_logins_and_their_connections(house: House, ann: Member) -> None:
    other = await ann.login_again()
    staying, leaving = await house.socket(ann), await house.socket(other)
    new = remember("another-password-of-this-file")
    wrong = await ann.request("POST", "/auth/password", json={"old_password": "x", "new_password": new}, status=422)
    assert [detail["code"] for detail in wrong.json()["details"]] == ["wrong_password"]
    await ann.request("POST", "/auth/password", json={"old_password": ann.password, "new_password": new}, status=200)
    assert await leaving.ended() == (4502, "token_revoked")
    assert (await staying.ask("ping"))["type"] == "pong"
    assert code(await login(house, ann.account["slug"], ann.email, ann.password), 401)
    assert (await login(house, ann.account["slug"], ann.email, new)).status_code == 200


@pytest.mark.parametrize(
    ("path", "body", "fields"),
    [
        ("/auth/login", {}, ["email"]),
        ("/auth/login", {"email": 7, "password": "x"}, ["email"]),
        ("/auth/login", {"email": "a@b.example"}, ["password"]),
        ("/auth/login", [], []),
        ("/auth/register", {"email": "x", "password": PASSWORD, "account_name": "A"}, ["email"]),
        ("/auth/register", {"email": "a@b.example", "password": "short", "account_name": "A"}, ["password"]),
        ("/auth/register", {"email": "a@b.example", "password": PASSWORD}, ["account_name"]),
        ("/auth/refresh", {}, ["refresh_token"]),
        ("/auth/refresh", {"refresh_token": None}, ["refresh_token"]),
    ],
)
async def test_a_body_of_the_wrong_shape_names_the_field(
    house: House, path: str, body: object, fields: list[str]
) -> None:
    answer = await house.client.post(f"{API}{path}", json=body)
    assert code(answer, 422) == "validation_failed"
    assert [detail["field"] for detail in answer.json()["details"]] == fields


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff", b'{"email":"\\ud800","password":"x"}', b'{"email":' + b"[" * 100_000, b"null"]
)
async def test_no_body_of_a_login_is_a_500(house: House, body: bytes) -> None:
    answer = await house.client.post(f"{API}/auth/login", content=body)
    assert answer.status_code in (400, 422)


async def test_no_text_of_a_login_is_a_500(house: House, ann: Member) -> None:
    for text in ("\x00", "😀" * 1000, "' OR '1'='1", "%00", "a\r\nb: c", "\u202e", "ﬃ@example.com"):
        assert code(await login(house, text, ann.email), 401)
        assert code(await login(house, ann.account["slug"], text, text), 401)
        assert code(await me(house, ann.token, **{"x-account-id": text.encode().hex()}), 403)


# Joining


async def test_a_closed_account_is_not_joined_and_an_open_one_is(house: House, ann: Member) -> None:
    body = {"email": "bob@example.com", "password": PASSWORD, "account": ann.account["slug"]}
    assert code(await house.client.post(f"{API}/auth/register", json=body), 403) == "registration_closed"
    root = await house.superadmin()
    await root.request("PATCH", f"/accounts/{ann.account_id}", json={"registration": "open"})
    answer = await house.client.post(f"{API}/auth/register", json=body)
    assert answer.status_code == 201
    assert (answer.json()["user"]["role"], answer.json()["account"]["id"]) == ("user", ann.account_id)
    assert code(await house.client.post(f"{API}/auth/register", json=body), 409) == "email_taken"


async def test_with_a_single_tenant_nobody_names_an_account(make_house: MakeHouse) -> None:
    house = await make_house(SINGLE_TENANT_ACCOUNT="home")
    body = {"email": "bob@example.com", "password": PASSWORD, "account_name": "ignored"}
    joined = await house.client.post(f"{API}/auth/register", json=body)
    assert joined.status_code == 201
    assert joined.json()["account"]["slug"] == "home"
    assert (await login(house, None, "bob@example.com")).status_code == 200


# Users


async def test_an_admin_makes_changes_and_disables_a_user(house: House, ann: Member) -> None:
    email = f"{fresh('bob')}@example.com"
    body: dict[str, Any] = {"email": email, "password": PASSWORD, "account_id": ann.account_id, "role_id": 2}
    made = (await ann.request("POST", "/users", json={**body, "groups": ["staff"]}, status=201)).json()
    assert (made["email"], made["role"], made["groups"], made["is_active"]) == (email, "user", ["staff"], True)
    assert (await ann.request("POST", "/users", json=body, status=409)).json()["code"] == "email_taken"
    listed = (await ann.request("GET", "/users")).json()
    assert (listed["total"], {user["id"] for user in listed["items"]}) == (2, {ann.id, made["id"]})
    assert (await ann.request("GET", f"/users/{made['id']}")).json() == made

    bob = await house.login(ann.account["slug"], email, PASSWORD)
    socket = await house.socket(bob)
    changed = (await ann.request("PATCH", f"/users/{made['id']}", json={"role": "admin", "groups": []})).json()
    assert (changed["role"], changed["groups"]) == ("admin", [])
    assert (await me(house, bob.token)).json()["role"] == "admin"
    await ann.request("DELETE", f"/users/{made['id']}", status=204)
    assert await socket.ended() == (4503, "user_disabled")
    assert code(await me(house, bob.token), 401) == "user_disabled"
    assert code(await login(house, ann.account["slug"], email), 401) == "invalid_credentials"


async def test_a_password_set_by_an_admin_ends_the_logins(house: House, ann: Member) -> None:
    bob = await house.member(ann)
    new = remember("a-password-set-by-an-admin")
    await ann.request("PUT", f"/users/{bob.id}/password", json={"new_password": new}, status=200)
    assert code(await me(house, bob.token), 401) == "token_revoked"
    assert (await login(house, ann.account["slug"], bob.email, new)).status_code == 200


async def test_users_of_other_accounts_are_404_and_members_manage_nobody(house: House, ann: Member) -> None:
    eve, bob = await house.founder("eve"), await house.member(ann)
    for method, path, body in [
        ("GET", "", None),
        ("PATCH", "", {"is_active": False}),
        ("DELETE", "", None),
        ("PUT", "/password", {"new_password": PASSWORD}),
    ]:
        answer = await eve.request(method, f"/users/{ann.id}{path}", json=body, status=404)
        assert answer.json()["code"] == "user_not_found"
        await bob.request(method, f"/users/{ann.id}{path}", json=body, status=403)
    await bob.request("GET", "/users", status=403)
    await eve.request("GET", f"/accounts/{ann.account_id}/users", status=403)
    body = {"email": "x@y.example", "password": PASSWORD, "account_id": ann.account_id}
    await eve.request("POST", "/users", json=body, status=403)
    await eve.request("POST", "/users", json={**body, "account_id": SYSTEM_ACCOUNT_ID}, status=403)


async def test_roles_are_listed(ann: Member) -> None:
    told = (await ann.request("GET", "/roles")).json()
    assert [(role["id"], role["name"]) for role in told["items"][:2]] == [(1, "admin"), (2, "user")]
    assert told["total"] == len(told["items"])
    assert told["items"][0].keys() >= {"id", "name", "description"}


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=101", "limit=x", "skip=-1", "page=0", "limit=²", "skip=" + "9" * 5000]
)
async def test_a_page_out_of_range_names_the_parameter(ann: Member, query: str) -> None:
    answer = await ann.request("GET", f"/users?{query}", status=422)
    assert [detail["field"] for detail in answer.json()["details"]] == [query.partition("=")[0]]


async def test_users_come_in_pages(house: House, ann: Member) -> None:
    members = [await house.member(ann) for _ in range(2)]
    everybody = {ann.id, *(member.id for member in members)}
    pages = [(await ann.request("GET", f"/users?page={page}&page_size=2")).json() for page in (1, 2)]
    assert [len(page["items"]) for page in pages] == [2, 1]
    assert {user["id"] for page in pages for user in page["items"]} == everybody
    skipped = (await ann.request("GET", "/users?skip=2&limit=2")).json()
    assert skipped == {"items": pages[1]["items"], "total": 3}


# Accounts


async def test_accounts_are_for_superadmins(house: House, ann: Member) -> None:
    root = await house.superadmin()
    made = (await root.request("POST", "/accounts", json={"name": "New Name"}, status=201)).json()
    assert made.keys() >= {"id", "account_code", "slug", "name", "created_at", "is_active", "registration"}
    assert (await root.request("GET", f"/accounts/{made['slug']}")).json() == made
    renamed = (await root.request("PUT", f"/accounts/{made['id']}", json={"name": "Other"})).json()
    assert (renamed["name"], renamed["slug"]) == ("Other", made["slug"])
    assert (await root.request("GET", "/accounts?limit=1")).json()["total"] >= 3
    assert (await root.request("GET", f"/accounts/{ann.account_id}/users")).json()["items"][0]["id"] == ann.id
    await ann.request("GET", "/accounts", status=403)
    await ann.request("POST", "/accounts", json={"name": "New"}, status=403)
    await ann.request("PATCH", f"/accounts/{ann.account_id}", json={"is_active": False}, status=403)
    await ann.request("DELETE", f"/accounts/{ann.account_id}", status=403)
    await ann.request("PATCH", f"/accounts/{made['id']}", json={"registration": "open"}, status=404)
    assert (await ann.request("GET", f"/accounts/{ann.account_id}")).json()["id"] == ann.account_id
    await ann.request("GET", f"/accounts/{made['id']}", status=404)


async def test_a_disabled_account_ends_its_connections_and_is_out(house: House, ann: Member) -> None:
    root = await house.superadmin()
    socket = await house.socket(ann)
    await root.request("PATCH", f"/accounts/{ann.account_id}", json={"is_active": False})
    assert await socket.ended() == (4504, "account_disabled")
    assert code(await me(house, ann.token), 401) == "account_disabled"
    assert code(await login(house, ann.account["slug"], ann.email, ann.password), 401) == "invalid_credentials"
    await root.request("PATCH", f"/accounts/{ann.account_id}", json={"is_active": True})
    assert (await me(house, ann.token)).status_code == 200


async def test_only_a_superadmin_acts_in_an_account_by_header(house: House, ann: Member) -> None:
    root, eve = await house.superadmin(), await house.founder("eve")
    named = {"x-account-id": ann.account["slug"]}
    assert (await root.request("GET", "/users", headers=named)).json()["total"] == 1
    assert code(await me(house, eve.token, **named), 403) == "forbidden"
    assert (await me(house, ann.token, **named)).status_code == 200
    unknown = await house.client.get(
        f"{API}/users", headers={"authorization": f"Bearer {root.token}", "x-account-id": "nowhere"}
    )
    assert code(unknown, 404) == "account_not_found"
    made = await root.request("POST", "/users", json={"email": "x@y.example", "password": PASSWORD}, status=422)
    assert [detail["field"] for detail in made.json()["details"]] == ["account_id"]
