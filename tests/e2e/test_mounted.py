"""SnackBase in somebody else's hands: under plain uvicorn, and mounted in a Starlette and in a FastAPI application."""

import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from snackbase import ConfigError, Settings, SnackBase
from tests.conftest import MakeServer
from tests.e2e.support import House
from tests.support.server import ServerFailed, ServerProcess, free_port

ALONE = """
from snackbase import SnackBase

app = SnackBase()

@app.hook.on_terminate()
def told():
    print("terminated in order", flush=True)
"""
STARLETTE = f"""
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
{ALONE}
parent = Starlette(
    routes=[Route("/own", lambda request: PlainTextResponse("own")), Mount("/backend", app)], lifespan=app.lifespan
)
"""
FASTAPI = f"""
from contextlib import asynccontextmanager
from fastapi import FastAPI
{ALONE}
@asynccontextmanager
async def lifespan(api):
    async with app.lifespan():
        print("the parent has started", flush=True)
        yield

parent = FastAPI(lifespan=lifespan)
parent.mount("/backend", app)

@parent.get("/own")
async def own():
    return "own"
"""
WITHOUT_LIFESPAN = f"""
from fastapi import FastAPI
{ALONE}
parent = FastAPI()
parent.mount("/backend", app)
"""
Run = Callable[..., Awaitable[ServerProcess]]


@pytest.fixture
async def run(make_server: MakeServer, tmp_path: Path) -> AsyncIterator[Run]:
    """Starts plain uvicorn with a module's application: `await run(STARLETTE, "parent", prefix="/backend")`."""

    async def start(code: str, name: str, **more: object) -> ServerProcess:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        (folder / "main.py").write_text(code)
        port = free_port()
        arguments = (f"main:{name}", "--port", str(port))
        return await make_server(folder=folder, module="uvicorn", arguments=arguments, port=port, **more)

    yield start


PARENTS = [
    pytest.param(ALONE, "app", "", id="alone"),
    pytest.param(STARLETTE, "parent", "/backend", id="starlette"),
    pytest.param(FASTAPI, "parent", "/backend", id="fastapi"),
]


@pytest.mark.parametrize(("code", "name", "prefix"), PARENTS)
async def test_everything_is_served_below_its_path_and_streams_end_with_the_process(
    run: Run, code: str, name: str, prefix: str
) -> None:
    server = await run(code, name, prefix=prefix)
    async with House(server) as house:
        member, posts = await house.founder(), await house.collection("title")
        socket, stream = await house.follow("websocket", member, posts), await house.follow("sse", member, posts)
        post = await member.create(posts, title="one")
        events = [await client.next() for client in (socket, stream)]
        assert [event["data"] for event in events] == [post, post]
        openapi = (await house.client.get("/openapi.json")).json()
        asyncapi = (await house.client.get("/asyncapi.json")).json()
        page = (await house.client.get("/docs")).text
        assert openapi["servers"] == [{"url": prefix or "/"}]
        assert {one.get("pathname", "") for one in asyncapi["servers"].values()} == {prefix}
        assert 'href="openapi.json"' in page
        welcome = await house.client.get("/", follow_redirects=True)
        assert (welcome.url.path, 'href="../docs"' in welcome.text) == (f"{prefix}/_/", True)
        if prefix:
            own = await house.client.get(f"http://127.0.0.1:{server.port}/own")
            assert own.text.strip('"') == "own"

        # Plain uvicorn tells the application of its end only after it has waited for all streams.
        await server.stop()

        assert (await stream.rest())[-1]["code"] == "restarting"
    assert server.returncode in (0, -signal.SIGTERM)
    assert "terminated in order" in server.output
    await server.start()
    async with House(server) as house:
        await member_again(house, member.account["slug"], member.email, member.password, posts, events[0]["position"])


async def member_again(house: House, account: str, email: str, password: str, posts: str, since: str) -> None:
    """Come back after a restart, with a position."""
    member = await house.login(account, email, password)
    again = await house.follow("sse", member, {"collection": posts, "since": since})
    assert (await again.next())["type"] == "caught_up"


async def test_a_parent_that_does_not_run_the_lifespan_is_told_in_the_log(run: Run) -> None:
    server = await run(WITHOUT_LIFESPAN, "parent", prefix="/backend")

    assert "started_without_lifespan" in server.output
    assert "FastAPI(lifespan=backend.lifespan)" in server.output


async def test_a_start_that_fails_keeps_the_parent_from_starting_and_says_why(run: Run) -> None:
    with pytest.raises(ServerFailed, match="SNACKBASE_SECRET_KEY is shorter than 32 bytes"):
        await run(FASTAPI, "parent", prefix="/backend", settings={"SECRET_KEY": "short"})


async def test_a_parent_may_run_its_lifespan_again_as_its_tests_do(tmp_path: Path) -> None:
    backend = SnackBase(Settings(database_url=f"sqlite:///{tmp_path}/snackbase.db"))
    api = FastAPI(lifespan=backend.lifespan)
    api.mount("/backend", backend)

    for _ in range(2):
        async with (
            api.router.lifespan_context(api),
            httpx.AsyncClient(transport=httpx.ASGITransport(api), base_url="http://127.0.0.1") as client,
        ):
            assert (await client.get("/backend/ready")).json()["status"] == "ok"


async def test_the_lifespan_hands_on_what_keeps_it_from_starting(tmp_path: Path) -> None:
    backend = SnackBase(Settings(database_url=f"sqlite:///{tmp_path}/snackbase.db", secret_key="short"))

    with pytest.raises(ConfigError, match="shorter than 32 bytes"):
        async with backend.lifespan():
            pass


async def test_signals_go_back_to_whom_they_belong(tmp_path: Path) -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    try:
        mine = signal.getsignal(signal.SIGTERM)
        async with SnackBase(Settings(database_url=f"sqlite:///{tmp_path}/snackbase.db")).lifespan():
            assert signal.getsignal(signal.SIGTERM) is not mine
            signal.raise_signal(signal.SIGTERM)
            assert heard == [signal.SIGTERM]
        assert signal.getsignal(signal.SIGTERM) is mine
    finally:
        signal.signal(signal.SIGTERM, before)
