"""Fixtures that every test may ask for, and the loud words about tests that could not run."""

from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from pathlib import Path
from types import ModuleType

import pytest
import structlog
from hypothesis import HealthCheck, settings

from tests.support import browser as browser_support
from tests.support import missing
from tests.support import nginx as nginx_support
from tests.support import node as node_support
from tests.support import pgbouncer as pgbouncer_support
from tests.support import postgres as postgres_support
from tests.support.server import ServerProcess

# A shared machine is slow at times: that is no fault of the code under test, so no example has a time limit.
settings.register_profile("snackbase", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("snackbase")

MakeCluster = Callable[..., postgres_support.Cluster]
MakeServer = Callable[..., Awaitable[ServerProcess]]
SERVERS = pytest.StashKey[list[ServerProcess]]()


@pytest.fixture(autouse=True)
def _own_log() -> Iterator[None]:
    """A test that configures logging does so for itself alone."""
    structlog.reset_defaults()
    yield
    structlog.reset_defaults()


@pytest.fixture
def node() -> ModuleType:
    """`tests.support.node` (run_node, start_node); the test is left out loudly where Node is missing."""
    if node_support.find_node() is None:
        pytest.skip(
            missing.reason(
                "Node.js", f"install Node {node_support.OLDEST} or newer with npm; `make test` does the rest"
            )
        )
    return node_support


@pytest.fixture
def browser(node: ModuleType) -> ModuleType:
    """`tests.support.browser` (run_in_browser, open_page); the test is left out loudly where there is no browser."""
    if browser_support.find_browser() is None:
        remedy = f"install Chrome or Chromium, or set {browser_support.VARIABLE} to its path"
        pytest.skip(missing.reason("Chrome or Chromium", remedy))
    return browser_support


@pytest.fixture
def nginx() -> ModuleType:
    """`tests.support.nginx` (Nginx); the test is left out loudly where there is no nginx."""
    if nginx_support.find_nginx() is None:
        pytest.skip(missing.reason("nginx", nginx_support.REMEDY))
    return nginx_support


@pytest.fixture
def pgbouncer() -> ModuleType:
    """`tests.support.pgbouncer` (PgBouncer); the test is left out loudly where there is none."""
    if pgbouncer_support.find_pgbouncer() is None:
        pytest.skip(missing.reason("PgBouncer", pgbouncer_support.REMEDY))
    return pgbouncer_support


@pytest.fixture(scope="session")
def session_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Started once per test process; ask for `server`, which shows its output when the test fails."""
    running = ServerProcess(tmp_path_factory.mktemp("server"))
    running.start_now()
    yield running
    running.stop_now()


@pytest.fixture
def server(request: pytest.FixtureRequest, session_server: ServerProcess) -> ServerProcess:
    """A running server with default settings, shared by the tests of this process: make accounts of your own in it."""
    request.node.stash.setdefault(SERVERS, []).append(session_server)
    return session_server


@pytest.fixture
async def make_server(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[MakeServer]:
    """Starts servers of the test's own: `await make_server(settings={"REALTIME_HEARTBEAT_SECONDS": 1})`."""
    made: list[ServerProcess] = request.node.stash.setdefault(SERVERS, [])
    own: list[ServerProcess] = []

    async def make(**arguments: object) -> ServerProcess:
        folder = arguments.pop("folder", tmp_path / f"server-{len(own)}")
        fresh = ServerProcess(folder, **arguments)  # type: ignore[arg-type]  # its own signature checks them
        made.append(fresh)
        own.append(fresh)
        await fresh.start()
        return fresh

    yield make
    for one in own:
        if one.returncode is None:
            await one.stop()


@pytest.fixture(scope="session")
def postgres() -> postgres_support.Cluster:
    """The session's PostgreSQL, shared by all test processes: only to make databases in, never to be stopped."""
    return postgres_support.shared()


@pytest.fixture
def postgres_url(postgres: postgres_support.Cluster) -> Iterator[str]:
    """The URL of an empty database of this test's own."""
    name = postgres.create()
    yield postgres.url(name)
    postgres.drop(name)


@pytest.fixture
def make_cluster() -> Iterator[MakeCluster]:
    """Starts PostgreSQL servers of the test's own, to be stopped, killed and promoted (`begin=False`: a folder)."""
    made: list[postgres_support.Cluster] = []

    def make(*, begin: bool = True, **arguments: object) -> postgres_support.Cluster:
        cluster = postgres_support.Cluster(**arguments)  # type: ignore[arg-type]  # its own signature checks them
        made.append(cluster)
        if begin:
            cluster.start()
        return cluster

    yield make
    for cluster in made:
        cluster.remove()


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        postgres_support.announce()


def pytest_unconfigure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        postgres_support.finish()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Adds the end of a server's output to the report of a test that failed with it."""
    report = yield
    if report.failed:
        servers: list[ServerProcess] = item.stash.get(SERVERS, [])
        for number, one in enumerate(servers):
            report.sections.append((f"output of server {number} ({one.base_url})", one.output[-8000:]))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Names every test that a missing program kept from running."""
    for block in missing.blocks(terminalreporter.stats.get("skipped", [])):
        terminalreporter.section("TESTS THAT DID NOT RUN", sep="!", red=True, bold=True)
        terminalreporter.write_line(block, red=True)
