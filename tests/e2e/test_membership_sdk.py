"""The published JavaScript SDK's services for users, roles, groups, invitations and API keys, on a running server."""

from pathlib import Path
from types import ModuleType
from typing import Any

from tests.e2e.support import House, fresh, remember
from tests.support.server import ServerProcess

ROOT = Path(__file__).resolve().parent.parent.parent
CLIENT = """
import { SnackBaseClient } from "@snackbase/sdk";
const options = { baseUrl: process.env.BASE_URL, storageBackend: "memory", enableAutoRefresh: false };
const client = new SnackBaseClient(options);
const say = (value) => console.log(JSON.stringify(value ?? null));
const nameOf = async (promise) => promise.then(() => "none", (error) => error.constructor.name);
const { ACCOUNT: account, EMAIL: email, PASSWORD: password, NAME: name } = process.env;
await client.login({ account, email, password });
"""

GROUPS = """
const user = await client.users.create({ email: "x@y.example", account_id: client.account.id, role_id: 2, password });
const group = await client.groups.create({ name: "kitchen", description: "hot" });
say([group.name, group.description, group.is_system, group.account_id === client.account.id]);
say(await client.groups.addMember(group.id, user.id));
say((await client.users.get(user.id)).groups);
say((await client.groups.update(group.id, { name: "cellar" })).name);
say((await client.users.get(user.id)).groups);
const page = await client.groups.list({ page: 1, page_size: 10, search: "cell" });
say([page.items.map((one) => one.name), page.total, page.page, page.page_size]);
say((await client.groups.get(group.id)).id === group.id);
say(await client.groups.removeMember(group.id, user.id));
say((await client.users.get(user.id)).groups);
say(await nameOf(client.groups.create({ name: "cellar" })));
say(await client.groups.delete(group.id));
say(await nameOf(client.groups.get(group.id)));
const found = await client.users.list({ search: "X@Y", is_active: true, role_id: "2", sort_by: "email", page: 1 });
say([found.items.map((one) => one.email), found.total]);
say((await client.users.update(user.id, { is_active: false })).is_active);
say(await client.users.resetPassword(user.id, { new_password: password + "?" }).then((told) => typeof told.message));
"""

INVITATIONS = """
const made = await client.invitations.create({ email: "bob@example.com", role_id: "2" });
say([made.email, made.status, made.account_id === client.account.id, made.token.startsWith("sb_in.")]);
const anybody = new SnackBaseClient(options);
const told = await anybody.invitations.getPublic(made.token);
say([told.email, told.account_name, told.invited_by_name === email, told.is_valid]);
const renewed = await client.invitations.resend(made.id);
say([typeof renewed.message, renewed.token !== made.token]);
say(await nameOf(anybody.invitations.accept(made.token, password)));
say(await nameOf(anybody.invitations.accept(renewed.token)));
const accepted = await anybody.invitations.accept(renewed.token, password);
say([accepted.user.email, accepted.user.role, accepted.account.slug === account, accepted.expires_in]);
await anybody.internalAuthManager.updateState(accepted);
say([(await anybody.getCurrentUser()).email, anybody.isAuthenticated]);
const other = await client.invitations.create({ email: "carl@example.com" });
say(await client.invitations.cancel(other.id));
const listed = await client.invitations.list({ page: 1, page_size: 10 });
say([listed.invitations.map((one) => [one.email, one.status]).sort(), listed.total]);
say((await client.invitations.list({ status_filter: "cancelled" })).total);
"""

KEYS = """
const made = await client.apiKeys.create({ name: "bot", expires_at: "2099-01-01T00:00:00Z" });
say([made.key.split(".").length, made.name, made.is_active, made.last_used_at, made.expires_at]);
const robot = new SnackBaseClient({ ...options, apiKey: made.key });
const record = await robot.records.create(name, { title: "by a machine" });
say(record.created_by === made.id);
const me = await robot.getCurrentUser();
say([me.user_id === made.id, me.role]);
say(await nameOf(robot.apiKeys.list()));
// The SDK sends its key along with the token of whoever logs in.
await robot.login({ account, email, password });
say((await robot.records.create(name, { title: "by me" })).created_by === robot.user.id);
say((await robot.getCurrentUser()).email === email);
await robot.logout();
globalThis.WebSocket = (await import("ws")).WebSocket;
const live = new SnackBaseClient({ ...options, getAccessToken: () => made.key });
await live.realtime.connect();
const heard = new Promise((resolve) => live.realtime.on(`${name}.create`, resolve));
await live.realtime.subscribe(name);
await client.records.create(name, { title: "heard" });
say((await heard).title);
const page = await client.apiKeys.list({ limit: 10, offset: 0 });
say([page.total, page.items[0].key.includes("****"), page.items[0].last_used_at !== null]);
live.realtime.disconnect();
say((await client.apiKeys.revoke(made.id)) ?? "revoked");
say((await client.apiKeys.get(made.id)).is_active);
say(await nameOf(robot.records.list(name)));
"""

ROLES = """
const role = await client.roles.create({ name, description: "d" });
say([role.name, role.description, typeof role.created_at, typeof role.updated_at]);
say((await client.roles.get(role.id)).name === name);
say((await client.roles.update(role.id, { description: "e" })).description);
say((await client.roles.list()).items.slice(0, 2).map((one) => one.name));
const made = await client.accounts.create({ name });
const user = await client.users.create({ email: "x@y.example", account_id: made.id, role_id: role.id });
say([user.role === name, user.is_active]);
say(await nameOf(client.roles.delete(role.id)));
await client.users.update(user.id, { role: "user" });
say(await client.roles.delete(role.id));
say((await client.accounts.list({ search: name, is_active: true, sort_by: "name", sort_order: "desc" })).total);
say(await client.accounts.delete(made.id));
say((await client.accounts.list({ search: name, is_active: true })).total);
const everywhere = await client.apiKeys.create({ name: "operator" });
const operator = new SnackBaseClient({ ...options, apiKey: everywhere.key, accountId: made.slug });
say((await operator.users.list()).items.map((one) => one.email));
await client.apiKeys.revoke(everywhere.id);
"""

WITHOUT = """
const calls = {
  forgotPassword: () => client.forgotPassword({ email }),
  resetPassword: () => client.resetPassword({ token: "x", new_password: "y" }),
  "auth.verifyResetToken": () => client.auth.verifyResetToken("x"),
  verifyEmail: () => client.verifyEmail("x"),
  resendVerificationEmail: () => client.resendVerificationEmail(),
  "auth.sendVerification": () => client.auth.sendVerification(email),
  "users.verifyEmail": () => client.users.verifyEmail(client.user.id),
  "users.resendVerification": () => client.users.resendVerification(client.user.id),
  "users.resetPassword": () => client.users.resetPassword(client.user.id, { send_reset_link: true }),
  "auth.getOAuthUrl": () => client.auth.getOAuthUrl("google", "http://localhost/"),
  "auth.handleOAuthCallback": () => client.auth.handleOAuthCallback({ provider: "google", code: "x", state: "y" }),
  "auth.getSAMLUrl": () => client.auth.getSAMLUrl("okta", account),
  "auth.handleSAMLCallback": () => client.auth.handleSAMLCallback({ SAMLResponse: "x" }),
  "auth.getSAMLMetadata": () => client.auth.getSAMLMetadata("okta", account),
  "roles.getPermissions": () => client.roles.getPermissions(1),
  "roles.getPermissionsMatrix": () => client.roles.getPermissionsMatrix(1),
  "roles.updatePermissionsBulk": () => client.roles.updatePermissionsBulk(1, { updates: [] }),
  "roles.deletePermission": () => client.roles.deletePermission(1),
  "roles.validateRule": () => client.roles.validateRule("true"),
  "roles.testRule": () => client.roles.testRule("true", {}),
  "records.aggregate": () => client.records.aggregate(name, { functions: "count()" }),
  "records.getSecrets": () => client.records.getSecrets(name, client.user.id),
  admin: () => client.admin.getConfigurationStats(),
  auditLogs: () => client.auditLogs.list(),
  codelists: () => client.codelists.list(),
  dashboard: () => client.dashboard.getStats(),
  emailTemplates: () => client.emailTemplates.list(),
  endpoints: () => client.endpoints.list(),
  files: () => client.files.delete("x"),
  functions: () => client.functions.list(),
  hooks: () => client.hooks.list(),
  jobs: () => client.jobs.list(),
  macros: () => client.macros.list(),
  migrations: () => client.migrations.list(),
  webhooks: () => client.webhooks.list(),
  workflows: () => client.workflows.list(),
};
for (const [call, make] of Object.entries(calls)) say([call, await nameOf(make())]);
"""
OTHER_REFUSALS = {
    "users.resetPassword": "ValidationError",
    "auth.handleOAuthCallback": "AuthenticationError",
    "records.aggregate": "SnackBaseError",
    # POST and PUT to what looks like a role's id: 405.
    "roles.validateRule": "SnackBaseError",
    "roles.testRule": "SnackBaseError",
}


async def said(node: ModuleType, house: House, script: str, **environment: str) -> list[Any]:
    result = await node.run_node(CLIENT + script, env={"BASE_URL": house.server.base_url, **environment})
    return list(result.messages)


async def founder(house: House, name: str = "") -> dict[str, str]:
    ann = await house.founder("ann")
    return {"ACCOUNT": ann.account["slug"], "EMAIL": ann.email, "PASSWORD": ann.password, "NAME": name}


async def test_the_sdks_group_and_user_services_work_unchanged(node: ModuleType, house: House) -> None:
    assert await said(node, house, GROUPS, **await founder(house)) == [
        ["kitchen", "hot", False, True],
        {"success": True},
        ["kitchen"],
        "cellar",
        ["cellar"],
        [["cellar"], 1, 1, 10],
        True,
        {"success": True},
        [],
        "ConflictError",
        {"success": True},
        "NotFoundError",
        [["x@y.example"], 1],
        False,
        "string",
    ]


async def test_the_sdks_invitation_service_works_unchanged(node: ModuleType, house: House) -> None:
    assert await said(node, house, INVITATIONS, **await founder(house)) == [
        ["bob@example.com", "pending", True, True],
        ["bob@example.com", "ann", True, True],
        ["string", True],
        "NotFoundError",
        "ValidationError",
        ["bob@example.com", "user", True, 3600],
        ["bob@example.com", True],
        {"success": True},
        [[["bob@example.com", "accepted"], ["carl@example.com", "cancelled"]], 2],
        1,
    ]


async def test_the_sdks_api_key_service_and_its_key_option_work_unchanged(node: ModuleType, house: House) -> None:
    name = await house.collection("title")
    assert await said(node, house, KEYS, **await founder(house, name)) == [
        [3, "bot", True, None, "2099-01-01T00:00:00.000Z"],
        True,
        [True, "user"],
        "ApiKeyRestrictedError",
        True,
        True,
        "heard",
        [1, True, True],
        "revoked",
        False,
        "AuthenticationError",
    ]


async def test_the_sdks_role_service_works_unchanged(node: ModuleType, house: House) -> None:
    who = {"EMAIL": ServerProcess.SUPERADMIN_EMAIL, "PASSWORD": remember(ServerProcess.SUPERADMIN_PASSWORD)}
    name = fresh("role")
    assert await said(node, house, ROLES, ACCOUNT="system", NAME=name, **who) == [
        [name, "d", "string", "string"],
        True,
        "e",
        ["admin", "user"],
        [True, True],
        "ConflictError",
        {"success": True},
        1,
        {"success": True},
        0,
        ["x@y.example"],
    ]


async def test_the_calls_of_the_sdk_that_are_not_served_are_refused_and_documented(
    node: ModuleType, house: House
) -> None:
    page = (ROOT / "docs" / "reference" / "sdk.md").read_text(encoding="utf-8")
    name = await house.collection("title")
    refused = dict(await said(node, house, WITHOUT, **await founder(house, name)))
    assert refused == {call: OTHER_REFUSALS.get(call, "NotFoundError") for call in refused}
    assert len(refused) == 36
    assert [call for call in refused if f"`{call}`" not in page] == []
