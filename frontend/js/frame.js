// @ts-check
// The sandboxed frame with one chapter. It runs no scripts; this page listens to its events.

import { fromRange, locate, parse } from "./cfi.js";
import { Files, readChapter } from "./chapter.js";
import { element } from "./element.js";

const POLICY =
  "default-src 'none'; img-src blob: data:; font-src blob: data:; media-src blob:; style-src 'unsafe-inline'";
const EMPTY = `<!doctype html><html><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="${POLICY}"></head><body></body></html>`;

const BASE = `
:root { color-scheme: var(--scheme); background: var(--paper); color: var(--ink); scroll-padding: 2rem; overflow-wrap: break-word; }
body { max-width: 38em; margin: 0 auto !important; padding: 2.5rem clamp(1.1rem, 5vw, 3rem) 5rem !important; min-height: 60vh;
  font-family: var(--font); font-size: var(--size); line-height: var(--line); hyphens: auto; }
p, li, blockquote, dd { line-height: inherit; }
img, svg, video { max-width: 100%; max-height: 90vh; height: auto; }
pre { white-space: pre-wrap; }
table { display: block; max-width: 100%; overflow-x: auto; }
a { color: var(--accent); }
::selection { background: color-mix(in srgb, var(--accent) 35%, transparent); }
:focus-visible { outline: 2px solid var(--accent); }
.dark body, .dark body *:not(img, svg, svg *, a) { color: inherit !important; background-color: transparent !important; }
`;

/** @typedef {{ _id: string, location: string, color?: string, content?: string }} Annotation */

/** Events: `move` (scrolled), `select`, `key` (detail: KeyboardEvent), `link` (detail: href), `mark` (detail: id). */
export class Frame extends EventTarget {
  chapter = -1;
  /** @type {Map<string, Range>} */
  #ranges = new Map();
  /** @type {Annotation[]} */
  #annotations = [];
  /** @type {Promise<void>} */
  #ready;
  #turn = 0;

  /** @param {import("./epub.js").Epub} book */
  constructor(book) {
    super();
    this.book = book;
    this.files = new Files(book);
    this.root = element("iframe.page", {
      sandbox: "allow-same-origin",
      title: "Text of the book",
      srcdoc: EMPTY,
      tabindex: "0",
    });
    this.#ready = new Promise((done) => {
      this.root.addEventListener(
        "load",
        () => {
          this.#listen();
          done();
        },
        { once: true },
      );
    });
    this.onTheme = () => this.#colours();
    addEventListener("themechange", this.onTheme);
    this.media = matchMedia("(prefers-color-scheme: dark)");
    this.media.addEventListener("change", this.onTheme);
  }

  /** @returns {Document} */
  get doc() {
    return this.root.contentDocument;
  }
  get window() {
    return this.root.contentWindow;
  }

  leave() {
    removeEventListener("themechange", this.onTheme);
    this.media.removeEventListener("change", this.onTheme);
    this.files.release();
  }

  /** Shows a chapter. @param {number} chapter @param {number} [part] scrolled part, 0 to 1 */
  async show(chapter, part = 0) {
    this.#turn += 1;
    const turn = this.#turn;
    await this.#ready;
    const path = this.book.chapters[chapter];
    const { body, css, lang } = await readChapter(this.files, path);
    if (turn !== this.#turn) return;
    this.chapter = chapter;
    const { doc } = this;
    doc.documentElement.lang = lang;
    doc.body.replaceChildren(...[...body.childNodes].map((node) => doc.importNode(node, true)));
    doc.body.className = body.getAttribute("class") ?? "";
    doc.body.id = body.id;
    for (const node of doc.querySelectorAll("[data-style]")) {
      /** @type {HTMLElement} */ (node).style.cssText = node.getAttribute("data-style") ?? "";
      node.removeAttribute("data-style");
    }
    doc.adoptedStyleSheets = [...css, BASE].map((text) => {
      const sheet = new this.window.CSSStyleSheet();
      sheet.replaceSync(text);
      return sheet;
    });
    this.#colours();
    this.#paint();
    await Promise.all([...doc.images].map((image) => image.decode().catch(() => {})));
    if (turn === this.#turn) this.scrollTo(part);
  }

  get #range() {
    const { scrollHeight, clientHeight } = this.doc.documentElement;
    return Math.max(0, scrollHeight - clientHeight);
  }

  /** Scrolled part of the chapter, 0 to 1. */
  get part() {
    return this.#range === 0 ? 0 : Math.min(1, this.window.scrollY / this.#range);
  }

  /** @param {number} part */
  scrollTo(part) {
    this.window.scrollTo(0, part * this.#range);
    this.dispatchEvent(new Event("move"));
  }

  /** Scrolls by almost a screen; false at the end of the chapter. @param {1 | -1} direction */
  turn(direction) {
    const before = this.window.scrollY;
    const isAtEnd = direction > 0 ? before >= this.#range - 2 : before <= 1;
    if (isAtEnd) return false;
    const behavior = matchMedia("(prefers-reduced-motion: reduce)").matches ? "instant" : "smooth";
    this.window.scrollBy({ top: direction * (this.window.innerHeight - 64), behavior });
    return true;
  }

  /** @param {string} fragment */
  scrollToId(fragment) {
    const target = fragment && this.doc.getElementById(fragment);
    if (target) target.scrollIntoView();
    else this.scrollTo(0);
  }

  /** @param {string} id of an annotation */
  scrollToMark(id) {
    const box = this.#ranges.get(id)?.getBoundingClientRect();
    if (box)
      this.window.scrollBy({ top: box.top - this.window.innerHeight / 3, behavior: "instant" });
  }

  /** @param {{ font: string, fontSize: number, lineHeight: number }} settings */
  async apply({ font, fontSize, lineHeight }) {
    await this.#ready;
    const { style } = this.doc.documentElement;
    style.setProperty("--font", font);
    style.setProperty("--size", `${fontSize}px`);
    style.setProperty("--line", String(lineHeight / fontSize));
  }

  /** @param {Annotation[]} annotations */
  annotate(annotations) {
    this.#annotations = annotations;
    if (this.chapter >= 0) this.#paint();
  }

  /** The selected text and its location, or null. */
  selection() {
    const selection = this.doc.getSelection();
    if (!selection || selection.isCollapsed || selection.rangeCount === 0) return null;
    const text = selection.toString().trim();
    if (text === "") return null;
    const range = selection.getRangeAt(0);
    const location = fromRange(this.chapter, this.doc.body, range);
    return { text, location, box: range.getBoundingClientRect() };
  }

  clearSelection() {
    this.doc.getSelection()?.removeAllRanges();
  }

  /** Text of an annotation in the shown chapter. @param {string} id */
  quote(id) {
    return this.#ranges.get(id)?.toString().replace(/\s+/g, " ").trim() ?? "";
  }

  /** Highlights ranges without changing the text, so that locations stay right. */
  #paint() {
    const { Highlight, CSS } = this.window;
    this.#ranges.clear();
    CSS.highlights?.clear();
    const rules = [];
    for (const [index, { _id, location, color, content }] of this.#annotations.entries()) {
      const range = this.#find(location);
      if (!range) continue;
      this.#ranges.set(_id, range);
      if (!Highlight) continue;
      CSS.highlights.set(`mark-${index}`, new Highlight(range));
      const shade = color && CSS.supports("color", color) ? color : "#ffd54f";
      const line = content ? `text-decoration: underline 2px ${shade};` : "";
      rules.push(
        `::highlight(mark-${index}) { background-color: color-mix(in srgb, ${shade} 45%, transparent); ${line} }`,
      );
    }
    const sheet = new this.window.CSSStyleSheet();
    sheet.replaceSync(rules.join("\n"));
    const others = this.doc.adoptedStyleSheets.filter((one) => one !== this.marks);
    this.doc.adoptedStyleSheets = [...others, sheet];
    this.marks = sheet;
  }

  /** @param {string} location @returns {Range | null} */
  #find(location) {
    const place = parse(location);
    if (place?.chapter !== this.chapter) return null;
    const start = locate(this.doc.body, place.start);
    const end = locate(this.doc.body, place.end);
    if (!start || !end) return null;
    const range = this.doc.createRange();
    try {
      range.setStart(start.node, start.offset);
      range.setEnd(end.node, end.offset);
    } catch {
      return null;
    }
    return range;
  }

  #colours() {
    const page = getComputedStyle(document.documentElement);
    const root = this.doc?.documentElement;
    if (!root) return;
    const chosen = document.documentElement.style.colorScheme;
    const isDark = chosen === "dark" || (chosen !== "light" && this.media.matches);
    root.classList.toggle("dark", isDark);
    root.style.setProperty("--scheme", isDark ? "dark" : "light");
    for (const name of ["paper", "ink", "accent"]) {
      root.style.setProperty(
        `--${name}`,
        page.getPropertyValue(`--${name}-${isDark ? "dark" : "light"}`),
      );
    }
  }

  #listen() {
    const { doc } = this;
    const emit = (/** @type {string} */ name, /** @type {unknown} */ detail) =>
      this.dispatchEvent(new CustomEvent(name, { detail }));
    doc.addEventListener("scroll", () => emit("move", null), { passive: true });
    doc.addEventListener("keydown", (event) => emit("key", event));
    doc.addEventListener("selectionchange", () => emit("select", null));
    doc.addEventListener("click", (event) => {
      const target = /** @type {Element} */ (event.target);
      const link = target.closest("a[data-href]");
      if (link) {
        event.preventDefault();
        emit("link", link.getAttribute("data-href"));
        return;
      }
      const id = this.#markAt(event);
      if (id && doc.getSelection()?.isCollapsed) emit("mark", id);
    });
  }

  /** @param {MouseEvent} event */
  #markAt({ clientX, clientY }) {
    for (const [id, range] of this.#ranges) {
      const isIn = (/** @type {DOMRect} */ box) =>
        box.left <= clientX && clientX <= box.right && box.top <= clientY && clientY <= box.bottom;
      if ([...range.getClientRects()].some(isIn)) return id;
    }
    return null;
  }
}
