"""Invitations and `registration` over a real store: who comes into an account, once and in time."""

import asyncio

import pytest

from snackbase.errors import Conflict, Forbidden, Gone, NotFound, SnackBaseError, ValidationFailed
from snackbase.model import Principal
from snackbase.services.logins import Login
from tests.support.accounts import PASSWORD, SYSTEM, World, field_codes

HOUR = 3600


async def invite(world: World, admin: Principal, email: str = "bob@example.com", **more: object) -> tuple[str, str]:
    """The invitation's id and token."""
    made = await world.invitations.create(admin, email=email, **more)  # type: ignore[arg-type]  # mixed values
    assert made.token is not None
    return made.id, made.token


async def status(world: World, admin: Principal) -> list[str]:
    return [one.status for one in (await world.invitations.page(admin))[0]]


async def test_an_invited_user_comes_in_with_the_role_and_groups_promised(world: World, admin: Principal) -> None:
    world.accounts.on_entry = lambda event, user: entered.append((event, user.email))
    entered: list[tuple[str, str]] = []
    _, token = await invite(world, admin, "Bob@Example.com", role="admin", groups=["staff"])
    told = await world.invitations.public(token)
    assert (told.email, told.account_name, told.account_slug) == ("bob@example.com", "Acme", "acme")
    assert (told.invited_by_name, told.is_valid) == ("ada@example.com", True)
    login = await world.invitations.accept(token, password=PASSWORD)
    assert (login.user.email, login.user.role, login.user.groups) == ("bob@example.com", "admin", ("staff",))
    assert login.account.slug == "acme"
    assert await world.refused(login) == ""
    assert entered == [("on_auth_register", "bob@example.com")]
    await world.login("acme", "bob@example.com")
    assert await status(world, admin) == ["accepted"]
    assert not (await world.invitations.public(token)).is_valid


async def test_an_invitation_works_once_also_for_many_at_once(world: World, admin: Principal) -> None:
    _, token = await invite(world, admin)
    outcomes = await asyncio.gather(
        *(world.invitations.accept(token, password=PASSWORD) for _ in range(4)), return_exceptions=True
    )
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Gone", "Gone", "Gone", "Login"]
    with pytest.raises(Gone) as caught:
        await world.invitations.accept(token, password=PASSWORD)
    assert caught.value.code == "invitation_over"


async def test_an_invitation_ends_after_48_hours_or_the_time_given(world: World, admin: Principal) -> None:
    _, token = await invite(world, admin)
    _, short = await invite(world, admin, "carl@example.com", hours=1)
    world.clock.now += HOUR
    assert not (await world.invitations.public(short)).is_valid
    world.clock.now += 47 * HOUR - 1
    assert (await world.invitations.public(token)).is_valid
    world.clock.now += 1
    assert await status(world, admin) == ["expired", "expired"]
    for over in (token, short):
        with pytest.raises(Gone):
            await world.invitations.accept(over, password=PASSWORD)
    for hours in (0, -1, 721, float("nan")):
        with pytest.raises(ValidationFailed) as caught:
            await invite(world, admin, "d@example.com", hours=hours)
        assert field_codes(caught) == [("expires_in_hours", "invalid")]


async def test_a_renewed_invitation_has_another_token_and_time(world: World, admin: Principal) -> None:
    one, token = await invite(world, admin)
    world.clock.now += 48 * HOUR
    renewed = await world.invitations.renew(admin, one)
    assert (renewed.status, renewed.id) == ("pending", one)
    with pytest.raises(NotFound) as caught:
        await world.invitations.accept(token, password=PASSWORD)
    assert caught.value.code == "invitation_not_found"
    assert renewed.token is not None
    await world.invitations.accept(renewed.token, password=PASSWORD)
    for attempt in (world.invitations.renew(admin, one), world.invitations.cancel(admin, one)):
        with pytest.raises(Gone):
            await attempt


async def test_a_cancelled_invitation_is_over_and_may_be_cancelled_again(world: World, admin: Principal) -> None:
    one, token = await invite(world, admin)
    await world.invitations.cancel(admin, one)
    await world.invitations.cancel(admin, one)
    with pytest.raises(Gone):
        await world.invitations.accept(token, password=PASSWORD)
    with pytest.raises(Gone):
        await world.invitations.renew(admin, one)
    assert await status(world, admin) == ["cancelled"]
    await invite(world, admin)


async def test_one_invitation_waits_for_an_email_and_members_are_not_invited(world: World, admin: Principal) -> None:
    await invite(world, admin)
    with pytest.raises(Conflict) as waiting:
        await invite(world, admin, "BOB@example.com")
    assert waiting.value.code == "invitation_pending"
    with pytest.raises(Conflict) as member:
        await invite(world, admin, "ada@example.com")
    assert member.value.code == "email_taken"
    world.clock.now += 48 * HOUR
    await invite(world, admin)
    assert await status(world, admin) == ["pending", "expired"]


async def test_an_account_has_so_many_open_invitations_and_no_more(
    world: World, admin: Principal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("snackbase.services.invitations.MOST_OPEN", 2)
    one, _ = await invite(world, admin, "one@example.com", hours=1)
    await invite(world, admin, "two@example.com")
    world.clock.now += 2 * HOUR
    assert sorted(await status(world, admin)) == ["expired", "pending"]
    with pytest.raises(Conflict) as full:
        await invite(world, admin, "three@example.com")
    assert full.value.code == "too_many_invitations"
    await world.invitations.cancel(admin, one)
    await invite(world, admin, "three@example.com")


async def test_a_user_made_meanwhile_keeps_the_invitation_unused(world: World, admin: Principal) -> None:
    _, token = await invite(world, admin)
    bob = await world.members.create_user(admin, email="bob@example.com", password=PASSWORD)
    with pytest.raises(Conflict) as caught:
        await world.invitations.accept(token, password="another password")
    assert caught.value.code == "email_taken"
    assert await status(world, admin) == ["pending"]
    assert (await world.members.user(admin, bob.id)).role == "user"


async def test_a_bad_password_does_not_use_the_invitation_up(world: World, admin: Principal) -> None:
    _, token = await invite(world, admin)
    for password, code in ((None, "required"), ("short", "too_short"), ("bob@example.com", "too_weak")):
        with pytest.raises(ValidationFailed) as caught:
            await world.invitations.accept(token, password=password)
        assert field_codes(caught) == [("password", code)]
    await world.invitations.accept(token, password=PASSWORD)


async def test_a_closed_account_invites_nobody_and_takes_nobody(world: World, admin: Principal) -> None:
    one, token = await invite(world, admin)
    await world.members.update_account(admin, "acme", registration="closed")
    for attempt in (invite(world, admin, "carl@example.com"), world.invitations.renew(admin, one)):
        with pytest.raises(Conflict) as caught:
            await attempt
        assert caught.value.code == "registration_closed"
    assert not (await world.invitations.public(token)).is_valid
    with pytest.raises(Gone):
        await world.invitations.accept(token, password=PASSWORD)
    await world.members.update_account(admin, "acme", registration="invite")
    await world.invitations.accept(token, password=PASSWORD)


async def test_an_account_that_closes_while_the_password_is_hashed_takes_nobody(
    world: World, admin: Principal, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, token = await invite(world, admin)
    real = world.hasher.hash

    async def closing(password: str) -> str:
        await world.members.update_account(admin, "acme", registration="closed")
        return await real(password)

    monkeypatch.setattr(world.hasher, "hash", closing)
    with pytest.raises(Gone):
        await world.invitations.accept(token, password=PASSWORD)
    assert await status(world, admin) == ["pending"]
    assert (await world.members.users(admin))[1] == 1


async def test_a_disabled_account_takes_nobody(world: World, admin: Principal) -> None:
    _, token = await invite(world, admin)
    await world.members.update_account(SYSTEM, "acme", is_active=False)
    assert not (await world.invitations.public(token)).is_valid
    with pytest.raises(Gone):
        await world.invitations.accept(token, password=PASSWORD)


async def test_only_an_open_account_is_joined_without_an_invitation(world: World, admin: Principal) -> None:
    async def join(email: str) -> str:
        try:
            return (await world.accounts.register(email=email, password=PASSWORD, account="acme")).user.role
        except SnackBaseError as error:
            return error.code

    assert (await world.members.account(admin, "acme")).registration == "invite"
    assert await join("bob@example.com") == "registration_closed"
    await world.members.update_account(admin, "acme", registration="open")
    assert await join("bob@example.com") == "user"
    await world.members.update_account(admin, "acme", registration="closed")
    assert await join("carl@example.com") == "registration_closed"


async def test_an_admin_opens_and_names_the_own_account_but_cannot_disable_it(world: World, admin: Principal) -> None:
    renamed = await world.members.update_account(admin, "acme", name="Acme & Co", registration="open")
    assert (renamed.name, renamed.registration) == ("Acme & Co", "open")
    for is_active in (False, True):
        with pytest.raises(Forbidden):
            await world.members.update_account(admin, "acme", is_active=is_active)
    await world.found("Other", "eve@example.com")
    with pytest.raises(NotFound):
        await world.members.update_account(admin, "other", registration="open")


async def test_superadmins_are_not_invited(world: World) -> None:
    root = await world.principal(await world.superadmin())
    with pytest.raises(ValidationFailed) as unnamed:
        await world.invitations.create(root, email="x@y.example")
    assert field_codes(unnamed) == [("account_id", "required")]
    with pytest.raises(Conflict) as closed:
        await world.invitations.create(root, email="x@y.example", account="system")
    assert closed.value.code == "registration_closed"


async def test_invitations_are_the_admins_of_their_account(world: World, ada: Login, admin: Principal) -> None:
    one, _ = await invite(world, admin)
    bob = await world.principal(await world.member(ada, "member@example.com"))
    eve = await world.principal(await world.found("Other", "eve@example.com"))
    for who, error in ((bob, Forbidden), (eve, NotFound)):
        for attempt in (world.invitations.cancel(who, one), world.invitations.renew(who, one)):
            with pytest.raises(error):
                await attempt
    with pytest.raises(Forbidden):
        await invite(world, bob, "x@y.example")
    with pytest.raises(Forbidden):
        await world.invitations.create(eve, email="x@y.example", account="acme")
    assert await status(world, eve) == []
    root = await world.principal(await world.superadmin())
    assert (await world.invitations.page(root))[1] == 1
    assert (await world.invitations.page(root, account="other"))[1] == 0
    await world.invitations.cancel(root, one)


async def test_invitations_are_listed_by_status_newest_first(world: World, admin: Principal) -> None:
    tokens = {}
    for name in ("a", "b", "c"):
        tokens[name] = await invite(world, admin, f"{name}@example.com", hours=1 if name == "c" else 48)
        world.clock.now += 1
    await world.invitations.accept(tokens["a"][1], password=PASSWORD)
    world.clock.now += HOUR
    for wanted, emails in (
        (None, ["c", "b", "a"]),
        ("pending", ["b"]),
        ("accepted", ["a"]),
        ("expired", ["c"]),
        ("cancelled", []),
    ):
        found, total = await world.invitations.page(admin, status=wanted)
        assert ([one.email[0] for one in found], total) == (emails, len(emails))
        assert all(one.token is None for one in found)
    with pytest.raises(ValidationFailed):
        await world.invitations.page(admin, status="lost")


@pytest.mark.parametrize("token", ["", "sb_in.", "x" * 5000, "\ud800", "é", "' OR 1=1 --"])
async def test_no_text_is_a_token_by_chance(world: World, admin: Principal, token: str) -> None:
    await invite(world, admin)
    for attempt in (world.invitations.public(token), world.invitations.accept(token, password=PASSWORD)):
        with pytest.raises(NotFound):
            await attempt


async def test_the_database_does_not_hold_the_token(world: World, admin: Principal) -> None:
    _, token = await invite(world, admin)
    for row in await world.store.fetch("SELECT * FROM _invitations"):
        assert not any(token in str(value) or token.partition(".")[2] in str(value) for value in row)
