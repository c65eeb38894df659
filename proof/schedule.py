"""What happens between two checkpoints: a seeded random choice of faults, changes of rights and ends of processes."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from proof.between import Between
from proof.faults import Conditions, FaultProxy
from proof.people import Unanswered
from proof.world import World

Action = Callable[[], Awaitable[str] | str]


class Droppable(Protocol):
    """A client whose connection can be ended from its own side."""

    name: str

    def drop(self, away_s: float = 0.0) -> None: ...


class Schedule:
    """Draws actions and runs them one after another.

    Args:
        front: between the clients and nginx. backs: between nginx and each server.
        say: prints what was done. most_s: for how long a node is paused at most.
    """

    def __init__(
        self,
        world: World,
        clients: Sequence[Droppable],
        *,
        front: FaultProxy,
        backs: Sequence[FaultProxy],
        chance: random.Random,
        say: Callable[[str], None],
        most_s: float,
    ) -> None:
        self._world = world
        self._clients = clients
        self._front = front
        self._backs = backs
        self._chance = chance
        self._say = say
        self._between = Between(world.site, chance=chance, say=say, most_s=most_s)
        self.counts: Counter[str] = Counter()
        self._actions: list[tuple[str, int, Action]] = [
            ("drop", 8, self._drop),
            ("reset", 6, self._reset),
            ("stall", 3, self._stall),
            ("half-open", 3, self._stall_some),
            ("refuse", 3, self._refuse),
            ("slow network", 4, self._slow),
            ("calm network", 4, self._calm),
            ("kill", 4, lambda: self._process("was killed and started again", world.site.kill)),
            ("restart", 2, lambda: self._process("was restarted", world.site.restart)),
            ("takeover", 3, lambda: self._process("was taken over from", world.site.take_over)),
            ("rule", 5, lambda: world.change_rule(chance)),
            ("fields", 3, lambda: world.change_fields(chance)),
            ("groups", 4, lambda: world.change_groups(chance)),
            ("role", 3, lambda: world.change_role(chance)),
            ("schema", 3, lambda: world.change_schema(chance)),
            ("logins", 2, lambda: world.end_logins(chance)),
            ("disable", 2, lambda: world.disable(chance)),
            *self._between.actions(),
        ]
        # In a short run, too, everything happens between the nodes.
        self._due = [name for name, _, _ in self._between.actions()]
        chance.shuffle(self._due)

    async def run(self, seconds: float) -> None:
        """Do things for a while, then calm the network and see that everything runs."""
        ends = time.monotonic() + seconds
        try:
            while time.monotonic() < ends:
                await self.act(self._next())
                await asyncio.sleep(0.1 + 0.7 * self._chance.random())
            self._calm()
            await self._between.over()
        finally:
            await self._between.close()

    def _next(self) -> str:
        if self._due and self._chance.random() < 0.5:
            return self._due.pop()
        names = [name for name, _, _ in self._actions]
        weights = [weight for _, weight, _ in self._actions]
        return self._chance.choices(names, weights)[0]

    async def act(self, wanted: str) -> None:
        """One action by its name."""
        action = next(action for name, _, action in self._actions if name == wanted)
        try:
            done = action()
            sentence = done if isinstance(done, str) else await done
        except Unanswered as error:
            sentence = f"{wanted}: no answer ({error})"
        self.counts[wanted] += 1
        self._say(sentence)

    def _drop(self) -> str:
        client = self._chance.choice(self._clients)
        away_s = self._chance.choice((0.0, 0.0, 0.3, 2.0, 5.0))
        client.drop(away_s)
        return f"{client.name} dropped its connection, for {away_s} s"

    def _proxy(self) -> tuple[str, FaultProxy]:
        if self._chance.random() < 0.5:
            return "before nginx", self._front
        number = self._chance.randrange(len(self._backs))
        return f"between nginx and {self._named(number)}", self._backs[number]

    def _named(self, number: int) -> str:
        return f"node {number}" if len(self._backs) > 1 else "the server"

    def _reset(self) -> str:
        where, proxy = self._proxy()
        cut = proxy.reset(self._chance, self._chance.choice((0.2, 0.5, 1.0)))
        return f"{cut} connections {where} were reset"

    async def _stall(self) -> str:
        where, proxy = self._proxy()
        proxy.stall()
        seconds = self._chance.choice((0.5, 1.5, 3.0))
        await asyncio.sleep(seconds)
        proxy.heal()
        return f"everything {where} stalled for {seconds} s"

    def _stall_some(self) -> str:
        where, proxy = self._proxy()
        return f"{proxy.stall_some(self._chance, 0.3)} connections {where} are half-open for ever"

    async def _refuse(self) -> str:
        where, proxy = self._proxy()
        proxy.conditions.refusing = True
        cut = proxy.reset(self._chance, 0.5)
        await asyncio.sleep(1)
        proxy.conditions.refusing = False
        return f"{cut} connections {where} were reset and new ones refused for 1 s"

    def _slow(self) -> str:
        where, proxy = self._proxy()
        proxy.conditions = Conditions(
            latency_s=self._chance.choice((0.0, 0.02, 0.08)),
            rate=self._chance.choice((0, 200_000, 1_000_000)),
            slice_bytes=self._chance.choice((0, 7, 100)),
        )
        return f"the network {where} has {proxy.conditions}"

    def _calm(self) -> str:
        self._front.heal()
        for back in self._backs:
            back.heal()
        return "the network is well again"

    async def _process(self, done: str, work: Callable[[int], Awaitable[None]]) -> str:
        """Something happens to a process that is not paused."""
        began, number = time.monotonic(), self._world.site.awake(self._chance)
        if number is None:
            return f"nobody is there who {done}"
        await work(number)
        return f"{self._named(number)} {done} within {time.monotonic() - began:.1f} s"
