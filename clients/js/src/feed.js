// A plain subscription: events to the app's handlers, as they come. It keeps its place over reconnects and keeps no list.

import { call } from "./emitter.js";
import { Backoff } from "./backoff.js";
import { SnackBaseError } from "./errors.js";
import { Subscription } from "./subscription.js";

/** What `client.subscribe` returns. */
export class Feed {
  #connection;
  #subscription;
  #handlers;
  #bubble;
  #closed;
  #backoff = new Backoff();
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #retry = undefined;
  #settle;
  #ready;

  constructor({ connection, id, collection, options, handlers, bubble, closed }) {
    const { operations, filter, fields, since } = options;
    if (since !== undefined && since !== null && typeof since !== "string") throw new TypeError("since is a text.");
    this.#connection = connection;
    this.#handlers = typeof handlers === "function" ? { event: handlers } : (handlers ?? {});
    this.#bubble = bubble;
    this.#closed = () => closed(this);
    this.#ready = new Promise((resolve, reject) => {
      this.#settle = { resolve, reject };
    });
    this.#ready.catch(() => {});
    this.#subscription = new Subscription(id, { collection, operations, filter, fields }, this.#sink());
    if (since) {
      this.#subscription.cursor = since;
      this.#subscription.wants = "since";
    }
    connection.add(this.#subscription);
  }

  get id() {
    return this.#subscription.id;
  }

  get collection() {
    return this.#subscription.collection;
  }

  /** Everything up to here was handed to the handlers; `since` of a later subscription goes on from it. */
  get position() {
    return this.#subscription.cursor;
  }

  /** Resolves when the server acknowledged it for the first time. */
  get ready() {
    return this.#ready;
  }

  /** After an error or `unsubscribed`: the app knows that something is different now. */
  retry() {
    if (this.#subscription.wants !== "nothing") return;
    this.#subscription.wants = this.#subscription.cursor === null ? "live" : "since";
    this.#connection.add(this.#subscription);
  }

  unsubscribe() {
    clearTimeout(this.#retry);
    this.#connection.remove(this.#subscription);
    this.#closed();
    this.#settle.reject(new SnackBaseError("closed", "The subscription was ended by unsubscribe().", { collection: this.collection }));
  }

  #sink() {
    return {
      subscribed: () => {
        this.#backoff.reset();
        this.#settle.resolve(this);
        this.#tell("subscribed", { position: this.position });
      },
      events: (events) => this.#events(events),
      caughtUp: () => this.#tell("caughtUp", { position: this.position }),
      resync: (reason, position) => this.#tell("resync", { reason, position }),
      ended: (reason) => {
        this.#connection.remove(this.#subscription);
        if (!this.#tell("unsubscribed", { reason })) {
          this.#bubble(new SnackBaseError(reason, `The server ended the subscription: ${reason}.`, { collection: this.collection }));
        }
      },
      failed: (error) => this.#failed(error),
    };
  }

  #events(events) {
    for (const event of events) {
      const operation = event.type.slice(event.type.indexOf(".") + 1);
      this.#tell("event", event);
      this.#tell(operation, event.data, event);
    }
    this.#tell("transaction", events);
  }

  #failed(error) {
    if (error.transient) {
      this.#subscription.wants = this.#subscription.cursor === null ? "live" : "since";
      this.#retry = setTimeout(() => this.#connection.ask(this.#subscription), this.#backoff.next(500));
    } else {
      this.#connection.remove(this.#subscription);
      this.#settle.reject(error);
    }
    if (!this.#tell("error", error)) this.#bubble(error);
  }

  #tell(name, ...values) {
    const handler = this.#handlers[name];
    if (typeof handler !== "function") return false;
    call(handler, ...values);
    return true;
  }
}
