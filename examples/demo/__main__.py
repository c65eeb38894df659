"""`make demo`: starts a server, makes an account with two users, lets one write and shows what the other sees.

Nothing is left behind: the data lie in a temporary folder, the server ends with the demo. Standard library and rich
only, and nothing but the public REST and event-stream interface.
"""

import argparse
import contextlib
import http.client
import itertools
import json
import os
import random
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

START_S = 30.0
PAUSE_S = 0.45
SHOWN = 8
TASKS = ("Water the plants", "Buy milk", "Call the dentist", "Fix the bike", "Write to Bob", "Bake bread", "Sort")


class Api:
    """JSON requests to one server as one user."""

    def __init__(self, port: int, token: str = "") -> None:
        self.port = port
        self.token = token

    def call(self, method: str, path: str, body: object = None) -> Any:
        """The decoded answer. Raises RuntimeError with the server's words for anything but success."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        with contextlib.closing(connection):
            connection.request(method, f"/api/v1{path}", json.dumps(body) if body is not None else None, self.headers)
            answer = connection.getresponse()
            content = answer.read()
        if answer.status >= 300:
            raise RuntimeError(f"{method} {path}: {answer.status} {content.decode()}")
        return json.loads(content) if content else None

    @property
    def headers(self) -> dict[str, str]:
        credentials = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        return {"Content-Type": "application/json", **credentials}

    def events(self, query: str) -> Iterator[dict[str, Any]]:
        """Messages of an event stream, until it ends."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            connection.request("GET", f"/api/v1/realtime/subscribe?{query}", headers=self.headers)
            answer = connection.getresponse()
            if answer.status != 200:
                raise RuntimeError(f"the stream was answered with {answer.status}: {answer.read().decode()}")
            for line in answer:
                if line.startswith(b"data: "):
                    yield json.loads(line[6:])


class Board:
    """What Bob sees: the open tasks, and the newest events."""

    def __init__(self) -> None:
        self.tasks: dict[str, str] = {}
        self.events: list[str] = []
        self.ready = threading.Event()

    def receive(self, message: dict[str, Any]) -> None:
        """Apply one message: nothing but create, update and delete."""
        kind, _, operation = str(message["type"]).partition(".")
        if message["type"] == "subscribed":
            self.ready.set()
        if kind != "tasks":
            return
        record = message["data"]
        if operation == "delete":
            title = self.tasks.pop(record["id"], "?")
        else:
            title = self.tasks[record["id"]] = record["title"]
        crossing = f" ({message['change']})" if "change" in message else ""
        self.events = [*self.events, f"{message['timestamp'][11:23]}  {message['type']}{crossing}  {title}"][-SHOWN:]

    def drawn(self, left_s: float) -> Table:
        """Both lists side by side."""
        table = Table(title=f"Ada writes, Bob sees. {left_s:.0f} s left", expand=True)
        table.add_column("Open tasks, kept current by events alone", ratio=2)
        table.add_column("The events", ratio=3)
        tasks = list(self.tasks.values())
        for task, event in itertools.zip_longest(tasks[-SHOWN:], self.events, fillvalue=""):
            table.add_row(task, event)
        return table


def main() -> None:
    """Run the demo."""
    parser = argparse.ArgumentParser(prog="python -m examples.demo", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=15.0, help="how long it runs (default: %(default)s)")
    seconds: float = parser.parse_args().seconds
    console = Console()
    with tempfile.TemporaryDirectory(prefix="snackbase-demo-") as folder, server(Path(folder)) as (port, password):
        console.print(f"A server of its own runs on http://127.0.0.1:{port}")
        ada, bob = prepare(port, password)
        board = Board()
        threading.Thread(target=follow, args=(bob, board), daemon=True).start()
        if not board.ready.wait(START_S):
            raise SystemExit("The subscription was not acknowledged.")
        play(ada, board, seconds, console)
        items = bob.call("GET", "/records/tasks?filter=done%20%3D%20false&limit=100")["items"]
        same = {item["id"] for item in items} == set(board.tasks)
        console.print("The server's list is", "the same as the one on the screen." if same else "ANOTHER ONE: a fault!")
    sys.exit(0 if same else 1)


@contextlib.contextmanager
def server(folder: Path) -> Iterator[tuple[int, str]]:
    """A server on a free port with data in `folder`; gives port and the superadmin's password."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    password = secrets.token_urlsafe(12)
    settings = {
        "SNACKBASE_DATABASE_URL": f"sqlite:///{folder}/demo.db",
        "SNACKBASE_SUPERADMIN_PASSWORD": password,
        "SNACKBASE_LOG_LEVEL": "warning",
    }
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SNACKBASE_")}
    with (folder / "output.txt").open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [sys.executable, "-m", "snackbase", "serve", "--port", str(port)],
            cwd=folder,
            env={**clean, **settings},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until_ready(port, process, folder / "output.txt")
        yield port, password
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until_ready(port: int, process: "subprocess.Popen[bytes]", output: Path) -> None:
    """Return when the server answers. Raises SystemExit with what it printed when it does not."""
    until = time.monotonic() + START_S
    while time.monotonic() < until and process.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/ready")
            if connection.getresponse().status == 200:
                return
        except OSError:
            time.sleep(0.05)
        finally:
            connection.close()
    raise SystemExit(f"The server did not start:\n{output.read_text(errors='replace')}")


def prepare(port: int, password: str) -> tuple[Api, Api]:
    """A collection, an account and two users; gives both users' connections."""
    nobody = Api(port)
    root = Api(port, nobody.call("POST", "/auth/login", {"email": "admin@localhost", "password": password})["token"])
    fields = [
        {"name": "title", "type": "text", "required": True},
        {"name": "done", "type": "boolean", "default": False},
    ]
    root.call("POST", "/collections", {"name": "tasks", "schema": fields})
    secret = secrets.token_urlsafe(12)
    founding = {"email": "ada@example.com", "password": secret, "account_name": "Demo"}
    ada = Api(port, nobody.call("POST", "/auth/register", founding)["token"])
    ada.call("POST", "/users", {"email": "bob@example.com", "password": secret})
    login = {"account": "demo", "email": "bob@example.com", "password": secret}
    return ada, Api(port, nobody.call("POST", "/auth/login", login)["token"])


def follow(bob: Api, board: Board) -> None:
    """Bob's side: a filtered subscription, so done tasks leave his list by themselves."""
    wanted = '%7B"collection":"tasks","filter":"done=false"%7D'.replace('"', "%22")
    with contextlib.suppress(OSError, http.client.HTTPException):
        for message in bob.events(f"subscription={wanted}"):
            board.receive(message)


def play(ada: Api, board: Board, seconds: float, console: Console) -> None:
    """Ada's side: makes tasks, renames them, gets them done, deletes some, until the time is over."""
    chance = random.Random(7)
    ids: list[str] = []
    until = time.monotonic() + seconds
    with Live(board.drawn(seconds), console=console, refresh_per_second=8) as live:
        while (left_s := until - time.monotonic()) > 0:
            step(ada, ids, chance)
            live.update(board.drawn(left_s))
            time.sleep(min(PAUSE_S, left_s))
        time.sleep(PAUSE_S)
        live.update(board.drawn(0))


def step(ada: Api, ids: list[str], chance: random.Random) -> None:
    """One thing that Ada does."""
    what = chance.choices(("add", "done", "rename", "delete"), (5, 3, 2, 1))[0] if len(ids) > 2 else "add"
    if what == "add":
        ids.append(ada.call("POST", "/records/tasks", {"title": chance.choice(TASKS)})["id"])
        return
    task = chance.choice(ids)
    if what == "rename":
        ada.call("PATCH", f"/records/tasks/{task}", {"title": f"{chance.choice(TASKS)}!"})
        return
    ids.remove(task)
    if what == "done":
        ada.call("PATCH", f"/records/tasks/{task}", {"done": True})
    else:
        ada.call("DELETE", f"/records/tasks/{task}")


if __name__ == "__main__":
    main()
