// One login: its tokens, the account acted in, REST and realtime through the JavaScript client, and its end.
//
// The access token is kept in sessionStorage, so that a reload of the tab goes on. The refresh token works once, and a
// second use ends every login of the user; so it lives in memory, and in sessionStorage only while the tab reloads. A tab
// that was duplicated has the access token alone, and asks for the password when that has expired.

import { Emitter } from "./client/emitter.js";
import { asError, errorOfResponse } from "./client/errors.js";
import { Http } from "./client/http.js";
import { createClient } from "./client/index.js";
import { Tokens } from "./client/tokens.js";
import { collectionsOf } from "./collections.js";

/** The server's address: the console lies one folder below it, also where it is mounted. */
export const SERVER = new URL("..", document.baseURI).href.replace(/\/$/, "");
const STORED = `snackbase-console ${SERVER}`;
const SYSTEM = "00000000-0000-0000-0000-000000000000";
const NOTHING = `id = '${SYSTEM}'`;

/** Events: end (text or null), state (of the connection), changed (the collections may be others). */
export class Session extends Emitter {
  /** Whether the server has realtime; null until `probed` is done. */
  live = null;
  connection = { state: "idle", error: null, retryInMs: null, transport: null };

  #login;
  #refreshing = null;
  #tokens = null;
  #collections = null;
  #over = false;

  constructor(login, acting = login.account) {
    super();
    this.#login = login;
    this.acting = acting;
    addEventListener("pagehide", this.#keep);
    addEventListener("pageshow", this.#save);
    this.#save();
    this.#open();
  }

  static async signIn(account, email, password) {
    return new Session(await post("/auth/login", { account, email, password }));
  }

  /** The login of before the reload; null when there is none. */
  static restore() {
    const stored = JSON.parse(sessionStorage.getItem(STORED) ?? "null");
    return stored && new Session(stored.login, stored.acting);
  }

  get user() {
    return this.#login.user;
  }

  get account() {
    return this.#login.account;
  }

  get superadmin() {
    return this.account.id === SYSTEM;
  }

  get admin() {
    return this.superadmin || this.user.role === "admin";
  }

  /** A REST call of the one acted in the account acted in. */
  call(method, path, body) {
    return this.http.request(method, path, body === undefined ? {} : { body });
  }

  /** What may be used here (collections.js); read once, until `forget`. */
  collections() {
    this.#collections ??= collectionsOf(this).catch((error) => {
      this.#collections = null;
      throw error;
    });
    return this.#collections;
  }

  forget() {
    this.#collections = null;
    this.emit("changed", null);
  }

  /** For superadmins: everything from now on is about this account. */
  actIn(account) {
    this.acting = account;
    this.#save();
    this.#open();
    this.forget();
  }

  /** Whoever the user is now: role and groups may have changed since the login. */
  async check() {
    const { user, account } = await this.call("GET", "/auth/me");
    const before = this.user.role;
    this.#login = { ...this.#login, user, account };
    this.#save();
    if (user.role !== before) this.forget();
  }

  async signOut() {
    await this.call("POST", "/auth/logout").catch(() => {});
    this.#end(null);
  }

  refresh() {
    this.#refreshing ??= this.#renew().finally(() => (this.#refreshing = null));
    return this.#refreshing;
  }

  // -------------------------------------------------------------------------------------------------------------------

  #open() {
    this.client?.close();
    const account = this.superadmin ? this.acting.slug : null;
    const getToken = ({ fresh }) => (fresh ? this.refresh() : this.#login.token);
    this.#tokens = new Tokens({ getToken });
    this.http = new Http({ url: SERVER, fetch: (...asked) => fetch(...asked), tokens: this.#tokens, account });
    const client = createClient({ url: SERVER, getToken, account });
    this.client = client;
    this.#collections = null;
    client.on("state", (state) => {
      if (client === this.client && !this.#over) this.#connected(state);
    });
    // What goes wrong stands in the state that follows, and at the list that asked.
    client.on("error", () => {});
    this.probed = this.#watch(client);
  }

  #connected(state) {
    this.connection = state;
    this.emit("state", state);
    // Who may not come back has no business here any more.
    const { error } = state;
    if (state.state === "stopped" && error?.closeCode >= 4501 && error.closeCode <= 4504) this.#end(`You were signed out. ${error.message}`);
  }

  /** Keep a connection that carries nothing, so that its end is noticed at once: a logout elsewhere, a restart. */
  async #watch(client) {
    try {
      await this.call("GET", `/realtime/changes?${new URLSearchParams({ collection: "*", limit: "1" })}`);
      this.live = true;
    } catch (error) {
      this.live = error.status !== 404;
    }
    if (client !== this.client || this.#over) return;
    this.emit("state", this.connection);
    // Rules, fields or rights are others now: so are the lists.
    if (this.live) client.subscribe("*", { filter: NOTHING }, { resync: () => this.forget(), error: () => {} });
  }

  async #renew() {
    if (!this.#login.refresh_token) return this.#end("Your login has expired. Please sign in again.");
    try {
      this.#login = await post("/auth/refresh", { refresh_token: this.#login.refresh_token });
    } catch (error) {
      if (error.status !== 401) throw error;
      return this.#end(`You were signed out. ${error.message}`);
    }
    this.#tokens.set(this.#login.token);
    this.#save();
    return this.#login.token;
  }

  #end(text) {
    if (this.#over) return null;
    this.#over = true;
    removeEventListener("pagehide", this.#keep);
    removeEventListener("pageshow", this.#save);
    sessionStorage.removeItem(STORED);
    this.client.close();
    this.emit("end", text);
    return null;
  }

  #save = () => {
    const { refresh_token: _, ...login } = this.#login;
    sessionStorage.setItem(STORED, JSON.stringify({ login, acting: this.acting }));
  };

  #keep = () => sessionStorage.setItem(STORED, JSON.stringify({ login: this.#login, acting: this.acting }));
}

/** A call without a token. */
async function post(path, body) {
  let answer;
  try {
    answer = await fetch(`${SERVER}/api/v1${path}`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
    });
  } catch (error) {
    throw asError(error);
  }
  if (!answer.ok) throw await errorOfResponse(answer);
  return answer.json();
}
