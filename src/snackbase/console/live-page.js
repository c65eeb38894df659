// One page of a list that stays what GET /records answers, however large the collection is.
//
// The page is read over REST, and events follow from its position on, so nothing is missed in between. An event that
// changes a shown record is applied at once. What can move records across the page (a new one, a deleted one, a changed
// sort key) has the page read again, at most once for all events of a moment.

const AGAIN_MS = 120;
const RETRY_MS = 3_000;

/** Calls `draw({ items, total, skip, limit })` with the page, `mark(id, operation)` for what changed, `tell(text, error)`. */
export class LivePage {
  #session;
  #collection;
  #asked = { filter: "", sort: "", skip: 0, limit: 50 };
  #page = null;
  #shows = "";
  #feed = null;
  #feedFilter = null;
  #number = 0;
  #busy = false;
  #behind = false;
  #during = [];
  #timer;
  #took = 0;
  #heard;

  constructor({ session, collection, draw, mark, tell, heard }) {
    this.#session = session;
    this.#collection = collection;
    this.draw = draw;
    this.mark = mark;
    this.tell = tell;
    this.#heard = heard;
  }

  get asked() {
    return this.#asked;
  }

  /** Another filter, order or place. */
  ask(asked) {
    this.#asked = { ...this.#asked, ...asked };
    if (this.#asked.filter !== this.#feedFilter) this.#stopFeed();
    return this.read();
  }

  async read() {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const number = ++this.#number;
    this.#busy = true;
    const { filter, sort, skip, limit } = this.#asked;
    this.#during = [];
    const query = new URLSearchParams({ skip: String(skip), limit: String(limit) });
    if (filter) query.set("filter", filter);
    if (sort) query.set("sort", sort);
    const began = performance.now();
    let page;
    try {
      page = await this.#session.call("GET", `/records/${this.#collection}?${query}`);
    } catch (error) {
      if (number !== this.#number) return;
      this.#busy = false;
      this.#behind = true;
      if (error.transient) this.#timer = setTimeout(() => this.read(), RETRY_MS);
      this.#lose(error);
      return;
    }
    if (number !== this.#number) return;
    this.#busy = this.#behind = false;
    this.#took = performance.now() - began;
    if (page.items.length === 0 && skip > 0 && page.total > 0) {
      // The last page became empty.
      return this.ask({ skip: Math.floor((page.total - 1) / limit) * limit });
    }
    const [before, known] = [this.#shows, this.#page?.items ?? []];
    this.#page = page;
    this.#shows = query.toString();
    this.draw(page);
    if (before === this.#shows) this.#markDifferences(known, page.items);
    const missed = this.#during;
    this.#during = [];
    for (const event of missed) this.#apply(event);
    await this.#session.probed;
    if (number === this.#number) this.#follow(page.position);
  }

  /** The connection is back; a page that could not be read meanwhile can be now. */
  connected() {
    if (this.#behind) this.read();
  }

  close() {
    clearTimeout(this.#timer);
    this.#number += 1;
    this.#stopFeed();
  }

  // -------------------------------------------------------------------------------------------------------------------

  #follow(since) {
    const { filter } = this.#asked;
    if (this.#session.live === false) return this.tell("Live data are off on this server: the list stands still until it is read again.");
    if (this.#feed !== null && this.#feedFilter === filter) return;
    this.#stopFeed();
    this.#feedFilter = filter;
    const again = () => this.read();
    this.#feed = this.#session.client.subscribe(this.#collection, { since, filter: filter || undefined }, {
      subscribed: () => this.tell("Kept current"),
      event: (event) => (this.#busy ? this.#during.push(event) : this.#apply(event)),
      resync: again,
      unsubscribed: ({ reason }) => this.#lose(Object.assign(new Error("The server ended this list."), { code: reason, status: 403 })),
      error: (error) => this.tell("", error),
    });
  }

  /** What may not be seen any more is not shown any more. */
  #lose(error) {
    if ([403, 404].includes(error.status)) {
      this.#stopFeed();
      this.#page = { items: [], total: 0, skip: 0 };
      this.draw(this.#page);
    }
    this.tell("", error);
  }

  #stopFeed() {
    this.#feed?.unsubscribe();
    this.#feed = null;
  }

  #apply(event) {
    const operation = event.type.slice(event.type.indexOf(".") + 1);
    const record = event.data;
    const at = this.#page.items.findIndex((one) => one.id === record.id);
    this.#heard(operation, event);
    if (operation === "delete") {
      if (at >= 0) this.mark(record.id, "delete");
      return this.#readSoon();
    }
    if (operation === "create" || at < 0) return this.#mayMove(operation, null, record);
    const before = this.#page.items[at];
    // A page that was read meanwhile may be newer than an event that comes late.
    if (record.updated_at < before.updated_at) return undefined;
    this.#page.items[at] = record;
    this.draw(this.#page);
    this.mark(record.id, "update");
    return this.#mayMove(operation, before, record);
  }

  #mayMove(operation, before, record) {
    const keys = (this.#asked.sort || "-created_at").split(",").map((word) => word.trim().replace(/^[+-]/, ""));
    const moved = before === null ? keys.some((key) => !["id", "created_at", "created_by"].includes(key)) : keys.some((key) => before[key] !== record[key]);
    if (operation === "create" || moved) this.#readSoon();
  }

  #readSoon() {
    // A list that takes long to read is not read all the time because others write all the time.
    this.#timer ??= setTimeout(() => this.read(), Math.max(AGAIN_MS, 3 * this.#took));
  }

  #markDifferences(known, items) {
    const before = new Map(known.map((one) => [one.id, JSON.stringify(one)]));
    for (const one of items) {
      if (!before.has(one.id)) this.mark(one.id, "create");
      else if (before.get(one.id) !== JSON.stringify(one)) this.mark(one.id, "update");
    }
  }
}
