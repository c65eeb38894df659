"""What only the SQLite store has: its files, its faults and its checkpoints."""

import asyncio
import contextlib
import resource
import stat
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from uuid import UUID

import apsw
import pytest

from snackbase.config import ConfigError
from snackbase.errors import Conflict, Unavailable
from snackbase.model import Change, Collection
from snackbase.storage import schema
from snackbase.storage.base import Query, Statement, Transaction
from snackbase.storage.invitations import Invitation, insert_invitation, require_room
from snackbase.storage.keys import ApiKey, insert_key
from snackbase.storage.roles import Group, rename_in_invitations
from snackbase.storage.schema import MIGRATIONS
from snackbase.storage.sqlite import SQLiteStore
from tests.storage.support import (
    SYSTEM,
    account,
    altered,
    announcements_arrive,
    collection,
    created,
    creating,
    text,
    until,
    updating,
    whole_log,
    write,
)

DATABASES = ("sqlite",)
OpenStore = Callable[..., Awaitable[SQLiteStore]]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The database file of `open_store`."""
    return tmp_path / "data" / "snackbase.db"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_the_folder_is_the_owners_alone_and_so_is_every_file(open_store: OpenStore, file: Path) -> None:
    store = await open_store()
    await collection(store, "posts")

    assert mode(file.parent) == 0o700
    assert {path.name: mode(path) for path in file.parent.iterdir()} == {
        name: 0o600 for name in ("snackbase.db", "snackbase.db-wal", "snackbase.db-shm", "snackbase.db.epoch")
    }

    await store.close()
    assert {path.name for path in file.parent.iterdir()} == {"snackbase.db", "snackbase.db.epoch"}


async def test_a_new_file_has_the_system_account_its_head_and_the_two_roles(open_store: OpenStore) -> None:
    store = await open_store()

    assert await store.fetch("SELECT num, id, account_code, slug FROM _accounts") == [(0, SYSTEM, "SY0000", "system")]
    assert await store.fetch("SELECT account, seq, ts_us, floor_seq, floor_ts_us FROM _heads") == [(0, 0, 0, 0, 0)]
    assert await store.fetch("SELECT id, name FROM _roles") == [(1, "admin"), (2, "user")]
    assert await store.fetch("SELECT value FROM _meta WHERE key = 'schema_version'") == [(str(len(MIGRATIONS)),)]


async def test_the_epoch_is_random_and_stays_with_the_file(open_store: OpenStore, tmp_path: Path, file: Path) -> None:
    store = await open_store()
    epoch = store.epoch
    await store.close()
    file.parent.rename(tmp_path / "moved")
    elsewhere, other = SQLiteStore(tmp_path / "moved" / file.name), await open_store()
    await elsewhere.open()

    assert (len(epoch), epoch.isalnum()) == (6, True)
    assert elsewhere.epoch == epoch != other.epoch
    await elsewhere.close()


async def test_several_processes_may_open_a_new_folder_at_once(file: Path) -> None:
    stores = [SQLiteStore(file) for _ in range(4)]

    await asyncio.gather(*(store.open() for store in stores))
    await asyncio.gather(*(account(store, f"account-{number}") for number, store in enumerate(stores)))

    assert len({store.epoch for store in stores}) == 1
    for store in stores:
        assert len(await store.fetch("SELECT 1 FROM _accounts")) == 5
        await store.close()


async def test_the_default_is_to_survive_a_power_cut(open_store: OpenStore) -> None:
    # PRAGMA synchronous is the connection's own, so the writer itself is asked, through a statement that only passes
    # if it is FULL (2).
    level = Statement(
        sql="INSERT INTO _roles(id, name) SELECT 9, 'x' FROM pragma_synchronous WHERE synchronous = 2", rows=1
    )
    refused = ValueError("not FULL")

    store = await open_store()
    await store.write(Transaction(account_id=SYSTEM, statements=(level,)))
    weaker = await open_store(synchronous="NORMAL")
    with pytest.raises(ValueError, match="not FULL"):
        await weaker.write(
            Transaction(account_id=SYSTEM, statements=(Statement(sql=level.sql, rows=1, error=refused),))
        )


async def test_a_folder_of_a_newer_program_is_refused_and_left_alone(open_store: OpenStore, file: Path) -> None:
    store = await open_store()
    await store.close()
    with contextlib.closing(apsw.Connection(str(file))) as raw:
        raw.execute("UPDATE _meta SET value = '99' WHERE key = 'schema_version'").fetchall()

    with pytest.raises(ConfigError, match=rf"newer SnackBase.*99.*knows up to {len(MIGRATIONS)}"):
        await SQLiteStore(file).open()


async def test_a_database_of_something_else_is_refused_and_left_alone(file: Path) -> None:
    file.parent.mkdir()
    with contextlib.closing(apsw.Connection(str(file))) as raw:
        raw.execute("CREATE TABLE songs(title)").fetchall()

    await refused_untouched(file, "not SnackBase's")


async def test_a_file_that_is_no_database_is_refused_and_left_alone(file: Path) -> None:
    file.parent.mkdir()
    content = b"no database at all, but long enough to look like one at a first glance" * 20
    await asyncio.to_thread(file.write_bytes, content)

    await refused_untouched(file, "not an SQLite database")


async def refused_untouched(file: Path, why: str) -> None:
    before = await asyncio.to_thread(file.read_bytes)
    with pytest.raises(ConfigError, match=why):
        await SQLiteStore(file).open()
    assert await asyncio.to_thread(file.read_bytes) == before


async def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")

    with pytest.raises(Unavailable) as refused:
        await SQLiteStore(tmp_path / "data" / "snackbase.db").open()
    assert refused.value.code == "storage_error"


async def test_a_closed_store_says_so(open_store: OpenStore) -> None:
    store = await open_store()
    await store.close()

    with pytest.raises(Unavailable) as refused:
        await store.head(SYSTEM)
    assert refused.value.code == "stopping"


async def test_readers_cannot_write(open_store: OpenStore) -> None:
    store = await open_store()

    with pytest.raises(Unavailable):
        await store.fetch("DELETE FROM _roles")
    assert len(await store.fetch("SELECT 1 FROM _roles")) == 2


async def test_a_full_database_refuses_what_does_not_fit_and_goes_on_when_there_is_room(open_store: OpenStore) -> None:
    store = await open_store()
    posts = await collection(store, "posts", text("title"))
    announced: list[Change] = []
    store.on_commit = announced.extend
    await created(store, posts, title="before")

    def limit(pages: int) -> Statement:
        return Statement(sql=f"PRAGMA max_page_count = {pages}")

    await store.write(Transaction(account_id=SYSTEM, statements=(limit(1),)))
    done = await asyncio.gather(*(created(store, posts, title="x" * 20_000) for _ in range(10)), return_exceptions=True)

    assert {getattr(error, "code", error) for error in done if isinstance(error, Exception)} == {"storage_full"}
    assert all(isinstance(error, Unavailable) for error in done)
    assert len(await whole_log(store)) == 1

    # The writer probes by itself: nobody has to write for the store to find that the disk takes writes again.
    await until(store, "healthy", 1)
    await store.write(Transaction(account_id=SYSTEM, statements=(limit(1_000_000),)))
    after = await created(store, posts, title="x" * 20_000)
    await announcements_arrive()

    assert [change.seq for change in await whole_log(store)] == [1, 2]
    assert [change.data["title"] for change in announced] == ["before", after["title"]]
    assert store.stats()["faults"] >= 1


@contextlib.contextmanager
def files_cannot_grow(most_bytes: int) -> Iterator[None]:
    """Every write beyond so many bytes of a file fails with EFBIG, for all of this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_commit_that_fails_is_of_unknown_outcome_and_announces_nothing(
    open_store: OpenStore, file: Path
) -> None:
    store = await open_store()
    posts = await collection(store, "posts", text("title"))
    announced: list[Change] = []
    first = await created(store, posts, title="first")
    await announcements_arrive()
    store.on_commit = announced.extend

    with files_cannot_grow(file.with_name(file.name + "-wal").stat().st_size):
        for failing in (
            creating(posts, {"title": "x" * 10_000}),
            updating(posts, first["id"], {"title": "y" * 10_000}),
        ):
            with pytest.raises(Unavailable) as unknown:
                await write(store, failing)
            assert unknown.value.code == "outcome_unknown"
        assert store.stats()["healthy"] == 0
        with pytest.raises(Unavailable):
            await altered(store, posts, fields=(*posts.fields, text("more", default="z" * 10_000)))

    await until(store, "healthy", 1)
    assert announced == []
    assert await store.get(posts, SYSTEM, first["id"]) == first
    second = await created(store, posts, title="second")
    await announcements_arrive()
    assert [(change.seq, change.data) for change in await whole_log(store)] == [(1, first), (2, second)]
    assert [change.seq for change in announced] == [2]


async def test_a_locked_database_refuses_and_goes_on_when_it_is_free(
    open_store: OpenStore, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("snackbase.storage.connection.BUSY_WRITER_MS", 50)
    store = await open_store()
    posts = await collection(store, "posts", text("title"))
    with contextlib.closing(apsw.Connection(str(file))) as raw:
        raw.execute("BEGIN IMMEDIATE").fetchall()
        with pytest.raises(Unavailable) as busy:
            await created(store, posts, title="x")
        assert (busy.value.code, store.stats()["healthy"]) == ("storage_busy", 0)
        raw.execute("ROLLBACK").fetchall()

    assert (await created(store, posts, title="y"))["title"] == "y"
    assert (store.stats()["healthy"], (await store.head(SYSTEM)).seq) == (1, 1)


async def test_two_processes_on_one_file_notice_whatever_the_other_wrote(open_store: OpenStore, file: Path) -> None:
    one = await open_store()
    posts = await collection(one, "posts", text("title"))
    other = SQLiteStore(file)
    await other.open()
    try:
        for number in range(5):
            first = await created(one, posts, title=f"{number}")
            await created(other, posts, title=f"{number}")
            # One that fails alone begins a transaction anew behind it.
            with pytest.raises(Conflict):
                await write(one, creating(posts, record_id=first["id"]))
            await write(other, *(creating(posts) for _ in range(3)))
            await write(one, creating(posts))
        before, posts = posts, await altered(other, posts, fields=(*posts.fields, text("more")))
        with pytest.raises(Conflict) as changed:
            await created(one, before, title="x")
        assert changed.value.code == "changed_meanwhile"
        await created(one, posts, more="y")

        log = await whole_log(one)
        assert [change.seq for change in log] == [*range(1, len(log) + 1)]
        assert log == await whole_log(other)
    finally:
        await other.close()


async def test_a_damaged_page_is_named_as_such(open_store: OpenStore, file: Path) -> None:
    store = await open_store()
    posts = await collection(store, "posts", text("title"))
    record = await created(store, posts, title="x")
    ((root,),) = await store.fetch("SELECT rootpage FROM sqlite_master WHERE name = ?", (posts.table,))
    await store.close()
    with file.open("r+b") as raw:
        raw.seek((root - 1) * 4096)
        raw.write(b"\xff" * 4096)
    store = await open_store()

    for attempt in (
        store.get(posts, SYSTEM, record["id"]),
        store.list(Query(collection=posts, account_id=SYSTEM)),
        created(store, posts, title="y"),
    ):
        with pytest.raises(Unavailable) as damaged:
            await attempt
        assert damaged.value.code == "storage_corrupt"
    assert (await store.head(SYSTEM)).seq == 1


async def wal_growth(store: SQLiteStore, posts: Collection, records: int) -> None:
    for start in range(0, records, 100):
        await asyncio.gather(
            *(created(store, posts, title="x" * 4000) for _ in range(start, min(records, start + 100)))
        )


async def test_the_wal_is_copied_back_when_the_store_is_idle(open_store: OpenStore) -> None:
    store = await open_store()
    posts = await collection(store, "posts", text("title"))

    await wal_growth(store, posts, 300)

    await until(store, "wal_pages", 0)
    assert store.stats()["checkpoints"] == 1


async def test_the_wal_stays_bounded_under_load(open_store: OpenStore, file: Path) -> None:
    store = await open_store()
    posts = await collection(store, "posts", text("title"))
    wal = file.with_name(file.name + "-wal")

    await wal_growth(store, posts, 6_000)
    bounded = wal.stat().st_size
    with contextlib.closing(apsw.Connection(str(file))) as reader:
        reader.execute("BEGIN").fetchall()
        reader.execute("SELECT * FROM _meta").fetchall()
        await wal_growth(store, posts, 6_000)
        held = wal.stat().st_size
        reader.execute("COMMIT").fetchall()
    await wal_growth(store, posts, 6_000)

    assert bounded < 40 << 20
    # A reader that stays open holds the WAL; nobody waits for it, and the space is used again once it is gone.
    assert held > bounded + (20 << 20)
    assert wal.stat().st_size <= held


async def test_groups_that_users_of_an_older_folder_are_in_get_rows(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = schema.MIGRATIONS
    monkeypatch.setattr(schema, "MIGRATIONS", whole[: whole.index(schema._MEMBERSHIP)])
    old = SQLiteStore(file)
    await old.open()
    one, two = await account(old, "one"), await account(old, "two")
    users = [("a", one, '["x","y"]'), ("b", one, '["y"]'), ("c", two, '["x"]'), ("d", two, "[]")]
    for user_id, account_id, groups in users:
        await old.write(
            Transaction(
                account_id=account_id,
                statements=(
                    Statement(
                        sql="INSERT INTO _users(id, account_id, email, password_hash, role_id, groups, created_at,"
                        " updated_at) VALUES (?, ?, ?, '', 2, ?, '', '')",
                        args=(user_id, account_id, user_id, groups),
                    ),
                ),
            )
        )
    await old.close()
    monkeypatch.setattr(schema, "MIGRATIONS", whole)
    new = SQLiteStore(file)
    await new.open()
    rows = await new.fetch("SELECT id, account_id, name FROM _groups ORDER BY account_id, name")
    await new.close()

    assert sorted(row[1:] for row in rows) == sorted([(one, "x"), (one, "y"), (two, "x")])
    assert all(str(UUID(group_id)) == group_id for group_id, _, _ in rows)


async def test_what_a_new_invitation_or_key_is_compared_with_is_found_by_an_index(open_store: OpenStore) -> None:
    store = await open_store()
    error = Unavailable("x")
    invitation = Invitation(
        **dict.fromkeys(("id", "account_id", "email", "invited_by", "created_at", "updated_at"), "x"),
        role_id=2,
        groups=(),
        expires_at=1,
    )
    key = ApiKey(
        **dict.fromkeys(("id", "account_id", "name", "role", "hint", "created_by", "created_at"), "x"),
        role_id=2,
        expires_at=None,
    )
    group = Group(id="x", account_id="x", name="x", created_at="x", updated_at="x")
    for statement, index in (
        (insert_invitation(invitation, "x", now_s=0, error=error), "_invitations_open (account_id=? AND email=?)"),
        (require_room("x", most=1, error=error), "_invitations_open (account_id=?)"),
        (rename_in_invitations(group, "y"), "_invitations_open (account_id=?)"),
        (insert_key(key, "x", most=1, error=error), "_api_keys_live (account_id=?)"),
    ):
        plan = await store.fetch(f"EXPLAIN QUERY PLAN {statement.sql}", statement.args)
        assert any(index in str(row[-1]) for row in plan), (statement.sql, plan)
