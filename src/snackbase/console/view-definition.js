// A collection's definition: fields, indexes, rules and shown fields; made, changed and dropped by superadmins.

import { RULES, TYPES, collectionNamed } from "./collections.js";
import { button, complain, confirm, field, h, link, problem, quiet, say, show } from "./dom.js";

const MEMBERS = '@request.auth.id != ""';
/** @type {[string, string][]} */
const KINDS = [
  ["members", "Members of the account"],
  ["locked", "Superadmins only"],
  ["public", "Everybody, without a token as well"],
  ["rule", "A rule"],
];

export async function definitionView({ session, name, body, title, tools, signal }) {
  if (!session.superadmin) throw new Error("Only superadmins see and change definitions.");
  const all = await session.collections();
  const found = name ? (await collectionNamed(session, name)).definition : null;
  if (signal.aborted) return;
  title(found ? `${name}: fields and rules` : "New collection");
  if (found) tools(link("Records", `records/${name}`, { class: "button" }));
  const names = all.map((one) => one.name);

  const called = field({ name: "name", label: "Name", value: found?.name, required: true, hint: "3 to 64 letters, digits and underscores; begins with a letter." });
  const fields = found ? found.schema.map((one) => fieldRow(one, names, true)) : [fieldRow({ name: "", type: "text" }, names, false)];
  const indexes = (found?.indexes ?? []).map(indexRow);
  const rules = RULES.map((operation) =>
    ruleRow(session, operation, found ? found[`${operation}_rule`] : MEMBERS, () => {
      // The server knows the fields that are saved; of others there are only the names.
      const saved = found && fields.every((one) => one.before && !one.dropped);
      return saved ? { collection: found.name } : { collectionFields: fields.filter((one) => !one.dropped).map((one) => one.called()).filter(Boolean) };
    }),
  );
  const shown = ["list_fields", "view_fields"].map((key) =>
    field({ name: key, label: key === "list_fields" ? "Fields that lists and events show" : "Fields that a single record shows", value: found?.[key] ?? "*", hint: "* for all, or names with commas. Superadmins see all." }),
  );
  const told = h("div");
  const fieldList = h("div", { class: "stack" }, fields.map((one) => one.root));
  const indexList = h("div", { class: "stack" }, indexes.map((one) => one.root));
  const send = h("button", { class: "main" }, found ? "Save" : "Make it");

  const asked = () => {
    const given = {
      name: called.value().trim(),
      schema: fields.filter((one) => !one.dropped).map((one) => one.read()),
      indexes: indexes.filter((one) => !one.dropped).map((one) => one.read()),
      ...Object.fromEntries(rules.map((one) => [one.name, one.value()])),
      ...Object.fromEntries(shown.map((one) => [one.name, one.value().trim() || "*"])),
    };
    return found ? changed(given, found) : given;
  };
  const form = h(
    "form",
    { class: "definition", novalidate: true },
    called.root,
    section("Fields", fieldList, button("Add a field", () => add(fieldRow({ name: "", type: "text" }, names, false), fields, fieldList))),
    section("Indexes", indexList, button("Add an index", () => add(indexRow({ fields: [], unique: false }), indexes, indexList))),
    section("Rules", h("p", { class: "hint" }, "Who may do it. The list rule decides over subscriptions and every event as well; update and delete rules judge the record before the change."), rules.map((one) => one.root)),
    section("Shown fields", shown.map((one) => one.root)),
    told,
    h("div", { class: "actions" }, send),
  );
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (send.disabled) return;
    send.disabled = true;
    try {
      const given = asked();
      const dropped = fields.filter((one) => one.dropped && one.before).map((one) => one.before.name);
      if (dropped.length === 0 || (await agreed(found, dropped))) await save(session, found, given);
    } catch (error) {
      show(told, complain(error, [called, ...rules, ...shown, ...placed(fields, "schema"), ...placed(indexes, "indexes")]));
    } finally {
      send.disabled = false;
    }
  });
  show(body, form, found && section("Delete", h("p", { class: "hint" }, "Drops the collection with its records, in all accounts."), button("Delete this collection", () => drop(session, found), { class: "danger" })));
}

async function save(session, found, given) {
  const made = await session.call(found ? "PUT" : "POST", `/collections${found ? `/${found.name}` : ""}`, given);
  say(found ? "Saved." : `${made.name} is there.`);
  session.forget();
  const target = `#/collection/${made.name}`;
  if (location.hash === target) dispatchEvent(new HashChangeEvent("hashchange"));
  else location.hash = target;
}

function agreed(found, dropped) {
  const text = `Drops ${dropped.join(", ")} from ${found.records_count} records, in all accounts. The values are gone for good.`;
  return confirm("Drop fields?", h("p", null, text), "Drop and save", () => true);
}

async function drop(session, found) {
  const text = `Its ${found.records_count} records are gone for good, in all accounts, and subscriptions to it end.`;
  const done = await confirm(`Delete ${found.name}?`, h("p", null, text), "Delete", async () => {
    await session.call("DELETE", `/collections/${found.name}`);
    return true;
  }, found.name);
  if (!done) return;
  session.forget();
  say(`${found.name} is gone.`);
  location.hash = "#/collections";
}

/** Only what is another now: what somebody else changes meanwhile stays theirs. */
function changed(given, found) {
  const same = (one, other) => JSON.stringify(one) === JSON.stringify(other);
  return Object.fromEntries(Object.entries(given).filter(([key, value]) => !same(value, key === "schema" ? found.schema.map(plain) : found[key])));
}

const section = (title, ...parts) => h("section", null, h("h2", null, title), parts);

function add(made, list, place) {
  list.push(made);
  place.append(made.root);
  made.root.querySelector("input")?.focus();
}

/** Rows as places for the server's complaints, which count only the rows that were sent. */
function placed(rows, key) {
  return rows.filter((one) => !one.dropped).map((one, at) => ({ ...one.place, name: `${key}[${at}]` }));
}

// A field -------------------------------------------------------------------------------------------------------------

/** A field with every key, in one order. */
const plain = (one) => ({
  name: one.name,
  type: one.type,
  required: one.required,
  unique: one.unique,
  default: one.default ?? null,
  ...(one.type === "select" ? { options: one.options } : {}),
  ...(one.type === "reference" ? { collection: one.collection, on_delete: one.on_delete } : {}),
});

function fieldRow(before, names, exists) {
  const name = field({ name: "name", label: "Name", value: before.name });
  const type = field({ name: "type", label: "Type", type: "select", options: TYPES, value: before.type });
  const required = field({ name: "required", label: "Required", type: "checkbox", value: before.required });
  const unique = field({ name: "unique", label: "Unique", type: "checkbox", value: before.unique });
  const byDefault = field({ name: "default", label: "Default", value: written(before.default ?? null), placeholder: "none" });
  const options = field({ name: "options", label: "Options, one a line", type: "textarea", value: (before.options ?? []).join("\n") });
  // What was not touched stays as it is, also where the form could not show it exactly.
  const [firstDefault, firstOptions] = [byDefault.value(), options.value()];
  const target = field({ name: "collection", label: "Refers to", type: "select", options: ["", ...names], value: before.collection ?? "" });
  const after = field({ name: "on_delete", label: "When that is deleted", type: "select", options: [["restrict", "refuse it"], ["cascade", "delete this, too"], ["set_null", "become null"]], value: before.on_delete ?? "restrict" });
  // A type cannot change, and another name would be another field.
  if (exists) name.root.hidden = type.root.hidden = true;

  const wrong = h("div", { class: "wrong", "aria-live": "polite" });
  const root = h("fieldset", null, h("legend", null, exists ? [before.name, " ", quiet(before.type)] : "New field"));
  const row = {
    root,
    before: exists ? before : null,
    dropped: false,
    place: { fail: (text) => (wrong.textContent = text) },
    called: () => name.value().trim(),
    read() {
      const kind = type.value();
      return plain({
        name: name.value().trim(),
        type: kind,
        required: required.value(),
        unique: unique.value(),
        default: exists && byDefault.value() === firstDefault ? before.default : defaultOf(kind, byDefault.value(), name.value()),
        options: exists && options.value() === firstOptions ? before.options : options.value().split("\n").map((one) => one.trim()).filter(Boolean),
        collection: target.value(),
        on_delete: after.value(),
      });
    },
  };
  const toggle = button("Remove", () => {
    row.dropped = !row.dropped;
    if (!exists) return root.remove();
    root.classList.toggle("dropped", row.dropped);
    toggle.textContent = row.dropped ? "Keep it" : "Remove";
  });
  const fit = () => {
    const kind = type.value();
    options.root.hidden = kind !== "select";
    target.root.hidden = after.root.hidden = kind !== "reference";
    byDefault.root.hidden = kind === "reference";
  };
  type.control.addEventListener("change", fit);
  fit();
  root.append(h("div", { class: "grid" }, [name, type, byDefault, options, target, after].map((one) => one.root)), h("div", { class: "row" }, required.root, unique.root, toggle), wrong);
  return row;
}

const written = (value) => (value === null ? "" : typeof value === "string" ? value : JSON.stringify(value));

function defaultOf(kind, text, name) {
  if (text === "" || kind === "reference") return null;
  if (!["number", "boolean", "json"].includes(kind)) return text;
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Error(`The default of ${name} is not JSON: ${error.message}`);
  }
}

function indexRow(before) {
  const named = field({ name: "fields", label: "Fields, with commas", value: before.fields.join(", ") });
  const unique = field({ name: "unique", label: "Unique within an account", type: "checkbox", value: before.unique });
  const row = {
    dropped: false,
    place: named,
    read: () => ({ fields: named.value().split(",").map((one) => one.trim()).filter(Boolean), unique: unique.value() }),
  };
  row.root = h("fieldset", null, named.root, h("div", { class: "row" }, unique.root, button("Remove", () => {
    row.dropped = true;
    row.root.remove();
  })));
  return row;
}

// A rule --------------------------------------------------------------------------------------------------------------

function ruleRow(session, operation, before, where) {
  const key = `${operation}_rule`;
  const kind = before === null ? "locked" : before === "" ? "public" : before === MEMBERS ? "members" : "rule";
  const who = field({ name: `${key}_kind`, label: `May ${operation}`, type: "select", options: KINDS, value: kind });
  const text = field({ name: key, label: `The ${operation} rule`, type: "textarea", rows: 2, value: kind === "rule" ? before : "", placeholder: "@owns_record() || @has_role('editor')" });
  text.control.classList.add("mono");
  const told = h("div", { "aria-live": "polite" });
  const check = async () => {
    show(told);
    if (who.value() !== "rule" || !text.value()) return;
    const found = await session.call("POST", "/rules/validate", { rule: text.value(), operation, ...where() });
    show(told, found.valid ? costs(found.plan) : mistake(text.value(), found));
  };
  const checking = () => check().catch((error) => show(told, problem(error)));
  const more = h("div", null, text.root, button("Check", checking), told);
  const fit = () => (more.hidden = who.value() !== "rule");
  who.control.addEventListener("change", fit);
  text.control.addEventListener("change", checking);
  fit();
  return {
    name: key,
    control: text.control,
    root: h("fieldset", { class: "rule" }, who.root, more),
    value() {
      if (who.value() === "rule" && !text.value().trim()) throw new Error(`The ${operation} rule is empty. Choose who may do it.`);
      return { members: MEMBERS, locked: null, public: "", rule: text.value() }[who.value()];
    },
    fail: text.fail,
  };
}

/** The rule with a mark under the place of the mistake. */
function mistake(rule, found) {
  const at = found.position ?? 0;
  const start = rule.lastIndexOf("\n", at - 1) + 1;
  const line = rule.slice(start).split("\n")[0];
  const mark = `${line}\n${" ".repeat(at - start)}^`;
  return [problem({ message: found.errors.join(" "), code: found.code }), found.position !== null && h("pre", { class: "mistake" }, mark)];
}

const costs = (plan) => h("p", { class: "right" }, "It is a rule. ", plan?.events?.message);
