// When to try again: exponential with full jitter, so that clients cut off together do not come back together.
// Source: Brooker, "Exponential Backoff And Jitter" (2015); the schedule is the one the server's limits are made for.

export class Backoff {
  #failures = 0;

  /** @param {{ minMs?: number, maxMs?: number, stableMs?: number, random?: () => number }} [options] */
  constructor({ minMs = 500, maxMs = 30_000, stableMs = 10_000, random = Math.random } = {}) {
    this.minMs = minMs;
    this.maxMs = maxMs;
    this.stableMs = stableMs;
    this.random = random;
  }

  /**
   * The wait before the next try, in ms.
   * @param {number} [atLeastMs] what the server asked for
   */
  next(atLeastMs = 0) {
    // 2 ** 1024 is Infinity, which Math.min takes.
    const ceiling = Math.min(this.maxMs, this.minMs * 2 ** this.#failures);
    this.#failures += 1;
    return Math.max(atLeastMs, Math.round(this.random() * ceiling));
  }

  /** A connection ended; one that was stable makes the next failure a first one again. */
  lived(ms) {
    if (ms >= this.stableMs) this.reset();
  }

  reset() {
    this.#failures = 0;
  }
}

/**
 * Wait; ends early, without an error, when `signal` is aborted.
 * @param {number} ms
 * @param {AbortSignal} [signal]
 * @returns {Promise<void>}
 */
export function pause(ms, signal) {
  return new Promise((resolve) => {
    if (signal?.aborted) return resolve();
    const done = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal?.addEventListener("abort", done);
  });
}
