"""Code of one's own that writes and answers: `app.records`, `app.route`, in a server and mounted (contract §9)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount

from snackbase import ConfigError, HookAbort, Settings, SnackBase
from snackbase.errors import Conflict, NotFound, Unauthorized
from snackbase.services.own import MAX_DEPTH
from tests.e2e.conftest import MakeHouse

WRITING = """
from snackbase import SnackBase

app = SnackBase()

@app.hook.on_record_after_create(collection="posts")
async def audit(record, context):
    await app.records.create("audits", {"title": "made " + record["title"]}, account=context.account_id)

@app.hook.on_record_before_create(collection="posts")
async def stamp(data, context):
    data["note"] = (await app.records.list("notes", as_user=context.principal, limit=1)).items[0]["title"]

@app.hook.on_record_after_create(collection="loops")
async def loop(context, record):
    await app.records.create("loops", {"title": record["title"] + "."}, account=context.account_id)

@app.route("/hello/{name}", methods=["GET", "POST"])
async def hello(request):
    who = request.state.principal
    made = await app.records.create("audits", {"title": request.path_params["name"]}, as_user=who)
    return {"by": made["created_by"], "id": made["id"]}
"""
CREDENTIALS = {"email": "root@example.com", "password": "a-password-for-tests-only"}


async def test_what_a_hook_writes_reaches_the_subscribers_of_its_account_once(
    make_house: MakeHouse, tmp_path: Path
) -> None:
    folder = tmp_path / "writing"
    folder.mkdir()
    (folder / "main.py").write_text(WRITING)
    house = await make_house(folder=folder, arguments=("serve", "main:app"))
    ann, bob = await house.founder("ann"), await house.founder("bob")
    for name in ("audits", "notes", "loops"):
        await house.collection("title", name=name)
    await house.collection("title", "note", name="posts")
    for who, word in ((ann, "ann's"), (bob, "bob's")):
        await who.create("notes", title=word)
    heard = [await house.follow(transport, ann, "posts", "audits") for transport in ("websocket", "sse")]
    others = await house.follow("websocket", bob, "*")
    post = await ann.create("posts", title="a")
    assert post["note"] == "ann's"
    for one in heard:
        events = await one.take(2)
        assert [(event["type"], event["data"]["title"]) for event in events] == [
            ("posts.create", "a"),
            ("audits.create", "made a"),
        ]
        assert events[1]["data"]["created_by"] is None
        assert events[1]["data"]["account_id"] == ann.account_id
    await bob.create("notes", title="mine")
    assert (await others.next())["data"]["title"] == "mine"
    answer = await house.client.get("/hello/there", headers={"authorization": f"Bearer {ann.token}"})
    assert answer.json()["by"] == ann.id
    for one in heard:
        assert (await one.next())["data"]["id"] == answer.json()["id"]


async def test_hooks_that_set_off_each_other_are_stopped(make_house: MakeHouse, tmp_path: Path) -> None:
    folder = tmp_path / "looping"
    folder.mkdir()
    (folder / "main.py").write_text(WRITING)
    house = await make_house(folder=folder, arguments=("serve", "main:app"))
    ann = await house.founder("ann")
    await house.collection("title", name="loops")
    heard = await house.follow("websocket", ann, "loops")
    await ann.create("loops", title="")
    titles = [event["data"]["title"] for event in await heard.take(MAX_DEPTH + 1)]
    assert titles == ["." * number for number in range(MAX_DEPTH + 1)]
    async with asyncio.timeout(30):
        while "hook_failed" not in house.server.output:  # noqa: ASYNC110  # nothing else tells of the last hook's end
            await asyncio.sleep(0.02)
    assert (await ann.request("GET", "/records/loops")).json()["total"] == MAX_DEPTH + 1


# In this process ---------------------------------------------------------------------------------------------------


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[SnackBase]:
    made = SnackBase(
        Settings(
            database_url=f"sqlite:///{tmp_path}/snackbase.db",
            superadmin_email=CREDENTIALS["email"],
            superadmin_password=CREDENTIALS["password"],
        )
    )
    yield made
    await made.stop()


@asynccontextmanager
async def client_of(app: Any, base: str = "") -> AsyncIterator[httpx.AsyncClient]:
    """A client that is logged in as the superadmin, with the collection `posts`."""
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url=f"http://127.0.0.1:8000{base}") as client:
        login = await client.post("/api/v1/auth/login", json=CREDENTIALS)
        client.headers["authorization"] = f"Bearer {login.json()['token']}"
        fields = [{"name": "title", "type": "text", "required": True}]
        await client.post("/api/v1/collections", json={"name": "posts", "schema": fields})
        yield client


async def test_the_applications_own_code_does_everything_that_rest_does(app: SnackBase) -> None:
    async with client_of(app) as client:
        founded = (
            await client.post(
                "/api/v1/auth/register",
                json={"email": "ann@example.com", "password": "a-password-of-ann", "account_name": "Ann"},
            )
        ).json()
        slug, ann = founded["account"]["slug"], founded["user"]["id"]
        made = await app.records.create("posts", {"title": "a"}, account=slug)
        hers = await app.records.create("posts", {"title": "b"}, as_user=ann)
        assert (made["created_by"], hers["created_by"]) == (None, ann)
        assert made["account_id"] == hers["account_id"] == founded["account"]["id"]
        changed = await app.records.update(
            "posts", made["id"], {"title": "c"}, account=founded["account"]["account_code"]
        )
        assert changed["title"] == "c"
        assert (await app.records.get("posts", made["id"], as_user=ann)) == changed
        listing = await app.records.list("posts", account=slug, sort="title", filter="title > 'a'", limit=1)
        assert (listing.total, listing.items[0]["title"], listing.has_more) == (2, "b", True)
        await app.records.delete("posts", made["id"], as_user=ann)
        with pytest.raises(NotFound):
            await app.records.get("posts", made["id"], account=slug)


async def test_acting_as_a_user_obeys_the_rules_and_acting_as_itself_does_not(app: SnackBase) -> None:
    async with client_of(app) as client:
        founding = {"email": "ann@example.com", "password": "a-password-of-ann", "account_name": "Ann"}
        founded = (await client.post("/api/v1/auth/register", json=founding)).json()
        await client.put("/api/v1/collections/posts", json={"list_rule": None, "create_rule": None})
        await app.records.create("posts", {"title": "a"}, account=founded["account"]["slug"])
        for refused in (
            app.records.create("posts", {"title": "b"}, as_user=founded["user"]["id"]),
            app.records.list("posts", as_user=founded["user"]["id"]),
        ):
            with pytest.raises(Exception, match="locked"):
                await refused
        await client.delete(f"/api/v1/users/{founded['user']['id']}")
        with pytest.raises(Unauthorized):
            await app.records.list("posts", as_user=founded["user"]["id"])


async def test_whom_it_acts_for_has_to_be_said(app: SnackBase) -> None:
    with pytest.raises(RuntimeError, match="started"):
        await app.records.list("posts", account="system")
    async with client_of(app):
        with pytest.raises(ValueError, match="which account"):
            await app.records.list("posts")
        with pytest.raises(NotFound, match="no active account"):
            await app.records.list("posts", account="nobody")
        assert (await app.records.list("posts", account="system")).total == 0


async def test_a_before_hook_may_write_and_what_it_may_not_do_is_told_in_the_log(app: SnackBase) -> None:
    caught = []

    @app.hook.on_record_before_create(collection="posts")
    async def recursing(data: dict[str, Any], context: Any) -> None:
        try:
            await app.records.create("posts", {"title": data["title"] + "."}, account=context.account_id)
        except Conflict as error:
            caught.append(error.code)

    async with client_of(app) as client:
        answer = await client.post("/api/v1/records/posts", json={"title": "a"})
        listing = await client.get("/api/v1/records/posts", params={"limit": 100})

    assert answer.status_code == 201
    assert (caught, listing.json()["total"]) == (["hook_recursion"], MAX_DEPTH + 1)


# Endpoints -----------------------------------------------------------------------------------------------------------


def with_endpoints(app: SnackBase) -> SnackBase:
    @app.route("/who")
    async def who(request: Request) -> dict[str, Any]:
        return {"id": request.state.principal.actor_id, "superadmin": request.state.principal.superadmin}

    @app.route("/maybe", auth="optional")
    async def maybe(request: Request) -> Any:
        return request.state.principal and request.state.principal.kind

    @app.route("/open/{number:int}", methods=["POST"], auth="none")
    def blocking(request: Request) -> PlainTextResponse:
        return PlainTextResponse(f"{request.path_params['number']} {request.state.principal}", 202)

    @app.route("/refuses", auth="none")
    async def refuses(request: Request) -> None:
        raise HookAbort("Not today.", "closed_today", status=409)

    @app.route("/breaks", auth="none")
    async def breaks(request: Request) -> None:
        raise RuntimeError("secret detail")

    return app


async def test_an_endpoint_knows_who_asks_and_answers_in_its_own_way(app: SnackBase) -> None:
    async with client_of(with_endpoints(app)) as client:
        token = client.headers.pop("authorization")
        known = {"authorization": token}
        assert (await client.get("/who", headers=known)).json()["superadmin"] is True
        refused = await client.get("/who")
        assert (refused.status_code, refused.json()["code"]) == (401, "token_missing")
        assert (await client.get("/maybe")).status_code == 204
        assert (await client.get("/maybe", headers={"x-account-id": "system"})).json() == "guest"
        assert (await client.get("/maybe", headers=known)).json() == "user"
        assert (await client.get("/maybe", headers={"authorization": "Bearer wrong"})).status_code == 401
        opened = await client.post("/open/7")
        assert (opened.status_code, opened.text) == (202, "7 None")
        assert (await client.get("/open/7")).status_code == 405
        closed = await client.get("/refuses")
        assert (closed.status_code, closed.json()["code"]) == (409, "closed_today")
        broken = await client.get("/breaks")
        assert (broken.status_code, broken.json()["code"]) == (500, "internal_error")
        assert "secret detail" not in broken.text


async def test_an_endpoint_that_would_never_be_asked_is_refused_at_the_start(app: SnackBase) -> None:
    @app.route("/api/v1/collections", auth="none")
    async def shadowed(request: Request) -> None: ...

    with pytest.raises(ConfigError, match=r"/api/v1/collections.*answers this path itself"):
        await app.start()


async def test_mistakes_in_an_endpoint_are_told_where_they_stand(app: SnackBase) -> None:
    with pytest.raises(ValueError, match="slash"):
        app.route("hello")
    with pytest.raises(ValueError, match="methods"):
        app.route("/hello", methods="GET")
    with pytest.raises(ValueError, match="auth"):
        app.route("/hello", auth="sometimes")  # type: ignore[arg-type]  # the mistake
    async with client_of(app):
        with pytest.raises(RuntimeError, match="before the application starts"):
            app.route("/late")


async def test_mounted_in_another_application_its_endpoints_stand_below_its_path(app: SnackBase) -> None:
    async with client_of(Starlette(routes=[Mount("/base", with_endpoints(app))]), base="/base") as client:
        assert (await client.get("/who")).json()["superadmin"] is True
        assert (await client.post("/open/1")).status_code == 202
        made = await client.post("/api/v1/records/posts", json={"title": "a"})
        assert (await client.get(f"/api/v1/records/posts/{made.json()['id']}")).json() == made.json()
        assert (await client.get("/nothing")).json()["code"] == "route_not_found"
