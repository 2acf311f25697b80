// Creates elements without parsing HTML, so external data is always plain text.

/**
 * Creates an element.
 *
 * @param {string} name such as `div.card`: the tag and its classes
 * @param {Object<string, unknown>} attributes `on` holds listeners, `style` holds CSS properties;
 *   an attribute that is false, null or undefined is omitted
 * @param {...(Node|string|number|null|undefined|false|Array)} children nested lists are flattened
 */
export function element(name, attributes = {}, ...children) {
  const [tag, ...classes] = name.split(".");
  const made = document.createElement(tag);
  if (classes.length > 0) made.className = classes.join(" ");
  for (const [key, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (key === "on") {
      for (const [event, listener] of Object.entries(value)) made.addEventListener(event, listener);
    } else if (key === "style") {
      for (const [property, text] of Object.entries(value)) made.style.setProperty(property, text);
    } else {
      made.setAttribute(key, value === true ? "" : textOf(value));
    }
  }
  append(made, children);
  return made;
}

/** A text; parts between backticks become `code` elements. */
export const prose = (text) => text.split("`").map((part, at) => (at % 2 === 1 ? element("code", {}, part) : part));

/** A long name, with line-break opportunities between its words. */
export const breakable = (name) => name.split(/(?<=[a-z.])(?=[A-Z])/).flatMap((part, at) => (at === 0 ? [part] : [element("wbr"), part]));

/** Replaces the children of an element. */
export function fill(parent, ...children) {
  parent.replaceChildren();
  append(parent, children);
}

function append(parent, children) {
  for (const child of children.flat(Infinity)) {
    if (child === false || child === null || child === undefined) continue;
    parent.append(child instanceof Node ? child : textOf(child));
  }
}

/** Rejects objects: `[object Object]` on the page would hide a bug. */
function textOf(value) {
  if (typeof value === "object" || typeof value === "function") throw new TypeError("an object cannot be displayed as text");
  return String(value);
}
