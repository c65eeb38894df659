// Drives one page of a real Chromium for the Python tests: a JSON command a line in, JSON events a line out.
//
// argv[2] is a JSON object: executable, url, html (null: the URL is really fetched), headers.
// Commands: {"id", "evaluate": text}, the body of an async function that runs in the page; {"id", "goto": url}; and
// {"id", "act": [name, ...arguments]}, a method of Playwright's page (fill, click, press, reload, waitForSelector).
// Events: {"event": "ready" | "report" | "console" | "page_error" | "result" | "failed"}; in the page `report(value)` sends one.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

import { chromium } from "playwright-core";

const job = JSON.parse(process.argv[2]);
const say = (event) => process.stdout.write(`${JSON.stringify(event)}\n`);
const profile = await mkdtemp(join(tmpdir(), "snackbase-browser-"));
let context;

async function run(page, command) {
  try {
    if (command.goto !== undefined) {
      await page.goto(command.goto);
      say({ event: "result", id: command.id, value: null });
      return;
    }
    if (command.act !== undefined) {
      const [name, ...values] = command.act;
      await page[name](...values);
      say({ event: "result", id: command.id, value: null });
      return;
    }
    const value = await page.evaluate(`(async () => {${command.evaluate}\n})()`);
    say({ event: "result", id: command.id, value: value ?? null });
  } catch (error) {
    say({ event: "failed", id: command.id, message: String(error?.message ?? error) });
  }
}

try {
  context = await chromium.launchPersistentContext(profile, {
    executablePath: job.executable,
    headless: true,
    chromiumSandbox: false,
    args: [
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      "--disable-dev-shm-usage",
    ],
  });
  const page = context.pages()[0] ?? (await context.newPage());
  page.on("console", (message) => say({ event: "console", level: message.type(), text: message.text() }));
  page.on("pageerror", (error) => say({ event: "page_error", text: String(error) }));
  await page.exposeFunction("report", (value) => say({ event: "report", value: value ?? null }));
  if (job.html !== null) {
    await page.route(job.url, (route) => route.fulfill({ contentType: "text/html", body: job.html }));
  }
  await page.goto(job.url);
  say({ event: "ready" });
  const running = new Set();
  for await (const line of createInterface({ input: process.stdin })) {
    const task = run(page, JSON.parse(line)).finally(() => running.delete(task));
    running.add(task);
  }
} catch (error) {
  say({ event: "failed", id: null, message: String(error?.stack ?? error) });
  process.exitCode = 1;
} finally {
  await context?.close();
  await rm(profile, { recursive: true, force: true, maxRetries: 5 });
}
