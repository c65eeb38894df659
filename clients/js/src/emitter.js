// Events to the app. What a listener throws is the app's own uncaught error: it neither vanishes nor harms the client.

export class Emitter {
  #listeners = new Map();

  /**
   * @param {string} name
   * @param {(value: any) => void} listener
   * @returns {() => void} ends the listening
   */
  on(name, listener) {
    if (typeof listener !== "function") throw new TypeError("A listener is a function.");
    const heard = this.#listeners.get(name) ?? [];
    this.#listeners.set(name, [...heard, listener]);
    return () => this.off(name, listener);
  }

  off(name, listener) {
    const heard = this.#listeners.get(name) ?? [];
    this.#listeners.set(
      name,
      heard.filter((one) => one !== listener),
    );
  }

  /** Whether somebody heard it. */
  emit(name, value) {
    const heard = this.#listeners.get(name) ?? [];
    for (const listener of heard) call(listener, value);
    return heard.length > 0;
  }
}

/** Call the app's own code. */
export function call(listener, ...values) {
  try {
    listener(...values);
  } catch (error) {
    queueMicrotask(() => {
      throw error;
    });
  }
}
