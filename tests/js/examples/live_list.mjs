// A list that stays current over a WebSocket: the smallest client that does everything the protocol has for one list.
//
//   const list = new LiveList("ws://localhost:8000/api/v1/realtime/ws", token, "posts");
//   list.onchange = (records) => render(records);
//   await list.open();

export class LiveList {
  constructor(address, token, collection, options = {}) {
    this.address = address;
    this.token = token;
    this.request = { action: "subscribe", collection, ...options };
    this.records = new Map();
    this.onchange = () => {};
    this.heartbeats = 0;
    this.waiting = new Map();
  }

  // Resolves once the server acknowledged the subscription, rejects with its reason if it did not.
  open() {
    return new Promise((resolve, reject) => {
      this.socket = new WebSocket(`${this.address}?token=${encodeURIComponent(this.token)}`);
      this.socket.addEventListener("open", () => this.ask(this.request, "subscribed").then(resolve, reject));
      this.socket.addEventListener("error", () => reject(new Error("no connection")));
      this.socket.addEventListener("message", (event) => this.take(JSON.parse(event.data)));
    });
  }

  // Sends a message and resolves with the first answer of that type.
  ask(message, type) {
    this.socket.send(JSON.stringify(message));
    return new Promise((resolve, reject) => this.waiting.set(type, { resolve, reject }));
  }

  ping() {
    return this.ask({ action: "ping" }, "pong");
  }

  stop() {
    return this.ask({ action: "unsubscribe", collection: this.request.collection }, "unsubscribed");
  }

  close() {
    this.socket.close();
    return new Promise((resolve) => this.socket.addEventListener("close", resolve));
  }

  take(message) {
    if (message.type === "heartbeat") {
      this.heartbeats += 1;
      return;
    }
    if (message.type === "error") {
      for (const { reject } of this.waiting.values()) reject(new Error(message.message));
      this.waiting.clear();
      return;
    }
    if (this.waiting.has(message.type)) {
      this.waiting.get(message.type).resolve(message);
      this.waiting.delete(message.type);
      return;
    }
    const operation = message.type.split(".")[1];
    // A record that starts or stops to match arrives as create or delete too, so these three are all there is.
    if (operation === "delete") this.records.delete(message.data.id);
    else if (operation !== undefined) this.records.set(message.data.id, message.data);
    this.onchange([...this.records.values()], message);
  }
}
