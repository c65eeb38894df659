import assert from "node:assert/strict";
import { test } from "node:test";

import { Tokens } from "../src/tokens.js";

const jwt = (lifetime) => `x.${Buffer.from(JSON.stringify({ iat: 1000, exp: 1000 + lifetime })).toString("base64url")}.y`;

test("whoever needs a fresh token at the same time gets the same one", async () => {
  let asked = 0;
  const tokens = new Tokens({ token: "old", getToken: async () => `fresh-${(asked += 1)}` });
  assert.deepEqual(await Promise.all([tokens.renew("old", "x"), tokens.renew("old", "x")]), ["fresh-1", "fresh-1"]);
  assert.equal(await tokens.renew("old", "x"), "fresh-1", "somebody got one meanwhile");
  assert.equal(await tokens.renew("fresh-1", "x"), "fresh-2");
});

test("it is renewed 75 s before its end, a short one after 60 % of its life, by its own words and no clock", () => {
  const near = (token, seconds) => assert.ok(Math.abs(new Tokens({ token }).renewInMs() - seconds * 1000) < 1000);
  near(jwt(3600), 3525);
  near(jwt(60), 36);
  assert.equal(new Tokens({ token: "sb_an_api_key" }).renewInMs(), null);
  assert.ok(new Tokens({ token: jwt(1e9) }).renewInMs() < 2 ** 31);
});

test("nobody logged in and a broken app are told apart", async () => {
  await assert.rejects(new Tokens({}).get(), { code: "token_missing" });
  await assert.rejects(new Tokens({ getToken: () => null }).get(), { code: "token_missing" });
  const failing = new Tokens({
    getToken: () => {
      throw new Error("offline");
    },
  });
  await assert.rejects(failing.get(), { code: "network_error", message: "offline" });
});
