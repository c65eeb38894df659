"""Which folders continue a history of positions and which begin a new one (I8)."""

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import apsw
import msgspec
import pytest

from snackbase.errors import Unavailable
from snackbase.model import Collection, Head, Position
from snackbase.realtime.position import Positions
from snackbase.realtime.resume import refusal
from snackbase.storage import epoch as epochs
from snackbase.storage.backup import back_up
from snackbase.storage.epoch import Mark
from snackbase.storage.sqlite import SQLiteStore
from tests.storage.support import SYSTEM, altered, collection, created, text

DATABASES = ("sqlite",)


@asynccontextmanager
async def opened(folder: Path, **options: Any) -> AsyncIterator[SQLiteStore]:
    store = SQLiteStore(folder / "snackbase.db", **options)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


async def grown(folder: Path, count: int = 3, **options: Any) -> tuple[str, Head]:
    """Open a folder, write to it, close it; its epoch and its head."""
    async with opened(folder, **options) as store:
        _, known = await store.collections()
        posts: Collection = known[0] if known else await collection(store, "posts", text("title"))
        for _ in range(count):
            await created(store, posts, title="x")
        return store.epoch, await store.head(SYSTEM)


async def answer(folder: Path, token: str) -> str | None:
    """What a client that comes back with a position is told; None = it resumes."""
    async with opened(folder) as store:
        positions, parsed = Positions(store.epoch), Positions.parse(token)
        assert parsed is not None
        return refusal(parsed, positions, SYSTEM, await store.window(SYSTEM, parsed.seq))


def token_of(epoch: str, head: Head) -> str:
    return Positions(epoch).token(SYSTEM, Position(head.seq, head.ts_us, 1))


def mark_of(folder: Path) -> Mark:
    return msgspec.json.decode((folder / "snackbase.db.epoch").read_bytes(), type=Mark)


async def test_a_folder_that_is_opened_again_or_moved_goes_on(tmp_path: Path) -> None:
    token = token_of(*await grown(tmp_path / "a"))
    assert await answer(tmp_path / "a", token) is None

    (tmp_path / "a").rename(tmp_path / "b")
    await grown(tmp_path / "b")

    assert await answer(tmp_path / "b", token) is None


async def test_a_folder_copied_with_everything_in_it_goes_on(tmp_path: Path) -> None:
    token = token_of(*await grown(tmp_path / "a"))
    shutil.copytree(tmp_path / "a", tmp_path / "b")

    assert await answer(tmp_path / "b", token) is None


async def test_a_folder_whose_process_was_killed_goes_on(tmp_path: Path) -> None:
    async with opened(tmp_path / "a") as store:
        posts = await collection(store, "posts", text("title"))
        await created(store, posts, title="x")
        # What a kill leaves: file, WAL and sidecar as they are at one moment.
        shutil.copytree(tmp_path / "a", tmp_path / "b")
        token = token_of(store.epoch, await store.head(SYSTEM))

    assert not mark_of(tmp_path / "b").clean
    assert await answer(tmp_path / "b", token) is None


async def test_an_older_state_put_back_in_place_begins_a_new_epoch(tmp_path: Path) -> None:
    folder, backup = tmp_path / "a", tmp_path / "backup.db"
    await grown(folder)
    shutil.copy(folder / "snackbase.db", backup)
    token = token_of(*await grown(folder))

    shutil.copy(backup, folder / "snackbase.db")

    assert await answer(folder, token) == "epoch"
    # The older state's own positions as well: what follows them may be something else now.
    assert await answer(folder, token_of(*await grown(folder))) is None


async def test_an_older_state_that_lacks_only_a_rule_change_begins_a_new_epoch(tmp_path: Path) -> None:
    folder, backup = tmp_path / "a", tmp_path / "backup.db"
    epoch, _ = await grown(folder)
    shutil.copy(folder / "snackbase.db", backup)
    async with opened(folder) as store:
        _, (posts,) = await store.collections()
        await altered(store, posts, fields=(*posts.fields, text("more")))
    shutil.copy(backup, folder / "snackbase.db")

    async with opened(folder) as store:
        assert store.epoch != epoch


async def test_a_data_file_that_was_deleted_and_made_anew_is_another_history(tmp_path: Path) -> None:
    token = token_of(*await grown(tmp_path / "a"))
    (tmp_path / "a" / "snackbase.db").unlink()
    await grown(tmp_path / "a", count=9)

    assert await answer(tmp_path / "a", token) == "epoch"


async def test_a_database_without_its_sidecar_begins_a_new_epoch_once(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    epoch, _ = await grown(folder)
    (folder / "snackbase.db.epoch").unlink()

    second, _ = await grown(folder)
    third, _ = await grown(folder)

    assert epoch != second == third


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b'{"epoch":1}', b"[]"])
async def test_a_damaged_sidecar_counts_as_none(tmp_path: Path, content: bytes) -> None:
    epoch, _ = await grown(tmp_path / "a")
    (tmp_path / "a" / "snackbase.db.epoch").write_bytes(content)

    assert (await grown(tmp_path / "a"))[0] != epoch


async def test_a_database_of_another_folder_begins_a_new_epoch(tmp_path: Path) -> None:
    first, _ = await grown(tmp_path / "a")
    other, _ = await grown(tmp_path / "b", count=9)
    shutil.copy(tmp_path / "b" / "snackbase.db", tmp_path / "a" / "snackbase.db")

    assert (await grown(tmp_path / "a"))[0] not in {first, other}


async def test_a_copied_folder_that_went_on_in_two_places_is_told_by_the_check(tmp_path: Path) -> None:
    common = token_of(*await grown(tmp_path / "a"))
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    here = token_of(*await grown(tmp_path / "a"))
    there = token_of(*await grown(tmp_path / "b", count=9))

    assert await answer(tmp_path / "b", common) is None
    assert await answer(tmp_path / "b", here) == "unknown"
    assert await answer(tmp_path / "a", there) == "ahead"


@pytest.mark.parametrize(
    ("synchronous", "clean", "reboot", "goes_on"),
    [
        ("NORMAL", False, True, False),
        ("OFF", False, True, False),
        ("NORMAL", True, True, True),
        ("NORMAL", False, False, True),
        ("FULL", False, True, True),
        ("EXTRA", False, True, True),
    ],
)
async def test_below_full_an_unclean_start_after_a_reboot_begins_a_new_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, synchronous: str, clean: bool, reboot: bool, goes_on: bool
) -> None:
    boot = tmp_path / "boot_id"
    boot.write_text("first\n")
    monkeypatch.setattr(epochs, "BOOT_ID", boot)
    folder = tmp_path / "a"
    async with opened(folder, synchronous=synchronous) as store:
        posts = await collection(store, "posts", text("title"))
        await created(store, posts, title="x")
        epoch = store.epoch
        shutil.copytree(folder, tmp_path / "killed")
    if reboot:
        boot.write_text("second\n")

    async with opened(folder if clean else tmp_path / "killed") as store:
        assert (store.epoch == epoch) is goes_on


async def test_a_machine_that_does_not_tell_its_boots_is_not_trusted_below_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(epochs, "BOOT_ID", tmp_path / "nowhere")
    async with opened(tmp_path / "a", synchronous="NORMAL") as store:
        epoch = store.epoch
        shutil.copytree(tmp_path / "a", tmp_path / "killed")

    async with opened(tmp_path / "killed") as store:
        assert store.epoch != epoch
    async with opened(tmp_path / "a") as store:
        assert store.epoch == epoch


async def test_a_folder_is_left_in_order_only_by_the_last_process_on_it(tmp_path: Path) -> None:
    async with opened(tmp_path / "a") as first:
        async with opened(tmp_path / "a") as second:
            assert first.epoch == second.epoch
        assert not mark_of(tmp_path / "a").clean
    assert mark_of(tmp_path / "a").clean


async def test_the_sidecar_follows_while_the_store_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(epochs, "REFRESH_S", 0.0)
    async with opened(tmp_path / "a") as store:
        posts = await collection(store, "posts", text("title"))
        for number in range(1, 5):
            await created(store, posts, title="x")
            await created(store, posts, title="x")
            assert mark_of(tmp_path / "a").changes >= 2 * number - 1


async def test_a_process_does_not_overwrite_the_word_of_one_that_found_the_history_broken(tmp_path: Path) -> None:
    async with opened(tmp_path / "a") as first:
        (tmp_path / "a" / "snackbase.db.epoch").unlink()
        async with opened(tmp_path / "a") as second:
            assert second.epoch != first.epoch

    assert mark_of(tmp_path / "a").epoch == second.epoch


async def test_a_data_folder_that_takes_no_sidecar_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "a" / "snackbase.db.epoch").mkdir(parents=True)

    with pytest.raises(Unavailable) as refused:
        await SQLiteStore(tmp_path / "a" / "snackbase.db").open()
    assert refused.value.code == "storage_error"


async def test_a_backup_made_while_somebody_writes_is_whole_and_begins_a_new_epoch(tmp_path: Path) -> None:
    epoch, _ = await grown(tmp_path / "a")
    async with opened(tmp_path / "a") as store:
        _, (posts,) = await store.collections()
        await created(store, posts, title="in the WAL")
        (tmp_path / "b").mkdir()
        back_up(tmp_path / "a" / "snackbase.db", tmp_path / "b" / "snackbase.db")
        await created(store, posts, title="after it")
        assert store.epoch == epoch

    async with opened(tmp_path / "b") as copy:
        assert copy.epoch != epoch
        assert (await copy.head(SYSTEM)).seq == 4
        assert await copy.fetch("PRAGMA integrity_check") == [("ok",)]
    # Put back in place of the original, whose sidecar is still there.
    (tmp_path / "c").mkdir()
    back_up(tmp_path / "a" / "snackbase.db", tmp_path / "c" / "snackbase.db")
    shutil.copy(tmp_path / "c" / "snackbase.db", tmp_path / "a" / "snackbase.db")
    async with opened(tmp_path / "a") as restored:
        assert restored.epoch != epoch


async def test_a_backup_overwrites_nothing_and_is_the_owners_alone(tmp_path: Path) -> None:
    await grown(tmp_path / "a")
    target = tmp_path / "copy.db"
    back_up(tmp_path / "a" / "snackbase.db", target)
    before = target.read_bytes()

    assert target.stat().st_mode & 0o777 == 0o600
    assert set(os.listdir(tmp_path)) == {"a", "copy.db"}  # noqa: PTH208
    with pytest.raises(FileExistsError):
        back_up(tmp_path / "a" / "snackbase.db", target)
    assert target.read_bytes() == before


async def test_a_backup_of_something_else_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "not.db").write_bytes(b"no database at all" * 100)

    with pytest.raises(apsw.NotADBError):
        back_up(tmp_path / "not.db", tmp_path / "copy.db")
    assert not (tmp_path / "copy.db").exists()
