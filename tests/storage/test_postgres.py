"""What only PostgreSQL has: other nodes, other sessions, a server that goes away, timelines, partitions."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from snackbase.errors import Conflict, NotFound, SnackBaseError, TooLarge, Unavailable, ValidationFailed
from snackbase.model import Change, Collection, Field, FieldType, Head, Index
from snackbase.storage.base import Committed, Kept, Receipt, Statement, Store, Transaction
from snackbase.storage.postgres import alter, keeper, run
from snackbase.storage.postgres.listener import words
from snackbase.storage.postgres.partitions import DAY_US, tidy_partitions
from snackbase.storage.postgres.store import PostgresStore
from snackbase.storage.retention import Retention
from tests.storage.support import (
    SYSTEM,
    account,
    altered,
    collection,
    created,
    creating,
    deleting,
    new_id,
    replayed,
    text,
    updating,
    whole_log,
    write,
)
from tests.support.postgres import Cluster

DATABASES = ("postgres",)
OpenStore = Callable[..., Awaitable[PostgresStore]]
MakeCluster = Callable[..., Cluster]


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not true():  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.01)


# Several nodes -------------------------------------------------------------------------------------------------------


async def test_three_nodes_that_start_at_once_on_an_empty_database_share_one_history(postgres_url: str) -> None:
    stores = [PostgresStore(postgres_url) for _ in range(3)]
    await asyncio.gather(*(store.open() for store in stores))

    assert len({store.epoch for store in stores}) == 1
    posts = await collection(stores[0], "posts", text("title"))
    for store in stores:
        await created(store, posts, title="x")
    assert [change.seq for change in await whole_log(stores[2])] == [1, 2, 3]
    for store in stores:
        await store.close()


async def test_two_nodes_that_write_the_same_records_keep_one_order_without_gaps(open_store: OpenStore) -> None:
    nodes = [await open_store(), await open_store()]
    posts = await collection(nodes[0], "posts", text("slug", unique=True), text("title"))
    shared = [(await created(nodes[0], posts, slug=f"s{number}"))["id"] for number in range(6)]
    await asyncio.sleep(0)
    announced: list[Change] = []
    refused: list[str] = []
    for node in nodes:
        node.on_commit = announced.extend

    async def writer(number: int) -> None:
        chance, store = random.Random(number), nodes[number % 2]
        for turn in range(25):
            title = f"{number}-{turn}"
            # Two records in whatever order: what deadlocks where nobody takes care.
            writes = [updating(posts, one, {"title": title}) for one in chance.sample(shared, 2)]
            if chance.random() < 0.3:
                writes.append(creating(posts, {"slug": f"{turn}"}))
            try:
                await write(store, *writes)
            except Conflict as error:
                refused.append(error.code)

    await asyncio.gather(*(writer(number) for number in range(32)))
    await asyncio.sleep(0)

    log = await whole_log(nodes[1])
    assert [change.seq for change in log] == list(range(1, len(log) + 1))
    assert set(refused) == {"not_unique"}
    state = replayed(log)
    assert [await nodes[0].get(posts, SYSTEM, one) for one in state] == list(state.values())
    assert {change.seq for change in announced} == {change.seq for change in log[len(shared) :]}
    assert len(announced) == len(log) - len(shared)


async def test_a_node_hears_what_another_one_commits_and_changes(open_store: OpenStore) -> None:
    one, other = await open_store(), await open_store()
    hints: list[Mapping[str, int]] = []
    own: list[Mapping[str, int]] = []
    seen: list[tuple[int, tuple[Collection, ...]]] = []
    other.on_hint, one.on_hint = hints.append, own.append
    other.on_schema = lambda version, collections: seen.append((version, collections))

    posts = await collection(one, "posts", text("title"))
    await until(lambda: bool(seen))
    await created(one, posts, title="x")
    await until(lambda: bool(hints))

    assert hints == [{SYSTEM: 1}]
    assert own == []
    assert seen == [await one.collections()]


def test_notifications_stay_under_the_limit_however_many_accounts_a_group_has() -> None:
    heads = {new_id(): Head(number, 1) for number in range(1000)}

    texts = words("node0", heads)

    assert max(map(len, texts)) < 8000
    told = [word for line in texts for word in line.removeprefix("node0 ").split(",")]
    assert told == [f"{one}:{head.seq}" for one, head in heads.items()]


async def test_one_key_sent_to_two_nodes_at_once_is_one_write(open_store: OpenStore) -> None:
    nodes = [await open_store(), await open_store()]
    posts = await collection(nodes[0], "posts", text("title"))
    kept = Kept(fingerprint="f", status=201, body=b"x", position="p")
    heads: list[Head] = []

    def answer(_written: object, head: Head) -> Kept:
        heads.append(head)
        return kept

    receipt = Receipt(owner="o", key="k", lifetime_us=10**9, answer=answer)
    done = await asyncio.gather(
        *(
            node.write(Transaction(account_id=SYSTEM, writes=(creating(posts, {"title": "x"}),), receipt=receipt))
            for node in nodes * 8
        ),
        *(created(node, posts, title="beside") for node in nodes * 8),
    )

    outcomes = [one for one in done if isinstance(one, Committed)]
    assert sum(one.repeated is None for one in outcomes) == 1
    assert all(one.repeated == kept for one in outcomes if one.repeated is not None)
    log = await whole_log(nodes[0])
    assert [change.seq for change in log] == list(range(1, 18))
    (first,) = (one for one in outcomes if one.repeated is None)
    assert first.head in heads and first.changes[0].seq == first.head.seq


async def test_the_first_write_of_an_account_that_fails_takes_no_other_with_it(open_store: OpenStore) -> None:
    """On a node that has not met the account before: what it read of it outlives the one that failed."""
    nodes = [await open_store(), await open_store()]
    posts = await collection(nodes[0], "posts", text("title"))
    there = await created(nodes[0], posts, title="there")
    kept = Kept(fingerprint="f", status=200, body=b"x", position="p")
    receipt = Receipt(owner="o", key="k", lifetime_us=10**9, answer=lambda _written, _head: kept)
    fails = Transaction(account_id=SYSTEM, writes=(updating(posts, new_id(), {"title": "x"}),), receipt=receipt)

    done = await asyncio.gather(
        nodes[1].write(fails),
        *(write(nodes[1], updating(posts, there["id"], {"title": str(number)})) for number in range(5)),
        return_exceptions=True,
    )

    assert [type(one) for one in done if isinstance(one, BaseException)] == [NotFound]
    assert [change.seq for change in await whole_log(nodes[0])] == list(range(1, 7))


async def test_accounts_founded_on_two_nodes_at_once_get_codes_of_their_own(open_store: OpenStore) -> None:
    nodes = [await open_store(), await open_store()]

    ids = await asyncio.gather(*(account(nodes[number % 2], f"slug{number}") for number in range(20)))

    codes = {code for (code,) in await nodes[0].fetch("SELECT account_code FROM _accounts WHERE num > 0")}
    assert codes == {f"AA{number:04d}" for number in range(1, 21)}
    assert len(set(ids)) == 20


async def test_a_record_that_is_referred_to_on_one_node_while_another_deletes_it_leaves_nothing_dangling(
    open_store: OpenStore,
) -> None:
    nodes = [await open_store(), await open_store()]
    parents = await collection(nodes[0], "parents")
    field = Field(name="parent", type=FieldType.REFERENCE, collection="parents")
    children = await collection(nodes[0], "children", field)
    for _ in range(15):
        parent = (await created(nodes[0], parents))["id"]
        done = await asyncio.gather(
            *(created(nodes[0], children, parent=parent) for _ in range(3)),
            write(nodes[1], deleting(parents, parent)),
            return_exceptions=True,
        )
        assert not any(isinstance(one, BaseException) and not isinstance(one, SnackBaseError) for one in done), done

    left = {record_id for (record_id,) in await nodes[0].fetch(f"SELECT id FROM {parents.table}")}  # noqa: S608 - ours
    refers = {parent for (parent,) in await nodes[0].fetch(f"SELECT parent FROM {children.table}")}  # noqa: S608 - ours
    assert refers <= left


# Somebody else holds a record ----------------------------------------------------------------------------------------


async def test_a_record_that_another_session_holds_delays_its_own_writes_and_nobody_elses(
    open_store: OpenStore, session: Any
) -> None:
    store = await open_store()
    posts = await collection(store, "posts", text("title"))
    held, free = [(await created(store, posts, title="x"))["id"] for _ in range(2)]
    transaction = session.transaction()
    await transaction.start()
    await session.execute(f"SELECT 1 FROM {posts.table} WHERE id = $1 FOR UPDATE", held)  # noqa: S608 - ours

    waiting = [asyncio.ensure_future(write(store, updating(posts, held, {"title": f"{turn}"}))) for turn in range(5)]
    await until(lambda: store.stats()["side_lanes"] == 5)
    for turn in range(20):
        await asyncio.gather(
            created(store, posts, title="y"), write(store, updating(posts, free, {"title": f"free {turn}"}))
        )
    assert not any(one.done() for one in waiting)
    # Whoever touches it together with others waits as well, and does not hold them meanwhile.
    both = asyncio.ensure_future(
        write(store, updating(posts, free, {"title": "both"}), updating(posts, held, {"title": "both"}))
    )
    await until(lambda: store.stats()["side_lanes"] == 6)
    await write(store, updating(posts, free, {"title": "between"}))

    await transaction.rollback()
    done = await asyncio.gather(*waiting, both)

    assert [one.head.seq for one in done] == sorted(one.head.seq for one in done)
    assert [one.changes[0].data["title"] for one in done[:5]] == ["0", "1", "2", "3", "4"]
    log = await whole_log(store)
    assert [change.seq for change in log] == list(range(1, len(log) + 1))
    assert {one: state["title"] for one, state in replayed(log).items() if one in (held, free)} == {
        held: "both",
        free: "both",
    }


async def test_an_account_whose_statements_wait_does_not_stop_anothers(open_store: OpenStore, session: Any) -> None:
    store = await open_store()
    posts = await collection(store, "posts", text("title"))
    other = await account(store, "other")
    transaction = session.transaction()
    await transaction.start()
    await session.execute("SELECT 1 FROM _accounts WHERE id = $1 FOR UPDATE", SYSTEM)
    rename = asyncio.ensure_future(store.write(_renaming(SYSTEM, "held")))
    await until(lambda: store.stats()["side_lanes"] == 1)

    await store.write(_renaming(other, "free"))
    await created(store, posts, title="x")

    assert not rename.done()
    await transaction.rollback()
    await rename


def _renaming(account_id: str, name: str) -> Transaction:
    rename = Statement(sql="UPDATE _accounts SET name = ? WHERE id = ?", args=(name, account_id), rows=1)
    return Transaction(account_id=account_id, statements=(rename,))


# Values --------------------------------------------------------------------------------------------------------------


async def test_what_postgresql_cannot_hold_is_refused_in_plain_words(open_store: OpenStore) -> None:
    store = await open_store()
    posts = await collection(store, "posts", text("slug", unique=True), text("title"))

    with pytest.raises(ValidationFailed, match=r"U\+0000"):
        await created(store, posts, title="a\0b")
    with pytest.raises(TooLarge, match="index"):
        await created(store, posts, slug="".join(random.Random(1).choices("abcdefghijklmnop", k=20_000)))

    done = await asyncio.gather(
        *(created(store, posts, slug=slug) for slug in ("a", "".join(random.choices("abcdef", k=20_000)), "b")),
        return_exceptions=True,
    )
    assert [type(one) for one in done] == [dict, TooLarge, dict]


async def test_names_longer_than_postgresql_keeps_do_not_meet(open_store: OpenStore) -> None:
    store = await open_store()
    names = ["n" * 63 + last for last in "ab"]
    fields = [text("f" * 61 + last, unique=True) for last in "ab"]
    made = [
        await collection(store, name, *fields, indexes=[Index(fields=(fields[0].name, fields[1].name))])
        for name in names
    ]

    for one in made:
        await created(store, one, **{fields[0].name: "x", fields[1].name: "x"})
        with pytest.raises(Conflict) as taken:
            await created(store, one, **{fields[0].name: "y", fields[1].name: "x"})
        assert [detail.field for detail in taken.value.details] == [fields[1].name]


# Schemas -------------------------------------------------------------------------------------------------------------


async def test_an_index_over_many_records_is_built_beside_writers_and_a_failed_one_leaves_nothing(
    open_store: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alter, "SMALL_ROWS", 1)
    store = await open_store()
    posts = await collection(store, "posts", text("slug"))
    for slug in ("a", "b", "b"):
        await created(store, posts, slug=slug)

    with pytest.raises(Conflict):
        await altered(store, posts, fields=(text("slug", unique=True),))
    assert "slug" not in await _indexes(store, posts)

    (twice,) = await store.fetch(f"SELECT id FROM {posts.table} WHERE slug = 'b' LIMIT 1")  # noqa: S608 - ours
    await write(store, deleting(posts, twice[0]))
    posts = await altered(store, posts, fields=(text("slug", unique=True),))
    assert "slug" in await _indexes(store, posts)
    with pytest.raises(Conflict):
        await created(store, posts, slug="a")


async def _indexes(store: Store, posts: Collection) -> str:
    rows = await store.fetch("SELECT indexdef FROM pg_indexes WHERE tablename = ?", (posts.table,))
    return " ".join(definition for (definition,) in rows)


async def test_a_half_built_index_is_removed_at_the_next_start(open_store: OpenStore, session: Any) -> None:
    store = await open_store()
    posts = await collection(store, "posts", text("slug"))
    for slug in ("b", "b"):
        await created(store, posts, slug=slug)
    with pytest.raises(asyncpg.UniqueViolationError):
        await session.execute(f'CREATE UNIQUE INDEX CONCURRENTLY "c_posts:half" ON {posts.table}(slug)')
    assert "half" in await _indexes(store, posts)

    await open_store()

    assert "half" not in await _indexes(store, posts)


async def test_a_collection_that_somebody_reads_for_long_is_changed_later_or_not_at_all(
    open_store: OpenStore, session: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alter, "LOCK_MS", 50)
    monkeypatch.setattr(alter, "TRIES", 2)
    store = await open_store()
    posts = await collection(store, "posts", text("title"))
    transaction = session.transaction()
    await transaction.start()
    await session.execute(f"SELECT * FROM {posts.table}")  # noqa: S608 - ours

    with pytest.raises(Unavailable) as busy:
        await altered(store, posts, fields=(text("other"),))
    assert busy.value.code == "storage_busy"
    await created(store, posts, title="x")

    await transaction.rollback()
    assert [field.name for field in (await altered(store, posts, fields=(text("other"),))).fields] == ["other"]


# The log -------------------------------------------------------------------------------------------------------------


async def test_the_log_has_a_partition_a_day_and_an_emptied_one_goes(open_store: OpenStore) -> None:
    now = [20_000 * DAY_US]
    keep = Retention(age_s=3600, keep=1, sweep_s=0.01)
    store = await open_store(now_us=lambda: now[0], retention=keep)
    posts = await collection(store, "posts", text("title"))

    async def partitions() -> set[str]:
        rows = await store.fetch("SELECT tablename FROM pg_tables WHERE tablename LIKE ?", ("\\_changes\\_%",))
        return {name.removeprefix("_changes_") for (name,) in rows}

    assert await partitions() == {"rest", "d20000", "d20001", "d20002"}
    await created(store, posts, title="old")
    now[0] += 2 * DAY_US
    await created(store, posts, title="new")
    await until(lambda: store.stats()["pruned_rows"] == 1)
    async with asyncio.timeout(30):
        connection = await store._server.connect()
        await tidy_partitions(connection, now[0], 3600 * 1_000_000)
        await connection.close()

    assert await partitions() == {"rest", "d20001", "d20002", "d20003", "d20004"}
    assert [change.seq for change in await whole_log(store)] == [2]


# The server goes away ------------------------------------------------------------------------------------------------


async def test_a_server_that_was_killed_is_found_again_and_no_acknowledged_write_is_lost(
    make_cluster: MakeCluster,
) -> None:
    cluster = make_cluster(settings={"fsync": "on", "full_page_writes": "on"})
    store = PostgresStore(cluster.url())
    await store.open()
    posts = await collection(store, "posts", text("title"))
    acknowledged: dict[str, int] = {}
    failed: list[str] = []
    stop = asyncio.Event()

    async def writer() -> None:
        while not stop.is_set():
            one = new_id()
            try:
                done = await write(store, creating(posts, {"title": "x"}, record_id=one))
                acknowledged[one] = done.head.seq
            except Unavailable as error:
                failed.append(error.code)
                await asyncio.sleep(0.02)

    writers = [asyncio.ensure_future(writer()) for _ in range(8)]
    for kill in (cluster.kill, lambda: cluster.stop(mode="fast"), lambda: cluster.stop(mode="immediate")):
        await until(lambda: store.stats()["healthy"] == 1)
        before = len(acknowledged)
        await until(lambda before=before: len(acknowledged) > before + 20)  # type: ignore[misc]
        await asyncio.to_thread(kill)
        await until(lambda: store.stats()["healthy"] == 0)
        await asyncio.to_thread(cluster.start)
    before = len(acknowledged)
    await until(lambda: len(acknowledged) > before + 20)
    stop.set()
    await asyncio.gather(*writers)

    log = {change.record_id: change.seq for change in await whole_log(store)}
    assert sorted(log.values()) == list(range(1, len(log) + 1))
    assert acknowledged.items() <= log.items()
    assert set(failed) <= {"storage_error", "outcome_unknown"}
    await store.close()


async def test_an_idle_node_notices_that_the_server_is_away_and_that_it_is_back(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    store = PostgresStore(cluster.url())
    await store.open()

    await asyncio.to_thread(cluster.stop)
    await until(lambda: store.stats()["healthy"] == 0)
    with pytest.raises(Unavailable) as away:
        await store.head(SYSTEM)
    assert away.value.code == "storage_error"

    await asyncio.to_thread(cluster.start)
    await until(lambda: store.stats()["healthy"] == 1 and store.stats()["listening"] == 1)
    assert await store.head(SYSTEM) == Head(0, 0)
    await store.close()


# Histories -----------------------------------------------------------------------------------------------------------


async def test_the_same_database_continues_its_history_and_a_copy_of_it_does_not(
    postgres: Cluster, postgres_url: str
) -> None:
    first = await _epoch(postgres_url)

    assert await _epoch(postgres_url) == first
    copy = postgres.create(template=postgres_url.split("/@", 1)[-1].split("@/")[1].split("?")[0])
    assert await _epoch(postgres.url(copy)) != first
    postgres.drop(copy)


async def _epoch(url: str) -> str:
    store = PostgresStore(url)
    await store.open()
    await store.close()
    return store.epoch


async def test_a_standby_that_is_promoted_continues_the_history(make_cluster: MakeCluster, tmp_path: Path) -> None:
    primary = make_cluster(settings={"wal_level": "replica"})
    store = PostgresStore(primary.url())
    await store.open()
    posts = await collection(store, "posts", text("title"))
    await created(store, posts, title="x")
    standby = Cluster()
    try:
        primary.program(
            "pg_basebackup", "-h", str(primary.folder), "-U", "postgres", "-D", str(standby.folder / "data"), "-R"
        )
        standby.start()
        await store.close()
        await asyncio.to_thread(primary.stop)
        standby.sql("SELECT pg_promote()")

        promoted = PostgresStore(standby.url())
        await promoted.open()

        assert promoted.epoch == store.epoch
        assert (await created(promoted, posts, title="y"))["title"] == "y"
        assert [change.seq for change in await whole_log(promoted)] == [1, 2]
        await promoted.close()
    finally:
        standby.remove()


async def test_a_standby_is_no_place_to_write(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    cluster.sql("ALTER SYSTEM SET default_transaction_read_only = on")
    cluster.sql("SELECT pg_reload_conf()")
    store = PostgresStore(cluster.url())

    with pytest.raises(Unavailable):
        await store.open()


async def test_a_number_that_a_stopped_node_holds_delays_its_account_and_no_other(
    open_store: OpenStore, session: Any
) -> None:
    store = await open_store()
    posts = await collection(store, "posts", text("title"))
    other = await account(store, "other")
    for account_id in (SYSTEM, other):
        await created(store, posts, account_id=account_id, title="x")
    transaction = session.transaction()
    await transaction.start()
    await session.execute("SELECT 1 FROM _heads WHERE account = 0 FOR UPDATE")

    waiting = [asyncio.ensure_future(created(store, posts, title=f"{turn}")) for turn in range(3)]
    await created(store, posts, account_id=other, title="free")
    await until(lambda: store.stats()["side_lanes"] == 3)
    await created(store, posts, account_id=other, title="free")
    assert not any(one.done() for one in waiting)

    await transaction.rollback()
    await asyncio.gather(*waiting)
    await created(store, posts, title="after")
    assert [change.seq for change in await whole_log(store)] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("begin", [run.BEGIN % 1, keeper.BEGIN, alter.BEGIN % 1])
async def test_a_session_that_stops_in_the_middle_is_ended_by_the_server(
    open_store: OpenStore, session: Any, begin: str
) -> None:
    await open_store()

    await session.execute(begin)
    assert await session.fetchval("SHOW idle_in_transaction_session_timeout") == "5s"


async def test_behind_a_pooler_nothing_is_kept_in_a_session(postgres_url: str) -> None:
    store = PostgresStore(postgres_url, direct_url=postgres_url)
    await store.open()
    posts = await collection(store, "posts", text("title"))
    record = await created(store, posts, title="x")
    posts = await altered(store, posts, fields=(*posts.fields, text("more")))

    assert await store.get(posts, SYSTEM, record["id"]) == {**record, "more": None} | {"id": record["id"]}
    kept = await store.fetch("SELECT count(*) FROM pg_prepared_statements")
    assert kept == [(0,)]
    await store.close()
