// Compiled and never run: what an app may write has to be accepted, and what it may not, refused.
import { createClient, SnackBaseError, type Client, type LiveQuery, type RecordEvent } from "../../clients/js/src/index.js";

interface Post {
  title: string;
  stars: number | null;
}

const client: Client = createClient({
  url: "https://data.example.com",
  getToken: async ({ fresh, reason }) => (fresh && reason === "token_revoked" ? null : "token"),
  transport: "auto",
  WebSocket: class {},
});

const live: LiveQuery<Post> = client.liveQuery<Post>("posts", { filter: "stars > 1", fields: ["title"], sort: "-stars" });
const stop: () => void = live.on("change", ({ records, changes }) => {
  const titles: string[] = records.map((record) => record.title.toUpperCase() + record.id);
  for (const { operation, record } of changes ?? []) if (operation === "delete") titles.push(record.created_at);
});
live.on("state", ({ state, error }) => {
  if (state === "failed") throw error as SnackBaseError;
});
live.ready.then((ready) => ready.records.length);
// @ts-expect-error the array that is given out never changes
live.records.push({});
// @ts-expect-error no such event
live.on("changes", () => {});

client.subscribe<Post>("posts", { operations: ["create"], since: "p" }, {
  create: (record, event: RecordEvent<Post>) => record.stars === event.data.stars,
  resync: ({ reason }) => reason === "expired",
});
client.subscribe("posts", (event) => event.data.id);
// @ts-expect-error no such operation
client.subscribe("posts", { operations: ["upsert"] }, {});
// @ts-expect-error no such option
createClient({ url: "x", tokn: "y" });

async function write(): Promise<void> {
  const posts = client.records<Post>("posts");
  const { id } = await posts.create({ title: "x" }, { idempotencyKey: "k" });
  await posts.batch.update([{ id, data: { stars: 3 } }]);
  const { items, position } = await posts.list({ sort: "title", total: false });
  for await (const page of posts.pages()) items.push(...page.items);
  // @ts-expect-error a title is a text
  await posts.update(id, { title: 3 });
  client.subscribe("posts", { since: position }, {});
  stop();
}
client.on("error", (error) => error.code === "token_revoked" && write());
