// Tells when a connection is only apparently alive: the server sends a heartbeat at least every 30 s, also when busy.
//
//   const watch = new StaleWatch(() => { socket.close(); reconnect(); });
//   socket.addEventListener("message", () => watch.sign());
//   setInterval(() => watch.check(), 10_000);

export class StaleWatch {
  constructor(onstale, { limitMs = 60_000, now = () => Date.now() } = {}) {
    this.onstale = onstale;
    this.limitMs = limitMs;
    this.now = now;
    this.sign();
  }

  // The server gave a sign of life.
  sign() {
    this.seenAt = this.now();
  }

  check() {
    if (this.now() - this.seenAt <= this.limitMs) return false;
    this.sign();
    this.onstale();
    return true;
  }
}
