"""SIGKILL in the middle of what happens beside the writes: the upgrade of an old folder, and a backup."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import MakeServer
from tests.e2e.support import House
from tests.fault import dying
from tests.fault.load import check, load
from tests.support.server import ROOT, ServerFailed, ServerProcess
from tests.upgrade.test_folders import VERSIONS, Old, ada_in

BACKUPS = 6


@pytest.mark.slow
async def test_a_kill_while_an_old_folder_is_upgraded_leaves_it_as_it_was_and_the_next_start_goes_on(
    tmp_path: Path,
) -> None:
    folder, old = tmp_path / "data", Old(min(VERSIONS))
    old.lay(folder)
    environment = {"DIE_AT": dying.UPGRADING, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    server = ServerProcess(folder, arguments=("serve", "tests.fault.dying:app"), environment=environment)
    (folder / dying.ARMED).write_text("1")

    with pytest.raises(ServerFailed, match="-9"):
        await server.start()
    assert _version(folder / "snackbase.db") == min(VERSIONS)
    await server.start()

    async with House(server) as house:
        ada = await ada_in(house, old)
        for name, records in old.known["records"].items():
            assert (await ada.request("GET", f"/records/{name}")).json()["items"] == records
    await server.stop()


@pytest.mark.slow
async def test_a_backup_that_is_killed_harms_nobody_and_a_whole_one_follows(
    make_server: MakeServer, tmp_path: Path
) -> None:
    server = await make_server(settings={"REALTIME_HEARTBEAT_SECONDS": 1})
    async with House(server) as house, load(house, seed=5) as made:
        await made.more(200)
        for number in range(BACKUPS):
            copying = _backup(server, tmp_path / f"cut-{number}.db")
            # Somewhere between its first breath and its end; what it has by then has to be harmless.
            time.sleep(0.15 + 0.05 * number)  # noqa: ASYNC251 - a moment of another process
            copying.send_signal(signal.SIGKILL)
            copying.wait()
            await made.more(10)
        whole = _backup(server, tmp_path / "whole.db")
        assert whole.wait() == 0
        await made.more(10)
    await server.stop()

    await check(made, server.folder / "snackbase.db")
    database = sqlite3.connect(tmp_path / "whole.db")
    assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert database.execute("SELECT value FROM _meta WHERE key = 'epoch'").fetchall() == []
    database.close()


def _backup(server: ServerProcess, target: Path) -> "subprocess.Popen[bytes]":
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SNACKBASE_")}
    environment |= {
        "PYTHONPATH": str(ROOT / "src"),
        "SNACKBASE_DATABASE_URL": f"sqlite:///{server.folder}/snackbase.db",
    }
    return subprocess.Popen(
        [sys.executable, "-m", "snackbase", "backup", str(target)],
        env=environment,
        cwd=server.folder,
        stdout=subprocess.DEVNULL,
    )


def _version(file: Path) -> int:
    database = sqlite3.connect(file)
    try:
        return int(database.execute("SELECT value FROM _meta WHERE key = 'schema_version'").fetchone()[0])
    finally:
        database.close()
