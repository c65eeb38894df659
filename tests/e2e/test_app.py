"""`SnackBase()` as an ASGI application: under another server's command, mounted in another application, by hand."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets
from starlette.applications import Starlette
from starlette.routing import Mount

from snackbase import ConfigError, HookAbort, Settings, SnackBase
from tests.support.server import ROOT, ServerProcess, free_port

MakeServer = Callable[..., Awaitable[ServerProcess]]
CREDENTIALS = {"email": "root@example.com", "password": "a-password-for-tests-only"}


def settings(folder: Path, **more: Any) -> Settings:
    return Settings(
        database_url=f"sqlite:///{folder}/snackbase.db",
        superadmin_email=CREDENTIALS["email"],
        superadmin_password=CREDENTIALS["password"],
        **more,
    )


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[SnackBase]:
    made = SnackBase(settings(tmp_path))
    yield made
    await made.stop()


def client_of(app: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1:8000")


async def test_without_a_lifespan_it_starts_with_the_first_request(app: SnackBase) -> None:
    async with client_of(app) as client:
        answers = await asyncio.gather(*(client.get("/ready") for _ in range(5)))

    assert [answer.status_code for answer in answers] == [200] * 5


async def test_mounted_in_another_application_it_serves_below_its_path(app: SnackBase) -> None:
    async with client_of(Starlette(routes=[Mount("/base", app)])) as client:
        login = await client.post("/base/api/v1/auth/login", json=CREDENTIALS)
        page = await client.get("/base/", follow_redirects=True)
        elsewhere = await client.get("/elsewhere")

    assert (login.status_code, page.status_code, page.url.path) == (200, 200, "/base/_/")
    assert elsewhere.status_code == 404


async def test_the_lifespan_starts_and_stops_it_in_order_and_twice_is_once(tmp_path: Path) -> None:
    app = SnackBase(settings(tmp_path))
    order: list[str] = []
    app.hook.on_bootstrap()(lambda: order.append("bootstrap"))
    app.hook.on_serve()(lambda: order.append("serve"))
    app.hook.on_terminate()(lambda: order.append("terminate"))
    await app.start()
    await app.start()
    await app.stop()
    await app.stop()

    assert order == ["bootstrap", "serve", "terminate"]


async def test_while_it_drains_it_is_alive_but_not_ready(app: SnackBase) -> None:
    async with client_of(app) as client:
        await app.start()
        await app.drain()
        ready, live, health = [await client.get(path) for path in ("/ready", "/live", "/health")]

    assert (ready.status_code, ready.json()["reason"], "retry-after" in ready.headers) == (503, "draining", True)
    assert (live.status_code, health.status_code) == (200, 200)


async def test_a_start_that_fails_is_told_to_the_server_in_one_sentence(tmp_path: Path) -> None:
    sent: list[Any] = []

    async def receive() -> dict[str, str]:
        return {"type": "lifespan.startup"}

    async def send(message: Any) -> None:
        sent.append(message)

    app = SnackBase(settings(tmp_path, secret_key="too-short"))
    await app({"type": "lifespan"}, receive, send)

    [message] = sent
    assert message["type"] == "lifespan.startup.failed"
    assert "SNACKBASE_SECRET_KEY is shorter than 32 bytes" in message["message"]


async def test_after_a_start_that_failed_it_can_be_started_again(tmp_path: Path) -> None:
    blocked = tmp_path / "data"
    blocked.write_text("a file where the folder should be")
    app = SnackBase(settings(blocked))
    with pytest.raises(ConfigError):
        await app.start()
    blocked.unlink()
    await app.start()
    async with client_of(app) as client:
        answer = await client.get("/ready")
    await app.stop()

    assert answer.status_code == 200


def test_single_settings_can_be_given_by_name_and_wrong_ones_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNACKBASE_PORT", "1234")

    assert SnackBase().settings.port == 1234
    assert SnackBase(port=4321).settings.port == 4321
    assert SnackBase(Settings(port=1), host="::1").settings == Settings(port=1, host="::1")
    with pytest.raises(ConfigError, match="prot is not a setting; did you mean port"):
        SnackBase(prot=1)


def test_what_an_application_needs_can_be_imported_from_the_package() -> None:
    assert issubclass(HookAbort, Exception)
    assert callable(SnackBase().hook.on_realtime_connect)


async def test_uvicorn_main_app_serves_it_with_realtime_and_without_tokens_in_its_log(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text("from snackbase import SnackBase\napp = SnackBase()\n")
    port = free_port()
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SNACKBASE_")}
    log = tmp_path / "log.txt"
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: ASYNC220  # it only starts here
            [sys.executable, "-m", "uvicorn", "main:app", "--port", str(port)],
            cwd=tmp_path,
            env={**inherited, "PYTHONPATH": str(ROOT / "src")},
            stdout=output,
            stderr=output,
        )
    try:
        password = await _password_in(log)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}/api/v1") as client:
            body = {"email": "admin@localhost", "password": password}
            token = (await client.post("/auth/login", json=body)).json()["token"]
            client.headers["authorization"] = f"Bearer {token}"
            await client.post("/collections", json={"name": "posts", "schema": [{"name": "title", "type": "text"}]})
            async with websockets.connect(f"ws://127.0.0.1:{port}/api/v1/realtime/ws?token={token}") as socket:
                await socket.send(json.dumps({"action": "subscribe", "collection": "posts"}))
                await socket.recv()
                await client.post("/records/posts", json={"title": "one"})
                event = json.loads(await socket.recv())
            async with client.stream("GET", f"/realtime/subscribe?collection=posts&token={token}") as stream:
                first = await anext(stream.aiter_lines())
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait)

    assert (event["type"], event["data"]["title"]) == ("posts.create", "one")
    assert first.startswith("retry: ")
    assert "realtime/subscribe" in log.read_text()
    assert token.split(".")[2] not in log.read_text()


async def _password_in(log: Path) -> str:
    async with asyncio.timeout(60):
        text = ""
        while "with the password " not in text or "running on" not in text:
            await asyncio.sleep(0.02)
            text = log.read_text()  # noqa: ASYNC240  # a few lines
    return text.partition("with the password ")[2].split()[0]
