"""The published JavaScript SDK's own services for logins, users, accounts and roles, against a running server."""

from types import ModuleType
from typing import Any

from tests.e2e.support import House, fresh, remember
from tests.support.server import ServerProcess

CLIENT = """
import { SnackBaseClient } from "@snackbase/sdk";
const options = { storageBackend: "memory", enableAutoRefresh: false };
const client = new SnackBaseClient({ baseUrl: process.env.BASE_URL, ...options });
const say = (value) => console.log(JSON.stringify(value ?? null));
const nameOf = async (promise) => promise.then(() => "none", (error) => error.constructor.name);
const { SLUG: slug, EMAIL: email, PASSWORD: password } = process.env;
const at = (account) => ({ account, email, password });
"""

LOGIN = """
const made = await client.register({ email, password, account_name: "Made by the SDK", account_slug: slug });
say([made.user.email, made.account.slug, client.isAuthenticated]);
say(await nameOf(client.login({ ...at(slug), password: "not the password" })));
await client.login(at(slug));
say([client.isAuthenticated, client.user.email, client.user.role, client.account.slug, client.account.account_code]);
const before = client.internalAuthManager.getState();
await client.refreshToken();
const after = client.internalAuthManager.getState();
say([before.token !== after.token, before.refreshToken !== after.refreshToken]);
say(after.expiresAt > new Date().toISOString());
const me = await client.getCurrentUser();
say([me.user_id === client.user.id, me.user.email, client.account.slug]);
say(client.user.created_at === made.user.created_at);
say(await nameOf(client.users.list()));
say(await nameOf(client.accounts.list()));
say((await client.roles.list()).items.slice(0, 2).map((role) => role.name));
await client.logout();
say([client.isAuthenticated, client.user]);
say(await nameOf(client.getCurrentUser()));
"""

MANAGING = """
await client.login(at("system"));
say(client.isSuperadmin);
const account = await client.accounts.create({ name: "New", slug });
say([account.slug, /^[A-Z]{2}[0-9]{4}$/.test(account.account_code)]);
say((await client.accounts.update(account.id, { name: "Renamed" })).name);
say((await client.accounts.get(account.id)).name);
say((await client.accounts.list({ page: 1, page_size: 1 })).total > 1);
const fresh = { email: "x@y.example", password, account_id: account.id, role_id: 2 };
const user = await client.users.create(fresh);
say([user.email, user.role, user.account_id === account.id]);
say(await nameOf(client.users.create(fresh)));
say((await client.users.update(user.id, { role_id: 1 })).role);
say((await client.users.list({ account_id: account.id, limit: 10 })).total);
say((await client.accounts.getUsers(account.id)).items.map((one) => one.email));
say(await client.users.setPassword(user.id, password + "!"));
say(await client.users.delete(user.id));
say((await client.users.get(user.id)).is_active);
"""


async def said(node: ModuleType, house: House, script: str, **environment: str) -> list[Any]:
    result = await node.run_node(CLIENT + script, env={"BASE_URL": house.server.base_url, **environment})
    return list(result.messages)


async def test_the_sdks_login_refresh_me_and_logout_work_unchanged(node: ModuleType, house: House) -> None:
    slug, password = fresh("sdk").lower(), remember("a-password-for-the-sdk")
    answers = await said(node, house, LOGIN, SLUG=slug, EMAIL="zoe@example.com", PASSWORD=password)
    code = answers[2].pop()
    assert code[:2].isupper()
    assert answers == [
        ["zoe@example.com", slug, False],
        "AuthenticationError",
        [True, "zoe@example.com", "admin", slug],
        [True, True],
        True,
        [True, "zoe@example.com", slug],
        True,
        "none",
        "AuthorizationError",
        ["admin", "user"],
        [False, None],
        "AuthenticationError",
    ]


async def test_the_sdks_account_and_user_services_work_unchanged(node: ModuleType, house: House) -> None:
    who = {"EMAIL": ServerProcess.SUPERADMIN_EMAIL, "PASSWORD": ServerProcess.SUPERADMIN_PASSWORD}
    slug = fresh("sdk").lower()
    assert await said(node, house, MANAGING, SLUG=slug, **who) == [
        True,
        [slug, True],
        "Renamed",
        "Renamed",
        True,
        ["x@y.example", "user", True],
        "ConflictError",
        "admin",
        1,
        ["x@y.example"],
        {"success": True},
        {"success": True},
        False,
    ]
