"""The servers under proof with their accounts, users and collections, and what an administrator changes in them."""

import asyncio
import random
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from proof.livelist import Difference
from proof.people import Desk, Login, Person
from proof.site import Site
from tests.support.server import ServerProcess

AGREED_S = 30.0
ACCOUNTS = ("acme", "other")
USERS = (("ann", 1), ("bob", 2), ("cat", 2))
"""Names with their roles: 1 is admin, 2 is user."""
ROOMS = ("red", "green", "blue")
MEMBERS = '@request.auth.id != ""'
OPEN: dict[str, Any] = {f"{rule}_rule": MEMBERS for rule in ("list", "view", "create", "update", "delete")}
TASKS: list[dict[str, Any]] = [
    {"name": "title", "type": "text", "required": True},
    {"name": "points", "type": "number", "default": 0},
    {"name": "done", "type": "boolean", "default": False},
    {"name": "room", "type": "text"},
    {"name": "members", "type": "json"},
]
NOTES: list[dict[str, Any]] = [
    {"name": "title", "type": "text"},
    {"name": "points", "type": "number", "default": 0},
    {"name": "task", "type": "reference", "collection": "tasks", "on_delete": "cascade"},
]
COLLECTIONS: dict[str, list[dict[str, Any]]] = {"tasks": TASKS, "notes": NOTES}
LIST_RULES: dict[str, tuple[str | None, ...]] = {
    "tasks": (
        MEMBERS,
        "",
        "@owns_record()",
        "room IN @request.auth.groups",
        "done = true || @has_role('admin')",
        "@request.auth.id IN members || points < 30",
        "created_by != @request.auth.id && room != 'red'",
        None,
    ),
    "notes": (MEMBERS, "points > 20", "@owns_record() || @has_group('red')", "@has_role('admin')", None),
}
LIST_FIELDS = {
    "tasks": ("*", "id,title,points,account_id", "title,room,members,created_by"),
    "notes": ("*", "id,title"),
}
FILTERS: dict[str, tuple[str | None, ...]] = {
    "tasks": (None, None, "points > 40", "done = true && title ~ 'a'", "room IN ('red', 'blue')", "room IS NULL"),
    "notes": (None, "points <= 50", "title ~ '%b%'"),
}
SETTINGS: dict[str, Any] = {
    "REALTIME_HEARTBEAT_SECONDS": 0.5,
    "REALTIME_PING_SECONDS": 2,
    "REALTIME_PONG_SECONDS": 2,
    "REALTIME_STALL_SECONDS": 5,
    "TRUSTED_PROXIES": "127.0.0.1",
    "LOG_LEVEL": "warning",
    # Many clients of one user come back at once after a change of the password, or while the user is disabled.
    "LOGIN_ATTEMPTS_PER_MINUTE": 0,
    # A small window, so that who was away for some seconds is often behind it.
    "RETENTION_CHANGES": 150,
    "RETENTION_KEEP": 60,
    "RETENTION_SWEEP_SECONDS": 0.5,
}


class World:
    """The servers, their people, and the superadmin."""

    def __init__(self, folder: Path, *, token_s: float, nodes: int = 1, bus: bool = False) -> None:
        settings = {**SETTINGS, "ACCESS_TOKEN_EXPIRE_MINUTES": token_s / 60}
        self.site = Site(folder, settings=settings, nodes=nodes, bus=bus)
        self.desk = Desk(away=self.site.out)
        self.people: dict[str, list[Person]] = {}
        root = Person(
            self.desk,
            account="system",
            account_id="",
            email=ServerProcess.SUPERADMIN_EMAIL,
            password=ServerProcess.SUPERADMIN_PASSWORD,
        )
        self.root = Login(root)
        self._numbers = 0

    async def open(self) -> None:
        await self.site.open()
        self.desk.base_urls = tuple(server.base_url for server in self.site.servers)
        for name, schema in COLLECTIONS.items():
            await self.root.call("POST", "/collections", json={"name": name, "schema": schema, **OPEN})
        for slug in ACCOUNTS:
            made = await self.root.call("POST", "/accounts", json={"name": slug, "slug": slug})
            self.people[slug] = [await self._user(slug, made["id"], name, role) for name, role in USERS]

    async def close(self) -> None:
        await self.desk.client.aclose()
        await self.site.close()

    async def _user(self, slug: str, account_id: str, name: str, role: int) -> Person:
        person = Person(self.desk, account=slug, account_id=account_id, email=f"{name}@example.com")
        body = {"email": person.email, "password": person.password, "account_id": account_id, "role_id": role}
        made = await self.root.call("POST", "/users", json={**body, "groups": [ROOMS[role]]})
        person.id = made["id"]
        return person

    # What can be read ------------------------------------------------------------------------------------------------

    async def everything(self, slug: str, collection: str) -> dict[str, bytes]:
        """All records of an account, whoever may see them."""
        found = await self.root.list(collection, {}, headers={"x-account-id": slug})
        if found.status != 200:
            raise AssertionError(f"the superadmin's list of {collection} was answered {found.status}")
        return found.records

    async def heads(self) -> Mapping[str, str]:
        """The position of each account by its slug; every node says the same. Raises Difference when they never do."""
        ends = time.monotonic() + AGREED_S
        while True:
            found = [
                {slug: await self._head(slug, node) for slug in ACCOUNTS} for node in range(len(self.site.servers))
            ]
            if all(one == found[0] for one in found):
                return found[0]
            if time.monotonic() > ends:
                raise Difference(f"the nodes do not agree on the heads: {found}")
            await asyncio.sleep(0.05)

    async def _head(self, slug: str, node: int) -> str:
        asked = {"limit": "1", "total": "false"}
        answer = await self.root.call("GET", "/records/tasks", params=asked, headers={"x-account-id": slug}, node=node)
        return str(answer["position"])

    # What is changed; each returns a sentence ------------------------------------------------------------------------

    async def change_rule(self, chance: random.Random) -> str:
        collection = chance.choice(list(LIST_RULES))
        rule = chance.choice(LIST_RULES[collection])
        await self.root.call("PUT", f"/collections/{collection}/rules", json={"list_rule": rule})
        return f"list_rule of {collection} is {rule!r}"

    async def change_fields(self, chance: random.Random) -> str:
        collection = chance.choice(list(LIST_FIELDS))
        names = chance.choice(LIST_FIELDS[collection])
        await self.root.call("PUT", f"/collections/{collection}/rules", json={"list_fields": names})
        return f"list_fields of {collection} is {names}"

    async def open_rules(self) -> None:
        """Everybody sees everything again, so that a long proof does not wait behind a closed door."""
        for collection in COLLECTIONS:
            body = {"list_rule": MEMBERS, "list_fields": "*"}
            await self.root.call("PUT", f"/collections/{collection}/rules", json=body)

    async def change_groups(self, chance: random.Random) -> str:
        person = chance.choice(self.people[chance.choice(ACCOUNTS)])
        groups = [room for room in ROOMS if chance.random() < 0.5]
        await self.root.call("PATCH", f"/users/{person.id}", json={"groups": groups})
        return f"{person.name} is in the groups {groups}"

    async def change_role(self, chance: random.Random) -> str:
        person = chance.choice(self.people[chance.choice(ACCOUNTS)])
        role = chance.choice((1, 2))
        await self.root.call("PATCH", f"/users/{person.id}", json={"role_id": role})
        return f"{person.name} has the role {role}"

    async def change_schema(self, chance: random.Random) -> str:
        """Add a field with a default to a collection, or drop one that was added."""
        collection = chance.choice(list(COLLECTIONS))
        fields = [dict(one) for one in (await self._definition(collection))["schema"]]
        mine = [one for one in fields if one["name"].startswith("extra")]
        if mine and chance.random() < 0.6:
            gone = chance.choice(mine)["name"]
            await self._define(collection, [one for one in fields if one["name"] != gone])
            return f"{collection} lost the field {gone}"
        self._numbers += 1
        name = f"extra{self._numbers}"
        kind: Mapping[str, Any] = chance.choice(
            ({"type": "text", "default": "so"}, {"type": "number", "default": 7}, {"type": "boolean", "default": True})
        )
        await self._define(collection, [*fields, {"name": name, **kind}])
        return f"{collection} has a new field {name} ({kind['type']})"

    async def _definition(self, collection: str) -> dict[str, Any]:
        return dict(await self.root.call("GET", f"/collections/{collection}"))

    async def _define(self, collection: str, schema: list[dict[str, Any]]) -> None:
        await self.root.call("PUT", f"/collections/{collection}", json={"schema": schema})

    async def disable(self, chance: random.Random) -> str:
        """A user or a whole account is shut out for a moment."""
        person = chance.choice(self.people[chance.choice(ACCOUNTS)])
        whole = chance.random() < 0.3
        path, name = (
            (f"/accounts/{person.account_id}", person.account) if whole else (f"/users/{person.id}", person.name)
        )
        await self.root.call("PATCH", path, json={"is_active": False})
        await asyncio.sleep(0.7)
        await self.root.call("PATCH", path, json={"is_active": True})
        return f"{name} was disabled for a moment"

    async def end_logins(self, chance: random.Random) -> str:
        """A user's password is set anew, which ends every login of theirs."""
        person = chance.choice(self.people[chance.choice(ACCOUNTS)])
        await self.root.call("PUT", f"/users/{person.id}/password", json={"new_password": person.password})
        return f"all logins of {person.name} have ended"
