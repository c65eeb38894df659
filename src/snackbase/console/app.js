// The console: signs in, shows the frame with its navigation, and one view at a time, chosen by the address after `#`.

import { button, field, h, link, problem, quiet, say, show, words } from "./dom.js";
import { Session } from "./session.js";
import { accountsView, ownAccountView } from "./view-accounts.js";
import { collectionsView } from "./view-collections.js";
import { definitionView } from "./view-definition.js";
import { eventsView } from "./view-events.js";
import { explainView } from "./view-explain.js";
import { keysView } from "./view-keys.js";
import { groupsView, invitationsView, rolesView, usersView } from "./view-people.js";
import { recordsView } from "./view-records.js";
import { statusView } from "./view-status.js";

const everybody = () => true;
const admins = (session) => session.admin;
const PLACES = [
  { path: "collections", label: "Collections", view: collectionsView, who: everybody },
  { path: "events", label: "Live events", view: eventsView, who: everybody },
  { path: "explain", label: "Why did it arrive?", view: explainView, who: admins },
  { path: "users", label: "Users", view: usersView, who: admins, group: "Account" },
  { path: "groups", label: "Groups", view: groupsView, who: admins },
  { path: "roles", label: "Roles", view: rolesView, who: admins },
  { path: "invitations", label: "Invitations", view: invitationsView, who: admins },
  { path: "keys", label: "API keys", view: keysView, who: admins },
  { path: "account", label: "This account", view: ownAccountView, who: everybody },
  { path: "accounts", label: "All accounts", view: accountsView, who: (session) => session.superadmin, group: "Server" },
  { path: "status", label: "Status", view: statusView, who: everybody },
];
const INNER = { records: recordsView, collection: definitionView };

// Signing in ----------------------------------------------------------------------------------------------------------

function enter(told) {
  document.title = "Sign in · SnackBase";
  const fields = [
    { name: "account", label: "Account", hint: "Its slug or code. Superadmins: system.", value: "system", autocomplete: "organization" },
    { name: "email", label: "E-mail", type: "email", autocomplete: "username", required: true },
    { name: "password", label: "Password", type: "password", autocomplete: "current-password", required: true },
  ].map(field);
  const wrong = h("div", null, told && h("p", { class: "notice", role: "alert" }, told));
  const send = h("button", { class: "main" }, "Sign in");
  const form = h("form", { class: "card", novalidate: true }, h("h1", null, "SnackBase"), fields.map((one) => one.root), wrong, send);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (send.disabled) return;
    send.disabled = true;
    try {
      const [account, email, password] = fields.map((one) => one.value());
      begin(await Session.signIn(account.trim(), email.trim(), password));
    } catch (error) {
      show(wrong, problem(error));
      send.disabled = false;
    }
  });
  show(document.body, h("main", { class: "entry" }, form));
  fields[1].control.focus();
}

// The frame -----------------------------------------------------------------------------------------------------------

function begin(session) {
  const main = h("main", { id: "main", tabindex: "-1" });
  const nav = h("nav", { "aria-label": "Console", id: "nav" });
  const acting = h("span", { class: "acting" });
  const menu = button("Menu", () => {
    const open = nav.classList.toggle("open");
    menu.setAttribute("aria-expanded", String(open));
  }, { class: "menu", "aria-expanded": "false", "aria-controls": "nav" });
  const header = h(
    "header",
    null,
    menu,
    link("SnackBase", "collections", { class: "brand" }),
    acting,
    connection(session),
    h("span", { class: "me" }, session.user.email),
    button("Sign out", () => session.signOut()),
  );
  show(document.body, button("Skip to the content", () => main.focus(), { class: "skip" }), header, h("div", { class: "frame" }, nav, main));

  let leaving = new AbortController();
  const route = () => {
    leaving.abort();
    leaving = new AbortController();
    nav.classList.remove("open");
    menu.setAttribute("aria-expanded", "false");
    open(session, main, leaving.signal);
    mark(nav);
  };
  const frame = () => {
    show(acting, session.superadmin ? link(`in ${session.acting.slug}`, "accounts", { title: "The account acted in; press to choose another" }) : quiet(session.account.slug));
    navigation(session, nav).catch((error) => say(words(error), "bad"));
  };
  session.on("changed", frame);
  session.on("end", (told) => {
    leaving.abort();
    removeEventListener("hashchange", route);
    for (const dialog of document.querySelectorAll("dialog")) dialog.close();
    enter(told);
  });
  addEventListener("hashchange", route);
  frame();
  route();
}

async function navigation(session, nav) {
  const places = PLACES.filter((one) => one.who(session)).flatMap((one) => [
    one.group && h("h2", null, one.group),
    link(one.label, one.path),
  ]);
  const under = h("div", { class: "under" });
  places.splice(2, 0, under);
  show(nav, places);
  mark(nav);
  const collections = await session.collections();
  show(under, collections.filter((one) => one.may.list).map((one) => link(one.name, `records/${one.name}`)));
  mark(nav);
}

function mark(nav) {
  const here = location.hash.split("?")[0] || "#/collections";
  for (const one of nav.querySelectorAll("a")) {
    if (one.getAttribute("href") === here) one.setAttribute("aria-current", "page");
    else one.removeAttribute("aria-current");
  }
}

const STATES = { idle: "Connecting…", connecting: "Connecting…", open: "Live", waiting: "Disconnected", stopped: "Stopped", closed: "Closed" };

function connection(session) {
  const text = h("span", { role: "status" });
  const again = button("Try now", () => session.client.reconnect(), { hidden: true });
  const box = h("span", { class: "connection" }, text, again);
  const told = ({ state, error }) => {
    const off = session.live === false;
    box.dataset.state = off ? "off" : state;
    text.textContent = off ? "Live data off" : STATES[state];
    text.title = off ? "SNACKBASE_REALTIME_ENABLED=false: lists are read, but not kept current." : (error?.message ?? "");
    again.hidden = off || !["waiting", "stopped"].includes(state);
  };
  session.on("state", told);
  told(session.connection);
  return box;
}

// One view ------------------------------------------------------------------------------------------------------------

function open(session, main, signal) {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  const [place, name] = (path || "collections").split("/").map(decoded);
  const known = PLACES.find((one) => one.path === place && one.who(session));
  const view = known?.view ?? INNER[place];
  const heading = h("h1", { tabindex: "-1" }, known?.label ?? name ?? "");
  const tools = h("div", { class: "row" });
  const body = h("div", { class: "body" });
  show(main, h("div", { class: "head" }, heading, tools), body);
  const context = {
    session,
    name,
    query: new URLSearchParams(query),
    signal,
    body,
    /** What stands beside the heading. */
    tools: (...made) => show(tools, made),
    title(text) {
      heading.textContent = text;
      document.title = `${text} · SnackBase`;
    },
    /** Another query of the same view, without a step in the history and without beginning anew. */
    note(values) {
      const kept = new URLSearchParams(Object.entries(values).filter(([, value]) => value));
      history.replaceState(null, "", `#/${path}${kept.size ? `?${kept}` : ""}`);
    },
    fail: (error) => signal.aborted || show(body, problem(error)),
  };
  context.title(heading.textContent || "SnackBase");
  heading.focus({ preventScroll: true });
  if (!view) return show(body, h("p", { class: "notice" }, "There is nothing here, or it is not for you."));
  Promise.resolve(view(context)).catch(context.fail);
}

/** Somebody may have typed it. */
function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

const session = Session.restore();
if (session) {
  begin(session);
  session.check().catch(() => {});
} else {
  enter(null);
}
