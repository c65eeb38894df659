import assert from "node:assert/strict";
import { test } from "node:test";

import { Records } from "../src/records.js";

test("every page is asked for with the filter as it was given, and begins where the one before ended", async () => {
  const asked = [];
  const answers = [
    { items: [{ id: "a" }], next_cursor: "after a" },
    { items: [{ id: "b" }], next_cursor: null },
  ];
  const request = async (_method, path) => {
    asked.push(new URL(path, "http://x").searchParams);
    return answers.shift();
  };
  const filter = "n = 1 || ".repeat(200) + "n = 2";
  const found = [];
  for await (const page of new Records({ request }, "posts").pages({ filter })) found.push(...page.items);
  assert.deepEqual(found, [{ id: "a" }, { id: "b" }]);
  assert.deepEqual(asked.map((one) => one.get("filter")), [filter, filter]);
  assert.deepEqual(asked.map((one) => one.get("cursor")), [null, "after a"]);
});
