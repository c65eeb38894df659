// What the scripts of the client tests share, in a page of a browser as in Node. It is put in front of a script, so it is
// no module. It watches what the script's own code does and never changes what that code gets.

function openScene({ base, token }) {
  const PATIENCE_MS = 20000;
  const waiting = new Set();
  const look = () => {
    for (const one of [...waiting]) {
      const found = one.test();
      if (found) {
        waiting.delete(one);
        clearTimeout(one.timer);
        one.resolve(found);
      }
    }
  };
  // The code under test hears of an event first.
  const later = () => setTimeout(look, 0);
  const plain = (word) => (word instanceof Error || word instanceof Event ? `[${word.constructor.name}]` : word);

  const scene = {
    said: [], // what was written to the console, a list of words each
    heard: [], // every message of the server, over either transport
    sockets: [],
    streams: [],
    look,
    until(test, what) {
      return new Promise((resolve, reject) => {
        const timer = setTimeout(() => {
          const seen = JSON.stringify({ said: scene.said.slice(-8), heard: scene.heard.slice(-8) });
          reject(new Error(`never came: ${what ?? test}; ${seen}`));
        }, PATIENCE_MS);
        waiting.add({ test, resolve, timer });
        look();
      });
    },
    hears(type, count = 1) {
      return scene.until(() => scene.heard.filter((one) => one.type === type).length >= count, `${count} ${type}`);
    },
    says(...words) {
      return scene.until(() => scene.said.find((one) => words.every((word, at) => one[at] === word)), words.join(" "));
    },
    async call(method, path, body) {
      const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
      const answer = await fetch(`${base}/api/v1${path}`, { method, headers, body: body && JSON.stringify(body) });
      if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${await answer.text()}`);
      return answer.status === 204 ? null : answer.json();
    },
    create: (collection, data) => scene.call("POST", `/records/${collection}`, data),
    update: (collection, id, data) => scene.call("PATCH", `/records/${collection}/${id}`, data),
    remove: (collection, id) => scene.call("DELETE", `/records/${collection}/${id}`),
  };

  for (const level of ["log", "warn", "error"]) {
    console[level] = (...words) => {
      scene.said.push(words.map(plain));
      look();
    };
  }
  const Socket = globalThis.WebSocket;
  if (Socket !== undefined) {
    globalThis.WebSocket = class WebSocket extends Socket {
      constructor(...given) {
        super(...given);
        scene.sockets.push(this);
        this.addEventListener("message", (event) => {
          scene.heard.push(JSON.parse(event.data));
          later();
        });
        for (const type of ["open", "close", "error"]) this.addEventListener(type, later);
      }
    };
  }
  const Source = globalThis.EventSource;
  globalThis.EventSource = class EventSource extends Source {
    constructor(url, options) {
      super(new URL(url, base), options);
      scene.streams.push(this);
      this.addEventListener("message", (event) => {
        scene.heard.push(JSON.parse(event.data));
        later();
      });
      for (const type of ["open", "error"]) this.addEventListener(type, later);
    }
  };
  return scene;
}
