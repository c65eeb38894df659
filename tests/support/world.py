"""A records service over a real store with two accounts, driven by a test without any server."""

import asyncio
import secrets
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import msgspec

from snackbase.catalog import Catalog
from snackbase.hooks import Hooks
from snackbase.model import (
    MEMBERS_RULE,
    SYSTEM_ACCOUNT_ID,
    Account,
    Change,
    Collection,
    Field,
    FieldType,
    Principal,
    Rules,
)
from snackbase.realtime.position import Positions
from snackbase.services.collections import Collections
from snackbase.services.ids import Ids
from snackbase.services.records import Records
from snackbase.storage import system
from snackbase.storage.base import SchemaChange, Transaction
from snackbase.storage.sqlite import wall_clock_us
from tests.support.stores import AnyStore

TIME = "2026-01-17T12:34:56.789Z"
ANN = "aaaaaaaa-0000-4000-8000-000000000001"
BOB = "bbbbbbbb-0000-4000-8000-000000000002"
GHOST = "99999999-9999-4999-8999-999999999999"
MEMBERS = Rules(
    list_rule=MEMBERS_RULE,
    view_rule=MEMBERS_RULE,
    create_rule=MEMBERS_RULE,
    update_rule=MEMBERS_RULE,
    delete_rule=MEMBERS_RULE,
)
TITLE = Field(name="title", required=True)
VIEWS = Field(name="views", type=FieldType.NUMBER, default=0)


class World:
    """A store with two accounts, and a records service whose after-hooks are run by hand."""

    def __init__(self, store: AnyStore) -> None:
        self.store = store
        self.catalog = Catalog()
        self.hooks = Hooks(timeout_s=5)
        self.later: list[Callable[[], Coroutine[Any, Any, None]]] = []
        self.changes: list[Change] = []
        self.accounts: dict[str, str] = {}

    def put_off(self, work: Callable[[], Coroutine[Any, Any, None]], size: int = 0) -> None:
        self.later.append(work)

    async def open(self) -> None:
        await self.store.open()
        self.store.on_schema = self.catalog.replace
        self.store.on_commit = self._committed
        self.catalog.replace(*await self.store.collections())
        self.records = self.service()
        self.collections = Collections(self.store, self.catalog, self.hooks, later=self.put_off, new_id=self.new_id)
        for slug in ("acme", "other"):
            self.accounts[slug] = await self._account(slug)

    def service(self, *, explain: bool = False) -> Records:
        return Records(
            self.store,
            self.catalog,
            self.hooks,
            Positions(self.store.epoch),
            later=self.put_off,
            new_id=Ids(wall_clock_us, secrets.randbits).new,
            now_us=wall_clock_us,
            explain=explain,
        )

    def _committed(self, changes: Sequence[Change]) -> None:
        self.changes.extend(changes)

    async def _account(self, slug: str) -> str:
        made = Account(id=self.new_id(), account_code="", slug=slug, name=slug, created_at=TIME, updated_at=TIME)
        statement = system.insert_account(made, error=ValueError("taken"))
        await self.store.write(Transaction(account_id=made.id, statements=(statement,)))
        return made.id

    def new_id(self) -> str:
        return Ids(wall_clock_us, secrets.randbits).new()

    def user(self, actor: str = ANN, account: str = "acme", **more: Any) -> Principal:
        words = {"kind": "user", "email": "ann@example.org", "role": "user"} | more
        return Principal(account_id=self.accounts[account], actor_id=actor, **words)

    def guest(self, account: str = "acme") -> Principal:
        return Principal(kind="guest", account_id=self.accounts[account])

    def root(self, account: str | None = "acme") -> Principal:
        account_id = SYSTEM_ACCOUNT_ID if account is None else self.accounts[account]
        return Principal(kind="user", account_id=account_id, actor_id=GHOST, superadmin=True)

    async def collection(self, name: str, *fields: Field, rules: Rules = MEMBERS, **more: Any) -> Collection:
        wanted = Collection(
            id=self.new_id(),
            name=name,
            table="",
            fields=fields,
            rules=rules,
            created_at=TIME,
            updated_at=TIME,
            **more,
        )
        made = await self.store.alter(SchemaChange(before=None, after=wanted))
        assert made is not None
        await asyncio.sleep(0)
        return made

    async def run_later(self) -> None:
        for work in self.later:
            await work()
        self.later.clear()

    async def log(self, account: str = "acme") -> list[Change]:
        return await self.store.read_changes(self.accounts[account], 0, 10_000)


def rules(**changed: str | None) -> Rules:
    return msgspec.structs.replace(MEMBERS, **changed)
