// @ts-check
// Positions in a book as EPUB canonical fragment identifiers (CFI), such as
// `epubcfi(/6/4!/4,/2/1:0,/2/1:9)`: second entry of the spine, body, first paragraph, letters 0 to 9.

const ELEMENT = 1;
const isText = (/** @type {Node} */ node) => node.nodeType === 3 || node.nodeType === 4;
/** Step of the body in its document. */
const BODY = "/4";

/** @typedef {{ node: Node, offset: number }} Point */

/**
 * @param {number} chapter index in the spine
 * @param {Node} body
 * @param {{ startContainer: Node, startOffset: number, endContainer: Node, endOffset: number }} range
 */
export function fromRange(chapter, body, range) {
  const start = pathTo(body, range.startContainer, range.startOffset);
  const end = pathTo(body, range.endContainer, range.endOffset);
  return `epubcfi(/6/${2 * (chapter + 1)}!${BODY},${start},${end})`;
}

/**
 * Chapter of a CFI and the paths of its ends below the body, or null if the text is not a CFI.
 * @param {string} location
 */
export function parse(location) {
  const plain = location.replace(/\[(?:\^.|[^\]])*\]/g, "").replace(/^epubcfi\((.*)\)$/, "$1");
  const found = /^\/6\/(\d+)!([^!]*)$/.exec(plain);
  if (!found) return null;
  const [parent, from = "", to = from] = found[2].split(",");
  const [start, end] = [parent + from, parent + to];
  if (![start, end].every((path) => /^\/4(\/\d+)*(:\d+)?$/.test(path))) return null;
  const below = (/** @type {string} */ path) => path.slice(BODY.length);
  return { chapter: Number(found[1]) / 2 - 1, start: below(start), end: below(end) };
}

/**
 * Node and offset of a path below the body, or null if the chapter has no such place.
 * @param {Node} body
 * @param {string} path
 * @returns {Point | null}
 */
export function locate(body, path) {
  const [steps, offset] = path.split(":", 2);
  let left = Number(offset ?? 0);
  /** @type {Node} */
  let at = body;
  for (const step of steps.split("/").filter(Boolean).map(Number)) {
    if (step % 2 === 0) {
      const child = elements(at)[step / 2 - 1];
      if (!child) return null;
      at = child;
    } else {
      const texts = textsAt(at, (step - 1) / 2);
      for (const node of texts) {
        const length = (node.nodeValue ?? "").length;
        if (left <= length) return { node, offset: left };
        left -= length;
      }
      const last = texts.at(-1);
      return last ? { node: last, offset: (last.nodeValue ?? "").length } : { node: at, offset: 0 };
    }
  }
  return { node: at, offset: 0 };
}

/** @param {Node} body @param {Node} container @param {number} offset */
function pathTo(body, container, offset) {
  let { node, offset: at } = toText(container, offset);
  let path = "";
  if (isText(node)) {
    const siblings = [.../** @type {Node} */ (node.parentNode).childNodes];
    const before = siblings.slice(0, siblings.indexOf(/** @type {ChildNode} */ (node)));
    const index = before.filter((one) => one.nodeType === ELEMENT).length;
    for (const one of before.slice(before.findLastIndex((it) => it.nodeType === ELEMENT) + 1)) {
      if (isText(one)) at += (one.nodeValue ?? "").length;
    }
    path = `/${2 * index + 1}:${at}`;
    node = /** @type {Node} */ (node.parentNode);
  }
  while (node !== body) {
    const parent = node.parentNode;
    if (!parent) throw new Error("the position is outside of the chapter");
    path = `/${2 * (elements(parent).indexOf(node) + 1)}${path}`;
    node = parent;
  }
  return path;
}

/** The nearest position in a text. @param {Node} node @param {number} offset @returns {Point} */
function toText(node, offset) {
  if (isText(node)) return { node, offset };
  const next = node.childNodes[offset];
  const first = next && texts(next)[0];
  if (first) return { node: first, offset: 0 };
  const earlier = [...node.childNodes].slice(0, offset).flatMap(texts).at(-1);
  return earlier
    ? { node: earlier, offset: (earlier.nodeValue ?? "").length }
    : { node, offset: 0 };
}

/** @param {Node} node @returns {Node[]} */
function texts(node) {
  return isText(node) ? [node] : [...node.childNodes].flatMap(texts);
}

/** @param {Node} node @returns {Node[]} */
function elements(node) {
  return [...node.childNodes].filter((child) => child.nodeType === ELEMENT);
}

/** Texts after this number of elements. @param {Node} parent @param {number} count */
function textsAt(parent, count) {
  const found = [];
  let seen = 0;
  for (const child of parent.childNodes) {
    if (child.nodeType === ELEMENT) seen += 1;
    else if (seen === count && isText(child)) found.push(child);
  }
  return found;
}
