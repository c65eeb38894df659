"""Idempotency-Key over a real store: once is once, whatever the client, another process or a crash does."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from snackbase.errors import BadRequest, Conflict, ValidationFailed
from snackbase.model import Principal, Record
from snackbase.services.idempotency import LIFETIME_US, Once, Repeats, check_key, fingerprint_of, owner_of
from snackbase.services.records import Records, Written
from snackbase.storage.base import Kept
from snackbase.storage.receipts import PRUNED_AT_ONCE
from snackbase.storage.sqlite import wall_clock_us
from tests.support.stores import new_store
from tests.support.world import ANN, BOB, TITLE, World


def body(records: Sequence[Record]) -> bytes:
    return msgspec.json.encode(records)


def once_of(principal: Principal, data: Any, key: str = "k1") -> Once:
    fingerprint = fingerprint_of(principal, "POST", "posts/", msgspec.json.encode(data))
    return Once(owner=owner_of(principal), key=key, fingerprint=fingerprint, status=201, body=body)


async def send(
    world: World,
    data: dict[str, Any],
    *,
    key: str = "k1",
    principal: Principal | None = None,
    repeats: Repeats | None = None,
    records: Records | None = None,
) -> tuple[bytes, str, bool]:
    """One POST as the web layer makes it: the body, the position, whether it was replayed."""
    who = principal or world.user()
    once, met = once_of(who, data, key), list[Written]()

    async def write() -> Kept | None:
        met.append(await (records or world.records).create(who, "posts", data, once=once))
        return met[0].repeated

    kept = await (repeats or Repeats(world.store, now_us=wall_clock_us)).run(once, write)
    if kept is not None:
        return kept.body, kept.position, True
    return body(met[0].records), met[0].position, False


async def test_the_same_request_is_done_once_and_answered_alike(world: World) -> None:
    await world.collection("posts", TITLE)
    first = await send(world, {"title": "a"})
    again = await send(world, {"title": "a"})
    assert first[2] is False
    assert again == (*first[:2], True)
    assert len(await world.log()) == 1
    assert (await send(world, {"title": "a"}, key="k2"))[0] != first[0]


async def test_the_same_key_with_another_body_is_refused_and_changes_nothing(world: World) -> None:
    await world.collection("posts", TITLE)
    first = await send(world, {"title": "a"})
    with pytest.raises(ValidationFailed) as caught:
        await send(world, {"title": "b"})
    assert caught.value.code == "idempotency_mismatch"
    assert (await send(world, {"title": "a"}))[0] == first[0]
    assert len(await world.log()) == 1


async def test_a_key_belongs_to_one_principal(world: World) -> None:
    await world.collection("posts", TITLE)
    await send(world, {"title": "a"}, principal=world.user(ANN))
    assert (await send(world, {"title": "b"}, principal=world.user(BOB)))[2] is False
    assert (await send(world, {"title": "b"}, principal=world.user(BOB)))[2] is True
    assert len(await world.log()) == 2


async def test_what_failed_is_not_kept_and_may_be_tried_again(world: World) -> None:
    await world.collection("posts", msgspec.structs.replace(TITLE, unique=True))
    taken = (await world.records.create(world.user(), "posts", {"title": "a"})).records[0]
    for _ in range(2):
        with pytest.raises(Conflict):
            await send(world, {"title": "a"})
    await world.records.delete(world.user(), "posts", taken["id"])
    assert (await send(world, {"title": "a"}))[2] is False


async def test_duplicates_in_flight_become_one_write_and_run_hooks_once(world: World) -> None:
    await world.collection("posts", TITLE)
    calls = []
    called, release = asyncio.Event(), asyncio.Event()

    @world.hooks.on_record_before_create()
    async def slow(data: dict[str, Any]) -> None:
        calls.append(data["title"])
        called.set()
        await release.wait()

    repeats = Repeats(world.store, now_us=wall_clock_us)
    tasks = [asyncio.create_task(send(world, {"title": "a"}, repeats=repeats)) for _ in range(5)]
    await called.wait()
    release.set()
    answers = await asyncio.gather(*tasks)
    assert calls == ["a"]
    assert len({answer[:2] for answer in answers}) == 1
    assert sorted(answer[2] for answer in answers) == [False, True, True, True, True]
    assert len(await world.log()) == 1


async def test_when_the_first_of_two_in_flight_fails_the_second_does_it(world: World) -> None:
    await world.collection("posts", TITLE)
    repeats, calls = Repeats(world.store, now_us=wall_clock_us), list[int]()
    called, release = asyncio.Event(), asyncio.Event()

    @world.hooks.on_record_before_create()
    async def first_fails(data: dict[str, Any]) -> None:
        calls.append(1)
        called.set()
        await release.wait()
        if len(calls) == 1:
            raise RuntimeError("the first one")

    tasks = [asyncio.create_task(send(world, {"title": "a"}, repeats=repeats)) for _ in range(2)]
    await called.wait()
    release.set()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(outcomes[0], Exception)
    assert not isinstance(outcomes[1], BaseException)
    assert outcomes[1][2] is False
    assert len(await world.log()) == 1


async def test_two_processes_with_one_key_make_one_write(world: World, tmp_path: Path) -> None:
    await world.collection("posts", TITLE)
    other = World(new_store(tmp_path / "data" / "snackbase.db"))
    other.accounts = world.accounts
    await other.store.open()
    other.catalog.replace(*await other.store.collections())
    other.records = other.service()
    # Each looks before the other has written: what decides is the look inside the transaction.
    looked = asyncio.Barrier(2)

    class Looking(Records):
        async def create(self, *args: Any, **named: Any) -> Written:
            await looked.wait()
            return await super().create(*args, **named)

    def looking(of: World) -> Records:
        records = of.service()
        records.__class__ = Looking
        return records

    answers = await asyncio.gather(
        *(send(one, {"title": "a"}, principal=world.user(), records=looking(one)) for one in (world, other))
    )
    await other.store.close()
    assert answers[0][:2] == answers[1][:2]
    assert sorted(answer[2] for answer in answers) == [False, True]
    assert len(await world.log()) == 1


async def test_answers_expire_after_a_day_and_are_removed_a_few_at_a_time(tmp_path: Path) -> None:
    now = [wall_clock_us()]
    world = World(new_store(tmp_path / "data" / "snackbase.db", now_us=lambda: now[0]))
    await world.open()
    await world.collection("posts", TITLE)
    repeats = Repeats(world.store, now_us=lambda: now[0])
    for number in range(20):
        await send(world, {"title": "a"}, key=f"k{number}", repeats=repeats)
    now[0] += LIFETIME_US - 1
    assert (await send(world, {"title": "a"}, key="k0", repeats=repeats))[2] is True
    now[0] += 1
    assert (await send(world, {"title": "b"}, key="k0", repeats=repeats))[2] is False
    rows = await world.store.fetch("SELECT count(*) FROM _idempotency")
    assert rows == [(20 - PRUNED_AT_ONCE + 1,)]
    for number in range(5):
        await send(world, {"title": "c"}, key=f"l{number}", repeats=repeats)
    rows = await world.store.fetch("SELECT count(*) FROM _idempotency WHERE expires_us <= ?", (now[0],))
    assert rows == [(0,)]
    await world.store.close()


async def test_an_answer_shows_what_its_writer_may_view(world: World) -> None:
    await world.collection("posts", TITLE, view_fields=("created_by",))
    first = await send(world, {"title": "a"})
    assert b"title" not in first[0]
    assert (await send(world, {"title": "a"}))[0] == first[0]


@pytest.mark.parametrize("keys", [[""], ["a b"], ["a" * 256], ["é"], ["a\n"], ["a", "a"], ["\x7f"]])
def test_a_key_is_visible_ascii_and_only_one(keys: list[str]) -> None:
    with pytest.raises(BadRequest) as caught:
        check_key(keys)
    assert caught.value.code == "invalid_idempotency_key"


def test_any_visible_ascii_up_to_255_characters_is_a_key() -> None:
    assert check_key([]) is None
    assert check_key(['"8e03978e-40d5"']) == '"8e03978e-40d5"'
    assert check_key(["~" * 255]) == "~" * 255
