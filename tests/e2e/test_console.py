"""The admin console as its users have it: a real browser, a real server, everything done by label and role."""

import json
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from types import ModuleType
from typing import Any

import pytest

from tests.conftest import MakeServer
from tests.e2e.conftest import MakeHouse
from tests.e2e.support import House, Member, fresh
from tests.e2e.test_mounted import STARLETTE
from tests.support.browser import Page, open_page
from tests.support.node import JS, MODULES
from tests.support.server import ServerProcess, free_port

XSS = "<img src=x onerror=\"report('xss')\"><script>report('xss')</script><b>bold</b> & \"quoted\""
STORED = "JSON.parse(sessionStorage.getItem(Object.keys(sessionStorage).find((key) => key.startsWith('snackbase'))))"


def labelled(text: str, inside: str) -> str:
    """Playwright's selector for the control with this label."""
    return f"{inside} >> internal:label={json.dumps(text)}s >> nth=0"


class Console:
    """One person's browser with the console open."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url

    async def sign_in(self, account: str, email: str, password: str) -> None:
        await self.fill("Account", account)
        await self.fill("E-mail", email)
        await self.fill("Password", password)
        await self.page.act("press", labelled("Password", "form"), "Enter")

    async def enter(self, member: Member) -> None:
        await self.sign_in(member.account["slug"], member.email, member.password)
        await self.heading("Collections")

    async def fill(self, label: str, text: str, *, inside: str = "body") -> None:
        """Fill the control whose label has exactly this text."""
        await self.page.act("fill", labelled(label, inside), text)

    async def field(self, label: str, text: str) -> None:
        """The same in a dialog."""
        await self.fill(label, text, inside="dialog")

    async def choose(self, label: str, option: str, *, inside: str = "main") -> None:
        await self.page.act("selectOption", labelled(label, inside), option)

    async def check(self, label: str, *, inside: str) -> None:
        await self.page.act("check", labelled(label, inside))

    async def press(self, name: str, *, inside: str = "") -> None:
        await self.page.act("click", f"{inside + ' >> ' if inside else ''}role=button[name={json.dumps(name)}]")

    async def follow(self, name: str, *, inside: str = "") -> None:
        await self.page.act("click", f"{inside + ' >> ' if inside else ''}role=link[name={json.dumps(name)}]")

    async def goto(self, place: str) -> None:
        await self.page.evaluate(f"location.hash = {json.dumps('#/' + place)}")

    async def until(self, expression: str) -> None:
        """Until an expression in the page is true."""
        await self.page.evaluate(f"while (!({expression})) await new Promise((resolve) => setTimeout(resolve, 20));")

    async def heading(self, text: str) -> None:
        await self.until(f"document.querySelector('main h1')?.textContent === {json.dumps(text)}")

    async def is_told(self, text: str) -> None:
        """Until the text can be seen somewhere."""
        await self.until(f"document.body.innerText.includes({json.dumps(text)})")

    async def live(self) -> None:
        await self.until("document.querySelector('.connection')?.dataset.state === 'open'")

    async def table(self) -> list[list[str]]:
        """The records shown: id, then every column."""
        shown: list[list[str]] = await self.page.evaluate(
            "return [...document.querySelectorAll('.records tbody tr[data-id]')]"
            ".map((row) => [row.dataset.id, ...[...row.cells].slice(1, -1).map((one) => one.title || one.textContent)])"
        )
        return shown

    async def shows(self, *ids: str) -> None:
        """Until the records shown are these, in this order."""
        rows = "[...document.querySelectorAll('.records tbody tr[data-id]:not(.delete)')].map((row) => row.dataset.id)"
        try:
            await self.until(f"JSON.stringify({rows}) === {json.dumps(json.dumps(list(ids), separators=(',', ':')))}")
        except AssertionError as error:
            assert await self.page.evaluate(f"return {rows}") == list(ids), str(error)

    async def quiet(self) -> None:
        """Nothing went wrong in the page, and nothing broke its policy."""
        assert self.page.errors == []
        assert [line for line in self.page.console if "Security Policy" in line or "TrustedScript" in line] == []
        assert "xss" not in self.page.reports


OpenConsole = Callable[..., Awaitable[Console]]


@pytest.fixture
async def open_console(browser: ModuleType) -> AsyncIterator[OpenConsole]:
    """Opens the console of a server, each in a browser of its own; at the end nothing went wrong in any of them."""
    async with AsyncExitStack() as opened:
        made: list[Console] = []

        async def make(server: ServerProcess) -> Console:
            url = f"{server.base_url}/_/"
            made.append(Console(await opened.enter_async_context(open_page(url)), url))
            return made[-1]

        yield make
        for one in made:
            await one.quiet()


@pytest.fixture
async def root_console(open_console: OpenConsole, house: House) -> Console:
    console = await open_console(house.server)
    await console.enter(await house.superadmin())
    return console


async def ids(member: Member, collection: str, **query: str) -> list[str]:
    return [one["id"] for one in (await member.request("GET", f"/records/{collection}", params=query)).json()["items"]]


# Collections and records ----------------------------------------------------------------------------------------------


async def test_a_superadmin_makes_a_collection_with_rules_and_works_on_its_records(
    root_console: Console, house: House
) -> None:
    ada = await house.founder()
    console, name = root_console, fresh("posts")
    await console.follow("New collection")
    await console.heading("New collection")
    await console.fill("Name", name, inside="main form")
    first, second = "fieldset >> nth=0", "fieldset >> nth=1"
    await console.fill("Name", "title", inside=first)
    await console.check("Required", inside=first)
    await console.press("Add a field")
    await console.fill("Name", "state", inside=second)
    await console.choose("Type", "select", inside=second)
    await console.fill("Options, one a line", "open\ndone", inside=second)
    await console.fill("Default", "open", inside=second)
    await console.choose("May list", "rule")
    await console.fill("The list rule", "@owns_record() && stat = 'open'")
    await console.press("Check", inside=".rule >> nth=0")
    await console.until("document.querySelector('.mistake')?.textContent.split('\\n')[1].indexOf('^') === 18")
    await console.fill("The list rule", "state = 'open' || @owns_record()")
    await console.press("Check", inside=".rule >> nth=0")
    await console.is_told("It is a rule.")
    await console.choose("May delete", "locked")
    await console.press("Make it")
    await console.heading(f"{name}: fields and rules")

    root = await house.superadmin()
    made = (await root.request("GET", f"/collections/{name}")).json()
    fields = [(one["name"], one["type"], one["required"], one["default"], one["options"]) for one in made["schema"]]
    assert fields == [("title", "text", True, None, None), ("state", "select", False, "open", ["open", "done"])]
    assert (made["list_rule"], made["delete_rule"]) == ("state = 'open' || @owns_record()", None)
    assert made["update_rule"] == '@request.auth.id != ""'

    await console.goto("accounts")
    await console.fill("Part of name, slug or code", ada.account["slug"])
    await console.press("Act in it", inside=f"tr:has-text('{ada.account['slug']}')")
    await console.follow(name, inside="nav")
    await console.shows()
    await console.live()
    await console.is_told("Kept current")
    one = (await ada.create(name, title="From elsewhere"))["id"]
    await console.shows(one)
    assert (await console.table())[0][1:3] == ["From elsewhere", "open"]

    await console.press("New record")
    await console.press("Create", inside="dialog")
    await console.until("document.querySelector('dialog [name=title][aria-invalid]')")
    await console.field("title", "From the console")
    await console.press("Create", inside="dialog")
    await console.until("document.querySelectorAll('.records tbody tr[data-id]').length === 2")
    other = next(made for made in await ids(ada, name) if made != one)
    await console.shows(other, one)
    written = (await ada.request("GET", f"/records/{name}/{other}")).json()
    assert (written["title"], written["state"], written["account_id"]) == ("From the console", "open", ada.account_id)

    await console.press("Edit", inside=f"tr[data-id='{other}']")
    await console.until("document.querySelector('dialog[open] [name=title]')")
    await ada.update(name, other, state="done")
    await console.is_told("The record was changed meanwhile.")
    await console.field("title", "Edited here")
    await console.press("Save", inside="dialog")
    await console.until(f"document.querySelector(\"tr[data-id='{other}']\")?.textContent.includes('Edited here')")
    assert (await ada.request("GET", f"/records/{name}/{other}")).json()["state"] == "done"

    await console.press("Delete", inside=f"tr[data-id='{one}']")
    await console.press("Delete", inside="dialog")
    await console.shows(other)
    await ada.request("GET", f"/records/{name}/{one}", status=404)


async def test_fields_are_added_and_dropped_and_a_collection_is_deleted_by_typing_its_name(
    root_console: Console, house: House
) -> None:
    console, root = root_console, await house.superadmin()
    name = await house.collection("title", "body")
    await console.page.act("reload")
    await console.goto(f"collection/{name}")
    await console.press("Add a field")
    added = "fieldset:has(legend:text-is('New field'))"
    await console.fill("Name", "stars", inside=added)
    await console.choose("Type", "number", inside=added)
    await console.fill("Default", "3", inside=added)
    await console.press("Remove", inside="fieldset:has(legend:text('body'))")
    await console.press("Save")
    await console.is_told("Drops body")
    await console.press("Drop and save", inside="dialog")
    await console.is_told("Saved.")
    schema = (await root.request("GET", f"/collections/{name}")).json()["schema"]
    assert [(one["name"], one["type"], one["default"]) for one in schema] == [
        ("title", "text", None),
        ("stars", "number", 3),
    ]

    await console.press("Delete this collection")
    await console.until("document.querySelector('dialog button.danger')?.disabled")
    await console.field(f"Type {name} to go on", name)
    await console.press("Delete", inside="dialog")
    await console.heading("Collections")
    await root.request("GET", f"/collections/{name}", status=404)


async def test_every_type_of_field_is_written_as_what_it_is(open_console: OpenConsole, house: House) -> None:
    ada = await house.founder()
    others = await house.collection("title")
    other = await ada.create(others, title="Referred to")
    kinds = ("text", "number", "boolean", "datetime", "date", "email", "url", "json")
    things = await house.collection(
        *({"name": f"a_{kind}", "type": kind} for kind in kinds),
        {"name": "a_select", "type": "select", "options": ["one", "two"]},
        {"name": "a_reference", "type": "reference", "collection": others},
    )
    console = await open_console(house.server)
    await console.enter(ada)
    await console.follow(things, inside="nav")
    await console.press("New record")
    await console.field("a_json", "{not json")
    await console.press("Create", inside="dialog")
    await console.is_told("This is not JSON")
    values = {
        "text": "two\nlines",
        "number": "1.5",
        "datetime": "2026-11-23T08:15:30Z",
        "date": "2026-11-23",
        "email": "a@example.com",
        "url": "https://example.com/",
        "json": '{"a": [1, null]}',
        "reference": other["id"],
    }
    for kind, value in values.items():
        await console.field(f"a_{kind}", value)
    await console.choose("a_boolean", "false", inside="dialog")
    await console.choose("a_select", "two", inside="dialog")
    await console.press("Create", inside="dialog")
    await console.until("document.querySelectorAll('.records tbody tr[data-id]').length === 1")
    [made] = (await ada.request("GET", f"/records/{things}")).json()["items"]
    wanted: dict[str, Any] = {**values, "number": 1.5, "boolean": False, "select": "two", "json": {"a": [1, None]}}
    wanted["datetime"] = "2026-11-23T08:15:30.000Z"
    assert {name.removeprefix("a_"): value for name, value in made.items() if name.startswith("a_")} == wanted

    await console.press("Edit")
    await console.page.act("check", "dialog .field:has([name=a_text]) >> role=checkbox[name='null']")
    await console.field("a_number", "2")
    await console.press("Save", inside="dialog")
    await console.until("!document.querySelector('dialog')")
    [made] = (await ada.request("GET", f"/records/{things}")).json()["items"]
    assert (made["a_text"], made["a_number"], made["a_json"]) == (None, 2, {"a": [1, None]})


async def test_filter_order_and_pages_are_the_servers_and_stay_so_while_others_write(
    open_console: OpenConsole, house: House
) -> None:
    ada = await house.founder()
    posts = await house.collection("title", {"name": "stars", "type": "number"})
    made = await ada.create_all(posts, *({"title": f"t{n}", "stars": n} for n in range(60)))
    console = await open_console(house.server)
    await console.enter(ada)
    await console.follow(posts, inside="nav")
    await console.live()
    await console.shows(*await ids(ada, posts, limit="50"))
    await console.press("Next")
    await console.shows(*await ids(ada, posts, limit="50", skip="50"))
    await console.press("Previous")
    await console.press("stars", inside=".records thead")
    await console.shows(*await ids(ada, posts, limit="50", sort="stars"))
    await console.press("stars", inside=".records thead")
    query = {"limit": "50", "sort": "-stars", "filter": "stars >= 57"}
    await console.fill("Filter", "stars >= 57")
    await console.press("Apply")
    await console.shows(*await ids(ada, posts, **query))

    await ada.update(posts, made[3]["id"], stars=100)
    await ada.update(posts, made[59]["id"], stars=1)
    await ada.batch("DELETE", posts, ids=[made[58]["id"]])
    await ada.create(posts, title="new", stars=58.5)
    await console.shows(*await ids(ada, posts, **query))
    await console.page.act("reload")
    await console.shows(*await ids(ada, posts, **query))

    await console.fill("Filter", "star >= 57")
    await console.press("Apply")
    await console.is_told("'star' is not a field of this collection")


async def test_changed_rules_bring_the_table_to_what_it_is_now(open_console: OpenConsole, house: House) -> None:
    ada, root = await house.founder(), await house.superadmin()
    posts = await house.collection("title", {"name": "stars", "type": "number"})
    await ada.create_all(posts, *({"title": f"t{n}", "stars": n} for n in range(6)))
    console = await open_console(house.server)
    await console.enter(ada)
    await console.follow(posts, inside="nav")
    await console.shows(*await ids(ada, posts))
    await console.is_told("Kept current")
    await root.request("PUT", f"/collections/{posts}/rules", json={"list_rule": "stars < 3"})
    await console.shows(*await ids(ada, posts))
    await root.request("PUT", f"/collections/{posts}/rules", json={"list_rule": None})
    await console.until("document.querySelectorAll('.records tbody tr[data-id]').length === 0")


# People ---------------------------------------------------------------------------------------------------------------


async def test_an_accounts_admin_manages_its_people_and_keys_and_is_offered_nothing_else(
    open_console: OpenConsole, make_house: MakeHouse
) -> None:
    house = await make_house()
    ada = await house.founder()
    posts = await house.collection("title")
    console = await open_console(house.server)
    await console.enter(ada)
    await console.is_told("only superadmins define collections")
    assert await console.page.evaluate(
        "return [...document.querySelectorAll('nav a')].map((one) => one.textContent)"
    ) == [
        "Collections",
        posts,
        "Live events",
        "Why did it arrive?",
        "Users",
        "Groups",
        "Roles",
        "Invitations",
        "API keys",
        "This account",
        "Status",
    ]
    await console.goto(f"collection/{posts}")
    await console.is_told("Only superadmins see and change definitions.")

    await console.follow("Users", inside="nav")
    await console.press("New user")
    email = f"{fresh('bob')}@example.com"
    await console.field("E-mail", email)
    await console.field("Password", "short")
    await console.press("Make the user", inside="dialog")
    await console.until("document.querySelector('dialog [name=password][aria-invalid]')")
    password = f"a-password-of-{fresh('bob')}"
    await console.field("Password", password)
    await console.field("Groups", "kitchen, staff")
    await console.press("Make the user", inside="dialog")
    await console.until(f"document.querySelector('main table')?.textContent.includes({json.dumps(email)})")
    bob = await house.login(ada.account["slug"], email, password)
    assert bob.user["groups"] == ["kitchen", "staff"]

    await console.press("Disable", inside=f"tr:has-text('{email}')")
    await console.press("Disable", inside="dialog")
    await console.until("document.querySelector('main table')?.textContent.includes('disabled')")
    await bob.request("GET", "/auth/me", status=401)

    await console.follow("API keys", inside="nav")
    await console.press("New key")
    await console.field("Name", "Importer")
    await console.press("Make it", inside="dialog")
    await console.is_told("It is shown only now")
    key = await console.page.evaluate("return document.querySelector('dialog input[readonly]').value")
    told = await house.client.get("/api/v1/auth/me", headers={"x-api-key": key})
    assert told.json()["account_id"] == ada.account_id
    await console.press("I have kept it", inside="dialog")
    await console.until("!document.querySelector('dialog')")
    assert not await console.page.evaluate(f"return document.documentElement.outerHTML.includes({json.dumps(key)})")

    await console.follow("Invitations", inside="nav")
    await console.press("Invite")
    await console.field("E-mail", f"{fresh('eve')}@example.com")
    await console.press("Invite", inside="dialog")
    await console.is_told("No e-mail is sent.")
    token = await console.page.evaluate("return document.querySelector('dialog input[readonly]').value")
    assert (await house.client.get(f"/api/v1/invitations/{token}")).json()["is_valid"]


async def test_who_is_no_admin_is_told_so_and_sees_what_the_rules_allow(
    open_console: OpenConsole, house: House
) -> None:
    bob = await house.member(await house.founder())
    posts = await house.collection("title")
    made = await bob.create(posts, title="mine")
    console = await open_console(house.server)
    await console.enter(bob)
    await console.is_told("You are no admin of this account")
    await console.goto("users")
    await console.is_told("it is not for you")
    await console.goto(f"records/{posts}")
    await console.shows(made["id"])


# Events ---------------------------------------------------------------------------------------------------------------


async def test_events_are_shown_as_they_come_can_be_stopped_and_explained(
    open_console: OpenConsole, house: House
) -> None:
    ada = await house.founder()
    posts, notes = await house.collection("title"), await house.collection("title")
    console = await open_console(house.server)
    await console.enter(ada)
    await console.follow("Live events", inside="nav")
    await console.is_told("subscribed")
    one = await ada.create(posts, title="one")
    await ada.create_all(notes, {"title": "two"}, {"title": "three"})
    shown = "document.querySelectorAll('.events details')"
    await console.until(f"{shown}.length === 3")
    await console.is_told("2 events")
    await console.choose("Collection", posts)
    await console.until(f"{shown}.length === 1")
    await console.page.act("click", ".events summary")
    await console.is_told('"title": "one"')
    await console.press("Pause")
    await ada.update(posts, one["id"], title="changed")
    await console.is_told("1 since the pause")
    assert await console.page.evaluate(f"return {shown}.length") == 1
    await console.press("Go on")
    await console.until(f"{shown}.length === 2")
    await console.choose("Operation", "update")
    await console.until(f"{shown}.length === 1")

    await console.page.act("click", ".events summary")
    await console.follow("Why did this (not) reach somebody?")
    await console.fill("User", ada.email)
    await console.press("Explain")
    await console.is_told("Answer")
    await console.is_told("changes of its transaction")
    await console.until("['filter', 'delivered'].includes(document.querySelector('.summary .badge')?.textContent)")


# Staying true ---------------------------------------------------------------------------------------------------------


async def test_text_of_strangers_stays_text_wherever_it_is_shown(open_console: OpenConsole, house: House) -> None:
    ada, root = await house.founder(), await house.superadmin()
    posts = await house.collection("title", {"name": "more", "type": "json"})
    made = await ada.create(posts, title=XSS, more={XSS: XSS})
    await ada.request("POST", "/groups", json={"name": fresh("group"), "description": XSS})
    await ada.request("POST", "/admin/api-keys", json={"name": XSS})
    await ada.request("PATCH", f"/accounts/{ada.account_id}", json={"name": XSS})
    hostile = f"{fresh('b')}'\"onerror=report@example.com".replace('"', "")
    await ada.request("POST", "/users", json={"email": hostile})
    role = (await root.request("POST", "/roles", json={"name": fresh("role"), "description": XSS})).json()
    console = await open_console(house.server)
    await console.enter(ada)
    await console.goto(f"records/{posts}")
    await console.shows(made["id"])
    assert (await console.table())[0][1] == XSS
    await console.press("Edit")
    await console.until(f"document.querySelector('dialog [name=title]')?.value === {json.dumps(XSS)}")
    await console.press("Cancel", inside="dialog")
    await console.goto("events")
    await console.is_told("subscribed")
    await ada.update(posts, made["id"], title=XSS + " again")
    await console.page.act("click", ".events summary")
    await console.is_told("again")
    for place, text in (("groups", XSS), ("keys", XSS), ("account", XSS), ("roles", XSS), ("users", hostile)):
        await console.goto(place)
        await console.is_told(text)
    await console.goto(f"records/{posts}?filter={XSS.replace('&', '%26').replace('#', '%23')}")
    await console.until("document.querySelector('.problem')")
    await console.goto(f"records/{XSS.replace('/', '%2F').replace('?', '%3F').replace('%', '%25')}")
    await console.until("document.querySelector('.problem, .notice')")
    assert await console.page.evaluate("return document.querySelectorAll('body :is(img, script, b)').length") == 0
    await root.request("DELETE", f"/roles/{role['id']}")


async def test_what_got_into_the_page_could_not_run(open_console: OpenConsole, house: House) -> None:
    console = await open_console(house.server)
    refused = await console.page.evaluate(
        """
        const told = [];
        document.addEventListener("securitypolicyviolation", (event) => told.push(event.effectiveDirective));
        const attempt = (work) => { try { work(); } catch (error) { told.push(error.constructor.name); } };
        attempt(() => { document.body.innerHTML = "<img src=x onerror=report('xss')>"; });
        attempt(() => {
          const script = document.createElement("script");
          script.append("report('xss')");
          document.body.append(script);
        });
        attempt(() => {
          const link = document.createElement("button");
          link.setAttribute("onclick", "report('xss')");
          link.click();
        });
        await import("data:text/javascript,report('xss')").catch(() => told.push("import"));
        await fetch("http://127.0.0.1:1/").catch(() => told.push("fetch"));
        await new Promise((resolve) => setTimeout(resolve, 50));
        return told;
        """
    )
    assert {"TypeError", "import", "fetch", "connect-src", "require-trusted-types-for"} <= set(refused)
    assert any(one.startswith("script-src") for one in refused)
    assert "xss" not in console.page.reports
    console.page.console.clear()
    console.page.errors.clear()


async def test_who_is_signed_out_elsewhere_is_told_at_once(open_console: OpenConsole, house: House) -> None:
    ada = await house.founder()
    console = await open_console(house.server)
    await console.enter(ada)
    await console.live()
    token = await console.page.evaluate(f"return {STORED}.login.token")
    ended = await house.client.post("/api/v1/auth/logout", headers={"authorization": f"Bearer {token}"})
    assert ended.status_code == 200
    await console.is_told("You were signed out.")
    assert await console.page.evaluate("return sessionStorage.length + localStorage.length") == 0
    await console.sign_in(ada.account["slug"], ada.email, "not the password")
    await console.until("document.querySelector('.problem')")
    await console.enter(ada)
    await console.live()
    await console.press("Sign out")
    await console.until("document.querySelector('.entry')")
    assert await console.page.evaluate("return sessionStorage.length + localStorage.length") == 0


async def test_tokens_are_refreshed_in_place_and_a_reload_stays_signed_in(
    open_console: OpenConsole, make_house: MakeHouse
) -> None:
    house = await make_house(ACCESS_TOKEN_EXPIRE_MINUTES=0.05)
    ada = await house.founder()
    console = await open_console(house.server)
    await console.enter(ada)
    for _ in range(2):
        before = await console.page.evaluate(f"return {STORED}.login.token")
        await console.until(f"{STORED}.login.token !== {json.dumps(before)}")
        await console.page.act("reload")
        await console.heading("Collections")
        await console.live()
    assert await console.page.evaluate(f"return {STORED}.login.refresh_token ?? null") is None


async def test_after_a_restart_the_table_is_what_the_server_lists(
    open_console: OpenConsole, make_house: MakeHouse
) -> None:
    house = await make_house()
    ada = await house.founder()
    posts = await house.collection("title")
    made = await ada.create_all(posts, *({"title": f"t{n}"} for n in range(5)))
    console = await open_console(house.server)
    await console.enter(ada)
    await console.follow(posts, inside="nav")
    await console.is_told("Kept current")
    for end in (house.server.stop, house.server.kill):
        await end()
        await console.is_told("Disconnected")
        await house.server.start()
        await ada.update(posts, made[1]["id"], title=f"after {end.__name__}")
        made.append(await ada.create(posts, title="new"))
        await ada.delete(posts, made.pop(0)["id"])
        await console.shows(*await ids(ada, posts))
        await console.until(f"document.querySelector('.records')?.textContent.includes('after {end.__name__}')")
        await console.live()


async def test_without_realtime_it_says_so_and_still_works(open_console: OpenConsole, make_house: MakeHouse) -> None:
    house = await make_house(REALTIME_ENABLED=False)
    ada = await house.founder()
    posts = await house.collection("title")
    console = await open_console(house.server)
    await console.enter(ada)
    await console.is_told("Live data off")
    await console.goto("events")
    await console.is_told("Live data are off on this server")
    await console.goto(f"records/{posts}")
    await console.is_told("the list stands still")
    await console.press("New record")
    await console.field("title", "x")
    await console.press("Create", inside="dialog")
    await console.until("document.querySelectorAll('.records tbody tr[data-id]').length === 1")
    other = await ada.create(posts, title="y")
    await console.press("Read again")
    await console.shows(*await ids(ada, posts))
    assert other["id"] in [row[0] for row in await console.table()]


async def test_below_a_path_it_works_as_at_the_root(
    open_console: OpenConsole, make_server: MakeServer, tmp_path: Any
) -> None:
    (tmp_path / "main.py").write_text(STARLETTE)
    port = free_port()
    arguments = ("main:parent", "--port", str(port))
    server = await make_server(folder=tmp_path, module="uvicorn", arguments=arguments, port=port, prefix="/backend")
    async with House(server) as house:
        ada, posts = await house.founder(), await house.collection("title")
        console = await open_console(server)
        await console.enter(ada)
        await console.follow(posts, inside="nav")
        await console.is_told("Kept current")
        made = await ada.create(posts, title="x")
        await console.shows(made["id"])
        await console.goto("status")
        await console.is_told("version")


# For everybody --------------------------------------------------------------------------------------------------------

PLACES = ("collections", "events", "explain", "users", "groups", "roles", "invitations", "keys", "account", "accounts")
NAMELESS = """
return [...document.querySelectorAll("button, a, input, select, textarea")].filter((one) => one.checkVisibility()
  && !(one.textContent.trim() || one.labels?.[0]?.textContent.trim() || one.getAttribute("aria-label"))
).map((one) => one.outerHTML);
"""


async def test_every_place_fits_a_narrow_screen_and_names_its_controls(root_console: Console, house: House) -> None:
    console = root_console
    posts = await house.collection(*(f"field_{n}" for n in range(12)))
    await (await house.superadmin()).create(posts, **{f"field_{n}": "a long text " * 20 for n in range(12)})
    await console.page.act("reload")
    for width in (1200, 360):
        await console.page.act("setViewportSize", {"width": width, "height": 740})
        for place in (*PLACES, "status", f"records/{posts}", f"collection/{posts}", "collection"):
            await console.goto(place)
            await console.until("document.querySelector('main .body')?.children.length > 0")
            overflow = await console.page.evaluate("return document.documentElement.scrollWidth - innerWidth")
            assert overflow <= 0, (place, width)
            assert await console.page.evaluate(NAMELESS) == [], place
    await console.press("Menu")
    await console.follow("Users", inside="nav")
    await console.heading("Users")


async def test_it_can_be_used_with_the_keyboard_alone(open_console: OpenConsole, make_house: MakeHouse) -> None:
    house = await make_house()
    ada = await house.founder()
    posts = await house.collection("title")
    console = await open_console(house.server)
    page = console.page
    focused = "return document.activeElement.textContent || document.activeElement.name"

    async def type_in(text: str) -> None:
        await page.act("type", "*:focus", text)

    async def tab_to(name: str) -> None:
        for _ in range(60):
            if await page.evaluate(focused) == name:
                return
            await page.act("press", "*:focus", "Tab")
        raise AssertionError(f"no way to {name}")

    await console.fill("Account", ada.account["slug"])
    await tab_to("email")
    await type_in(ada.email)
    await tab_to("password")
    await type_in(ada.password)
    await page.act("press", "*:focus", "Enter")
    await console.until("document.querySelector('main td a')")
    await tab_to(posts)
    await page.act("press", "*:focus", "Enter")
    await console.heading(posts)
    await console.is_told("Kept current")
    await tab_to("New record")
    await page.act("press", "*:focus", "Enter")
    await tab_to("title")
    await type_in("typed")
    await tab_to("Create")
    await page.act("press", "*:focus", "Enter")
    await console.until("document.querySelectorAll('.records tbody tr[data-id]').length === 1")
    assert await page.evaluate(focused) == "New record"


@pytest.mark.usefixtures("node")
def test_its_modules_use_nothing_that_is_not_there() -> None:
    compiler = MODULES / "typescript" / "bin" / "tsc"
    done = subprocess.run(["node", compiler, "-p", JS / "tsconfig.console.json"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
