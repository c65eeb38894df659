// A WebSocket as a link: messages both ways, and one end with its reason. The token goes in the first message.

const PATH = "/api/v1/realtime/ws";
const SUBPROTOCOL = "snackbase.v1";

/**
 * @param {{
 *   WebSocket: any, url: string, account: string | null,
 *   onOpen: () => void, onMessage: (message: any) => void,
 *   onEnd: (end: { closeCode: number, reason: string, error: Error | null }) => void,
 * }} options
 */
export function openWebSocket({ WebSocket, url, account, onOpen, onMessage, onEnd }) {
  const query = account === null ? "" : `?account=${encodeURIComponent(account)}`;
  const socket = new WebSocket(`${url.replace(/^http/, "ws")}${PATH}${query}`, [SUBPROTOCOL]);
  let failure = null;
  let over = false;

  const detach = () => {
    over = true;
    socket.onopen = socket.onmessage = socket.onclose = null;
    // A socket closed before it opened still says `error`, which Node's libraries throw when nobody listens.
    socket.onerror = () => {};
  };
  socket.onopen = onOpen;
  socket.onmessage = (event) => {
    let message;
    try {
      message = JSON.parse(event.data);
    } catch (error) {
      failure = error;
      end(4500, "protocol_error");
      return;
    }
    onMessage(message);
  };
  socket.onerror = (event) => {
    failure = event?.error ?? failure;
  };
  socket.onclose = (event) => {
    detach();
    onEnd({ closeCode: event.code ?? 1006, reason: event.reason ?? "", error: failure });
  };
  const end = (closeCode, reason) => {
    if (over) return;
    detach();
    socket.close(1000);
    onEnd({ closeCode, reason, error: failure });
  };

  return {
    name: "websocket",
    /** @param {object} message */
    send(message) {
      if (socket.readyState === 1) socket.send(JSON.stringify(message));
    },
    /** End it without a word to `onEnd`. `dead`: do not wait for the other side. */
    close({ dead = false } = {}) {
      if (over) return;
      detach();
      socket.close(1000);
      if (dead) socket.terminate?.();
    },
  };
}
