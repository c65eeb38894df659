// Clients in JavaScript, for Node and for a page: live queries of the project's own client, and lists over a browser's
// EventSource as an app would keep them by hand. Each tells what it holds when it is asked.

const SILENCE_MS = 5000;
const AGAIN_MS = 700;

async function login({ base, person }) {
  const answer = await fetch(`${base}/api/v1/auth/login`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(person),
    signal: AbortSignal.timeout(10_000),
  });
  if (!answer.ok) throw new Error(`login: ${answer.status}`);
  return (await answer.json()).token;
}

// A list of the project's client ---------------------------------------------------------------------------------------

export class Query {
  constructor({ base, spec, createClient, WebSocket }) {
    this.name = spec.name;
    this.story = [];
    this.client = createClient({
      url: base,
      getToken: ({ reason }) => {
        this.note(`login ${reason}`);
        return login({ base, person: spec.person });
      },
      transport: spec.transport,
      reconnect: { minMs: 100, maxMs: 1500 },
      WebSocket,
    });
    this.client.on("state", ({ state, transport, error }) => this.note(`client ${state} ${transport} ${error?.code ?? ""}`));
    this.client.on("error", (error) => this.note(`client error ${error.code}`));
    const { filter, fields } = spec;
    this.list = this.client.liveQuery(spec.collection, { filter: filter ?? undefined, fields: fields ?? undefined, sort: "id" });
    this.list.on("state", ({ state, error }) => this.note(`list ${state} ${error?.code ?? ""}`));
    this.list.on("error", (error) => this.note(`list error ${error.code}`));
    // What was refused is asked for again now and then: somebody may have opened the door.
    setInterval(() => {
      if (this.list.state === "failed") this.list.retry();
      if (this.client.state === "stopped") this.client.reconnect();
    }, AGAIN_MS);
  }

  note(text) {
    this.story.push(text);
    if (this.story.length > 40) this.story.shift();
  }

  held() {
    const { state, records } = this.list;
    const settled = state === "live" || state === "failed";
    return { name: this.name, settled, refused: state === "failed", cursor: null, records, story: this.story };
  }
}

// A list over EventSource ----------------------------------------------------------------------------------------------

export class Source {
  constructor({ base, spec }) {
    this.base = base;
    this.spec = spec;
    this.name = spec.name;
    this.story = [];
    this.records = new Map();
    this.state = "new";
    this.cursor = null;
    this.token = null;
    this.open();
    setInterval(() => {
      if (this.source && performance.now() - this.heardAt > SILENCE_MS) this.again("silence", 0);
    }, 500);
  }

  note(text) {
    this.story.push(text);
    if (this.story.length > 60) this.story.shift();
  }

  async open() {
    this.filling = null;
    this.transaction = [];
    try {
      if (this.token === null) this.note("login");
      this.token ??= await login({ base: this.base, person: this.spec.person });
      const status = await this.status();
      if (status === 401) this.token = null;
      if (status === 400 || status === 403 || status === 404) {
        this.state = "refused";
        this.cursor = null;
        this.records = new Map();
      }
      if (status !== 200) return this.again(`answer ${status}`, AGAIN_MS);
    } catch (error) {
      return this.again(String(error), AGAIN_MS);
    }
    this.state = "catching up";
    const { collection, filter, fields, name } = this.spec;
    const asked = { collection, id: name, ...(filter ? { filter } : {}), ...(fields ? { fields } : {}) };
    const from = this.cursor === null ? { snapshot: true } : { since: this.cursor };
    const query = new URLSearchParams({ token: this.token, subscription: JSON.stringify({ ...asked, ...from }) });
    const source = new EventSource(`${this.base}/api/v1/realtime/subscribe?${query}`);
    this.source = source;
    this.heardAt = performance.now();
    source.onmessage = (event) => {
      if (source !== this.source) return;
      this.heardAt = performance.now();
      this.take(JSON.parse(event.data), event.lastEventId);
    };
    source.onopen = () => {
      this.heardAt = performance.now();
      this.transaction = [];
    };
    source.onerror = () => {
      if (source !== this.source) return;
      this.state = "catching up";
      this.transaction = [];
      this.filling = null;
      // A browser comes back by itself, except after any status but 200: a dead token, or something that cannot be had.
      if (source.readyState === EventSource.CLOSED) this.again("closed for good", 200);
      else this.note("reconnects by itself");
    };
  }

  // What GET answers to the same question: an EventSource never tells why it was refused.
  async status() {
    const { collection, filter, fields } = this.spec;
    const query = new URLSearchParams({ limit: "1", ...(filter ? { filter } : {}), ...(fields ? { fields } : {}) });
    const headers = { authorization: `Bearer ${this.token}` };
    const answer = await fetch(`${this.base}/api/v1/records/${collection}?${query}`, { headers, signal: AbortSignal.timeout(10_000) });
    return answer.status;
  }

  again(why, afterMs) {
    this.note(`again: ${why}`);
    this.source?.close();
    this.source = null;
    if (this.state !== "refused") this.state = "catching up";
    setTimeout(() => this.open(), afterMs);
  }

  take(message, lastId) {
    this.note(JSON.stringify(message).slice(0, 200));
    const { type } = message;
    if (lastId) this.cursor = lastId;
    if (type === "snapshot") {
      this.filling ??= new Map();
      for (const record of message.data) this.filling.set(record.id, record);
    } else if (type === "caught_up") {
      if (this.filling) this.records = this.filling;
      this.filling = null;
      this.state = "live";
    } else if (type === "resync") {
      this.cursor = null;
      this.again(`resync ${message.reason}`, 0);
    } else if (type === "unsubscribed") {
      this.cursor = null;
      this.state = "refused";
      this.records = new Map();
      this.again(`unsubscribed ${message.reason}`, AGAIN_MS);
    } else if (type.includes(".")) {
      this.transaction.push(message);
      if (this.transaction.length === (message.tx_size ?? 1)) this.apply(this.transaction.splice(0));
    }
  }

  // What is told between a snapshot's pages and `caught_up` belongs to the set that is being filled.
  apply(messages) {
    const records = this.filling ?? this.records;
    for (const { type, data } of messages) {
      if (type.endsWith(".delete")) records.delete(data.id);
      else records.set(data.id, data);
    }
  }

  held() {
    const settled = this.state === "live" || this.state === "refused";
    const { name, state, cursor, story } = this;
    return { name, settled, refused: state === "refused", cursor, records: [...this.records.values()], story };
  }
}

export function start({ base, specs, createClient, WebSocket }) {
  const lists = specs.map((spec) =>
    spec.transport === "eventsource" ? new Source({ base, spec }) : new Query({ base, spec, createClient, WebSocket }),
  );
  return () => lists.map((list) => list.held());
}
