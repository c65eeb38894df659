import assert from "node:assert/strict";
import { test } from "node:test";

import { SnackBaseError } from "../src/errors.js";
import { LiveQuery } from "../src/live-query.js";

/** A live query whose server is the test. */
function scene(query = { sort: "id" }, { pages = [] } = {}) {
  const made = { asked: [], shown: [], states: [], errors: [], subscription: null };
  const send = (subscription) => {
    made.subscription = subscription;
    made.asked.push(subscription.ask(made.asked.length));
  };
  const connection = {
    add: send,
    ask: send,
    remove(subscription) {
      subscription.phase = "off";
    },
  };
  const records = {
    async *pages() {
      for (const page of pages) {
        if (page instanceof Error) throw page;
        yield page;
      }
    },
  };
  const live = new LiveQuery({
    connection,
    records,
    id: "a",
    collection: "posts",
    query,
    bubble: (error) => made.errors.push(error.code),
    closed: () => {},
  });
  const next = () => new Promise((resolve) => live.on("change", resolve));
  live.on("change", ({ records: list }) => made.shown.push(list.map((one) => `${one.id}${one.v ?? ""}`).join(" ")));
  live.on("state", ({ state }) => made.states.push(state));
  const tell = (type, more = {}) => made.subscription.receive({ type, ...more });
  const begin = (list, position) => {
    tell("subscribed", { position });
    tell("snapshot", { data: list, complete: true });
    tell("caught_up", { position });
  };
  const put = (id, v, position, more = {}) => tell("posts.update", { data: { id, v }, position, ...more });
  const drop = (id, position) => tell("posts.delete", { data: { id }, position, change: "leave" });
  const again = () => {
    made.subscription.detach();
    send(made.subscription);
  };
  return { ...made, made, live, tell, begin, put, drop, again, next };
}

const row = (id, v) => ({ id, v });

test("a server that repeats what is known already never makes the list go back", () => {
  const { begin, put, drop, again, tell, shown, asked } = scene();
  begin([row("a", 1), row("b", 1)], "p0");
  put("a", 2, "p1");
  put("b", 2, "p2");
  drop("a", "p3");
  again();
  assert.equal(asked.at(-1).since, "p3");
  tell("subscribed", { position: "p3" });
  put("a", 2, "p1");
  put("b", 2, "p2");
  drop("a", "p3");
  put("c", 1, "p4");
  assert.equal(shown.at(-1), "b2");
  tell("caught_up", { position: "p4" });
  assert.deepEqual(shown, ["a1 b1", "a2 b1", "a2 b2", "b2", "b2 c1"]);
});

test("a replay that breaks off is gone on with, and shown only when it has caught up", () => {
  const { begin, put, again, tell, shown, asked } = scene();
  begin([row("a", 1)], "p0");
  again();
  tell("subscribed", { position: "p0" });
  put("a", 2, "p1");
  again();
  assert.equal(asked.at(-1).since, "p1");
  tell("subscribed", { position: "p1" });
  put("b", 1, "p2");
  assert.deepEqual(shown, ["a1"]);
  tell("caught_up", { position: "p2" });
  assert.deepEqual(shown, ["a1", "a2 b1"]);
});

test("half a snapshot is forgotten: what left meanwhile does not come with the next one", () => {
  const { begin, again, tell, shown } = scene();
  tell("subscribed", { position: "p0" });
  tell("snapshot", { data: [row("gone", 1)], complete: false });
  again();
  begin([row("a", 1)], "p5");
  assert.deepEqual(shown, ["a1"]);
});

test("after a resync nothing is shown before the whole set is there, and live events of before are not applied", async () => {
  const { live, made, begin, put, tell, shown } = scene();
  begin([row("a", 1)], "p0");
  tell("resync", { reason: "rights", position: "p5" });
  assert.equal(live.state, "catching_up");
  put("b", 1, "p6");
  await new Promise((resolve) => setTimeout(resolve));
  assert.ok(made.asked.at(-1).snapshot);
  put("c", 1, "p7");
  tell("subscribed", { position: "p8" });
  tell("snapshot", { data: [row("b", 1)], complete: false });
  tell("snapshot", { data: [row("c", 1)], complete: true });
  put("c", 2, "p9");
  assert.deepEqual(shown, ["a1"]);
  tell("caught_up", { position: "p9" });
  assert.deepEqual(shown, ["a1", "b1 c2"]);
});

test("pages of different moments are shown only when the stream has passed the last and was applied from the first", async () => {
  const pages = [
    { position: "p1", items: [row("a", 1), row("b", 1)] },
    { position: "p4", items: [row("c", 4), row("d", 1)] },
  ];
  const { made, tell, put, drop, next, shown } = scene({ sort: "id" }, { pages });
  tell("error", { code: "snapshot_too_large", message: "too large" });
  while (made.asked.length < 2) await new Promise((resolve) => setTimeout(resolve));
  assert.equal(made.asked[1].since, "p4", "the stream has to be there first");
  tell("subscribed", { position: "p4" });
  put("z", 1, "p5");
  tell("caught_up", { position: "p5" });
  assert.equal(made.asked[2].since, "p1");
  tell("subscribed", { position: "p1" });
  drop("a", "p2");
  put("c", 3, "p3");
  put("c", 4, "p4");
  put("z", 1, "p5");
  assert.deepEqual(shown, []);
  const shows = next();
  tell("caught_up", { position: "p5" });
  await shows;
  assert.deepEqual(shown, ["b1 c4 d1 z1"]);
});

test("a page that may not be read ends the query, one that fails for a while does not", async () => {
  const refused = new SnackBaseError("forbidden", "no", { status: 403 });
  const { live, tell, made } = scene({}, { pages: [refused] });
  tell("error", { code: "snapshot_too_large", message: "too large" });
  await assert.rejects(live.ready, { code: "forbidden" });
  assert.equal(live.state, "failed");
  assert.deepEqual(made.errors, ["forbidden"]);
  const busy = new SnackBaseError("overloaded", "busy", { status: 503 });
  const waiting = scene({}, { pages: [busy] });
  waiting.tell("error", { code: "snapshot_too_large", message: "too large" });
  await new Promise((resolve) => setTimeout(resolve));
  assert.equal(waiting.live.state, "loading");
  waiting.live.close();
});

test("with `fields` the records show those alone, in the order of fields that are not shown", () => {
  const { live, begin, asked } = scene({ fields: "title", sort: "-stars" });
  assert.deepEqual(asked[0].fields, ["id", "title", "stars"]);
  begin(
    [
      { id: "a", title: "A", stars: 1 },
      { id: "b", title: "B", stars: 2 },
    ],
    "p0",
  );
  assert.deepEqual(live.records, [
    { id: "b", title: "B" },
    { id: "a", title: "A" },
  ]);
});

test("the array that was given out never changes", () => {
  const { live, begin, put } = scene();
  begin([row("a", 1)], "p0");
  const before = live.records;
  assert.equal(live.records, before);
  put("b", 1, "p1");
  assert.deepEqual(before, [row("a", 1)]);
  assert.notEqual(live.records, before);
  assert.throws(() => before.push(1), TypeError);
});

test("what a listener throws is the app's own uncaught error, and harms neither the list nor other listeners", (context) => {
  const thrown = context.mock.method(globalThis, "queueMicrotask", () => {});
  const { live, begin, put, shown } = scene();
  live.on("change", () => {
    throw new Error("the app's own");
  });
  live.on("change", ({ records }) => assert.equal(records.length, 1));
  begin([row("a", 1)], "p0");
  put("a", 2, "p1");
  assert.deepEqual(shown, ["a1", "a2"]);
  assert.equal(thrown.mock.callCount(), 2);
  assert.throws(thrown.mock.calls[0].arguments[0], { message: "the app's own" });
});

test("values that have no order never make a change remove another record", () => {
  const { begin, drop, live } = scene({ sort: "v,id" });
  const list = [row("a", 5), row("b", { x: 1 }), row("c", 3), row("d", { x: 0 }), row("e", 1), row("f", [2])];
  begin(list, "p0");
  for (const [at, { id }] of list.entries()) {
    drop(id, `p${at + 1}`);
    const left = list.slice(at + 1).map((one) => one.id);
    assert.deepEqual(live.records.map((one) => one.id).sort(), left);
  }
});
