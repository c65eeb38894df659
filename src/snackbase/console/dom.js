// Elements out of JavaScript. Every text goes in as a text node: whatever a record, an e-mail or an error holds stays text.

let count = 0;

/**
 * An element. `on…` in props are listeners; null, undefined and false leave a prop or a child out.
 * @param {string} tag
 * @param {Record<string, any> | null} [props]
 * @param {...any} children nodes, texts, numbers, lists of them
 * @returns {any}
 */
export function h(tag, props, ...children) {
  const element = document.createElement(tag);
  element.append(...flat(children));
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value") /** @type {any} */ (element).value = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  return element;
}

function flat(children) {
  return children.flat(Infinity).filter((one) => one !== undefined && one !== null && one !== false);
}

export function show(parent, ...children) {
  parent.replaceChildren(...flat(children));
}

export const uid = () => `u${(count += 1)}`;

/** A button; when its work fails, that is said where it can be seen. */
export function button(text, work, props = {}) {
  const onclick = async () => {
    try {
      await work();
    } catch (error) {
      say(words(error), "bad");
    }
  };
  return h("button", { type: "button", onclick, ...props }, text);
}

export const link = (text, hash, props = {}) => h("a", { href: `#/${hash}`, ...props }, text);
export const quiet = (text) => h("span", { class: "quiet" }, text);
export const badge = (text, kind = "") => h("span", { class: `badge ${kind}` }, text);

/** A time of the server, in UTC as it came; to the second, or as exactly as it is. */
export function time(text, { exact = false } = {}) {
  if (!text) return quiet("–");
  const shown = text.replace("T", " ").replace("Z", "");
  return h("time", { datetime: text, title: text }, exact ? shown : shown.slice(0, 19));
}

// Errors, in the server's own words -----------------------------------------------------------------------------------

export const words = (error) => error?.message ?? String(error);

/** An error as a block. */
export function problem(error) {
  const more = (error.details ?? []).filter((one) => one.message !== error.message);
  return h(
    "div",
    { class: "problem", role: "alert" },
    h("p", null, words(error), " ", error.code && h("code", null, error.code)),
    more.length > 0 && h("ul", null, more.map((one) => h("li", null, h("code", null, one.field), " ", one.message))),
  );
}

const sayings = h("div", { class: "sayings", role: "status", "aria-live": "polite" });

/** A word in the corner for a while. */
export function say(text, kind = "good") {
  if (!sayings.isConnected) document.body.append(sayings);
  const one = h("p", { class: kind }, text);
  // A modal dialog covers everything but what the browser itself lays above it.
  if (sayings.showPopover) {
    sayings.popover = "manual";
    if (sayings.matches(":popover-open")) sayings.hidePopover();
    sayings.showPopover();
  }
  sayings.append(one);
  setTimeout(() => one.remove(), kind === "bad" ? 10_000 : 4_000);
}

// Forms ---------------------------------------------------------------------------------------------------------------

/**
 * A labelled control.
 * @param {{ name: string, label: string, type?: string, value?: any, options?: (string | [string, string])[],
 *   hint?: string, required?: boolean, rows?: number, placeholder?: string, autocomplete?: string }} about
 * @returns {{ name: string, root: HTMLElement, control: any, value: () => any, fail: (text: string) => void }}
 */
export function field({ name, label, type = "text", value, options, hint, required, rows, ...more }) {
  const ids = { control: uid(), hint: uid(), wrong: uid() };
  const props = { id: ids.control, name, required, "aria-describedby": `${ids.hint} ${ids.wrong}`, ...more };
  const control = make(type, { props, value, options, rows });
  const wrong = h("span", { class: "wrong", id: ids.wrong, "aria-live": "polite" });
  const text = h("label", { class: "label", for: ids.control }, label);
  const root = h(
    "div",
    { class: type === "checkbox" ? "field check" : "field" },
    type === "checkbox" ? [control, text] : [text, control],
    h("span", { class: "hint", id: ids.hint }, hint),
    wrong,
  );
  return {
    name,
    root,
    control,
    value: () => (type === "checkbox" ? control.checked : control.value),
    fail(words) {
      wrong.textContent = words;
      if (words) control.setAttribute("aria-invalid", "true");
      else control.removeAttribute("aria-invalid");
    },
  };
}

function make(type, { props, value, options, rows }) {
  if (type === "select") {
    const choices = options.map((one) => (Array.isArray(one) ? one : [one, one]));
    return h("select", { ...props, value }, choices.map(([key, text]) => h("option", { value: key }, text)));
  }
  if (type === "textarea") return h("textarea", { rows: rows ?? 3, spellcheck: "false", ...props, value: value ?? "" });
  if (type === "checkbox") return h("input", { type, ...props, checked: Boolean(value) });
  return h("input", { type, autocomplete: "off", ...props, value: value ?? "" });
}

/** Put an error's details where they belong; what belongs nowhere is returned as a block. */
export function complain(error, fields) {
  const left = [];
  for (const one of fields) one.fail("");
  for (const detail of error.details ?? []) {
    const place = fields.find((one) => one.name === detail.field || detail.field.startsWith(`${one.name}.`));
    if (place) place.fail(detail.message);
    else left.push(detail);
  }
  fields.find((one) => one.control?.matches?.("[aria-invalid]"))?.control.focus();
  return problem({ message: words(error), code: error.code, details: left });
}

// Dialogs -------------------------------------------------------------------------------------------------------------

/**
 * A form in a dialog. `submit(values)` may throw: then it stays open and says so.
 * @param {{ title: string, intro?: any, fields?: any[], action?: string, danger?: boolean, typed?: string, leave?: boolean,
 *   submit: (values: Record<string, any>) => Promise<any> | any }} about
 *   typed: what has to be typed to go on. leave: whether there is a button to leave it undone
 * @returns {Promise<any>} what `submit` returned; null when it was left
 */
export function ask({ title, intro, fields = [], action = "Save", danger = false, typed, leave = true, submit }) {
  return new Promise((resolve) => {
    let result = null;
    const told = h("div");
    const parts = fields.map((one) => (one.root ? one : field(one)));
    const sure = typed === undefined ? null : field({ name: "typed", label: `Type ${typed} to go on` });
    const send = h("button", { class: danger ? "main danger" : "main", disabled: sure !== null }, action);
    sure?.control.addEventListener("input", () => (send.disabled = sure.value() !== typed));
    const form = h(
      "form",
      { novalidate: true },
      h("h2", { id: "dialog-title" }, title),
      intro && h("div", { class: "intro" }, intro),
      parts.map((one) => one.root),
      sure?.root,
      told,
      h("div", { class: "actions" }, leave && button("Cancel", () => dialog.close()), send),
    );
    const dialog = h("dialog", { "aria-labelledby": "dialog-title" }, form);
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      if (send.disabled) return;
      send.disabled = true;
      try {
        result = (await submit(Object.fromEntries(parts.map((one) => [one.name, one.value()])))) ?? true;
        dialog.close();
      } catch (error) {
        show(told, complain(error, parts));
        send.disabled = false;
      }
    });
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(result);
    });
    (parts[0] ?? sure)?.control.setAttribute("autofocus", "");
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** Ask before something that cannot be undone. */
export function confirm(title, intro, action, work, typed) {
  return ask({ title, intro, action, danger: true, typed, submit: work });
}

/** Something that is shown this once. */
export function reveal(title, intro, secret) {
  const box = h("input", { class: "mono", readonly: true, value: secret, "aria-label": title });
  const copy = async () => {
    box.select();
    // There is no clipboard for a page that came over plain HTTP from another machine.
    await navigator.clipboard?.writeText(secret);
    if (navigator.clipboard) say("Copied.");
  };
  return ask({
    title,
    intro: [h("p", null, intro), h("div", { class: "row" }, box, button("Copy", copy))],
    action: "I have kept it",
    leave: false,
    submit: () => true,
  });
}

// Tables --------------------------------------------------------------------------------------------------------------

/**
 * A table in a frame that scrolls sideways by itself.
 * @param {string} label what it is a table of
 */
export function table(label, heads, rows, empty = "Nothing here yet.") {
  const body = h("tbody", null, rows);
  if (rows.length === 0) body.append(h("tr", null, h("td", { colspan: heads.length, class: "empty" }, empty)));
  const head = h("thead", null, h("tr", null, heads.map((one) => (one instanceof Node ? one : h("th", { scope: "col" }, one)))));
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label }, h("table", null, head, body));
}

export function row(...cells) {
  return h("tr", null, cells.map((one) => h("td", null, one)));
}

export const actions = (...buttons) => h("span", { class: "row tight" }, buttons);
