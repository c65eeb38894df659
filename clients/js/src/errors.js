// The one error class of the client. `code` is the server's snake_case word, or one of the client's own:
// network_error, timeout, token_missing, closed, protocol_error, http_<status>, close_<code>.

export class SnackBaseError extends Error {
  /**
   * @param {string} code
   * @param {string} message
   * @param {{ status?: number, closeCode?: number, details?: unknown[], retryAfterMs?: number,
   *   collection?: string, cause?: unknown }} [facts]
   */
  constructor(code, message, facts = {}) {
    super(message, facts.cause === undefined ? undefined : { cause: facts.cause });
    this.name = "SnackBaseError";
    this.code = code;
    /** HTTP status; 0 = there was no answer, or it came over a realtime connection. */
    this.status = facts.status ?? 0;
    /** The WebSocket close code that ended the connection; 0 = none. */
    this.closeCode = facts.closeCode ?? 0;
    this.details = facts.details ?? [];
    this.retryAfterMs = facts.retryAfterMs ?? 0;
    this.collection = facts.collection ?? null;
  }

  /** Whether the same request may succeed later without a change. */
  get transient() {
    return this.status === 429 || this.status >= 500 || TRANSIENT.has(this.code);
  }
}

const TRANSIENT = new Set([
  "network_error",
  "timeout",
  "unavailable",
  "overloaded",
  "stopping",
  "restarting",
  "rate_limited",
  "query_timeout",
  "schema_changed",
  "workers_busy",
  "storage_busy",
  "storage_error",
  "internal_error",
]);

const TOKEN_CODES = new Set(["token_missing", "token_invalid", "token_expired", "token_revoked", "auth_timeout"]);

const TOKEN_CLOSES = { 4001: "token_expired", 4501: "token_invalid", 4502: "token_revoked", 4507: "auth_timeout" };

/** Whether a fresh token is what is needed. */
export function isTokenCode(code) {
  return TOKEN_CODES.has(code);
}

/** @param {unknown} error */
export function asError(error, code = "network_error") {
  if (error instanceof SnackBaseError) return error;
  const text = error instanceof Error ? error.message : String(error);
  return new SnackBaseError(code, text, { cause: error });
}

/** The error of an HTTP answer. Never throws, whatever the body is. */
export async function errorOfResponse(response) {
  let body = null;
  try {
    body = await response.json();
  } catch {
    // A proxy's page, or nothing: the status says enough.
  }
  const seconds = Number(response.headers.get("retry-after"));
  return new SnackBaseError(
    typeof body?.code === "string" ? body.code : `http_${response.status}`,
    typeof body?.message === "string" ? body.message : `The server answered ${response.status}.`,
    {
      status: response.status,
      details: Array.isArray(body?.details) ? body.details : [],
      retryAfterMs: Number.isFinite(seconds) && seconds > 0 ? seconds * 1000 : 0,
    },
  );
}

/** The server said why it ends the connection. */
export function farewellOf(message) {
  return new SnackBaseError(message.code, message.message ?? message.data?.message ?? message.code, {
    closeCode: message.close_code,
    retryAfterMs: message.retry_after_ms,
  });
}

/** It ended without a word: a close code, an HTTP status, or nothing at all. */
export function endOf(closeCode, reason, error) {
  if (closeCode >= 4000) {
    const code = reason || TOKEN_CLOSES[closeCode] || `close_${closeCode}`;
    return new SnackBaseError(code, "The server ended the connection.", { closeCode });
  }
  if (error instanceof SnackBaseError) return error;
  const text = closeCode ? `The connection ended with ${closeCode}.` : "The connection dropped.";
  return new SnackBaseError("network_error", text, { closeCode, cause: error ?? undefined });
}
