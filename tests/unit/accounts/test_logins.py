"""The life of a login over a real store: refreshed, ended, and what its token stands for meanwhile."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from snackbase.auth import Claims, PasswordHasher
from snackbase.errors import (
    Forbidden,
    NotFound,
    RateLimited,
    Unauthorized,
    ValidationFailed,
)
from snackbase.model import SYSTEM_ACCOUNT_ID, Principal, User
from snackbase.services import accounts as accounts_module
from snackbase.services.authenticate import present
from snackbase.services.logins import Login
from tests.support.accounts import PASSWORD, SYSTEM, World, field_codes, open_world

# Refreshing


async def test_a_refresh_rotates_and_the_old_access_token_lives_on(world: World) -> None:
    first = await world.found()
    world.clock.now += 10
    second = await world.accounts.refresh(first.refresh_token)
    third = await world.accounts.refresh(second.refresh_token)
    assert len({first.refresh_token, second.refresh_token, third.refresh_token}) == 3
    assert [await world.refused(login) for login in (first, second, third)] == ["", "", ""]
    assert {world.tokens.verify_access(login.token).session_id for login in (first, second, third)} == {
        world.tokens.verify_access(first.token).session_id
    }
    assert await world.controls() == []


async def test_a_refresh_token_used_twice_ends_all_logins_of_its_user_and_of_nobody_else(world: World) -> None:
    first = await world.found()
    other_login = await world.login("acme", "ada@example.com")
    bob = await world.member(first)
    second = await world.accounts.refresh(first.refresh_token)
    with pytest.raises(Unauthorized) as caught:
        await world.accounts.refresh(first.refresh_token)
    assert caught.value.code == "token_revoked"
    assert [await world.refused(login) for login in (first, second, other_login, bob)] == ["token_revoked"] * 3 + [""]
    assert await world.controls() == [("logins_ended", first.user.id, {})]
    for token in (second.refresh_token, other_login.refresh_token):
        with pytest.raises(Unauthorized):
            await world.accounts.refresh(token)
    assert len(await world.controls()) == 1
    await world.login("acme", "ada@example.com")


async def test_of_concurrent_refreshes_one_succeeds(world: World) -> None:
    login = await world.found()
    outcomes = await asyncio.gather(
        *(world.accounts.refresh(login.refresh_token) for _ in range(5)), return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes].count(Login) == 1
    assert [type(outcome) for outcome in outcomes].count(Unauthorized) == 4


async def test_a_refresh_token_of_an_ended_login_is_revoked_and_harms_no_other_login(world: World) -> None:
    first = await world.found()
    second = await world.login("acme", "ada@example.com")
    await world.accounts.logout(await world.principal(first))
    with pytest.raises(Unauthorized) as caught:
        await world.accounts.refresh(first.refresh_token)
    assert caught.value.code == "token_revoked"
    assert await world.refused(second) == ""


async def test_a_refresh_that_meets_a_logout_is_no_reuse(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    first = await world.found()
    second = await world.login("acme", "ada@example.com")
    principal = await world.principal(first)

    async def logging_out(*arguments: Any) -> Any:
        presence = await present(*arguments)
        monkeypatch.setattr(accounts_module, "present", present)
        await world.accounts.logout(principal)
        return presence

    monkeypatch.setattr(accounts_module, "present", logging_out)
    with pytest.raises(Unauthorized) as caught:
        await world.accounts.refresh(first.refresh_token)
    assert caught.value.code == "token_revoked"
    assert await world.refused(second) == ""


async def test_a_refresh_token_expires(world: World) -> None:
    login = await world.found()
    world.clock.now += 7 * 86400 + 1
    with pytest.raises(Unauthorized) as caught:
        await world.accounts.refresh(login.refresh_token)
    assert caught.value.code == "token_expired"


async def test_a_refreshed_login_goes_on_past_its_first_expiry(world: World) -> None:
    login = await world.found()
    for _ in range(3):
        world.clock.now += 5 * 86400
        login = await world.accounts.refresh(login.refresh_token)
        await world.found(email="b@example.com")  # whoever logs in clears expired rows away
    assert await world.refused(login) == ""


@pytest.mark.parametrize("token", ["", "x", "a.b.c", "\ud800", "x" * 10_000])
async def test_what_is_no_refresh_token_is_invalid(world: World, token: str) -> None:
    with pytest.raises(Unauthorized) as caught:
        await world.accounts.refresh(token)
    assert caught.value.code == "token_invalid"


async def test_an_access_token_does_not_refresh_and_a_refresh_token_gives_no_access(world: World) -> None:
    login = await world.found()
    with pytest.raises(Unauthorized):
        await world.accounts.refresh(login.token)
    with pytest.raises(Unauthorized) as caught:
        await world.authenticator.principal(login.refresh_token)
    assert caught.value.code == "token_invalid"


async def test_a_disabled_user_or_account_cannot_refresh(world: World) -> None:
    admin = await world.found()
    bob = await world.member(admin)
    await world.members.update_user(SYSTEM, bob.user.id, is_active=False)
    await world.members.update_account(SYSTEM, admin.account.id, is_active=False)
    for login, code in ((bob, "user_disabled"), (admin, "account_disabled")):
        with pytest.raises(Unauthorized) as caught:
            await world.accounts.refresh(login.refresh_token)
        assert caught.value.code == code


# Logging out, passwords


async def test_logout_ends_this_login_only_and_says_so_in_the_log(world: World) -> None:
    first = await world.found()
    second = await world.login("acme", "ada@example.com")
    await world.accounts.logout(await world.principal(first))
    assert [await world.refused(login) for login in (first, second)] == ["token_revoked", ""]
    assert await world.controls() == [("login_ended", world.tokens.verify_access(first.token).session_id, {})]


async def test_a_new_password_ends_all_other_logins(world: World) -> None:
    first = await world.found()
    second = await world.login("acme", "ada@example.com")
    bob = await world.member(first)
    await world.accounts.change_password(await world.principal(first), old=PASSWORD, new="another password")
    assert [await world.refused(login) for login in (first, second, bob)] == ["", "token_revoked", ""]
    session_id = world.tokens.verify_access(first.token).session_id
    assert await world.controls() == [("logins_ended", first.user.id, {"except": session_id})]
    await world.login("acme", "ada@example.com", "another password")
    with pytest.raises(Unauthorized):
        await world.login("acme", "ada@example.com", PASSWORD)


async def test_the_old_password_has_to_be_right_and_the_new_one_good(world: World) -> None:
    login = await world.found()
    principal = await world.principal(login)
    with pytest.raises(ValidationFailed) as wrong:
        await world.accounts.change_password(principal, old="wrong password", new="another password")
    assert field_codes(wrong) == [("old_password", "wrong_password")]
    with pytest.raises(ValidationFailed) as short:
        await world.accounts.change_password(principal, old=PASSWORD, new="short")
    assert field_codes(short) == [("new_password", "too_short")]
    assert await world.controls() == []


async def test_of_two_changes_of_a_password_at_once_one_holds(world: World) -> None:
    principal = await world.principal(await world.found())
    outcomes = await asyncio.gather(
        *(world.accounts.change_password(principal, old=PASSWORD, new=f"new password {number}") for number in range(2)),
        return_exceptions=True,
    )
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["NoneType", "ValidationFailed"]
    await world.login("acme", "ada@example.com", f"new password {outcomes.index(None)}")


async def test_guessing_the_old_password_is_limited_like_a_login(tmp_path: Path, hasher: PasswordHasher) -> None:
    world = await open_world(tmp_path, hasher, login_attempts_per_minute=2)
    principal = await world.principal(await world.found())
    for _ in range(2):
        with pytest.raises(ValidationFailed):
            await world.accounts.change_password(principal, old="wrong password", new="another password")
    with pytest.raises(RateLimited):
        await world.accounts.change_password(principal, old=PASSWORD, new="another password")
    with pytest.raises(RateLimited):
        await world.login("acme", "ada@example.com")
    await world.store.close()


async def test_me_is_the_users_own_row(world: World) -> None:
    login = await world.found()
    me = await world.accounts.me(await world.principal(login))
    assert (me.user_id, me.account_id, me.email, me.role, me.groups) == (
        login.user.id,
        login.account.id,
        "ada@example.com",
        "admin",
        (),
    )
    with pytest.raises(Forbidden):
        await world.accounts.me(Principal(kind="guest", account_id=login.account.id))


# Who a token speaks for


async def test_the_row_decides_about_role_and_groups_not_the_token(world: World) -> None:
    """S36: the token still says `user`."""
    bob = await world.member(await world.found())
    await world.members.update_user(SYSTEM, bob.user.id, role="admin", groups=["staff", "chess", "staff"])
    principal = await world.principal(bob)
    assert (principal.role, principal.groups) == ("admin", ("staff", "chess"))
    assert await world.controls() == [("user_rights", bob.user.id, {})]


async def test_the_reason_a_principal_is_gone_is_the_word_of_the_closing(world: World) -> None:
    admin = await world.found()
    bob, carl = await world.member(admin), await world.member(admin, "carl@example.com")
    claims: dict[str, Claims] = {
        login.user.email: world.tokens.verify_access(login.token) for login in (admin, bob, carl)
    }
    account_id = admin.account.id
    assert (await world.authenticator.reload(claims["bob@example.com"], account_id=account_id)).role == "user"
    await world.members.update_user(SYSTEM, bob.user.id, is_active=False)
    await world.accounts.logout(await world.principal(carl))
    for email, code in (("bob@example.com", "user_disabled"), ("carl@example.com", "token_revoked")):
        with pytest.raises(Unauthorized) as caught:
            await world.authenticator.reload(claims[email], account_id=account_id)
        assert caught.value.code == code
    world.clock.now += 3601
    with pytest.raises(Unauthorized) as expired:
        await world.authenticator.reload(claims["ada@example.com"], account_id=account_id)
    assert expired.value.code == "token_expired"
    world.clock.now -= 3601
    await world.members.update_account(SYSTEM, account_id, is_active=False)
    with pytest.raises(Unauthorized) as disabled:
        await world.authenticator.reload(claims["ada@example.com"], account_id=account_id)
    assert disabled.value.code == "account_disabled"


async def test_a_token_whose_user_is_nowhere_is_refused(world: World) -> None:
    login = await world.found()
    stranger = world.tokens.issue_access(
        User(
            id="33333333-3333-4333-8333-333333333333",
            account_id=login.account.id,
            email="x@y.example",
            role="admin",
            role_id=1,
            created_at="2026-01-17T12:34:56.789Z",
        ),
        world.tokens.verify_access(login.token).session_id,
    )
    with pytest.raises(Unauthorized) as caught:
        await world.authenticator.principal(stranger)
    assert caught.value.code == "user_disabled"


async def test_a_token_that_names_another_account_than_its_users_is_refused(world: World) -> None:
    login = await world.found()
    other = await world.found("Other", "eve@example.com")
    moved = msgspec.structs.replace(login.user, account_id=other.account.id)
    token = world.tokens.issue_access(moved, world.tokens.verify_access(login.token).session_id)
    with pytest.raises(Unauthorized):
        await world.authenticator.principal(token)


async def test_a_login_of_one_user_does_not_carry_another(world: World) -> None:
    admin = await world.found()
    bob = await world.member(admin)
    mixed = world.tokens.issue_access(admin.user, world.tokens.verify_access(bob.token).session_id)
    with pytest.raises(Unauthorized) as caught:
        await world.authenticator.principal(mixed)
    assert caught.value.code == "token_revoked"


async def test_a_superadmin_acts_in_the_account_that_is_named(world: World) -> None:
    login, root = await world.found(), await world.superadmin()
    assert await world.principal(root) == Principal(
        kind="user",
        account_id=SYSTEM_ACCOUNT_ID,
        actor_id=root.user.id,
        email="root@example.com",
        role="admin",
        session_id=world.tokens.verify_access(root.token).session_id,
        superadmin=True,
    )
    for reference in (login.account.slug, login.account.account_code, login.account.id):
        acting = await world.principal(root, account=reference)
        assert (acting.account_id, acting.actor_id, acting.superadmin) == (login.account.id, root.user.id, True)
    reloaded = await world.authenticator.reload(world.tokens.verify_access(root.token), account_id=login.account.id)
    assert reloaded == acting
    with pytest.raises(NotFound) as caught:
        await world.principal(root, account="nowhere")
    assert caught.value.code == "account_not_found"


async def test_others_may_only_name_their_own_account_and_learn_nothing_of_others(world: World) -> None:
    login = await world.found()
    other = await world.found("Other", "eve@example.com")
    for reference in (login.account.slug.upper(), login.account.account_code, login.account.id, ""):
        assert (await world.principal(login, account=reference)).account_id == login.account.id
    answers = set()
    for reference in (other.account.slug, other.account.id, "nowhere", "system", "x" * 100_000):
        with pytest.raises(Forbidden) as caught:
            await world.principal(login, account=reference)
        answers.add((caught.value.code, caught.value.message))
    assert len(answers) == 1
    with pytest.raises(Unauthorized):
        await world.authenticator.reload(world.tokens.verify_access(login.token), account_id=other.account.id)


async def test_a_guest_names_an_active_account(world: World) -> None:
    login = await world.found()
    assert await world.authenticator.guest("acme") == Principal(kind="guest", account_id=login.account.id)
    with pytest.raises(Unauthorized) as nobody:
        await world.authenticator.guest(None)
    assert nobody.value.code == "token_missing"
    await world.members.update_account(SYSTEM, "acme", is_active=False)
    for reference in ("acme", "nowhere"):
        with pytest.raises(NotFound):
            await world.authenticator.guest(reference)


async def test_logins_that_have_ended_do_not_pile_up(world: World) -> None:
    await world.found()
    for _ in range(3):
        await world.accounts.logout(await world.principal(await world.login("acme", "ada@example.com")))
    first = await world.login("acme", "ada@example.com")
    second = await world.login("acme", "ada@example.com")

    kept = await world.store.fetch("SELECT count(*) FROM _logins WHERE account_id = ?", (first.account.id,))

    assert kept == [(3,)], "the one that founded the account, and these two"
    assert [await world.refused(login) for login in (first, second)] == ["", ""]
