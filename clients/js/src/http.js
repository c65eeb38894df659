// One REST call: address, token, time limit, errors. A token that was refused is replaced once.

import { SnackBaseError, asError, errorOfResponse, isTokenCode } from "./errors.js";

export class Http {
  #fetch;
  #tokens;
  #account;

  /**
   * @param {{ url: string, fetch: typeof globalThis.fetch, tokens: import("./tokens.js").Tokens,
   *   account?: string | null, timeoutMs?: number }} options
   */
  constructor({ url, fetch, tokens, account = null, timeoutMs = 30_000 }) {
    this.url = url;
    this.timeoutMs = timeoutMs;
    this.#fetch = fetch;
    this.#tokens = tokens;
    this.#account = account;
  }

  /**
   * @param {string} method
   * @param {string} path below /api/v1, with its query
   * @param {{ body?: unknown, headers?: Record<string, string>, signal?: AbortSignal }} [more]
   * @returns {Promise<any>} the JSON answer; null when there is none
   * @throws {SnackBaseError}
   */
  async request(method, path, more = {}) {
    const token = await this.#tokens.get();
    try {
      return await this.#once(method, path, token, more);
    } catch (error) {
      const refused = error instanceof SnackBaseError && error.status === 401 && isTokenCode(error.code);
      if (!refused || !this.#tokens.renewable) throw error;
      return this.#once(method, path, await this.#tokens.renew(token, error.code), more);
    }
  }

  /**
   * @param {string} method
   * @param {string} path
   * @param {string} token
   * @param {{ body?: unknown, headers?: Record<string, string>, signal?: AbortSignal }} more
   */
  async #once(method, path, token, { body, headers, signal }) {
    const limit = AbortSignal.timeout(this.timeoutMs);
    try {
      const answer = await this.#fetch(`${this.url}/api/v1${path}`, {
        method,
        cache: "no-store",
        headers: {
          authorization: `Bearer ${token}`,
          ...(this.#account === null ? {} : { "x-account-id": this.#account }),
          ...(body === undefined ? {} : { "content-type": "application/json" }),
          ...headers,
        },
        body: body === undefined ? undefined : JSON.stringify(body),
        signal: signal === undefined ? limit : eitherOf(signal, limit),
      });
      if (!answer.ok) throw await errorOfResponse(answer);
      const text = await answer.text();
      return text === "" ? null : JSON.parse(text);
    } catch (error) {
      if (limit.aborted) throw new SnackBaseError("timeout", `No answer within ${this.timeoutMs} ms.`, { cause: error });
      throw asError(error);
    }
  }
}

/** Aborted as soon as one of them is. `AbortSignal.any` is younger than the browsers that are served here. */
function eitherOf(one, other) {
  const both = new AbortController();
  for (const signal of [one, other]) {
    if (signal.aborted) both.abort(signal.reason);
    else signal.addEventListener("abort", () => both.abort(signal.reason), { once: true });
  }
  return both.signal;
}
