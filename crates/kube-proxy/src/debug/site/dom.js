// Elements out of plain text. Nothing here reads markup: names and error texts stay text, whatever is in them.

// An element with attributes and children: texts, elements, or nothing.
export function element(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes ?? {})) {
    if (key === "on") {
      for (const [event, listener] of Object.entries(value)) made.addEventListener(event, listener);
    } else if (value !== undefined && value !== false) {
      made.setAttribute(key, value === true ? "" : value);
    }
  }
  made.append(...children.flat(Infinity).filter((child) => child !== undefined && child !== null && child !== ""));
  return made;
}

// A link to a view: what the fragment says.
export function link(text, state) {
  return element("a", { href: "#" + new URLSearchParams(state) }, text);
}

// Rows that a table has at first, and that it grows by. Thousands would make the browser stall.
const ROWS = 100;

// A table of at most so many rows, and a button for more. `row` makes the cells of one.
export function table(headings, items, row) {
  const body = element("tbody");
  const more = element("button", { type: "button" });
  const status = element("p", { class: "quiet", role: "status" });
  let shown = 0;
  const grow = () => {
    const next = items.slice(shown, shown + ROWS);
    body.append(...next.map((item) => tableRow(headings, row(item))));
    shown += next.length;
    const all = items.length.toLocaleString("en");
    status.textContent = shown < items.length ? `${shown.toLocaleString("en")} of ${all} shown.` : "";
    more.textContent = `Show ${Math.min(ROWS, items.length - shown)} more`;
    more.hidden = shown === items.length;
  };
  more.addEventListener("click", grow);
  grow();
  const head = element("thead", {}, element("tr", {}, headings.map((name) => element("th", { scope: "col" }, name))));
  return [element("table", {}, head, body), status, more];
}

function tableRow(headings, cells) {
  const cell = (content, index) => {
    const number = typeof content === "number";
    const children = number ? [content.toLocaleString("en")] : [content].flat(Infinity);
    return element("td", { "data-name": headings[index], class: number && "number" }, element("span", {}, children));
  };
  return element("tr", {}, cells.map(cell));
}

// Names with their values; those without a value are left out.
export function list(pairs) {
  const given = pairs.filter(([, value]) => value !== undefined && value !== null && value !== "");
  return element("dl", {}, given.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]));
}

export function panel(kind, ...children) {
  return element("div", { class: `panel ${kind}` }, children);
}

// How long ago something was, in the largest unit that fits.
export function age(time) {
  const seconds = Math.floor((Date.now() - Date.parse(time)) / 1000);
  if (!(seconds >= 0)) return "just now";
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} d`;
}

// The time between two moments; nothing if one is missing.
export function between(from, to) {
  if (!from || !to) return "";
  const took = Date.parse(to) - Date.parse(from);
  return Math.abs(took) < 10000 ? `${took} ms` : `${Math.round(took / 1000)} s`;
}
