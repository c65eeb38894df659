"""Lists: one account's records, in order, counted, at one position, within a deadline."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from snackbase.errors import BadRequest, TooLarge, Unavailable, ValidationFailed
from snackbase.model import Collection, Field, FieldType, Record
from snackbase.rules import Auth, Kind, check, parse
from snackbase.services.listing import where_of
from snackbase.storage.base import Page, Query, Store
from tests.storage.support import (
    SYSTEM,
    account,
    collection,
    created,
    creating,
    deleting,
    replayed,
    text,
    updating,
    whole_log,
    write,
)

OpenStore = Callable[..., Awaitable[Store]]
Column = Callable[[str], str]
Param = Callable[[object], str]
NOBODY = Auth(None, None, None, None)


async def numbered(store: Store, count: int, account_id: str = SYSTEM) -> tuple[Collection, list[Record]]:
    posts = await collection(store, "posts", text("kind"), Field(name="n", type=FieldType.NUMBER))
    writes = [creating(posts, {"n": number, "kind": "ab"[number % 2]}) for number in range(count)]
    return posts, list((await write(store, *writes, account_id=account_id)).written)


async def test_a_list_holds_one_accounts_records_only(store: Store) -> None:
    posts, mine = await numbered(store, 3)
    other = await account(store, "other")
    theirs = await created(store, posts, account_id=other, n=9)

    page = await store.list(Query(collection=posts, account_id=SYSTEM, where=lambda _column, _param: "1 = 1 OR 1 = 1"))

    assert sorted(page.items, key=lambda record: record["n"]) == mine
    assert (await store.list(Query(collection=posts, account_id=other))).items == (theirs,)


async def test_a_list_is_sorted_with_ties_by_id_and_cut_into_pages(store: Store) -> None:
    posts, records = await numbered(store, 10)
    wanted = sorted(sorted(records, key=lambda record: record["id"]), key=lambda record: record["kind"], reverse=True)

    def query(skip: int, limit: int = 3) -> Query:
        return Query(collection=posts, account_id=SYSTEM, sort=(("kind", True),), skip=skip, limit=limit)

    pages = [await store.list(query(skip)) for skip in range(0, 12, 3)]

    assert [record for page in pages for record in page.items] == wanted
    assert [page.total for page in pages] == [10] * 4
    assert (await store.list(query(50))).total == 10
    assert (await store.list(query(0, 0))).total == 10
    by_id = await store.list(Query(collection=posts, account_id=SYSTEM, sort=(("id", True),)))
    assert [record["id"] for record in by_id.items] == sorted((record["id"] for record in records), reverse=True)


async def test_where_binds_its_values_in_whatever_order_it_asks_for_them(store: Store) -> None:
    posts, _ = await numbered(store, 10)

    def where(column: Column, param: Param) -> str:
        least, kind = param(4), param("a'")
        return f"{column('kind')} < {kind} AND {column('n')} >= {least}"

    page = await store.list(Query(collection=posts, account_id=SYSTEM, where=where, sort=(("n", False),), limit=2))

    assert [record["n"] for record in page.items] == [4, 6]
    assert page.total == 3
    unasked = await store.list(Query(collection=posts, account_id=SYSTEM, where=where, total=False))
    assert (len(unasked.items), unasked.total) == (3, None)


async def test_a_list_cannot_name_what_is_no_column(store: Store) -> None:
    posts, _ = await numbered(store, 1)

    for query in (
        Query(collection=posts, account_id=SYSTEM, where=lambda column, _param: column('x" OR 1=1 --')),
        Query(collection=posts, account_id=SYSTEM, sort=(("nothing", False),)),
    ):
        with pytest.raises(BadRequest):
            await store.list(query)


async def test_a_value_that_cannot_be_bound_is_the_clients_error(store: Store) -> None:
    posts, _ = await numbered(store, 1)

    for value in ("\ud800", 2**70):

        def where(column: Column, param: Param, value: object = value) -> str:
            return f"{column('kind')} = {param(value)}"

        with pytest.raises(ValidationFailed):
            await store.list(Query(collection=posts, account_id=SYSTEM, where=where))


async def test_items_total_and_head_are_of_one_moment(store: Store) -> None:
    posts, records = await numbered(store, 30)
    stop = asyncio.Event()

    async def writer(number: int) -> None:
        while not stop.is_set():
            record = (await write(store, creating(posts, {"n": number}))).written[0]
            await write(store, updating(posts, record["id"], {"n": -number - 1}))
            await write(store, deleting(posts, record["id"]))

    writers = [asyncio.ensure_future(writer(number)) for number in range(6)]
    pages: dict[int, Page] = {}
    while len(pages) < 30:
        page = await store.list(Query(collection=posts, account_id=SYSTEM, limit=20))
        pages[page.head.seq] = page
    stop.set()
    await asyncio.gather(*writers)

    log = await whole_log(store)
    for seq, page in pages.items():
        state = replayed(log[:seq])
        assert list(page.items) == [record for _, record in sorted(state.items())][:20]
        assert page.total == len(state)
    assert {record["id"] for record in records} <= replayed(log).keys()


async def test_a_query_over_its_deadline_ends_and_the_next_one_works(open_store: OpenStore) -> None:
    store = await open_store(query_timeout_s=0.05, list_threads=1)
    posts, records = await numbered(store, 300)

    def endless(column: Column, _param: Param) -> str:
        rows = f"(SELECT count(*) FROM {posts.table} a, {posts.table} b, {posts.table} c, {posts.table} d)"  # noqa: S608 - our own table
        return f"{column('n')} < {rows}"

    with pytest.raises(Unavailable) as late:
        await store.list(Query(collection=posts, account_id=SYSTEM, where=endless))

    assert late.value.code == "query_timeout"
    assert (await store.list(Query(collection=posts, account_id=SYSTEM, limit=1))).total == len(records)
    assert store.stats()["lists_waiting"] == 0


async def test_a_page_that_is_too_large_is_refused_and_thirty_records_never_are(store: Store) -> None:
    posts = await collection(store, "posts", text("a"), text("b"), text("c"))
    largest = {name: "x" * 170_000 for name in "abc"}
    for _ in range(40):
        await created(store, posts, **largest)

    with pytest.raises(TooLarge) as refused:
        await store.list(Query(collection=posts, account_id=SYSTEM, limit=100))
    assert refused.value.code == "page_too_large"
    assert len((await store.list(Query(collection=posts, account_id=SYSTEM, limit=31))).items) == 31
    few = Query(collection=posts, account_id=SYSTEM, skip=20, limit=100)
    assert len((await store.list(few)).items) == 20


async def test_records_are_counted_for_one_account_and_for_all(store: Store) -> None:
    posts, _ = await numbered(store, 3)
    other = await account(store, "other")
    await created(store, posts, account_id=other)

    counts = [await store.count(posts, account_id) for account_id in (None, SYSTEM, other, "nobody")]

    assert counts == [4, 3, 1, 0]


@pytest.mark.database("sqlite")
async def test_the_default_order_of_a_list_needs_no_sorting(store: Store) -> None:
    posts, _ = await numbered(store, 1)

    select = f"SELECT * FROM {posts.table} WHERE account_id = ? ORDER BY created_at DESC, id"  # noqa: S608 - our own
    plan = [str(row[3]) for row in await store.fetch(f"EXPLAIN QUERY PLAN {select} LIMIT 5", (SYSTEM,))]

    assert "created_at" in plan[0] or "account_id=?" in plan[0]
    assert not any(step == "USE TEMP B-TREE FOR ORDER BY" for step in plan)


async def test_a_search_that_takes_long_in_each_text_ends_at_its_deadline(open_store: OpenStore) -> None:
    store = await open_store(query_timeout_s=0.05, list_threads=1)
    posts = await collection(store, "posts", text("title"))
    for _ in range(30):
        await created(store, posts, title="a" * 200_000)
    # Each place of the text begins like the pattern, which only its last letter tells.
    rule = check(parse(f"title ~ '%{'a' * 1900}b%'"), {"title": Kind.TEXT})

    with pytest.raises(Unavailable) as late:
        await store.list(Query(collection=posts, account_id=SYSTEM, where=where_of((rule,), NOBODY, store.dialect)))

    assert late.value.code == "query_timeout"
    assert len((await store.list(Query(collection=posts, account_id=SYSTEM, limit=1))).items) == 1
