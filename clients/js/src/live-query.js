// A list that stays current: at every moment it is what the server's list was at some moment, and it only moves forward.
//
// Whole transactions are applied, in commit order. What is told of the past (after a break, or between a snapshot and
// the present) is applied to a copy, and the copy is shown when it has caught up: should the server repeat changes that
// are known already, nobody sees the list go back. A set too large for a snapshot is read page by page; every change
// since the first page is then applied over it, and it is shown once the stream has passed the last page, when what the
// pages saw of different moments has been made one moment again.

import { Backoff, pause } from "./backoff.js";
import { Emitter } from "./emitter.js";
import { SnackBaseError, asError } from "./errors.js";
import { comparator, placeOf, sortKeys } from "./order.js";
import { Subscription } from "./subscription.js";

const SNAPSHOT_PAGE = 500;
const CALM_MS = 10_000;

/** Events: change ({ records, changes }), state ({ state, error }), error (SnackBaseError). */
export class LiveQuery extends Emitter {
  /** @type {"loading" | "live" | "catching_up" | "failed" | "closed"} */
  state = "loading";

  #connection;
  #records;
  #bubble;
  #closed;
  #subscription;
  #compare;
  #shown = new Map();
  #order = [];
  /** @type {readonly any[] | null} */
  #view = null;
  /** @type {Map<string, any> | null} the copy that is being brought up to the present */
  #next = null;
  #everLive = false;
  /** @type {AbortController | null} */
  #paging = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #asksAgain = undefined;
  #askedAgainAt = -Infinity;
  #backoff = new Backoff();
  #ready;
  #settle;
  #query;
  #only;

  /**
   * @param {{ connection: import("./connection.js").Connection, records: import("./records.js").Records,
   *   id: string, collection: string, query: { filter?: string, fields?: string[] | string, sort?: string },
   *   bubble: (error: SnackBaseError) => void, closed: (query: LiveQuery) => void }} options
   */
  constructor({ connection, records, id, collection, query, bubble, closed }) {
    super();
    const { filter, fields, sort } = query;
    const keys = sortKeys(sort);
    const only = fieldNames(fields);
    this.#connection = connection;
    this.#records = records;
    this.#bubble = bubble;
    this.#closed = () => closed(this);
    this.#compare = comparator(keys);
    this.#only = only;
    // A record can only be put in its place by what is known of it.
    const asked = only === null ? undefined : [...new Set([...only, ...keys.map((key) => key.name)])];
    this.#query = { filter: filter || undefined, fields: asked };
    this.#promise();
    this.#subscription = new Subscription(id, { collection, ...this.#query }, this.#sink(), { sort, limit: SNAPSHOT_PAGE });
    this.#subscription.wants = "snapshot";
    this.collection = collection;
    connection.add(this.#subscription);
  }

  /** The records in order; an array that never changes, another one after each change. */
  get records() {
    this.#view ??= Object.freeze(this.#order.map((record) => this.#cut(record)));
    return this.#view;
  }

  /** Resolves with the query when the list stands for the first time (after `retry`: again); rejects when it cannot. */
  get ready() {
    return this.#ready;
  }

  /** Try again after `failed`: the app knows that something is different now. */
  retry() {
    if (this.state !== "failed") return;
    this.#promise();
    this.#everLive = false;
    this.#begin("snapshot");
    this.#become("loading");
    this.#connection.add(this.#subscription);
  }

  close() {
    if (this.state === "closed") return;
    this.#stopWork();
    this.#connection.remove(this.#subscription);
    this.#closed();
    this.#become("closed");
    this.#settle.reject(new SnackBaseError("closed", "The live query was closed.", { collection: this.collection }));
  }

  // What the subscription tells ---------------------------------------------------------------------------------------

  #sink() {
    return {
      page: (records, complete) => this.#page(records, complete),
      events: (events) => this.#apply(events),
      caughtUp: () => this.#caughtUp(),
      passed: () => this.#ask("since"),
      resync: () => this.#startAnew(),
      detached: () => this.#detached(),
      ended: (reason) => this.#fail(new SnackBaseError(reason, ENDED[reason] ?? "The server ended the subscription.", { collection: this.collection })),
      failed: (error) => this.#refused(error),
    };
  }

  #page(records, complete) {
    const next = (this.#next ??= new Map());
    for (const record of records) next.set(record.id, record);
    if (complete) this.#backoff.reset();
  }

  /** One transaction. */
  #apply(events) {
    const past = this.#subscription.phase === "replay" ? (this.#next ?? new Map(this.#shown)) : null;
    if (past !== null) this.#next = past;
    const changes = events.map((event) => {
      const operation = event.type.slice(event.type.indexOf(".") + 1);
      const { data: record } = event;
      if (past === null) this.#put(operation, record);
      else if (operation === "delete") past.delete(record.id);
      else past.set(record.id, record);
      return { operation, record: this.#cut(record), change: event.change ?? null, timestamp: event.timestamp };
    });
    if (past === null) this.#changed(changes);
  }

  #put(operation, record) {
    const before = this.#shown.get(record.id);
    if (before !== undefined) this.#order.splice(this.#whereIs(before), 1);
    if (operation === "delete") {
      this.#shown.delete(record.id);
      return;
    }
    this.#shown.set(record.id, record);
    this.#order.splice(placeOf(this.#order, record, this.#compare), 0, record);
  }

  /** Values without an order (objects in a sorted JSON field) may stand elsewhere than a search expects. */
  #whereIs(record) {
    const at = placeOf(this.#order, record, this.#compare);
    return this.#order[at] === record ? at : this.#order.indexOf(record);
  }

  #caughtUp() {
    if (this.#next !== null) {
      this.#show(this.#next);
      this.#next = null;
    }
    this.#become("live");
    if (!this.#everLive) {
      this.#everLive = true;
      this.#settle.resolve(this);
    }
  }

  #show(records) {
    this.#shown = records;
    this.#order = [...records.values()].sort(this.#compare);
    this.#changed(null);
  }

  #changed(changes) {
    this.#view = null;
    this.emit("change", { records: this.records, changes });
  }

  #detached() {
    // Half a snapshot is of no use; a copy that is being brought up goes on from the cursor.
    if (this.#subscription.wants === "snapshot") this.#next = null;
    if (this.state === "live") this.#become("catching_up");
  }

  // The whole set again -----------------------------------------------------------------------------------------------

  /** Rights or schema changed, or the past is gone: only the whole set helps. */
  #startAnew() {
    if (this.state === "live") this.#become("catching_up");
    const calm = performance.now() - this.#askedAgainAt > CALM_MS;
    if (calm) this.#backoff.reset();
    this.#begin("nothing");
    this.#later(calm ? 0 : this.#backoff.next(), () => this.#ask("snapshot"));
    this.#askedAgainAt = performance.now();
  }

  #refused(error) {
    if (error.code === "snapshot_too_large") {
      this.#begin("nothing");
      this.#readPages();
    } else if (error.transient) {
      this.#surface(error);
      this.#begin("nothing");
      this.#later(this.#backoff.next(500), () => this.#ask("snapshot"));
    } else {
      this.#fail(error);
    }
  }

  /** Every page, then what happened since the first one. */
  async #readPages() {
    const work = new AbortController();
    this.#paging = work;
    while (!work.signal.aborted) {
      try {
        const found = new Map();
        let first = null;
        let last = null;
        for await (const page of this.#records.pages(this.#query, { signal: work.signal })) {
          first ??= page.position;
          last = page.position;
          for (const record of page.items) found.set(record.id, record);
        }
        if (work.signal.aborted) return;
        this.#paging = null;
        this.#next = found;
        this.#subscription.cursor = first;
        this.#subscription.barrier = last;
        this.#ask("since");
        return;
      } catch (error) {
        if (work.signal.aborted) return;
        const problem = asError(error);
        if (!problem.transient) return this.#fail(problem);
        this.#surface(problem);
        await pause(this.#backoff.next(problem.retryAfterMs), work.signal);
      }
    }
  }

  #promise() {
    this.#ready = new Promise((resolve, reject) => {
      this.#settle = { resolve, reject };
    });
    // Whoever does not wait for it hears of the failure by `error`.
    this.#ready.catch(() => {});
  }

  #begin(wants) {
    this.#stopWork();
    this.#next = null;
    this.#subscription.hold();
    this.#subscription.wants = wants;
    this.#subscription.barrier = null;
  }

  #ask(wants) {
    this.#subscription.wants = wants;
    this.#connection.ask(this.#subscription);
  }

  #later(ms, work) {
    this.#asksAgain = setTimeout(work, ms);
  }

  #stopWork() {
    clearTimeout(this.#asksAgain);
    this.#paging?.abort();
    this.#paging = null;
  }

  // -------------------------------------------------------------------------------------------------------------------

  /** What nobody may see any more is not shown any more. */
  #fail(error) {
    this.#stopWork();
    this.#next = null;
    this.#connection.remove(this.#subscription);
    if (this.#shown.size > 0) this.#show(new Map());
    this.#become("failed", error);
    this.#settle.reject(error);
    this.#surface(error);
  }

  #become(state, error = null) {
    if (this.state === state) return;
    this.state = state;
    this.emit("state", { state, error });
  }

  #surface(error) {
    if (!this.emit("error", error)) this.#bubble(error);
  }

  #cut(record) {
    if (this.#only === null) return record;
    const kept = {};
    for (const name of this.#only) if (name in record) kept[name] = record[name];
    return kept;
  }
}

const ENDED = {
  forbidden: "You may no longer list the records of this collection.",
  collection_deleted: "The collection was deleted.",
};

/** @returns {string[] | null} null = all */
function fieldNames(fields) {
  if (fields === undefined || fields === null) return null;
  const names = (typeof fields === "string" ? fields.split(",") : fields).map((name) => name.trim()).filter(Boolean);
  return names.length === 0 || names.includes("*") ? null : [...new Set(["id", ...names])];
}
