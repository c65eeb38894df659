// Keeps the elements of a list in step with records: what stays keeps its element, so that focus, scrolling and screen
// readers only notice what is new.

/**
 * @param {HTMLElement} list
 * @param {{ id: string }[]} records
 * @param {(record: any) => HTMLElement} make
 * @param {(element: HTMLElement, record: any) => void} fill
 */
export function show(list, records, make, fill) {
  const wanted = new Set(records.map(({ id }) => id));
  for (const element of [...list.children]) if (!wanted.has(element.dataset.id)) element.remove();
  const there = new Map([...list.children].map((element) => [element.dataset.id, element]));
  let place = list.firstElementChild;
  for (const record of records) {
    let element = there.get(record.id);
    if (!element) {
      element = make(record);
      element.dataset.id = record.id;
    }
    fill(element, record);
    if (element === place) place = place.nextElementSibling;
    else list.insertBefore(element, place);
  }
}

/** An element with a class and a text; never HTML. */
export function make(tag, className = "", text = "") {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = text;
  return element;
}
