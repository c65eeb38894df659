// A record as a form: one typed input a field. Only what was touched is sent, so nothing else is changed by accident.

import { ask, h, quiet, uid } from "./dom.js";

/**
 * @param {{ session: any, collection: any, record?: any, listen?: (heard: Function) => () => void,
 *   submit: (data: object) => Promise<any> }} about record: the one to change; listen: hears its changes meanwhile
 */
export async function recordForm({ session, collection, record, listen, submit }) {
  const inputs = collection.fields.map((one) => input(session, one, record));
  const meanwhile = h("p", { class: "notice", role: "status", hidden: true });
  const unlisten = listen?.((operation, changed) => {
    if (changed.id !== record.id) return;
    meanwhile.hidden = false;
    meanwhile.textContent = operation === "delete" ? "The record was deleted meanwhile." : "The record was changed meanwhile. What you did not touch stays as it is now.";
  });
  const done = await ask({
    title: record ? "Edit record" : "New record",
    intro: [record && h("p", null, h("code", null, record.id)), meanwhile],
    fields: inputs,
    action: record ? "Save" : "Create",
    submit() {
      const touched = inputs.filter((one) => one.touched);
      return submit(Object.fromEntries(touched.map((one) => [one.name, one.read()])));
    },
  });
  unlisten?.();
  return done;
}

function input(session, about, record) {
  const before = record ? record[about.name] : about.default;
  const told = { id: uid(), hint: uid(), wrong: uid() };
  const control = controlOf(about, before);
  const wrong = h("span", { class: "wrong", id: told.wrong, "aria-live": "polite" });
  const unset = !about.required && h("input", { type: "checkbox", checked: Boolean(record) && (before ?? null) === null });
  control.id = told.id;
  control.setAttribute("aria-describedby", `${told.hint} ${told.wrong}`);
  const made = {
    name: about.name,
    touched: false,
    control,
    root: h(
      "div",
      { class: "field" },
      h("div", { class: "row" }, h("label", { for: told.id, class: "label" }, about.name), quiet(about.type + (about.required ? ", required" : "")), unset && h("label", { class: "null" }, unset, "null")),
      control,
      h("span", { class: "hint", id: told.hint }, hintOf(about, record)),
      wrong,
    ),
    read() {
      if (unset && unset.checked) return null;
      return valueOf(about, control.value);
    },
    value: () => undefined,
    fail(words) {
      wrong.textContent = words;
      if (words) control.setAttribute("aria-invalid", "true");
      else control.removeAttribute("aria-invalid");
    },
  };
  const touch = () => (made.touched = true);
  control.addEventListener("input", () => {
    touch();
    if (unset) unset.checked = false;
  });
  if (unset) unset.addEventListener("change", touch);
  if (about.type === "reference" && about.collection) control.addEventListener("focus", () => suggest(session, about.collection, control), { once: true });
  return made;
}

function controlOf({ name, type, options, required }, before) {
  const text = before === null || before === undefined ? "" : type === "json" ? JSON.stringify(before, null, 2) : String(before);
  const props = { name, value: text, autocomplete: "off" };
  switch (type) {
    case "boolean":
      return h("select", props, ["", "true", "false"].map((one) => h("option", { value: one }, one)));
    case "select": {
      // A value whose option was taken away since is still the record's.
      const all = [...new Set([...(required && text ? [] : [""]), ...options, text])];
      return h("select", props, all.map((one) => h("option", { value: one }, one)));
    }
    case "text":
      return h("textarea", { ...props, rows: text.length > 80 || text.includes("\n") ? 5 : 1 });
    case "json":
      return h("textarea", { ...props, rows: 4, class: "mono", spellcheck: "false" });
    case "number":
      return h("input", { ...props, inputmode: "decimal" });
    case "date":
      return h("input", { ...props, type: "date" });
    default:
      return h("input", { ...props, type: type === "email" ? "email" : type === "url" ? "url" : "text" });
  }
}

function hintOf({ type, collection, default: byDefault }, record) {
  const more = !record && byDefault !== null && byDefault !== undefined ? ` Left alone: ${JSON.stringify(byDefault)}.` : "";
  const said = {
    datetime: "As 2026-11-23T08:15:30Z; without a zone it is UTC.",
    reference: collection ? `The id of a record of ${collection}.` : "The id of a record.",
    json: "Any JSON.",
  }[type];
  return (said ?? "") + more;
}

function valueOf({ name, type }, text) {
  if (type === "boolean") return text === "" ? null : text === "true";
  if (type === "number") return numberOf(name, text);
  if (type === "json") return jsonOf(name, text);
  return ["select", "date", "datetime", "reference", "email", "url"].includes(type) && text === "" ? null : text;
}

function numberOf(name, text) {
  if (text.trim() === "") return null;
  const value = Number(text);
  if (Number.isNaN(value)) throw wrongAt(name, `${text} is not a number.`);
  return value;
}

function jsonOf(name, text) {
  if (text.trim() === "") return null;
  try {
    return JSON.parse(text);
  } catch (error) {
    throw wrongAt(name, `This is not JSON: ${error.message}`);
  }
}

function wrongAt(field, message) {
  return Object.assign(new Error(message), { details: [{ field, message }] });
}

/** Records that may be referred to, to choose from. */
async function suggest(session, collection, control) {
  const page = await session.call("GET", `/records/${collection}?limit=50&total=false`).catch(() => ({ items: [] }));
  const list = h("datalist", { id: uid() }, page.items.map((one) => h("option", { value: one.id }, labelOf(one))));
  control.after(list);
  control.setAttribute("list", list.id);
}

function labelOf({ id: _id, account_id: _account, created_at: _at, created_by: _by, updated_at: _upon, updated_by: _who, ...own }) {
  return String(Object.values(own).find((value) => typeof value === "string" && value) ?? "");
}
