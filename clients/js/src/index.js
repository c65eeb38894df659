// SnackBase from JavaScript: records over REST, events and live lists over one realtime connection. Browsers and Node.

import { Connection } from "./connection.js";
import { Emitter } from "./emitter.js";
import { SnackBaseError } from "./errors.js";
import { Feed } from "./feed.js";
import { Http } from "./http.js";
import { LiveQuery } from "./live-query.js";
import { Records } from "./records.js";
import { Tokens } from "./tokens.js";

export { SnackBaseError };

const KNOWN = new Set([
  "url",
  "token",
  "getToken",
  "account",
  "transport",
  "WebSocket",
  "fetch",
  "reconnect",
  "timeoutMs",
]);
const ID = /^[A-Za-z0-9_-]{1,64}$/;

/** @param {import("./index.js").ClientOptions} [options] */
export function createClient(options) {
  return new Client(options);
}

/** Events: state ({ state, transport, retryInMs, error }), error (SnackBaseError). */
export class Client extends Emitter {
  #tokens;
  #http;
  #connection;
  #feeds = new Set();
  #count = 0;

  constructor(options = {}) {
    super();
    for (const name of Object.keys(options)) {
      if (!KNOWN.has(name)) throw new TypeError(`createClient has no option ${name}; its options are ${[...KNOWN].join(", ")}.`);
    }
    const { url, token, getToken, account = null, transport = "auto", reconnect, timeoutMs } = options;
    const base = baseOf(url);
    const fetch = options.fetch ?? globalThis.fetch?.bind(globalThis);
    if (typeof fetch !== "function") throw new TypeError("There is no global fetch here: give one with the option fetch.");
    this.#tokens = new Tokens({ token, getToken });
    this.#http = new Http({ url: base, fetch, tokens: this.#tokens, account, timeoutMs });
    this.#connection = new Connection({
      url: base,
      account,
      tokens: this.#tokens,
      transport,
      WebSocket: options.WebSocket ?? globalThis.WebSocket,
      fetch,
      reconnect,
    });
    this.#connection.on("state", (state) => this.emit("state", state));
    this.#connection.on("error", (error) => this.#bubble(error));
  }

  /** idle, connecting, open, waiting, stopped or closed. */
  get state() {
    return this.#connection.state;
  }

  /** websocket or sse; null before the first connection. */
  get transport() {
    return this.#connection.transport;
  }

  records(collection) {
    return new Records(this.#http, collection);
  }

  subscribe(collection, options = {}, handlers = undefined) {
    /** @type {[any, any]} */
    const [asked, told] = typeof options === "function" ? [{}, options] : [options, handlers];
    const feed = new Feed({
      connection: this.#connection,
      id: this.#idOf(asked.id),
      collection,
      options: asked,
      handlers: told,
      bubble: (error) => this.#bubble(error),
      closed: (one) => this.#feeds.delete(one),
    });
    this.#feeds.add(feed);
    return feed;
  }

  /** @param {import("./index.js").LiveQueryOptions} [query] */
  liveQuery(collection, query = {}) {
    const live = new LiveQuery({
      connection: this.#connection,
      records: this.records(collection),
      id: this.#idOf(query.id),
      collection,
      query,
      bubble: (error) => this.#bubble(error),
      closed: (one) => this.#feeds.delete(one),
    });
    this.#feeds.add(live);
    return live;
  }

  /** Another token: taken over in place, or used to come back after a stop. */
  setToken(token) {
    this.#tokens.set(token);
    this.#connection.tokenChanged();
  }

  /** Try again now, also after `stopped`. */
  reconnect() {
    this.#connection.reconnect();
  }

  /** End everything. */
  close() {
    for (const feed of [...this.#feeds]) {
      if (feed instanceof LiveQuery) feed.close();
      else feed.unsubscribe();
    }
    this.#connection.close();
  }

  #idOf(id) {
    if (id === undefined) return `c${(this.#count += 1)}`;
    if (!ID.test(id)) throw new TypeError("A subscription's id is 1 to 64 of A-Z a-z 0-9 _ -.");
    return id;
  }

  #bubble(error) {
    if (!this.emit("error", error)) console.error("SnackBase:", error.code, error.message);
  }
}

/** The server's address without a path at its end; a page may leave out its own. */
function baseOf(url) {
  const given = url ?? globalThis.location?.origin;
  let address;
  try {
    address = new URL(given, globalThis.location?.href);
  } catch {
    throw new TypeError("url has to be the server's address, such as https://data.example.com.");
  }
  if (!/^https?:$/.test(address.protocol)) throw new TypeError("url has to begin with http:// or https://.");
  if (address.username || address.password || address.search) throw new TypeError("url must have neither a user nor a query.");
  return (address.origin + address.pathname).replace(/\/+$/, "");
}
