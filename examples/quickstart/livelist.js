/** Keeps the tokens of one login fresh. `login` is what /auth/login answered. */
export class Tokens {
  constructor(server, login) {
    this.server = server;
    this.login = login;
  }

  get access() {
    return this.login.token;
  }

  /** A fresh access token. Two callers at once share one request: a refresh token works only once. */
  refresh() {
    this.refreshing ??= this.renew().finally(() => (this.refreshing = null));
    return this.refreshing;
  }

  async renew() {
    const answer = await fetch(`${this.server}/auth/refresh`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ refresh_token: this.login.refresh_token }),
    });
    if (!answer.ok) throw new Error("log in again");
    this.login = await answer.json();
    return this.login.token;
  }
}

/** The records of a collection, kept current. `show` gets all of them after every change. */
export class LiveList {
  constructor(server, collection, tokens, show) {
    this.server = server;
    this.collection = collection;
    this.tokens = tokens;
    this.show = show;
    this.records = new Map();
    this.position = null; // the list is complete up to here; null = the whole list is needed
    this.tries = 0;
  }

  open() {
    const url = `${this.server.replace(/^http/, "ws")}/realtime/ws`;
    const socket = (this.socket = new WebSocket(url, ["snackbase.v1"]));
    this.subscribed = false;
    this.pause = null;
    socket.onopen = () => this.send({ action: "auth", token: this.tokens.access });
    socket.onmessage = ({ data }) => this.receive(JSON.parse(data));
    socket.onclose = ({ code }) => this.ended(code);
    socket.onerror = () => {}; // onclose follows; npm's ws throws when nobody listens
    this.expectSomething();
  }

  close() {
    this.closed = true;
    clearTimeout(this.silence);
    this.socket.close();
  }

  receive(message) {
    this.expectSomething();
    const { type, data, position } = message;
    if (type === "auth") this.authenticated(message.status);
    else if (type === "snapshot") this.take(data, message.complete);
    else if (type === "resync") this.subscribe(null);
    else if (type === "closing") this.pause = message.retry_after_ms;
    else if (type === "error") console.warn(message.code, message.message);
    else if (type.startsWith(`${this.collection}.`)) this.apply(type, data);
    if (type === "caught_up") this.tries = 0;
    // An event inside a transaction has no position; before the list is whole, none counts.
    if (position && !this.incoming && type !== "subscribed") this.position = position;
  }

  async authenticated(status) {
    if (status === "expiring") {
      this.send({ action: "auth", token: await this.tokens.refresh() });
    } else if (!this.subscribed) {
      this.subscribed = true;
      this.subscribe(this.position);
    }
  }

  /** Everything since a position, or with null the whole list first. */
  subscribe(since) {
    this.incoming = since ? null : new Map();
    if (!since) this.position = null;
    const begin = since ? { since } : { snapshot: true };
    this.send({ action: "subscribe", collection: this.collection, ...begin });
  }

  /** One page of the whole list; what was shown so far stays until it is complete. */
  take(records, complete) {
    if (!this.incoming) return;
    for (const record of records) this.incoming.set(record.id, record);
    if (!complete) return;
    this.records = this.incoming;
    this.incoming = null;
    this.show([...this.records.values()]);
  }

  apply(type, record) {
    if (this.incoming) return; // the new list will hold it
    if (type.endsWith(".delete")) this.records.delete(record.id);
    else this.records.set(record.id, record);
    this.show([...this.records.values()]);
  }

  send(message) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }

  /** Heartbeats come twice a minute. A minute of silence means that the connection is dead. */
  expectSomething() {
    clearTimeout(this.silence);
    this.silence = setTimeout(() => this.socket.close(), 60_000);
  }

  async ended(code) {
    clearTimeout(this.silence);
    if (this.closed) return;
    if (code >= 4500) {
      console.error(`the server said ${code}: coming back would change nothing`);
      return;
    }
    const longest = Math.min(30_000, 500 * 2 ** this.tries);
    this.tries += 1;
    if (code === 4001) await this.tokens.refresh();
    setTimeout(() => this.open(), this.pause ?? Math.random() * longest);
  }
}
