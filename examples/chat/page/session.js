// Who is logged in: signing up, in and out, and fresh tokens. Kept in localStorage, so a reload stays logged in.

import { SnackBaseError } from "./snackbase/index.js";

const KEY = "snackbase-chat";

export class Session {
  /** Called when the login ended or began in another tab, or the server ended it. */
  onchange = () => {};
  #server;
  #handedOut = null;
  #known = null;

  /** @param {string} server its address; empty: the page's own */
  constructor(server) {
    this.#server = server;
    this.#known = this.user?.id ?? null;
    addEventListener("storage", () => {
      // A fresh token of the same user is no news.
      const now = this.user?.id ?? null;
      if (now === this.#known) return;
      this.#known = now;
      this.onchange();
    });
  }

  /** `{ id, email, … }`; null: nobody. */
  get user() {
    return this.#login?.user ?? null;
  }

  async signUp(email, password) {
    this.#keep(await this.#post("/auth/register", { email, password }));
  }

  async signIn(email, password) {
    this.#keep(await this.#post("/auth/login", { email, password }));
  }

  async signOut() {
    const login = this.#login;
    this.#keep(null);
    // Also without the server's consent: whoever signs out is signed out here.
    if (login) await this.#post("/auth/logout", {}, login.token).catch(() => {});
  }

  /** What the client asks for its tokens: the one there is, or a fresh one; null: nobody is logged in. */
  getToken = async ({ fresh }) => {
    this.#handedOut = fresh ? await this.#alone(() => this.#renewed()) : (this.#login?.token ?? null);
    return this.#handedOut;
  };

  async #renewed() {
    const login = this.#login;
    // Another tab was here before: a refresh token works only once.
    if (login === null || login.token !== this.#handedOut) return login?.token ?? null;
    try {
      this.#keep(await this.#post("/auth/refresh", { refresh_token: login.refresh_token }));
    } catch (error) {
      if (error.status !== 401) throw error;
      this.#keep(null);
      this.onchange();
    }
    return this.#login?.token ?? null;
  }

  /** One tab at a time, where the browser can do that (on https and localhost). */
  #alone(work) {
    return navigator.locks ? navigator.locks.request(KEY, work) : work();
  }

  get #login() {
    return JSON.parse(localStorage.getItem(KEY));
  }

  #keep(login) {
    this.#known = login?.user.id ?? null;
    if (login === null) localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, JSON.stringify(login));
  }

  async #post(path, body, token) {
    let answer;
    try {
      answer = await fetch(`${this.#server}/api/v1${path}`, {
        method: "POST",
        headers: { "content-type": "application/json", ...(token && { authorization: `Bearer ${token}` }) },
        body: JSON.stringify(body),
      });
    } catch {
      throw new SnackBaseError("network_error", "The server cannot be reached.");
    }
    const value = await answer.json().catch(() => null);
    if (answer.ok) return value;
    const { code = "http_error", message = `The server answered ${answer.status}.`, details = [] } = value ?? {};
    throw new SnackBaseError(code, details[0]?.message ?? message, { status: answer.status, details });
  }
}
