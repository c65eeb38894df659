"""Registering and logging in over a real store: who gets in, and that refusals tell nothing."""

import asyncio
from pathlib import Path

import pytest

from snackbase.auth import PasswordHasher
from snackbase.errors import (
    Conflict,
    Forbidden,
    RateLimited,
    Unauthorized,
    ValidationFailed,
)
from snackbase.model import SYSTEM_ACCOUNT_ID, Principal
from snackbase.services import logins as logins_module
from snackbase.services.logins import Login
from snackbase.storage.base import Statement, Transaction
from tests.support.accounts import PASSWORD, SYSTEM, World, field_codes, open_world

# Registering


async def test_registering_founds_an_account_whose_first_user_is_admin(world: World) -> None:
    login = await world.found("Acme Inc.", " Ada@Example.com ")
    assert (login.account.name, login.account.slug, login.account.account_code) == ("Acme Inc.", "acme-inc", "AA0001")
    assert (login.user.email, login.user.role, login.user.account_id) == ("ada@example.com", "admin", login.account.id)
    principal = await world.principal(login)
    assert principal == Principal(
        kind="user",
        account_id=login.account.id,
        actor_id=login.user.id,
        email="ada@example.com",
        role="admin",
        session_id=principal.session_id,
    )
    assert (login.token_type, login.expires_in) == ("bearer", 3600)


async def test_accounts_are_numbered_one_after_the_other(world: World) -> None:
    logins = await asyncio.gather(*(world.found(f"Account {number}") for number in range(8)))
    assert sorted(login.account.account_code for login in logins) == [f"AA000{number}" for number in range(1, 9)]


async def test_a_code_goes_from_aa9999_to_ab0001(world: World) -> None:
    await world.members.create_account(SYSTEM, name="First")
    for number, code in [(9998, "AA9999"), (9999, "AB0001"), (26 * 9999 - 1, "AZ9999"), (26 * 9999, "BA0001")]:
        await _renumber_newest(world, number)
        assert (await world.members.create_account(SYSTEM, name="Next")).account_code == code


async def _renumber_newest(world: World, number: int) -> None:
    from_base = await world.store.fetch("SELECT max(num) FROM _accounts")
    statement = Statement(sql="UPDATE _accounts SET num = ? WHERE num = ?", args=(number, from_base[0][0]))
    await world.store.write(Transaction(account_id=SYSTEM_ACCOUNT_ID, statements=(statement,)))


async def test_a_derived_slug_is_made_unique(world: World) -> None:
    slugs = [(await world.found("Café Müller!")).account.slug for _ in range(7)]
    assert slugs[:5] == ["cafe-muller", "cafe-muller-2", "cafe-muller-3", "cafe-muller-4", "cafe-muller-5"]
    assert len(set(slugs)) == 7
    assert all(slug.startswith("cafe-muller-") for slug in slugs[1:])


async def test_names_without_latin_letters_and_names_like_codes_get_a_slug_too(world: World) -> None:
    assert (await world.found("日本")).account.slug == "account"
    assert (await world.found("AA0001")).account.slug == "account-aa0001"


async def test_a_taken_slug_is_a_conflict_and_nothing_is_left_behind(world: World) -> None:
    await world.accounts.register(email="a@b.example", password=PASSWORD, account_name="A", account_slug="acme")
    with pytest.raises(Conflict) as caught:
        await world.accounts.register(email="c@d.example", password=PASSWORD, account_name="B", account_slug="ACME")
    assert caught.value.code == "slug_taken"
    assert field_codes(caught) == [("account_slug", "slug_taken")]
    assert await world.store.fetch("SELECT count(*) FROM _users") == [(1,)]
    assert await world.store.fetch("SELECT count(*) FROM _logins") == [(1,)]


@pytest.mark.parametrize(
    "slug", ["a", "-ab", "ab-", "a b", "ä", "a.b", "a" * 64, "aa0001", "AB1234", SYSTEM_ACCOUNT_ID]
)
async def test_a_slug_that_could_be_mistaken_is_refused(world: World, slug: str) -> None:
    with pytest.raises(ValidationFailed) as caught:
        await world.accounts.register(email="a@b.example", password=PASSWORD, account_name="A", account_slug=slug)
    assert field_codes(caught) == [("account_slug", "invalid_slug")]


@pytest.mark.parametrize(
    "email", ["", "x", "@x.de", "a@", "a b@x.de", "a@b@c", "a\x00@x.de", "a\n@x.de", "a@x..de", "a" * 250 + "@x.de"]
)
async def test_what_is_no_email_is_refused(world: World, email: str) -> None:
    with pytest.raises(ValidationFailed) as caught:
        await world.found("A", email)
    assert field_codes(caught) == [("email", "invalid_email")]


@pytest.mark.parametrize("email", ["zoë@exämple.de", "用户@例子.公司", "a+b@x.de", "o'hara@x.de", "root@localhost"])
async def test_an_email_of_any_script_is_fine_and_compared_without_regard_to_case(world: World, email: str) -> None:
    login = await world.found("A", email)
    assert (await world.login(login.account.slug, email.upper())).user.id == login.user.id


@pytest.mark.parametrize(
    ("password", "code"),
    [
        ("", "too_short"),
        ("1234567", "too_short"),
        ("x" * 257, "too_long"),
        ("a" * 20, "too_weak"),
        ("Ada@example.com", "too_weak"),
    ],
)
async def test_a_bad_password_is_named_and_never_repeated(world: World, password: str, code: str) -> None:
    with pytest.raises(ValidationFailed) as caught:
        await world.accounts.register(email="ada@example.com", password=password, account_name="A")
    assert field_codes(caught) == [("password", code)]
    assert not password or password not in caught.value.message


async def test_the_longest_password_works_and_one_character_more_does_not(world: World) -> None:
    longest = "ab" * 128
    login = await world.accounts.register(email="ada@example.com", password=longest, account_name="A")
    await world.login(login.account.slug, "ada@example.com", longest)
    for wrong in (longest + "a", longest[:-1], longest * 1000):
        with pytest.raises(Unauthorized):
            await world.login(login.account.slug, "ada@example.com", wrong)


async def test_an_account_needs_a_name(world: World) -> None:
    for name, code in [
        (None, "required"),
        (" ", "invalid_name"),
        ("a\nb", "invalid_name"),
        ("x" * 101, "invalid_name"),
    ]:
        with pytest.raises(ValidationFailed) as caught:
            await world.accounts.register(email="ada@example.com", password=PASSWORD, account_name=name)
        assert field_codes(caught) == [("account_name", code)]


async def test_an_open_account_is_joined_as_user_and_a_closed_or_absent_one_is_not(world: World) -> None:
    login = await world.found()
    joining = {"email": "bob@example.com", "password": PASSWORD}
    for account in (login.account.slug, "nowhere", "system", SYSTEM_ACCOUNT_ID):
        with pytest.raises(Forbidden) as caught:
            await world.accounts.register(**joining, account=account)
        assert caught.value.code == "registration_closed"
    await world.members.update_account(SYSTEM, login.account.id, registration="open")
    joined = await world.accounts.register(**joining, account=login.account.account_code)
    assert (joined.user.role, joined.account.id) == ("user", login.account.id)
    with pytest.raises(Conflict) as taken:
        await world.accounts.register(**joining, account=login.account.slug)
    assert taken.value.code == "email_taken"


async def test_a_setting_leaves_founding_accounts_to_superadmins(tmp_path: Path, hasher: PasswordHasher) -> None:
    world = await open_world(tmp_path, hasher, account_creation="superadmin")
    with pytest.raises(Forbidden) as caught:
        await world.found()
    assert caught.value.code == "registration_closed"
    await world.store.close()


async def test_with_a_single_tenant_everybody_joins_it(tmp_path: Path, hasher: PasswordHasher) -> None:
    world = await open_world(tmp_path, hasher, single_tenant_account="home")
    made = await world.members.bootstrap_single_tenant()
    assert made is not None
    assert await world.members.bootstrap_single_tenant() == made
    first, second = await world.found("My own", "a@b.example"), await world.found("Mine", "c@d.example")
    assert {first.account.slug, second.account.slug} == {"home"}
    assert {first.user.role, second.user.role} == {"user"}
    assert (await world.login(None, "a@b.example")).user.id == first.user.id
    assert (await world.authenticator.guest(None)).account_id == made.id
    await world.store.close()


# Logging in


async def test_a_user_logs_in_by_slug_code_or_id_of_the_account(world: World) -> None:
    registered = await world.found()
    account = registered.account
    for reference in (
        account.slug,
        account.slug.upper(),
        account.account_code,
        account.account_code.lower(),
        account.id,
    ):
        login = await world.login(reference, "ADA@example.com")
        assert login.user.id == registered.user.id
        assert login.account == account
        assert login.token != registered.token


async def test_without_an_account_the_system_account_is_meant(world: World) -> None:
    await world.found()
    root = await world.superadmin()
    assert (await world.login(None, "root@example.com")).user.id == root.user.id
    with pytest.raises(Unauthorized):
        await world.login(None, "ada@example.com")


async def test_every_failed_login_gets_the_same_answer(world: World) -> None:
    login = await world.found()
    slug = login.account.slug
    disabled = await world.member(login)
    await world.members.update_user(SYSTEM, disabled.user.id, is_active=False)
    closed = await world.found("Closed", "eve@example.com")
    await world.members.update_account(SYSTEM, closed.account.id, is_active=False)
    answers = set()
    for account, email, password in [
        (slug, "ada@example.com", "wrong password"),
        (slug, "ada@example.com", ""),
        (slug, "nobody@example.com", PASSWORD),
        (slug, "\x00" * 5000, PASSWORD),
        ("nowhere", "ada@example.com", PASSWORD),
        ("x" * 100_000, "ada@example.com", PASSWORD),
        ("' OR 1=1 --", "ada@example.com", PASSWORD),
        (slug, "bob@example.com", PASSWORD),
        (closed.account.slug, "eve@example.com", PASSWORD),
    ]:
        with pytest.raises(Unauthorized) as caught:
            await world.login(account, email, password)
        answers.add((caught.value.code, caught.value.message, caught.value.details))
    assert [code for code, _, _ in answers] == ["invalid_credentials"]


async def test_every_failed_login_does_the_same_work(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """S61: one verification each, whatever is wrong."""
    login = await world.found()
    disabled = await world.member(login)
    await world.members.update_user(SYSTEM, disabled.user.id, is_active=False)
    closed = await world.found("Closed", "eve@example.com")
    await world.members.update_account(SYSTEM, closed.account.id, is_active=False)
    verified = 0
    original = world.hasher._matches

    def counting(hashed: str, prepared: bytes) -> bool:
        nonlocal verified
        verified += 1
        return original(hashed, prepared)

    monkeypatch.setattr(world.hasher, "_matches", counting)
    for account, email in [
        (login.account.slug, "ada@example.com"),
        (login.account.slug, "no@one.example"),
        ("no", "no@one.example"),
        (login.account.slug, disabled.user.email),
        (closed.account.slug, "eve@example.com"),
    ]:
        for password in ("wrong password", PASSWORD):
            if (email, password) != ("ada@example.com", PASSWORD):
                with pytest.raises(Unauthorized):
                    await world.login(account, email, password)
    assert verified == 9


async def test_failed_logins_are_limited_per_user_and_successes_cost_nothing(
    tmp_path: Path, hasher: PasswordHasher
) -> None:
    world = await open_world(tmp_path, hasher, login_attempts_per_minute=3)
    slug = (await world.found()).account.slug
    await world.found("Other", "eve@example.com")
    for _ in range(5):
        await world.login(slug, "ada@example.com")
    for reference in (slug, "AA0001", slug.upper()):
        with pytest.raises(Unauthorized):
            await world.login(reference, "ada@example.com", "wrong password")
    with pytest.raises(RateLimited) as caught:
        await world.login(slug, "ada@example.com")
    assert caught.value.retry_after_s == pytest.approx(20)
    await world.login("other", "eve@example.com")
    world.clock.now += 20
    await world.login(slug, "ada@example.com")
    await world.store.close()


async def test_the_limit_does_not_tell_whether_a_user_exists(tmp_path: Path, hasher: PasswordHasher) -> None:
    world = await open_world(tmp_path, hasher, login_attempts_per_minute=2)
    slug = (await world.found()).account.slug
    outcomes = []
    for email in ("ada@example.com", "nobody@example.com"):
        codes = []
        for reference in (slug, "AA0001", slug):
            with pytest.raises((Unauthorized, RateLimited)) as caught:
                await world.login(reference, email, "wrong password")
            codes.append(caught.value.code)
        outcomes.append(codes)
    assert outcomes == [["invalid_credentials", "invalid_credentials", "rate_limited"]] * 2
    await world.store.close()


async def test_failures_are_limited_per_address_and_ipv6_by_its_network(tmp_path: Path, hasher: PasswordHasher) -> None:
    world = await open_world(tmp_path, hasher, login_attempts_per_minute=1)
    await world.found()

    async def attempt(number: int, address: str) -> str:
        with pytest.raises((Unauthorized, RateLimited)) as caught:
            await world.accounts.login(account="acme", email=f"{number}@example.com", password="wrong", address=address)
        return caught.value.code

    codes = [await attempt(number, f"2001:db8:0:1::{number:x}") for number in range(11)]
    assert codes == ["invalid_credentials"] * 10 + ["rate_limited"]
    assert await attempt(20, "2001:db8:0:2::1") == "invalid_credentials"
    assert await attempt(21, "::ffff:192.0.2.9") == "invalid_credentials"
    assert await attempt(22, "not an address") == "invalid_credentials"
    await world.store.close()


async def test_parallel_guesses_do_not_slip_past_the_limit(tmp_path: Path, hasher: PasswordHasher) -> None:
    world = await open_world(tmp_path, hasher, login_attempts_per_minute=3)
    slug = (await world.found()).account.slug
    outcomes = await asyncio.gather(
        *(world.login(slug, "ada@example.com", f"guess {number}") for number in range(12)), return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes].count(Unauthorized) == 3
    assert [type(outcome) for outcome in outcomes].count(RateLimited) == 9
    await world.store.close()


async def test_a_flood_is_refused_and_is_no_failed_attempt(tmp_path: Path) -> None:
    """S62: what does not fit into the queue is 503 at once and counts against nobody."""
    world = await open_world(tmp_path, PasswordHasher(threads=1, queue=1), login_attempts_per_minute=5)
    slug = (await world.found()).account.slug
    for _ in range(2):
        outcomes = await asyncio.gather(
            *(world.login(slug, "ada@example.com") for _ in range(5)), return_exceptions=True
        )
        assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Login"] * 2 + ["Unavailable"] * 3
    for _ in range(10):
        outcomes = await asyncio.gather(*(world.found() for _ in range(10)), return_exceptions=True)
        assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Login"] * 2 + ["Unavailable"] * 8
    world.hasher.close()
    await world.store.close()


async def test_a_login_checked_while_the_password_changes_does_not_survive(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    registered = await world.found()
    principal = await world.principal(registered)
    original = world.hasher.verify

    async def changing(hashed: str | None, password: str) -> bool:
        matches = await original(hashed, password)
        monkeypatch.setattr(world.hasher, "verify", original)
        await world.accounts.change_password(principal, old=PASSWORD, new="another password")
        return matches

    monkeypatch.setattr(world.hasher, "verify", changing)
    with pytest.raises(Unauthorized) as caught:
        await world.login(registered.account.slug, "ada@example.com")
    assert caught.value.code == "invalid_credentials"


async def test_only_so_many_logins_of_a_user_live_and_the_oldest_ends(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logins_module, "MAX_LOGINS", 3)
    logins = [await world.found()]
    for _ in range(3):
        world.clock.now += 1
        logins.append(await world.login("acme", "ada@example.com"))
    assert [await world.refused(login) for login in logins] == ["token_revoked", "", "", ""]
    first = world.tokens.verify_access(logins[0].token).session_id
    assert await world.controls() == [("login_ended", first, {})]


async def test_rows_of_expired_logins_are_forgotten(world: World) -> None:
    await world.found()
    world.clock.now += 8 * 86400
    await world.login("acme", "ada@example.com")
    assert await world.store.fetch("SELECT count(*) FROM _logins") == [(1,)]


async def test_the_last_login_is_noted(world: World) -> None:
    registered = await world.found()
    world.clock.now += 60
    login = await world.login("acme", "ada@example.com")
    assert login.user.last_login == "2027-01-15T08:01:00.000Z"
    assert (await world.accounts.me(await world.principal(registered))).user == login.user


async def test_a_flood_from_one_address_leaves_room_for_logins_from_another(
    tmp_path: Path, hasher: PasswordHasher
) -> None:
    few = PasswordHasher(threads=1, queue=8)
    world = await open_world(tmp_path, few, login_attempts_per_minute=0, password_hash_queue=8)
    try:
        await world.found()

        def knock(address: str) -> "asyncio.Future[Login]":
            attempt = world.accounts.login(account="acme", email="ada@example.com", password=PASSWORD, address=address)
            return asyncio.ensure_future(attempt)

        flood = [knock("192.0.2.1") for _ in range(50)]
        await asyncio.sleep(0)
        assert (await knock("192.0.2.2")).user.email == "ada@example.com"
        outcomes = await asyncio.gather(*flood, return_exceptions=True)
        assert sorted(type(one).__name__ for one in outcomes) == ["Login"] * 4 + ["Unavailable"] * 46
        assert isinstance(await knock("192.0.2.1"), Login)
    finally:
        await world.store.close()
        few.close()
