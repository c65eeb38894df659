"""Groups and roles over a real store: who is in what, and that everybody concerned gets a row in the log."""

import asyncio

import pytest

from snackbase.errors import Conflict, Forbidden, NotFound, ValidationFailed
from snackbase.model import Principal
from snackbase.services import groups as groups_module
from snackbase.services.identity import MAX_GROUPS
from snackbase.services.logins import Login
from snackbase.storage import roles
from snackbase.storage.base import Store
from snackbase.storage.directory import UserQuery
from snackbase.storage.roles import Group
from tests.support.accounts import PASSWORD, SYSTEM, World, field_codes


async def names(world: World, who: Principal) -> list[str]:
    return [group.name for group in (await world.groups.page(who, skip=0, limit=100))[0]]


async def groups_of(world: World, user_id: str) -> tuple[str, ...]:
    return (await world.members.user(SYSTEM, user_id)).groups


async def member(world: World, admin: Principal, *groups: str, email: str = "bob@example.com") -> str:
    return (await world.members.create_user(admin, email=email, groups=list(groups))).id


# Groups


async def test_a_group_is_made_found_described_and_deleted(world: World, admin: Principal) -> None:
    group = await world.groups.create(admin, name="staff", description="All of us")
    assert await world.groups.get(admin, group.id) == group
    assert (group.account_id, group.is_system) == (admin.account_id, False)
    changed = await world.groups.update(admin, group.id, description="")
    assert (changed.name, changed.description) == ("staff", "")
    await world.groups.delete(admin, group.id)
    with pytest.raises(NotFound) as gone:
        await world.groups.get(admin, group.id)
    assert gone.value.code == "group_not_found"
    assert await world.controls() == []


async def test_a_name_is_taken_within_an_account_only(world: World, admin: Principal) -> None:
    other = await world.principal(await world.found("Other", "eve@example.com"))
    staff = await world.groups.create(admin, name="staff")
    await world.groups.create(other, name="staff")
    second = await world.groups.create(admin, name="second")
    for attempt in (
        world.groups.create(admin, name="staff"),
        world.groups.update(admin, second.id, name="staff"),
    ):
        with pytest.raises(Conflict) as caught:
            await attempt
        assert (caught.value.code, field_codes(caught)) == ("group_taken", [("name", "group_taken")])
    for method in (
        world.groups.get(other, staff.id),
        world.groups.update(other, staff.id, name="mine"),
        world.groups.delete(other, staff.id),
        world.groups.add(other, staff.id, "x"),
    ):
        with pytest.raises(NotFound):
            await method


@pytest.mark.parametrize("name", ["", "x" * 101, "a\nb", "\x00"])
async def test_a_groups_name_is_one_line_of_1_to_100_characters(world: World, admin: Principal, name: str) -> None:
    with pytest.raises(ValidationFailed) as caught:
        await world.groups.create(admin, name=name)
    assert field_codes(caught) == [("name", "invalid_group")]


async def test_coming_and_going_each_write_one_row_and_repeating_them_none(world: World, admin: Principal) -> None:
    group = await world.groups.create(admin, name='quoted "name", é \\')
    bob = await member(world, admin, "first")
    await world.groups.add(admin, group.id, bob)
    await world.groups.add(admin, group.id, bob)
    assert await groups_of(world, bob) == ("first", group.name)
    assert await world.controls() == [("user_rights", bob, {})]
    await world.groups.remove(admin, group.id, bob)
    await world.groups.remove(admin, group.id, bob)
    assert await groups_of(world, bob) == ("first",)
    assert await world.controls() == [("user_rights", bob, {})] * 2


async def test_a_user_changed_by_group_can_be_changed_as_a_whole_afterwards(world: World, admin: Principal) -> None:
    """What the database makes of a list of names and what we make of it are the same text."""
    awkward = ['"', "\\", ",", "é", "😀", "\x7e", "/", "'", "[]"]
    bob = await member(world, admin)
    for name in awkward:
        await world.groups.add(admin, (await world.groups.create(admin, name=name)).id, bob)
    assert await groups_of(world, bob) == tuple(awkward)
    changed = await world.members.update_user(admin, bob, groups=awkward[1:])
    assert changed.groups == tuple(awkward[1:])


async def test_groups_that_are_named_are_made(world: World, admin: Principal) -> None:
    await member(world, admin, "b", "a")
    assert await names(world, admin) == ["a", "b"]
    carl = await member(world, admin, "a", email="carl@example.com")
    await world.members.update_user(admin, carl, groups=["a", "c"])
    assert await names(world, admin) == ["a", "b", "c"]


async def test_a_rename_follows_every_user_and_invitation(world: World, admin: Principal) -> None:
    bob, carl = await member(world, admin, "x", "old", "y"), await member(world, admin, "old", email="c@example.com")
    dora = await member(world, admin, "x", email="d@example.com")
    invited = await world.invitations.create(admin, email="e@example.com", groups=["old", "z"])
    old = next(group for group in (await world.groups.page(admin, skip=0, limit=9))[0] if group.name == "old")
    renamed = await world.groups.update(admin, old.id, name="new")
    assert (renamed.id, renamed.name) == (old.id, "new")
    assert await groups_of(world, bob) == ("x", "new", "y")
    assert await groups_of(world, carl) == ("new",)
    assert await groups_of(world, dora) == ("x",)
    assert sorted(await world.controls()) == sorted([("user_rights", bob, {}), ("user_rights", carl, {})])
    login = await world.invitations.accept(invited.token or "", password=PASSWORD)
    assert login.user.groups == ("new", "z")
    assert await names(world, admin) == ["new", "x", "y", "z"]


async def test_a_deleted_group_leaves_nobody_in_it(
    world: World, admin: Principal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groups_module, "SLICE", 2)
    members = [await member(world, admin, "gone", "stays", email=f"{number}@example.com") for number in range(5)]
    invited = await world.invitations.create(admin, email="e@example.com", groups=["gone"])
    gone = await world.groups.create(admin, name="other")
    gone = next(group for group in (await world.groups.page(admin, skip=0, limit=9))[0] if group.name == "gone")
    await world.groups.delete(admin, gone.id)
    assert {await groups_of(world, user) for user in members} == {("stays",)}
    assert sorted(subject for _, subject, _ in await world.controls()) == sorted(members)
    assert (await world.invitations.accept(invited.token or "", password=PASSWORD)).user.groups == ()


async def test_a_group_of_many_keeps_its_name(world: World, admin: Principal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups_module, "MOST_RENAMED", 1)
    group = await world.groups.create(admin, name="many")
    for number in range(2):
        await member(world, admin, "many", email=f"{number}@example.com")
    with pytest.raises(Conflict) as caught:
        await world.groups.update(admin, group.id, name="few")
    assert caught.value.code == "group_too_large"
    assert (await world.groups.update(admin, group.id, description="big")).description == "big"


@pytest.mark.parametrize("deleted", [False, True])
async def test_somebody_who_comes_in_while_a_group_changes_is_not_left_behind(
    world: World, admin: Principal, monkeypatch: pytest.MonkeyPatch, *, deleted: bool
) -> None:
    group = await world.groups.create(admin, name="old")
    bob, carl = await member(world, admin, "old"), await member(world, admin, email="c@example.com")
    late, read = [carl], roles.member_ids

    async def member_ids(store: Store, of: Group, *, limit: int) -> list[str]:
        found = await read(store, of, limit=limit)
        if late:
            await world.groups.add(admin, group.id, late.pop())
        return found

    monkeypatch.setattr(roles, "member_ids", member_ids)
    await (world.groups.delete(admin, group.id) if deleted else world.groups.update(admin, group.id, name="new"))
    expected = () if deleted else ("new",)
    assert {await groups_of(world, user_id) for user_id in (bob, carl)} == {expected}
    told = [subject for _, subject, _ in await world.controls()]
    assert sorted(told) == sorted([bob, carl, carl])


async def test_users_who_come_at_once_are_all_in_and_nobody_is_lost(world: World, admin: Principal) -> None:
    bob = await member(world, admin)
    rooms = [await world.groups.create(admin, name=f"room{number}") for number in range(30)]
    await asyncio.gather(*(world.groups.add(admin, room.id, bob) for room in rooms))
    assert set(await groups_of(world, bob)) == {room.name for room in rooms}
    await asyncio.gather(
        *(world.groups.remove(admin, room.id, bob) for room in rooms[:15]),
        world.groups.update(admin, rooms[20].id, name="renamed"),
    )
    assert set(await groups_of(world, bob)) == {room.name for room in rooms[15:]} - {"room20"} | {"renamed"}


async def test_a_user_is_in_at_most_100_groups(world: World, admin: Principal) -> None:
    bob = await member(world, admin, *(f"g{number}" for number in range(MAX_GROUPS)))
    one_more = await world.groups.create(admin, name="one more")
    with pytest.raises(ValidationFailed) as caught:
        await world.groups.add(admin, one_more.id, bob)
    assert field_codes(caught) == [("user_id", "too_many")]


async def test_only_users_of_the_groups_account_come_in(world: World, admin: Principal) -> None:
    eve = await world.found("Other", "eve@example.com")
    group = await world.groups.create(admin, name="staff")
    for who in (admin, SYSTEM):
        for user_id in (eve.user.id, "nobody"):
            with pytest.raises(NotFound) as caught:
                await world.groups.add(who, group.id, user_id)
            assert caught.value.code == "user_not_found"


async def test_a_group_that_goes_while_somebody_comes_is_not_found(
    world: World, admin: Principal, monkeypatch: pytest.MonkeyPatch
) -> None:
    bob, group = await member(world, admin), await world.groups.create(admin, name="staff")
    await world.groups.delete(admin, group.id)

    async def still_there(_who: Principal, _group_id: str) -> Group:
        return group

    monkeypatch.setattr(world.groups, "get", still_there)
    with pytest.raises(NotFound):
        await world.groups.add(admin, group.id, bob)
    assert await groups_of(world, bob) == ()


async def test_groups_are_searched_and_come_in_pages(world: World, admin: Principal) -> None:
    for name in ("Room B", "room a", "staff", "100%"):
        await world.groups.create(admin, name=name)
    found, total = await world.groups.page(admin, search="ROOM", skip=1, limit=1)
    assert ([group.name for group in found], total) == (["room a"], 2)
    assert [group.name for group in (await world.groups.page(admin, search="%", skip=0, limit=9))[0]] == ["100%"]


async def test_members_manage_no_groups_and_a_superadmin_every_accounts(world: World, ada: Login) -> None:
    bob = await world.principal(await world.member(ada))
    for attempt in (
        world.groups.page(bob, skip=0, limit=1),
        world.groups.create(bob, name="mine"),
        world.groups.get(bob, "x"),
    ):
        with pytest.raises(Forbidden):
            await attempt
    group = await world.groups.create(SYSTEM, name="staff", account=ada.account.slug)
    assert group.account_id == ada.account.id
    with pytest.raises(ValidationFailed):
        await world.groups.create(SYSTEM, name="staff", account="nowhere")
    with pytest.raises(Forbidden):
        await world.groups.create(await world.principal(ada), name="staff", account="system")


async def test_users_are_listed_by_group_role_state_and_part_of_the_email(world: World, admin: Principal) -> None:
    bob = await member(world, admin, "staff")
    world.clock.now += 1
    await member(world, admin, "staff", email="carl_100%@example.com")
    await world.members.update_user(admin, bob, is_active=False)

    async def emails(**asked: object) -> list[str]:
        found, total = await world.members.users(admin, UserQuery(**asked))  # type: ignore[arg-type]  # mixed values
        assert total == len(found)
        return [user.email.partition("@")[0] for user in found]

    assert await emails(group="staff") == ["bob", "carl_100%"]
    assert await emails(role_id=1) == ["ada"]
    assert await emails(is_active=False) == ["bob"]
    assert await emails(search="B@Ex") == ["bob"]
    assert await emails(search="_100%") == ["carl_100%"]
    assert await emails(search="b_b") == []
    assert await emails(sort="email", descending=True) == ["carl_100%", "bob", "ada"]


# Roles


async def test_a_role_is_made_given_renamed_and_deleted_while_nobody_has_it(world: World, admin: Principal) -> None:
    role = await world.roles.create(SYSTEM, name="editor", description="Writes")
    assert (role.id, await world.roles.get(role.id)) == (3, role)
    bob = await member(world, admin)
    assert (await world.members.update_user(admin, bob, role="editor")).role_id == 3
    assert (await world.roles.update(SYSTEM, 3, description="Edits")).name == "editor"
    for attempt in (world.roles.update(SYSTEM, 3, name="writer"), world.roles.delete(SYSTEM, 3)):
        with pytest.raises(Conflict) as caught:
            await attempt
        assert caught.value.code == "role_in_use"
    await world.members.update_user(admin, bob, role="user")
    assert (await world.roles.update(SYSTEM, 3, name="writer")).description == "Edits"
    await world.roles.delete(SYSTEM, 3)
    with pytest.raises(NotFound):
        await world.roles.get(3)
    assert [role.name for role in await world.roles.all()] == ["admin", "user"]


async def test_keys_and_open_invitations_hold_a_role_in_use(world: World, admin: Principal) -> None:
    role = await world.roles.create(SYSTEM, name="robot")
    key = await world.api_keys.create(admin, name="bot", role="robot")
    invitation = await world.invitations.create(admin, email="x@y.example", role_id=role.id)
    for free in (world.api_keys.revoke(admin, key.id), world.invitations.cancel(admin, invitation.id)):
        with pytest.raises(Conflict):
            await world.roles.delete(SYSTEM, role.id)
        await free
    await world.roles.delete(SYSTEM, role.id)
    assert (await world.api_keys.get(admin, key.id)).role == ""


async def test_admin_and_user_stay_what_they_are(world: World) -> None:
    for role_id in (1, 2):
        for attempt in (world.roles.update(SYSTEM, role_id, name="king"), world.roles.delete(SYSTEM, role_id)):
            with pytest.raises(Conflict) as caught:
                await attempt
            assert caught.value.code == "role_fixed"
    assert (await world.roles.update(SYSTEM, 1, description="The boss")).name == "admin"


async def test_a_roles_name_is_taken_in_whatever_case(world: World) -> None:
    await world.roles.create(SYSTEM, name="editor")
    for attempt in (world.roles.create(SYSTEM, name="Editor"), world.roles.create(SYSTEM, name="ADMIN")):
        with pytest.raises(Conflict) as caught:
            await attempt
        assert (caught.value.code, field_codes(caught)) == ("role_taken", [("name", "role_taken")])
    with pytest.raises(Conflict):
        await world.roles.update(SYSTEM, 3, name="USER")
    assert (await world.roles.update(SYSTEM, 3, name="Editor")).name == "Editor"


async def test_only_superadmins_make_roles_and_there_are_at_most_100(
    world: World, admin: Principal, monkeypatch: pytest.MonkeyPatch
) -> None:
    for attempt in (
        world.roles.create(admin, name="mine"),
        world.roles.update(admin, 2, description="x"),
        world.roles.delete(admin, 2),
    ):
        with pytest.raises(Forbidden):
            await attempt
    monkeypatch.setattr("snackbase.services.roles.MOST_ROLES", 3)
    await world.roles.create(SYSTEM, name="third")
    with pytest.raises(Conflict) as caught:
        await world.roles.create(SYSTEM, name="fourth")
    assert caught.value.code == "too_many_roles"


async def test_a_role_deleted_at_the_same_moment_is_not_given(
    world: World, admin: Principal, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def chosen(*_: object) -> tuple[int, str]:
        return 9, "gone"

    bob = await member(world, admin)
    monkeypatch.setattr("snackbase.services.members.chosen_role", chosen)
    for attempt in (
        world.members.create_user(admin, email="x@y.example", role="gone"),
        world.members.update_user(admin, bob, role="gone"),
    ):
        with pytest.raises(ValidationFailed) as caught:
            await attempt
        assert field_codes(caught) == [("role_id", "role_not_found")]
    assert (await world.members.user(admin, bob)).role == "user"
