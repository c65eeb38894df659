"""The state machine over nodes on one PostgreSQL with a NATS, and what can happen between them.

Hints are lost, doubled and late all the time; the broker goes and comes, lines to it are cut, nodes are killed and
stand still, the database is restarted and killed. Writes go to each node in turn that answers.
"""

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from proof.livelist import place
from proof.people import Person, Unanswered
from tests.proof.machine import COLLECTION, SETTINGS, Machine, Stage, facts, indexes
from tests.support.nodes import Nodes
from tests.support.postgres import Cluster

HOSTILE = 0.2
HERE = {name: value for name, value in SETTINGS.items() if not name.startswith("SQLITE_")}


class ClusterStage(Stage):
    """Nodes for many examples.

    Attributes:
        nodes, database. away: numbers of nodes that are killed or paused just now.
    """

    def __init__(self, folder: Path, database: Cluster, *, count: int, plant: str | None = None) -> None:
        self.database = database
        self.away: set[int] = set()
        self.nodes = Nodes(
            folder,
            count,
            database_url=database.url(database.create()),
            settings=HERE,
            hostile=HOSTILE,
            application="" if plant is None else "tests.proof.hostile_plants:app",
            environment={} if plant is None else {"PLANT": plant},
        )
        loop = asyncio.new_event_loop()
        loop.run_until_complete(self.nodes.__aenter__())
        super().__init__(self.nodes.servers, loop, away=self.away)

    def close(self) -> None:
        self.do(self.nodes.__aexit__())
        super().close()


class ClusterMachine(Machine):
    """The steps on nodes. Every subclass has a `stage`."""

    stage: ClusterStage
    most_restarts = 1
    most_pauses = 2

    def teardown(self) -> None:
        if hasattr(self, "runs"):
            self.stage.do(self._mend())
        super().teardown()

    async def _mend(self) -> None:
        for line in self.stage.nodes.lines:
            line.heal()
        await self._broker(there=True)

    async def _enter(self) -> None:
        self.restarts = self.pauses = 0
        self.broker = True
        self.cut: set[int] = set()
        await super()._enter()

    # Requests --------------------------------------------------------------------------------------------------------

    async def _write(
        self, person: Person, method: str, path: str, body: Mapping[str, Any] | None, ids: Sequence[str]
    ) -> None:
        """Where there was no answer, the database tells."""
        try:
            await super()._write(person, method, path, body, ids)
        except Unanswered:
            await self._look_up(person.account, ids)

    async def _look_up(self, account: str, ids: Sequence[str]) -> dict[str, bytes]:
        found = await self.stage.root.list(COLLECTION, {}, headers={"x-account-id": account})
        history = self.histories[account]
        after = {one: found.records.get(one) for one in ids}
        if any(history.records.get(one) != record for one, record in after.items()):
            history.commit(place(found.positions[-1]), after)
        return found.records

    # What happens to nodes -------------------------------------------------------------------------------------------

    async def _kill(self, record: dict[str, Any] | None, node: int) -> None:
        """One node is killed, half of the times with a write on its way there."""
        server = self.stage.nodes.servers[node]
        person = self.people[self.near][0]
        body = {"id": str(uuid.uuid4()), **(record or {})}
        writing = None
        if record is not None:
            token = await self.logins[person].token()
            path = f"/records/{COLLECTION}"
            work = self.stage.desk.once("POST", path, json=body, token=token, node=node)
            writing = asyncio.create_task(work)
            await asyncio.sleep(0.004)
        self.stage.away.add(node)
        try:
            await server.kill()
            answer = None
            if writing is not None:
                with suppress(Unanswered):
                    answer = await writing
            # What the database was told before the node died is done by now, or never will be.
            await server.start()
            if writing is not None:
                truth = await self._look_up(self.near, [body["id"]])
                assert answer is None or body["id"] in truth, "an acknowledged write is missing after a kill"
        finally:
            self.stage.away.discard(node)

    @precondition(lambda self: self.pauses < self.most_pauses)
    @rule(which=indexes, seconds=st.sampled_from((0.2, 1.0, 2.5)), records=st.lists(facts, max_size=3))
    def pause(self, which: int, seconds: float, records: list[dict[str, Any]]) -> None:
        """A node stands still, and its connections stay; meanwhile is written elsewhere."""
        self.pauses += 1
        self.stage.do(self._pause(which % self.stage.nodes.count, seconds, records))

    async def _pause(self, number: int, seconds: float, records: Sequence[Mapping[str, Any]]) -> None:
        self.stage.away.add(number)
        self.stage.nodes.pause(number)
        try:
            for record in records:
                await self._create(self.people[self.near][0], [record])
            await asyncio.sleep(seconds)
        finally:
            self.stage.nodes.resume(number)
            self.stage.away.discard(number)

    @precondition(lambda self: self.restarts < self.most_restarts)
    @rule(hard=st.booleans())
    def restart_database(self, hard: bool) -> None:
        self.restarts += 1
        self.stage.do(self._restart_database(hard))

    async def _restart_database(self, hard: bool) -> None:
        database = self.stage.database
        await asyncio.to_thread(database.kill if hard else database.stop)
        await asyncio.to_thread(database.start)
        for node in range(self.stage.nodes.count):
            await self._writes_again(node)

    async def _writes_again(self, node: int) -> None:
        """A login is a row: it is not acknowledged before the node writes again."""
        root = self.stage.root.person
        body = {"account": root.account, "email": root.email, "password": root.password}
        answer = await self.stage.desk.until_answered("POST", "/auth/login", json=body, node=node)
        assert answer.status_code in (200, 429), answer.text

    # What happens between them ---------------------------------------------------------------------------------------

    @rule()
    def broker_comes_or_goes(self) -> None:
        self.stage.do(self._broker(there=not self.broker))

    async def _broker(self, *, there: bool) -> None:
        if there != self.broker:
            await (self.stage.nodes.nats.start() if there else self.stage.nodes.nats.kill())
        self.broker = there

    @rule(which=indexes, silently=st.booleans())
    def line_is_cut_or_healed(self, which: int, silently: bool) -> None:
        self.stage.do(self._line(which % self.stage.nodes.count, silently=silently))

    async def _line(self, number: int, *, silently: bool) -> None:
        line = self.stage.nodes.lines[number]
        if number in self.cut:
            line.heal()
            self.cut.discard(number)
            return
        self.cut.add(number)
        if silently:
            line.stall()
        else:
            line.conditions.refusing = True
            line.reset()
