"""A new process takes over from the one that runs: no request fails, nobody who comes back misses anything."""

import asyncio
import contextlib
import os
import signal
from pathlib import Path

import httpx
import pytest

from tests.conftest import MakeServer
from tests.e2e.support import House
from tests.fault.load import check, load
from tests.support.server import ServerFailed, ServerProcess

SETTINGS: dict[str, str | int | float | bool] = {"REALTIME_HEARTBEAT_SECONDS": 1, "SHUTDOWN_SECONDS": 10}


def successor(of: ServerProcess, **settings: str | int | float | bool) -> ServerProcess:
    """A process for the same folder and port that takes over when it is started."""
    return ServerProcess(
        of.folder, settings={**of.settings, **settings}, arguments=("serve", "--takeover"), port=of.port
    )


async def status(server: ServerProcess, path: str) -> int:
    async with httpx.AsyncClient() as client:
        return (await client.get(f"{server.base_url}{path}")).status_code


async def replaced(old: ServerProcess, new: ServerProcess) -> None:
    """Start the new process and wait until the old one has ended, in order."""
    await new.start()
    async with asyncio.timeout(30):
        while old.returncode is None:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.02)
    assert old.returncode == 0
    assert new.returncode is None


@pytest.mark.slow
async def test_under_load_no_request_fails_and_no_event_is_lost(make_server: MakeServer) -> None:
    server = await make_server(settings=SETTINGS)
    processes = [server]
    try:
        async with House(server) as house, load(house, seed=1) as made:
            await made.more(50)
            for _ in range(3):
                fresh = successor(processes[-1])
                processes.append(fresh)
                await replaced(processes[-2], fresh)
                await made.more(100)
        assert [writer.failed for writer in made.writers] == [[]] * len(made.writers)
        assert all(follower.returns == 3 for follower in made.followers)
    finally:
        for process in processes[1:]:
            await process.stop()
    await check(made, server.folder / "snackbase.db")


async def test_a_takeover_with_nobody_there_is_an_ordinary_start(make_server: MakeServer) -> None:
    server = await make_server(arguments=("serve", "--takeover"))
    assert await status(server, "/ready") == 200
    await server.kill()
    assert (server.folder / "takeover.sock").exists()

    await server.start()

    assert await status(server, "/ready") == 200


async def test_a_successor_that_cannot_start_changes_nothing(make_server: MakeServer) -> None:
    server = await make_server()
    broken = successor(server, SECRET_KEY="too short")

    with contextlib.suppress(ServerFailed):
        # The old server answers on the same port, so this may return before the new one's end.
        await broken.start()
    async with asyncio.timeout(30):
        while broken.returncode is None:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.02)
    assert broken.returncode == 2

    assert await status(server, "/ready") == 200
    fresh = successor(server)
    await replaced(server, fresh)
    assert await status(server, "/ready") == 200
    await fresh.stop()


async def test_a_takeover_keeps_the_port(make_server: MakeServer) -> None:
    server = await make_server()
    elsewhere = ServerProcess(server.folder, arguments=("serve", "--takeover"))

    with pytest.raises(ServerFailed, match="a takeover keeps the port"):
        await elsewhere.start()
    assert await status(server, "/ready") == 200


async def test_a_takeover_where_everything_lies_in_postgresql(make_server: MakeServer, postgres_url: str) -> None:
    server = await make_server(
        settings={"DATABASE_URL": postgres_url, "SECRET_KEY": "a-secret-out-of-the-settings-here"}
    )
    fresh = server.successor()

    await replaced(server, fresh)

    assert await status(fresh, "/ready") == 200
    await fresh.stop()


async def test_only_the_owner_may_ask(make_server: MakeServer) -> None:
    server = await make_server()

    assert (server.folder / "takeover.sock").stat().st_mode & 0o777 == 0o600
    await server.stop()
    assert not (server.folder / "takeover.sock").exists()


async def test_a_folder_far_down_is_no_obstacle(make_server: MakeServer, tmp_path: Path) -> None:
    server = await make_server(folder=tmp_path / ("deep" * 20) / ("down" * 20))
    fresh = successor(server)

    await replaced(server, fresh)

    await fresh.stop()


async def test_rules_changed_by_one_process_hold_in_the_other(make_server: MakeServer) -> None:
    """Two processes on one file, as for the moments of a takeover, but for as long as the test likes."""
    server = await make_server(settings=SETTINGS)
    other = ServerProcess(server.folder, settings=server.settings)
    await other.start()
    async with House(server) as here, House(other) as there:
        member, posts = await here.founder(), await here.collection("title")
        socket = await here.socket(member)
        await socket.subscribe(posts)
        superadmin = await there.superadmin()

        member.house = there
        listing, bearer = f"/api/v1/records/{posts}", {"authorization": f"Bearer {member.token}"}
        async with asyncio.timeout(30):
            while (await there.client.get(listing, headers=bearer)).status_code == 404:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        await member.create(posts, title="seen")
        assert (await socket.next())["data"]["title"] == "seen"

        rule = {"list_rule": "title != 'secret'"}
        await superadmin.request("PUT", f"/collections/{posts}/rules", json=rule)
        for title in ("secret", "plain"):
            await member.create(posts, title=title)
        told = await socket.until(lambda message: message.get("data", {}).get("title") == "plain")

        assert [message["type"] for message in told] == ["resync", f"{posts}.create"]
        assert "secret" not in socket.raw.decode()
    await other.stop()


async def test_a_second_signal_is_faster(make_server: MakeServer) -> None:
    server = await make_server(settings={"SHUTDOWN_SECONDS": 60, "SHUTDOWN_DELAY_SECONDS": 60})
    stopping = asyncio.create_task(server.stop())
    async with asyncio.timeout(20):
        while await status(server, "/ready") == 200:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.02)
        assert await status(server, "/live") == 200
        os.kill(server.pid, signal.SIGTERM)
        assert await stopping == 0
