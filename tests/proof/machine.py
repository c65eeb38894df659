"""A Hypothesis state machine over a whole real server: random steps, and after each what every client has and was told.

The oracle (`oracle.py`) computes both from the acknowledged writes: the list, and the exact sequence of events since
the client last fetched it. Clients are those of the standing proof; tokens live for seconds, so they expire on the way.
"""

import asyncio
import itertools
import json
import random
import uuid
from collections.abc import Coroutine, Mapping, Sequence, Set
from contextlib import suppress
from pathlib import Path
from typing import Any, Self, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from proof.checkpoint import compare
from proof.clients import Client, SocketClient, StreamClient
from proof.livelist import LiveList, State, place
from proof.people import Desk, Login, Person, Unanswered
from proof.polling import PollingClient
from proof.run import PythonHolder
from tests.proof.oracle import FILTERS, RULES, History, Reader
from tests.support.server import ServerProcess, Setting

COLLECTION = "things"
ROOMS = ("red", "green")
SCHEMA = [
    {"name": "points", "type": "number", "default": 0},
    {"name": "room", "type": "text"},
    {"name": "done", "type": "boolean", "default": False},
]
OPEN = {f"{name}_rule": RULES["everybody"] for name in ("list", "view", "create", "update", "delete")}
SETTINGS: dict[str, Setting] = {
    "REALTIME_HEARTBEAT_SECONDS": 0.06,
    "ACCESS_TOKEN_EXPIRE_MINUTES": 0.15,
    "LOG_LEVEL": "warning",
    "SQLITE_SYNCHRONOUS": "NORMAL",
}
MOST_CLIENTS = 4
FOREVER_S = 1e9
PATIENCE_S = 30.0
_numbers = itertools.count(1)
T = TypeVar("T")

facts = st.fixed_dictionaries(
    {"points": st.integers(0, 19), "room": st.sampled_from((*ROOMS, None)), "done": st.booleans()}
)
some_facts = st.fixed_dictionaries(
    {}, optional={"points": st.integers(0, 19), "room": st.sampled_from(ROOMS), "done": st.booleans()}
).filter(bool)
indexes = st.integers(0, 10**6)


class Stage:
    """Running servers for many examples, one or several nodes, and the loop on which everything is done.

    Args:
        away: numbers of nodes that are not asked, kept by somebody else.

    Attributes:
        failure: the first error; Hypothesis does not show one that another run of the same steps does not repeat.
    """

    def __init__(
        self, servers: Sequence[ServerProcess], loop: asyncio.AbstractEventLoop, *, away: Set[int] = frozenset()
    ) -> None:
        self.servers = servers
        self.loop = loop
        self.failure: Exception | None = None
        self.desk = Desk(*(server.base_url for server in servers), away=away)
        root = Person(
            self.desk,
            account="system",
            account_id="",
            email=ServerProcess.SUPERADMIN_EMAIL,
            password=ServerProcess.SUPERADMIN_PASSWORD,
        )
        self.root = Login(root)

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Run one piece of work to its end."""
        try:
            return self.loop.run_until_complete(work)
        except Exception as error:
            self.failure = self.failure or error
            raise

    @classmethod
    def alone(cls, folder: Path, *, arguments: Sequence[str] = ("serve",), plant: str | None = None) -> Self:
        """With a server on SQLite."""
        environment = {} if plant is None else {"PLANT": plant}
        server = ServerProcess(folder, settings=SETTINGS, arguments=arguments, environment=environment)
        return cls([server], asyncio.new_event_loop())

    def open(self) -> None:
        """Start what does not run yet."""
        for server in self.servers:
            if not server.running:
                server.start_now()
        body = {"name": COLLECTION, "schema": SCHEMA, **OPEN}
        self.do(self.root.call("POST", "/collections", json=body))

    def close(self) -> None:
        self.do(self.desk.client.aclose())
        for server in self.servers:
            server.stop_now()
        self.loop.close()

    def address(self, number: int) -> str:
        """Of one of the nodes: host and port."""
        return self.servers[number % len(self.servers)].base_url.removeprefix("http://")


class Machine(RuleBasedStateMachine):
    """The steps. Every subclass has a `stage`."""

    stage: Stage
    most_kills = 1

    # The scene -------------------------------------------------------------------------------------------------------

    @initialize()
    def enter(self) -> None:
        self.chance = random.Random(0)
        self.clients: list[Client] = []
        self.away: set[Client] = set()
        self.runs: list[asyncio.Task[None]] = []
        self.filters: dict[LiveList, str] = {}
        self.rule_name = "everybody"
        self.kills = 0
        self.moves = itertools.count()
        self.histories: dict[str, History] = {}
        self.people: dict[str, list[Person]] = {}
        self.logins: dict[Person, Login] = {}
        self.groups: dict[Person, tuple[str, ...]] = {}
        self.stage.do(self._enter())

    async def _enter(self) -> None:
        await self._rule("everybody")
        for slug, names in (("near", ("ann", "bob")), ("far", ("eve",))):
            account = f"{slug}{next(_numbers)}"
            made = await self.stage.root.call("POST", "/accounts", json={"name": account, "slug": account})
            self.histories[account] = History()
            self.people[account] = [await self._person(account, made["id"], name) for name in names]
        self.near, self.far = self.people
        for transport, account in ((SocketClient, self.near), (StreamClient, self.far)):
            await self._connect(transport, self.people[account][0], ["all"])

    async def _person(self, account: str, account_id: str, name: str) -> Person:
        person = Person(self.stage.desk, account=account, account_id=account_id, email=f"{name}@example.com")
        body = {"email": person.email, "password": person.password, "account_id": account_id, "role_id": 2}
        person.id = (await self.stage.root.call("POST", "/users", json={**body, "groups": ["red"]}))["id"]
        self.groups[person] = ("red",)
        self.logins[person] = Login(person)
        return person

    def teardown(self) -> None:
        if hasattr(self, "runs"):
            self.stage.do(self._leave())

    async def _leave(self) -> None:
        for run in self.runs:
            run.cancel()
        await asyncio.gather(*self.runs, return_exceptions=True)
        for client in self.clients:
            await client.close()

    # Writes ----------------------------------------------------------------------------------------------------------

    @rule(who=indexes, record=facts)
    def create(self, who: int, record: dict[str, Any]) -> None:
        self.stage.do(self._create(self._one(self.people[self.near], who), [record]))

    @rule(who=indexes, records=st.lists(facts, min_size=2, max_size=5))
    def create_batch(self, who: int, records: list[dict[str, Any]]) -> None:
        self.stage.do(self._create(self._one(self.people[self.near], who), records))

    @rule(record=facts)
    def create_elsewhere(self, record: dict[str, Any]) -> None:
        self.stage.do(self._create(self.people[self.far][0], [record]))

    @rule(who=indexes, which=indexes, change=some_facts)
    def update(self, who: int, which: int, change: dict[str, Any]) -> None:
        self.stage.do(self._update(who, dict.fromkeys(self._some([which]), change)))

    @rule(who=indexes, changes=st.dictionaries(indexes, some_facts, min_size=2, max_size=4))
    def update_batch(self, who: int, changes: dict[int, dict[str, Any]]) -> None:
        ids = self._some(list(changes))
        self.stage.do(self._update(who, dict(zip(ids, changes.values(), strict=False))))

    @rule(who=indexes, which=st.lists(indexes, min_size=1, max_size=3))
    def delete(self, who: int, which: list[int]) -> None:
        self.stage.do(self._delete(who, self._some(which)))

    def _ids(self) -> list[str]:
        return list(self.histories[self.near].records)

    def _some(self, which: Sequence[int]) -> list[str]:
        """Ids of records, none when there are none. No precondition: after a kill only the database knows."""
        ids = self._ids()
        return list(dict.fromkeys(ids[one % len(ids)] for one in which)) if ids else []

    @staticmethod
    def _one(choices: Sequence[Any], which: int) -> Any:
        return choices[which % len(choices)]

    async def _create(self, person: Person, records: Sequence[Mapping[str, Any]]) -> None:
        bodies = [{"id": str(uuid.uuid4()), **record} for record in records]
        ids = [body["id"] for body in bodies]
        if len(bodies) == 1:
            await self._write(person, "POST", "", bodies[0], ids)
        else:
            await self._write(person, "POST", "/batch", {"records": bodies}, ids)

    async def _update(self, who: int, changes: Mapping[str, Mapping[str, Any]]) -> None:
        person = self._one(self.people[self.near], who)
        ids = list(changes)
        if len(ids) == 1:
            await self._write(person, "PATCH", f"/{ids[0]}", changes[ids[0]], ids)
        elif ids:
            body = {"records": [{"id": one, "data": change} for one, change in changes.items()]}
            await self._write(person, "PATCH", "/batch", body, ids)

    async def _delete(self, who: int, ids: Sequence[str]) -> None:
        person = self._one(self.people[self.near], who)
        if len(ids) == 1:
            await self._write(person, "DELETE", f"/{ids[0]}", None, ids)
        else:
            await self._write(person, "DELETE", "/batch", {"ids": list(ids)}, ids)

    async def _write(
        self, person: Person, method: str, path: str, body: Mapping[str, Any] | None, ids: Sequence[str]
    ) -> None:
        """One acknowledged write, and what it made of the records in the oracle's books."""
        if not ids:
            return
        headers = {"content-type": "application/json"}
        content = None if body is None else json.dumps(body)
        answer = await self.logins[person].once(
            method, f"/records/{COLLECTION}{path}", content=content, headers=headers
        )
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        await self._note(person.account, ids, place(answer.headers["x-snackbase-position"]))

    async def _note(self, account: str, ids: Sequence[str], at: int) -> None:
        found = await self.stage.root.list(COLLECTION, {}, headers={"x-account-id": account})
        self.histories[account].commit(at, {one: found.records.get(one) for one in ids})

    # Clients ---------------------------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.clients) < MOST_CLIENTS)
    @rule(
        transport=st.sampled_from((SocketClient, StreamClient, PollingClient)),
        who=indexes,
        far=st.sampled_from((False, False, False, True)),
        filters=st.lists(st.sampled_from(list(FILTERS)), min_size=1, max_size=3, unique=True),
    )
    def connect(self, transport: type[Client], who: int, far: bool, filters: list[str]) -> None:
        person = self._one(self.people[self.far if far else self.near], who)
        self.stage.do(self._connect(transport, person, filters))

    async def _connect(self, transport: type[Client], person: Person, filters: Sequence[str]) -> None:
        lists = []
        for name in filters:
            one = LiveList(name.replace(" ", "-"), COLLECTION, account_id=person.account_id, filter=FILTERS[name])
            one.told = []
            self.filters[one] = name
            lists.append(one)
        base = self.stage.address(next(self.moves))
        name = f"{transport.kind}{len(self.clients)}-{person.name}"
        client = transport(name, Login(person), lists, base=base, chance=self.chance)
        if isinstance(client, PollingClient):
            client.pause_s = 0.03
        elif isinstance(client, StreamClient):
            client.refused_again_s = 0.05
        self.clients.append(client)
        self.runs.append(asyncio.create_task(client.run()))
        await asyncio.sleep(0)

    @precondition(lambda self: len(self.clients) > len(self.away))
    @rule(which=indexes)
    def go_away(self, which: int) -> None:
        client = self._one([one for one in self.clients if one not in self.away], which)
        self.away.add(client)
        self.stage.do(self._drop(client, FOREVER_S))

    @precondition(lambda self: self.away)
    @rule(which=indexes)
    def come_back(self, which: int) -> None:
        client = self._one([one for one in self.clients if one in self.away], which)
        self.away.discard(client)
        client.awake()

    @precondition(lambda self: len(self.clients) > len(self.away))
    @rule(which=indexes, who=indexes, records=st.lists(facts, max_size=3))
    def drop_and_resume(self, which: int, who: int, records: list[dict[str, Any]]) -> None:
        """What is written meanwhile, to either account, is what it comes back for."""
        client = self._one([one for one in self.clients if one not in self.away], which)
        self.stage.do(self._drop(client, FOREVER_S))
        people = self.people[client.login.person.account]
        for record in records:
            self.stage.do(self._create(self._one(people, who), [record]))
        client.awake()

    async def _drop(self, client: Client, away_s: float) -> None:
        """It goes, and comes back to the next node."""
        client.base = self.stage.address(next(self.moves))
        client.drop(away_s)
        await asyncio.sleep(0.01)

    # What happens to everybody ---------------------------------------------------------------------------------------

    @rule(name=st.sampled_from(list(RULES)))
    def change_rule(self, name: str) -> None:
        self.stage.do(self._rule(name))
        self.rule_name = name

    async def _rule(self, name: str) -> None:
        await self.stage.root.call("PUT", f"/collections/{COLLECTION}/rules", json={"list_rule": RULES[name]})

    @rule(who=indexes, groups=st.lists(st.sampled_from(ROOMS), unique=True))
    def change_groups(self, who: int, groups: list[str]) -> None:
        person = self._one(self.people[self.near], who)
        self.stage.do(self.stage.root.call("PATCH", f"/users/{person.id}", json={"groups": groups}))
        self.groups[person] = tuple(groups)

    @rule(who=indexes)
    def end_logins(self, who: int) -> None:
        person = self._one(self.people[self.near], who)
        body = {"new_password": person.password}
        self.stage.do(self.stage.root.call("PUT", f"/users/{person.id}/password", json=body))
        self.logins[person] = Login(person)

    @precondition(lambda self: self.kills < self.most_kills)
    @rule(record=facts, while_writing=st.booleans(), which=indexes)
    def kill(self, record: dict[str, Any], while_writing: bool, which: int) -> None:
        """A server is killed, half of the times with a write on its way: then only the database knows whether."""
        self.kills += 1
        self.stage.do(self._kill(record if while_writing else None, which % len(self.stage.servers)))

    async def _kill(self, record: dict[str, Any] | None, node: int) -> None:
        login = self.logins[self.people[self.near][0]]
        body = {"id": str(uuid.uuid4()), **(record or {})}
        writing = None
        if record is not None:
            await login.token()
            writing = asyncio.create_task(login.once("POST", f"/records/{COLLECTION}", json=body, node=node))
            await asyncio.sleep(0.004)
        await self.stage.servers[node].kill()
        await self.stage.servers[node].start()
        if writing is None:
            return
        answer = None
        with suppress(Unanswered):
            answer = await writing
        found = await self.stage.root.list(COLLECTION, {}, headers={"x-account-id": self.near})
        truth, position = found.records, found.positions[-1]
        assert answer is None or body["id"] in truth, "an acknowledged write is missing after a kill"
        if body["id"] in truth:
            self.histories[self.near].commit(place(position), {body["id"]: truth[body["id"]]})

    # What has to hold ------------------------------------------------------------------------------------------------

    @invariant()
    def every_client_has_and_was_told_what_it_may_see(self) -> None:
        if getattr(self, "clients", None):
            self.stage.do(self._hold())

    async def _hold(self) -> None:
        here = [client for client in self.clients if client not in self.away]
        looking = asyncio.create_task(self._look(here))
        await asyncio.wait([looking, *self.runs], return_when=asyncio.FIRST_COMPLETED)
        for run in self.runs:
            if run.done():
                looking.cancel()
                run.result()
        await looking

    async def _look(self, here: Sequence[Client]) -> None:
        lists = [one for client in here for one in client.lists]
        settled = False
        while not settled:
            nodes = range(len(self.stage.servers))
            await compare([PythonHolder(client) for client in here], self._heads, nodes=nodes, patience_s=PATIENCE_S)
            # A client that was refused asks again by itself: what it is in the middle of can only be judged later.
            settled = all(one.state in (State.LIVE, State.REFUSED) for one in lists)
        for client in here:
            for one in client.lists:
                self._judge(client, one)

    async def _heads(self) -> Mapping[str, str]:
        """As one node sees them; a list obeys the rules of its moment on every node, so all see the same."""
        return {account: await self._head(account) for account in self.people}

    async def _head(self, account: str) -> str:
        query = {"limit": "1", "total": "false"}
        answer = await self.stage.root.call(
            "GET", f"/records/{COLLECTION}", params=query, headers={"x-account-id": account}
        )
        return str(answer["position"])

    def _judge(self, client: Client, one: LiveList) -> None:
        person = client.login.person
        if (self.rule_name == "nobody") != (one.state is State.REFUSED):
            raise one.wrong(f"{client.name} is {one.state.value} under the rule {self.rule_name!r}")
        if one.state is State.REFUSED:
            return
        history = self.histories[person.account]
        reader, wanted = Reader(person.id, self.groups[person]), self.filters[one]
        visible = history.visible(self.rule_name, wanted, reader)
        if one.records != visible:
            raise one.wrong(f"{client.name} holds {_short(one.records)}, not {_short(visible)}")
        told = history.told(one.since, self.rule_name, wanted, reader)
        if one.told != told:
            pairs = itertools.zip_longest(one.told or [], told)
            number, (found, expected) = next((n, pair) for n, pair in enumerate(pairs) if pair[0] != pair[1])
            about = f"{client.name}, rule {self.rule_name!r}, groups {reader.groups}, event {number}"
            raise one.wrong(f"{about}: was told\n    {found}\n  and not\n    {expected}")


def _short(records: Mapping[str, bytes]) -> str:
    return ", ".join(f"{one[:8]}: {text.decode()}" for one, text in sorted(records.items()))
