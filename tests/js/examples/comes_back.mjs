// A connection that comes back: it waits as long as the server asks, longer after every failure, takes up its
// subscriptions where it was, and stops when coming back is pointless until the app acts (codes from 4500 on).

const LONGEST_MS = 30_000;

export class Persistent {
  constructor(address, token, { onmessage, onstate = () => {}, firstDelayMs = 500 }) {
    this.address = address;
    this.token = token;
    this.onmessage = onmessage;
    this.onstate = onstate;
    this.firstDelayMs = firstDelayMs;
    this.collections = new Set();
    this.position = null;
    this.failures = 0;
    this.wanted = true;
  }

  subscribe(...collections) {
    for (const name of collections) this.collections.add(name);
    if (this.socket?.readyState === 1) this.takeUp(collections);
  }

  connect() {
    this.askedToWaitMs = null;
    this.socket = new WebSocket(`${this.address}?token=${encodeURIComponent(this.token)}`);
    this.socket.onopen = () => {
      this.failures = 0;
      this.takeUp([...this.collections]);
      this.onstate("open");
    };
    this.socket.onmessage = ({ data }) => {
      const message = JSON.parse(data);
      if (message.type === "closing") this.askedToWaitMs = message.retry_after_ms;
      if (message.position !== undefined && message.type !== "subscribed") this.position = message.position;
      this.onmessage(message);
    };
    // What went wrong is told by the close that follows.
    this.socket.onerror = () => {};
    this.socket.onclose = ({ code }) => {
      if (!this.wanted || code >= 4500) {
        this.onstate(`ended ${code}`);
        return;
      }
      const backOffMs = Math.min(LONGEST_MS, this.firstDelayMs * 2 ** this.failures);
      this.failures += 1;
      this.onstate("waiting");
      setTimeout(() => this.connect(), Math.max(this.askedToWaitMs ?? 0, backOffMs * (0.5 + Math.random() / 2)));
    };
  }

  takeUp(collections) {
    if (collections.length === 0) return;
    const subscriptions = collections.map((collection) => ({ collection }));
    const since = this.position === null ? {} : { since: this.position };
    this.socket.send(JSON.stringify({ action: "subscribe", subscriptions, ...since }));
  }

  close() {
    this.wanted = false;
    this.socket.close();
  }
}
