"""The published JavaScript SDK's own services for records, collections and rules, against a running server."""

from types import ModuleType
from typing import Any

from tests.e2e.support import House, fresh
from tests.support.server import ServerProcess

LOGIN = """
import { SnackBaseClient } from "@snackbase/sdk";
const options = { storageBackend: "memory", enableAutoRefresh: false };
const client = new SnackBaseClient({ baseUrl: process.env.BASE_URL, ...options });
const say = (value) => console.log(JSON.stringify(value ?? null));
const codeOf = async (promise) => promise.then(() => "none", (error) => error.code ?? error.name);
await client.login({ account: process.env.ACCOUNT, email: process.env.EMAIL, password: process.env.PASSWORD });
const name = process.env.COLLECTION;
"""

RECORDS = """
const made = await client.records.create(name, { title: "it's new", views: 1 });
say(made.title);
say((await client.records.get(name, made.id, { fields: ["title"] })));
say((await client.records.update(name, made.id, { title: "b" })).views);
say((await client.records.patch(name, made.id, { views: 7 })).views);
const batch = await client.records.batchCreate(name, [{ title: "c", views: 2 }, { title: "it's d", views: 3 }]);
say([batch.count, batch.created.map((one) => one.title)]);
const ids = batch.created.map((one) => one.id);
const changed = await client.records.batchUpdate(name, ids.map((id) => ({ id, data: { views: 9 } })));
say([changed.count, changed.updated.map((one) => one.views)]);
const found = await client.records.query(name).select(["title"]).filter("views", ">=", 9)
  .filter("title", "=", "it's d").sort("title", "desc").page(1, 10).get();
say([found.total, found.items.map((one) => Object.keys(one).sort())]);
say((await client.records.list(name, { sort: "-title", limit: 1, skip: 1, filter: "views > 0" })).items[0].title);
const gone = await client.records.batchDelete(name, ids);
say([gone.count, gone.deleted.length]);
say(await client.records.delete(name, made.id));
say(await codeOf(client.records.get(name, made.id)));
say(await codeOf(client.records.create(name, { views: "many" })));
"""

PAGES = """
const target = process.env.TARGET;
const author = await client.records.create(target, { title: "ann" });
for (const title of ["a", "b", "c", "d", "e"]) await client.records.create(name, { title, author: author.id });
const found = [];
let page = await client.records.list(name, { sort: "title", limit: 2 });
say([page.total, page.has_more, page.prev_cursor]);
while (true) {
  found.push(...page.items.map((one) => one.title));
  if (!page.next_cursor) break;
  page = await client.records.list(name, { sort: "title", limit: 2, cursor: page.next_cursor });
}
say(found);
say([page.total, page.has_more]);
page = await client.records.query(name).sort("title").limit(2).cursorBefore(page.prev_cursor).get();
say(page.items.map((one) => one.title));
page = await client.records.list(name, { sort: "title", limit: 1, cursor: page.next_cursor, include_count: true });
say([page.items[0].title, page.total]);
const one = await client.records.query(name).expand("author").sort("title").first();
say([one.title, one.expand.author.title]);
say((await client.records.get(name, one.id, { expand: ["author"] })).expand.author.id === author.id);
"""

COLLECTIONS = """
const posts = await client.collections.create({ name, fields: [{ name: "title", type: "text" }], list_rule: "" });
say([posts.fields.map((one) => one.name), posts.field_count, posts.record_count, posts.has_public_access]);
say((await client.collections.get(posts.id)).name === name);
say((await client.collections.listNames()).includes(name));
say((await client.collections.list()).some((one) => one.name === name));
const page = await client.collections.listPaginated({ page: 1, page_size: 1, search: name });
say([page.total, page.total_pages, page.items[0].fields_count, page.items[0].records_count]);
const fields = [...posts.fields, { name: "stars", type: "number", default: 1 }];
say((await client.collections.update(posts.id, { fields })).fields.map((one) => one.name));
say((await client.collectionRules.get(name)).list_rule);
const rules = await client.collectionRules.update(name, { list_rule: "stars > 1", list_fields: "title" });
say([rules.list_rule, rules.list_fields, rules.create_rule]);
say(await client.collectionRules.validateRule("stars > 1", "list", ["title", "stars"]));
say((await client.collectionRules.validateRule("stras > 1", "list", ["title", "stars"])).valid);
const document = await client.collections.export({ collection_ids: [posts.id] });
say([document.collections.length, document.collections[0].rules.list_rule, document.version]);
say((await client.collections.import({ data: document, strategy: "skip" })).collections[0].status);
say(await codeOf(client.collections.import({ data: document })));
document.collections[0].schema.push({ name: "notes", type: "text" });
say((await client.collections.import({ data: document, strategy: "update" })).updated_count);
say(await client.collections.delete(posts.id));
const imported = await client.collections.import({ data: document, strategy: "error" });
say([imported.success, imported.imported_count, imported.collections[0].status, imported.migrations_created]);
say((await client.collections.get(name)).fields.map((one) => one.name));
say((await client.collectionRules.get(name)).list_fields);
const context = { auth: { id: "ann" }, record: { owner: "ann" } };
say(await client.collectionRules.testRule("owner = @request.auth.id", context));
say(await client.collectionRules.testRule("owner != @request.auth.id", context));
say(await client.collections.delete(name));
"""


async def said(node: ModuleType, house: House, script: str, **environment: str) -> list[Any]:
    result = await node.run_node(LOGIN + script, env={"BASE_URL": house.server.base_url, **environment})
    return list(result.messages)


async def test_the_sdks_record_service_works_unchanged(node: ModuleType, house: House) -> None:
    ann = await house.founder("ann")
    name = await house.collection("title", {"name": "views", "type": "number"})
    who = {"ACCOUNT": ann.account["slug"], "EMAIL": ann.email, "PASSWORD": ann.password, "COLLECTION": name}
    answers = await said(node, house, RECORDS, **who)
    identity = answers[1].pop("id")
    assert len(identity) == 36
    assert answers == [
        "it's new",
        {"title": "it's new"},
        None,
        7,
        [2, ["c", "it's d"]],
        [2, [9, 9]],
        [1, [["id", "title"]]],
        "c",
        [2, 2],
        {"success": True},
        "NOT_FOUND_ERROR",
        "VALIDATION_ERROR",
    ]


async def test_the_sdk_goes_through_pages_by_cursor_and_expands_references(node: ModuleType, house: House) -> None:
    ann = await house.founder("ann")
    target = await house.collection("title")
    name = await house.collection("title", {"name": "author", "type": "reference", "collection": target})
    who = {"ACCOUNT": ann.account["slug"], "EMAIL": ann.email, "PASSWORD": ann.password, "COLLECTION": name}
    answers = await said(node, house, PAGES, TARGET=target, **who)
    assert answers == [
        [5, True, None],
        ["a", "b", "c", "d", "e"],
        [None, False],
        ["c", "d"],
        ["e", 5],
        ["a", "ann"],
        True,
    ]


async def test_the_sdks_collection_and_rule_services_work_unchanged(node: ModuleType, house: House) -> None:
    who = {"EMAIL": ServerProcess.SUPERADMIN_EMAIL, "PASSWORD": ServerProcess.SUPERADMIN_PASSWORD}
    answers = await said(node, house, COLLECTIONS, ACCOUNT="system", COLLECTION=fresh("sdk"), **who)
    assert answers == [
        [["title"], 1, 0, True],
        True,
        True,
        True,
        [1, 1, 1, 0],
        ["title", "stars"],
        "",
        ["stars > 1", "title", '@request.auth.id != ""'],
        {"valid": True, "errors": [], "position": None, "code": None, "part": None, "plan": None},
        False,
        [1, "stars > 1", "1.0"],
        "skipped",
        "CONFLICT_ERROR",
        1,
        {"success": True},
        [True, 1, "imported", []],
        ["title", "stars", "notes"],
        "title",
        {"result": True},
        {"result": False},
        {"success": True},
    ]
