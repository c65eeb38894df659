import assert from "node:assert/strict";
import { test } from "node:test";

import { comparator, compareValues, placeOf, sortKeys } from "../src/order.js";

test("a sort is read as the server reads it, with ties broken by id in the direction of the last", () => {
  assert.deepEqual(sortKeys(""), [
    { name: "created_at", down: true },
    { name: "id", down: true },
  ]);
  assert.deepEqual(sortKeys("-created_at, +title, title"), [
    { name: "created_at", down: true },
    { name: "title", down: false },
    { name: "id", down: false },
  ]);
  assert.deepEqual(sortKeys("-id"), [{ name: "id", down: true }]);
});

test("null comes first, false before true, and text goes by code point", () => {
  const sorted = [null, "", "Z", "a", "ab", "\u00e9", "\ue000", "\ufb01", "\u{10000}", "\u{1f600}"];
  const mixed = [...sorted].reverse();
  assert.deepEqual(mixed.sort(compareValues), sorted);
  assert.ok(compareValues(false, true) < 0);
  assert.ok(compareValues(-1.5, 0) < 0);
  assert.equal(compareValues(null, null), 0);
});

test("every record has one place, found without looking at all of them", () => {
  const compare = comparator(sortKeys("-stars,title"));
  const records = [];
  for (let n = 0; n < 200; n += 1) records.push({ id: String(n), stars: n % 7 || null, title: `t${n % 11}` });
  const list = [];
  for (const record of records) list.splice(placeOf(list, record, compare), 0, record);
  assert.deepEqual(list, [...records].sort(compare));
  for (const [at, record] of list.entries()) assert.equal(placeOf(list, record, compare), at);
});
