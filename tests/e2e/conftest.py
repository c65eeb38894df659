"""Fixtures of the end-to-end tests, and the check that no server ever prints what proves an identity."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack

import pytest

from tests.conftest import SERVERS, MakeServer
from tests.e2e.support import House, printed_secrets
from tests.support.server import ServerProcess

MakeHouse = Callable[..., Awaitable[House]]
HEARTBEAT_S = 0.3


@pytest.fixture(autouse=True)
def nothing_secret_is_printed(request: pytest.FixtureRequest) -> Iterator[None]:
    """After every test: its servers' output holds no token and no password that any test used so far."""
    yield
    for one in request.node.stash.get(SERVERS, []):
        found = printed_secrets(one.output)
        assert not found, f"the output of {one.base_url} holds secrets: {found}"


@pytest.fixture
async def house(server: ServerProcess) -> AsyncIterator[House]:
    """The shared server with default settings: make accounts and collections of your own in it."""
    async with House(server) as house:
        yield house


@pytest.fixture
async def make_house(make_server: MakeServer) -> AsyncIterator[MakeHouse]:
    """Starts servers of the test's own: `await make_house(REALTIME_HEARTBEAT_SECONDS=1)`."""
    async with AsyncExitStack() as opened:

        async def make(**settings: object) -> House:
            arguments = settings.pop("arguments", ("serve",))
            more = {"folder": settings.pop("folder")} if "folder" in settings else {}
            server = await make_server(arguments=arguments, settings=settings, **more)
            return await opened.enter_async_context(House(server))

        yield make


@pytest.fixture(scope="session")
def quick_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Shared like `session_server`, with heartbeats that a test can wait for."""
    running = ServerProcess(tmp_path_factory.mktemp("quick"), settings={"REALTIME_HEARTBEAT_SECONDS": HEARTBEAT_S})
    running.start_now()
    yield running
    running.stop_now()


@pytest.fixture
async def quick_house(request: pytest.FixtureRequest, quick_server: ServerProcess) -> AsyncIterator[House]:
    """The shared server whose heartbeats come every 0.3 s."""
    request.node.stash.setdefault(SERVERS, []).append(quick_server)
    async with House(quick_server) as house:
        yield house
