// All collections, with counts.

import { badge, button, h, link, quiet, row, show, table, time } from "./dom.js";

export async function collectionsView({ session, body, signal, tools, fail }) {
  tools(button("Read again", () => session.forget()), session.superadmin && link("New collection", "collection", { class: "button main" }));
  const draw = async () => {
    const collections = await session.collections();
    if (signal.aborted) return;
    show(body, session.superadmin ? defined(collections) : allowed(session, collections, signal));
  };
  const off = session.on("changed", () => draw().catch(fail));
  signal.addEventListener("abort", off);
  await draw();
}

function defined(collections) {
  return table(
    "Collections",
    ["Name", "Fields", "Records, all accounts", "", "Changed", ""],
    collections.map(({ name, definition }) =>
      row(
        link(name, `records/${name}`, { class: "strong" }),
        definition.fields_count,
        definition.records_count,
        definition.has_public_access ? badge("public", "warn") : null,
        time(definition.updated_at),
        link("Fields and rules", `collection/${name}`),
      ),
    ),
    "There is no collection yet. Make the first one.",
  );
}

function allowed(session, collections, signal) {
  const counts = collections.map((one) => [one, h("span", null, quiet("…"))]);
  count(session, counts, signal);
  return [
    h(
      "p",
      { class: "notice" },
      session.admin
        ? "You manage this account. You see and change records as far as the rules allow; only superadmins define collections."
        : "You are no admin of this account: you see and change what the rules allow, and manage nothing else.",
    ),
    table(
      "Collections",
      ["Name", "Fields", "Records that you see", "You may try to"],
      counts.map(([one, place]) =>
        row(
          one.may.list ? link(one.name, `records/${one.name}`, { class: "strong" }) : one.name,
          one.fields.length,
          place,
          Object.keys(one.may).filter((word) => one.may[word]).join(", "),
        ),
      ),
      "There is no collection that you may use.",
    ),
  ];
}

/** One after the other: each is a query, and nobody waits for the last. */
async function count(session, counts, signal) {
  for (const [collection, place] of counts) {
    if (signal.aborted) return;
    let told = quiet("–");
    if (collection.may.list) {
      const page = await session.call("GET", `/records/${collection.name}?limit=1&fields=id`).catch(() => null);
      if (page) told = String(page.total);
    }
    show(place, told);
  }
}
