"""`python -m bench.records`: many records of one collection: import, lists, schema changes; and who had to wait.

While each step runs, another account's client writes one small record after the other. Its longest write is what the
step costs others ("the stall"); a step of nothing shows what the machine itself costs.
"""

import argparse
import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import msgspec

from bench.report import machine
from tests.support.server import ROOT, ServerProcess

PIECE_BYTES = 1_000_000
"""Of an import over REST: below the limit of a body."""
QUERIES = 200
PAUSE_S = 0.005
"""Between two writes of the other client."""
QUIET_S = 3.0
FIELDS = [
    {"name": "title", "type": "text"},
    {"name": "body", "type": "text"},
    {"name": "status", "type": "select", "options": ["new", "open", "done"]},
    {"name": "views", "type": "number"},
]


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One measured step. `stall_ms`: the other client's longest write; `others`: how many it made."""

    name: str
    seconds: float
    note: str
    stall_ms: float
    p50_ms: float
    others: int


class Client:
    """One keep-alive connection with a token."""

    def __init__(self, port: int, token: str = "") -> None:
        self._http = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
        self.token = token
        self.account = ""

    def call(self, method: str, path: str, body: object = None) -> Any:
        """The answer's JSON. Raises RuntimeError for anything but success."""
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        if self.account:
            headers["X-Account-ID"] = self.account
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        try:
            self._http.request(method, f"/api/v1{path}", data, headers)
            answer = self._http.getresponse()
        except (ConnectionError, http.client.RemoteDisconnected):
            # The server closed a connection that was idle during a long step.
            self._http.close()
            self._http.request(method, f"/api/v1{path}", data, headers)
            answer = self._http.getresponse()
        text = answer.read()
        if answer.status >= 300:
            raise RuntimeError(f"{method} {path}: {answer.status} {text[:300]!r}")
        is_json = (answer.getheader("content-type") or "").startswith("application/json")
        return json.loads(text) if text and is_json else text

    def login(self, account: str, email: str, password: str) -> Self:
        """Become a user."""
        words = {"account": account, "email": email, "password": password}
        self.token = self.call("POST", "/auth/login", words)["token"]
        return self


class Other(threading.Thread):
    """The client that writes all the time; `waits` are its writes' durations in seconds since the last `take`."""

    def __init__(self, client: Client) -> None:
        super().__init__(name="other-writer", daemon=True)
        self._client = client
        self._waits: list[float] = []
        self._began = 0.0
        self.over = False

    def run(self) -> None:
        while not self.over:
            self._began = time.perf_counter()
            self._client.call("POST", "/records/bench_small", {"title": "x"})
            self._waits.append(time.perf_counter() - self._began)
            time.sleep(PAUSE_S)

    def take(self) -> list[float]:
        """The waits since the last call; one that is under way counts in the step it ends in."""
        found, self._waits = self._waits, []
        return found


class Bench:
    def __init__(self, server: ServerProcess, records: int) -> None:
        self.server = server
        self.records = records
        self.steps: list[Step] = []
        self.root = Client(server.port).login("system", server.SUPERADMIN_EMAIL, server.SUPERADMIN_PASSWORD)
        self.slugs = [self._account(name) for name in ("first", "second", "third")]
        self.first = Client(server.port).login("first", "first@example.com", "a-password-for-the-benchmark")
        for name in ("bench_large", "bench_again"):
            index = [{"fields": ["status", "views"]}]
            self.root.call("POST", "/collections", {"name": name, "schema": FIELDS, "indexes": index})
        self.root.call("POST", "/collections", {"name": "bench_small", "schema": FIELDS[:1]})
        self.other = Other(Client(server.port).login("third", "third@example.com", "a-password-for-the-benchmark"))

    def _account(self, name: str) -> str:
        account = self.root.call("POST", "/accounts", {"name": name, "slug": name})["id"]
        user = {"email": f"{name}@example.com", "password": "a-password-for-the-benchmark"}
        self.root.call("POST", "/users", {**user, "account_id": account, "role_id": 2})
        return name

    def step(self, name: str, work: Callable[[], str]) -> None:
        """Do one thing and look at what the other client had to wait."""
        self.other.take()
        began = time.perf_counter()
        note = work()
        seconds = time.perf_counter() - began
        time.sleep(PAUSE_S * 4)
        waits = self.other.take()
        self.steps.append(
            Step(
                name=name,
                seconds=round(seconds, 3),
                note=note,
                stall_ms=round(max(waits, default=seconds) * 1000, 1),
                p50_ms=round(statistics.median(waits or [seconds]) * 1000, 1),
                others=len(waits),
            )
        )
        print(line(self.steps[-1]), flush=True)

    def run(self) -> None:
        """Everything, in the order of the table."""
        file = self.server.folder / "records.jsonl"
        file.write_bytes(b"".join(map(record, range(self.records))))
        self.other.start()
        self.step("nothing", self._nothing)
        self.step("import by command", lambda: self._by_command("import", "bench_large", str(file)))
        self.step("import over REST", lambda: self._over_rest(file))
        self.step("list by cursor, all", self._cursor_walk)
        self.step("list by skip, last page", self._last_page)
        self.step("filter on an index", self._filter)
        self.step("export by command", lambda: self._by_command("export", "bench_large", "-o", str(file) + ".out"))
        added = [*FIELDS, {"name": "stars", "type": "number", "default": 3}]
        self.step("add a field with a default", lambda: self._alter(schema=added))
        self.step("drop a field", lambda: self._alter(schema=FIELDS))
        wider = [{"fields": ["status", "views"]}, {"fields": ["title"]}]
        self.step("add an index", lambda: self._alter(indexes=wider))
        self.step("drop the collection", self._drop)
        self.other.over = True
        self.other.join()

    def _by_command(self, verb: str, name: str, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "snackbase", "records", verb, name, *arguments, "--account", "first"],
            env=self.environment(),
            capture_output=True,
            text=True,
            check=True,
        )
        return (done.stdout or done.stderr).strip()

    def environment(self) -> dict[str, str]:
        """Of a command that works on the server's folder."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("SNACKBASE_")}
        database = f"sqlite:///{self.server.folder}/snackbase.db"
        return {**clean, "PYTHONPATH": str(ROOT / "src"), "SNACKBASE_DATABASE_URL": database}

    def _over_rest(self, file: Path) -> str:
        self.root.account, created = "second", 0
        piece: list[bytes] = []
        size = 0
        for one in [*file.read_bytes().splitlines(keepends=True), b""]:
            if size + len(one) > PIECE_BYTES or not one:
                created += self.root.call("POST", "/records/bench_again/import", b"".join(piece))["created"]
                piece, size = [], 0
            piece.append(one)
            size += len(one)
        self.root.account = ""
        return f"{created} created"

    def _cursor_walk(self) -> str:
        seen, pages, longest = 0, 0, 0.0
        cursor: str | None = ""
        while cursor is not None:
            began = time.perf_counter()
            page = self.first.call("GET", f"/records/bench_large?limit=100&cursor={cursor}&total=false")
            longest = max(longest, time.perf_counter() - began)
            cursor, seen, pages = page["next_cursor"], seen + len(page["items"]), pages + 1
        return f"{seen} records, {pages} pages, the longest {longest * 1000:.1f} ms"

    def _last_page(self) -> str:
        began = time.perf_counter()
        page = self.first.call("GET", f"/records/bench_large?limit=100&skip={self.records - 100}")
        return f"{len(page['items'])} of {page['total']} records in {(time.perf_counter() - began) * 1000:.1f} ms"

    def _filter(self) -> str:
        took = []
        for number in range(QUERIES):
            views = number * (self.records - 90) // QUERIES
            began = time.perf_counter()
            filter = f"status%3D'open'%26%26views%3E%3D{views}%26%26views%3C{views + 90}"
            page = self.first.call("GET", f"/records/bench_large?sort=views&filter={filter}")
            took.append((time.perf_counter() - began) * 1000)
            if page["total"] != 30:
                raise RuntimeError(f"the filter found {page['total']} records instead of 30")
        took.sort()
        return f"{QUERIES} queries, p50 {took[QUERIES // 2]:.1f} ms, p99 {took[QUERIES * 99 // 100]:.1f} ms"

    def _nothing(self) -> str:
        time.sleep(QUIET_S)
        return ""

    def _drop(self) -> str:
        self.root.call("DELETE", "/collections/bench_again")
        return ""

    def _alter(self, **change: object) -> str:
        self.root.call("PUT", "/collections/bench_large", change)
        return ""


def record(number: int) -> bytes:
    """One line: about 300 bytes. A third of the records has each status."""
    words = {"title": f"Record {number}", "body": f"{number} " * 30, "status": ("new", "open", "done")[number % 3]}
    return msgspec.json.encode({**words, "views": number}) + b"\n"


def line(step: Step) -> str:
    """A step as a row of the table."""
    times = f"{step.seconds:9.2f} s   stall {step.stall_ms:7.1f} ms   p50 {step.p50_ms:6.1f} ms"
    return f"{step.name.ljust(28)}{times}   {step.others:6} others   {step.note}"


def main(words: list[str]) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.records", description=__doc__)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--output", type=Path, help="a JSON file for the figures")
    chosen = parser.parse_args(words)
    with tempfile.TemporaryDirectory(prefix="snackbase-bench-") as folder:
        server = ServerProcess(Path(folder))
        server.start_now()
        try:
            bench = Bench(server, chosen.records)
            bench.run()
        finally:
            server.stop_now()
    if chosen.output is not None:
        results = {"machine": machine(), "records": chosen.records, "steps": bench.steps}
        chosen.output.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
