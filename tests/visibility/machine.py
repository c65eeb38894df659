"""A Hypothesis state machine over a whole real server: writes, rights and rules in any order, and after each quiet
moment every client's lists, REST's and the second reading's are equal, and no frame holds what its reader never saw.
"""

import asyncio
import itertools
import re
import uuid
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.e2e.support import API, House, Member, place
from tests.support.server import ServerProcess, Setting
from tests.unit.rules.reference import Tree, text_of
from tests.visibility.followers import Fault, Follower, Poller, Sub
from tests.visibility.scene import (
    GROUPS,
    MARKED,
    SCHEMA,
    SHOWN,
    Person,
    Record,
    Rights,
    Scene,
    described,
    facts,
    marks_in,
    names_of,
    trees,
)

SETTINGS: dict[str, Setting] = {
    "REALTIME_HEARTBEAT_SECONDS": 0.06,
    "LOG_LEVEL": "warning",
    "SQLITE_SYNCHRONOUS": "OFF",
    "LOGIN_ATTEMPTS_PER_MINUTE": 0,
    "REALTIME_MAX_CONNECTIONS_PER_USER": 0,
}
TRANSPORTS = ("websocket", "sse", "polling")
MOST_FOLLOWERS = 5
MOST_RECORDS = 12
PLAIN = {f"{name}_rule": "" for name in ("view", "create", "update", "delete")}
EXTRA = {"name": "extra", "type": "number", "default": 7}
OWNER: Tree = ("cmp", "=", ("field", "value"), ("claim", "id"))
MEMBER: Tree = ("array", ("claim", "id"), ("field", "members"), False)
ROOM: Tree = ("groups", ("field", "atom"), False)
"""Conditions by which a group of subscribers is found through an index."""
_numbers = itertools.count(1)
T = TypeVar("T")

indexes = st.integers(0, 10**6)
some_fields = st.one_of(
    st.none(),
    st.just(tuple(name for name in SHOWN if name != "secret")),
    st.lists(st.sampled_from(SHOWN), min_size=1, unique=True).map(tuple),
)
filters = st.one_of(st.just(()), trees)
people = st.lists(indexes, max_size=3)
those = st.lists(indexes, min_size=1, max_size=3)
some_facts = st.lists(facts, min_size=1, max_size=3)


class Stage:
    """One running server for many examples, and the loop on which everything is done. `failure`: the first error."""

    def __init__(self, folder: Path, *, arguments: Sequence[str] = ("serve",), plant: str | None = None) -> None:
        environment = {} if plant is None else {"PLANT": plant}
        self.server = ServerProcess(folder, settings=SETTINGS, arguments=arguments, environment=environment)
        self.loop = asyncio.new_event_loop()
        self.house = House(self.server)
        self.failure: BaseException | None = None

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            return self.loop.run_until_complete(work)
        except BaseException as error:
            self.failure = self.failure or error
            raise

    def open(self) -> None:
        self.server.start_now()
        self.do(self.house.__aenter__())
        self.root: Member = self.do(self.house.superadmin())

    def close(self) -> None:
        self.loop.run_until_complete(self.house.__aexit__())
        self.server.stop_now()
        self.loop.close()


class Machine(RuleBasedStateMachine):
    """The steps. Every subclass has a `stage`."""

    stage: Stage

    @initialize(tree=trees, fields=some_fields)
    def enter(self, tree: Tree, fields: tuple[str, ...] | None) -> None:
        self.scene = Scene()
        self.followers: list[Follower] = []
        self.extra: set[str] = set()
        self.checked = 0
        self.members: dict[Person, Member] = {}
        self.stage.do(self._enter(tree, fields))

    async def _enter(self, tree: Tree, fields: tuple[str, ...] | None) -> None:
        number = next(_numbers)
        self.collections = [f"ones{number}", f"twos{number}"]
        for collection, one in zip(self.collections, (Rights(tree), Rights((), fields)), strict=True):
            await self._make(collection, one)
        for name in ("near", "far"):
            founder = await self.stage.house.founder(name)
            account = founder.account["slug"]
            self.scene.accounts[account] = founder.account_id
            self._person(founder, account, "admin")
        self.near, self.far = self.scene.accounts
        self.founder = self.members[self.scene.people[0]]
        for groups in (["g1", "g2"], []):
            member = await self.stage.house.member(self.founder, groups=groups)
            self._person(member, self.near, "user", groups)
        await self._new_key()
        for person, transport, some, tied in (
            (1, "polling", None, []),
            (2, "websocket", None, [OWNER, ROOM]),
            (3, "sse", ("note", "views"), [MEMBER, OWNER]),
            (4, "polling", None, [()]),
        ):
            wanted = [((), some), *((one, None) for one in (tree, *tied))]
            await self._follow(self.scene.people[person], transport, wanted)
        await self._note()
        for number in range(6):
            await self._create(number, number, [self._filled({}, [number, number + 1][: number % 3])])

    def _person(self, member: Member, account: str, role: str, groups: Sequence[str] = ()) -> None:
        person = Person(role + member.id[-4:], account, member.id, member.token, member.email, role, tuple(groups))
        self.scene.people.append(person)
        self.members[person] = member

    async def _new_key(self) -> None:
        answer = await self.founder.request("POST", "/admin/api-keys", json={"name": "key", "role": "user"})
        key = answer.json()
        self.key = Person("key", self.near, key["id"], key["key"], None, "user", (), key=True)
        self.scene.people.append(self.key)

    async def _make(self, collection: str, rights: Rights) -> None:
        body = {"name": collection, "schema": SCHEMA, "list_rule": _text(rights.tree), **PLAIN}
        body["list_fields"] = "*" if rights.fields is None else ",".join(rights.fields)
        await self.stage.root.request("POST", "/collections", json=body)
        self.scene.rights[collection] = rights

    def teardown(self) -> None:
        if hasattr(self, "followers"):
            self.stage.do(self._leave())

    async def _leave(self) -> None:
        for follower in self.followers:
            await follower.leave()
        for collection in self.collections:
            await self.stage.root.request("DELETE", f"/collections/{collection}")

    # Writes ----------------------------------------------------------------------------------------------------------

    @rule(who=indexes, which=indexes, given=some_facts, meant=people)
    def create(self, who: int, which: int, given: list[Record], meant: list[int]) -> None:
        self.stage.do(self._create(who, which, [self._filled(one, meant) for one in given]))

    @rule(which=indexes, those=those, given=facts, meant=people, look=st.booleans())
    def update(self, which: int, those: list[int], given: Record, meant: list[int], look: bool) -> None:
        self.stage.do(self._update(which, those, given, meant))
        self._looked(look)

    @rule(which=indexes, those=those, look=st.booleans())
    def delete(self, which: int, those: list[int], look: bool) -> None:
        self.stage.do(self._delete(which, those))
        self._looked(look)

    @precondition(lambda self: self.followers)
    @rule(which=indexes, that=indexes, one=indexes, other=indexes)
    def hand_over(self, which: int, that: int, one: int, other: int) -> None:
        """A record passes from one person and room to others: it enters some lists and leaves some."""
        self.stage.do(self._hand_over(which, that, self._pick(self.followers, one).person, other))

    async def _hand_over(self, which: int, that: int, owner: Person, other: int) -> None:
        first = self.scene.people.index(owner)
        if not self._ids(self._pick(self.collections, which), [that]):
            await self._create(0, which, [self._filled({}, [])])
        await self._update(which, [that], {}, [first])
        await self._quiet()
        await self._update(which, [that], {}, [first + 1 + other % (len(self.scene.people) - 1), other])
        await self._quiet()

    @precondition(lambda self: self.followers)
    @rule(who=indexes, which=indexes, those=those, given=some_facts, meant=people, deleted=st.booleans())
    def miss(
        self, who: int, which: int, those: list[int], given: list[Record], meant: list[int], deleted: bool
    ) -> None:
        """Somebody is away while others write, and comes back."""
        follower = self._pick(self.followers, who)
        was_here = not follower.left
        self.stage.do(self._quiet())
        if was_here:
            self.stage.do(follower.leave())
        self.stage.do(self._create(who, which, [self._filled(one, meant) for one in given]))
        self.stage.do(self._update(which, those, given[0], meant))
        if deleted:
            self.stage.do(self._delete(which, those))
        if was_here and follower.left and self.scene.lives(follower.person):
            self.stage.do(follower.join())
        self.stage.do(self._quiet())

    def _looked(self, look: bool) -> None:
        if look:
            self.stage.do(self._quiet())

    def _filled(self, given: Record, meant: Sequence[int]) -> Record:
        """The facts, with people and rooms that rules ask for, and marks that occur nowhere else."""
        people = [self._pick(self.scene.people, one).id for one in meant]
        own: Record = {} if not people else {"value": people[0], "members": people, "atom": GROUPS[len(people) % 3]}
        number = next(_numbers)
        return {**given, **own, "note": f"mark{number}nend", "secret": f"mark{number}send"}

    @staticmethod
    def _pick(choices: Sequence[Any], which: int) -> Any:
        return choices[which % len(choices)]

    def _ids(self, collection: str, those: Sequence[int]) -> list[str]:
        known = list(self.scene.records.get((self.near, collection), {}))
        return list(dict.fromkeys(self._pick(known, one) for one in those)) if known else []

    def _writers(self) -> list[Person]:
        return [one for one in self.scene.people if one.account == self.near and self.scene.lives(one) and one.token]

    async def _write(self, person: Person, method: str, path: str, body: Any = None) -> None:
        headers = {"authorization": f"Bearer {person.token}"}
        answer = await self.stage.house.client.request(method, f"{API}{path}", json=body, headers=headers)
        if answer.status_code == 422:
            return
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"

    async def _create(self, who: int, which: int, records: list[Record]) -> None:
        collection, writers = self._pick(self.collections, which), self._writers()
        if writers and len(self.scene.records.get((self.near, collection), {})) < MOST_RECORDS:
            bodies = {"records": [{"id": str(uuid.uuid4()), **one} for one in records]}
            await self._write(self._pick(writers, who), "POST", f"/records/{collection}/batch", bodies)
            await self._note()

    async def _update(self, which: int, those: list[int], given: Record, meant: Sequence[int]) -> None:
        collection, writers = self._pick(self.collections, which), self._writers()
        ids = self._ids(collection, those)
        if writers and ids:
            changes = [{"id": one, "data": self._filled(given, meant)} for one in ids]
            await self._write(writers[0], "PATCH", f"/records/{collection}/batch", {"records": changes})
            await self._note()

    async def _delete(self, which: int, those: Sequence[int]) -> None:
        collection, writers = self._pick(self.collections, which), self._writers()
        ids = self._ids(collection, those)
        if writers and ids:
            await self._write(writers[0], "DELETE", f"/records/{collection}/batch", {"ids": ids})
            await self._note()

    # Rules, fields, collections --------------------------------------------------------------------------------------

    @rule(
        kind=st.sampled_from(["rule", "rule", "fields", "fields", "race", "race", "schema", "again"]),
        which=indexes,
        tree=st.one_of(trees, trees, st.just(()), st.none()),
        fields=some_fields,
        given=facts,
        meant=people,
    )
    def change_rights(
        self,
        kind: str,
        which: int,
        tree: Tree | None,
        fields: tuple[str, ...] | None,
        given: Record,
        meant: list[int],
    ) -> None:
        """What the collection says: its rule, the fields shown, its schema, or another collection of its name."""
        self.stage.do(self._quiet())
        collection = self._pick(self.collections, which)
        old = self.scene.rights[collection]
        if kind == "rule":
            self.stage.do(self._rights(collection, Rights(tree, old.fields), {"list_rule": _text(tree)}))
        elif kind == "fields":
            shown = "*" if fields is None else ",".join(fields)
            self.stage.do(self._rights(collection, Rights(old.tree, fields), {"list_fields": shown}))
        elif kind == "race":
            self.stage.do(self._race(collection, Rights(tree, old.fields), given, meant))
        elif kind == "schema":
            self.stage.do(self._extra(collection))
        else:
            self.stage.do(self._again(collection, tree))

    async def _rights(self, collection: str, rights: Rights, body: dict[str, Any]) -> None:
        await self.stage.root.request("PUT", f"/collections/{collection}/rules", json=body)
        self.scene.rights[collection] = rights
        await self._note()

    async def _race(self, collection: str, rights: Rights, given: Record, meant: list[int]) -> None:
        """Whichever comes first: nothing is shown that neither rule shows, of the records before or after."""
        writers = self._writers()
        ids = self._ids(collection, [0, 1])
        if not writers or not ids:
            return
        old = self.scene.rights[collection]
        changes = [{"id": one, "data": self._filled(given, meant)} for one in ids]
        rule_body = {"list_rule": _text(rights.tree)}
        self.scene.rights[collection] = rights
        self.scene.allow()
        await asyncio.gather(
            self._write(writers[0], "PATCH", f"/records/{collection}/batch", {"records": changes}),
            self.stage.root.request("PUT", f"/collections/{collection}/rules", json=rule_body),
        )
        await self._note()
        self.scene.rights[collection] = old
        self.scene.allow()
        self.scene.rights[collection] = rights

    async def _extra(self, collection: str) -> None:
        self.extra ^= {collection}
        schema = [*SCHEMA, *([EXTRA] if collection in self.extra else [])]
        await self.stage.root.request("PUT", f"/collections/{collection}", json={"schema": schema})
        await self._note()

    async def _again(self, collection: str, tree: Tree | None) -> None:
        await self.stage.root.request("DELETE", f"/collections/{collection}")
        self.extra.discard(collection)
        self.scene.records = {key: held for key, held in self.scene.records.items() if key[1] != collection}
        await self._make(collection, Rights(tree))
        await self._note()

    # People ----------------------------------------------------------------------------------------------------------

    def _users(self) -> list[Person]:
        return [one for one in self.scene.people if one.account == self.near and not one.key][1:]

    @rule(
        kind=st.sampled_from(["role", "groups", "groups", "groups", "active", "active", "logins", "key", "account"]),
        who=indexes,
        groups=st.lists(st.sampled_from(GROUPS), unique=True),
    )
    def change_people(self, kind: str, who: int, groups: list[str]) -> None:
        """A role, groups, a user who is suspended or taken back, logged out everywhere; a key, the whole account."""
        self.stage.do(self._quiet())
        person = self._pick(self._users(), who)
        if kind == "role":
            role = "user" if person.role == "admin" else "admin"
            self.stage.do(self._change(person, {"role_id": 1 if role == "admin" else 2}, role=role))
        elif kind == "groups":
            self.stage.do(self._change(person, {"groups": groups}, groups=tuple(sorted(groups))))
        elif kind == "active":
            self.stage.do(self._activate(person))
        elif kind == "logins" and self.scene.lives(person):
            self.stage.do(self._password(person))
        elif kind == "key" and self.near not in self.scene.closed:
            self.stage.do(self._revoke())
        elif kind == "account":
            self.stage.do(self._close())

    async def _change(self, person: Person, body: dict[str, Any], **facts: Any) -> None:
        await self.stage.root.request("PATCH", f"/users/{person.id}", json=body)
        for name, value in facts.items():
            setattr(person, name, value)
        await self._note()

    async def _activate(self, person: Person) -> None:
        if person.alive:
            await self._change(person, {"is_active": False}, alive=False)
            return
        await self._change(person, {"is_active": True})
        await self._new_login(person)

    async def _new_login(self, person: Person) -> None:
        """Who was shut out logs in again; the old token stays dead."""
        person.alive = False
        await self._quiet()
        person.alive = True
        self.scene.allow()
        await self._login(person)

    async def _login(self, person: Person) -> None:
        if person.account not in self.scene.closed and not person.key:
            person.token = (await self.members[person].login_again()).token
            await self._come_back(person)

    async def _come_back(self, person: Person) -> None:
        for follower in self.followers:
            if follower.person is person and follower.left:
                await follower.join()

    async def _password(self, person: Person) -> None:
        body = {"new_password": self.members[person].password}
        await self.stage.root.request("PUT", f"/users/{person.id}/password", json=body)
        await self._note()
        await self._new_login(person)

    async def _revoke(self) -> None:
        await self.founder.request("DELETE", f"/admin/api-keys/{self.key.id}")
        self.key.alive = False
        await self._new_key()
        await self._note()

    async def _close(self) -> None:
        opening = self.near in self.scene.closed
        path = f"/accounts/{self.scene.accounts[self.near]}"
        await self.stage.root.request("PATCH", path, json={"is_active": opening})
        self.scene.closed ^= {self.near}
        await self._note()
        if opening:
            await self._quiet()
            for person in self._users() + self.scene.people[:1]:
                if person.alive:
                    await self._login(person)
            self.founder.token = self.scene.people[0].token or ""
            await self._come_back(self.key)

    # Clients ---------------------------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.followers) < MOST_FOLLOWERS)
    @rule(
        who=indexes,
        transport=st.sampled_from(TRANSPORTS),
        wanted=st.lists(st.tuples(filters, some_fields), min_size=1, max_size=3),
    )
    def follow(self, who: int, transport: str, wanted: list[tuple[Tree, tuple[str, ...] | None]]) -> None:
        person = self._pick(self.scene.people, who)
        if self.scene.lives(person):
            self.stage.do(self._follow(person, transport, wanted))

    async def _follow(
        self, person: Person, transport: str, wanted: Sequence[tuple[Tree, tuple[str, ...] | None]]
    ) -> None:
        subs = [
            Sub(self._pick(self.collections, number // 2), f"s{number}", _text(tree) or "", tree, fields)
            for number, (tree, fields) in enumerate(wanted)
        ]
        kind = Poller if transport == "polling" else Follower
        follower = kind(self.stage.house, person, transport, subs)
        self.followers.append(follower)
        await follower.join()

    # What has to hold ------------------------------------------------------------------------------------------------

    async def _note(self) -> None:
        """Learn what the records are now, and who may see them."""
        self.target: dict[str, tuple[int, int]] = {}
        for account in self.scene.accounts:
            for collection in self.collections:
                query = {"limit": "100"}
                path = f"/records/{collection}"
                answer = await self.stage.root.request("GET", path, params=query, headers={"x-account-id": account})
                body = answer.json()
                self.scene.records[account, collection] = {one["id"]: one for one in body["items"]}
                position = str(body["position"])
                self.target[account] = place(position), int(position.split(".")[3], 36)
        self.scene.allow()

    @rule()
    def look(self) -> None:
        self.stage.do(self._quiet())

    async def _quiet(self) -> None:
        """Wait until all is said, then compare every list with REST and with the second reading."""
        self.checked += 1
        for follower in self.followers:
            person = follower.person
            alive = self.scene.lives(person)
            if follower.left and follower.ended is None and alive and self._served(follower) and person.token:
                await follower.join()
            if not follower.left:
                end = None if alive else "ended"
                await follower.settle(self.target[person.account], end, lambda sub: self._asked(sub))
            self._compare_bytes(follower)
            if alive and not follower.left:
                for sub in follower.subs.values():
                    await self._compare(follower, sub)
            elif not alive:
                self._compare_end(follower)
                path = f"/records/{self.collections[0]}"
                headers = {"authorization": f"Bearer {person.token}"}
                answer = await self.stage.house.client.get(f"{API}{path}", headers=headers)
                if answer.status_code != 401:
                    raise Fault(f"{follower}: {answer.status_code} for somebody who is gone")

    def _asked(self, sub: Sub) -> bool:
        return self.scene.may_ask(sub.collection, sub.tree, sub.fields)

    def _served(self, follower: Follower) -> bool:
        return any(self._asked(sub) for sub in follower.subs.values())

    async def _compare(self, follower: Follower, sub: Sub) -> None:
        person = follower.person
        if self._asked(sub) is (sub.state in ("refused", "gone")):
            raise Fault(f"{follower}: {sub.name} ({sub.text}) is {sub.state}{self._told(follower)}")
        query = {"limit": "100", "filter": sub.text, "fields": ",".join(sub.fields or ())}
        query = {name: value for name, value in query.items() if value}
        headers = {"authorization": f"Bearer {person.token}"}
        path = f"{API}/records/{sub.collection}"
        answer = await self.stage.house.client.get(path, params=query, headers=headers)
        if not self._asked(sub):
            if answer.is_success:
                raise Fault(f"{follower}: a list is served that may not be asked for: {sub.text}")
            return
        listed = {one["id"]: one for one in answer.json()["items"]}
        seen = self.scene.seen(person, sub.collection, sub.tree, sub.fields)
        if listed != seen:
            raise Fault(f"{follower}: REST lists {described(listed)}, not {described(seen)}; {sub.text}")
        if sub.records != listed:
            held = f"{follower} holds {described(sub.records)}, not {described(listed)}; {sub.state}; {sub.text}"
            raise Fault(held + self._told(follower))

    def _compare_bytes(self, follower: Follower) -> None:
        raw = bytes(follower.raw) + (bytes(follower.messages.raw) if follower.messages else b"")
        leaked = marks_in(raw) - follower.person.allowed
        if leaked:
            raise Fault(
                f"{follower} was shown {sorted(leaked)}, which it was never allowed to see{self._told(follower)}"
            )

    def _compare_end(self, follower: Follower) -> None:
        if not follower.left:
            raise Fault(f"{follower} goes on for somebody who is gone")

    def _told(self, follower: Follower) -> str:
        return "\n  " + "\n  ".join(follower.story[-25:])


def _text(tree: Tree | None) -> str | None:
    if tree is None:
        return None
    text = text_of(tree, lambda options: 0) if tree else ""
    assert not re.search(r"@request\.data", text) and names_of(tree) <= {*SHOWN, "id", "created_by", "created_at"}
    return text


assert set(MARKED) <= set(SHOWN)
