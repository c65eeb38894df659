// Which transport to try next. `auto` takes WebSocket, and an event stream where WebSocket does not get through.

const FIRST_DOUBT = 2;
const LATER_DOUBT = 4;
const KEEP_STREAM_MS = 600_000;

export class Chooser {
  #wanted;
  #sockets;
  #failures = 0;
  #socketsWorked = false;
  #streamUntil = 0;

  /**
   * @param {string} wanted auto, websocket or sse
   * @param {boolean} sockets whether there is a WebSocket here
   */
  constructor(wanted, sockets) {
    if (!["auto", "websocket", "sse"].includes(wanted)) throw new TypeError("transport has to be auto, websocket or sse.");
    if (wanted === "websocket" && !sockets) throw new TypeError("There is no global WebSocket here: give one with the option WebSocket.");
    this.#wanted = wanted;
    this.#sockets = sockets;
  }

  /** @returns {"websocket" | "sse"} */
  next() {
    if (this.#wanted === "sse" || !this.#sockets) return "sse";
    if (this.#wanted === "websocket") return "websocket";
    if (performance.now() < this.#streamUntil) return "sse";
    const doubt = this.#failures >= (this.#socketsWorked ? LATER_DOUBT : FIRST_DOUBT);
    return doubt && this.#failures % 2 === 0 ? "sse" : "websocket";
  }

  worked(transport) {
    this.#failures = 0;
    if (transport === "websocket") {
      this.#socketsWorked = true;
      this.#streamUntil = 0;
    } else if (!this.#socketsWorked) {
      this.#streamUntil = performance.now() + KEEP_STREAM_MS;
    }
  }

  failed(transport) {
    this.#failures += 1;
    if (transport === "sse") this.#streamUntil = 0;
  }
}
