"""Accounts and logins over a real store, for tests of the services."""

from pathlib import Path
from typing import Any

import pytest

from snackbase.auth import PasswordHasher, Tokens
from snackbase.config import Settings
from snackbase.errors import CLOSINGS, SnackBaseError, Unauthorized
from snackbase.model import SYSTEM_ACCOUNT_ID, Op, Principal
from snackbase.services.accounts import Accounts
from snackbase.services.api_keys import ApiKeys, KeyUses
from snackbase.services.authenticate import Authenticator
from snackbase.services.groups import Groups
from snackbase.services.invitations import Invitations
from snackbase.services.logins import Login
from snackbase.services.members import Members
from snackbase.services.roles import Roles
from tests.support.stores import new_store

SECRET = bytes(range(32))
PASSWORD = "correct horse battery"
SYSTEM = Principal(kind="system", account_id=SYSTEM_ACCOUNT_ID, superadmin=True)


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


class World:
    """A store in a folder with the services over it."""

    def __init__(self, folder: Path, hasher: PasswordHasher, **settings: Any) -> None:
        self.clock = Clock()
        self.settings = Settings(database_url=f"sqlite:///{folder}/snackbase.db", **settings)
        self.store = new_store(folder / "snackbase.db", synchronous="OFF")
        self.tokens = Tokens(SECRET, access_s=3600, refresh_s=7 * 86400, now=self.clock)
        self.hasher = hasher
        self.accounts = Accounts(self.store, self.tokens, hasher, self.settings, now=self.clock, monotonic=self.clock)
        self.members = Members(self.store, hasher, self.settings, now=self.clock)
        self.key_uses = KeyUses(self.store, now=self.clock)
        self.authenticator = Authenticator(
            self.store,
            self.tokens,
            single_tenant=self.settings.single_tenant_account,
            on_key=self.key_uses.note,
        )
        self.roles = Roles(self.store, now=self.clock)
        self.groups = Groups(self.store, now=self.clock)
        self.invitations = Invitations(self.store, self.accounts, now=self.clock)
        self.api_keys = ApiKeys(self.store, self.key_uses, now=self.clock)

    async def controls(self) -> list[tuple[str, str, dict[str, Any]]]:
        """Every row of the logs of all accounts: what, subject, and what else it says."""
        rows = []
        for (account_id,) in await self.store.fetch("SELECT id FROM _accounts ORDER BY num"):
            for change in await self.store.read_changes(account_id, 0, 100):
                assert change.op is Op.CONTROL
                more = {name: value for name, value in change.data.items() if name != "what"}
                rows.append((change.data["what"], change.record_id, more))
        return rows

    async def found(self, name: str = "Acme", email: str = "ada@example.com") -> Login:
        return await self.accounts.register(email=email, password=PASSWORD, account_name=name)

    async def member(self, login: Login, email: str = "bob@example.com") -> Login:
        """Another user of the login's account, logged in, whose role is `user`."""
        await self.members.create_user(SYSTEM, email=email, password=PASSWORD, account=login.account.id)
        return await self.login(login.account.slug, email)

    async def login(self, account: str | None, email: str, password: str = PASSWORD) -> Login:
        return await self.accounts.login(account=account, email=email, password=password, address="192.0.2.1")

    async def superadmin(self) -> Login:
        await self.members.create_user(
            SYSTEM, email="root@example.com", password=PASSWORD, account="system", role="admin"
        )
        return await self.login("system", "root@example.com")

    async def principal(self, login: Login, account: str | None = None) -> Principal:
        return (await self.authenticator.principal(login.token, account=account)).principal

    async def refused(self, login: Login | str) -> str:
        """The code an access token or a key is refused with; '' when it still works."""
        token = login if isinstance(login, str) else login.token
        try:
            await self.authenticator.principal(token)
        except Unauthorized as error:
            assert error.code in CLOSINGS
            return error.code
        return ""


async def open_world(folder: Path, hasher: PasswordHasher, **settings: Any) -> World:
    made = World(folder, hasher, **settings)
    await made.store.open()
    return made


def field_codes(error: pytest.ExceptionInfo[SnackBaseError]) -> list[tuple[str, str]]:
    return [(detail.field, detail.code) for detail in error.value.details]
