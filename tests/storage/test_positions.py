"""Numbers, order and announcements: invariants I1 to I3 and I5, under concurrency and failure."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

import pytest

from snackbase.errors import Conflict, NotFound, Unavailable, ValidationFailed
from snackbase.model import Account, Change, Collection, Head, Op, Record, rfc3339
from snackbase.storage import system
from snackbase.storage.base import Committed, Control, Statement, Store, Transaction, Write
from tests.storage.conftest import Hold
from tests.storage.support import (
    NOW,
    SYSTEM,
    account,
    altered,
    announcements_arrive,
    collection,
    created,
    creating,
    deleting,
    head_of,
    ids_in,
    new_id,
    replayed,
    text,
    updating,
    whole_log,
    write,
)

OpenStore = Callable[..., Awaitable[Store]]


async def test_64_writers_get_gapless_numbers_and_a_failing_write_fails_alone(store: Store) -> None:
    posts = await collection(store, "posts", text("slug", unique=True), text("title"))
    accounts = [SYSTEM, await account(store, "one"), await account(store, "two")]
    announced: list[Change] = []
    acknowledged: list[tuple[str, Head, Record]] = []
    refused: Counter[str] = Counter()
    for account_id in accounts:
        await created(store, posts, account_id=account_id, slug="taken")
    await announcements_arrive()
    store.on_commit = announced.extend

    async def writer(number: int) -> None:
        chance = random.Random(number)
        mine: list[str] = []
        for turn in range(40):
            account_id = accounts[number % 3]
            kind = chance.random()
            try:
                if kind < 0.2:
                    # The first write of the transaction would succeed: it must be undone with the second.
                    pair = (creating(posts, {"slug": f"{number}/{turn}"}), creating(posts, {"slug": "taken"}))
                    await write(store, *(pair if kind < 0.1 else pair[1:]), account_id=account_id)
                elif kind < 0.4 and mine:
                    done = await write(store, updating(posts, mine[-1], {"title": f"{turn}"}), account_id=account_id)
                    acknowledged.append((account_id, done.head, done.written[0]))
                elif kind < 0.5 and mine:
                    done = await write(store, deleting(posts, mine.pop()), account_id=account_id)
                    acknowledged.append((account_id, done.head, done.written[0]))
                else:
                    done = await write(store, creating(posts, {"slug": f"{number}-{turn}"}), account_id=account_id)
                    mine.append(done.written[0]["id"])
                    acknowledged.append((account_id, done.head, done.written[0]))
            except Conflict as error:
                refused[error.code] += 1

    await asyncio.gather(*(writer(number) for number in range(64)))
    await announcements_arrive()

    assert refused["not_unique"] > 200
    assert store.stats()["groups"] < store.stats()["group_writes"]
    for account_id in accounts:
        log = await whole_log(store, account_id)
        assert [change.seq for change in log] == list(range(1, len(log) + 1))
        assert [change for change in announced if change.account_id == account_id] == log[1:]
        assert await store.head(account_id) == head_of(log)
        state = replayed(log)
        assert await ids_in(store, posts, account_id) == state.keys()
        assert [await store.get(posts, account_id, record_id) for record_id in state] == list(state.values())
        told = {head: record for owner, head, record in acknowledged if owner == account_id}
        assert told.items() <= {Head(change.seq, change.ts_us): change.data for change in log}.items()


async def test_a_group_keeps_the_order_in_which_an_account_asked(store: Store) -> None:
    posts = await collection(store, "posts", text("title"))

    done = await asyncio.gather(*(created(store, posts, title=str(number)) for number in range(300)))

    assert [change.data for change in await whole_log(store)] == done


async def test_time_never_runs_backwards_within_an_account(open_store: OpenStore) -> None:
    clock = [5_000_000, 3_000_000, 4_000_000, 9_000_000, 1_000_000]
    now = {"us": 1}
    store = await open_store(now_us=lambda: now["us"])
    posts = await collection(store, "posts", text("title"))
    times = []
    for now["us"] in clock:
        record = await created(store, posts, title="x")
        times.append(record["created_at"])

    log = await whole_log(store)
    assert [change.ts_us for change in log] == [5_000_000, 5_000_000, 5_000_000, 9_000_000, 9_000_000]
    assert times == [rfc3339(change.ts_us) for change in log]

    other = await account(store, "other")
    assert (await created(store, posts, account_id=other))["created_at"] == rfc3339(1_000_000)


async def test_times_go_on_from_the_log_after_a_restart_with_a_wrong_clock(open_store: OpenStore) -> None:
    store = await open_store(now_us=lambda: 8_000_000)
    posts = await collection(store, "posts")
    await created(store, posts)
    await store.close()

    store = await open_store(now_us=lambda: 2_000_000)
    await created(store, posts)

    assert [(change.seq, change.ts_us) for change in await whole_log(store)] == [(1, 8_000_000), (2, 8_000_000)]


async def test_two_stores_on_one_file_share_one_gapless_sequence(open_store: OpenStore) -> None:
    first, second = await open_store(), await open_store()
    posts = await collection(first, "posts", text("title"))
    seen: list[tuple[int, tuple[Collection, ...]]] = []
    second.on_schema = lambda version, collections: seen.append((version, collections))

    async def writer(store: Store) -> None:
        for _ in range(25):
            await created(store, posts, title="x")

    await asyncio.gather(*(writer(store) for store in (first, second) * 4))

    log = await whole_log(second)
    assert [change.seq for change in log] == list(range(1, 201))
    assert len({change.tx_id for change in log}) == 200
    # The other process's schema change was noticed with the first write after it.
    assert seen == [await first.collections()]


async def test_waiting_requests_run_before_the_announcement_and_announcements_keep_commit_order(store: Store) -> None:
    posts = await collection(store, "posts", text("title"))
    await announcements_arrive()
    happened: list[object] = []
    store.on_commit = lambda changes: happened.extend(("announced", change.seq) for change in changes)
    store.on_schema = lambda version, _collections: happened.append(("schema", version))

    async def request(title: str) -> None:
        done = await write(store, creating(posts, {"title": title}))
        happened.append(("answered", done.head.seq))

    await asyncio.gather(*(request(str(number)) for number in range(3)))
    posts = await altered(store, posts, list_fields=("title",))
    await request("last")
    await store.close()

    for seq in range(1, 5):
        assert happened.index(("answered", seq)) < happened.index(("announced", seq))
    told = [what for what in happened if what != ("answered", what[1])]  # type: ignore[index]  # all are pairs
    assert told == [("announced", 1), ("announced", 2), ("announced", 3), ("schema", posts.version), ("announced", 4)]


async def test_a_write_whose_client_went_away_still_counts(store: Store) -> None:
    posts = await collection(store, "posts", text("title"))
    announced: list[Change] = []
    store.on_commit = announced.extend
    task = asyncio.ensure_future(created(store, posts, title="orphan"))
    await asyncio.sleep(0)

    task.cancel()
    await created(store, posts, title="next")
    await announcements_arrive()

    assert [change.data["title"] for change in announced] == ["orphan", "next"]
    assert await whole_log(store) == announced


async def test_changes_of_rights_stand_in_the_log_after_the_records_of_their_transaction(store: Store) -> None:
    posts = await collection(store, "posts", text("title"))
    control = Control(what="logins_ended", subject="user-1", data={"except": "sid-1"})

    done = await store.write(
        Transaction(account_id=SYSTEM, actor="admin", writes=(creating(posts),), controls=(control,))
    )

    change = done.changes[1]
    assert [(c.op, c.seq, c.tx_index, c.tx_size) for c in done.changes] == [(Op.CREATE, 1, 0, 2), (Op.CONTROL, 2, 1, 2)]
    assert (change.collection_id, change.schema_version, change.record_id, change.actor) == ("", 0, "user-1", "admin")
    assert change.data == {"what": "logins_ended", "except": "sid-1"}
    assert await whole_log(store) == list(done.changes)


async def test_statements_alone_take_no_number(store: Store) -> None:
    role = Statement(sql="INSERT INTO _roles(id, name) VALUES (?, ?)", args=(7, "editor"), rows=1)

    done = await store.write(Transaction(account_id=SYSTEM, statements=(role,)))

    assert (done.changes, done.head, await store.head(SYSTEM)) == ((), Head(0, 0), Head(0, 0))
    assert await store.fetch("SELECT name FROM _roles WHERE id = ?", (7,)) == [("editor",)]


async def test_a_statement_that_changes_other_than_the_asked_rows_undoes_its_transaction(store: Store) -> None:
    posts = await collection(store, "posts", text("title"))
    insert = Statement(sql="INSERT INTO _roles(id, name) VALUES (?, ?)", args=(7, "editor"))
    wrong = Statement(sql="UPDATE _roles SET name = 'x' WHERE id = 99", rows=1, error=NotFound("no such role"))
    taken = Statement(
        sql="INSERT INTO _roles(id, name) VALUES (8, 'admin')", error=Conflict("role exists", code="role_exists")
    )

    for failing, answer in ((wrong, "no such role"), (taken, "role exists")):
        with pytest.raises((NotFound, Conflict), match=answer):
            await store.write(Transaction(account_id=SYSTEM, statements=(insert, failing), writes=(creating(posts),)))

    assert await store.fetch("SELECT id FROM _roles ORDER BY id") == [(1,), (2,)]
    assert await whole_log(store) == []


async def test_an_exception_in_a_rule_reaches_its_caller_and_nobody_else(store: Store) -> None:
    posts = await collection(store, "posts", text("title"))
    record = await created(store, posts, title="x")

    def broken(_record: Record) -> bool:
        raise ZeroDivisionError

    done = await asyncio.gather(
        created(store, posts, title="a"),
        write(store, updating(posts, record["id"], {"title": "y"}, allowed=broken)),
        created(store, posts, title="b"),
        return_exceptions=True,
    )

    assert isinstance(done[1], ZeroDivisionError)
    assert [change.data["title"] for change in await whole_log(store)] == ["x", "a", "b"]


async def test_a_control_row_that_cannot_be_stored_fails_alone(store: Store) -> None:
    posts = await collection(store, "posts", text("title"))

    def control(subject: str, actor: str) -> Transaction:
        return Transaction(account_id=SYSTEM, actor=actor, controls=(Control(what="user_rights", subject=subject),))

    done = await asyncio.gather(
        created(store, posts, title="a"),
        store.write(control("\ud800", "x")),
        store.write(control("x", "\ud800")),
        created(store, posts, title="b"),
        return_exceptions=True,
    )

    assert [type(outcome) for outcome in done] == [dict, ValidationFailed, ValidationFailed, dict]
    assert [change.data["title"] for change in await whole_log(store)] == ["a", "b"]


async def test_an_account_whose_founding_failed_leaves_nothing_behind_for_the_next(store: Store) -> None:
    posts = await collection(store, "posts", text("slug", unique=True))
    acme = Account(id=new_id(), account_code="", slug="acme", name="Acme", created_at=NOW, updated_at=NOW)
    founding = system.insert_account(acme, error=Conflict("taken"))
    pair = (creating(posts, {"slug": "x"}), creating(posts, {"slug": "x"}))
    with pytest.raises(Conflict):
        await store.write(Transaction(account_id=acme.id, statements=(founding,), writes=pair))

    other = await account(store, "other")
    await created(store, posts, account_id=other, slug="x")
    done = await store.write(Transaction(account_id=acme.id, statements=(founding,), writes=pair[:1]))

    assert done.head.seq == 1
    assert [change.record_id for change in await whole_log(store, acme.id)] == [pair[0].record_id]
    assert len(await whole_log(store, other)) == 1


async def held(store: Store, posts: Collection, hold: Hold) -> "asyncio.Future[Committed]":
    """A write that keeps the writer busy until it is let go."""
    record = await created(store, posts, title="held")

    async def update(rule: Callable[[Record], bool] | None) -> Committed:
        return await write(store, updating(posts, record["id"], {"title": "on"}, allowed=rule))

    task: asyncio.Future[Committed] = await hold.begin(store, update)
    return task


async def test_a_full_queue_refuses_at_once_and_takes_again_when_there_is_room(
    open_store: OpenStore, hold: Hold
) -> None:
    store = await open_store(queue_length=20, queue_account_length=12, queue_bytes=100_000)
    posts = await collection(store, "posts", text("title"))
    other = await account(store, "other")
    holding = await held(store, posts, hold)
    waiting: list[asyncio.Future[Record]] = []

    async def refused(account_id: str, title: str = "x") -> None:
        with pytest.raises(Unavailable) as error:
            await created(store, posts, account_id=account_id, title=title)
        assert (error.value.code, error.value.retry_after_s) == ("overloaded", 1)

    async def accepted(account_id: str) -> None:
        waiting.append(asyncio.ensure_future(created(store, posts, account_id=account_id, title="x")))
        await asyncio.sleep(0)

    await refused(SYSTEM, "x" * 200_000)
    for _ in range(12):
        await accepted(SYSTEM)
    await refused(SYSTEM)
    for _ in range(8):
        await accepted(other)
    await refused(other)
    assert store.stats()["queue_length"] == 20

    await hold.end()
    await asyncio.gather(holding, *waiting)
    assert await created(store, posts, title="x" * 50_000)
    assert (store.stats()["queue_length"], store.stats()["queue_bytes"]) == (0, 0)


async def test_an_account_with_hundreds_waiting_does_not_delay_anothers_one(store: Store, hold: Hold) -> None:
    posts = await collection(store, "posts", text("title"))
    other = await account(store, "other")
    holding = await held(store, posts, hold)
    announced: list[Change] = []
    store.on_commit = announced.extend

    many = [asyncio.ensure_future(created(store, posts, title="many")) for _ in range(400)]
    await asyncio.sleep(0)
    one = asyncio.ensure_future(created(store, posts, account_id=other, title="one"))
    await asyncio.sleep(0)
    await hold.end()
    await asyncio.gather(holding, one, *many)
    await announcements_arrive()

    titles = [change.data["title"] for change in announced]
    assert titles[:3] == ["on", "many", "one"]


async def test_closing_commits_and_announces_what_waits_and_refuses_what_comes(store: Store) -> None:
    posts = await collection(store, "posts", text("title"))
    announced: list[Change] = []
    store.on_commit = announced.extend
    waiting = [asyncio.ensure_future(created(store, posts, title=str(number))) for number in range(50)]
    await asyncio.sleep(0)

    await store.close()

    assert [change.data["title"] for change in announced] == [str(number) for number in range(50)]
    assert len(await asyncio.gather(*waiting)) == 50
    with pytest.raises(Unavailable) as refused:
        await created(store, posts, title="late")
    assert refused.value.code == "stopping"


async def test_a_transaction_of_more_than_1000_changes_is_refused(store: Store) -> None:
    posts = await collection(store, "posts", text("title"))
    writes: Sequence[Write] = [creating(posts) for _ in range(1000)]

    with pytest.raises(Conflict) as refused:
        await write(store, *writes, creating(posts))

    assert refused.value.code == "too_many_changes"
    assert (await write(store, *writes)).head.seq == 1000


async def test_heads_of_many_accounts_come_in_one_call(store: Store) -> None:
    posts = await collection(store, "posts", text("title"))
    accounts = [await account(store, f"account-{number}") for number in range(3)]
    await created(store, posts, account_id=accounts[1])

    heads = await store.heads([*accounts, "nobody", *("none" for _ in range(1000))])

    assert heads == {account_id: await store.head(account_id) for account_id in accounts}
    assert [heads[account_id].seq for account_id in accounts] == [0, 1, 0]


async def test_the_log_is_read_after_a_number_and_up_to_a_limit(store: Store) -> None:
    posts = await collection(store, "posts", text("title"))
    for number in range(10):
        await created(store, posts, title=str(number))

    assert [change.seq for change in await store.read_changes(SYSTEM, 3, 4)] == [4, 5, 6, 7]
    assert await store.read_changes(SYSTEM, 10, 4) == []
    assert await store.read_changes("nobody", 0, 4) == []


async def test_large_changes_are_read_a_few_at_a_time_and_whole_transactions_only(store: Store) -> None:
    posts = await collection(store, "posts", text("a"), text("b"))
    for _ in range(30):
        await write(store, *(creating(posts, {"a": "x" * 100_000, "b": "y" * 100_000}) for _ in range(3)))

    pieces: list[list[int]] = []
    while rows := await store.read_changes(SYSTEM, pieces[-1][-1] if pieces else 0, 1000):
        assert rows[-1].tx_index + 1 == rows[-1].tx_size
        pieces.append([row.seq for row in rows])

    assert [seq for piece in pieces for seq in piece] == list(range(1, 91))
    assert {len(piece) for piece in pieces} == {21, 6}
    await write(store, creating(posts, {"a": "after"}))
    assert (await store.read_changes(SYSTEM, 90, 1000))[0].data["a"] == "after"
