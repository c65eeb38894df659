"""References stay whole, and everything a deletion takes with it is in the log."""

import pytest

from snackbase.errors import Conflict, ValidationFailed
from snackbase.model import Collection, OnDelete, Op
from snackbase.storage.base import Store
from tests.storage.support import (
    SYSTEM,
    account,
    altered,
    collection,
    created,
    creating,
    deleting,
    ids_in,
    new_id,
    reference,
    text,
    updating,
    whole_log,
    write,
)


async def folders(store: Store, action: OnDelete | None, **more: bool) -> tuple[Collection, Collection]:
    """A collection and one that refers to it."""
    parents = await collection(store, "folders", text("name"))
    return parents, await collection(store, "papers", reference("folder", "folders", on_delete=action, **more))


async def test_a_reference_must_lead_to_a_record_of_the_same_account(store: Store) -> None:
    parents, children = await folders(store, OnDelete.CASCADE)
    other = await account(store, "other")
    mine, theirs = await created(store, parents), await created(store, parents, account_id=other)
    child = await created(store, children, folder=mine["id"])

    for wrong in (theirs["id"], new_id(), ""):
        for refused in (creating(children, {"folder": wrong}), updating(children, child["id"], {"folder": wrong})):
            with pytest.raises(ValidationFailed) as error:
                await write(store, refused)
            assert [(d.field, d.code) for d in error.value.details] == [("folder", "reference_not_found")]

    assert await store.get(children, SYSTEM, child["id"]) == child
    assert (await write(store, updating(children, child["id"], {"folder": None}))).written[0]["folder"] is None


async def test_a_transaction_may_refer_to_what_it_creates_in_any_order(store: Store) -> None:
    tree = await collection(store, "tree", reference("parent", "tree", on_delete=OnDelete.CASCADE))
    parent, child = new_id(), new_id()

    done = await write(
        store,
        creating(tree, {"parent": parent}, record_id=child),
        creating(tree, {"parent": parent}, record_id=parent),
    )

    assert [change.record_id for change in done.changes] == [child, parent]


async def test_cascades_go_breadth_first_and_stand_in_the_log_as_one_transaction(store: Store) -> None:
    tree = await collection(store, "tree", text("name"), reference("parent", "tree", on_delete=OnDelete.CASCADE))
    leaves = await collection(store, "leaves", reference("node", "TREE", on_delete=OnDelete.CASCADE))
    root = await created(store, tree, name="root")
    a, b = [await created(store, tree, name=name, parent=root["id"]) for name in ("a", "b")]
    deep = await created(store, tree, name="deep", parent=a["id"])
    leaf = await created(store, leaves, node=deep["id"])
    kept = await created(store, leaves, node=(await created(store, tree, name="other"))["id"])

    done = await write(store, deleting(tree, root["id"]), actor="gardener")

    assert [change.record_id for change in done.changes] == [
        root["id"],
        *sorted([a["id"], b["id"]]),
        deep["id"],
        leaf["id"],
    ]
    assert {change.op for change in done.changes} == {Op.DELETE}
    assert {change.actor for change in done.changes} == {"gardener"}
    assert [(change.tx_index, change.tx_size) for change in done.changes] == [(index, 5) for index in range(5)]
    assert done.changes[-1].data == leaf
    assert done.changes[-1].collection_id == leaves.id
    assert done.written == (root,)
    assert (await whole_log(store))[-5:] == list(done.changes)
    assert await store.get(leaves, SYSTEM, kept["id"]) == kept
    assert await store.get(tree, SYSTEM, deep["id"]) is None


async def test_a_circle_of_references_ends(store: Store) -> None:
    ring = await collection(store, "ring", reference("next", "ring", on_delete=OnDelete.CASCADE))
    ids = [new_id() for _ in range(4)]
    await write(store, *(creating(ring, {"next": ids[(i + 1) % 4]}, record_id=ids[i]) for i in range(4)))
    alone = new_id()
    await write(store, creating(ring, {"next": alone}, record_id=alone))

    assert {c.record_id for c in (await write(store, deleting(ring, ids[2]))).changes} == set(ids)
    assert [c.record_id for c in (await write(store, deleting(ring, alone))).changes] == [alone]


async def test_set_null_is_an_update_of_the_record_that_referred(store: Store) -> None:
    parents, children = await folders(store, OnDelete.SET_NULL)
    parent = await created(store, parents)
    child = await created(store, children, folder=parent["id"])

    done = await write(store, deleting(parents, parent["id"]), actor="boss")

    update = done.changes[1]
    assert [change.op for change in done.changes] == [Op.DELETE, Op.UPDATE]
    assert update.data == await store.get(children, SYSTEM, child["id"])
    assert (update.data["folder"], update.data["updated_by"]) == (None, "boss")
    assert update.prev == {name: child[name] for name in ("folder", "updated_at", "updated_by")}


@pytest.mark.parametrize(("action", "required"), [(OnDelete.RESTRICT, False), (None, False), (OnDelete.SET_NULL, True)])
async def test_what_is_referred_to_and_restricted_cannot_be_deleted(
    store: Store, action: OnDelete | None, required: bool
) -> None:
    parents, children = await folders(store, action, required=required)
    parent = await created(store, parents)
    child = await created(store, children, folder=parent["id"])

    with pytest.raises(Conflict) as refused:
        await write(store, deleting(parents, parent["id"]))

    assert refused.value.code == "referenced"
    assert [(d.field, d.code) for d in refused.value.details] == [("papers.folder", "referenced")]
    assert await store.get(parents, SYSTEM, parent["id"]) == parent
    assert len(await whole_log(store)) == 2

    done = await write(store, deleting(parents, parent["id"]), deleting(children, child["id"]))
    assert [change.op for change in done.changes] == [Op.DELETE] * 2


async def test_a_restriction_deep_in_a_cascade_undoes_all_of_it(store: Store) -> None:
    parents, children = await folders(store, OnDelete.CASCADE)
    locks = await collection(store, "locks", reference("paper", "papers", on_delete=OnDelete.RESTRICT))
    parent = await created(store, parents)
    child = await created(store, children, folder=parent["id"])
    await created(store, locks, paper=child["id"])

    with pytest.raises(Conflict, match="locks"):
        await write(store, deleting(parents, parent["id"]))

    assert await store.get(children, SYSTEM, child["id"]) == child
    assert [change.seq for change in await whole_log(store)] == [1, 2, 3]


async def test_a_cascade_stays_within_the_account(store: Store) -> None:
    parents, children = await folders(store, OnDelete.CASCADE)
    other = await account(store, "other")
    theirs = await created(store, parents, account_id=other)
    child = await created(store, children, account_id=other, folder=theirs["id"])
    mine = await created(store, parents)

    await write(store, deleting(parents, mine["id"]))

    assert await store.get(children, other, child["id"]) == child
    assert len(await whole_log(store, other)) == 2


async def test_a_cascade_of_more_than_1000_changes_is_refused(store: Store) -> None:
    parents, children = await folders(store, OnDelete.CASCADE)
    parent = await created(store, parents)
    for _ in range(2):
        await write(store, *(creating(children, {"folder": parent["id"]}) for _ in range(500)))

    with pytest.raises(Conflict) as refused:
        await write(store, deleting(parents, parent["id"]))
    assert refused.value.code == "too_many_changes"
    assert (await store.head(SYSTEM)).seq == 1001

    await write(store, deleting(children, min(await ids_in(store, children))))
    assert len((await write(store, deleting(parents, parent["id"]))).changes) == 1000


@pytest.mark.database("sqlite")
async def test_following_a_reference_uses_an_index(store: Store) -> None:
    _, children = await folders(store, OnDelete.CASCADE)
    covers = await collection(store, "covers", reference("folder", "folders", unique=True))

    for table in (children.table, covers.table):
        select = f"SELECT id FROM {table} WHERE account_id = ? AND folder = ? ORDER BY id LIMIT 5"  # noqa: S608 - ours
        plan = " ".join(str(row[3]) for row in await store.fetch(f"EXPLAIN QUERY PLAN {select}", ("a", "b")))
        assert "SEARCH" in plan and "folder=?" in plan


async def test_references_follow_a_collection_that_is_renamed(store: Store) -> None:
    parents, _ = await folders(store, OnDelete.CASCADE)
    parents = await altered(store, parents, name="cabinets")
    children = {c.name: c for c in (await store.collections())[1]}["papers"]
    parent = await created(store, parents)

    child = await created(store, children, folder=parent["id"])

    assert children.fields[0].collection == "cabinets"
    assert children.version == parents.version
    assert [c.record_id for c in (await write(store, deleting(parents, parent["id"]))).changes][1:] == [child["id"]]


async def test_changes_of_records_that_are_too_large_together_are_refused_whole(store: Store) -> None:
    parents = await collection(store, "parents", text("title"))
    children = await collection(
        store, "children", *(text(name) for name in "abc"), reference("parent", "parents", on_delete=OnDelete.CASCADE)
    )
    parent = await created(store, parents, title="p")
    largest = {name: "x" * 170_000 for name in "abc"}
    made = [await created(store, children, parent=parent["id"], **largest) for _ in range(70)]
    before = await store.head(SYSTEM)

    for writes in (
        [deleting(parents, parent["id"])],
        [updating(children, one["id"], {"a": "y" * 170_000}) for one in made],
    ):
        with pytest.raises(Conflict) as refused:
            await write(store, *writes)
        assert refused.value.code == "too_many_changes"
    assert await store.head(SYSTEM) == before
    await write(store, *(deleting(children, one["id"]) for one in made[:10]))
    await write(store, deleting(parents, parent["id"]))
    assert await store.count(children) == 0
