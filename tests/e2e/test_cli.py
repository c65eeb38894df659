"""The command line as a newcomer and an operator use it, each command in a process of its own."""

import asyncio
import contextlib
import json
import os
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.nodes import SECRET
from tests.support.server import ROOT, ServerFailed, ServerProcess, free_port

MakeServer = Callable[..., Awaitable[ServerProcess]]
GENERATED: dict[str, str | int | float | bool] = {"SUPERADMIN_EMAIL": "", "SUPERADMIN_PASSWORD": ""}


class Command:
    """Runs `snackbase` in a folder, as a user does in a terminal."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("SNACKBASE_")}
        self.environment["PYTHONPATH"] = str(ROOT / "src")

    def __call__(self, *arguments: str, stdin: str = "", **settings: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "snackbase", *arguments],
            cwd=self.folder,
            env=self.environment | {f"SNACKBASE_{name}": value for name, value in settings.items()},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-u", "-m", "snackbase", *arguments],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path)


@pytest.fixture
def prepared(command: Command) -> Command:
    """A folder with an account `acme` in it."""
    assert command("create-account", "Acme", "--slug", "acme").returncode == 0
    return command


@contextlib.contextmanager
def pasted(session: str, server: ServerProcess) -> Iterator["subprocess.Popen[str]"]:
    """A terminal in the server's folder into which these lines are pasted; everything in it ends with the block."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SNACKBASE_")}
    own = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT / "src"),
        "SNACKBASE_DATABASE_URL": server.database_url,
    }
    terminal = subprocess.Popen(
        ["timeout", "60", "bash", "-c", session],
        cwd=server.folder,
        env=clean | own,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield terminal
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(terminal.pid, signal.SIGKILL)
        terminal.communicate()


def until(terminal: "subprocess.Popen[str]", text: str) -> str:
    """The first line of what the terminal shows that has the text."""
    assert terminal.stdout is not None
    return next(line for line in terminal.stdout if text in line)


def login(server: ServerProcess, email: str, password: str, account: str = "system") -> httpx.Response:
    body = {"account": account, "email": email, "password": password}
    return httpx.post(f"{server.base_url}/api/v1/auth/login", json=body)


async def test_the_first_start_tells_a_newcomer_how_to_get_in_and_what_to_do_next(make_server: MakeServer) -> None:
    server = await make_server(settings=GENERATED)
    first = server.output
    password = re.search(r"password +(\S+)", first)

    assert f"SnackBase is running: {server.base_url}" in first
    assert f"console       {server.base_url}/_/" in first
    assert str(server.folder) in first
    assert password is not None
    assert login(server, "admin@localhost", password[1]).status_code == 200
    follow, write = (part.partition("\n\n")[0] for part in first.split("\n\n  TOKEN=")[1:])
    with pasted(f"TOKEN={follow}", server) as second:
        while "/realtime/subscribe" not in server.output:  # noqa: ASYNC110  # another process writes it
            await asyncio.sleep(0.05)
        with pasted(f"TOKEN={write}", server) as third:
            until(third, "It works")
        assert "hello.create" in until(second, "It works")

    await server.restart()
    assert server.output.count(password[1]) == 1
    assert server.output.count("SnackBase is running") == 2


async def test_a_superadmin_from_the_settings_is_made_and_the_password_never_shown(make_server: MakeServer) -> None:
    server = await make_server()

    assert login(server, server.SUPERADMIN_EMAIL, server.SUPERADMIN_PASSWORD).status_code == 200
    assert server.SUPERADMIN_EMAIL in server.output
    assert server.SUPERADMIN_PASSWORD not in server.output


async def test_only_the_owner_may_read_the_secret_and_the_database(make_server: MakeServer) -> None:
    server = await make_server(settings={"DATABASE_URL": "sqlite:///snackbase.db"})

    for name in ("secret", "snackbase.db"):
        assert stat.S_IMODE((server.folder / name).stat().st_mode) & 0o077 == 0


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_the_server_cleanly(make_server: MakeServer, sign: signal.Signals) -> None:
    server = await make_server()
    os.kill(server.pid, sign)
    while server.returncode is None:  # noqa: ASYNC110  # another process: there is no event to wait for
        await asyncio.sleep(0.01)

    assert server.returncode == 0
    assert "Traceback" not in server.output


UNUSABLE = [
    ({"PROT": "1"}, "SNACKBASE_PROT is not a setting; did you mean SNACKBASE_PORT?"),
    ({"HOOK_THREADS": "many"}, "SNACKBASE_HOOK_THREADS: "),
    ({"SECRET_KEY": "too-short"}, "SNACKBASE_SECRET_KEY is shorter than 32 bytes"),
    ({"SECRET_KEY": "changeme-changeme-changeme-changeme"}, "SNACKBASE_SECRET_KEY is a known default"),
    ({"CORS_ORIGINS": "*"}, "SNACKBASE_CORS_ORIGINS: "),
    ({"TRUSTED_PROXIES": "proxy"}, "SNACKBASE_TRUSTED_PROXIES: "),
    ({"DATABASE_URL": "mysql://db"}, "SNACKBASE_DATABASE_URL: "),
    ({"BUS_URL": "amqp://broker"}, "SNACKBASE_BUS_URL: "),
    ({"SUPERADMIN_EMAIL": "nobody"}, "SNACKBASE_SUPERADMIN_EMAIL: "),
    ({"SUPERADMIN_PASSWORD": "short"}, "SNACKBASE_SUPERADMIN_PASSWORD: "),
    ({"SINGLE_TENANT_ACCOUNT": "not a slug"}, "SNACKBASE_SINGLE_TENANT_ACCOUNT: "),
    ({"REALTIME_ECHO": "true", "HOST": "0.0.0.0"}, "SNACKBASE_REALTIME_ECHO "),  # noqa: S104  # refused
]


@pytest.mark.parametrize(("settings", "line"), UNUSABLE)
def test_a_setting_that_cannot_be_used_is_told_in_one_line_with_exit_code_2(
    command: Command, settings: dict[str, str], line: str
) -> None:
    result = command("serve", "--port", "0", **{"LOG_FORMAT": "json", **settings})

    told = [text for text in result.stderr.splitlines() if not text.startswith("{")]
    assert result.returncode == 2
    assert [text[: len("snackbase: ") + len(line)] for text in told] == [f"snackbase: {line}"]
    assert "Traceback" not in result.stderr


def test_a_port_in_use_is_told_in_one_line(command: Command, server: ServerProcess) -> None:
    result = command("serve", "--port", str(server.port))

    assert result.returncode == 1
    assert result.stderr == f"snackbase: cannot listen on 127.0.0.1:{server.port}: Address already in use\n"


def test_a_database_that_cannot_be_opened_is_told_in_one_line(command: Command) -> None:
    (command.folder / "snackbase.db").write_text("this is no database, but long enough to be read as one" * 50)
    result = command("serve", "--port", "0", DATABASE_URL="sqlite:///snackbase.db", LOG_FORMAT="json")

    told = [text for text in result.stderr.splitlines() if not text.startswith("{")]
    assert result.returncode in (1, 2)
    assert [text.startswith("snackbase: ") for text in told] == [True]


async def test_an_application_of_ones_own_is_served_with_its_hooks_and_settings(
    make_server: MakeServer, tmp_path: Path
) -> None:
    (tmp_path / "main.py").write_text(
        "from snackbase import SnackBase\n"
        "app = SnackBase(realtime_enabled=False)\n"
        "@app.hook.on_bootstrap()\ndef bootstrap(app): print('bootstrap', app.settings.port)\n"
        "@app.hook.on_serve()\nasync def serve(): print('serve')\n"
        "@app.hook.on_terminate()\ndef terminate(): print('terminate')\n"
    )
    server = await make_server(arguments=("serve", "main:app"), folder=tmp_path)
    async with httpx.AsyncClient(base_url=server.base_url) as client:
        realtime = await client.get("/api/v1/realtime/subscribe")
    await server.stop()

    assert realtime.status_code == 404
    said = [line for line in server.output.splitlines() if line.startswith(("bootstrap", "serve", "terminate"))]
    assert said == [f"bootstrap {server.port}", "serve", "terminate"]


@pytest.mark.parametrize(
    ("reference", "line"),
    [
        ("nowhere:app", "nowhere:app: there is no module 'nowhere' here"),
        ("main:other", "main:other: 'other' in 'main' is not a SnackBase()"),
        ("main:number", "main:number: 'number' in 'main' is not a SnackBase()"),
    ],
)
def test_a_name_that_is_no_application_is_told_in_one_line(command: Command, reference: str, line: str) -> None:
    (command.folder / "main.py").write_text("number = 1\n")
    result = command("serve", reference)

    assert (result.returncode, result.stderr) == (2, f"snackbase: {line}\n")


def test_a_hook_that_declares_what_does_not_exist_stops_the_start_with_its_name(command: Command) -> None:
    (command.folder / "main.py").write_text(
        "from snackbase import SnackBase\napp = SnackBase()\n"
        "@app.hook.on_realtime_connect()\ndef greet(conection_id): ...\n"
    )
    result = command("serve", "main:app")

    assert result.returncode != 0
    assert "main.greet declares 'conection_id'; there are: connection_id, user_id, account_id" in result.stderr


async def test_accounts_users_and_superadmins_are_made_beside_a_running_server(make_server: MakeServer) -> None:
    server = await make_server()
    command = Command(server.folder)
    for arguments in (
        ("create-account", "Acme", "--slug", "acme"),
        ("create-user", "ann@example.com", "--account", "acme", "--password", "correct horse", "--group", "staff"),
        ("create-superadmin", "boss@example.com", "--password", "battery staple"),
    ):
        result = command(*arguments, DATABASE_URL=server.database_url)
        assert (result.returncode, result.stderr) == (0, "")

    user = login(server, "ann@example.com", "correct horse", "acme").json()["user"]
    assert (user["role"], user["groups"]) == ("user", ["staff"])
    assert login(server, "boss@example.com", "battery staple").status_code == 200


def test_a_password_is_asked_for_when_it_is_not_given(prepared: Command) -> None:
    result = prepared("create-user", "ann@example.com", "--account", "acme", stdin="battery staple\nbattery staple\n")

    assert result.returncode == 0
    assert "battery staple" not in result.stdout + result.stderr


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("create-account", "Again", "--slug", "acme"), "Another account has this slug."),
        (("create-user", "nobody", "--account", "acme", "--password", "x" * 8), "email: "),
        (("create-user", "a@example.com", "--account", "acme", "--password", "short"), "password: "),
        (("create-user", "a@example.com", "--account", "other", "--password", "long enough"), "account_id: "),
        (("token", "a@example.com", "--account", "acme"), "There is no active user a@example.com in the account acme."),
        (("token", "a@example.com", "--account", "other"), "There is no active user a@example.com in the account oth"),
    ],
)
def test_what_cannot_be_made_is_told_in_one_line(prepared: Command, arguments: tuple[str, ...], line: str) -> None:
    result = prepared(*arguments)

    assert result.returncode == 1
    assert result.stderr.startswith(f"snackbase: {line}")
    assert len(result.stderr.splitlines()) == 1


async def test_a_token_is_printed_for_scripts_and_nothing_else(make_server: MakeServer) -> None:
    server = await make_server()
    result = Command(server.folder)("token", server.SUPERADMIN_EMAIL, DATABASE_URL=server.database_url)
    headers = {"authorization": f"Bearer {result.stdout.strip()}"}
    async with httpx.AsyncClient(base_url=server.base_url) as client:
        me = await client.get("/api/v1/auth/me", headers=headers)

    assert (result.returncode, result.stderr, len(result.stdout.splitlines())) == (0, "", 1)
    assert me.json()["email"] == server.SUPERADMIN_EMAIL


def test_doctor_finds_nothing_to_repair_before_and_after_the_first_start(command: Command) -> None:
    before = command("doctor", PORT=str(free_port()))
    command("create-account", "Acme")
    after = command("doctor", PORT=str(free_port()))

    assert [(result.returncode, "BAD" in result.stdout) for result in (before, after)] == [(0, False), (0, False)]


def test_doctor_names_what_has_to_be_repaired(prepared: Command) -> None:
    folder = prepared.folder / "sb_data"
    folder.chmod(0o777)
    (folder / "secret").chmod(0o644)
    damaged = bytearray((folder / "snackbase.db").read_bytes())
    damaged[4096:8192] = b"\xff" * 4096
    (folder / "snackbase.db").write_bytes(damaged)
    result = prepared("doctor", CORS_ORIGINS="*")

    bad = [line.split()[1] for line in result.stdout.splitlines() if line.startswith("BAD")]
    assert (result.returncode, bad) == (1, ["settings", "data", "secret", "database"])


def test_doctor_looks_at_the_database_and_the_broker_that_nodes_share(command: Command, postgres_url: str) -> None:
    shared = {"DATABASE_URL": postgres_url, "PORT": str(free_port())}
    result = command("doctor", **shared, BUS_URL=f"nats://me:topsecret@127.0.0.1:{free_port()}")

    found = {line[6:].split("  ")[0].strip(): (line[:4].strip(), line) for line in result.stdout.splitlines()}
    assert (found["database"][0], found["connections"][0], found["bus"][0]) == ("note", "ok", "BAD")
    assert "SNACKBASE_SECRET_KEY" in found["secret"][1]
    assert "ConnectionRefusedError" in found["bus"][1]
    assert "topsecret" not in result.stdout + result.stderr
    assert result.returncode == 1


def test_doctor_and_a_start_say_why_the_database_cannot_be_reached(command: Command) -> None:
    away = f"postgresql://me:topsecret@127.0.0.1:{free_port()}/name"
    for arguments in (("doctor",), ("serve", "--port", "0"), ("create-account", "Acme")):
        result = command(*arguments, DATABASE_URL=away, SECRET_KEY=SECRET)

        assert result.returncode == 1
        assert "ConnectionRefusedError" in result.stdout + result.stderr
        assert "topsecret" not in result.stdout + result.stderr


@pytest.mark.parametrize(("settings", "line"), UNUSABLE)
def test_doctor_finds_every_setting_that_would_stop_a_start(
    command: Command, settings: dict[str, str], line: str
) -> None:
    result = command("doctor", **settings)

    assert result.returncode != 0
    assert line in result.stdout + result.stderr
    assert list(command.folder.iterdir()) == []


def test_doctor_changes_nothing(command: Command) -> None:
    command("doctor")

    assert list(command.folder.iterdir()) == []


def test_every_command_explains_itself(command: Command) -> None:
    overview = command("--help").stdout
    commands = re.findall(r"^  ([a-z][a-z-]+)  ", overview, re.MULTILINE)

    assert set(commands) == {
        "serve",
        "create-superadmin",
        "create-account",
        "create-user",
        "token",
        "doctor",
        "backup",
        "tail",
        "explain",
        "collections",
        "records",
        "migrate-data",
    }
    for name in commands:
        assert f" {name} " in command(name, "--help").stdout


def test_tail_without_a_token_says_how_to_give_one(command: Command) -> None:
    result = command("tail", "posts")

    assert result.returncode == 2
    assert "--token" in result.stderr


def test_tail_ends_when_the_token_is_refused(command: Command, server: ServerProcess) -> None:
    result = command("tail", "posts", "--url", server.base_url, "--token", "-", stdin="nonsense\n")

    assert (result.returncode, result.stderr) == (1, "snackbase: The token is not valid.\n")


def test_tail_shows_events_and_comes_back_after_a_restart(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path / "server", settings={"DATABASE_URL": f"sqlite:///{tmp_path}/snackbase.db"})
    server.start_now()
    token = login(server, server.SUPERADMIN_EMAIL, server.SUPERADMIN_PASSWORD).json()["token"]
    headers = {"authorization": f"Bearer {token}"}
    api = f"{server.base_url}/api/v1"
    definition = {"name": "posts", "schema": [{"name": "title", "type": "text"}]}
    assert httpx.post(f"{api}/collections", json=definition, headers=headers).status_code == 201
    tail = Command(tmp_path).start("tail", "posts", "--url", server.base_url, "--token", token, "--json")
    assert tail.stdout is not None
    messages = (json.loads(line) for line in tail.stdout)
    try:
        assert next(messages)["type"] == "subscribed"
        httpx.post(f"{api}/records/posts", json={"title": "one"}, headers=headers)
        assert _next_event(messages)["data"]["title"] == "one"
        server.stop_now()
        server.start_now()
        while next(messages)["type"] != "subscribed":
            pass
        httpx.post(f"{api}/records/posts", json={"title": "two"}, headers=headers)
        assert _next_event(messages)["data"]["title"] == "two"
    finally:
        tail.kill()
        tail.communicate()
        try:
            server.stop_now()
        except ServerFailed:
            server.kill_now()


def _next_event(messages: Iterator[dict[str, Any]]) -> dict[str, Any]:
    return next(message for message in messages if message["type"].startswith("posts."))


def test_a_backup_is_a_new_file_and_says_so(prepared: Command) -> None:
    done = prepared("backup", "copy.db")
    again = prepared("backup", "copy.db")

    assert (done.returncode, done.stdout.split()[0]) == (0, "copy.db")
    assert (again.returncode, again.stderr) == (1, "Error: copy.db is there already; nothing was written.\n")
    listed = prepared("create-account", "Acme", "--slug", "acme", DATABASE_URL="sqlite:///copy.db")
    assert "Another account has this slug" in listed.stderr


def test_a_backup_of_nothing_is_a_fault_and_leaves_nothing(command: Command) -> None:
    done = command("backup", "copy.db")

    assert done.returncode == 1
    assert "could not be copied" in done.stderr
    assert not (command.folder / "copy.db").exists()
