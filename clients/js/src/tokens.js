// The access token: the one in use, a fresh one when it is needed, and when that is. Never part of a URL or a message.

import { SnackBaseError, asError } from "./errors.js";

const EARLY_S = 75;
const SHORT_S = 150;
const LONGEST_TIMER_MS = 2 ** 31 - 1;

export class Tokens {
  /** @type {string | null} */
  #current;
  #getToken;
  /** @type {Promise<string> | null} */
  #asking = null;
  #obtainedAt = 0;

  /**
   * @param {{ token?: string | null,
   *   getToken?: (asked: { fresh: boolean, reason: string | null }) => string | null | Promise<string | null> }} options
   */
  constructor({ token = null, getToken } = {}) {
    this.#current = token || null;
    this.#getToken = getToken;
    this.#obtainedAt = Date.now();
  }

  /** Whether a fresh one can be asked for. */
  get renewable() {
    return this.#getToken !== undefined;
  }

  get current() {
    return this.#current;
  }

  /** The app brings another one. */
  set(token) {
    this.#current = token || null;
    this.#obtainedAt = Date.now();
  }

  /**
   * The token in use; the first one is asked for.
   * @returns {Promise<string>}
   * @throws {SnackBaseError} token_missing: there is none; network_error: `getToken` failed
   */
  async get() {
    return this.#current ?? this.#ask(false, null);
  }

  /**
   * A fresh one, unless somebody got one meanwhile.
   * @param {string | null} stale the token that is no good any more
   * @param {string} reason why: a code of the server, or "expiring"
   */
  async renew(stale, reason) {
    if (this.#current !== null && this.#current !== stale) return this.#current;
    if (!this.renewable) throw new SnackBaseError(reason, "The token is no longer valid; give the client another one.");
    return this.#ask(true, reason);
  }

  /** One question at a time, whoever needs the answer. */
  #ask(fresh, reason) {
    this.#asking ??= this.#answer(fresh, reason).finally(() => {
      this.#asking = null;
    });
    return this.#asking;
  }

  async #answer(fresh, reason) {
    let token = null;
    try {
      token = await this.#getToken?.({ fresh, reason });
    } catch (error) {
      throw asError(error);
    }
    if (typeof token !== "string" || token === "") {
      throw new SnackBaseError("token_missing", "There is no token: nobody is logged in.");
    }
    this.set(token);
    return token;
  }

  /** ms until the token in use should be replaced; null = unknown, as with an API key. */
  renewInMs() {
    const lifetime = this.lifetimeS();
    if (lifetime === null) return null;
    // Clocks differ, so only the length of its life is read, never the time at which it ends.
    const after = lifetime > SHORT_S ? lifetime - EARLY_S : lifetime * 0.6;
    return Math.min(LONGEST_TIMER_MS, Math.max(0, this.#obtainedAt + after * 1000 - Date.now()));
  }

  /** How long the token in use lives in all, as it says itself. */
  lifetimeS() {
    try {
      const part = (this.#current ?? "").split(".")[1] ?? "";
      const facts = JSON.parse(atob(part.replace(/-/g, "+").replace(/_/g, "/")));
      const lifetime = facts.exp - facts.iat;
      return Number.isFinite(lifetime) && lifetime > 0 ? lifetime : null;
    } catch {
      return null;
    }
  }

  /** Whether the server's warning (60 s before the end) has to be followed at once: a short life has its own timer. */
  get followsWarnings() {
    const lifetime = this.lifetimeS();
    return lifetime === null || lifetime > SHORT_S;
  }
}
