// Runs our own client in Node for the Python tests: a JSON command a line in, one JSON answer a line out.
//
// argv[2] is a JSON object: client (path of its index.js), scene (text of client-scene.js), common (options of every client).
// Commands: {"id", "evaluate": text}, the body of an async function with S, snackbase and WebSocket as its variables.
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

import WebSocket from "ws";

const job = JSON.parse(process.argv[2]);
const say = (event) => process.stdout.write(`${JSON.stringify(event)}\n`);
const snackbase = await import(pathToFileURL(job.client));
const openScene = new Function(`${job.scene}; return openScene;`)();
const S = openScene(snackbase, { WebSocket, ...job.common });
const AsyncFunction = (async () => {}).constructor;

process.on("uncaughtException", (error) => say({ event: "uncaught", message: String(error?.stack ?? error) }));
process.on("unhandledRejection", (error) => say({ event: "uncaught", message: String(error?.stack ?? error) }));
say({ event: "ready" });
for await (const line of createInterface({ input: process.stdin })) {
  const { id, evaluate } = JSON.parse(line);
  new AsyncFunction("S", "snackbase", "WebSocket", evaluate)(S, snackbase, WebSocket).then(
    (value) => say({ event: "result", id, value: value ?? null }),
    (error) => say({ event: "failed", id, message: String(error?.stack ?? error) }),
  );
}
for (const client of Object.values(S.clients)) client.close();
