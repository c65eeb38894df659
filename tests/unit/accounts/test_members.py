"""Managing accounts and users over a real store, and the first start."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from snackbase.auth import PasswordHasher
from snackbase.config import ConfigError
from snackbase.errors import (
    Conflict,
    Forbidden,
    NotFound,
    ValidationFailed,
)
from snackbase.model import SYSTEM_ACCOUNT_ID, Op, Principal
from snackbase.storage import system
from snackbase.storage.base import Transaction
from snackbase.storage.directory import AccountQuery
from tests.support.accounts import PASSWORD, SYSTEM, World, field_codes, open_world

# Managing


async def test_a_disabled_user_is_out_until_enabled_and_logged_in_again(world: World) -> None:
    bob = await world.member(await world.found())
    await world.members.update_user(SYSTEM, bob.user.id, is_active=False)
    assert await world.refused(bob) == "user_disabled"
    assert await world.controls() == [("user_disabled", bob.user.id, {})]
    await world.members.update_user(SYSTEM, bob.user.id, is_active=True)
    assert await world.refused(bob) == "token_revoked"
    await world.login("acme", "bob@example.com")


async def test_a_disabled_account_is_out_until_enabled(world: World) -> None:
    login = await world.found()
    await world.members.update_account(SYSTEM, "acme", is_active=False)
    assert await world.refused(login) == "account_disabled"
    await world.members.update_account(SYSTEM, "acme", is_active=True, name="Acme again")
    assert await world.refused(login) == ""
    assert await world.controls() == [("account_disabled", login.account.id, {})]


async def test_control_rows_stand_in_the_log_of_the_users_account(world: World) -> None:
    login, root = await world.found(), await world.superadmin()
    acting_elsewhere = await world.principal(root)
    bob = await world.member(login)
    await world.members.update_user(acting_elsewhere, bob.user.id, role="admin")
    rows = await world.store.read_changes(login.account.id, 0, 10)
    assert [(row.op, row.record_id, row.actor) for row in rows] == [(Op.CONTROL, bob.user.id, root.user.id)]
    assert await world.store.read_changes(SYSTEM_ACCOUNT_ID, 0, 10) == []


async def test_an_admin_manages_the_own_account_and_sees_no_other(world: World) -> None:
    admin = await world.principal(await world.found())
    other = await world.found("Other", "eve@example.com")
    world.clock.now += 1
    carl = await world.members.create_user(admin, email="Carl@example.com", password=PASSWORD, groups=["staff"])
    assert (carl.account_id, carl.email, carl.role, carl.groups) == (
        admin.account_id,
        "carl@example.com",
        "user",
        ("staff",),
    )
    users, total = await world.members.users(admin)
    assert ([user.email for user in users], total) == (["ada@example.com", "carl@example.com"], 2)
    assert await world.members.user(admin, carl.id) == carl
    with pytest.raises(NotFound):
        await world.members.update_user(admin, other.user.id, is_active=False)
    with pytest.raises(NotFound):
        await world.members.set_password(admin, other.user.id, "another password")
    for account in (other.account.slug, "system", "nowhere"):
        with pytest.raises(Forbidden):
            await world.members.create_user(admin, email="x@y.example", password=PASSWORD, account=account)
        with pytest.raises(Forbidden):
            await world.members.users(admin, account=account)
    assert (await world.members.account(admin, "acme")).slug == "acme"
    with pytest.raises(NotFound):
        await world.members.account(admin, "other")


async def test_a_member_manages_nobody_and_an_admin_no_accounts(world: World) -> None:
    login = await world.found()
    admin, bob = await world.principal(login), await world.principal(await world.member(login))
    guest = Principal(kind="guest", account_id=login.account.id)
    for who in (bob, guest):
        with pytest.raises(Forbidden):
            await world.members.users(who)
        with pytest.raises(Forbidden):
            await world.members.user(who, login.user.id)
        with pytest.raises(Forbidden):
            await world.members.create_user(who, email="x@y.example", password=PASSWORD)
        with pytest.raises(Forbidden):
            await world.members.update_user(who, login.user.id, role="user")
    for who in (admin, bob, guest):
        with pytest.raises(Forbidden):
            await world.members.create_account(who, name="New")
        with pytest.raises(Forbidden):
            await world.members.accounts(who)


async def test_a_superadmin_manages_everywhere_and_names_the_account_of_a_new_user(world: World) -> None:
    root = await world.principal(await world.superadmin())
    account = await world.members.create_account(root, name="New", slug="new")
    user = await world.members.create_user(root, email="x@y.example", password=PASSWORD, account="new", role_id=1)
    assert (user.account_id, user.role) == (account.id, "admin")
    with pytest.raises(ValidationFailed) as unnamed:
        await world.members.create_user(root, email="z@y.example", password=PASSWORD)
    assert field_codes(unnamed) == [("account_id", "required")]
    with pytest.raises(ValidationFailed) as unknown:
        await world.members.create_user(root, email="z@y.example", password=PASSWORD, account="nowhere")
    assert field_codes(unknown) == [("account_id", "account_not_found")]
    accounts, total = await world.members.accounts(root, AccountQuery(skip=1, limit=1))
    assert ([found.slug for found in accounts], total) == (["new"], 2)
    assert (await world.members.users(root))[1] == 2
    assert (await world.members.users(root, account="new"))[0] == [user]


async def test_a_role_is_named_by_id_or_name_and_has_to_exist(world: World) -> None:
    bob = await world.member(await world.found())
    assert (await world.members.update_user(SYSTEM, bob.user.id, role_id=1)).role == "admin"
    assert (await world.members.update_user(SYSTEM, bob.user.id, role="user")).role_id == 2
    for wrong, named in (({"role_id": 99}, "role_id"), ({"role": "king"}, "role"), ({"role_id": 2**70}, "role_id")):
        with pytest.raises(ValidationFailed) as caught:
            await world.members.update_user(SYSTEM, bob.user.id, **wrong)
        assert field_codes(caught) == [(named, "role_not_found")]


async def test_an_email_is_unique_within_an_account_only(world: World) -> None:
    login = await world.found()
    bob = await world.member(login)
    await world.found("Other", "ada@example.com")
    for attempt in (
        world.members.create_user(SYSTEM, email="ADA@example.com", password=PASSWORD, account="acme"),
        world.members.update_user(SYSTEM, bob.user.id, email="Ada@Example.com"),
    ):
        with pytest.raises(Conflict) as caught:
            await attempt
        assert caught.value.code == "email_taken"


async def test_nobody_disables_themselves_or_changes_their_own_role(world: World) -> None:
    login = await world.found()
    admin = await world.principal(login)
    for change in ({"is_active": False}, {"role": "user"}):
        with pytest.raises(Conflict) as caught:
            await world.members.update_user(admin, login.user.id, **change)
        assert caught.value.code == "own_user"
    assert (await world.members.update_user(admin, login.user.id, groups=["x"])).groups == ("x",)


async def test_a_change_that_changes_nothing_is_not_announced(world: World) -> None:
    bob = await world.member(await world.found())
    assert await world.members.update_user(SYSTEM, bob.user.id, role="user", is_active=True) == (
        await world.members.user(SYSTEM, bob.user.id)
    )
    assert await world.controls() == []


async def test_a_change_of_what_was_read_before_another_change_is_refused(world: World) -> None:
    """Else a new name or group, decided on the old row, would enable again what somebody disabled meanwhile."""
    bob = (await world.member(await world.found())).user
    acme = await world.members.account(SYSTEM, "acme")
    await world.members.update_user(SYSTEM, bob.id, is_active=False)
    await world.members.update_account(SYSTEM, "acme", is_active=False)
    for stale in (
        system.update_user(bob, msgspec.structs.replace(bob, groups=("staff",)), at=bob.created_at, error=None),
        system.update_account(acme, msgspec.structs.replace(acme, name="Other")),
    ):
        with pytest.raises(Conflict) as caught:
            await world.store.write(Transaction(account_id=acme.id, statements=(stale,)))
        assert caught.value.code == "changed_meanwhile"


async def test_a_password_set_by_an_admin_ends_all_logins(world: World) -> None:
    login = await world.found()
    bob = await world.member(login)
    await world.members.set_password(await world.principal(login), bob.user.id, "another password")
    assert await world.refused(bob) == "token_revoked"
    assert await world.controls() == [("logins_ended", bob.user.id, {})]
    await world.login("acme", "bob@example.com", "another password")


async def test_a_disabled_user_with_too_many_or_odd_groups_is_refused(world: World) -> None:
    bob = await world.member(await world.found())
    for groups in ([""], ["a\nb"], ["x" * 101], [str(number) for number in range(101)]):
        with pytest.raises(ValidationFailed):
            await world.members.update_user(SYSTEM, bob.user.id, groups=groups)


async def test_the_system_account_stays_enabled_and_closed(world: World) -> None:
    for change in ({"is_active": False}, {"registration": "open"}):
        with pytest.raises(Conflict):
            await world.members.update_account(SYSTEM, "system", **change)
    with pytest.raises(ValidationFailed):
        await world.members.update_account(SYSTEM, "system", registration="sometimes")


# The first start (S63)


async def test_a_first_superadmin_is_generated_and_told_once(world: World) -> None:
    new = await world.members.bootstrap_superadmin()
    assert new is not None
    assert new.password is not None
    assert len(new.password) >= 20
    assert (await world.principal(await world.login("system", new.email, new.password))).superadmin
    assert await world.members.bootstrap_superadmin() is None


async def test_the_settings_name_the_first_superadmin(tmp_path: Path, hasher: PasswordHasher) -> None:
    world = await open_world(tmp_path, hasher, superadmin_email="Root@Example.com", superadmin_password=PASSWORD)
    new = await world.members.bootstrap_superadmin()
    assert new is not None
    assert (new.email, new.password) == ("root@example.com", None)
    await world.login(None, "root@example.com")
    await world.store.close()


async def test_of_processes_that_start_at_once_one_makes_the_superadmin(tmp_path: Path, hasher: PasswordHasher) -> None:
    worlds = [await open_world(tmp_path, hasher, superadmin_email=f"root{number}@example.com") for number in range(3)]
    made = await asyncio.gather(*(world.members.bootstrap_superadmin() for world in worlds for _ in range(2)))
    assert len([new for new in made if new is not None]) == 1
    assert await worlds[0].store.fetch("SELECT count(*) FROM _users") == [(1,)]
    for world in worlds:
        await world.store.close()


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"superadmin_email": "nobody"}, "SNACKBASE_SUPERADMIN_EMAIL"),
        ({"superadmin_password": "short"}, "SNACKBASE_SUPERADMIN_PASSWORD"),
        ({"single_tenant_account": "A B"}, "SNACKBASE_SINGLE_TENANT_ACCOUNT"),
    ],
)
async def test_a_setting_that_cannot_be_used_is_named(
    tmp_path: Path, hasher: PasswordHasher, settings: dict[str, str], name: str
) -> None:
    world = await open_world(tmp_path, hasher, **settings)
    with pytest.raises(ConfigError, match=name) as caught:
        await world.members.bootstrap_superadmin()
        await world.members.bootstrap_single_tenant()
    assert "short" not in str(caught.value)
    await world.store.close()
