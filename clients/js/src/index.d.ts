/** What went wrong, in the server's words: `code` is a snake_case word of the error reference. */
export class SnackBaseError extends Error {
  constructor(code: string, message: string, facts?: Partial<Pick<SnackBaseError, "status" | "closeCode" | "retryAfterMs">>);
  readonly name: "SnackBaseError";
  readonly code: string;
  /** HTTP status; 0 = there was no answer, or it came over a realtime connection. */
  readonly status: number;
  /** The WebSocket close code that ended the connection; 0 = none. */
  readonly closeCode: number;
  readonly details: { field: string; message: string; code: string }[];
  readonly retryAfterMs: number;
  readonly collection: string | null;
  /** Whether the same may succeed later without anybody changing anything. */
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
  /** The server's address, `https://data.example.com`. A page served by it may leave it out. */
  url?: string;
  /** An access token or an API key. */
  token?: string | null;
  /**
   * Asked for the first token (unless `token` is given) and for each fresh one. null: nobody is logged in; a rejection:
   * ask again later.
   */
  getToken?: (asked: { fresh: boolean; reason: string | null }) => string | null | Promise<string | null>;
  /** The account to act in, by slug or code: for superadmins. */
  account?: string | null;
  /** auto: WebSocket, and Server-Sent Events where that does not get through. */
  transport?: "auto" | "websocket" | "sse";
  /** Needed where there is no global one, as in Node 20: `import WebSocket from "ws"`. */
  WebSocket?: unknown;
  fetch?: typeof globalThis.fetch;
  reconnect?: { minMs?: number; maxMs?: number; stableMs?: number; random?: () => number };
  /** The longest a REST call may take; 30,000. */
  timeoutMs?: number;
}

export type ConnectionState = "idle" | "connecting" | "open" | "waiting" | "stopped" | "closed";

export interface StateChange {
  state: ConnectionState;
  transport: "websocket" | "sse" | null;
  /** While `waiting`: how long. */
  retryInMs: number | null;
  /** Why, for `waiting` and `stopped`. */
  error: SnackBaseError | null;
}

export function createClient(options: ClientOptions): Client;

export class Client {
  constructor(options: ClientOptions);
  readonly state: ConnectionState;
  readonly transport: "websocket" | "sse" | null;
  records<T extends object = Record<string, unknown>>(collection: string): Records<T>;
  subscribe<T extends object = Record<string, unknown>>(
    collection: string,
    options?: SubscribeOptions,
    handlers?: Handlers<T> | ((event: RecordEvent<T>) => void),
  ): Feed;
  subscribe<T extends object = Record<string, unknown>>(
    collection: string,
    handler: (event: RecordEvent<T>) => void,
  ): Feed;
  liveQuery<T extends object = Record<string, unknown>>(collection: string, query?: LiveQueryOptions): LiveQuery<T>;
  /** Another token: taken over in place, or used to come back after a stop. */
  setToken(token: string): void;
  /** Try again now, also after `stopped`. */
  reconnect(): void;
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
  operations?: Operation[];
  filter?: string;
  fields?: string[] | string;
  /** Go on after this position. */
  since?: string;
  id?: string;
}

export interface Handlers<T = Record<string, unknown>> {
  event?(event: RecordEvent<T>): void;
  create?(record: RecordOf<T>, event: RecordEvent<T>): void;
  update?(record: RecordOf<T>, event: RecordEvent<T>): void;
  delete?(record: RecordOf<T>, event: RecordEvent<T>): void;
  /** All events of one transaction, after each was told by itself. */
  transaction?(events: RecordEvent<T>[]): void;
  subscribed?(told: { position: string | null }): void;
  caughtUp?(told: { position: string }): void;
  /** Events may be missing: fetch what you hold anew. */
  resync?(told: { reason: "expired" | "epoch" | "ahead" | "unknown" | "rights" | "schema"; position: string }): void;
  unsubscribed?(told: { reason: "forbidden" | "collection_deleted" }): void;
  error?(error: SnackBaseError): void;
}

export interface Feed {
  readonly id: string;
  readonly collection: string;
  /** Everything up to here was handed to the handlers. */
  readonly position: string | null;
  readonly ready: Promise<Feed>;
  retry(): void;
  unsubscribe(): void;
}

export interface LiveQueryOptions {
  filter?: string;
  fields?: string[] | string;
  /** As in REST: `-created_at,title`. */
  sort?: string;
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
  /** In order; the array never changes, after a change there is another one. */
  readonly records: readonly RecordOf<T>[];
  readonly ready: Promise<LiveQuery<T>>;
  /** `changes`: one transaction; null = the list was replaced as a whole. */
  on(name: "change", listener: (told: { records: readonly RecordOf<T>[]; changes: Change<T>[] | null }) => void): () => void;
  on(name: "state", listener: (told: { state: LiveQueryState; error: SnackBaseError | null }) => void): () => void;
  on(name: "error", listener: (error: SnackBaseError) => void): () => void;
  off(name: "change" | "state" | "error", listener: (value: any) => void): void;
  /** After `failed`. */
  retry(): void;
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
  /** The same key and body again do nothing more than the first time. */
  idempotencyKey?: string;
}

export interface Records<T = Record<string, unknown>> {
  list(query?: ListQuery, options?: { signal?: AbortSignal }): Promise<Page<T>>;
  /** Every record, page by page in the order of ids. */
  pages(query?: Pick<ListQuery, "filter" | "fields">, options?: { signal?: AbortSignal }): AsyncGenerator<Page<T>>;
  get(id: string, options?: { fields?: string[] | string }): Promise<RecordOf<T>>;
  create(data: Partial<T> & { id?: string }, options?: WriteOptions): Promise<RecordOf<T>>;
  update(id: string, data: Partial<T>, options?: WriteOptions): Promise<RecordOf<T>>;
  replace(id: string, data: T, options?: WriteOptions): Promise<RecordOf<T>>;
  delete(id: string, options?: WriteOptions): Promise<null>;
  readonly batch: {
    create(records: (Partial<T> & { id?: string })[], options?: WriteOptions): Promise<{ created: RecordOf<T>[]; count: number }>;
    update(records: { id: string; data: Partial<T> }[], options?: WriteOptions): Promise<{ updated: RecordOf<T>[]; count: number }>;
    delete(ids: string[], options?: WriteOptions): Promise<{ deleted: string[]; count: number }>;
  };
}
