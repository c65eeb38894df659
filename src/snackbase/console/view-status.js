// The state of the server and of this console's connection.

import { badge, button, h, show } from "./dom.js";
import { SERVER } from "./session.js";

export function statusView({ session, body, tools, signal }) {
  const server = h("dl", { class: "facts" });
  const own = h("dl", { class: "facts" });
  const read = async () => show(server, (await Promise.all(["health", "ready", "live"].map(asked))).flat());
  const connected = () => {
    const { state, transport, error } = session.connection;
    const live = session.live === false ? "off on this server" : state;
    show(own, [
      ["Server", SERVER],
      ["Signed in", `${session.user.email}, ${session.superadmin ? "superadmin" : session.user.role} of ${session.account.slug}`],
      ["Acting in", session.acting.slug],
      ["Live data", live],
      ["Transport", transport ?? "–"],
      ["Last trouble", error?.message ?? "–"],
    ].map(([name, value]) => [h("dt", null, name), h("dd", null, value)]));
  };
  signal.addEventListener("abort", session.on("state", connected));
  tools(button("Ask again", read));
  show(
    body,
    h("section", null, h("h2", null, "Server"), server),
    h("section", null, h("h2", null, "This console"), own),
    h("section", null, h("h2", null, "More"), h("ul", null, [["../docs", "Every route and message"], ["../openapi.json", "OpenAPI document"], ["../asyncapi.json", "AsyncAPI document"], ["../metrics", "Numbers for Prometheus"]].map(([href, text]) => h("li", null, h("a", { href, rel: "noreferrer" }, text))))),
  );
  connected();
  return read();
}

/** Their answer is the same whether it is good or bad news. */
async function asked(name) {
  let told;
  try {
    const { status, reason, version } = await (await fetch(`${SERVER}/${name}`, { cache: "no-store" })).json();
    told = [badge(status, status === "ok" ? "good" : "bad"), reason && ` ${reason}`, name === "health" && ` version ${version}`];
  } catch {
    told = [badge("no answer", "bad")];
  }
  return [h("dt", null, `/${name}`), h("dd", null, told)];
}
