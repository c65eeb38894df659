import assert from "node:assert/strict";
import { test } from "node:test";

import { Subscription } from "../src/subscription.js";

function scene(wants, more = {}) {
  const told = [];
  const note = (kind) => (...values) => told.push([kind, ...values]);
  const kinds = ["subscribed", "page", "events", "caughtUp", "passed", "resync", "ended", "failed", "detached"];
  const sink = Object.fromEntries(kinds.map((kind) => [kind, note(kind)]));
  const subscription = Object.assign(new Subscription("a", { collection: "posts" }, sink), { wants, ...more });
  return { subscription, told, kinds: () => told.map(([kind]) => kind) };
}

const event = (n, more = {}) => ({ type: "posts.create", position: `p${n}`, data: { id: `r${n}` }, ...more });

test("a transaction is handed over whole, and the cursor passes it whole", () => {
  const { subscription, told } = scene("live");
  subscription.ask(1);
  subscription.receive({ type: "subscribed", position: "p0" });
  subscription.receive(event(1, { tx: "t", tx_size: 2, position: undefined }));
  subscription.moveTo("p9");
  assert.equal(subscription.cursor, "p0", "nobody resumes inside a transaction");
  subscription.receive(event(2, { tx: "t", tx_size: 2 }));
  assert.equal(subscription.cursor, "p2");
  assert.equal(told.at(-1)[1].length, 2);
});

test("what would have the server refuse a whole message is refused before it is sent", () => {
  const wrong = [{ collection: 1 }, { operations: "create" }, { filter: {} }, { fields: [1] }];
  for (const more of wrong) assert.throws(() => new Subscription("a", { collection: "posts", ...more }, {}), TypeError);
  assert.throws(() => new Subscription("a", { collection: "posts" }, {}, { sort: ["title"] }), TypeError);
});

test("half a transaction is forgotten with its connection", () => {
  const { subscription, told, kinds } = scene("live");
  subscription.ask(1);
  subscription.receive({ type: "subscribed", position: "p0" });
  subscription.receive(event(1, { tx: "t", tx_size: 2, position: undefined }));
  subscription.detach();
  assert.equal(subscription.ask(2).since, "p0");
  subscription.receive({ type: "subscribed", position: "p0" });
  for (const n of [1, 2]) subscription.receive(event(n, { tx: "t", tx_size: 2, position: n === 2 ? "p2" : undefined }));
  assert.deepEqual(kinds().filter((kind) => kind === "events"), ["events"]);
  assert.deepEqual(told.at(-1)[1].map(({ data }) => data.id), ["r1", "r2"]);
});

test("what an earlier question still brings is of no interest after a later one", () => {
  const { subscription, kinds } = scene("live");
  subscription.ask(1);
  subscription.wants = "snapshot";
  subscription.ask(2);
  subscription.receive({ type: "subscribed", position: "p0" });
  subscription.receive(event(1));
  assert.deepEqual(kinds(), []);
  subscription.receive({ type: "subscribed", position: "p1" });
  subscription.receive({ type: "snapshot", data: [{ id: "r1" }], complete: true });
  assert.deepEqual(kinds(), ["subscribed", "page"]);
  assert.equal(subscription.cursor, "p1");
});

test("a broken snapshot is asked for again, a complete one is resumed", () => {
  const { subscription } = scene("snapshot");
  subscription.ask(1);
  subscription.receive({ type: "subscribed", position: "p5" });
  subscription.receive({ type: "snapshot", data: [], complete: false });
  subscription.detach();
  assert.deepEqual(subscription.question().snapshot, {});
  subscription.ask(2);
  subscription.receive({ type: "subscribed", position: "p6" });
  subscription.receive({ type: "snapshot", data: [], complete: true });
  subscription.detach();
  assert.equal(subscription.question().since, "p6");
});

test("behind a barrier nothing is taken until the stream has passed it", () => {
  const { subscription, kinds } = scene("since", { cursor: "p1", barrier: "p9" });
  assert.equal(subscription.ask(1).since, "p9");
  subscription.receive({ type: "subscribed", position: "p9" });
  subscription.receive(event(10));
  subscription.receive({ type: "caught_up", position: "p10" });
  assert.deepEqual(kinds(), ["subscribed", "passed"]);
  assert.equal(subscription.ask(2).since, "p1");
});

test("a resync moves the cursor to where live events go on", () => {
  const { subscription, told } = scene("since", { cursor: "p1" });
  subscription.ask(1);
  subscription.receive({ type: "subscribed", position: "p1" });
  subscription.receive({ type: "resync", reason: "expired", position: "p50" });
  subscription.receive(event(51));
  assert.deepEqual(told.map(([kind]) => kind), ["subscribed", "resync", "events"]);
  assert.equal(subscription.cursor, "p51");
});
