// What a browser's page tells of the network and of itself; nothing in Node.

/** A page hears when the network comes back and when it is looked at again. Returns what ends the listening. */
export function listenToPage(nudge) {
  const page = globalThis.document;
  const heard = () => {
    if (page === undefined || page.visibilityState !== "hidden") nudge();
  };
  if (typeof globalThis.addEventListener !== "function" || page === undefined) return () => {};
  const pairs = [
    { target: globalThis, name: "online" },
    { target: globalThis, name: "offline" },
    { target: globalThis, name: "pageshow" },
    { target: page, name: "visibilitychange" },
  ];
  for (const { target, name } of pairs) target.addEventListener(name, heard);
  return () => {
    for (const { target, name } of pairs) target.removeEventListener(name, heard);
  };
}
