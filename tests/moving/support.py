"""A data folder with everything in it that can be in one, and what its people see."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.e2e.support import House, Member, remember
from tests.support.server import ROOT, ServerProcess, Setting

SECRET = "a-secret-of-the-tests-that-stays-the-same"
LONG = "L" * 64
"""Its table's name is longer than PostgreSQL's names may be."""
KINDS: list[dict[str, Any]] = [
    {"name": "title", "type": "text"},
    {"name": "count", "type": "number"},
    {"name": "open", "type": "boolean"},
    {"name": "at", "type": "datetime"},
    {"name": "day", "type": "date"},
    {"name": "mail", "type": "email"},
    {"name": "site", "type": "url"},
    {"name": "more", "type": "json"},
    {"name": "word", "type": "select", "options": ["one", "zwei", "три"]},
    {"name": "order", "type": "text", "unique": True},
]
EMPTY: dict[str, Any] = {"order": "0"}
ODD: list[dict[str, Any]] = [
    EMPTY,
    {"title": "", "order": "", "more": ""},
    {"title": "null", "more": None, "order": "1"},
    {"title": "\\N", "more": "\\N", "order": "\\."},
    {"title": "tab\tline\nreturn\rquote'\"back\\slash\x01\x7f\x85\u2028", "order": "a"},
    {"title": "e\u0301 \u00e9 ß ﬃ 日本語 \U0001f9c0 \ufffe\uffff", "order": "A"},
    {"title": "\u0131 \u0130 i I", "order": "ä"},
    {"title": "x" * 20_000, "order": "b"},
    {"count": 0, "open": False, "order": "c"},
    {"count": 2**53 - 1, "open": True, "order": "d"},
    {"count": -(2**53 - 1), "order": "e"},
    {"count": 0.1 + 0.2, "order": "f"},
    {"count": 1.7976931348623157e308, "order": "g"},
    {"count": 5e-324, "order": "h"},
    {"count": -1e-300, "order": "i"},
    {"at": "0001-01-01T00:00:00Z", "day": "0001-01-01", "order": "j"},
    {"at": "9999-12-31T23:59:59.999Z", "day": "9999-12-31", "order": "k"},
    {"at": "2026-03-29T02:30:00.001+02:00", "day": "2024-02-29", "order": "l"},
    {"mail": "Ä.b+c@exämple.com", "site": "https://exämple.com/ü?q=%00#ñ", "word": "три", "order": "m"},
    {"more": {"z": 1, "a": [1, 1.5, -0.1, True, None, "é\n", {}], "": {"deep": [[[]]]}, "ÿ": 2**53 - 1}, "order": "n"},
    {"more": [], "order": "o"},
    {"more": False, "order": "p"},
    {"more": 0, "order": "q"},
]
ASKED = (
    "/records/kinds?limit=100",
    "/records/kinds?limit=100&sort=-title",
    "/records/kinds?limit=100&sort=order",
    "/records/kinds?limit=100&sort=-count,at",
    "/records/kinds?filter=count%20%3E%200",
    "/records/kinds?filter=title%20~%20%22%C3%A9%22",
    "/records/kinds?filter=open%20%3D%20false",
    f"/records/{LONG}?limit=100&expand=kind",
    "/records/owned?limit=100",
    "/collections",
    "/groups",
    "/roles",
    "/users?limit=100",
    "/invitations",
    "/admin/api-keys?limit=10&offset=0",
    "/auth/me",
    "/accounts?limit=100",
)


def folder_url(folder: Path) -> str:
    return f"sqlite:///{folder / 'snackbase.db'}"


def settings(url: str) -> dict[str, Setting]:
    return {"DATABASE_URL": url, "SECRET_KEY": SECRET}


def migrate(folder: Path, url: str, *words: str) -> subprocess.CompletedProcess[str]:
    """`snackbase migrate-data` in a folder, to a database."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SNACKBASE_")}
    variables = {"PYTHONPATH": str(ROOT / "src"), "SNACKBASE_DATABASE_URL": url}
    return subprocess.run(
        [sys.executable, "-m", "snackbase", "migrate-data", *words],
        cwd=folder,
        env=kept | variables,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


class People:
    """Who lives in the folder, and what they can prove."""

    def __init__(self, superadmin: Member, ann: Member, bob: Member, eve: Member, key: str, invitation: str) -> None:
        self.members = {"superadmin": superadmin, "ann": ann, "bob": bob, "eve": eve}
        self.key = key
        self.invitation = invitation

    @property
    def ann(self) -> Member:
        return self.members["ann"]

    def at(self, house: House) -> "People":
        """The same people, with the same tokens, at another server."""
        moved = []
        for one in self.members.values():
            told = {"account": one.account, "user": one.user, "token": one.token, "refresh_token": one.refresh_token}
            moved.append(Member(house, told, email=one.email, password=one.password))
        superadmin, ann, bob, eve = moved
        return People(superadmin, ann, bob, eve, self.key, self.invitation)


async def populate(house: House) -> People:
    """Fill a new server with everything."""
    superadmin = await house.login("system", ServerProcess.SUPERADMIN_EMAIL, ServerProcess.SUPERADMIN_PASSWORD)
    ann, eve = await house.founder("ann"), await house.founder("eve")
    role = (await superadmin.request("POST", "/roles", json={"name": "editor", "description": "é"})).json()
    bob = await house.member(ann, role_id=role["id"])
    group = (await ann.request("POST", "/groups", json={"name": "Größe", "description": "x"}, status=201)).json()
    await ann.request("POST", f"/groups/{group['id']}/users", json={"user_id": bob.id})
    await ann.request("POST", "/auth/logout", headers={"authorization": f"Bearer {(await ann.login_again()).token}"})
    key = (await ann.request("POST", "/admin/api-keys", json={"name": "bot"}, status=201)).json()["key"]
    invited = (await ann.request("POST", "/invitations", json={"email": "new@example.com"}, status=201)).json()
    everybody: dict[str, Any] = {
        f"{rule}_rule": '@request.auth.id != ""' for rule in ("list", "view", "create", "update", "delete")
    }
    indexes = [{"fields": ["count", "title"]}]
    await house.collection(*KINDS, name="kinds", indexes=indexes, **everybody)
    reference = {"name": "kind", "type": "reference", "collection": "kinds", "on_delete": "cascade"}
    await house.collection("name", reference, name=LONG, **everybody)
    rules: dict[str, Any] = {
        "list_rule": 'created_by = @request.auth.id || "Größe" in @request.auth.groups',
        "create_rule": "",
    }
    await house.collection("title", "hidden", name="owned", **rules, list_fields=["id", "title"])
    kinds = [await ann.create("kinds", **one) for one in ODD]
    await eve.create("kinds", title="eve's", order="0")
    await ann.update("kinds", kinds[3]["id"], count=3)
    await ann.delete("kinds", kinds[0]["id"])
    for kind in kinds[1:4]:
        await bob.create(LONG, name="ü", kind=kind["id"])
    for who in (ann, bob, eve):
        await who.create("owned", title=f"of {who.email}", hidden="?")
    return People(superadmin, ann, bob, eve, remember(key), remember(invited["token"]))


async def views(people: People) -> dict[tuple[str, str], tuple[int, Any]]:
    """What everybody gets for every question, but for positions."""
    found: dict[tuple[str, str], tuple[int, Any]] = {}
    for name, member in people.members.items():
        for path in ASKED:
            answer = await member.house.client.get(
                f"/api/v1{path}", headers={"authorization": f"Bearer {member.token}"}
            )
            body = answer.json()
            body.pop("position", None)
            body.pop("request_id", None)
            for one in body.get("items", ()):
                # PostgreSQL keeps 63 bytes of a name.
                if one.get("name") == LONG:
                    one.pop("table_name", None)
            found[name, path] = (answer.status_code, body)
    return found
