"""API keys over a real store: one principal of its own, shown once, gone when revoked."""

import asyncio

import pytest
from starlette.datastructures import Headers

from snackbase.auth import rest_token_of, token_of
from snackbase.errors import BadRequest, Conflict, Forbidden, NotFound, ValidationFailed
from snackbase.model import SYSTEM_ACCOUNT_ID, Principal
from snackbase.services.logins import Login
from tests.support.accounts import PASSWORD, SYSTEM, World, field_codes


async def acting(world: World, key: str, account: str | None = None) -> Principal:
    return (await world.authenticator.principal(key, account=account)).principal


async def test_a_key_acts_as_itself_in_its_account_and_role(world: World, admin: Principal) -> None:
    made = await world.api_keys.create(admin, name="Importer", role="admin")
    assert await acting(world, made.key) == Principal(
        kind="api_key", account_id=admin.account_id, actor_id=made.id, role="admin"
    )
    claims = (await world.authenticator.principal(made.key)).claims
    assert (claims.kind, claims.user_id, claims.account_id) == ("api_key", made.id, admin.account_id)
    assert claims.expires_at == float("inf")
    assert await world.authenticator.reload(claims, account_id=admin.account_id) == await acting(world, made.key)
    plain = await world.api_keys.create(admin, name="Reader")
    assert (await acting(world, plain.key)).role == "user"


async def test_a_key_is_shown_once_and_kept_as_a_hash(world: World, admin: Principal) -> None:
    made = await world.api_keys.create(admin, name="bot")
    secret = made.key.rpartition(".")[2]
    assert made.key == f"sb_ak.{made.id}.{secret}"
    again = await world.api_keys.get(admin, made.id)
    assert again.key == f"sb_ak.{made.id[:8]}****{secret[-4:]}"
    assert (await world.api_keys.page(admin))[0] == [again]
    for row in await world.store.fetch("SELECT * FROM _api_keys"):
        assert not any(secret in str(value) for value in row)


async def test_no_changed_key_is_accepted(world: World, admin: Principal) -> None:
    key = (await world.api_keys.create(admin, name="bot")).key
    other = (await world.api_keys.create(admin, name="other")).key
    head, key_id, secret = key.split(".")
    wrong = [
        f"{head}.{key_id}.{other.split('.')[2]}",
        f"{head}.{'0' * 8}{key_id[8:]}.{secret}",
        f"{head}.{key_id}.",
        f"{head}.{key_id}.{secret}A",
        f"{head}.{key_id}.{secret}\n",
        f"{head}.{key_id.upper()}.{secret}",
        "sb_ak.x.y",
        "sb_ak.",
        f"sb_ak.{key_id}.{'é' * 43}",
    ]
    assert [await world.refused(one) for one in wrong] == ["token_invalid"] * len(wrong)
    assert await world.refused(key) == ""


async def test_a_revoked_key_is_out_and_its_connections_are_told(world: World, admin: Principal) -> None:
    made = await world.api_keys.create(admin, name="bot")
    claims = (await world.authenticator.principal(made.key)).claims
    await world.api_keys.revoke(admin, made.id)
    await world.api_keys.revoke(admin, made.id)
    assert await world.controls() == [("key_revoked", made.id, {})]
    assert await world.refused(made.key) == "token_revoked"
    with pytest.raises(Exception, match="ended"):
        await world.authenticator.reload(claims, account_id=admin.account_id)
    assert not (await world.api_keys.get(admin, made.id)).is_active


async def test_a_key_expires_when_it_says(world: World, admin: Principal) -> None:
    made = await world.api_keys.create(admin, name="bot", expires_at="2027-01-15T09:00:00Z")  # one hour from now
    assert made.expires_at == "2027-01-15T09:00:00.000Z"
    claims = (await world.authenticator.principal(made.key)).claims
    world.clock.now = claims.expires_at - 1
    assert await world.refused(made.key) == ""
    world.clock.now += 1
    assert await world.refused(made.key) == "token_expired"
    assert not (await world.api_keys.get(admin, made.id)).is_active
    for text, code in (("tomorrow", "invalid_datetime"), ("2020-01-01T00:00:00Z", "in_the_past")):
        with pytest.raises(ValidationFailed) as caught:
            await world.api_keys.create(admin, name="bot", expires_at=text)
        assert field_codes(caught) == [("expires_at", code)]


async def test_a_key_of_a_disabled_account_is_out(world: World, admin: Principal) -> None:
    made = await world.api_keys.create(admin, name="bot")
    await world.members.update_account(SYSTEM, "acme", is_active=False)
    assert await world.refused(made.key) == "account_disabled"


async def test_a_key_of_the_system_account_acts_anywhere_and_others_at_home(world: World, ada: Login) -> None:
    root = await world.principal(await world.superadmin())
    everywhere = await world.api_keys.create(root, name="operator")
    assert everywhere.account_id == SYSTEM_ACCOUNT_ID
    acted = await acting(world, everywhere.key, "acme")
    assert (acted.account_id, acted.superadmin, acted.actor_id) == (ada.account.id, True, everywhere.id)
    named = await world.api_keys.create(root, name="theirs", account="acme")
    assert (await acting(world, named.key)).account_id == ada.account.id
    assert not (await acting(world, named.key, "acme")).superadmin
    with pytest.raises(Forbidden):
        await acting(world, named.key, "system")


async def test_keys_make_no_keys_and_members_none_either(world: World, ada: Login, admin: Principal) -> None:
    made = await world.api_keys.create(admin, name="bot", role="admin")
    key, bob = await acting(world, made.key), await world.principal(await world.member(ada))
    for who, code in ((key, "key_restricted"), (bob, "forbidden")):
        for attempt in (
            world.api_keys.create(who, name="more"),
            world.api_keys.page(who),
            world.api_keys.get(who, made.id),
            world.api_keys.revoke(who, made.id),
        ):
            with pytest.raises(Forbidden) as caught:
                await attempt
            assert caught.value.code == code
    eve = await world.principal(await world.found("Other", "eve@example.com"))
    for attempt in (world.api_keys.get(eve, made.id), world.api_keys.revoke(eve, made.id)):
        with pytest.raises(NotFound) as absent:
            await attempt
        assert absent.value.code == "key_not_found"
    assert (await world.api_keys.page(eve))[1] == 0


async def test_a_key_with_the_role_admin_manages_users(world: World, admin: Principal) -> None:
    key = await acting(world, (await world.api_keys.create(admin, name="provisioning", role="admin")).key)
    user = await world.members.create_user(key, email="x@y.example", groups=["staff"])
    invited = await world.invitations.create(key, email="z@y.example")
    assert (user.account_id, invited.invited_by) == (admin.account_id, "provisioning")


async def test_me_of_a_key_is_the_key(world: World, admin: Principal) -> None:
    made = await world.api_keys.create(admin, name="bot")
    me = await world.accounts.me(await acting(world, made.key))
    assert (me.user_id, me.account_id, me.email, me.role, me.user) == (made.id, admin.account_id, None, "user", None)
    await world.accounts.logout(await acting(world, made.key))
    assert await world.refused(made.key) == ""
    with pytest.raises(Forbidden):
        await world.accounts.change_password(await acting(world, made.key), old="x", new="a new password")


async def test_the_last_use_is_told_at_once_and_written_later(world: World, admin: Principal) -> None:
    made = await world.api_keys.create(admin, name="bot")
    assert made.last_used_at is None
    rows = "SELECT last_used_at FROM _api_keys"
    await acting(world, made.key)
    assert (await world.api_keys.get(admin, made.id)).last_used_at == "2027-01-15T08:00:00.000Z"
    assert await world.store.fetch(rows) == [(None,)]
    await world.key_uses.flush()
    assert await world.store.fetch(rows) == [("2027-01-15T08:00:00.000Z",)]
    world.clock.now += 60
    await acting(world, made.key)
    await world.key_uses.flush()
    assert (await world.api_keys.get(admin, made.id)).last_used_at == "2027-01-15T08:01:00.000Z"


async def test_a_use_noted_while_it_is_written_is_not_lost(world: World, admin: Principal) -> None:
    made = await world.api_keys.create(admin, name="bot")
    await acting(world, made.key)
    writing = asyncio.ensure_future(world.key_uses.flush())
    await asyncio.sleep(0)
    world.clock.now += 5
    world.key_uses.note(made.id)
    await writing
    assert await world.store.fetch("SELECT last_used_at FROM _api_keys") == [("2027-01-15T08:00:05.000Z",)]


async def test_an_account_has_so_many_keys_and_no_more(
    world: World, admin: Principal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("snackbase.services.api_keys.MOST_KEYS", 1)
    first = await world.api_keys.create(admin, name="bot")
    with pytest.raises(Conflict) as caught:
        await world.api_keys.create(admin, name="bot")
    assert caught.value.code == "too_many_keys"
    await world.api_keys.revoke(admin, first.id)
    await world.api_keys.create(admin, name="bot")


KEY, OTHER_KEY = "sb_ak.one.x", "sb_ak.two.y"


def headers(*, key: str | None = None, bearer: str | None = None) -> Headers:
    raw = {"x-api-key": key, "authorization": None if bearer is None else f"Bearer {bearer}"}
    return Headers({name: value for name, value in raw.items() if value is not None})


@pytest.mark.parametrize(
    ("key", "bearer", "token"),
    [
        (None, None, None),
        (KEY, None, KEY),
        (None, KEY, KEY),
        (KEY, KEY, KEY),
        ("jwt", "jwt", "jwt"),
        # The SDK sends its key along when somebody has logged in: the login counts.
        (KEY, "jwt", "jwt"),
    ],
)
def test_rest_takes_the_login_where_a_key_is_sent_along(key: str | None, bearer: str | None, token: str | None) -> None:
    assert rest_token_of(headers(key=key, bearer=bearer)) == token


@pytest.mark.parametrize(("key", "bearer"), [("jwt", "another"), (KEY, OTHER_KEY), ("jwt", KEY)])
def test_two_logins_or_two_keys_are_refused_over_rest(key: str, bearer: str) -> None:
    with pytest.raises(BadRequest) as caught:
        rest_token_of(headers(key=key, bearer=bearer))
    assert caught.value.code == "token_conflict"


def test_realtime_takes_one_token_only() -> None:
    with pytest.raises(BadRequest):
        token_of(headers(key=KEY, bearer="jwt"))


async def test_no_key_makes_changes_or_disables_a_superadmin(world: World) -> None:
    root = await world.superadmin()
    made = await world.api_keys.create(await world.principal(root), name="robot", role="admin", account="system")
    key = await acting(world, made.key)
    assert key.superadmin

    for attempt in (
        world.members.update_user(key, root.user.id, is_active=False),
        world.members.update_user(key, root.user.id, email="mine@example.com"),
        world.members.set_password(key, root.user.id, "a-password-of-a-thief"),
        world.members.create_user(key, email="mine@example.com", password=PASSWORD, account="system"),
    ):
        with pytest.raises(Forbidden) as refused:
            await attempt
        assert refused.value.code == "key_restricted"

    ada = await world.found()
    user = await world.members.create_user(key, email="bob@example.com", password=PASSWORD, account=ada.account.id)
    assert not (await world.members.update_user(key, user.id, is_active=False)).is_active
