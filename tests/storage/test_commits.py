"""COMMIT on PostgreSQL when the line breaks in the middle of it: what was written is found out, and said."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from snackbase.errors import Unavailable
from snackbase.model import Change, Collection
from snackbase.storage.postgres import outcome
from snackbase.storage.postgres.store import PostgresStore
from tests.storage.support import (
    SYSTEM,
    account,
    announcements_arrive,
    collection,
    created,
    creating,
    text,
    until,
    whole_log,
    write,
)
from tests.support.database_line import DatabaseLine, Lost
from tests.support.postgres import Cluster

DATABASES = ("postgres",)


class Scene:
    """A store behind a line, a collection with one record in it, and what the store announced."""

    def __init__(self, store: PostgresStore, line: DatabaseLine, posts: Collection, other: str) -> None:
        self.store = store
        self.line = line
        self.posts = posts
        self.other = other
        self.announced: list[Change] = []
        store.on_commit = self._note

    def _note(self, changes: Sequence[Change]) -> None:
        self.announced += [one for one in changes if one.data["title"] != "first"]

    def losing(self, lost: Lost) -> "asyncio.Task[Any]":
        """A write whose COMMIT meets this."""
        self.line.lose = lost
        return asyncio.ensure_future(write(self.store, creating(self.posts, {"title": "x"})))

    async def refusal(self, lost: Lost) -> Unavailable:
        with pytest.raises(Unavailable) as refused:
            await self.losing(lost)
        return refused.value

    async def seqs(self) -> list[int]:
        return [change.seq for change in await whole_log(self.store)]


@pytest.fixture
async def scene(postgres: Cluster, postgres_url: str) -> AsyncIterator[Scene]:
    async with DatabaseLine(postgres) as line:
        store = PostgresStore(line.url(postgres_url))
        await store.open()
        posts, other = await collection(store, "posts", text("title")), await account(store, "other")
        for account_id in (SYSTEM, other):
            await created(store, posts, account_id=account_id, title="first")
        yield Scene(store, line, posts, other)
        line.heal()
        await store.close()


async def test_a_commit_that_never_arrived_is_said_to_have_written_nothing(scene: Scene) -> None:
    refused = await scene.refusal("commit")

    assert refused.code == "storage_error"
    assert "nothing was written" in refused.message
    await created(scene.store, scene.posts, title="after")
    assert await scene.seqs() == [1, 2]
    await announcements_arrive()
    assert [one.seq for one in scene.announced] == [2]


async def test_a_commit_whose_answer_was_lost_is_found_in_the_log_answered_and_announced(scene: Scene) -> None:
    done = await scene.losing("answer")

    assert done.head.seq == 2
    await created(scene.store, scene.posts, title="after")
    assert await scene.seqs() == [1, 2, 3]
    await announcements_arrive()
    assert [one.seq for one in scene.announced] == [2, 3]


async def test_many_writes_of_one_lost_commit_are_all_answered(scene: Scene) -> None:
    waiting = [scene.losing("answer") for _ in range(20)]
    taken = await write(scene.store, creating(scene.posts, {"title": "other"}), account_id=scene.other)

    done = [await one for one in waiting]
    assert sorted(one.head.seq for one in done) == list(range(2, 22))
    assert taken.head.seq == 2


async def test_a_commit_that_the_server_still_waits_for_is_waited_for_and_nobody_else_waits(scene: Scene) -> None:
    waiting = scene.losing("both")
    await scene.line.lost.wait()

    await created(scene.store, scene.posts, account_id=scene.other, title="meanwhile")
    assert not waiting.done()

    with pytest.raises(Unavailable, match="nothing was written"):
        await waiting
    await created(scene.store, scene.posts, title="after")
    assert await scene.seqs() == [1, 2]


async def test_a_session_that_the_server_gave_up_is_no_defect_of_ours(scene: Scene) -> None:
    """As for a process that was stopped for longer than its sessions may be idle."""
    refused = await scene.refusal("patience")

    assert (refused.code, "nothing was written" in refused.message) == ("storage_error", True)
    await created(scene.store, scene.posts, title="after")


async def test_an_outcome_that_cannot_be_found_out_is_said_to_be_unknown(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outcome, "PATIENCE_S", 0.5)
    waiting = scene.losing("answer")
    await scene.line.lost.wait()
    scene.line.refusing = True

    with pytest.raises(Unavailable) as refused:
        await waiting
    assert refused.value.code == "outcome_unknown"
    scene.line.heal()
    await until(scene.store, "healthy", 1)
    assert await scene.seqs() == [1, 2]
