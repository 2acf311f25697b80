// @ts-check
// Reads one book: chapters, contents, notes and text settings.

import { api } from "../api.js";
import { book as fetchBook } from "../books.js";
import { parse } from "../cfi.js";
import { element, fill, icon, toast } from "../element.js";
import { Epub, fromBase64, resolve } from "../epub.js";
import { flowLink } from "../flow-link.js";
import { Frame } from "../frame.js";
import { MarkBar } from "../mark-bar.js";
import { Notes, NotesPanel } from "../notes.js";
import { keepPlace, place } from "../preferences.js";
import { ofDocument, textControls } from "../text-settings.js";

/** @param {string} id @returns {Promise<import("../router.js").View>} */
export async function readerView(id) {
  const [book, settings] = await Promise.all([fetchBook(id), ofDocument(id)]);
  const epub = await Epub.open(fromBase64(book.content));
  const view = new ReaderView(id, book.name, epub, settings);
  view.start();
  return { root: view.root, title: book.name, leave: () => view.leave() };
}

class ReaderView {
  /** @type {string | null} */
  #panel = null;
  #isLeft = false;

  /** @param {string} id @param {string} name @param {Epub} epub @param {import("../text-settings.js").Settings | null} settings */
  constructor(id, name, epub, settings) {
    this.id = id;
    this.epub = epub;
    this.settings = settings ?? { _id: "", font: "serif", fontSize: 17, lineHeight: 26 };
    this.frame = new Frame(epub);
    this.notes = new Notes(id);
    const tool = (
      /** @type {string} */ panel,
      /** @type {"list" | "note" | "text"} */ shape,
      /** @type {string} */ text,
    ) =>
      element(
        "button.quiet.tool",
        {
          type: "button",
          "aria-expanded": "false",
          "aria-controls": "panel",
          "data-panel": panel,
          on: { click: () => this.toggle(panel) },
        },
        icon(shape),
        element("span", {}, text),
      );
    this.tools = [
      tool("contents", "list", "Contents"),
      tool("notes", "note", "Notes"),
      tool("text", "text", "Text"),
    ];
    this.where = element("p.where");
    this.bar = element("progress", { max: "1", value: 0, "aria-label": "Read part of the book" });
    this.panel = element("aside.panel", { id: "panel", hidden: true, tabindex: "-1" });
    this.marks = new MarkBar(this.frame, this.notes, (one) => this.editNote(one));
    this.before = element(
      "button.quiet",
      { type: "button", on: { click: () => this.go(-1) } },
      icon("left"),
      element("span", {}, "Previous"),
    );
    this.after = element(
      "button.quiet",
      { type: "button", on: { click: () => this.go(1) } },
      element("span", {}, "Next"),
      icon("right"),
    );
    this.root = element(
      "section.reader",
      {},
      element(
        "header.reader-top",
        {},
        element(
          "a.button.quiet",
          { href: "#/library", "aria-label": "Back to the library" },
          icon("left"),
          element("span", {}, "Library"),
        ),
        element("h1", { title: name }, name),
        element("span.reader-tools", {}, ...this.tools),
      ),
      element(
        "div.reader-middle",
        {},
        element("div.page-box", {}, this.frame.root, this.marks.root),
        this.panel,
      ),
      element(
        "footer.reader-foot",
        {},
        this.before,
        element("div.progress", {}, this.where, this.bar),
        flowLink(),
        this.after,
      ),
    );
    this.panels = new NotesPanel(this.notes, {
      open: (one) => this.openNote(one),
      quote: (one) => this.frame.quote(one),
      chapter: (index) => epub.chapterTitle(index),
    });
  }

  async start() {
    const { frame } = this;
    frame.addEventListener("move", () => this.moved());
    frame.addEventListener("key", (event) => this.key(/** @type {any} */ (event).detail));
    frame.addEventListener("select", () => this.marks.update());
    frame.addEventListener("link", (event) => this.follow(/** @type {any} */ (event).detail));
    frame.addEventListener("mark", (event) => this.editNote(/** @type {any} */ (event).detail));
    this.notes.addEventListener("change", () => frame.annotate(this.notes.all));
    this.onKey = (/** @type {KeyboardEvent} */ event) => this.key(event);
    this.onHide = () => this.close();
    addEventListener("keydown", this.onKey);
    addEventListener("pagehide", this.onHide);
    const at = place(api.user, this.id);
    const chapter = at && this.epub.chapters[at.chapter] ? at.chapter : this.next(-1, 1);
    await Promise.all([
      this.report(frame.apply(this.settings)),
      this.show(chapter, at?.chapter === chapter ? at.part : 0),
    ]);
    if (this.#isLeft) return;
    await this.report(api.call("Library/openDocument", { user: api.user, document: this.id }));
    await this.report(this.notes.load());
  }

  leave() {
    this.#isLeft = true;
    removeEventListener("keydown", /** @type {any} */ (this.onKey));
    removeEventListener("pagehide", /** @type {any} */ (this.onHide));
    this.frame.leave();
    this.close();
  }

  /** Ends the reading time, also while the page is closed. */
  close() {
    if (!api.login) return;
    const body = { user: api.user, document: this.id };
    api.call("Library/closeDocument", body, { keepalive: true }).catch(() => {});
  }

  /** @param {Promise<unknown>} work */
  async report(work) {
    try {
      await work;
    } catch (/** @type {any} */ error) {
      toast(error.message);
    }
  }

  /** Nearest existing chapter in a direction, or the same. @param {number} from @param {number} step */
  next(from, step) {
    for (let at = from + step; at >= 0 && at < this.epub.chapters.length; at += step) {
      if (this.epub.zip.has(this.epub.chapters[at])) return at;
    }
    return from;
  }

  /** @param {number} chapter @param {number} [part] @param {string} [fragment] */
  async show(chapter, part = 0, fragment = "") {
    this.marks.hide();
    await this.report(this.frame.show(chapter, part));
    if (fragment) this.frame.scrollToId(fragment);
    if (this.#panel === "contents") this.drawContents();
    if (this.#panel === "notes") this.panels.draw();
    this.moved();
  }

  /** Turns to another chapter. @param {1 | -1} step @param {number} [part] */
  async go(step, part = 0) {
    const to = this.next(this.frame.chapter, step);
    if (to !== this.frame.chapter) await this.show(to, part);
  }

  moved() {
    const { chapter, part } = this.frame;
    if (chapter < 0) return;
    keepPlace(api.user, this.id, { chapter, part });
    const read = (chapter + part) / this.epub.chapters.length;
    this.bar.value = read;
    this.where.textContent = `${this.epub.chapterTitle(chapter)} · ${Math.round(read * 100)} %`;
    this.before.disabled = this.next(chapter, -1) === chapter;
    this.after.disabled = this.next(chapter, 1) === chapter;
    if (!this.marks.root.hidden) this.marks.update();
  }

  /** @param {KeyboardEvent} event */
  async key(event) {
    const target = /** @type {Element} */ (event.target);
    if (
      event.altKey ||
      event.ctrlKey ||
      event.metaKey ||
      target.closest?.("input, textarea, select, dialog")
    )
      return;
    if (event.key === "Escape" && this.#panel) return this.toggle(this.#panel);
    const direction = { ArrowRight: 1, ArrowLeft: -1, PageDown: 1, PageUp: -1 }[event.key];
    if (direction !== 1 && direction !== -1) return;
    event.preventDefault();
    if (!this.frame.turn(direction)) await this.go(direction, direction < 0 ? 1 : 0);
  }

  /** @param {string} href */
  follow(href) {
    const target = resolve(this.epub.chapters[this.frame.chapter], href);
    if (!target) {
      if (/^https?:/i.test(href)) open(href, "_blank", "noopener,noreferrer");
      return;
    }
    const chapter = this.epub.chapters.indexOf(target.path);
    if (chapter === this.frame.chapter) this.frame.scrollToId(target.fragment);
    else if (chapter >= 0) this.show(chapter, 0, target.fragment);
  }

  /** @param {string} id */
  editNote(id) {
    if (this.#panel !== "notes") this.toggle("notes");
    this.panels.edit(id);
  }

  /** @param {import("../frame.js").Annotation} one */
  async openNote({ _id, location }) {
    const chapter = parse(location)?.chapter;
    if (chapter === undefined || !this.epub.chapters[chapter])
      return toast("The book has no such place.");
    if (chapter !== this.frame.chapter) await this.show(chapter);
    this.frame.scrollToMark(_id);
  }

  /** Opens or closes a panel. @param {string} name */
  toggle(name) {
    const opener = this.tools.find((tool) => tool.dataset.panel === name);
    this.#panel = this.#panel === name ? null : name;
    for (const tool of this.tools)
      tool.setAttribute("aria-expanded", String(tool.dataset.panel === this.#panel));
    this.panel.hidden = this.#panel === null;
    if (this.#panel === null) return opener?.focus();
    const title = opener?.textContent ?? "";
    const close = element(
      "button.quiet",
      { type: "button", "aria-label": "Close", on: { click: () => this.toggle(name) } },
      icon("close"),
    );
    this.content = element("div.panel-content");
    this.panel.setAttribute("aria-label", title);
    fill(this.panel, element("div.panel-head", {}, element("h2", {}, title), close), this.content);
    if (name === "contents") this.drawContents();
    else if (name === "notes") (fill(this.content, this.panels.root), this.panels.draw());
    else if (this.settings._id)
      fill(
        this.content,
        textControls(this.settings, (now) => this.frame.apply(now)),
      );
    else fill(this.content, element("p.hint", {}, "This book has no text settings."));
    this.panel.focus();
  }

  drawContents() {
    const { chapter } = this.frame;
    const current = this.epub.toc.findLast((one) => one.chapter >= 0 && one.chapter <= chapter);
    const rows = this.epub.toc.map((one) => {
      const open = () => {
        this.show(one.chapter, 0, one.fragment);
        if (innerWidth < 800) this.toggle("contents");
      };
      const button = element(
        "button.toc-entry",
        {
          type: "button",
          disabled: one.chapter < 0,
          "aria-current": one === current && "true",
          vars: { "--depth": one.depth },
          on: { click: open },
        },
        one.title,
      );
      return element("li", {}, button);
    });
    fill(/** @type {Element} */ (this.content), element("ol.toc", {}, ...rows));
  }
}
