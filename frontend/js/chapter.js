// @ts-check
// A chapter made safe: no scripts, no requests to other hosts, files of the book by blob URLs.

import { resolve } from "./epub.js";

/** Elements that a book may not have. An empty element replaces each, so that CFIs still match. */
const FORBIDDEN = new Set([
  "script",
  "iframe",
  "frame",
  "object",
  "embed",
  "applet",
  "form",
  "input",
  "button",
  "textarea",
  "select",
  "meta",
  "base",
  "link",
  "style",
  "portal",
  "dialog",
  "template",
  "noscript",
]);
const IMPORT_DEPTH = 4;
const XLINK = "http://www.w3.org/1999/xlink";

/** Blob URLs of a book's files, each made once. */
export class Files {
  /** @type {Map<string, Promise<string>>} */
  #urls = new Map();

  /** @param {import("./epub.js").Epub} book */
  constructor(book) {
    this.book = book;
  }

  /** URL of a file, or an empty text if the book does not have it. @param {string} from @param {string} href */
  async url(from, href) {
    if (/^data:(image|font)\//i.test(href)) return href;
    const path = resolve(from, href.trim())?.path;
    if (!path || !this.book.zip.has(path)) return "";
    let url = this.#urls.get(path);
    if (!url) {
      url = this.#make(path).catch(() => "");
      this.#urls.set(path, url);
    }
    return url;
  }

  /** @param {string} path */
  async #make(path) {
    const bytes = await this.book.zip.bytes(path);
    const blob = new Blob([/** @type {BlobPart} */ (bytes)], { type: this.book.type(path) });
    return URL.createObjectURL(blob);
  }

  async release() {
    for (const url of await Promise.all(this.#urls.values())) if (url) URL.revokeObjectURL(url);
    this.#urls.clear();
  }

  /** A style sheet with its imports, all references by blob URLs. @param {string} path @param {number} [depth] @returns {Promise<string>} */
  async css(path, depth = 0) {
    if (depth > IMPORT_DEPTH || !this.book.zip.has(path)) return "";
    return this.cssText(path, await this.book.zip.text(path), depth);
  }

  /** @param {string} from @param {string} text @param {number} [depth] @returns {Promise<string>} */
  async cssText(from, text, depth = 0) {
    const imports = /@import\s+(?:url\(\s*)?["']?([^"')\s;]+)["']?\s*\)?[^;]*;/gi;
    const imported = [];
    for (const [, href] of text.matchAll(imports)) {
      const path = resolve(from, href)?.path;
      if (path) imported.push(await this.css(path, depth + 1));
    }
    const own = text.replace(imports, "");
    const found = [...own.matchAll(/url\(\s*(?:"([^"]*)"|'([^']*)'|([^)"'\s]*))\s*\)/gi)];
    const urls = await Promise.all(found.map(([, a, b, c]) => this.url(from, a ?? b ?? c ?? "")));
    let index = 0;
    const linked = own.replace(
      /url\(\s*(?:"[^"]*"|'[^']*'|[^)"'\s]*)\s*\)/gi,
      () => `url("${urls[index++]}")`,
    );
    return [...imported, linked].join("\n");
  }
}

/**
 * Reads a chapter.
 * @param {Files} files
 * @param {string} path
 * @returns {Promise<{ body: Element, css: string[], lang: string }>} a body whose nodes are safe to import
 */
export async function readChapter(files, path) {
  const text = await files.book.zip.text(path);
  const type = files.book.type(path);
  if (type === "image/svg+xml" || type.startsWith("image/")) return picture(files, path);
  let doc = new DOMParser().parseFromString(text, "application/xhtml+xml");
  if (doc.getElementsByTagName("parsererror").length > 0 || !doc.querySelector("body")) {
    doc = new DOMParser().parseFromString(text, "text/html");
  }
  const css = [];
  for (const node of doc.querySelectorAll("link[rel~=stylesheet], style")) {
    const href = node.getAttribute("href");
    if (node.localName === "style") css.push(await files.cssText(path, node.textContent ?? ""));
    else if (href) css.push(await files.css(resolve(path, href)?.path ?? ""));
  }
  const body = /** @type {Element} */ (doc.querySelector("body"));
  for (const node of [body, ...body.querySelectorAll("*")]) await clean(files, path, node);
  const lang =
    doc.documentElement.getAttribute("lang") ?? doc.documentElement.getAttribute("xml:lang") ?? "";
  return { body, css, lang };
}

/** @param {Files} files @param {string} path */
async function picture(files, path) {
  const doc = document.implementation.createHTMLDocument();
  const image = doc.createElement("img");
  image.src = await files.url(path, "");
  doc.body.append(image);
  return { body: doc.body, css: [], lang: "" };
}

/** @param {Files} files @param {string} path @param {Element} node */
async function clean(files, path, node) {
  if (FORBIDDEN.has(node.localName.toLowerCase())) {
    const empty = node.ownerDocument.createElement("span");
    empty.setAttribute("hidden", "");
    if (node.localName === "form")
      (empty.append(...node.childNodes), empty.removeAttribute("hidden"));
    node.replaceWith(empty);
    return;
  }
  for (const { name, value } of [...node.attributes]) {
    const plain = name.toLowerCase();
    if (
      plain.startsWith("on") ||
      ["srcset", "srcdoc", "ping", "action", "background"].includes(plain)
    ) {
      node.removeAttribute(name);
    } else if (plain === "src" || plain === "poster") {
      node.setAttribute(name, await files.url(path, value));
    } else if ((plain === "href" || plain === "xlink:href") && node.localName === "image") {
      node.setAttributeNS(plain === "href" ? null : XLINK, name, await files.url(path, value));
    } else if (plain === "href" || plain === "xlink:href") {
      // Links are followed by the reader, which resolves them.
      if (!value.startsWith("#"))
        (node.removeAttribute(name), node.setAttribute("data-href", value));
      if (node.localName === "a")
        (node.setAttribute("data-href", value), node.setAttribute("href", "#"));
    } else if (plain === "style") {
      // Set as properties later: a content security policy forbids the attribute.
      node.removeAttribute(name);
      node.setAttribute("data-style", await files.cssText(path, value));
    }
  }
}
