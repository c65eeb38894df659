"""What the storage tests share: a second account, collections, and writes in one line."""

import asyncio
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from snackbase.model import (
    SYSTEM_ACCOUNT_ID,
    Account,
    Change,
    Collection,
    Field,
    FieldType,
    Head,
    Index,
    Op,
    Record,
    Rules,
)
from snackbase.storage import system
from snackbase.storage.base import Committed, SchemaChange, Store, Transaction, Write

NOW = "2026-01-01T00:00:00.000Z"
RULES = Rules(list_rule="", view_rule="", create_rule="", update_rule="", delete_rule="")
SYSTEM = SYSTEM_ACCOUNT_ID
ACTOR = "ac000000-0000-4000-8000-000000000001"


def new_id() -> str:
    return str(uuid.uuid4())


def definition(name: str, *fields: Field, indexes: Sequence[Index] = (), **more: Any) -> Collection:
    """A definition as a service hands it in: versions, times and the table's name are the store's to give."""
    return Collection(
        **{
            "id": new_id(),
            "name": name,
            "table": "",
            "fields": fields,
            "indexes": tuple(indexes),
            "rules": RULES,
            "created_at": NOW,
            "updated_at": NOW,
            **more,
        }
    )


async def collection(store: Store, name: str, *fields: Field, **more: Any) -> Collection:
    made = await store.alter(SchemaChange(before=None, after=definition(name, *fields, **more)))
    assert made is not None
    return made


async def altered(store: Store, before: Collection, **changes: Any) -> Collection:
    """The definition with some attributes replaced."""
    values = {name: getattr(before, name) for name in before.__struct_fields__} | changes
    made = await store.alter(SchemaChange(before=before, after=Collection(**values)))
    assert made is not None
    return made


def text(name: str, **more: Any) -> Field:
    return Field(name=name, **more)


def reference(name: str, target: str, **more: Any) -> Field:
    return Field(name=name, type=FieldType.REFERENCE, collection=target, **more)


async def account(store: Store, slug: str) -> str:
    """A new account's id."""
    made = Account(id=new_id(), account_code="", slug=slug, name=slug.title(), created_at=NOW, updated_at=NOW)
    await store.write(
        Transaction(account_id=made.id, statements=(system.insert_account(made, error=ValueError("taken")),))
    )
    return made.id


def creating(into: Collection, values: Mapping[str, Any] | None = None, *, record_id: str | None = None) -> Write:
    return Write(op=Op.CREATE, collection=into, record_id=record_id or new_id(), values=values or {})


def updating(
    of: Collection, record_id: str, values: Mapping[str, Any], *, allowed: Callable[[Record], bool] | None = None
) -> Write:
    return Write(op=Op.UPDATE, collection=of, record_id=record_id, values=values, allowed=allowed)


def deleting(of: Collection, record_id: str) -> Write:
    return Write(op=Op.DELETE, collection=of, record_id=record_id)


async def write(store: Store, *writes: Write, account_id: str = SYSTEM, actor: str | None = ACTOR) -> Committed:
    return await store.write(Transaction(account_id=account_id, actor=actor, writes=writes))


async def created(store: Store, into: Collection, *, account_id: str = SYSTEM, **values: Any) -> Record:
    return (await write(store, creating(into, values), account_id=account_id)).written[0]


async def announcements_arrive() -> None:
    """One turn of the loop: an acknowledged write is announced right after those who waited for it ran."""
    await asyncio.sleep(0)


async def whole_log(store: Store, account_id: str = SYSTEM) -> list[Change]:
    found: list[Change] = []
    while rows := await store.read_changes(account_id, found[-1].seq if found else 0, 1_000_000):
        found += rows
    return found


def replayed(log: Sequence[Change]) -> dict[str, Record]:
    """The records that a log produces, by id."""
    state: dict[str, Record] = {}
    for change in log:
        state.pop(change.record_id, None)
        if change.op is not Op.DELETE:
            state[change.record_id] = dict(change.data)
    return state


async def ids_in(store: Store, table: Collection, account_id: str = SYSTEM) -> set[str]:
    """The ids of an account's rows, as the table has them."""
    sql = f"SELECT id FROM {table.table} WHERE account_id = ?"  # noqa: S608 - our own table
    return {record_id for (record_id,) in await store.fetch(sql, (account_id,))}


async def until(store: Store, name: str, value: float) -> None:
    """Wait for a figure of the store; nothing else tells of the writer thread's own doings."""
    async with asyncio.timeout(30):
        while store.stats()[name] != value:  # noqa: ASYNC110 - see above
            await asyncio.sleep(0.01)


def head_of(changes: Sequence[Change]) -> Head:
    return Head(changes[-1].seq, changes[-1].ts_us)
