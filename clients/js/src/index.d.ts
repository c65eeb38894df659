/**
 * Every failure. `code` is a word of the server's error reference (docs/reference/errors.md), or one of the client's own:
 * network_error, timeout, token_missing, closed, protocol_error, http_<status>, close_<code>.
 */
export class SnackBaseError extends Error {
  constructor(code: string, message: string, facts?: Partial<Pick<SnackBaseError, "status" | "closeCode" | "retryAfterMs">>);
  readonly name: "SnackBaseError";
  readonly code: string;
  /** HTTP status; 0 = there was no answer, or it came over a realtime connection. */
  readonly status: number;
  /** The WebSocket close code that ended the connection; 0 = none. */
  readonly closeCode: number;
  /** What is wrong with which field of a request. */
  readonly details: { field: string; message: string; code: string }[];
  /** How long the server asked to wait; 0 = it did not say. */
  readonly retryAfterMs: number;
  /** The collection of the subscription, if it was one. */
  readonly collection: string | null;
  /** Whether the same may succeed later without a change. */
  readonly transient: boolean;
}

/** A record as REST returns it: flat, with the system fields. With `fields` only `id` is certain. */
export interface SystemFields {
  id: string;
  account_id: string;
  created_at: string;
  created_by: string | null;
  updated_at: string;
  updated_by: string | null;
}
export type RecordOf<T> = T & SystemFields;
export type Operation = "create" | "update" | "delete";

export interface ClientOptions {
  /** The server's address, `https://data.example.com`. Left out: the page's own origin. */
  url?: string;
  /** An access token or an API key. */
  token?: string | null;
  /**
   * Called for the first token (unless `token` is given), before a token expires, and once when one was refused. Return
   * null when nobody is logged in; throw when you could not find out, and the client asks again later.
   */
  getToken?: (asked: { fresh: boolean; reason: string | null }) => string | null | Promise<string | null>;
  /** The account to act in, by slug or code: for superadmins. */
  account?: string | null;
  /** auto: WebSocket, and Server-Sent Events where that does not get through. */
  transport?: "auto" | "websocket" | "sse";
  /** Needed where there is no global one, as in Node 20: `import WebSocket from "ws"`. */
  WebSocket?: unknown;
  /** Another fetch than the global one. */
  fetch?: typeof globalThis.fetch;
  /** Waits before reconnecting: random, below a limit that doubles from 500 to 30,000; 10,000 = stable. */
  reconnect?: { minMs?: number; maxMs?: number; stableMs?: number; random?: () => number };
  /** The longest time a REST call may take; 30,000. */
  timeoutMs?: number;
}

/** `stopped`: reconnecting would not help until the app acts, by `setToken` or `reconnect`. */
export type ConnectionState = "idle" | "connecting" | "open" | "waiting" | "stopped" | "closed";

export interface StateChange {
  state: ConnectionState;
  transport: "websocket" | "sse" | null;
  /** While `waiting`: how long. */
  retryInMs: number | null;
  /** Why, for `waiting` and `stopped`. */
  error: SnackBaseError | null;
}

export function createClient(options?: ClientOptions): Client;

export class Client {
  constructor(options?: ClientOptions);
  readonly state: ConnectionState;
  readonly transport: "websocket" | "sse" | null;
  /** Read and write records over REST. */
  records<T extends object = Record<string, unknown>>(collection: string): Records<T>;
  /** Events as they come; reconnects and resumes by itself. */
  subscribe<T extends object = Record<string, unknown>>(
    collection: string,
    options?: SubscribeOptions,
    handlers?: Handlers<T> | ((event: RecordEvent<T>) => void),
  ): Feed;
  subscribe<T extends object = Record<string, unknown>>(
    collection: string,
    handler: (event: RecordEvent<T>) => void,
  ): Feed;
  /** A list that stays current. */
  liveQuery<T extends object = Record<string, unknown>>(collection: string, query?: LiveQueryOptions): LiveQuery<T>;
  /** Give it another token: it replaces the old one in place, and starts again after `stopped`. */
  setToken(token: string): void;
  /** Try again now, also after `stopped`. */
  reconnect(): void;
  /** End the connection and everything that uses it. */
  close(): void;
  on(name: "state", listener: (change: StateChange) => void): () => void;
  on(name: "error", listener: (error: SnackBaseError) => void): () => void;
  off(name: "state" | "error", listener: (value: any) => void): void;
}

export interface RecordEvent<T = Record<string, unknown>> {
  /** `{collection}.{operation}` */
  type: string;
  timestamp: string;
  /** On the last event of a transaction. */
  position?: string;
  data: RecordOf<T>;
  /** The record came into or went out of what this subscription sees. */
  change?: "enter" | "leave";
  tx?: string;
  tx_size?: number;
  subscription?: string;
}

export interface SubscribeOptions {
  /** Left out: all three. */
  operations?: Operation[];
  /** In the language of rules: `status = 'published'`. */
  filter?: string;
  /** The fields of each record; `id` always comes along. Left out: all. */
  fields?: string[] | string;
  /** Begin with what was committed after this position. */
  since?: string;
  /** A name for the subscription, to recognise it in explain. */
  id?: string;
}

export interface Handlers<T = Record<string, unknown>> {
  event?(event: RecordEvent<T>): void;
  create?(record: RecordOf<T>, event: RecordEvent<T>): void;
  update?(record: RecordOf<T>, event: RecordEvent<T>): void;
  delete?(record: RecordOf<T>, event: RecordEvent<T>): void;
  /** All events of one transaction, after the handlers of each of them. */
  transaction?(events: RecordEvent<T>[]): void;
  /** Each time the server acknowledges it, after reconnects too. */
  subscribed?(told: { position: string | null }): void;
  /** Everything missed has arrived; from here on it is live. */
  caughtUp?(told: { position: string }): void;
  /** Events may be missing: fetch what you hold again. */
  resync?(told: { reason: "expired" | "epoch" | "ahead" | "unknown" | "rights" | "schema"; position: string }): void;
  /** The server ended the subscription. */
  unsubscribed?(told: { reason: "forbidden" | "collection_deleted" }): void;
  /** The subscription was refused. */
  error?(error: SnackBaseError): void;
}

export interface Feed {
  readonly id: string;
  readonly collection: string;
  /** Everything up to here was handed to the handlers. */
  readonly position: string | null;
  /** Resolves when the server has acknowledged it for the first time. */
  readonly ready: Promise<Feed>;
  /** Try again after `error` or `unsubscribed`. */
  retry(): void;
  unsubscribe(): void;
}

export interface LiveQueryOptions {
  /** In the language of rules: `status = 'published'`. Left out: every record that you may list. */
  filter?: string;
  /** The fields of each record; `id` always comes along. Left out: all. */
  fields?: string[] | string;
  /** As in REST: `-created_at,title`. Left out: newest first. */
  sort?: string;
  /** A name for the subscription, to recognise it in explain. */
  id?: string;
}

export interface Change<T> {
  operation: Operation;
  record: RecordOf<T>;
  change: "enter" | "leave" | null;
  timestamp: string;
}

export type LiveQueryState = "loading" | "live" | "catching_up" | "failed" | "closed";

export interface LiveQuery<T = Record<string, unknown>> {
  readonly collection: string;
  readonly state: LiveQueryState;
  /** The list, in order. The array is frozen; every change makes a new one. */
  readonly records: readonly RecordOf<T>[];
  /** Resolves when the list is complete for the first time; rejects when it cannot be loaded. */
  readonly ready: Promise<LiveQuery<T>>;
  /** `changes`: one transaction; null = the whole list was replaced. */
  on(name: "change", listener: (told: { records: readonly RecordOf<T>[]; changes: Change<T>[] | null }) => void): () => void;
  on(name: "state", listener: (told: { state: LiveQueryState; error: SnackBaseError | null }) => void): () => void;
  on(name: "error", listener: (error: SnackBaseError) => void): () => void;
  off(name: "change" | "state" | "error", listener: (value: any) => void): void;
  /** Try again after `failed`. */
  retry(): void;
  /** End it. */
  close(): void;
}

export interface Page<T> {
  items: RecordOf<T>[];
  total: number | null;
  skip: number;
  limit: number;
  position: string;
  /** Given back as `cursor` and `cursor_before`; null at either end. */
  next_cursor: string | null;
  prev_cursor: string | null;
  has_more: boolean;
}

export interface ListQuery {
  filter?: string;
  sort?: string;
  fields?: string[] | string;
  skip?: number;
  limit?: number;
  total?: boolean;
  /** A page's `next_cursor`: the page after it. */
  cursor?: string;
  cursor_before?: string;
  /** References to follow: `author,author.company`. */
  expand?: string[] | string;
}

export interface WriteOptions {
  /** Repeating a write with the same key does it once, and gives the first answer again. */
  idempotencyKey?: string;
}

export interface Records<T = Record<string, unknown>> {
  /** One page. */
  list(query?: ListQuery, options?: { signal?: AbortSignal }): Promise<Page<T>>;
  /** Every record, page by page in the order of ids. */
  pages(query?: Pick<ListQuery, "filter" | "fields">, options?: { signal?: AbortSignal }): AsyncGenerator<Page<T>>;
  get(id: string, options?: { fields?: string[] | string }): Promise<RecordOf<T>>;
  create(data: Partial<T> & { id?: string }, options?: WriteOptions): Promise<RecordOf<T>>;
  /** Change the given fields. */
  update(id: string, data: Partial<T>, options?: WriteOptions): Promise<RecordOf<T>>;
  /** Put a whole record in the place of the old one. */
  replace(id: string, data: T, options?: WriteOptions): Promise<RecordOf<T>>;
  delete(id: string, options?: WriteOptions): Promise<null>;
  /** Up to 100 records in one transaction: all or none. */
  readonly batch: {
    create(records: (Partial<T> & { id?: string })[], options?: WriteOptions): Promise<{ created: RecordOf<T>[]; count: number }>;
    update(records: { id: string; data: Partial<T> }[], options?: WriteOptions): Promise<{ updated: RecordOf<T>[]; count: number }>;
    delete(ids: string[], options?: WriteOptions): Promise<{ deleted: string[]; count: number }>;
  };
}
