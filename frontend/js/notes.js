// @ts-check
// Annotations of one book: requests, and the panel that lists, searches, edits and deletes them.

import { api } from "./api.js";
import { parse } from "./cfi.js";
import { element, fill, icon, toast } from "./element.js";
import { confirm } from "./form.js";

export const COLOURS = [
  ["Yellow", "#ffd54f"],
  ["Green", "#81c784"],
  ["Blue", "#64b5f6"],
  ["Pink", "#f48fb1"],
];
const SEARCH_DELAY_MS = 250;

/** @typedef {import("./frame.js").Annotation} Annotation */

/** Buttons to choose a colour. @param {string} chosen @param {(color: string) => void} choose */
export function colours(chosen, choose) {
  return element(
    "span.colours",
    { role: "group", "aria-label": "Colour" },
    ...COLOURS.map(([name, color]) =>
      element("button.colour", {
        type: "button",
        title: name,
        "aria-label": name,
        "aria-pressed": String(color === chosen),
        vars: { "--colour": color },
        on: { click: () => choose(color) },
      }),
    ),
  );
}

/** Order of the text. @param {Annotation} a @param {Annotation} b */
function inOrder(a, b) {
  const numbers = (/** @type {Annotation} */ one) => (one.location.match(/\d+/g) ?? []).map(Number);
  const [one, other] = [numbers(a), numbers(b)];
  for (let at = 0; at < Math.min(one.length, other.length); at += 1) {
    if (one[at] !== other[at]) return one[at] - other[at];
  }
  return one.length - other.length;
}

/** Annotations of a book. `change` is dispatched after each change. */
export class Notes extends EventTarget {
  /** @type {Annotation[]} */
  all = [];

  /** @param {string} document */
  constructor(document) {
    super();
    this.document = document;
  }

  async load() {
    this.all = await this.search("");
    this.dispatchEvent(new Event("change"));
  }

  /** @param {string} criteria @returns {Promise<Annotation[]>} in the order of the text */
  async search(criteria) {
    const body = { user: api.user, document: this.document, criteria };
    const { annotations } = await api.call("Annotation/search", body);
    return annotations.sort(inOrder);
  }

  /** @param {string} location @param {string} color @param {string} content @returns {Promise<string>} id */
  async create(location, color, content) {
    const body = { creator: api.user, document: this.document, color, content, location, tags: [] };
    const { annotation } = await api.call("Annotation/createAnnotation", body);
    await this.load();
    return annotation;
  }

  /** @param {string} annotation @param {string} newColor @param {string} newContent */
  async update(annotation, newColor, newContent) {
    await api.call("Annotation/updateAnnotation", {
      user: api.user,
      annotation,
      newColor,
      newContent,
    });
    await this.load();
  }

  /** @param {string} annotation */
  async remove(annotation) {
    await api.call("Annotation/deleteAnnotation", { user: api.user, annotation });
    await this.load();
  }
}

/** The list with its search field. */
export class NotesPanel {
  /** @type {any} */
  #timer;
  /** Id of the annotation that is edited. @type {string | null} */
  #edited = null;
  #list = element("ul.notes", { "aria-label": "Notes" });
  #status = element("p.hint", { role: "status" });

  /**
   * @param {Notes} notes
   * @param {{ open: (one: Annotation) => void, quote: (id: string) => string, chapter: (index: number) => string }} reader
   */
  constructor(notes, reader) {
    this.notes = notes;
    this.reader = reader;
    this.search = element("input", {
      id: "notes-search",
      type: "search",
      placeholder: "Words of a note",
      on: {
        input: () => {
          clearTimeout(this.#timer);
          this.#timer = setTimeout(() => this.draw(), SEARCH_DELAY_MS);
        },
      },
    });
    const label = element("label", { for: "notes-search" }, "Search");
    this.root = element(
      "div.notes-panel",
      {},
      element("div.field", {}, label, this.search),
      this.#status,
      this.#list,
    );
    notes.addEventListener("change", () => this.draw());
  }

  /** Opens the form of an annotation. @param {string} id */
  edit(id) {
    this.#edited = id;
    this.search.value = "";
    return this.draw();
  }

  async draw() {
    const words = this.search.value.trim();
    let found = this.notes.all;
    try {
      if (words !== "") found = await this.notes.search(words);
    } catch (/** @type {any} */ error) {
      this.#status.textContent = error.message;
      return;
    }
    if (this.notes.all.length === 0) {
      this.#status.textContent =
        "No notes yet. Select words in the text to mark them or write a note.";
    } else if (found.length === 0) {
      this.#status.textContent = "No note has these words. Change the search or empty it.";
    } else this.#status.textContent = found.length === 1 ? "1 note" : `${found.length} notes`;
    fill(
      this.#list,
      ...found.map((one) => (one._id === this.#edited ? this.#form(one) : this.#row(one))),
    );
    this.#list.querySelector("textarea")?.focus();
  }

  /** @param {Annotation} one */
  #row(one) {
    const { _id, color, content, location } = one;
    const chapter = parse(location)?.chapter ?? -1;
    const quote = this.reader.quote(_id);
    return element(
      "li.note",
      { vars: { "--colour": color ?? "var(--line)" }, "data-id": _id },
      element(
        "button.note-open",
        { type: "button", on: { click: () => this.reader.open(one) } },
        element(
          "span.note-place",
          {},
          chapter >= 0 ? this.reader.chapter(chapter) : "Unknown place",
        ),
        quote &&
          element("q.note-quote", {}, quote.length > 160 ? `${quote.slice(0, 160)}…` : quote),
        content && element("span.note-text", {}, content),
      ),
      element(
        "span.tools",
        {},
        element(
          "button.quiet",
          {
            type: "button",
            "aria-label": "Edit note",
            title: "Edit",
            on: { click: () => this.edit(_id) },
          },
          icon("note"),
        ),
        element(
          "button.quiet",
          {
            type: "button",
            "aria-label": "Delete note",
            title: "Delete",
            on: { click: () => this.#remove(_id) },
          },
          icon("trash"),
        ),
      ),
    );
  }

  /** @param {Annotation} one */
  #form({ _id, color, content }) {
    let chosen = color ?? COLOURS[0][1];
    const text = element("textarea", { rows: "4", "aria-label": "Note", maxlength: "10000" });
    text.value = content ?? "";
    const error = element("p.error", { role: "alert", hidden: true });
    const palette = colours(chosen, (next) => {
      chosen = next;
      for (const [index, button] of [...palette.children].entries()) {
        button.setAttribute("aria-pressed", String(COLOURS[index][1] === next));
      }
    });
    const close = () => {
      this.#edited = null;
      this.draw();
    };
    const submit = async (/** @type {Event} */ event) => {
      event.preventDefault();
      try {
        this.#edited = null;
        await this.notes.update(_id, chosen, text.value);
      } catch (/** @type {any} */ failure) {
        this.#edited = _id;
        error.textContent = failure.message;
        error.hidden = false;
      }
    };
    const keys = (/** @type {KeyboardEvent} */ event) => {
      if (event.key === "Escape") (event.stopPropagation(), close());
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
    };
    const form = element(
      "form",
      { "aria-label": "Edit note", on: { submit, keydown: keys } },
      palette,
      text,
      error,
      element(
        "p.actions",
        {},
        element("button", { type: "button", on: { click: close } }, "Cancel"),
        element("button.primary", { type: "submit" }, "Save"),
      ),
    );
    return element("li.note.edited", { "data-id": _id, vars: { "--colour": chosen } }, form);
  }

  /** @param {string} id */
  async #remove(id) {
    const words = {
      title: "Delete the note?",
      text: "The mark in the text goes with it.",
      button: "Delete",
    };
    if (await confirm(words, [], () => this.notes.remove(id))) toast("The note is deleted.");
  }
}
