// @ts-check
// The structure of an EPUB: title, chapters in reading order, table of contents, cover and files.

import { Zip, ZipError } from "./zip.js";

/** @typedef {{ path: string, type: string, properties: string[] }} Item */
/** @typedef {{ title: string, chapter: number, fragment: string, depth: number }} TocEntry */
/** @typedef {(text: string) => Document} Parse */

/** @type {Parse} */
const parseXml = (text) => new DOMParser().parseFromString(text, "application/xml");

/**
 * Path of a reference in a file of the book, or null if it leads out of the book.
 * @param {string} from path of the file with the reference
 * @param {string} href
 * @returns {{ path: string, fragment: string } | null}
 */
export function resolve(from, href) {
  if (/^[a-z][a-z0-9+.-]*:/i.test(href) || href.startsWith("//")) return null;
  const [target, fragment = ""] = href.split("#", 2);
  const [name] = target.split("?", 1);
  if (name === "") return { path: from, fragment: decode(fragment) };
  const steps = name.startsWith("/") ? [] : from.split("/").slice(0, -1);
  for (const step of name.split("/")) {
    if (step === "..") steps.pop();
    else if (step !== "." && step !== "") steps.push(decode(step));
  }
  return { path: steps.join("/"), fragment: decode(fragment) };
}

/** @param {string} text */
function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/**
 * Bytes of a base64 text.
 * @param {string} text
 */
export function fromBase64(text) {
  const binary = atob(text.replace(/^data:[^,]*,/, ""));
  return Uint8Array.from(binary, (letter) => letter.charCodeAt(0));
}

/** @param {Document | Element} node @param {string} name */
const all = (node, name) => [...node.getElementsByTagNameNS("*", name)];
/** @param {Document | Element} node @param {string} name */
const text = (node, name) => (all(node, name)[0]?.textContent ?? "").replace(/\s+/g, " ").trim();

/** An opened book. */
export class Epub {
  title = "";
  author = "";
  /** Paths of the chapters in reading order. @type {string[]} */
  chapters = [];
  /** @type {TocEntry[]} */
  toc = [];
  /** Path of the cover image. @type {string | null} */
  cover = null;
  /** @type {Map<string, Item>} */
  items = new Map();
  /** @param {Zip} zip */
  constructor(zip) {
    this.zip = zip;
  }

  /**
   * @param {Uint8Array} bytes
   * @param {Parse} [parse]
   * @throws {ZipError} with a text for readers
   */
  static async open(bytes, parse = parseXml) {
    const book = new Epub(new Zip(bytes));
    if (!book.zip.has("META-INF/container.xml")) throw new ZipError("This is not an EPUB file.");
    const container = parse(await book.zip.text("META-INF/container.xml"));
    const opf = all(container, "rootfile")[0]?.getAttribute("full-path");
    if (!opf) throw new ZipError("The book does not name its contents.");
    await book.#read(opf, parse);
    if (book.chapters.length === 0) throw new ZipError("The book has no chapters.");
    return book;
  }

  /** Media type of a file. @param {string} path */
  type(path) {
    return this.items.get(path)?.type ?? "application/octet-stream";
  }

  /** Title of the part of the table of contents that a chapter belongs to. @param {number} chapter */
  chapterTitle(chapter) {
    const entry = this.toc.findLast((one) => one.chapter <= chapter && one.chapter >= 0);
    return entry?.title ?? `Part ${chapter + 1}`;
  }

  /** @param {string} opf @param {Parse} parse */
  async #read(opf, parse) {
    const doc = parse(await this.zip.text(opf));
    this.title = text(doc, "title");
    this.author = text(doc, "creator");
    /** @type {Map<string, Item>} */
    const byId = new Map();
    for (const item of all(doc, "item")) {
      const path = resolve(opf, item.getAttribute("href") ?? "")?.path;
      if (!path) continue;
      const properties = (item.getAttribute("properties") ?? "").split(/\s+/);
      const entry = { path, type: item.getAttribute("media-type") ?? "", properties };
      byId.set(item.getAttribute("id") ?? "", entry);
      this.items.set(path, entry);
    }
    const spine = all(doc, "itemref").map((ref) => byId.get(ref.getAttribute("idref") ?? "")?.path);
    // A missing file stays in the list: positions of annotations count the entries of the spine.
    this.chapters = spine.map((path) => path ?? "");
    this.cover = this.#findCover(doc, byId);
    await this.#readToc(doc, byId, parse);
  }

  /** @param {Document} doc @param {Map<string, Item>} byId */
  #findCover(doc, byId) {
    const items = [...byId.values()];
    const named = all(doc, "meta").find((meta) => meta.getAttribute("name") === "cover");
    const found =
      items.find((item) => item.properties.includes("cover-image")) ??
      byId.get(named?.getAttribute("content") ?? "");
    return found?.type.startsWith("image/") && this.zip.has(found.path) ? found.path : null;
  }

  /** @param {Document} doc @param {Map<string, Item>} byId @param {Parse} parse */
  async #readToc(doc, byId, parse) {
    const nav = [...byId.values()].find((item) => item.properties.includes("nav"));
    const named = byId.get(all(doc, "spine")[0]?.getAttribute("toc") ?? "");
    const ncx =
      named ?? [...byId.values()].find((item) => item.type === "application/x-dtbncx+xml");
    if (nav && this.zip.has(nav.path)) {
      const lists = all(parse(await this.zip.text(nav.path)), "nav");
      const isToc = (/** @type {Element} */ one) =>
        [...one.attributes].some(({ name, value }) => /(^|:)type$/.test(name) && value === "toc");
      const list = lists.find(isToc) ?? lists[0];
      const first = list && [...list.children].find((child) => child.localName === "ol");
      if (first) this.#addNav(first, nav.path, 0);
    }
    if (this.toc.length === 0 && ncx && this.zip.has(ncx.path)) {
      const map = all(parse(await this.zip.text(ncx.path)), "navMap")[0];
      if (map) this.#addPoints(map, ncx.path, 0);
    }
    if (this.toc.length === 0) {
      this.chapters.forEach((path, chapter) => {
        if (path) this.toc.push({ title: `Part ${chapter + 1}`, chapter, fragment: "", depth: 0 });
      });
    }
  }

  /** @param {Element} list @param {string} from @param {number} depth */
  #addNav(list, from, depth) {
    for (const item of list.children) {
      for (const child of item.children) {
        if (child.localName === "ol") this.#addNav(child, from, depth + 1);
        else this.#addEntry(child.textContent ?? "", from, child.getAttribute("href"), depth);
      }
    }
  }

  /** @param {Element} parent @param {string} from @param {number} depth */
  #addPoints(parent, from, depth) {
    for (const point of parent.children) {
      if (point.localName !== "navPoint") continue;
      const children = [...point.children];
      const label = children.find((child) => child.localName === "navLabel");
      const content = children.find((child) => child.localName === "content");
      const href = content?.getAttribute("src") ?? null;
      this.#addEntry(label?.textContent ?? "", from, href, depth);
      this.#addPoints(point, from, depth + 1);
    }
  }

  /** @param {string} title @param {string} from @param {string | null} href @param {number} depth */
  #addEntry(title, from, href, depth) {
    const target = href === null ? null : resolve(from, href);
    const chapter = target ? this.chapters.indexOf(target.path) : -1;
    const plain = title.replace(/\s+/g, " ").trim();
    if (plain) this.toc.push({ title: plain, chapter, fragment: target?.fragment ?? "", depth });
  }
}
