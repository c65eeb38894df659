"""A data folder of every released shape: opened, upgraded and used, with everything its clients remember."""

import asyncio
import json
import sqlite3
import sys
from pathlib import Path
from typing import Any

import pytest

from snackbase.storage.schema import MIGRATIONS
from tests.conftest import MakeServer
from tests.e2e.support import House, Member, Messages
from tests.support.server import ROOT, ServerFailed, ServerProcess
from tests.upgrade.make import ADA, FOLDERS

VERSIONS = sorted(int(file.stem.removeprefix("schema-")) for file in FOLDERS.glob("schema-*.sql"))


class Old:
    """The fixture of one version."""

    def __init__(self, version: int) -> None:
        self.version = version
        self.sql = (FOLDERS / f"schema-{version}.sql").read_text(encoding="utf-8")
        self.known: dict[str, Any] = json.loads((FOLDERS / f"schema-{version}.json").read_text(encoding="utf-8"))

    def lay(self, folder: Path, *, sidecar: bool = True) -> Path:
        """The folder as the old program left it."""
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "snackbase.db"
        database = sqlite3.connect(file)
        database.executescript(self.sql)
        database.execute("PRAGMA journal_mode = WAL").fetchall()
        database.close()
        if sidecar and self.known["sidecar"] is not None:
            (folder / "snackbase.db.epoch").write_text(json.dumps(self.known["sidecar"]))
        return file


async def ada_in(house: House, old: Old) -> Member:
    return await house.login(old.known["account"], ADA["email"], ADA["password"])


async def came_back(house: House, member: Member, position: str) -> list[dict[str, Any]]:
    """Everything a client is told that comes back with a position, up to where it is live."""
    client: Messages = await house.follow("websocket", member, {"collection": "posts", "since": position})
    return await client.until(lambda message: message["type"] in ("caught_up", "resync"))


def copies(folder: Path) -> list[str]:
    return sorted(file.name for file in (folder / "backups").iterdir()) if (folder / "backups").exists() else []


def schema_version(file: Path) -> int:
    database = sqlite3.connect(file)
    try:
        return int(database.execute("SELECT value FROM _meta WHERE key = 'schema_version'").fetchone()[0])
    finally:
        database.close()


def test_there_is_a_folder_of_every_shape_but_the_newest() -> None:
    """`python -m tests.upgrade.make` makes one of the newest when it is released."""
    assert set(VERSIONS) >= set(range(1, len(MIGRATIONS)))


@pytest.mark.parametrize("version", VERSIONS)
async def test_an_old_folder_opens_with_its_records_users_and_positions(
    make_server: MakeServer, tmp_path: Path, version: int
) -> None:
    old = Old(version)
    old.lay(tmp_path / "data")
    server = await make_server(folder=tmp_path / "data")
    async with House(server) as house:
        ada = await ada_in(house, old)
        for name, records in old.known["records"].items():
            assert (await ada.request("GET", f"/records/{name}")).json()["items"] == records
        late = await came_back(house, ada, old.known["late"])
        early = await came_back(house, ada, old.known["early"])
        post = await ada.create("posts", title="made after the upgrade", likes=2)
        found = (await ada.request("GET", f"/records/posts/{post['id']}")).json()
        groups = await ada.request("GET", "/groups")

    if old.known["sidecar"] is None:
        # A program that kept none cannot tell what became of the folder since.
        assert [message["type"] for message in [*late, *early]] == ["resync", "resync"]
    else:
        assert [message["type"] for message in late] == ["caught_up"]
        assert [message["type"] for message in early] == [*old.known["missed"], "caught_up"]
    assert (found["title"], groups.status_code) == ("made after the upgrade", 200)
    assert schema_version(server.folder / "snackbase.db") == len(MIGRATIONS)


@pytest.mark.parametrize("version", [version for version in VERSIONS if version < len(MIGRATIONS)])
async def test_the_copy_from_before_the_upgrade_can_be_restored(
    make_server: MakeServer, tmp_path: Path, version: int
) -> None:
    old = Old(version)
    old.lay(tmp_path / "data")
    server = await make_server(folder=tmp_path / "data")
    async with House(server) as house:
        ada = await ada_in(house, old)
        await ada.create("posts", title="lost with the restored copy")
        position = (await (await house.socket(ada)).subscribe("posts"))["position"]
    await server.stop()
    [copy] = copies(server.folder)
    assert copy.startswith(f"snackbase-schema{version}-")
    assert schema_version(server.folder / "backups" / copy) == version
    assert (server.folder / "backups" / copy).stat().st_mode & 0o777 == 0o600

    (server.folder / "backups" / copy).replace(server.folder / "snackbase.db")
    await server.start()

    async with House(server) as house:
        ada = await ada_in(house, old)
        items = (await ada.request("GET", "/records/posts")).json()["items"]
        told = await came_back(house, ada, position)
    assert items == old.known["records"]["posts"]
    assert [message["type"] for message in told] == ["resync"]


async def test_doctor_tells_what_the_next_start_will_do(tmp_path: Path) -> None:
    Old(1).lay(tmp_path / "sb_data")
    assert (
        f"version 1; the next start copies the database into backups/ and brings it to version {len(MIGRATIONS)}"
        in (await doctor(tmp_path))
    )
    assert schema_version(tmp_path / "sb_data" / "snackbase.db") == 1

    Old(1).lay(tmp_path / "newer" / "sb_data")
    database = sqlite3.connect(tmp_path / "newer" / "sb_data" / "snackbase.db")
    database.execute("UPDATE _meta SET value = '99' WHERE key = 'schema_version'")
    database.commit()
    database.close()
    assert "BAD   schema" in await doctor(tmp_path / "newer")


async def doctor(folder: Path) -> str:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "snackbase", "doctor"),
        cwd=folder,
        env={"PYTHONPATH": str(ROOT / "src")},
        stdout=asyncio.subprocess.PIPE,
    )
    return (await process.communicate())[0].decode()


async def test_without_its_backup_nothing_is_upgraded_and_the_reason_is_told(tmp_path: Path) -> None:
    file = Old(2).lay(tmp_path / "data")
    before = file.read_bytes()
    (tmp_path / "data" / "backups").write_text("no folder")
    server = ServerProcess(tmp_path / "data")

    with pytest.raises(ServerFailed, match=r"could not be made in .*backups: .*Nothing was changed.*UPGRADE_BACKUPS=0"):
        await server.start()
    assert server.returncode == 2
    assert file.read_bytes() == before

    server.settings["UPGRADE_BACKUPS"] = 0
    await server.start()
    await server.stop()
    assert schema_version(file) == len(MIGRATIONS)
