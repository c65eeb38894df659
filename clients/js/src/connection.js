// The one realtime connection of a client: opens it while somebody subscribes, brings it back when it ends, keeps its
// token fresh, and hands every message to the subscription it names. It knows no records.

import { Backoff } from "./backoff.js";
import { Chooser } from "./chooser.js";
import { Emitter } from "./emitter.js";
import { SnackBaseError, asError, endOf, farewellOf, isTokenCode } from "./errors.js";
import { Outgoing } from "./outgoing.js";
import { listenToPage } from "./page.js";
import { openStream, probe } from "./transport-sse.js";
import { openWebSocket } from "./transport-websocket.js";
import { Watchdog } from "./watchdog.js";

const OPENING_MS = { websocket: 15_000, sse: 45_000 };
const LINGER_MS = 1_000;
const RENEWALS_APART_MS = 10_000;
const REFUSED_STATUS = new Set([400, 403, 404]);

/**
 * idle: nobody subscribes. connecting. open. waiting: until the next try. stopped: until the app acts. closed.
 * Events: state ({ state, transport, retryInMs, error }), error (SnackBaseError).
 */
export class Connection extends Emitter {
  state = "idle";
  /** @type {string | null} */
  transport = null;

  /** @type {Map<string, import("./subscription.js").Subscription>} */
  #subscriptions = new Map();
  /** @type {Map<string, number>} by the names of subscriptions that are gone: questions that are still to be answered */
  #owed = new Map();
  #options;
  #tokens;
  #backoff;
  #chooser;
  #outgoing;
  #watchdog;
  /** @type {{ send(message: object): void, close(how?: { dead?: boolean }): void } | null} */
  #link = null;
  /** @type {string | null} */
  #token = null;
  #dialling = 0;
  #openedAt = 0;
  /** @type {any} the server's last message */
  #farewell = null;
  /** @type {{ token: string | null, code: string } | null} */
  #needsFresh = null;
  #freshTried = false;
  /** Whether the link takes questions. */
  #askable = false;
  #streams = 0;
  #renewedAt = -Infinity;
  /** @type {Record<"open" | "retry" | "renew" | "linger" | "again", ReturnType<typeof setTimeout> | undefined>} */
  #timers = { open: undefined, retry: undefined, renew: undefined, linger: undefined, again: undefined };
  #unlisten = () => {};

  /**
   * @param {{ url: string, account: string | null, tokens: import("./tokens.js").Tokens, transport: string,
   *   WebSocket: any, fetch: typeof globalThis.fetch, reconnect?: object }} options
   */
  constructor(options) {
    super();
    this.#options = options;
    this.#tokens = options.tokens;
    this.#backoff = new Backoff(options.reconnect);
    this.#chooser = new Chooser(options.transport, options.WebSocket !== undefined);
    this.#outgoing = new Outgoing((message) => this.#link?.send(message));
    this.#watchdog = new Watchdog({
      ask: () => this.#link?.send({ action: "ping" }),
      silent: () => this.#lose(new SnackBaseError("timeout", "The server went silent."), { dead: true }),
    });
    this.#unlisten = listenToPage(() => this.#nudge());
  }

  // What the client asks ----------------------------------------------------------------------------------------------

  /** @param {import("./subscription.js").Subscription} subscription */
  add(subscription) {
    if (this.state === "closed") throw new SnackBaseError("closed", "This client is closed.");
    if (this.#subscriptions.has(subscription.id)) throw new TypeError(`There is a subscription ${subscription.id} already.`);
    this.#subscriptions.set(subscription.id, subscription);
    subscription.follow(this.#owed.get(subscription.id) ?? 0);
    this.#owed.delete(subscription.id);
    clearTimeout(this.#timers.linger);
    if (this.state === "idle") this.#dial();
    else this.ask(subscription);
  }

  /** Send a subscription's question now, if there is a connection; else it is sent with the next one. */
  ask(subscription) {
    if (this.state === "idle" && this.#subscriptions.size > 0) this.#dial();
    if (!this.#askable || this.#subscriptions.get(subscription.id) !== subscription) return;
    if (this.transport === "sse") {
      // What a stream carries is fixed when it opens.
      this.#timers.again ??= setTimeout(() => this.#again(), 0);
    } else {
      this.#outgoing.ask(subscription);
    }
  }

  remove(subscription) {
    if (this.#subscriptions.get(subscription.id) !== subscription) return;
    this.#subscriptions.delete(subscription.id);
    if (subscription.awaited > 0) this.#owed.set(subscription.id, subscription.awaited);
    this.#outgoing.forget(subscription);
    if (this.#subscriptions.size === 0) this.#timers.linger = setTimeout(() => this.#rest(), LINGER_MS);
    else if (subscription.phase !== "off") this.#outgoing.unsubscribe(subscription.id);
    subscription.phase = "off";
  }

  /** The app acted: try again now. */
  reconnect() {
    if (this.state === "closed" || this.#subscriptions.size === 0) return;
    this.#freshTried = false;
    this.#backoff.reset();
    this.#hangUp();
    this.#dial();
  }

  /** The app brought another token. */
  tokenChanged() {
    if (this.state === "open" && this.transport === "websocket") this.#present(this.#tokens.current);
    else this.reconnect();
  }

  close() {
    this.#hangUp();
    this.#subscriptions.clear();
    this.#unlisten();
    clearTimeout(this.#timers.linger);
    this.#become("closed");
  }

  // Opening -----------------------------------------------------------------------------------------------------------

  async #dial() {
    const number = ++this.#dialling;
    clearTimeout(this.#timers.retry);
    const transport = this.#chooser.next();
    this.transport = transport;
    if (transport === "sse" && !this.#wanted().length) return this.#become("idle");
    this.#become("connecting");
    let token;
    try {
      const stale = this.#needsFresh;
      token = stale === null ? await this.#tokens.get() : await this.#tokens.renew(stale.token, stale.code);
    } catch (error) {
      if (number === this.#dialling) this.#unanswered(asError(error));
      return;
    }
    if (number !== this.#dialling) return;
    this.#needsFresh = null;
    this.#token = token;
    this.#farewell = null;
    this.#timers.open = setTimeout(
      () => this.#lose(new SnackBaseError("timeout", "The server did not answer in time."), { dead: true }),
      OPENING_MS[transport],
    );
    this.#link = this.#open(transport, token);
  }

  #open(transport, token) {
    const { url, account, fetch, WebSocket } = this.#options;
    const common = {
      url,
      account,
      onMessage: (message) => this.#receive(message),
      onEnd: (end) => this.#ended(end),
    };
    if (transport === "websocket") {
      return openWebSocket({
        ...common,
        WebSocket,
        onOpen: () => {
          this.#link?.send({ action: "auth", token });
          this.#askable = true;
          for (const subscription of this.#subscriptions.values()) this.#outgoing.ask(subscription);
        },
      });
    }
    this.#askable = true;
    const batch = ++this.#streams;
    const requests = this.#wanted().map((one) => one.ask(batch));
    return openStream({ ...common, fetch, token, requests });
  }

  /** The subscriptions that have a question. */
  #wanted() {
    return [...this.#subscriptions.values()].filter((one) => one.wants !== "nothing");
  }

  /** `getToken` had no answer. */
  #unanswered(error) {
    this.#surface(error);
    if (error.code === "token_missing" || !this.#tokens.renewable) this.#become("stopped", { error });
    else this.#wait(error);
  }

  // Messages ----------------------------------------------------------------------------------------------------------

  #receive(message) {
    this.#watchdog.heard();
    if (this.state === "connecting" && (this.transport === "sse" || message.type === "auth")) this.#opened();
    const name = message.subscription ?? message.id;
    const subscription = name === undefined ? undefined : this.#subscriptions.get(name);
    switch (message.type) {
      case "heartbeat":
        this.#watchdog.beat();
        this.#moveAll(message.position);
        return;
      case "auth":
        this.#authTold(message);
        return;
      case "closing":
        this.#farewell = message;
        return;
      case "error":
        if (message.close_code !== undefined) this.#farewell = message;
        else if (subscription !== undefined) subscription.receive(message);
        else if (!this.#settled(name)) this.#complained(message);
        return;
      default:
        if (subscription !== undefined) subscription.receive(message);
        else if (message.type === "subscribed") this.#settled(name);
    }
  }

  /** Whether this answers a question of a subscription that is gone. */
  #settled(name) {
    const owed = this.#owed.get(name);
    if (owed === undefined) return false;
    if (owed > 1) this.#owed.set(name, owed - 1);
    else this.#owed.delete(name);
    return true;
  }

  #complained(message) {
    const aboutToken = message.action === "auth";
    // A refused first token also ends the connection, which then says what is to be done.
    if (aboutToken && this.state === "connecting") return;
    if (aboutToken) this.#planRenewal(RENEWALS_APART_MS);
    this.#surface(new SnackBaseError(message.code, message.message, { collection: message.collection }));
  }

  #opened() {
    clearTimeout(this.#timers.open);
    this.#openedAt = performance.now();
    this.#freshTried = false;
    this.#chooser.worked(this.transport);
    this.#watchdog.start();
    this.#planRenewal();
    this.#become("open");
  }

  /**
   * A heartbeat's position covers everything that was sent to every subscription. While some of them are told of the
   * past it lies where that stands, which for the others is before what they have already.
   */
  #moveAll(position) {
    const all = this.#wanted();
    const live = all.every((one) => one.phase === "live");
    const together = all.every((one) => one.phase === "replay" && one.replayKey === all[0].replayKey);
    if (live || together) for (const one of all) one.moveTo(position);
  }

  // The end of a connection -------------------------------------------------------------------------------------------

  /** The link ended by itself. */
  #ended({ closeCode, reason, error }) {
    const why = this.#farewell === null ? endOf(closeCode, reason, error) : farewellOf(this.#farewell);
    if (this.transport === "sse" && REFUSED_STATUS.has(why.status)) this.#isolate(why);
    else this.#lose(why);
  }

  /** @param {SnackBaseError} error */
  #lose(error, { dead = false } = {}) {
    const wasOpen = this.state === "open";
    if (wasOpen) this.#backoff.lived(performance.now() - this.#openedAt);
    else if (error.status === 0 && error.closeCode < 3000) this.#chooser.failed(this.transport);
    const token = this.#token;
    this.#hangUp({ dead });
    if (this.#subscriptions.size === 0) return this.#become("idle");
    const aboutToken = isTokenCode(error.code);
    const final = error.closeCode >= 4500 || error.status === 401 || error.code === "connection_limit";
    if (aboutToken && this.#tokens.renewable && (error.code === "token_expired" || !this.#freshTried)) {
      this.#freshTried = error.code !== "token_expired";
      this.#needsFresh = { token, code: error.code };
    } else if (aboutToken || final) {
      this.#surface(error);
      return this.#become("stopped", { error });
    }
    if (!wasOpen) this.#surface(error);
    return this.#wait(error);
  }

  /** A stream is refused as a whole: find out whose fault it is, tell them, and go on with the others. */
  async #isolate(error) {
    const token = this.#token ?? "";
    this.#hangUp();
    const number = this.#dialling;
    this.#become("connecting");
    const wanted = this.#wanted();
    const ending = AbortSignal.timeout(OPENING_MS.sse);
    let found = 0;
    for (const subscription of wanted) {
      const request = subscription.question();
      let told = wanted.length === 1 ? error : null;
      try {
        told ??= await probe({ ...this.#options, token, request, signal: ending });
      } catch (problem) {
        told = asError(problem);
      }
      if (number !== this.#dialling) return;
      if (told === null || !REFUSED_STATUS.has(told.status)) continue;
      found += 1;
      subscription.receive({ type: "error", code: told.code, message: told.message });
    }
    if (number !== this.#dialling) return;
    if (found === 0) this.#wait(error);
    else this.#dial();
  }

  /** Let go of the link and of everything that was planned for it. */
  #hangUp({ dead = false } = {}) {
    this.#dialling += 1;
    for (const name of ["open", "retry", "renew", "again"]) {
      clearTimeout(this.#timers[name]);
      this.#timers[name] = undefined;
    }
    this.#watchdog.stop();
    this.#outgoing.clear();
    this.#link?.close({ dead });
    this.#link = null;
    this.#askable = false;
    this.#owed.clear();
    for (const subscription of this.#subscriptions.values()) subscription.detach();
  }

  #wait(error) {
    const retryInMs = this.#backoff.next(error.retryAfterMs);
    this.#timers.retry = setTimeout(() => this.#dial(), retryInMs);
    this.#become("waiting", { retryInMs, error });
  }

  #rest() {
    if (this.#subscriptions.size > 0 || this.state === "closed") return;
    this.#hangUp();
    this.#become("idle");
  }

  /** Another stream with what is wanted now. */
  #again() {
    this.#hangUp();
    this.#dial();
  }

  /** The network or the page came back. */
  #nudge() {
    if (this.state === "open") this.#watchdog.probe();
    else if (this.state === "waiting") {
      this.#backoff.reset();
      this.#dial();
    }
  }

  // The token ---------------------------------------------------------------------------------------------------------

  #authTold(message) {
    // A fresh token that is as old as the last one is warned of again at once.
    const again = performance.now() - this.#renewedAt < RENEWALS_APART_MS;
    if (message.status === "expiring" && this.#tokens.followsWarnings && !again) this.#renew();
    else if (message.status === "ok") this.#planRenewal();
  }

  #planRenewal(atLeastMs = 0) {
    clearTimeout(this.#timers.renew);
    const after = this.#tokens.renewable ? this.#tokens.renewInMs() : null;
    if (after !== null) this.#timers.renew = setTimeout(() => this.#renew(), Math.max(atLeastMs, after));
  }

  async #renew() {
    const number = this.#dialling;
    this.#renewedAt = performance.now();
    try {
      const token = await this.#tokens.renew(this.#token, "expiring");
      if (number === this.#dialling) this.#present(token);
    } catch (error) {
      this.#surface(asError(error));
      if (number === this.#dialling && this.#tokens.renewable) this.#planRenewal(RENEWALS_APART_MS);
    }
  }

  #present(token) {
    if (token === null) return;
    if (this.transport === "sse") {
      this.#again();
      return;
    }
    this.#token = token;
    this.#link?.send({ action: "auth", token });
  }

  // -------------------------------------------------------------------------------------------------------------------

  #become(state, facts = {}) {
    if (state === this.state && state !== "waiting") return;
    this.state = state;
    this.emit("state", { state, transport: this.transport, retryInMs: null, error: null, ...facts });
  }

  #surface(error) {
    this.emit("error", error);
  }
}
