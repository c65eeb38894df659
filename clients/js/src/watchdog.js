// Notices a connection that went silent: the server sends a heartbeat at least every interval, busy or not.

const ASSUMED_MS = 30_000;
const LONGEST_MS = 600_000;
const SHORTEST_MS = 1_000;
const ASK_AFTER = 1.2;
const GIVE_UP_AFTER = 2.2;
const PROBE_MS = 5_000;

export class Watchdog {
  #interval = ASSUMED_MS;
  #learned = false;
  #lastBeat = 0;
  #heardAt = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer = undefined;
  #ask;
  #silent;

  /**
   * @param {{ ask: () => void, silent: () => void }} options
   *   ask: provoke an answer. silent: nothing came for 2.2 intervals.
   */
  constructor({ ask, silent }) {
    this.#ask = ask;
    this.#silent = silent;
  }

  start() {
    this.#lastBeat = 0;
    this.heard();
  }

  stop() {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  /** Something came. */
  heard() {
    this.#heardAt = performance.now();
    if (this.#timer === undefined) this.#wait(ASK_AFTER * this.#interval);
  }

  /** A heartbeat came: the longest time between two is the interval, for the server shortens each by up to 20 %. */
  beat() {
    const now = performance.now();
    if (this.#lastBeat > 0) {
      const gap = Math.min(LONGEST_MS, Math.max(SHORTEST_MS, now - this.#lastBeat));
      this.#interval = this.#learned ? Math.max(this.#interval, gap) : gap;
      // The wait that runs was made for the interval that was assumed.
      if (!this.#learned) this.stop();
      this.#learned = true;
    }
    this.#lastBeat = now;
    this.heard();
  }

  /** Find out soon whether the connection still lives: the machine slept, or the network changed. */
  probe() {
    if (this.#timer === undefined) return;
    clearTimeout(this.#timer);
    const asked = performance.now();
    this.#ask();
    this.#timer = setTimeout(() => {
      if (this.#heardAt >= asked) this.#wait(ASK_AFTER * this.#interval);
      else this.#giveUp();
    }, PROBE_MS);
  }

  #wait(ms) {
    this.#timer = setTimeout(() => {
      const left = ASK_AFTER * this.#interval - (performance.now() - this.#heardAt);
      if (left > 0) this.#wait(left);
      else this.#doubt();
    }, ms);
  }

  /** Ask, and give it another interval: after a stall of our own process, what came meanwhile is read first. */
  #doubt() {
    const asked = performance.now();
    this.#ask();
    this.#timer = setTimeout(
      () => {
        if (this.#heardAt >= asked) this.#wait(ASK_AFTER * this.#interval);
        else this.#giveUp();
      },
      (GIVE_UP_AFTER - ASK_AFTER) * this.#interval,
    );
  }

  #giveUp() {
    this.#timer = undefined;
    // A server with longer intervals than assumed must not be left for ever.
    if (!this.#learned) this.#interval = Math.min(LONGEST_MS, this.#interval * 2);
    this.#silent();
  }
}
