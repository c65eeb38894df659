"""What happens between nodes: to one of them, to their broker, to their database. Drawn by the schedule.

Hints are lost, doubled and late all the time (`tests/support/hostile.py`); what takes long goes on behind other things.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable

from proof.database import Database
from proof.site import Site
from tests.support.nodes import Nodes

Action = Callable[[], Awaitable[str] | str]
PAUSES_S = (1.0, 1.0, 3.0, 3.0, 8.0, 8.0, 15.0, 30.0)
"""How long a node stands still."""


class Between:
    """
    Args:
        say: prints what is over. most_s: for how long a node is paused at most.
    """

    def __init__(self, site: Site, *, chance: random.Random, say: Callable[[str], None], most_s: float) -> None:
        self._site = site
        self._chance = chance
        self._say = say
        self._pauses_s = [seconds for seconds in PAUSES_S if seconds <= most_s]
        self._behind: dict[str, asyncio.Task[None]] = {}

    def actions(self) -> list[tuple[str, int, Action]]:
        """Names, weights, actions; none where there is one server."""
        nodes, database = self._site.nodes, self._site.database
        if nodes is None or database is None:
            return []
        found: list[tuple[str, int, Action]] = [
            ("node paused", 4, self._pause),
            ("nodes restarted in turn", 1, self._rolling),
            ("database restarted", 2, lambda: self._database("was restarted", database.restart)),
            ("database killed", 2, lambda: self._database("was killed and started again", database.kill)),
            ("database promoted", 1, lambda: self._promote(database)),
        ]
        if nodes.lines:
            found += [
                ("broker killed", 3, lambda: self._broker_killed(nodes)),
                ("broker paused", 2, lambda: self._broker_paused(nodes)),
                ("broker cut off", 4, lambda: self._cut(nodes)),
            ]
        return found

    async def over(self) -> None:
        """Wait until what goes on behind is over."""
        while self._behind:
            await asyncio.gather(*self._behind.values())

    async def close(self) -> None:
        tasks = list(self._behind.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _then(self, subject: str, seconds: float, end: Callable[[], Awaitable[None]], told: str) -> None:
        """Do the second half of something later, and meanwhile other things."""

        async def later() -> None:
            await asyncio.sleep(seconds)
            await end()
            self._say(told)
            del self._behind[subject]

        self._behind[subject] = asyncio.create_task(later())

    # Nodes -----------------------------------------------------------------------------------------------------------

    def _pause(self) -> str:
        number = self._site.awake(self._chance)
        if number is None or len(self._site.out) + 1 == len(self._site.servers):
            return "only one node is left that is not paused"
        seconds = self._chance.choice(self._pauses_s)

        async def resume() -> None:
            self._site.resume(number)

        self._site.pause(number)
        self._then(f"node {number}", seconds, resume, f"node {number} goes on")
        return f"node {number} is paused for {seconds} s"

    async def _rolling(self) -> str:
        began = time.monotonic()
        for number in range(len(self._site.servers)):
            if number not in self._site.out:
                await self._site.restart(number)
        return f"all nodes were restarted one after the other within {time.monotonic() - began:.1f} s"

    # The database ----------------------------------------------------------------------------------------------------

    async def _database(self, told: str, work: Callable[[], None]) -> str:
        began = time.monotonic()
        await asyncio.to_thread(work)
        return f"PostgreSQL {told} within {time.monotonic() - began:.1f} s"

    async def _promote(self, database: Database) -> str:
        began = time.monotonic()
        await asyncio.to_thread(database.promote)
        return f"PostgreSQL died, its standby took over and has a standby, within {time.monotonic() - began:.1f} s"

    # The broker ------------------------------------------------------------------------------------------------------

    def _broker_killed(self, nodes: Nodes) -> Awaitable[str] | str:
        if "broker" in self._behind:
            return "the broker is away already"
        return self._kill_broker(nodes, self._chance.choice((0.0, 0.5, 3.0, 8.0)))

    async def _kill_broker(self, nodes: Nodes, seconds: float) -> str:
        await nodes.nats.kill()
        self._then("broker", seconds, nodes.nats.start, "the broker is there again")
        return f"the broker was killed, for {seconds} s"

    def _broker_paused(self, nodes: Nodes) -> str:
        if "broker" in self._behind:
            return "the broker is away already"
        seconds = self._chance.choice((0.5, 3.0, 10.0))

        async def resume() -> None:
            nodes.nats.resume()

        nodes.nats.pause()
        self._then("broker", seconds, resume, "the broker goes on")
        return f"the broker is paused for {seconds} s"

    def _cut(self, nodes: Nodes) -> str:
        number = self._chance.randrange(len(nodes.lines))
        if f"line {number}" in self._behind:
            return f"node {number} is cut off from the broker already"
        line, seconds, silently = (
            nodes.lines[number],
            self._chance.choice((0.5, 3.0, 10.0)),
            self._chance.random() < 0.5,
        )
        if silently:
            line.stall()
        else:
            line.conditions.refusing = True
            line.reset()

        async def heal() -> None:
            line.heal()

        self._then(f"line {number}", seconds, heal, f"node {number} reaches the broker again")
        return f"node {number} is cut off from the broker {'in silence ' if silently else ''}for {seconds} s"
