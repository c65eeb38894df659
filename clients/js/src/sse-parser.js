// Reads an event stream piece by piece. Source: HTML Standard, 9.2.6 "Interpreting an event stream".

/**
 * @param {(block: { data: string, id: string | undefined }) => void} emit called for each block that holds data
 * @returns {(text: string) => void} takes decoded text, cut anywhere
 */
export function eventStreamParser(emit) {
  let rest = "";
  let data = [];
  let id;
  let afterCarriageReturn = false;

  const take = (line) => {
    if (line === "") {
      if (data.length > 0) emit({ data: data.join("\n"), id });
      data = [];
      id = undefined;
      return;
    }
    const colon = line.indexOf(":");
    if (colon === 0) return;
    const name = colon < 0 ? line : line.slice(0, colon);
    let value = colon < 0 ? "" : line.slice(colon + 1);
    if (value.startsWith(" ")) value = value.slice(1);
    if (name === "data") data.push(value);
    else if (name === "id" && !value.includes("\0")) id = value;
  };

  return (text) => {
    if (text === "") return;
    // The line feed of a CRLF that was cut in two ends no second line.
    const piece = afterCarriageReturn && text.startsWith("\n") ? text.slice(1) : text;
    afterCarriageReturn = text.endsWith("\r");
    const lines = (rest + piece).split(/\r\n|\n|\r/);
    rest = lines.pop() ?? "";
    lines.forEach(take);
  };
}
