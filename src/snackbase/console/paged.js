// A list of people or of what belongs to them: searched, in pages, read again after every change.

import { button, field, h, problem, show, table } from "./dom.js";

const LIMIT = 50;

/**
 * @param {any} context the view's
 * @param {{ label: string, heads: any[], empty?: string, search?: string, choice?: any,
 *   read: (asked: { skip: number, limit: number, search: string, choice: string }) => Promise<[any[], number]>,
 *   row: (item: any, again: () => Promise<void>) => Node }} about search: the label of a search; choice: a field beside it
 * @returns {Promise<() => Promise<void>>} reads it again
 */
export async function paged({ body, signal }, { label, heads, empty, search, choice, read, row }) {
  let skip = 0;
  let number = 0;
  const sought = search && field({ name: "search", label: search, type: "search" });
  const chosen = choice && field(choice);
  const list = h("div");
  const told = h("span", { class: "quiet", role: "status" });
  const previous = button("Previous", () => turn(-LIMIT));
  const next = button("Next", () => turn(LIMIT));

  const turn = (by) => {
    skip = Math.max(0, skip + by);
    return again();
  };
  const again = async () => {
    const mine = (number += 1);
    try {
      const [items, total] = await read({ skip, limit: LIMIT, search: sought?.value().trim() ?? "", choice: chosen?.value() ?? "" });
      if (mine !== number || signal.aborted) return;
      if (items.length === 0 && skip > 0) return void turn(-LIMIT);
      show(list, table(label, heads, items.map((one) => row(one, again)), empty));
      told.textContent = total === 0 ? "none" : `${skip + 1}–${skip + items.length} of ${total}`;
      previous.disabled = skip === 0;
      next.disabled = skip + items.length >= total;
    } catch (error) {
      if (mine === number && !signal.aborted) show(list, problem(error));
    }
  };
  const first = () => {
    skip = 0;
    return again();
  };
  sought?.control.addEventListener("input", first);
  chosen?.control.addEventListener("change", first);
  show(body, (sought || chosen) && h("div", { class: "row filter" }, sought?.root, chosen?.root), list, h("div", { class: "row foot" }, previous, next, told));
  await again();
  return again;
}

export const query = (values) => new URLSearchParams(Object.entries(values).filter(([, value]) => value !== "" && value !== undefined));
