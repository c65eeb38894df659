// An event stream as a link, read with fetch: the token is a header, as an EventSource cannot send one. What it carries
// is fixed when it opens, so other subscriptions mean another stream.

import { asError, errorOfResponse } from "./errors.js";
import { eventStreamParser } from "./sse-parser.js";

const PATH = "/api/v1/realtime/subscribe";

/**
 * @param {{
 *   fetch: typeof globalThis.fetch, url: string, account: string | null, token: string, requests: any[],
 *   onMessage: (message: any) => void,
 *   onEnd: (end: { closeCode: number, reason: string, error: import("./errors.js").SnackBaseError | null }) => void,
 * }} options
 */
export function openStream({ fetch, url, account, token, requests, onMessage, onEnd }) {
  const ending = new AbortController();
  const { address, headers } = addressOf({ url, account, token, requests });

  const read = async () => {
    const answer = await fetch(address, { headers, cache: "no-store", signal: ending.signal });
    if (!answer.ok || answer.body === null) throw await errorOfResponse(answer);
    const reader = answer.body.getReader();
    const decoder = new TextDecoder();
    const parse = eventStreamParser((block) => {
      if (!ending.signal.aborted) onMessage(JSON.parse(block.data));
    });
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return null;
      parse(decoder.decode(value, { stream: true }));
    }
  };
  read()
    .catch((error) => asError(error))
    .then((error) => {
      if (ending.signal.aborted) return;
      ending.abort();
      onEnd({ closeCode: 0, reason: "", error });
    });

  return {
    name: "sse",
    send() {},
    close() {
      ending.abort();
    },
  };
}

/**
 * Whether the server would serve one subscription: null, or the error that it answers.
 * @param {{ fetch: typeof globalThis.fetch, url: string, account: string | null, token: string, request: any,
 *   signal: AbortSignal }} options
 */
export async function probe({ fetch, url, account, token, request, signal }) {
  const { address, headers } = addressOf({ url, account, token, requests: [request] });
  const answer = await fetch(address, { headers, cache: "no-store", signal });
  if (!answer.ok) return errorOfResponse(answer);
  await answer.body?.cancel();
  return null;
}

function addressOf({ url, account, token, requests }) {
  const headers = { accept: "text/event-stream", authorization: `Bearer ${token}` };
  const common = requests[0]?.since;
  let asked = requests;
  // A stream that comes back is told in the stream what is gone, where a new one would be refused as a whole.
  if (common !== undefined && requests.every((one) => one.since === common)) {
    headers["last-event-id"] = common;
    asked = requests.map(({ since: _, ...rest }) => rest);
  }
  const query = new URLSearchParams(asked.map((one) => ["subscription", JSON.stringify(one)]));
  if (account !== null) query.set("account", account);
  return { address: `${url}${PATH}?${query}`, headers };
}
