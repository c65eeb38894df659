"""`python -m bench.rolling`: three nodes are restarted one after the other, under load, with 300 clients that resume.

All of it behind a real nginx with the settings of deploy/nginx.conf, over a real PostgreSQL and a real NATS. Writers
create, change and delete; clients of both transports come back with their positions wherever nginx sends them. Counted
are the answers that were no success, and the events that anybody missed, heard twice or in another order.
"""

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import msgspec

from bench.returning import Returning
from bench.servers import COLLECTION, TENANT_FIELDS
from bench.writing import Writing
from tests.support import proxies
from tests.support.nginx import REMEDY, find_nginx
from tests.support.nodes import Nodes
from tests.support.postgres import Cluster
from tests.support.server import ServerProcess, Setting

CLIENTS, NODES, ROUNDS, RATE = 300, 3, 1, 25.0
USERS = 6
PASSWORD = "a-password-for-the-benchmark"
CALM_S = 1.0
"""Between two restarts, as an operator would wait."""
PATIENCE_S = 60.0
MEMBERS = '@request.auth.id != ""'
SETTINGS: dict[str, Setting] = {
    "TRUSTED_PROXIES": "127.0.0.1",
    "LOG_LEVEL": "warning",
    # Everybody has the same address here.
    "LOGIN_ATTEMPTS_PER_MINUTE": 0,
    "REALTIME_MAX_CONNECTIONS_PER_USER": 1000,
    "REALTIME_MAX_CONNECTIONS_PER_ADDRESS": 0,
}


class Rolled(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it.

    Attributes:
        restarts: of nodes. seconds: from the first to the last. events: rows of the log meanwhile and around it.
        acknowledged: writes; as many, since each is one row.
        requests: answers by method and status. unanswered: requests without any. repeated: those that were sent again
            after a 503. replayed: those of them that had been carried out already.
        deliveries: events that clients heard. returns: how often clients came back. turned_away: answers instead of a
            connection, by status. resyncs: clients that were told to begin anew.
        missing, wrong: events that a client did not hear, and that came twice or out of order.
        silence_s: the longest between two events of one client. strange: what nobody should have been answered.
    """

    nodes: int
    clients: int
    restarts: int
    seconds: float
    events: int
    acknowledged: int
    requests: dict[str, int]
    unanswered: int
    repeated: int
    replayed: int
    deliveries: int
    returns: int
    turned_away: dict[str, int]
    resyncs: int
    missing: int
    wrong: int
    silence_s: float
    strange: list[str]

    @property
    def sound(self) -> bool:
        """Nothing lost, and no answer but successes and a 503 that was good when repeated."""
        others = {name for name in self.requests if not name.endswith((" 200", " 201", " 204", " 503"))}
        unsound = others or self.unanswered or self.resyncs or self.missing or self.wrong
        return not unsound and self.events == self.acknowledged


class Stage:
    """An account with its people and a collection, made at one node before anything else."""

    def __init__(self, server: ServerProcess) -> None:
        self._server = server
        self.tokens: list[str] = []
        self.position = ""

    async def set_up(self) -> None:
        async with httpx.AsyncClient(base_url=self._server.base_url, verify=False, timeout=30) as client:  # noqa: S501 - http

            async def send(method: str, path: str, token: str, **body: Any) -> Any:
                headers = {"authorization": f"Bearer {token}"} if token else {}
                answer = await client.request(method, f"/api/v1{path}", json=body or None, headers=headers)
                answer.raise_for_status()
                return answer.json()

            email, password = ServerProcess.SUPERADMIN_EMAIL, ServerProcess.SUPERADMIN_PASSWORD
            login = await send("POST", "/auth/login", "", account="system", email=email, password=password)
            root = login["token"]
            rules = {f"{rule}_rule": MEMBERS for rule in ("list", "view", "create", "update", "delete")}
            schema = [{"name": name, "type": kind} for name, kind in TENANT_FIELDS]
            await send("POST", "/collections", root, name=COLLECTION, schema=schema, **rules)
            account = await send("POST", "/accounts", root, name="bench", slug="bench")
            for number in range(USERS):
                person = {"email": f"u{number}@example.com", "password": PASSWORD}
                await send("POST", "/users", root, account_id=account["id"], role_id=2, **person)
                login = await send("POST", "/auth/login", "", account="bench", **person)
                self.tokens.append(login["token"])
        self.position = await self.head()

    async def head(self) -> str:
        """The account's position."""
        async with httpx.AsyncClient(base_url=self._server.base_url, verify=False, timeout=30) as client:  # noqa: S501 - http
            headers = {"authorization": f"Bearer {self.tokens[0]}"}
            answer = await client.get(f"/api/v1/records/{COLLECTION}?limit=1", headers=headers)
            return str(answer.raise_for_status().json()["position"])


async def roll(nodes: Nodes, rounds: int) -> float:
    """Each node after the other: SIGTERM, its end, a new process, `/ready`. The seconds it took."""
    began = time.monotonic()
    for _ in range(rounds):
        for server in nodes.servers:
            await asyncio.sleep(CALM_S)
            await server.restart()
    return time.monotonic() - began


async def measure(
    folder: Path, url: str, *, clients: int = CLIENTS, count: int = NODES, rounds: int = ROUNDS, rate: float = RATE
) -> Rolled:
    """One run. Raises TimeoutError when the clients do not come to the end."""
    async with AsyncExitStack() as opened:
        nodes = await opened.enter_async_context(Nodes(folder, count, database_url=url, settings=SETTINGS))
        stage = Stage(nodes.servers[0])
        await stage.set_up()
        behind = folder / "nginx"
        behind.mkdir()
        ports = [server.port for server in nodes.servers]
        proxy = await opened.enter_async_context(proxies.nginx(behind, *ports))
        listening = Returning(proxy.port, stage.tokens, clients, since=stage.position, chance=random.Random(1))
        opened.callback(listening.stop)
        await asyncio.to_thread(listening.wait, lambda: listening.live == clients, within_s=PATIENCE_S)
        writing = Writing(proxy.port, stage.tokens, rate)
        opened.callback(writing.stop)
        await asyncio.sleep(CALM_S)
        seconds = await roll(nodes, rounds)
        await asyncio.sleep(CALM_S)
        await asyncio.to_thread(writing.stop)
        head = place(await stage.head())
        await asyncio.to_thread(listening.wait, lambda: not listening.behind(head), within_s=PATIENCE_S)
        await asyncio.to_thread(listening.stop)
    return Rolled(
        nodes=count,
        clients=clients,
        restarts=rounds * count,
        seconds=round(seconds, 1),
        events=head - listening.first,
        acknowledged=writing.acknowledged,
        requests=dict(writing.answers),
        unanswered=writing.unanswered,
        repeated=writing.repeated,
        replayed=writing.replayed,
        deliveries=listening.heard,
        returns=listening.returns,
        turned_away={str(status): number for status, number in listening.turned_away.items()},
        resyncs=listening.resyncs,
        missing=(head - listening.first) * clients - listening.heard,
        wrong=listening.wrong,
        silence_s=round(listening.longest_silence_s, 1),
        strange=writing.strange,
    )


def place(position: str) -> int:
    """The number in a position: opaque to clients, but a benchmark may count by it."""
    return int(position.split(".")[1], 36)


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.rolling", description=__doc__)
    parser.add_argument("--clients", type=int, default=CLIENTS)
    parser.add_argument("--nodes", type=int, default=NODES)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="how often every node is restarted")
    parser.add_argument("--rate", type=float, default=RATE, help="writes a second, each with a read (default 25)")
    asked = parser.parse_args(words)
    if find_nginx() is None:
        print(f"bench.rolling: nginx is missing; {REMEDY}", file=sys.stderr)
        return 2
    cluster = Cluster(settings={"fsync": "on"})
    cluster.start()
    try:
        with tempfile.TemporaryDirectory(prefix="snackbase-rolling-") as folder:
            found = asyncio.run(
                measure(
                    Path(folder),
                    cluster.url(cluster.create()),
                    clients=asked.clients,
                    count=asked.nodes,
                    rounds=asked.rounds,
                    rate=asked.rate,
                )
            )
    finally:
        cluster.remove()
    print(msgspec.json.format(msgspec.json.encode(found)).decode())
    return 0 if found.sound else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
