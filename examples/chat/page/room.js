// The messages of one room: the newest ones as a live list, older ones page by page, and those that are being sent.

const PAGE = 30;
const AGAIN_MS = 2_000;

export class Room {
  /** Told after every change. */
  onchange = () => {};
  /** Whether there are older messages to fetch. */
  hasOlder = false;

  #client;
  #records;
  #me;
  #filter;
  #live = null;
  #deletions = null;
  /** @type {Map<string, any>} what is older than the live list, oldest first */
  #history = new Map();
  #deleted = new Set();
  #firstCursor = null;
  #cursor = null;
  /** @type {Map<string, any>} written here, and not in the live list yet */
  #outgoing = new Map();
  #sending = false;
  #closed = false;

  constructor(client, id, me) {
    this.id = id;
    this.#client = client;
    this.#records = client.records("messages");
    this.#me = me;
    this.#filter = `room = '${id}'`;
  }

  /** Everything there is to show, oldest first; `state` of one's own: sending or failed. */
  get messages() {
    const live = this.#live?.records ?? [];
    const known = new Set(live.map((message) => message.id));
    const older = [...this.#history.values()].filter((message) => !known.has(message.id));
    return [...older, ...live, ...this.#outgoing.values()];
  }

  /** Find out where the newest page begins, and follow everything from there on. */
  async open() {
    const page = await this.#persist(() => this.#page());
    if (page === null) return;
    let filter = this.#filter;
    if (page.has_more) {
      const first = page.items[page.items.length - 1].created_at;
      filter = `${this.#filter} && created_at >= '${first}'`;
      this.#firstCursor = this.#cursor = page.next_cursor;
      this.hasOlder = true;
      this.#followDeletions(`${this.#filter} && created_at < '${first}'`, page.position);
    }
    this.#live = this.#client.liveQuery("messages", { filter, sort: "created_at" });
    this.#live.on("change", ({ records, changes }) => this.#settle(records, changes));
    this.#live.on("state", () => this.onchange());
  }

  /** One more page of the past. */
  async older() {
    const cursor = this.#cursor;
    const page = await this.#page(cursor);
    // Meanwhile the history began anew, or the page was asked for twice.
    if (this.#closed || cursor !== this.#cursor) return;
    const found = page.items.reverse().filter((message) => !this.#deleted.has(message.id));
    this.#history = new Map([...found.map((message) => [message.id, message]), ...this.#history]);
    this.#cursor = page.next_cursor;
    this.hasOlder = page.has_more;
    this.onchange();
  }

  /** Shown at once; sent as soon as the server can be reached, in the order of writing. */
  send(text) {
    const id = newId();
    this.#outgoing.set(id, { id, text, room: this.id, created_by: this.#me, created_at: null, state: "sending" });
    this.onchange();
    this.#sendAll();
  }

  retry(id) {
    const message = this.#outgoing.get(id);
    if (message) Object.assign(message, { state: "sending", problem: undefined });
    this.onchange();
    this.#sendAll();
  }

  /** A message of one's own. */
  async delete(id) {
    if (this.#outgoing.get(id)?.state === "failed") this.#outgoing.delete(id);
    else await this.#records.delete(id);
    this.onchange();
  }

  close() {
    this.#closed = true;
    this.onchange = () => {};
    this.#live?.close();
    this.#deletions?.unsubscribe();
  }

  #page(cursor = undefined) {
    return this.#records.list({ filter: this.#filter, sort: "-created_at", limit: PAGE, total: false, cursor });
  }

  /** The live list shows what is in it; what was sent from here and is in it needs no other place. */
  #settle(records, changes) {
    for (const { id } of records) this.#outgoing.delete(id);
    // Sent, and gone again before it was ever in the list.
    for (const { operation, record } of changes ?? []) if (operation === "delete") this.#outgoing.delete(record.id);
    if (changes === null) for (const { id, state } of this.#outgoing.values()) if (state === "sent") this.#outgoing.delete(id);
    this.onchange();
  }

  /** What is older than the live list may still be deleted. */
  #followDeletions(filter, since) {
    this.#deletions = this.#client.subscribe("messages", { filter, since, operations: ["delete"] }, {
      delete: ({ id }) => {
        this.#deleted.add(id);
        if (this.#history.delete(id)) this.onchange();
      },
      // What happened meanwhile cannot be told any more: forget the pages, they can be fetched again.
      resync: () => {
        this.#history.clear();
        this.#deleted.clear();
        this.#cursor = this.#firstCursor;
        this.hasOlder = true;
        this.onchange();
      },
    });
  }

  async #sendAll() {
    if (this.#sending) return;
    this.#sending = true;
    let goOn = true;
    for (const message of this.#outgoing.values()) {
      if (message.state === "sending" && goOn) goOn = await this.#sendOne(message);
    }
    this.#sending = false;
    if (!goOn && !this.#closed) setTimeout(() => this.#sendAll(), AGAIN_MS);
  }

  /** Whether the next one may be sent: not while the server cannot be reached. */
  async #sendOne(message) {
    const { id, room, text } = message;
    try {
      await this.#records.create({ id, room, text });
      message.state = "sent";
    } catch (error) {
      if (error.transient) return false;
      // The same id is there already: it got through the first time, and only the answer was lost.
      if (error.code === "id_taken") message.state = "sent";
      else Object.assign(message, { state: "failed", problem: error.message });
    }
    this.onchange();
    return true;
  }

  /** Try until it works, or fail for a reason that stays. */
  async #persist(work) {
    while (!this.#closed) {
      try {
        const value = await work();
        return this.#closed ? null : value;
      } catch (error) {
        if (!error.transient) throw error;
        await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
      }
    }
    return null;
  }
}

/** A random UUID, also where `crypto.randomUUID` is missing: on a page that came over plain http. */
function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}
