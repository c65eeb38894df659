// Why did a change reach somebody, or not: POST /realtime/explain as a form.

import { badge, field, h, problem, row, show, table, time } from "./dom.js";

export function explainView({ session, query, body }) {
  const fields = [
    { name: "record_id", label: "Record", value: query.get("position") ? "" : query.get("record"), hint: "Its id: then it is about its newest change." },
    { name: "position", label: "or position", value: query.get("position"), hint: "Of an event, as the events show it." },
    { name: "collection", label: "Collection", value: query.get("collection"), hint: "May be left empty." },
    { name: "user", label: "User", hint: "An id or e-mail. Empty with a connection named." },
    { name: "connection", label: "or connection", hint: "The id of one connection." },
  ].map(field);
  const answer = h("div", { class: "stack", "aria-live": "polite" });
  const form = h("form", { class: "stack", novalidate: true }, h("div", { class: "grid" }, fields.map((one) => one.root)), h("div", { class: "actions start" }, h("button", { class: "main" }, "Explain")));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const asked = Object.fromEntries(fields.map((one) => [one.name, one.value().trim()]).filter(([, value]) => value));
    try {
      show(answer, told(await session.call("POST", "/realtime/explain", asked)));
    } catch (error) {
      show(answer, problem(error));
    }
  });
  show(body, h("p", { class: "hint" }, "Walks one committed change through what delivery asked, at every connection of that user to this process: connected, subscribed before it, operation, rule, filter."), form, answer);
  (fields[0].control.value || fields[1].control.value ? fields[3] : fields[0]).control.focus();
}

function told({ summary, change, connections, ended }) {
  const facts = { collection: change.collection, record: change.record_id, operation: change.operation, at: change.timestamp, "number in the log": change.seq, "changes of its transaction": change.tx_size };
  return [
    h("h2", null, "Answer"),
    h("p", { class: "summary" }, badge(summary.split(":")[0].replaceAll("_", " "), summary.startsWith("delivered") ? "good" : "warn"), summary.includes(":") && ` ${summary.split(": ").slice(1).join(": ")}`),
    h("dl", { class: "facts" }, Object.entries(facts).map(([name, value]) => [h("dt", null, name), h("dd", null, String(value))])),
    h("h2", null, "Connections"),
    table(
      "Connections",
      ["Connection", "Transport", "Subscription", "Reached it", "Why"],
      connections.flatMap((one) =>
        one.subscriptions.map((answer) =>
          row(h("code", null, one.id), one.transport, [answer.collection || "–", answer.id && ` (${answer.id})`], badge(answer.delivered ? "yes" : "no", answer.delivered ? "good" : "warn"), h("span", null, answer.message)),
        ),
      ),
      "This user has no connection to this process now.",
    ),
    ended.length > 0 && h("h2", null, "Ended lately"),
    ended.length > 0 &&
      table("Connections that ended", ["Connection", "Transport", "Ended with", "At"], ended.map((one) => row(h("code", null, one.connection_id), one.transport, h("code", null, one.code), time(one.at)))),
  ];
}
