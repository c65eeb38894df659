"""The drill: PostgreSQL's data is lost, and comes back to a point in time, or from a dump.

The commands are those of docs/howto/postgresql.md.
"""

import asyncio
import os
import shutil
import time
from typing import Any

import pytest

from snackbase.storage.postgres.store import PostgresStore
from tests.conftest import MakeCluster, MakeServer
from tests.e2e.support import House, Member, place
from tests.support.server import ROOT, ServerProcess

PAGE = (ROOT / "docs/howto/postgresql.md").read_text(encoding="utf-8")
SECRET = "a-secret-of-the-tests-that-stays-the-same"


def settings(url: str) -> dict[str, Any]:
    return {"DATABASE_URL": url, "SECRET_KEY": SECRET}


class Archived:
    """A primary whose log is kept elsewhere, and the place where it will be restored."""

    def __init__(self, make_cluster: MakeCluster) -> None:
        self.restored = make_cluster(begin=False)
        self.archive = self.restored.folder / "archive"
        self.archive.mkdir()
        owner = self.restored.folder.stat()
        os.chown(self.archive, owner.st_uid, owner.st_gid)
        kept = {"archive_mode": "on", "archive_command": self.told("archive_command")}
        self.primary = make_cluster(settings=kept)

    def told(self, name: str) -> str:
        """A setting as the page tells it, with this archive."""
        (line,) = [line for line in PAGE.splitlines() if line.startswith(f"{name} = ")]
        return line.partition(" = ")[2].replace("/archive/", f"{self.archive}/")

    def base_backup(self) -> None:
        where = ("-h", str(self.primary.folder), "-U", "postgres")
        self.primary.program("pg_basebackup", *where, "-D", str(self.restored.data), "-c", "fast")

    def archived(self) -> None:
        """Wait until everything written so far lies in the archive."""
        last = self.primary.sql("SELECT pg_walfile_name(pg_switch_wal())")
        while not (self.archive / last).exists():
            time.sleep(0.01)

    def disaster(self) -> None:
        self.primary.stop(mode="immediate")
        shutil.rmtree(self.primary.data)

    def restore(self, point: str) -> None:
        with (self.restored.data / "postgresql.auto.conf").open("a") as file:
            file.write(f"restore_command = {self.told('restore_command')}\n")
            file.write(f"recovery_target_time = '{point}'\n")
            file.write(f"recovery_target_action = {self.told('recovery_target_action')}\n")
        (self.restored.data / "recovery.signal").touch()
        self.restored.start()
        while self.restored.sql("SELECT pg_is_in_recovery()") == "t":
            time.sleep(0.01)


async def told(house: House, member: Member, position: str) -> list[str]:
    """What a client hears that comes back with a position: titles, then how it ends."""
    client = await house.follow("websocket", member, {"collection": "posts", "since": position})
    messages = await client.until(lambda message: message["type"] in ("caught_up", "resync"))
    return [message["data"]["title"] for message in messages[:-1]] + [messages[-1]["type"]]


async def posted(member: Member, *titles: str) -> str:
    """Write them one by one; the position after the last."""
    client = await member.house.socket(member)
    await client.subscribe("posts")
    for title in titles:
        await member.create("posts", title=title)
    return str((await client.take(len(titles)))[-1]["position"])


async def titles(member: Member) -> set[str]:
    items = (await member.request("GET", "/records/posts?limit=100")).json()["items"]
    return {str(one["title"]) for one in items}


def beside(member: Member, house: House) -> Member:
    """The same login at another server."""
    shown = {"account": member.account, "user": member.user, "token": member.token}
    tokens = {**shown, "refresh_token": member.refresh_token}
    return Member(house, tokens, email=member.email, password=member.password)


async def test_a_database_comes_back_to_a_point_in_time_and_no_position_lies(
    make_cluster: MakeCluster, make_server: MakeServer
) -> None:
    drill = await asyncio.to_thread(Archived, make_cluster)
    server = await make_server(settings=settings(drill.primary.url()))
    async with House(server) as house:
        ann = await house.founder("ann")
        await house.collection("title", name="posts")
        before = await posted(ann, "before the backup")
        await asyncio.to_thread(drill.base_backup)
        at_the_point = await posted(ann, "after the backup", "right before the point")
        point = await asyncio.to_thread(drill.primary.sql, "SELECT clock_timestamp()")
        await ruled(house, "")
        under_a_lost_rule = await newest_position(ann)
        after = await posted(ann, "lost 1", "lost 2")
        await asyncio.to_thread(drill.archived)
    await asyncio.to_thread(drill.disaster)
    await server.stop()
    await asyncio.to_thread(drill.restore, point)

    server = await make_server(settings=settings(drill.restored.url()))
    async with House(server) as house:
        ann = beside(ann, house)
        assert await titles(ann) == {"before the backup", "after the backup", "right before the point"}
        assert await told(house, ann, before) == ["after the backup", "right before the point", "caught_up"]
        assert await told(house, ann, at_the_point) == ["caught_up"]
        assert await told(house, ann, after) == ["resync"]
        # The numbers that were told of what is lost are given to other changes now; so is no version of a rule.
        new = [f"new {number}" for number in range(5)]
        assert place(await posted(ann, *new)) > place(after) > place(at_the_point) == place(under_a_lost_rule)
        assert await told(house, ann, at_the_point) == [*new, "caught_up"]
        assert await told(house, ann, after) == ["resync"]
        await ruled(house, "created_by = @request.auth.id")
        assert await told(house, ann, under_a_lost_rule) == ["resync"]


async def ruled(house: House, rule: str) -> None:
    """Change who may list the posts."""
    root = await house.login("system", ServerProcess.SUPERADMIN_EMAIL, ServerProcess.SUPERADMIN_PASSWORD)
    (posts,) = (await root.request("GET", "/collections")).json()["items"]
    await root.request("PATCH", f"/collections/{posts['id']}", json={"list_rule": rule})


async def newest_position(member: Member) -> str:
    client = await member.house.socket(member)
    return str((await client.subscribe("posts"))["position"])


@pytest.mark.parametrize("where", ["in another database", "in the same database"])
async def test_a_restored_dump_is_a_new_history(make_cluster: MakeCluster, make_server: MakeServer, where: str) -> None:
    cluster = await asyncio.to_thread(make_cluster)
    cluster.sql("CREATE DATABASE first")
    server = await make_server(settings=settings(cluster.url("first")))
    connected = ("-h", str(cluster.folder), "-U", "postgres")
    file = str(cluster.folder / "dump")
    async with House(server) as house:
        ann = await house.founder("ann")
        await house.collection("title", name="posts")
        position = await posted(ann, "one", "two")
        await asyncio.to_thread(cluster.program, "pg_dump", *connected, "-Fc", "-f", file, "first")
        await posted(ann, "lost")
    await server.stop()
    if where == "in another database":
        cluster.sql("CREATE DATABASE second TEMPLATE template0 ENCODING 'UTF8'")
    database = "second" if where == "in another database" else "first"
    words = [] if database == "second" else ["--clean", "--if-exists"]
    await asyncio.to_thread(cluster.program, "pg_restore", *connected, *words, "--exit-on-error", "-d", database, file)

    server = await make_server(settings=settings(cluster.url(database)))
    async with House(server) as house:
        ann = await house.login(ann.account["slug"], ann.email, ann.password)
        assert await titles(ann) == {"one", "two"}
        assert await told(house, ann, position) == ["resync"]
        newest = await posted(ann, "three")
        assert await told(house, ann, newest) == ["caught_up"]


async def test_a_disk_put_back_by_archive_recovery_uses_no_version_twice(make_cluster: MakeCluster) -> None:
    first = await asyncio.to_thread(make_cluster)
    version = await version_of(first.url())
    first.stop(mode="immediate")
    second = make_cluster(begin=False)
    shutil.copytree(first.data, second.data, copy_function=shutil.copy2)
    for path in (second.data, *second.data.rglob("*")):
        shutil.chown(path, first.data.owner(), first.data.group())
    with (second.data / "postgresql.auto.conf").open("a") as file:
        file.write("restore_command = 'false'\n")
    (second.data / "recovery.signal").touch()
    await asyncio.to_thread(second.start)
    while second.sql("SELECT pg_is_in_recovery()") == "t":  # noqa: ASYNC110 - nothing tells of it
        await asyncio.sleep(0.01)

    assert await version_of(second.url()) > version


async def version_of(url: str) -> int:
    """Of schemas and rules, once a node has begun there."""
    store = PostgresStore(url)
    await store.open()
    try:
        return await store.version()
    finally:
        await store.close()
