import assert from "node:assert/strict";
import { test } from "node:test";

import { eventStreamParser } from "../src/sse-parser.js";

function blocksOf(pieces) {
  const blocks = [];
  const parse = eventStreamParser((block) => blocks.push(block));
  for (const piece of pieces) parse(piece);
  return blocks;
}

const STREAM = 'retry: 1500\nid: p1\ndata: {"a":1}\n\n: a comment\n\nid\ndata:no space\ndata:  two\n\nevent: x\n\ndata: cut';
const BLOCKS = [
  { data: '{"a":1}', id: "p1" },
  { data: "no space\n two", id: "" },
];

test("blocks with data are told with their id; comments, empty blocks and unfinished ones are not", () => {
  assert.deepEqual(blocksOf([STREAM]), BLOCKS);
});

test("it does not matter where the pieces are cut, nor which line ends are used", () => {
  for (const end of ["\n", "\r\n", "\r"]) {
    const stream = STREAM.replaceAll("\n", end);
    for (let size = 1; size < 8; size += 1) {
      const pieces = stream.match(new RegExp(`[^]{1,${size}}`, "g"));
      assert.deepEqual(blocksOf(pieces), BLOCKS, `${JSON.stringify(end)} in pieces of ${size}`);
    }
  }
});
