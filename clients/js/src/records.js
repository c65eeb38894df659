// Records of one collection over REST.

const PAGE = 100;

export class Records {
  #http;
  #path;

  /**
   * @param {import("./http.js").Http} http
   * @param {string} collection
   */
  constructor(http, collection) {
    this.#http = http;
    this.#path = `/records/${encodeURIComponent(collection)}`;
    this.batch = {
      create: (records, options) => this.#write("POST", "/batch", { records }, options),
      update: (records, options) => this.#write("PATCH", "/batch", { records }, options),
      delete: (ids, options) => this.#write("DELETE", "/batch", { ids }, options),
    };
  }

  /**
   * One page: `{ items, total, skip, limit, position }`.
   * @param {object} [query]
   * @param {{ signal?: AbortSignal }} [options]
   */
  list(query = {}, options = {}) {
    return this.#http.request("GET", this.#path + search(query), { signal: options.signal });
  }

  /**
   * @param {string} id
   * @param {{ fields?: string | string[] }} [options]
   */
  get(id, { fields } = {}) {
    return this.#http.request("GET", `${this.#one(id)}${search({ fields })}`);
  }

  create(data, options) {
    return this.#write("POST", "", data, options);
  }

  /** Change the fields that are given. */
  update(id, data, options) {
    return this.#http.request("PATCH", this.#one(id), { body: data, headers: headersOf(options) });
  }

  /** Put a whole record in the place of the old one. */
  replace(id, data, options) {
    return this.#http.request("PUT", this.#one(id), { body: data, headers: headersOf(options) });
  }

  delete(id, options) {
    return this.#http.request("DELETE", this.#one(id), { headers: headersOf(options) });
  }

  /**
   * Every record, page by page in the order of ids: one that is there all the time is in it, whatever is written
   * meanwhile, because a page begins after an id (the cursor holds it) and not after a number of records.
   * @param {{ filter?: string, fields?: string | string[] }} [query]
   * @param {{ signal?: AbortSignal }} [options]
   */
  async *pages({ filter, fields } = {}, options = {}) {
    let cursor;
    do {
      const page = await this.list({ filter, fields, sort: "id", cursor, limit: PAGE, total: false }, options);
      yield page;
      cursor = page.next_cursor;
    } while (cursor);
  }

  #one(id) {
    return `${this.#path}/${encodeURIComponent(id)}`;
  }

  #write(method, path, body, options) {
    return this.#http.request(method, this.#path + path, { body, headers: headersOf(options) });
  }
}

/**
 * @param {{ idempotencyKey?: string }} [options]
 * @returns {Record<string, string>}
 */
function headersOf({ idempotencyKey } = {}) {
  return idempotencyKey === undefined ? {} : { "idempotency-key": idempotencyKey };
}

function search(query) {
  const asked = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined && value !== null && value !== "") asked.set(name, String(value));
  }
  const text = asked.toString();
  return text === "" ? "" : `?${text}`;
}
