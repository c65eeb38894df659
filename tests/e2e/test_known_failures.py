"""What went wrong in other servers, each as a sentence that holds here: live, on return, and for programs that poll.

Every listener is asked for all it heard and for every byte of it: a text that must not be seen may stand nowhere.
"""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.e2e.support import API, OPEN_RULES, House, Member, Messages, fresh, seen

WAYS = ("websocket", "sse", "websocket on return", "sse on return", "polling")
everyway = pytest.mark.parametrize("way", WAYS)
LAST = "the last word"
SECRET = "hush-hush-7f3a"
OWN = f"owner = @request.auth.id || owner = '{LAST}'"


class Ear:
    """One subscription of one user, over one of the ways. What is written between `listen` and `hear` is heard."""

    def __init__(self, house: House, way: str, member: Member, asked: dict[str, Any]) -> None:
        self._house = house
        self._way = way
        self._member = member
        self._asked = asked
        self._since = ""
        self._live: Messages | None = None
        self.raw = b""

    async def listen(self) -> "Ear":
        if self._way in ("websocket", "sse"):
            self._live = await self._house.follow(self._way, self._member, self._asked)
        else:
            self._since = (await self._changes())["position"]
        return self

    async def hear(self) -> list[dict[str, Any]]:
        """Every event up to the last word, which somebody has to write."""
        if self._way == "polling":
            return list((await self._changes())["events"])
        if self._live is None:
            transport = self._way.partition(" ")[0]
            self._live = await self._house.follow(transport, self._member, self._asked | {"since": self._since})
            found = await self._live.until(lambda message: message["type"] == "caught_up")
        else:
            found = await self._live.until(lambda message: LAST in json.dumps(message))
        self.raw += bytes(self._live.raw)
        return [message for message in found if "." in message["type"]]

    async def _changes(self) -> dict[str, Any]:
        query = {**self._asked, "fields": ",".join(self._asked.get("fields", ())), "since": self._since}
        query = {name: value for name, value in query.items() if value and name != "id"}
        answer = await self._member.request("GET", "/realtime/changes", params=query)
        self.raw += answer.content
        return dict(answer.json())


Listen = Callable[..., Awaitable[Ear]]


@pytest.fixture
def listen(house: House, way: str) -> Listen:
    async def begin(member: Member, collection: str, **asked: Any) -> Ear:
        return await Ear(house, way, member, {"collection": collection, **asked}).listen()

    return begin


async def two(house: House, **rules: Any) -> tuple[Member, Member, str]:
    """An admin, a plain user, and a collection of owner, title and secret."""
    admin = await house.founder()
    rules = {**OPEN_RULES, **rules}
    return admin, await house.member(admin), await house.collection("owner", "title", "secret", **rules)


# Rules, on each event ------------------------------------------------------------------------------------------------


@everyway
async def test_the_rule_is_asked_for_every_event_and_not_only_when_somebody_subscribes(
    house: House, listen: Listen
) -> None:
    """SnackBase 0.12 sent every event of the account to every subscriber; a guide told clients to check."""
    admin, user, things = await two(house, list_rule=OWN)
    ear = await listen(user, things)
    await admin.create(things, owner=admin.id, title=SECRET)
    mine = await admin.create(things, owner=user.id, title="mine")
    await admin.update(things, mine["id"], title="still mine")
    await admin.create(things, owner=LAST)

    assert seen((await ear.hear())[:-1]) == [("create", None, "mine"), ("update", None, "still mine")]
    assert SECRET.encode() not in ear.raw


@everyway
async def test_a_delete_is_told_only_to_who_could_see_the_record(house: House, listen: Listen) -> None:
    """Supabase and Directus ask no rule and no filter on a delete."""
    admin, user, things = await two(house, list_rule=OWN)
    hidden = await admin.create(things, owner=admin.id, title=SECRET)
    filtered = await admin.create(things, owner=user.id, title="not asked for")
    mine = await admin.create(things, owner=user.id, title="asked for")
    ear = await listen(user, things, filter=f"title = 'asked for' || owner = '{LAST}'")
    for one in (hidden, filtered, mine):
        await admin.delete(things, one["id"])
    await admin.create(things, owner=LAST)

    assert seen((await ear.hear())[:-1]) == [("delete", None, "asked for")]
    assert not any(text in ear.raw for text in (SECRET.encode(), hidden["id"].encode(), filtered["id"].encode()))


@everyway
async def test_a_record_that_leaves_a_list_shows_its_id_and_nothing_of_what_it_became(
    house: House, listen: Listen
) -> None:
    """PocketBase says nothing at all, so the record stays in the list; others show the new record once."""
    admin, user, things = await two(house, list_rule=OWN)
    mine = await admin.create(things, owner=user.id, title="mine")
    ear = await listen(user, things)
    await admin.update(things, mine["id"], owner=admin.id, title=SECRET)
    await admin.update(things, mine["id"], title=f"{SECRET} again")
    await admin.delete(things, mine["id"])
    await admin.create(things, owner=LAST)

    left, _ = await ear.hear()
    assert (left["type"], left["change"], left["data"]) == (f"{things}.delete", "leave", {"id": mine["id"]})
    assert SECRET.encode() not in ear.raw


@pytest.mark.parametrize("transport", ["websocket", "sse"])
async def test_what_was_missed_is_judged_by_the_rights_of_today_and_never_by_those_of_then(
    house: House, transport: str
) -> None:
    """Centrifugo, Mercure and Supabase replay what was public when it was published."""
    admin, user, things = await two(house)
    since = (await user.request("GET", f"/records/{things}")).json()["position"]
    await admin.create(things, title=SECRET)
    root = await house.superadmin()
    await root.request("PUT", f"/collections/{things}/rules", json={"list_rule": "title = 'open'"})
    ear = await house.follow(transport, user, {"collection": things, "since": since})
    assert (await ear.next())["reason"] == "rights"
    await admin.create(things, title="open")
    assert seen([await ear.next()]) == [("create", None, "open")]
    assert SECRET.encode() not in ear.raw
    answer = await user.request("GET", "/realtime/changes", params={"collection": things, "since": since}, status=410)
    assert (answer.json()["code"], SECRET in answer.text) == ("rights", False)


# Fields --------------------------------------------------------------------------------------------------------------


@everyway
async def test_what_one_client_may_not_see_is_not_cut_out_of_what_another_gets(
    house: House, way: str, listen: Listen
) -> None:
    """Parse cuts fields out of one object that all clients share, while others are still sent it."""
    admin, user, things = await two(house, list_fields="owner,title")
    root = await house.superadmin()
    ears = [await listen(user, things, **asked) for asked in ({}, {"fields": ["owner"]}, {"fields": ["title"]}, {})]
    query = {"account": admin.account["slug"]}
    everything = await house.follow("websocket", root, things, **query)
    for title in ("one", "two"):
        await admin.create(things, owner=user.id, title=title, secret=SECRET)
    await admin.create(things, owner=LAST, title=LAST)

    heard = [await ear.hear() for ear in ears]
    shown = [[set(event["data"]) for event in events] for events in heard]
    assert shown == [[{"id", *names}] * 3 for names in (("owner", "title"), ("owner",), ("title",), ("owner", "title"))]
    assert not any(SECRET.encode() in ear.raw for ear in ears)
    whole = await everything.take(2)
    assert [event["data"]["secret"] for event in whole] == [SECRET, SECRET]


@everyway
async def test_hidden_fields_stand_in_no_old_value_no_delete_and_no_snapshot(house: House, listen: Listen) -> None:
    """Parse's `original` and Supabase's old record held what the new one hid (GHSA-7pr3-p5fm-8r9x and others)."""
    admin, user, things = await two(house, list_fields="owner,title")
    one = await admin.create(things, owner=user.id, title="a", secret=f"{SECRET}1")
    ear = await listen(user, things)
    await admin.update(things, one["id"], secret=f"{SECRET}2")
    await admin.update(things, one["id"], title="b", secret=None)
    await admin.update(things, one["id"], secret=f"{SECRET}3")
    await admin.delete(things, one["id"])
    await admin.create(things, owner=LAST, title=LAST)

    events = await ear.hear()
    assert [event["type"].partition(".")[2] for event in events[:-1]] == ["update"] * 3 + ["delete"]
    assert all(set(event["data"]) == {"id", "owner", "title"} for event in events)
    assert SECRET.encode() not in ear.raw
    for extra in ({"snapshot": True}, {"snapshot": {"sort": "-title"}}):
        first = await house.socket(user)
        await first.send({"action": "subscribe", "collection": things, **extra})
        await first.until(lambda message: message["type"] == "caught_up")
        assert SECRET.encode() not in first.raw


CRAFTED = (
    "{} = 'x'",
    "{} ~ 'h%'",
    "{} IS NULL",
    "!({} != 'x')",
    "title = {}",
    "{} IN ('x')",
    "'x' IN {}",
    "title = 'x' || ({} > 'a')",
    "{}.length > 1",
    "owner.{} = 'x'",
    "meta.{} = 'x'",
    "meta->{} = 'x'",
    "meta['{}'] = 'x'",
    "json_extract(meta, '$.{}') = 'x'",
    "@request.data.{} = 'x'",
    "@request.auth.{} = 'x'",
    "@collection.users.{} = 'x'",
    '"{}" = {}',
    "`{}` = 'x'",
    "[{}] = 'x'",
    "t.{} = 'x'",
    "rowid = {}",
)


async def test_a_filter_tells_nothing_about_hidden_fields_by_any_path(house: House) -> None:
    """A filter over a hidden field answers a question at a time (Parse, Directus, PocketBase before 0.23)."""
    admin, user, things = await two(house, list_fields="owner,title")
    await admin.create(things, owner=user.id, title="a", secret=SECRET)
    socket = await house.socket(user)
    for form in CRAFTED:
        answers = []
        for name in ("secret", "sekret"):
            text = form.replace("{}", name)
            listed = await user.request("GET", f"/records/{things}", params={"filter": text}, status=400)
            told = await socket.ask("subscribe", collection=things, filter=text)
            assert told["code"] == "invalid_filter", told
            stream = await house.refused_stream(
                user, ("subscription", json.dumps({"collection": things, "filter": text}))
            )
            query = {"collection": things, "filter": text}
            polled = await user.request("GET", "/realtime/changes", params=query, status=400)
            body = listed.json()
            texts = [body["message"], body["details"][0]["code"], told["message"], stream.body["message"]]
            answers.append([one.replace(name, "…") for one in (*texts, polled.json()["message"])])
        assert answers[0] == answers[1], form


async def test_sorts_fields_cursors_and_expansions_tell_nothing_about_hidden_fields_either(house: House) -> None:
    _, user, things = await two(house, list_fields="owner,title", view_fields="owner,title")
    for parameter in ("sort", "fields", "expand"):
        answers = []
        for name in ("secret", "sekret"):
            answer = await user.request("GET", f"/records/{things}", params={parameter: name}, status=400)
            answers.append(answer.text.replace(name, "…"))
        assert answers[0] == answers[1], parameter
    socket = await house.socket(user)
    for asked in ({"fields": ["secret"]}, {"fields": "title,secret"}, {"snapshot": {"sort": "secret"}}):
        told = json.dumps(await socket.ask("subscribe", collection=things, **asked))
        other = json.loads(json.dumps(asked).replace("secret", "sekret"))
        assert told.replace("secret", "…") == json.dumps(
            await socket.ask("subscribe", collection=things, **other)
        ).replace("sekret", "…")


# Names ---------------------------------------------------------------------------------------------------------------

NAMES = (
    "",
    "*.*",
    "**",
    "%",
    "users",
    "accounts",
    "sb_users",
    "_users",
    "sqlite_master",
    "sqlite_schema",
    "change_log",
    "pg_catalog",
    "../things",
    "things/..",
    "THINGS",
    "things ",
    " things",
    "things\n",
    "things\0",
    "things.create",
    "things:create",
    "things;DROP TABLE users",
    "things' OR '1'='1",
    'things"',
    "__proto__",
    "constructor",
    "thіngs",  # noqa: RUF001  # a Cyrillic letter
    "ｔhings",  # noqa: RUF001  # a full-width letter
    "thin\u0067\u0301s",
    "\u202ethings",
    "t" * 65,
    "things" * 2000,
)


async def test_a_crafted_collection_name_reaches_nothing_on_any_way_in(house: House) -> None:
    """Advisories about topics: a pattern, a prefix or another spelling opened what a name should not."""
    admin = await house.founder()
    things = await house.collection("title", **OPEN_RULES)
    socket = await house.socket(admin)
    await socket.subscribe(things)
    for name in (name.replace("things", things).replace("THINGS", things.upper()) for name in NAMES):
        told = await socket.ask("subscribe", collection=name)
        assert told["type"] == "error" and told["code"] in ("collection_not_found", "invalid_message"), (name, told)
        refused = await house.refused_stream(admin, ("subscription", json.dumps({"collection": name})))
        assert refused.status in (400, 404), name
        await socket.send({"action": "unsubscribe", "collection": name})
        assert (await socket.next())["type"] in ("unsubscribed", "error")
        changes = await house.client.get(
            f"{API}/realtime/changes", params={"collection": name}, headers={"authorization": f"Bearer {admin.token}"}
        )
        assert changes.status_code in (400, 404), (name, changes.text)
    await admin.create(things, title="here")
    assert seen([await socket.next()]) == [("create", None, "here")]


async def test_a_collection_cannot_be_made_under_a_crafted_name(house: House) -> None:
    root = await house.superadmin()
    things = await house.collection("title")
    for name in (name.replace("things", things) for name in NAMES if name not in ("users", "accounts", "THINGS")):
        answer = await house.client.post(
            f"{API}/collections", json={"name": name}, headers={"authorization": f"Bearer {root.token}"}
        )
        known = name.lower().startswith(("sb_", "sqlite_", "change_", "pg_", "constructor"))
        assert answer.status_code in ((201, 422) if known else (409, 422)), (name, answer.text)
        if answer.status_code == 201:
            await root.request("DELETE", f"/collections/{name}")
    taken = {"name": things.upper()}
    assert (await root.request("POST", "/collections", json=taken, status=409)).json()["code"] == "name_taken"


@pytest.mark.parametrize("name", ["users", "accounts", "roles", "sqlite_master", "change_log"])
async def test_a_collection_of_a_system_tables_name_is_a_table_of_its_own(house: House, name: str) -> None:
    """It holds what was written to it, and nothing of the server's."""
    root, admin = await house.superadmin(), await house.founder()
    answer = await house.client.post(
        f"{API}/collections",
        json={"name": name, "schema": [{"name": "email", "type": "text"}], **OPEN_RULES},
        headers={"authorization": f"Bearer {root.token}"},
    )
    if answer.status_code == 422:
        return
    assert answer.status_code == 201, answer.text
    try:
        socket = await house.socket(admin)
        await socket.subscribe(name)
        await house.member(admin)
        assert (await admin.request("GET", f"/records/{name}")).json()["total"] == 0
        made = await admin.create(name, email="x@example.com")
        assert (await socket.next())["data"]["id"] == made["id"]
    finally:
        await root.request("DELETE", f"/collections/{name}")


async def test_system_tables_cannot_be_referred_to_or_expanded_into(house: House) -> None:
    root, admin = await house.superadmin(), await house.founder()
    for target in ("users", "sb_users", "accounts", "sqlite_master", "roles"):
        field = {"name": "who", "type": "reference", "collection": target}
        body = {"name": fresh("refers"), "schema": [field]}
        answer = await root.request("POST", "/collections", json=body, status=422)
        assert answer.json()["details"][0]["code"] == "collection_not_found"
    things = await house.collection("title", **OPEN_RULES)
    made = await admin.create(things, title="x")
    for path in ("created_by", "account_id", "id", "created_by.password", "users"):
        for place in (things, f"{things}/{made['id']}"):
            answer = await admin.request("GET", f"/records/{place}", params={"expand": path}, status=400)
            assert answer.json()["code"] == "invalid_expand"


# People --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", ["websocket", "sse"])
async def test_a_suspended_user_receives_nothing_more_live_on_return_or_by_polling(
    house: House, transport: str
) -> None:
    """Directus, Hasura and Mercure leave open connections as they were until the token expires."""
    admin, user, things = await two(house)
    ear = await house.follow(transport, user, things)
    since = (await user.request("GET", f"/records/{things}")).json()["position"]
    await admin.request("PATCH", f"/users/{user.id}", json={"is_active": False})
    await admin.create(things, title=SECRET)
    ended = (await ear.rest())[-1]
    assert (ended["code"], ended["close_code"]) == ("user_disabled", 4503)
    assert SECRET.encode() not in ear.raw
    asked = {"collection": things, "since": since}
    answer = await user.request("GET", "/realtime/changes", params=asked, status=401)
    assert SECRET not in answer.text
    if transport == "sse":
        refused = await house.refused_stream(user, ("collection", things), ("since", since))
        assert refused.status == 401
    else:
        assert (await house.refused_socket(user)).status == 401


@everyway
async def test_a_role_is_its_name_everywhere_and_its_number_nowhere(house: House, way: str, listen: Listen) -> None:
    """One path compared the role's id and another its name, so that a role called `2` was everybody's."""
    admin = await house.founder()
    root = await house.superadmin()
    named = (await root.request("POST", "/roles", json={"name": fresh("7")}, status=201)).json()
    wanted = f"@has_role('{named['name']}')"
    rules: dict[str, Any] = {"list_rule": f"{wanted} || title = '{LAST}'", "view_rule": wanted, "create_rule": ""}
    by_name = await house.collection("title", **rules)
    numbers = " || ".join(f"@request.auth.role = '{one}'" for one in (1, 2, named["id"]))
    rules = {"list_rule": f"{numbers} || title = '{LAST}'", "view_rule": numbers, "create_rule": ""}
    by_number = await house.collection("title", **rules)
    user = await house.member(admin, role_id=named["id"])
    ears = [await listen(user, by_name), await listen(user, by_number), await listen(admin, by_number)]
    for things in (by_name, by_number):
        for title in (SECRET, LAST):
            made = await admin.create(things, title=title)
            if title == SECRET:
                await user.request("GET", f"/records/{things}/{made['id']}", status=200 if things == by_name else 404)
        listed = (await user.request("GET", f"/records/{things}")).json()["total"]
        assert listed == (2 if things == by_name else 1)
    heard = [[event["data"]["title"] for event in await ear.hear()] for ear in ears]
    assert heard == [[SECRET, LAST], [LAST], [LAST]]
