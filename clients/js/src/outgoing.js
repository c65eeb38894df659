// What goes out over a WebSocket besides pings and tokens: questions of the same moment in one message, so that the server
// replays them as one, and never more messages or bytes than it takes (20 messages a second, 64 KiB each).

const MOST_CHARACTERS = 16_000;
const MOST_SUBSCRIPTIONS = 100;
const BURST = 20;
const EACH_MS = 60;

export class Outgoing {
  #send;
  #asking = new Set();
  /** @type {object[]} */
  #queue = [];
  #room = BURST;
  #filledAt = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer = undefined;
  #planned = false;
  #message = 0;

  /** @param {(message: object) => void} send */
  constructor(send) {
    this.#send = send;
  }

  /** @param {import("./subscription.js").Subscription} subscription */
  ask(subscription) {
    this.#asking.add(subscription);
    if (this.#planned) return;
    this.#planned = true;
    queueMicrotask(() => this.#gather());
  }

  forget(subscription) {
    this.#asking.delete(subscription);
  }

  unsubscribe(id) {
    this.#queue.push({ action: "unsubscribe", id });
    this.#pump();
  }

  clear() {
    this.#asking.clear();
    this.#queue = [];
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #gather() {
    this.#planned = false;
    let subscriptions = [];
    let characters = 0;
    const finish = () => {
      if (subscriptions.length > 0) this.#queue.push({ action: "subscribe", subscriptions });
      subscriptions = [];
      characters = 0;
      this.#message += 1;
    };
    for (const subscription of this.#asking) {
      const length = JSON.stringify(subscription.question()).length;
      if (characters + length > MOST_CHARACTERS || subscriptions.length === MOST_SUBSCRIPTIONS) finish();
      const request = subscription.ask(this.#message);
      if (request === null) continue;
      subscriptions.push(request);
      characters += length;
    }
    finish();
    this.#asking.clear();
    this.#pump();
  }

  #pump() {
    const now = performance.now();
    this.#room = Math.min(BURST, this.#room + (now - this.#filledAt) / EACH_MS);
    this.#filledAt = now;
    while (this.#queue.length > 0 && this.#room >= 1) {
      this.#room -= 1;
      this.#send(this.#queue.shift());
    }
    if (this.#queue.length > 0 && this.#timer === undefined) {
      this.#timer = setTimeout(() => {
        this.#timer = undefined;
        this.#pump();
      }, EACH_MS);
    }
  }
}
