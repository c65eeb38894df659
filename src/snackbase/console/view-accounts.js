// All accounts, for superadmins, who choose here the one they act in; and the account of whoever is signed in.

import { actions, ask, badge, button, confirm, field, h, problem, row, say, show, time } from "./dom.js";
import { paged, query } from "./paged.js";

const REGISTRATION = [
  ["closed", "closed: users are made by an admin"],
  ["invite", "invite: those who are invited"],
  ["open", "open: everybody"],
];
const changes = (one) => [
  { name: "name", label: "Name", value: one.name },
  { name: "registration", label: "Who may join", type: "select", options: REGISTRATION, value: one.registration },
];

export async function accountsView(context) {
  const { session, tools } = context;
  const act = (account) => {
    session.actIn(account);
    say(`You act in ${account.slug} now.`);
    location.hash = "#/collections";
  };
  const again = await paged(context, {
    label: "Accounts",
    heads: ["Code", "Slug", "Name", "Who may join", "", "Since", ""],
    search: "Part of name, slug or code",
    async read({ choice: _, ...asked }) {
      const { items, total } = await session.call("GET", `/accounts?${query(asked)}`);
      return [items, total];
    },
    row: (account, reread) =>
      row(
        h("code", null, account.account_code),
        account.slug,
        account.name,
        account.registration,
        account.is_active ? null : badge("disabled", "bad"),
        time(account.created_at),
        actions(
          account.id === session.acting.id ? badge("acting here", "good") : button("Act in it", () => act(account)),
          button("Edit", () => edit(session, account).then(reread)),
          toggle(session, account, reread),
        ),
      ),
  });
  tools(button("New account", () => create(session).then(again), { class: "main" }));
}

function create(session) {
  return ask({
    title: "New account",
    fields: [
      { name: "name", label: "Name", required: true },
      { name: "slug", label: "Slug", hint: "What people type when they log in. Empty: made from the name." },
    ],
    action: "Make it",
    submit: ({ name, slug }) => session.call("POST", "/accounts", { name, ...(slug && { slug }) }).then((made) => say(`${made.slug} is there.`)),
  });
}

const edit = (session, account) =>
  ask({ title: `Edit ${account.slug}`, fields: changes(account), submit: (given) => session.call("PATCH", `/accounts/${account.id}`, given) });

function toggle(session, account, reread) {
  if (!account.is_active) return button("Enable", () => session.call("PATCH", `/accounts/${account.id}`, { is_active: true }).then(reread));
  return button("Disable", () => confirm(`Disable ${account.slug}?`, "Its tokens and connections end; its data stay.", "Disable", () => session.call("DELETE", `/accounts/${account.id}`), account.slug).then(reread));
}

// The own one ---------------------------------------------------------------------------------------------------------

export async function ownAccountView({ session, body, signal }) {
  const account = await session.call("GET", `/accounts/${session.acting.id}`);
  if (signal.aborted) return;
  const facts = { Name: account.name, Slug: account.slug, Code: account.account_code, Id: account.id, "Who may join": account.registration };
  const again = () => ownAccountView({ session, body, signal }).catch((error) => show(body, problem(error)));
  show(
    body,
    h("dl", { class: "facts" }, Object.entries(facts).map(([name, value]) => [h("dt", null, name), h("dd", null, value)])),
    session.admin && button("Edit", () => edit(session, account).then(again)),
    h("section", null, h("h2", null, "Your password"), h("p", { class: "hint" }, "A new one ends all your other logins."), button("Change the password", () => changePassword(session))),
  );
}

function changePassword(session) {
  return ask({
    title: "Your password",
    fields: [
      field({ name: "old_password", label: "The old one", type: "password", autocomplete: "current-password" }),
      field({ name: "new_password", label: "The new one", type: "password", autocomplete: "new-password" }),
    ],
    action: "Change it",
    submit: (given) => session.call("POST", "/auth/password", given).then(({ message }) => say(message)),
  });
}
