// Users, groups, roles and invitations of the account acted in.

import { actions, ask, badge, button, confirm, quiet, reveal, row, say, time } from "./dom.js";
import { paged, query } from "./paged.js";

const names = (text) => text.split(",").map((one) => one.trim()).filter(Boolean);
const account = (session) => ({ account_id: session.acting.id });

async function roleField(session, value) {
  const { items } = await session.call("GET", "/roles");
  return { name: "role", label: "Role", type: "select", options: items.map((one) => one.name), value };
}

// Users ---------------------------------------------------------------------------------------------------------------

export async function usersView(context) {
  const { session, tools } = context;
  const again = await paged(context, {
    label: "Users",
    heads: ["E-mail", "Role", "Groups", "", "Last login", "Since", ""],
    search: "Part of the e-mail",
    async read({ choice: _, ...asked }) {
      const { items, total } = await session.call("GET", `/users?${query({ ...asked, ...account(session), sort: "email" })}`);
      return [items, total];
    },
    row: (user, reread) =>
      row(
        user.email,
        badge(user.role, user.role === "admin" ? "info" : ""),
        user.groups.join(", "),
        user.is_active ? null : badge("disabled", "bad"),
        time(user.last_login),
        time(user.created_at),
        actions(button("Edit", () => editUser(session, user).then(reread)), button("Password", () => setPassword(session, user)), toggle(session, user, reread)),
      ),
  });
  tools(button("New user", () => newUser(session).then(again), { class: "main" }));
}

async function newUser(session) {
  return ask({
    title: "New user",
    fields: [
      { name: "email", label: "E-mail", type: "email", required: true },
      { name: "password", label: "Password", type: "password", autocomplete: "new-password", hint: "Empty: nobody can log in until one is set." },
      await roleField(session, "user"),
      { name: "groups", label: "Groups", hint: "Names, with commas. New ones are made." },
    ],
    action: "Make the user",
    async submit({ groups, password, ...user }) {
      await session.call("POST", "/users", { ...user, ...account(session), password: password || null, groups: names(groups) });
      say(`${user.email} is there.`);
    },
  });
}

async function editUser(session, user) {
  return ask({
    title: "Edit user",
    fields: [
      { name: "email", label: "E-mail", type: "email", value: user.email },
      await roleField(session, user.role),
      { name: "groups", label: "Groups", value: user.groups.join(", "), hint: "Names, with commas. It holds for live connections within a second." },
    ],
    submit: ({ groups, ...rest }) => session.call("PATCH", `/users/${user.id}`, { ...rest, groups: names(groups) }),
  });
}

function setPassword(session, user) {
  return ask({
    title: `Password of ${user.email}`,
    intro: "All logins of this user end.",
    fields: [{ name: "new_password", label: "New password", type: "password", autocomplete: "new-password" }],
    action: "Set it",
    submit: (given) => session.call("PUT", `/users/${user.id}/password`, given).then(({ message }) => say(message)),
  });
}

function toggle(session, user, reread) {
  if (!user.is_active) return button("Enable", () => session.call("PATCH", `/users/${user.id}`, { is_active: true }).then(reread));
  const text = "Logins and connections end within a second. The records stay.";
  return button("Disable", () => confirm(`Disable ${user.email}?`, text, "Disable", () => session.call("DELETE", `/users/${user.id}`)).then(reread));
}

// Groups --------------------------------------------------------------------------------------------------------------

const NAMED = (one) => [
  { name: "name", label: "Name", value: one?.name, required: true },
  { name: "description", label: "Description", value: one?.description },
];

export async function groupsView(context) {
  const { session, tools } = context;
  const again = await paged(context, {
    label: "Groups",
    heads: ["Name", "Description", "Changed", ""],
    search: "Part of the name",
    async read({ choice: _, ...asked }) {
      const { items, total } = await session.call("GET", `/groups?${query({ ...asked, ...account(session) })}`);
      return [items, total];
    },
    row: (group, reread) =>
      row(
        group.name,
        group.description,
        time(group.updated_at),
        actions(
          button("Users", () => members(session, group)),
          button("Edit", () => ask({ title: "Edit group", intro: "A new name follows every user in it.", fields: NAMED(group), submit: (given) => session.call("PATCH", `/groups/${group.id}`, given) }).then(reread)),
          button("Delete", () => confirm(`Delete ${group.name}?`, "Everybody is taken out of it.", "Delete", () => session.call("DELETE", `/groups/${group.id}`)).then(reread)),
        ),
      ),
    empty: "No groups. Rules can ask for them: room IN @request.auth.groups.",
  });
  const make = (given) => session.call("POST", "/groups", { ...given, ...account(session) });
  tools(button("New group", () => ask({ title: "New group", fields: NAMED(), action: "Make it", submit: make }).then(again), { class: "main" }));
}

async function members(session, group) {
  const { items, total } = await session.call("GET", `/groups/${group.id}/users?limit=100`);
  const inside = items.map((one) => [one.id, one.email]);
  return ask({
    title: `Users in ${group.name}`,
    intro: total === 0 ? "Nobody is in it." : `${items.map((one) => one.email).join(", ")}${total > items.length ? ` and ${total - items.length} more` : ""}`,
    fields: [
      { name: "put", label: "Put in", hint: "An e-mail of this account, or nothing." },
      { name: "take", label: "Take out", type: "select", options: [["", "nobody"], ...inside] },
    ],
    async submit({ put, take }) {
      if (put.trim()) {
        const found = await session.call("GET", `/users?${query({ ...account(session), search: put.trim(), limit: "100" })}`);
        const user = found.items.find((one) => one.email.toLowerCase() === put.trim().toLowerCase());
        if (!user) throw new Error(`There is no user ${put.trim()} in this account.`);
        await session.call("POST", `/groups/${group.id}/users`, { user_id: user.id });
      }
      if (take) await session.call("DELETE", `/groups/${group.id}/users/${take}`);
      say("Done.");
    },
  });
}

// Roles ---------------------------------------------------------------------------------------------------------------

export async function rolesView(context) {
  const { session, tools } = context;
  const mine = session.superadmin;
  const again = await paged(context, {
    label: "Roles",
    heads: ["Id", "Name", "Description", ""],
    async read() {
      const { items, total } = await session.call("GET", "/roles");
      return [items, total];
    },
    row: (role, reread) =>
      row(
        role.id,
        role.name,
        role.description,
        mine &&
          actions(
            button("Edit", () => ask({ title: "Edit role", fields: NAMED(role), submit: (given) => session.call("PATCH", `/roles/${role.id}`, given) }).then(reread)),
            button("Delete", () => confirm(`Delete the role ${role.name}?`, "Only a role that nobody has can be deleted.", "Delete", () => session.call("DELETE", `/roles/${role.id}`)).then(reread)),
          ),
      ),
  });
  if (mine) tools(button("New role", () => ask({ title: "New role", fields: NAMED(), action: "Make it", submit: (given) => session.call("POST", "/roles", given) }).then(again), { class: "main" }));
  else tools(quiet("Roles hold for all accounts; superadmins change them."));
}

// Invitations ---------------------------------------------------------------------------------------------------------

export async function invitationsView(context) {
  const { session, tools } = context;
  const again = await paged(context, {
    label: "Invitations",
    heads: ["E-mail", "Groups", "", "Until", "Made", ""],
    choice: { name: "status", label: "Status", type: "select", options: [["", "all"], "pending", "accepted", "expired", "cancelled"] },
    async read({ skip, limit, choice }) {
      const asked = query({ skip, limit, ...account(session), status_filter: choice });
      const { invitations, total } = await session.call("GET", `/invitations?${asked}`);
      return [invitations, total];
    },
    row: (one, reread) =>
      row(
        one.email,
        one.groups.join(", "),
        badge(one.status, { pending: "info", accepted: "good" }[one.status]),
        time(one.expires_at),
        time(one.created_at),
        ["pending", "expired"].includes(one.status) &&
          actions(
            button("New token", () => renew(session, one).then(reread)),
            one.status === "pending" && button("Cancel", () => confirm(`Cancel the invitation of ${one.email}?`, "Its token is worth nothing then.", "Cancel it", () => session.call("DELETE", `/invitations/${one.id}`)).then(reread)),
          ),
      ),
    empty: "Nobody is invited.",
  });
  tools(button("Invite", () => invite(session).then(again), { class: "main" }));
}

const HAND_ON = "No e-mail is sent. Hand it on in a link to a page of yours; it is shown only now.";

async function invite(session) {
  const made = await ask({
    title: "Invite somebody",
    fields: [
      { name: "email", label: "E-mail", type: "email", required: true },
      await roleField(session, "user"),
      { name: "groups", label: "Groups", hint: "Names, with commas." },
      { name: "hours", label: "Valid for hours", value: "48", hint: "At most 720." },
    ],
    action: "Invite",
    submit: ({ groups, hours, ...rest }) => session.call("POST", "/invitations", { ...rest, ...account(session), groups: names(groups), expires_in_hours: Number(hours) }),
  });
  if (made) await reveal("Token of the invitation", HAND_ON, made.token);
}

async function renew(session, { id, email }) {
  const made = await ask({ title: `A new token for ${email}?`, intro: "The old one is worth nothing then.", action: "Make it", submit: () => session.call("POST", `/invitations/${id}/resend`) });
  if (made) await reveal("Token of the invitation", HAND_ON, made.token);
}
