// What the tests of our own client share, in a page as in Node. It is put in front of a script, so it is no module.
//
// It follows live queries and notes every list they ever showed, so that a test can say what may never be shown.

function openScene(snackbase, common) {
  const PATIENCE_MS = 30000;
  const waiting = new Set();
  const look = () => {
    for (const one of [...waiting]) {
      if (!one.test()) continue;
      waiting.delete(one);
      clearTimeout(one.timer);
      one.resolve();
    }
  };
  const plain = (error) => ({ code: error.code, status: error.status, closeCode: error.closeCode });

  const S = {
    clients: {},
    queries: {},
    feeds: {},
    states: [],
    errors: [],
    tokens: [],
    beats: 0,
    until(test, what) {
      return new Promise((resolve, reject) => {
        const timer = setTimeout(() => {
          const told = { states: S.states.slice(-8), errors: S.errors.slice(-8), queries: S.summary() };
          reject(new Error(`never came: ${what ?? test}; ${JSON.stringify(told)}`));
        }, PATIENCE_MS);
        waiting.add({ test, resolve, timer });
        look();
      });
    },
    look,
    summary() {
      return Object.entries(S.queries).map(([name, one]) => [name, one.live.state, one.live.records.length]);
    },
    client(options = {}, name = "main") {
      const made = snackbase.createClient({ ...common, reconnect: { minMs: 50, maxMs: 400 }, ...options });
      made.on("state", ({ state, transport, error }) => {
        S.states.push({ state, transport, error: error && plain(error) });
        look();
      });
      made.on("error", (error) => {
        S.errors.push(plain(error));
        look();
      });
      S.clients[name] = made;
      return made;
    },
    follow(name, collection, query = {}, client = "main") {
      const live = S.clients[client].liveQuery(collection, query);
      const one = { live, shown: [], states: [] };
      live.on("change", ({ records }) => {
        one.shown.push(records.map((record) => [record.id, record.updated_at, record.title ?? null]));
        look();
      });
      live.on("state", ({ state, error }) => {
        one.states.push(error ? `${state}:${error.code}` : state);
        look();
      });
      S.queries[name] = one;
      const standing = live.ready.then(() => null);
      // A test that does not wait for it looks at the states.
      standing.catch(() => {});
      return standing;
    },
    // Until the list is exactly this one, in this order, and live.
    same(name, records) {
      const wanted = JSON.stringify(records);
      const { live } = S.queries[name];
      const sorted = (record) => Object.fromEntries(Object.entries(record).sort());
      return S.until(() => live.state === "live" && JSON.stringify(live.records.map(sorted)) === wanted, `${name} = ${wanted}`);
    },
    reaches(name, state) {
      return S.until(() => S.queries[name].live.state === state, `${name} ${state}`);
    },
    listen(name, collection, options = {}, client = "main") {
      const heard = [];
      const note = (kind) => (value) => {
        heard.push([kind, value]);
        look();
      };
      const kinds = ["event", "transaction", "subscribed", "caughtUp", "resync", "unsubscribed", "error"];
      const feed = S.clients[client].subscribe(collection, options, Object.fromEntries(kinds.map((kind) => [kind, note(kind)])));
      S.feeds[name] = { feed, heard };
      return feed.ready.then(() => null);
    },
    heard(name, kind, count = 1) {
      const { heard } = S.feeds[name];
      const all = () => heard.filter((one) => one[0] === kind).map((one) => one[1]);
      return S.until(() => all().length >= count, `${count} ${kind}`).then(all);
    },
    // A WebSocket and a fetch that count the heartbeats passing through them.
    counting(WebSocket) {
      const count = (text) => {
        S.beats += text.split('"heartbeat"').length > 1 ? 1 : 0;
        look();
      };
      const decoder = new TextDecoder();
      return {
        WebSocket: class extends WebSocket {
          constructor(...given) {
            super(...given);
            this.addEventListener("message", (event) => count(event.data));
          }
        },
        fetch: async (...given) => {
          const answer = await fetch(...given);
          const counted = new TransformStream({
            transform(chunk, onward) {
              count(decoder.decode(chunk, { stream: true }));
              onward.enqueue(chunk);
            },
          });
          return new Response(answer.body?.pipeThrough(counted), { status: answer.status, headers: answer.headers });
        },
      };
    },
    connected: (name = "main") => S.until(() => S.clients[name].state === "open", `${name} open`),
  };
  return S;
}
