"""The units of deploy/: systemd finds nothing wrong, and the server does what they rely on."""

import asyncio
import configparser
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from snackbase.config import Settings
from tests.support.nodes import SECRET
from tests.support.server import ROOT

UNITS = ROOT / "deploy"


def unit(name: str) -> configparser.ConfigParser:
    read = configparser.ConfigParser(strict=False, interpolation=None)
    read.optionxform = str  # type: ignore[assignment,method-assign]  # keys are written with capitals
    read.read_string((UNITS / name).read_text())
    return read


def test_the_service_allows_for_the_longest_stop_and_start() -> None:
    service, defaults = unit("snackbase.service")["Service"], Settings()
    longest = defaults.shutdown_delay_seconds + defaults.shutdown_seconds + defaults.hook_timeout_seconds
    assert float(service["TimeoutStopSec"]) > longest
    assert (service["Type"], service["NotifyAccess"]) == ("notify", "all")
    assert service["NoNewPrivileges"] == "true"
    assert unit("snackbase.socket")["Socket"]["ListenStream"] == f"{defaults.host}:{defaults.port}"


def test_the_service_is_started_again_for_as_long_as_the_database_is_away() -> None:
    """Five starts that fail within ten seconds are the end of a unit by default, and of its socket."""
    service = unit("snackbase.service")
    assert service["Unit"]["StartLimitIntervalSec"] == "0"
    assert (service["Service"]["Restart"], service["Service"]["RestartPreventExitStatus"]) == ("on-failure", "2")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze here")
def test_systemd_finds_nothing_wrong_with_the_units(tmp_path: Path) -> None:
    program = tmp_path / "snackbase"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for name in ("snackbase.service", "snackbase.socket"):
        text = (UNITS / name).read_text().replace("/opt/snackbase/bin/snackbase", str(program))
        (tmp_path / name).write_text(text)
    files = [str(tmp_path / name) for name in ("snackbase.service", "snackbase.socket")]
    done = subprocess.run(["systemd-analyze", "verify", *files], capture_output=True, text=True)
    complaints = [line for line in done.stderr.splitlines() if str(tmp_path) in line or "snackbase." in line]
    assert complaints == []


class Manager:
    """What systemd does: holds the socket, starts the service with it, and hears what it tells."""

    def __init__(self, folder: Path, arguments: str = "", **settings: str) -> None:
        self.folder = folder
        self.arguments = arguments
        self.settings = {f"SNACKBASE_{name}": value for name, value in settings.items()}
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.told.bind(str(folder / "notify"))
        self.told.setblocking(False)

    def start(self) -> "subprocess.Popen[bytes]":
        clean = {name: value for name, value in os.environ.items() if not name.startswith("SNACKBASE_")}
        environment = {**clean, "PYTHONPATH": str(ROOT / "src"), "NOTIFY_SOCKET": str(self.folder / "notify")}
        environment |= self.settings
        # The socket comes as file 3, and the process is told which one it is meant for.
        meant = f"exec 3<&{self.listener.fileno()}; export LISTEN_FDS=1 LISTEN_PID=$$"
        command = f"{meant}; exec {sys.executable} -m snackbase serve {self.arguments}"
        with (self.folder / "said.txt").open("ab") as said:
            return subprocess.Popen(
                ["/bin/bash", "-c", command],
                cwd=self.folder,
                env=environment,
                pass_fds=[self.listener.fileno()],
                stdout=said,
                stderr=said,
            )

    async def hears(self) -> list[str]:
        async with asyncio.timeout(60):
            return (await asyncio.get_running_loop().sock_recv(self.told, 4096)).decode().splitlines()

    async def answers(self) -> None:
        async with httpx.AsyncClient(timeout=60) as client:
            assert (await client.get(f"http://127.0.0.1:{self.port}/ready")).status_code == 200

    def close(self) -> None:
        self.listener.close()
        self.told.close()


async def test_a_restart_refuses_nobody_and_a_reload_hands_over(tmp_path: Path) -> None:
    await restarts_and_reloads(Manager(tmp_path))


async def test_several_workers_tell_systemd_the_same_as_one(tmp_path: Path, postgres_url: str) -> None:
    await restarts_and_reloads(Manager(tmp_path, "--workers 2", DATABASE_URL=postgres_url, SECRET_KEY=SECRET))


async def restarts_and_reloads(manager: Manager) -> None:
    first = manager.start()
    successor = 0
    try:
        # Asked before the server is there: the socket is, so the request waits.
        asked = asyncio.create_task(manager.answers())
        assert await manager.hears() == [f"MAINPID={first.pid}", "READY=1"]
        await asked

        first.terminate()
        assert await manager.hears() == ["STOPPING=1"]
        asked = asyncio.create_task(manager.answers())
        assert await asyncio.to_thread(first.wait) == 0
        second = manager.start()
        assert await manager.hears() == [f"MAINPID={second.pid}", "READY=1"]
        await asked

        second.send_signal(signal.SIGUSR2)
        [main, ready] = await manager.hears()
        successor = int(main.removeprefix("MAINPID="))
        assert (ready, successor != second.pid) == ("READY=1", True)
        # Replaced and not stopping: nothing is told that would make systemd think so.
        assert await asyncio.to_thread(second.wait) == 0
        await manager.answers()
        os.kill(successor, signal.SIGTERM)
        assert await manager.hears() == ["STOPPING=1"]
        successor = 0
    finally:
        if first.poll() is None:
            first.kill()
        if successor:
            os.kill(successor, signal.SIGKILL)
        manager.close()
