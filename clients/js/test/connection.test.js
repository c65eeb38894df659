import assert from "node:assert/strict";
import { test } from "node:test";

import { Connection } from "../src/connection.js";
import { Subscription } from "../src/subscription.js";
import { Tokens } from "../src/tokens.js";

const wait = (ms = 0) => new Promise((resolve) => setTimeout(resolve, ms));
const TOKEN = `x.${Buffer.from('{"iat":0,"exp":3600}').toString("base64url")}.y`;

/** A connection whose WebSockets are the test's. */
function scene(context, { tokens = { token: TOKEN }, ...options } = {}) {
  const sockets = [];
  class WebSocket {
    constructor(url, protocols) {
      Object.assign(this, { url, protocols, readyState: 0, sent: [] });
      sockets.push(this);
    }
    send(text) {
      this.sent.push(JSON.parse(text));
    }
    close(code) {
      this.closed = code;
    }
    tell(message) {
      this.onmessage({ data: JSON.stringify(message) });
    }
    async open() {
      this.readyState = 1;
      this.onopen();
      this.tell({ type: "auth", status: "ok" });
      await wait();
    }
    end(code, reason = "") {
      this.onclose({ code, reason });
    }
  }
  const states = [];
  const errors = [];
  const connection = new Connection({
    url: "http://data.example.com/base",
    account: null,
    tokens: new Tokens(tokens),
    transport: "websocket",
    WebSocket,
    fetch: () => assert.fail("no stream was asked for"),
    reconnect: { minMs: 1, maxMs: 1 },
    ...options,
  });
  context.after(() => connection.close());
  connection.on("state", (state) => states.push(state));
  connection.on("error", (error) => errors.push(error.code));
  const subscribe = (id, more = {}) => {
    const sink = Object.fromEntries(["events", "caughtUp", "resync", "ended", "failed"].map((name) => [name, () => {}]));
    const subscription = Object.assign(new Subscription(id, { collection: "posts" }, sink), more);
    connection.add(subscription);
    return subscription;
  };
  const socket = async (number = 0) => {
    for (let turn = 0; sockets.length <= number && turn < 1000; turn += 1) await wait(1);
    assert.ok(sockets.length > number, "no other connection was opened");
    return sockets[number];
  };
  return { connection, sockets, socket, subscribe, states, errors };
}

test("the token goes in the first message, never in the address, and all questions in the second", async (context) => {
  const { socket, subscribe } = scene(context);
  for (const id of ["a", "b"]) subscribe(id);
  const one = await socket();
  assert.equal(one.url, "ws://data.example.com/base/api/v1/realtime/ws");
  assert.deepEqual(one.protocols, ["snackbase.v1"]);
  await one.open();
  assert.deepEqual(one.sent, [
    { action: "auth", token: TOKEN },
    {
      action: "subscribe",
      subscriptions: [
        { id: "a", collection: "posts" },
        { id: "b", collection: "posts" },
      ],
    },
  ]);
});

test("a heartbeat during the replay of one moves the place of no other", async (context) => {
  const { socket, subscribe } = scene(context);
  const live = subscribe("live");
  const one = await socket();
  await one.open();
  one.tell({ type: "subscribed", id: "live", position: "p50" });
  const late = subscribe("late", { wants: "since", cursor: "p10" });
  await wait();
  one.tell({ type: "subscribed", id: "late", position: "p10" });
  one.tell({ type: "heartbeat", position: "p20" });
  assert.deepEqual([live.cursor, late.cursor], ["p50", "p10"]);
  one.tell({ type: "caught_up", id: "late", subscription: "late", position: "p60" });
  one.tell({ type: "heartbeat", position: "p61" });
  assert.deepEqual([live.cursor, late.cursor], ["p61", "p61"]);
});

test("what an earlier subscription of a name is still told is not taken for the answer to its successor", async (context) => {
  const { connection, socket, subscribe, errors } = scene(context);
  subscribe("other");
  const one = await socket();
  await one.open();
  one.tell({ type: "subscribed", id: "other", position: "p1" });
  const seen = [];
  const follow = async (wants) => {
    const subscription = subscribe("list", { wants, cursor: "p1" });
    subscription.sink.page = (records) => seen.push(...records);
    await wait();
    return subscription;
  };
  for (const wants of ["snapshot", "since"]) connection.remove(await follow(wants));
  await follow("snapshot");
  one.tell({ type: "subscribed", id: "list", position: "p2" });
  one.tell({ type: "snapshot", id: "list", subscription: "list", data: ["of the first"], complete: true });
  one.tell({ type: "error", id: "list", code: "forbidden", message: "to the second" });
  assert.deepEqual(seen, []);
  one.tell({ type: "subscribed", id: "list", position: "p3" });
  one.tell({ type: "snapshot", id: "list", subscription: "list", data: ["of the third"], complete: true });
  assert.deepEqual(seen, ["of the third"]);
  assert.deepEqual(errors, []);
});

test("a heartbeat moves those who are told of the past together, from the same place", async (context) => {
  const { socket, subscribe } = scene(context);
  const all = ["a", "b"].map((id) => subscribe(id, { wants: "since", cursor: "p10" }));
  const one = await socket();
  await one.open();
  for (const id of ["a", "b"]) one.tell({ type: "subscribed", id, position: "p10" });
  one.tell({ type: "heartbeat", position: "p20" });
  assert.deepEqual(all.map(({ cursor }) => cursor), ["p20", "p20"]);
});

test("it comes back with every cursor after a break, and not before the server said", async (context) => {
  const { socket, subscribe, states } = scene(context);
  subscribe("a");
  const one = await socket();
  await one.open();
  one.tell({ type: "subscribed", id: "a", position: "p1" });
  one.tell({ type: "heartbeat", position: "p2" });
  one.tell({ type: "closing", code: "restarting", close_code: 1012, retry: true, retry_after_ms: 40 });
  one.end(1012);
  assert.equal(states.at(-1).retryInMs, 40);
  assert.equal(states.at(-1).error.code, "restarting");
  const two = await socket(1);
  await two.open();
  assert.equal(two.sent[1].subscriptions[0].since, "p2");
});

for (const code of [4500, 4503, 4504, 4505, 4506]) {
  test(`after ${code} it stops until the app acts`, async (context) => {
    const { connection, socket, sockets, subscribe, states, errors } = scene(context, {
      tokens: { token: TOKEN, getToken: () => assert.fail("no token helps") },
    });
    subscribe("a");
    const one = await socket();
    await one.open();
    one.end(code, "the_reason");
    await wait(20);
    assert.equal(states.at(-1).state, "stopped");
    assert.deepEqual(errors, ["the_reason"]);
    assert.equal(sockets.length, 1);
    connection.reconnect();
    await socket(1);
  });
}

test("a refused token is replaced once, and once again only after one has worked", async (context) => {
  let asked = 0;
  const { socket, subscribe, states } = scene(context, { tokens: { getToken: () => `token-${(asked += 1)}` } });
  subscribe("a");
  await (await socket(0)).open();
  (await socket(0)).end(4502);
  await (await socket(1)).open();
  (await socket(1)).end(4502);
  const three = await socket(2);
  three.readyState = 1;
  three.onopen();
  three.tell({ type: "error", action: "auth", code: "token_invalid", message: "no" });
  three.end(4501);
  await wait(10);
  assert.equal(states.at(-1).state, "stopped");
  assert.equal(asked, 3);
});

test("an answer of `getToken` that comes too late opens nothing", async (context) => {
  let answer;
  const getToken = () => new Promise((resolve) => (answer = resolve));
  const { connection, sockets, subscribe } = scene(context, { tokens: { getToken } });
  subscribe("a");
  await wait();
  connection.close();
  answer("late");
  await wait();
  assert.deepEqual(sockets, []);
});

test("nothing but JSON ends the connection and is said", async (context) => {
  const { socket, subscribe, states } = scene(context);
  subscribe("a");
  const one = await socket();
  await one.open();
  one.onmessage({ data: "<html>" });
  assert.equal(states.at(-1).error.code, "protocol_error");
});

test("a server that warns of every token at once is not asked for one token after another", async (context) => {
  let asked = 0;
  const { socket, subscribe } = scene(context, { tokens: { getToken: () => ((asked += 1), TOKEN) } });
  subscribe("a");
  const one = await socket();
  await one.open();
  for (let n = 0; n < 5; n += 1) {
    one.tell({ type: "auth", status: "expiring" });
    await wait();
    one.tell({ type: "auth", status: "ok" });
  }
  assert.equal(asked, 2);
});
