"""System tables: what the statements of accounts promise about concurrent founders, logins and superadmins."""

import asyncio

import pytest

from snackbase.errors import Conflict
from snackbase.model import Account, User
from snackbase.storage import system
from snackbase.storage.base import Statement, Store, Transaction
from snackbase.storage.directory import AccountQuery, UserQuery, list_accounts, list_users
from tests.storage.support import NOW, SYSTEM, account, new_id

TAKEN = Conflict("taken", code="taken")


async def run(store: Store, *statements: Statement) -> None:
    await store.write(Transaction(account_id=SYSTEM, statements=statements))


async def codes(store: Store) -> list[str]:
    return [code for (code,) in await store.fetch("SELECT account_code FROM _accounts ORDER BY num")]


async def test_accounts_founded_at_once_get_different_codes_without_a_gap(store: Store) -> None:
    await asyncio.gather(*(account(store, f"account-{number}") for number in range(20)))

    assert await codes(store) == ["SY0000", *(f"AA{number:04}" for number in range(1, 21))]


@pytest.mark.parametrize(
    ("number", "code"), [(9_999, "AB0001"), (26 * 9_999, "BA0001"), (26 * 26 * 9_999 - 1, "ZZ9999")]
)
async def test_codes_go_on_from_aa9999_to_ab0001(store: Store, number: int, code: str) -> None:
    await run(
        store,
        Statement(
            sql="INSERT INTO _accounts(num, id, account_code, slug, name, created_at, updated_at)"
            " VALUES (?, 'x', 'x', 'x', 'x', ?, ?)",
            args=(number, NOW, NOW),
        ),
    )
    await account(store, "next")

    assert (await codes(store))[-1] == code


async def test_a_founding_that_fails_takes_nothing_with_it(store: Store) -> None:
    await account(store, "acme")
    again = Account(id=new_id(), account_code="", slug="acme", name="Acme", created_at=NOW, updated_at=NOW)
    user = member(again.id, "a@example.com")
    first, second = system.insert_user(user, "hash", error=TAKEN), system.insert_account(again, error=TAKEN)

    with pytest.raises(Conflict, match="taken"):
        await store.write(Transaction(account_id=again.id, statements=(first, second)))

    assert await system.find_user(store, user.id) is None
    assert await codes(store) == ["SY0000", "AA0001"]


def member(account_id: str, email: str) -> User:
    return User(id=new_id(), account_id=account_id, email=email, role="user", role_id=2, created_at=NOW)


async def test_an_email_is_unique_within_an_account(store: Store) -> None:
    one, two = await account(store, "one"), await account(store, "two")
    for account_id in (one, two):
        await run(store, system.insert_user(member(account_id, "a@example.com"), "hash", error=TAKEN))

    with pytest.raises(Conflict, match="taken"):
        await run(store, system.insert_user(member(one, "a@example.com"), "hash", error=TAKEN))


async def test_a_search_for_what_no_text_holds_finds_nobody(store: Store) -> None:
    await run(store, system.insert_user(member(SYSTEM, "a@example.com"), "hash", error=TAKEN))

    assert await list_users(store, UserQuery(search="a\0")) == ([], 0)
    assert await list_users(store, UserQuery(group="\0")) == ([], 0)
    assert await list_accounts(store, AccountQuery(search="\0")) == ([], 0)


async def test_of_two_rotations_of_one_refresh_token_one_wins(store: Store) -> None:
    user = member(SYSTEM, "a@example.com")
    login = {"user_id": user.id, "password_hash": "hash", "at": NOW, "expires_at": 2_000_000_000}
    await run(
        store,
        system.insert_user(user, "hash", error=TAKEN),
        system.insert_login("sid", refresh_id="first", error=TAKEN, **login),  # type: ignore[arg-type]  # mixed values
    )

    def rotation(new_id: str) -> Statement:
        return system.rotate_login("sid", old_id="first", new_id=new_id, expires_at=2_000_000_001, error=TAKEN)

    done = await asyncio.gather(*(run(store, rotation(name)) for name in ("x", "y")), return_exceptions=True)

    assert done == [None, TAKEN]
    presence = await system.find_presence(store, user.id, "sid")
    assert presence is not None
    assert (presence.refresh_id, presence.user.email, presence.account.id) == ("x", "a@example.com", SYSTEM)
    await run(store, system.end_logins(user.id, at=NOW))
    ended = await system.find_presence(store, user.id, "sid")
    assert ended is not None
    assert ended.refresh_id is None
