// The order of a list, as the server sorts it: null first, false before true, text by code point, ties by id.

const NEWEST_FIRST = [
  { name: "created_at", down: true },
  { name: "id", down: true },
];

/**
 * `-created_at,+title` as keys; ties are broken by id in the direction of the last one.
 * @param {string} [text]
 * @returns {{ name: string, down: boolean }[]}
 */
export function sortKeys(text = "") {
  const keys = [];
  for (const part of text.split(",")) {
    const word = part.trim();
    const name = word.replace(/^[+-]/, "");
    if (name && !keys.some((key) => key.name === name)) keys.push({ name, down: word.startsWith("-") });
  }
  if (keys.length === 0) return NEWEST_FIRST;
  if (!keys.some((key) => key.name === "id")) keys.push({ name: "id", down: keys[keys.length - 1].down });
  return keys;
}

/** @param {{ name: string, down: boolean }[]} keys */
export function comparator(keys) {
  return (one, other) => {
    for (const { name, down } of keys) {
      const order = compareValues(one[name] ?? null, other[name] ?? null);
      if (order !== 0) return down ? -order : order;
    }
    return 0;
  };
}

export function compareValues(one, other) {
  if (one === null || other === null) return (one === null ? 0 : 1) - (other === null ? 0 : 1);
  if (typeof one === "string" && typeof other === "string") return compareText(one, other);
  return one < other ? -1 : one > other ? 1 : 0;
}

/** By code point. JavaScript compares UTF-16 units, where characters beyond U+FFFF come before U+E000 to U+FFFF. */
function compareText(one, other) {
  const length = Math.min(one.length, other.length);
  for (let at = 0; at < length; at += 1) {
    const a = one.charCodeAt(at);
    const b = other.charCodeAt(at);
    if (a !== b) return rank(a) - rank(b);
  }
  return one.length - other.length;
}

function rank(unit) {
  return unit >= 0xd800 && unit <= 0xdfff ? unit + 0x10000 : unit;
}

/** Where a record belongs in a sorted list. */
export function placeOf(list, record, compare) {
  let low = 0;
  let high = list.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (compare(list[middle], record) < 0) low = middle + 1;
    else high = middle;
  }
  return low;
}
