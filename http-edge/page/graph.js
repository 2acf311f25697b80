// The graph of the rules, copied from the SVG of the archive. Only the elements and attributes
// listed here get into the document.

const SVG = "http://www.w3.org/2000/svg";

/** Elements that are copied, with their attributes. */
const SHAPES = {
  g: ["class", "transform"],
  path: ["class", "d", "marker-end"],
  rect: ["class", "x", "y", "width", "height", "rx"],
  text: ["class", "x", "y", "text-anchor"],
  title: [],
  defs: [],
  marker: ["id", "viewBox", "refX", "refY", "markerWidth", "markerHeight", "markerUnits", "orient"],
};
/** Height of the title, which is left out. */
const TITLE_PX = 34;
/** Allowed references: markers of the graph itself. */
const MARKER = /^url\(#tip-[a-z]+\)$/;

// The SVG is parsed as XML and then discarded. The page parses nothing else (see its
// Content-Security-Policy).
const policy = globalThis.trustedTypes?.createPolicy("concert-graph", { createHTML: (text) => text });

/**
 * Draws the graph.
 *
 * @param {string|undefined} text SVG
 * @param {Set<string>} names names of the rules
 * @param {(name: string) => void} open called with the selected rule
 * @returns {{svg: SVGElement, count: Function, frameOf: Function, choose: Function}|null} null if
 *   the text is not an SVG image
 */
export function drawn(text, names, open) {
  if (typeof text !== "string") return null;
  // The page has its own colours.
  const bare = text.replace(/<style>[^<]*<\/style>/g, "");
  const parsed = new DOMParser().parseFromString(policy ? policy.createHTML(bare) : bare, "image/svg+xml");
  const root = parsed.documentElement;
  const box = root.getAttribute("viewBox") ?? "";
  if (root.namespaceURI !== SVG || root.localName !== "svg" || !/^[\d. ]+$/.test(box)) return null;
  const svg = document.createElementNS(SVG, "svg");
  const [left, top, width, height] = box.split(" ").map(Number);
  svg.setAttribute("viewBox", `${left} ${top + TITLE_PX} ${width} ${height - TITLE_PX}`);
  svg.setAttribute("width", String(width));
  svg.setAttribute("height", String(height - TITLE_PX));
  copy(root, svg);
  const rules = new Map();
  for (const group of svg.querySelectorAll("g.rule")) {
    const name = [...group.querySelectorAll("text")].map((line) => line.textContent).join("");
    if (names.has(name)) rules.set(name, prepared(group, name, open));
  }
  return {
    svg,
    count(name, firings, busy) {
      const rule = rules.get(name);
      if (!rule) return;
      rule.figure.textContent = firings > 0 ? String(firings) : "";
      rule.pill.setAttribute("visibility", firings > 0 ? "visible" : "hidden");
      const width = 10 + 7 * rule.figure.textContent.length;
      rule.pill.setAttribute("width", String(width));
      rule.pill.setAttribute("x", String(rule.right - width + 6));
      rule.figure.setAttribute("x", String(rule.right + 6 - width / 2));
      rule.group.classList.toggle("busy", busy);
      rule.group.setAttribute("aria-label", `${name}, fired ${firings} times`);
    },
    frameOf: (name) => rules.get(name)?.group.getBoundingClientRect(),
    choose(chosen) {
      for (const [name, rule] of rules) rule.group.classList.toggle("chosen", name === chosen);
    },
  };
}

function copy(from, to) {
  for (const child of from.childNodes) {
    if (child.nodeType === Node.TEXT_NODE && ["text", "title"].includes(from.localName)) to.append(child.textContent);
    const allowed = child.nodeType === Node.ELEMENT_NODE && child.namespaceURI === SVG ? SHAPES[child.localName] : undefined;
    if (!allowed || (from.localName === "svg" && child.localName === "title")) continue;
    if (child.classList.contains("paper") || (from.localName === "svg" && child.localName === "text")) continue;
    const made = document.createElementNS(SVG, child.localName);
    for (const name of allowed) {
      const value = child.getAttribute(name);
      if (value === null || (name === "marker-end" && !MARKER.test(value)) || (name !== "marker-end" && value.includes("url("))) continue;
      made.setAttribute(name, value);
    }
    copy(child, made);
    to.append(made);
  }
}

/** Makes a rule a link, with a counter at its corner. */
function prepared(group, name, open) {
  const frame = group.querySelector("rect");
  const right = Number(frame.getAttribute("x")) + Number(frame.getAttribute("width"));
  const top = Number(frame.getAttribute("y"));
  const pill = document.createElementNS(SVG, "rect");
  pill.setAttribute("class", "pill");
  pill.setAttribute("y", String(top - 9));
  pill.setAttribute("height", "16");
  pill.setAttribute("rx", "8");
  const figure = document.createElementNS(SVG, "text");
  figure.setAttribute("class", "figure");
  figure.setAttribute("y", String(top + 3));
  figure.setAttribute("text-anchor", "middle");
  group.append(pill, figure);
  group.setAttribute("role", "link");
  group.setAttribute("tabindex", "0");
  group.setAttribute("aria-label", name);
  group.addEventListener("click", () => open(name));
  group.addEventListener("keydown", (event) => {
    if (event.key === "Enter") open(name);
  });
  return { group, pill, figure, right };
}
