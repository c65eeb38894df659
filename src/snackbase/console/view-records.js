// The records of a collection: a live table with filter, order and pages; records are made, changed and deleted.

import { collectionNamed, textOf } from "./collections.js";
import { button, confirm, field, h, link, problem, quiet, say, show } from "./dom.js";
import { LivePage } from "./live-page.js";
import { recordForm } from "./record-form.js";

const LIMIT = 50;
const FLASH_MS = 1_600;

export async function recordsView({ session, name, query, body, tools, note, signal }) {
  const collection = await collectionNamed(session, name);
  if (signal.aborted) return;
  if (!collection.may.list) throw new Error("The rules let you list no record of this collection.");
  const state = h("span", { role: "status", class: "quiet" }, "Loading…");
  const wrong = h("div");
  const total = h("span", { class: "total" });
  const rows = new Map();
  const columns = collection.columns.filter((one) => one !== "created_by" && one !== "updated_by");
  const heads = columns.map((column) => h("th", { scope: "col" }, button(column, () => sortBy(column), { class: "sort" })));
  const bodyRows = h("tbody");
  const opened = new Set();

  const page = new LivePage({
    session,
    collection: name,
    draw: (one) => draw(one),
    mark(id, operation) {
      const tr = rows.get(id);
      if (!tr) return;
      tr.classList.remove("create", "update", "delete");
      void tr.offsetWidth; // begins the animation anew
      tr.classList.add(operation);
      if (operation !== "delete") setTimeout(() => tr.classList.remove(operation), FLASH_MS);
    },
    tell(text, error) {
      if (signal.aborted) return;
      state.textContent = text;
      show(wrong, error && problem(error));
    },
    heard: (operation, event) => opened.forEach((one) => one(operation, event.data)),
  });
  signal.addEventListener("abort", () => page.close());
  signal.addEventListener("abort", session.on("state", (one) => {
    if (one.state === "open") page.connected();
    else if (session.live) state.textContent = "Not live: waiting for the connection";
  }));
  signal.addEventListener("abort", session.on("changed", () => dispatchEvent(new HashChangeEvent("hashchange"))));

  // What is asked for -------------------------------------------------------------------------------------------------

  const filter = field({ name: "filter", label: "Filter", value: query.get("filter") ?? "", placeholder: "status = 'open' && stars > 3" });
  filter.control.classList.add("mono");
  const search = h("form", { class: "row filter", novalidate: true, role: "search" }, filter.root, h("button", null, "Apply"), button("Clear", () => {
    filter.control.value = "";
    asking({ filter: "", skip: 0 });
  }));
  search.addEventListener("submit", (event) => {
    event.preventDefault();
    asking({ filter: filter.value().trim(), skip: 0 });
  });

  async function asking(asked) {
    const doneSoon = page.ask(asked);
    const { filter: only, sort, skip } = page.asked;
    note({ filter: only, sort, skip: skip ? String(skip) : "" });
    await doneSoon;
  }

  function sortBy(column) {
    const now = page.asked.sort || "-created_at";
    asking({ sort: now === column ? `-${column}` : column, skip: 0 });
  }

  // The table ---------------------------------------------------------------------------------------------------------

  function draw({ items, total: all, skip }) {
    if (signal.aborted) return;
    const kept = new Set(items.map((one) => one.id));
    for (const [id, tr] of rows) if (!kept.has(id)) rows.delete(id) && tr.remove();
    items.forEach((record, at) => {
      const tr = rows.get(record.id) ?? h("tr", { "data-id": record.id });
      rows.set(record.id, tr);
      if (tr.record !== record) fill(tr, record);
      // Moved only where it has to be, so that the focus stays where it is.
      if (bodyRows.children[at] !== tr) bodyRows.insertBefore(tr, bodyRows.children[at] ?? null);
    });
    while (bodyRows.children.length > items.length) bodyRows.lastChild.remove();
    if (items.length === 0) show(bodyRows, h("tr", null, h("td", { colspan: columns.length + 1, class: "empty" }, page.asked.filter ? "No record matches the filter." : "No records yet.")));
    const sort = page.asked.sort || "-created_at";
    columns.forEach((column, at) => heads[at].setAttribute("aria-sort", sort === column ? "ascending" : sort === `-${column}` ? "descending" : "none"));
    total.textContent = all === 0 ? "0 records" : `${skip + 1}–${skip + items.length} of ${all}`;
    before.disabled = skip === 0;
    after.disabled = skip + items.length >= all;
    show(wrong);
  }

  function fill(tr, record) {
    tr.record = record;
    const cells = columns.map((column) => cell(record[column], column));
    const focused = tr.contains(document.activeElement) ? document.activeElement.textContent : null;
    show(tr, cells, h("td", { class: "tools" }, collection.may.update && button("Edit", () => edit(tr.record)), collection.may.delete && button("Delete", () => remove(tr.record))));
    if (focused) [...tr.querySelectorAll("button")].find((one) => one.textContent === focused)?.focus();
  }

  // Changes -----------------------------------------------------------------------------------------------------------

  const write = (method, path, data) => session.call(method, `/records/${name}${path}`, data);
  const listen = (heard) => {
    opened.add(heard);
    return () => opened.delete(heard);
  };
  const reread = () => (session.live === false ? page.read() : undefined);

  async function create() {
    if (await recordForm({ session, collection, submit: (data) => write("POST", "", data) })) await reread();
  }

  async function edit(record) {
    // What lists do not show may be shown in a single record.
    const whole = collection.may.view === false ? record : await session.call("GET", `/records/${name}/${record.id}`).catch(() => record);
    if (await recordForm({ session, collection, record: whole, listen, submit: (data) => write("PATCH", `/${record.id}`, data) })) await reread();
  }

  async function remove(record) {
    const text = ["The record ", h("code", null, record.id), " is gone for good, and so is what refers to it with on_delete cascade."];
    await confirm("Delete this record?", h("p", null, text), "Delete", () => write("DELETE", `/${record.id}`).then(() => say("Deleted.")));
    await reread();
  }

  const before = button("Previous", () => asking({ skip: Math.max(0, page.asked.skip - LIMIT) }));
  const after = button("Next", () => asking({ skip: page.asked.skip + LIMIT }));
  tools(
    session.superadmin && link("Fields and rules", `collection/${name}`, { class: "button" }),
    collection.may.create && button("New record", () => create(), { class: "main" }),
  );
  show(
    body,
    search,
    wrong,
    h("div", { class: "scroll records", tabindex: "0", role: "region", "aria-label": `Records of ${name}` }, h("table", null, h("thead", null, h("tr", null, heads, h("th", { scope: "col" }, h("span", { class: "hidden" }, "Actions")))), bodyRows)),
    h("div", { class: "row foot" }, before, after, total, state, button("Read again", () => page.read())),
  );
  await page.ask({ filter: filter.value(), sort: query.get("sort") ?? "", skip: Number(query.get("skip")) || 0, limit: LIMIT });
}

function cell(value, column) {
  if (value === null || value === undefined) return h("td", null, quiet("null"));
  const text = textOf(value);
  // The beginnings of ids are times, and alike.
  const short = column === "id" ? `…${text.slice(-8)}` : column.endsWith("_at") ? text.replace("T", " ").slice(0, 19) : text;
  return h("td", { class: typeof value === "number" ? "number" : typeof value === "object" ? "mono" : column === "id" ? "mono" : null, title: text }, short);
}
