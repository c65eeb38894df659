// The places a token may stand in, best first: not in the URL, where every proxy between may log it.

const opened = (socket) =>
  new Promise((resolve, reject) => {
    socket.addEventListener("open", () => resolve(socket), { once: true });
    socket.addEventListener("error", () => reject(new Error("no connection")), { once: true });
  });

// As a subprotocol beside the version: the server selects the version and never repeats the token.
export const bySubprotocol = (address, token) => opened(new WebSocket(address, ["snackbase.v1", token]));

// As a subprotocol alone: the server has to repeat it, since a browser insists on one that was offered.
export const byBareSubprotocol = (address, token) => opened(new WebSocket(address, [token]));

// In the first message, when the app does not know its token yet while it connects.
export async function byFirstMessage(address, token) {
  const socket = await opened(new WebSocket(address, ["snackbase.v1"]));
  const answered = new Promise((resolve, reject) => {
    socket.addEventListener("message", ({ data }) => {
      const message = JSON.parse(data);
      if (message.type === "auth") resolve(socket);
      if (message.type === "error") reject(new Error(message.code));
    });
  });
  socket.send(JSON.stringify({ action: "auth", token }));
  return answered;
}

// In the URL: the only place for an EventSource.
export const byQuery = (address, token) => opened(new WebSocket(`${address}?token=${encodeURIComponent(token)}`));

// In a header, which takes `fetch` and a reader of one's own instead of an EventSource.
export async function* byHeader(address, token, { signal } = {}) {
  const answer = await fetch(address, { headers: { Authorization: `Bearer ${token}` }, signal });
  if (!answer.ok) throw new Error((await answer.json()).code);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const blocks = (text + value).split("\n\n");
    text = blocks.pop();
    for (const block of blocks) {
      const line = block.split("\n").find((one) => one.startsWith("data: "));
      if (line !== undefined) yield JSON.parse(line.slice("data: ".length));
    }
  }
}
