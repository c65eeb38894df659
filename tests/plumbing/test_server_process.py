"""`ServerProcess`: a real server that starts, tells why it does not, stops, crashes and comes back."""

import signal
from pathlib import Path

import httpx
import pytest

from tests.conftest import MakeServer
from tests.support.server import ServerFailed, ServerProcess, free_port


async def test_the_shared_server_is_ready(server: ServerProcess) -> None:
    async with httpx.AsyncClient(base_url=server.base_url) as client:
        assert (await client.get("/ready")).status_code == 200


async def test_a_stopped_server_ends_cleanly_and_comes_back_on_its_port(make_server: MakeServer) -> None:
    server = await make_server()
    port = server.port

    assert await server.stop() == 0
    await server.restart()

    assert server.port == port
    async with httpx.AsyncClient(base_url=server.base_url) as client:
        assert (await client.get("/health")).status_code == 200


async def test_a_killed_server_comes_back_on_its_data(make_server: MakeServer) -> None:
    server = await make_server()

    await server.kill()
    assert server.returncode == -signal.SIGKILL
    with pytest.raises(ServerFailed, match="not running"):
        _ = server.pid
    await server.start()

    assert server.returncode is None


async def test_a_server_that_refuses_to_start_tells_its_own_words(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path, settings={"NO_SUCH_SETTING": 1})

    with pytest.raises(ServerFailed, match="NO_SUCH_SETTING"):
        await server.start()


async def test_a_developers_own_settings_never_reach_a_server_under_test(
    make_server: MakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SNACKBASE_TEST_BROWSER", "/opt/browser")
    monkeypatch.setenv("SNACKBASE_SECRET_KEY", "short")

    assert (await make_server()).returncode is None


def test_free_ports_stay_out_of_the_range_of_outgoing_connections() -> None:
    low = Path("/proc/sys/net/ipv4/ip_local_port_range")
    if not low.exists() or (first := int(low.read_text().split()[0])) <= 20_000:
        pytest.skip("this system serves outgoing connections from the whole range")

    assert all(12_000 <= free_port() < first for _ in range(20))
