"""What a move refuses, and that nothing is there afterwards; it may die at any point and is done again."""

import asyncio
import secrets
import signal
import sqlite3
import sys
from collections.abc import AsyncIterable, AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from snackbase.config import ConfigError
from snackbase.model import Field, FieldType, Index
from snackbase.storage.moving.folder import FolderSource, FolderTarget
from snackbase.storage.moving.move import Move
from snackbase.storage.moving.server import ServerSource, ServerTarget
from snackbase.storage.moving.tables import LEFT, SYSTEM, Moved, MoveRefused, Row, Sum
from snackbase.storage.postgres.link import Server
from snackbase.storage.postgres.store import PostgresStore
from snackbase.storage.sqlite import SQLiteStore
from tests.conftest import MakeCluster
from tests.storage.support import account, collection, creating, text, write
from tests.support.server import ROOT

NOW_US = 1_700_000_000_000_000
POSTS = 40


@pytest.fixture
async def file(tmp_path: Path) -> Path:
    """A database file with an account and some posts, which nobody has open."""
    path = tmp_path / "old" / "snackbase.db"
    store = SQLiteStore(path)
    await store.open()
    likes = Field(name="likes", type=FieldType.NUMBER)
    posts = await collection(store, "posts", text("title"), text("tag"), likes, indexes=[Index(fields=("tag",))])
    home = await account(store, "home")
    await write(store, *(creating(posts, {"title": f"post {n}", "likes": n}) for n in range(POSTS)), account_id=home)
    await store.close()
    return path


def target(url: str) -> ServerTarget:
    return ServerTarget(Server(url=url), new_epoch="fresh1", now_us=NOW_US)


async def move(file: Path, to: ServerTarget) -> dict[str, Sum]:
    return await Move(FolderSource(file), to, lambda *_: None).run()


async def asked(url: str, sql: str) -> Any:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


async def tables_in(url: str) -> int:
    sql = "SELECT count(*) FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace"
    return int(await asked(url, sql))


def change(file: Path, sql: str, *args: object) -> None:
    database = sqlite3.connect(file)
    database.execute(sql, args)
    database.commit()
    database.close()


async def test_every_table_of_the_system_is_moved_or_left_on_purpose(file: Path, postgres_url: str) -> None:
    database = sqlite3.connect(file)
    names = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    database.close()
    assert names == {*SYSTEM, *LEFT, "c_posts"}

    sums = await move(file, target(postgres_url))
    assert set(sums) == {*SYSTEM, "c_posts"}
    assert sums["c_posts"].rows == POSTS


@pytest.mark.parametrize(
    ("sql", "args", "reason"),
    [
        ("UPDATE c_posts SET title = 'a' || char(0) WHERE likes = 3", (), r"c_posts holds U\+0000.* id '"),
        ("UPDATE c_posts SET title = x'00ff' WHERE likes = 3", (), "not text as its field says: c_posts, id '.*title"),
        ("UPDATE c_posts SET title = CAST(x'ff' AS TEXT) WHERE likes = 3", (), "c_posts is not UTF-8"),
        ("UPDATE c_posts SET likes = 'many' WHERE likes = 3", (), "not a number .* likes"),
        ("UPDATE c_posts SET tag = ? WHERE likes = 3", (secrets.token_hex(20_000),), "too long .* over tag.* id '"),
        ("UPDATE _meta SET value = '3' WHERE key = 'schema_version'", (), "older SnackBase .*Start this program's"),
        ("UPDATE _meta SET value = '99' WHERE key = 'schema_version'", (), "newer SnackBase"),
        ("DROP TABLE _meta", (), "not SnackBase's"),
    ],
)
async def test_what_cannot_be_moved_is_named_and_nothing_is(
    file: Path, postgres_url: str, sql: str, args: tuple[object, ...], reason: str
) -> None:
    change(file, sql, *args)
    with pytest.raises((MoveRefused, ConfigError), match=reason):
        await move(file, target(postgres_url))
    assert await tables_in(postgres_url) == 0


async def test_a_source_that_is_no_database_or_in_use_is_refused(file: Path, postgres_url: str, tmp_path: Path) -> None:
    with pytest.raises(MoveRefused, match="There is no database at"):
        await move(tmp_path / "nowhere.db", target(postgres_url))
    (tmp_path / "text.db").write_text("no database at all, only a text that is long enough to be looked at" * 20)
    with pytest.raises(MoveRefused, match="is not an SQLite database"):
        await move(tmp_path / "text.db", target(postgres_url))
    store = SQLiteStore(file)
    await store.open()
    try:
        with pytest.raises(MoveRefused, match="is in use: stop the server"):
            await move(file, target(postgres_url))
    finally:
        await store.close()
    assert await tables_in(postgres_url) == 0


async def test_only_an_empty_database_is_moved_to(file: Path, postgres_url: str) -> None:
    await asked(postgres_url, "CREATE TABLE c_mine(x int)")
    with pytest.raises(MoveRefused, match="a table c_mine already"):
        await move(file, target(postgres_url))
    await asked(postgres_url, "ALTER TABLE c_mine RENAME TO mine")
    store = PostgresStore(postgres_url)
    await store.open()
    await store.close()
    with pytest.raises(MoveRefused, match="only an empty database can be moved to"):
        await move(file, target(postgres_url))


async def test_a_user_without_the_right_to_make_tables_is_told(file: Path, make_cluster: MakeCluster) -> None:
    cluster = await asyncio.to_thread(make_cluster)
    cluster.sql("CREATE ROLE app LOGIN")
    with pytest.raises(MoveRefused, match="PostgreSQL refused it: permission denied for schema public"):
        await move(file, target(cluster.url().replace("postgres@", "app@")))


class Forgetful(ServerTarget):
    """Loses one row of a table, or one letter of it."""

    def __init__(self, url: str, *, letter: bool) -> None:
        super().__init__(Server(url=url), new_epoch="fresh1", now_us=NOW_US)
        self._letter = letter

    async def fill(self, table: Moved, rows: AsyncIterable[Row]) -> None:
        await super().fill(table, self._spoilt(rows) if table.name == "c_posts" else rows)

    async def _spoilt(self, rows: AsyncIterable[Row]) -> AsyncIterator[Row]:
        number = 0
        async for row in rows:
            number += 1
            if number != 7:
                yield row
            elif self._letter:
                yield tuple(value.replace("post", "post ") if type(value) is str else value for value in row)


@pytest.mark.parametrize("letter", [False, True])
async def test_what_arrives_changed_is_noticed_and_not_kept(file: Path, postgres_url: str, letter: bool) -> None:
    arrived = POSTS if letter else POSTS - 1
    with pytest.raises(MoveRefused, match=f"c_posts arrived changed .{POSTS} rows were sent and {arrived} arrived"):
        await move(file, Forgetful(postgres_url, letter=letter))
    assert await tables_in(postgres_url) == 0


async def begin(file: Path, url: str, what: str, point: str) -> asyncio.subprocess.Process:
    """A move in a process of its own that gets a signal at a point; returns when it has got it."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.moving.dying", str(file), url, what, point),
        cwd=ROOT,
        env={"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
        stderr=asyncio.subprocess.PIPE,
    )
    if what == "SIGKILL":
        assert await process.wait() == -signal.SIGKILL
        return process
    while not stopped(process.pid):  # noqa: ASYNC110 - nothing tells of it
        await asyncio.sleep(0.01)
    return process


def stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


@pytest.mark.parametrize("point", ["moved _accounts", "moved c_posts", "compared c_posts"])
async def test_a_move_that_is_killed_leaves_the_target_empty_and_is_done_again(
    file: Path, postgres_url: str, point: str
) -> None:
    before = await asyncio.to_thread(file.read_bytes)
    await begin(file, postgres_url, "SIGKILL", point)

    assert await tables_in(postgres_url) == 0
    assert (await move(file, target(postgres_url)))["c_posts"].rows == POSTS
    assert await asyncio.to_thread(file.read_bytes) == before


async def test_a_database_that_dies_in_the_middle_is_empty_when_it_is_back(
    file: Path, make_cluster: MakeCluster
) -> None:
    cluster = await asyncio.to_thread(make_cluster)
    process = await begin(file, cluster.url(), "SIGSTOP", "moved c_posts")
    await asyncio.to_thread(cluster.kill)
    await asyncio.to_thread(cluster.start)
    process.send_signal(signal.SIGCONT)
    _, told = await process.communicate()

    assert process.returncode == 1
    assert b"The database cannot be reached" in told
    assert await tables_in(cluster.url()) == 0
    assert (await move(file, target(cluster.url())))["c_posts"].rows == POSTS


async def test_a_node_that_starts_meanwhile_waits_and_finds_everything(file: Path, postgres_url: str) -> None:
    process = await begin(file, postgres_url, "SIGSTOP", "moved c_posts")
    store = PostgresStore(postgres_url)
    opening = asyncio.ensure_future(store.open())
    waiting = """SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"""
    while not await asked(postgres_url, waiting):  # noqa: ASYNC110 - nothing tells of it
        await asyncio.sleep(0.01)
    assert not opening.done()
    process.send_signal(signal.SIGCONT)
    assert await process.wait() == 0
    await opening
    _, (posts,) = await store.collections()
    assert await store.count(posts) == POSTS
    await store.close()


async def test_the_way_back_wants_nobody_at_work_and_a_new_file(file: Path, postgres_url: str, tmp_path: Path) -> None:
    await move(file, target(postgres_url))
    store = PostgresStore(postgres_url)
    await store.open()
    path = tmp_path / "new" / "snackbase.db"

    async def back() -> dict[str, Sum]:
        source = ServerSource(Server(url=postgres_url))
        return await Move(source, FolderTarget(path, now_us=NOW_US), lambda *_: None).run()

    with pytest.raises(MoveRefused, match="Nodes are connected"):
        await back()
    await store.close()
    assert not path.exists()
    assert (await back())["c_posts"].rows == POSTS
    assert [one.name for one in path.parent.iterdir()] == ["snackbase.db"]
    with pytest.raises(MoveRefused, match="is there already"):
        await back()
