// API keys of the account acted in.

import { ask, badge, button, confirm, h, reveal, row, time } from "./dom.js";
import { paged, query } from "./paged.js";

export async function keysView(context) {
  const { session, tools } = context;
  const again = await paged(context, {
    label: "API keys",
    heads: ["Name", "Key", "Role", "", "Last used", "Until", "Made", ""],
    async read({ skip, limit }) {
      const { items, total } = await session.call("GET", `/admin/api-keys?${query({ skip, limit, account_id: session.acting.id })}`);
      return [items, total];
    },
    row: (key, reread) =>
      row(
        key.name,
        h("code", null, key.key),
        badge(key.role),
        key.is_active ? null : badge("revoked", "bad"),
        time(key.last_used_at),
        time(key.expires_at),
        time(key.created_at),
        key.is_active && button("Revoke", () => confirm(`Revoke ${key.name}?`, "Its connections end within a second.", "Revoke", () => session.call("DELETE", `/admin/api-keys/${key.id}`)).then(reread)),
      ),
    empty: "No keys. A key is for a program; it acts as itself.",
  });
  tools(button("New key", () => create(session).then(again), { class: "main" }));
}

async function create(session) {
  const { items } = await session.call("GET", "/roles");
  const made = await ask({
    title: "New API key",
    intro: session.acting.id === session.account.id && session.superadmin && h("p", { class: "notice" }, "A key of the system account acts as a superadmin does, in any account."),
    fields: [
      { name: "name", label: "Name", required: true, hint: "Which program it is for." },
      { name: "role", label: "Role", type: "select", options: items.map((one) => one.name), value: "user" },
      { name: "expires_at", label: "Until", hint: "As 2027-01-31T00:00:00Z. Empty: until it is revoked." },
    ],
    action: "Make it",
    submit: ({ expires_at, ...rest }) => session.call("POST", "/admin/api-keys", { ...rest, account_id: session.acting.id, expires_at: expires_at.trim() || null }),
  });
  if (made) await reveal("The key", "It is shown only now; the server keeps a hash.", made.key);
}
