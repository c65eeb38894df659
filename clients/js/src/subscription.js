// One subscription as the wire sees it: what was asked, how far it is, and transactions put together again.
//
// Its cursor is the position after the last whole transaction, or a later one that a heartbeat told. It never lies inside
// a transaction, so whoever resumes from it misses nothing and sees nothing in halves.

import { SnackBaseError } from "./errors.js";

/**
 * off: not asked on this connection. asked: no answer yet. snapshot: pages come. barrier: waiting until the server's
 * stream has passed a place. replay: the past comes. live. held: live on the server, of no use here.
 * @typedef {"off" | "asked" | "snapshot" | "barrier" | "replay" | "live" | "held"} Phase
 */

export class Subscription {
  /** @type {Phase} */
  phase = "off";
  /** @type {string | null} */
  cursor = null;
  /** @type {string | null} a place that the stream has to pass before what comes after the cursor is asked for */
  barrier = null;
  /** What the next question is: "live", "since" (the cursor), "snapshot", or "nothing" for now. */
  wants = "live";
  /** Subscriptions that resume from the same place in the same question are told of the past as one. */
  replayKey = "";

  #awaited = 0;
  #asked = "live";
  #snapshotPosition = null;
  #transaction = [];

  /**
   * @param {string} id its name on the wire
   * @param {{ collection: string, operations?: string[], filter?: string, fields?: string[] | string }} request
   * @param {object} sink told of everything: subscribed, page, events, caughtUp, resync, ended, failed, detached
   * @param {{ sort?: string, limit?: number }} [snapshot]
   */
  constructor(id, request, sink, snapshot = {}) {
    check({ ...request, sort: snapshot.sort });
    this.id = id;
    this.collection = request.collection;
    this.sink = sink;
    this.request = { id, ...defined(request) };
    this.snapshot = defined(snapshot);
  }

  /**
   * The request that would be sent now; null = nothing is wanted.
   * @returns {any}
   */
  question() {
    switch (this.wants) {
      case "nothing":
        return null;
      case "snapshot":
        return { ...this.request, snapshot: this.snapshot };
      case "since":
        return { ...this.request, since: this.barrier ?? this.cursor };
      default:
        return this.request;
    }
  }

  /**
   * The same, which is now on its way.
   * @param {number} batch equal for what is asked in one message or stream
   */
  ask(batch) {
    const question = this.question();
    if (question === null) return null;
    this.phase = "asked";
    this.replayKey = `${batch} ${question.since}`;
    this.#awaited += 1;
    this.#asked = this.wants;
    this.#transaction = [];
    return question;
  }

  /** How many questions are still to be answered. */
  get awaited() {
    return this.#awaited;
  }

  /** Answers to questions of an earlier subscription of this name are still to come. */
  follow(count) {
    this.#awaited = count;
  }

  /** The connection is gone. */
  detach() {
    if (this.phase === "off" && this.#awaited === 0) return;
    this.phase = "off";
    this.#awaited = 0;
    this.#transaction = [];
    this.sink.detached?.();
  }

  /** Take no more events until it is asked for again. */
  hold() {
    this.phase = "held";
    this.#transaction = [];
  }

  /** Everything up to there was sent. */
  moveTo(position) {
    if (this.#transaction.length === 0) this.cursor = position;
  }

  /** A message of the server that names this subscription. */
  receive(message) {
    switch (message.type) {
      case "subscribed":
        return this.#answered() && this.#subscribed(message);
      case "error":
        return this.#answered() && this.#refused(message);
      case "unsubscribed":
        if (message.reason !== undefined) this.#ended(message.reason);
        return undefined;
      default:
        return this.#awaited > 0 || this.phase === "held" || this.phase === "off" ? undefined : this.#told(message);
    }
  }

  /** Whether this answers the latest question: an earlier one's answer is of no interest. */
  #answered() {
    this.#awaited = Math.max(0, this.#awaited - 1);
    return this.#awaited === 0;
  }

  #subscribed(message) {
    if (this.#asked === "snapshot") {
      this.phase = "snapshot";
      this.#snapshotPosition = message.position;
    } else if (this.#asked === "since") {
      this.phase = this.barrier === null ? "replay" : "barrier";
    } else {
      this.phase = "live";
      this.cursor = message.position;
      this.wants = "since";
    }
    this.sink.subscribed?.(message);
  }

  #refused(message) {
    this.phase = "off";
    this.wants = "nothing";
    this.sink.failed(
      new SnackBaseError(message.code, message.message, { collection: this.collection }),
    );
  }

  #ended(reason) {
    this.#awaited = 0;
    this.phase = "off";
    this.wants = "nothing";
    this.sink.ended(reason);
  }

  #told(message) {
    switch (message.type) {
      case "snapshot":
        this.sink.page(message.data, message.complete);
        if (message.complete) {
          this.cursor = this.#snapshotPosition;
          this.wants = "since";
          this.phase = "replay";
        }
        break;
      case "caught_up":
        this.#caughtUp(message.position);
        break;
      case "resync":
        this.cursor = message.position;
        this.barrier = null;
        this.#transaction = [];
        this.phase = "live";
        this.sink.resync(message.reason, message.position);
        break;
      default:
        if (this.phase !== "barrier" && message.type.includes(".")) this.#event(message);
    }
  }

  #caughtUp(position) {
    if (this.phase === "barrier") {
      this.barrier = null;
      this.sink.passed();
      return;
    }
    this.cursor = position;
    this.phase = "live";
    this.sink.caughtUp();
  }

  #event(message) {
    this.#transaction.push(message);
    if (this.#transaction.length < (message.tx_size ?? 1)) return;
    const events = this.#transaction;
    this.#transaction = [];
    if (message.position !== undefined) this.cursor = message.position;
    this.sink.events(events);
  }
}

/**
 * A value of a wrong type would have the server refuse the message, with all the subscriptions that it asks for.
 * @param {{ collection: unknown, operations?: unknown, filter?: unknown, fields?: unknown, sort?: unknown }} asked
 */
function check({ collection, operations, filter, fields, sort }) {
  const texts = (value) => Array.isArray(value) && value.every((one) => typeof one === "string");
  const given = (value) => value !== undefined && value !== null;
  if (typeof collection !== "string") throw new TypeError("collection is a text.");
  if (given(operations) && !texts(operations)) throw new TypeError("operations is a list of texts.");
  if (given(filter) && typeof filter !== "string") throw new TypeError("filter is a text.");
  if (given(fields) && typeof fields !== "string" && !texts(fields)) throw new TypeError("fields is a list of texts.");
  if (given(sort) && typeof sort !== "string") throw new TypeError("sort is a text.");
}

function defined(object) {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined && value !== null));
}
