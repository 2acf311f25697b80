// @ts-check
// Builds elements without HTML text, so that no content becomes markup.

/** @typedef {Node | string | number | null | undefined | false} Child */

/**
 * `element("button.primary", { type: "button", on: { click } }, "Save")`. Properties with the value
 * null, undefined or false are left out; `vars` sets CSS variables.
 * @param {string} selector tag and classes
 * @param {Record<string, any>} [properties]
 * @param {...Child} children
 * @returns {any}
 */
export function element(selector, properties = {}, ...children) {
  const [tag, ...classes] = selector.split(".");
  const node = document.createElement(tag);
  if (classes.length > 0) node.className = classes.join(" ");
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) node.addEventListener(event, listener);
    } else if (name === "vars") {
      for (const [key, text] of Object.entries(value)) node.style.setProperty(key, String(text));
    } else if (name === "value") /** @type {any} */ (node).value = value;
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  fill(node, ...children);
  return node;
}

/** Replaces the children of a node. @param {Element} node @param {...Child} children */
export function fill(node, ...children) {
  const shown = children.filter((one) => one !== null && one !== undefined && one !== false);
  node.replaceChildren(...shown.map((one) => (one instanceof Node ? one : String(one))));
}

const SVG = "http://www.w3.org/2000/svg";
/** Outlines on a grid of 24. */
const SHAPES = {
  book: "M12 6c-2-1.5-5-2-8-1.800v14c3-.2 6 .3 8 1.8 2-1.5 5-2 8-1.800v-14C17 4 14 4.5 12 6zm0 0v14",
  list: "M8 6h12M8 12h12M8 18h12M4 6h.01M4 12h.01M4 18h.01",
  note: "M4 20l1-5L16 4l4 4L9 19l-5 1z",
  text: "M4 19l5-14 5 14M6 14h6M15 19l3-8 3 8M16 16.500h4",
  left: "M15 5l-7 7 7 7",
  right: "M9 5l7 7-7 7",
  close: "M6 6l12 12M18 6L6 18",
  plus: "M12 5v14M5 12h14",
  trash: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13M10 11v5M14 11v5",
  chart: "M5 20v-7M12 20V5M19 20v-10",
  user: "M12 12a4 4 0 1 0 0-8 4 4 0 0 0 0 8zM4 20c1-4 4-5 8-5s7 1 8 5",
  upload: "M12 16V4M7 9l5-5 5 5M4 16v4h16v-4",
};

/** A small picture beside a text. @param {keyof typeof SHAPES} name */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("class", "icon");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", SHAPES[name]);
  svg.append(path);
  return svg;
}

/** Shows a short message, and reads it out. @param {string} text */
export function toast(text) {
  const box = document.querySelector("#toast");
  if (!box) return;
  box.textContent = text;
  box.classList.add("shown");
  clearTimeout(Number(/** @type {HTMLElement} */ (box).dataset.timer));
  const timer = setTimeout(() => box.classList.remove("shown"), 5000);
  /** @type {HTMLElement} */ (box).dataset.timer = String(timer);
}
