import assert from "node:assert/strict";
import { test } from "node:test";

import { Backoff } from "../src/backoff.js";
import { Chooser } from "../src/chooser.js";

test("the ceiling doubles from 0.5 s to 30 s, and the wait is anywhere below it", () => {
  const latest = new Backoff({ random: () => 1 });
  assert.deepEqual(
    Array.from({ length: 9 }, () => latest.next()),
    [500, 1000, 2000, 4000, 8000, 16000, 30000, 30000, 30000],
  );
  assert.equal(new Backoff({ random: () => 0 }).next(), 0);
});

test("it never ends, and never waits for ever", () => {
  const backoff = new Backoff({ random: () => 1 });
  for (let turn = 0; turn < 5000; turn += 1) assert.ok(backoff.next() <= 30_000);
});

test("the server's own wish is the least it waits", () => {
  const backoff = new Backoff({ random: () => 0 });
  assert.equal(backoff.next(1830), 1830);
  assert.equal(new Backoff({ random: () => 1, minMs: 5000 }).next(10), 5000);
});

test("only a connection that was stable for 10 s makes the next failure a first one", () => {
  const backoff = new Backoff({ random: () => 1 });
  backoff.next();
  backoff.next();
  backoff.lived(9_999);
  assert.equal(backoff.next(), 2000);
  backoff.lived(10_000);
  assert.equal(backoff.next(), 500);
});

test("auto goes to an event stream after two failures, and back when that fails too", () => {
  const chooser = new Chooser("auto", true);
  const tried = [];
  for (let turn = 0; turn < 6; turn += 1) {
    tried.push(chooser.next());
    chooser.failed(tried.at(-1));
  }
  assert.deepEqual(tried, ["websocket", "websocket", "sse", "websocket", "sse", "websocket"]);
});

test("auto stays with the stream that worked where a WebSocket never did", () => {
  const chooser = new Chooser("auto", true);
  for (const transport of ["websocket", "websocket"]) chooser.failed(transport);
  chooser.worked(chooser.next());
  assert.equal(chooser.next(), "sse");
});

test("auto takes longer to doubt a WebSocket that worked before", () => {
  const chooser = new Chooser("auto", true);
  chooser.worked("websocket");
  const tried = [];
  for (let turn = 0; turn < 5; turn += 1) {
    tried.push(chooser.next());
    chooser.failed(tried.at(-1));
  }
  assert.deepEqual(tried, ["websocket", "websocket", "websocket", "websocket", "sse"]);
});

test("a transport that was chosen is kept, one that cannot be is refused", () => {
  const chooser = new Chooser("websocket", true);
  for (let turn = 0; turn < 6; turn += 1) chooser.failed("websocket");
  assert.equal(chooser.next(), "websocket");
  assert.equal(new Chooser("auto", false).next(), "sse");
  assert.throws(() => new Chooser("websocket", false), TypeError);
  assert.throws(() => new Chooser("carrier pigeon", true), TypeError);
});
