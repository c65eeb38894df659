// What the one signed in would receive, as it happens: every event of every collection that may be listed.

import { badge, button, field, h, link, problem, quiet, show, time } from "./dom.js";

const MOST = 500;

export async function eventsView({ session, body, tools, signal }) {
  const collections = (await session.collections()).filter((one) => one.may.list);
  await session.probed;
  if (signal.aborted) return;
  if (session.live === false) {
    show(body, h("p", { class: "notice" }, "Live data are off on this server (SNACKBASE_REALTIME_ENABLED=false), so there is nothing to follow."));
    return;
  }
  const kept = [];
  let paused = false;
  let count = 0;
  let waiting = 0;
  const list = h("ol", { class: "events", "aria-label": "Events, newest first" });
  const told = h("span", { class: "quiet", role: "status" }, "Subscribing…");
  const wrong = h("div");
  const collection = field({ name: "collection", label: "Collection", type: "select", options: [["", "all"], ...collections.map((one) => one.name)] });
  const operation = field({ name: "operation", label: "Operation", type: "select", options: [["", "all"], "create", "update", "delete"] });
  const wanted = (one) => !one.event || ((!collection.value() || one.collection === collection.value()) && (!operation.value() || one.operation === operation.value()));

  const tell = () => (told.textContent = `${count} received${paused ? `, ${waiting} since the pause` : ""}`);
  const redraw = () => {
    waiting = 0;
    show(list, kept.filter(wanted).map((one) => one.root));
    tell();
  };
  const keep = (one) => {
    kept.unshift(one);
    const gone = kept.length > MOST ? kept.pop() : null;
    if (paused) {
      waiting += 1;
      return tell();
    }
    gone?.root.remove();
    if (wanted(one)) list.prepend(one.root);
    return tell();
  };
  const line = (kind, text) => keep({ root: h("li", { class: `line ${kind}` }, time(new Date().toISOString(), { exact: true }), " ", text) });

  const pause = button("Pause", () => {
    paused = !paused;
    pause.textContent = paused ? "Go on" : "Pause";
    pause.setAttribute("aria-pressed", String(paused));
    redraw();
  }, { "aria-pressed": "false" });
  const clear = button("Clear", () => {
    kept.length = 0;
    redraw();
  });
  for (const one of [collection, operation]) one.control.addEventListener("change", redraw);
  tools(pause, clear);
  show(
    body,
    h("p", { class: "hint" }, `Everything that ${session.user.email} receives here${session.superadmin ? ` in the account ${session.acting.slug}` : ""}: one subscription to *, by the rules of today.`),
    h("div", { class: "row filter" }, collection.root, operation.root, told),
    wrong,
    list,
  );

  const feed = session.client.subscribe("*", {}, {
    subscribed: () => line("", "subscribed"),
    event: (event) => {
      count += 1;
      keep(described(event, session));
    },
    resync: ({ reason }) => line("warn", `resync: ${reason}. Whoever holds a list fetches it again here.`),
    unsubscribed: ({ reason }) => line("bad", `unsubscribed: ${reason}`),
    error: (error) => show(wrong, problem(error)),
  });
  const off = session.on("state", ({ state, error }) => {
    if (state === "waiting" || state === "stopped") line("bad", `disconnected: ${error?.message ?? state}`);
  });
  signal.addEventListener("abort", () => {
    feed.unsubscribe();
    off();
  });
}

const KINDS = { create: "good", update: "info", delete: "bad" };

function described(event, session) {
  const [collection, operation] = event.type.split(".");
  const facts = [
    ["position", event.position ?? "none: inside a transaction"],
    ["tx", event.tx],
    ["tx_size", event.tx_size],
  ].filter(([, value]) => value !== undefined);
  const why = session.admin && event.data.id && link("Why did this (not) reach somebody?", `explain?${new URLSearchParams({ collection, record: event.data.id, position: event.position ?? "" })}`);
  const details = h(
    "details",
    null,
    h(
      "summary",
      null,
      time(event.timestamp, { exact: true }),
      badge(operation, KINDS[operation]),
      event.change && badge(event.change, "warn"),
      h("strong", null, collection),
      h("code", null, event.data.id),
      event.tx && quiet(`tx ${event.tx.slice(0, 8)}, ${event.tx_size} events`),
    ),
  );
  // Many come and few are looked into.
  details.addEventListener("toggle", () => {
    if (details.children.length > 1) return;
    details.append(
      h("dl", { class: "facts" }, facts.map(([name, value]) => [h("dt", null, name), h("dd", null, h("code", null, value))])),
      h("pre", null, JSON.stringify(event.data, null, 2)),
      why || "",
    );
  });
  return { event, collection, operation, root: h("li", null, details) };
}
