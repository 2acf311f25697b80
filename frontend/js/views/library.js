// @ts-check
// The library: upload, open, rename and remove books.

import { api } from "../api.js";
import { books, hue, libraryId, looks, toBase64 } from "../books.js";
import { element, fill, icon, toast } from "../element.js";
import { Epub } from "../epub.js";
import { confirm, field } from "../form.js";
import { forgetPlace, place } from "../preferences.js";

/** The server's default limit of a value is 64 MiB, and base64 needs a third more than the file. */
const FILE_MAX_BYTES = 48 * 1024 * 1024;

/** @returns {Promise<import("../router.js").View>} */
export async function libraryView() {
  const view = new LibraryView(await libraryId());
  await view.load();
  return { root: view.root, title: "Library", leave: () => view.leave() };
}

class LibraryView {
  #list = element("ul.shelf", { "aria-label": "Books" });
  #empty = element(
    "div.empty",
    {},
    icon("book"),
    element("h2", {}, "Your library is empty"),
    element("p", {}, "Add an EPUB file: drop it anywhere on this page, or choose it above."),
    element("p.hint", {}, "Free books: gutenberg.org, standardebooks.org."),
  );
  #uploads = element("ul.uploads", { "aria-label": "Uploads", hidden: true });
  /** @type {string[]} */
  #urls = [];
  /** Stops the loading of covers of an older list. */
  #turn = 0;

  /** @param {string} library */
  constructor(library) {
    this.library = library;
    const input = element("input", {
      id: "upload",
      type: "file",
      accept: ".epub,application/epub+zip",
      multiple: true,
      class: "hidden-file",
      on: {
        change: () => {
          this.#add([...input.files]);
          input.value = "";
        },
      },
    });
    const head = element(
      "div.head",
      {},
      element("h1", {}, "Library"),
      input,
      element("label.button.primary", { for: "upload" }, icon("plus"), "Add books"),
    );
    this.root = element("section.library", {}, head, this.#uploads, this.#list, this.#empty);
    this.#acceptDrops();
  }

  leave() {
    this.#turn += 1;
    this.urlsDone();
    this.stopDrops?.();
  }

  urlsDone() {
    for (const url of this.#urls.splice(0)) URL.revokeObjectURL(url);
  }

  async load() {
    const found = (await books(this.library)).reverse();
    this.#turn += 1;
    this.urlsDone();
    const cards = found.map((book) => this.#card(book));
    fill(this.#list, ...cards);
    this.#list.hidden = found.length === 0;
    this.#empty.hidden = found.length > 0;
    this.#addCovers(found, cards, this.#turn);
  }

  /** @param {import("../books.js").Title[]} found @param {Element[]} cards @param {number} turn */
  async #addCovers(found, cards, turn) {
    for (const [index, { id }] of found.entries()) {
      try {
        const { author, cover } = await looks(id);
        if (turn !== this.#turn) return;
        for (const line of cards[index].querySelectorAll(".author")) line.textContent = author;
        if (!cover) continue;
        const url = URL.createObjectURL(cover);
        this.#urls.push(url);
        const image = element("img", { src: url, alt: "" });
        cards[index].querySelector(".cover")?.append(image);
      } catch {
        // A book without readable metadata keeps its plain cover.
      }
    }
  }

  /** @param {import("../books.js").Title} book */
  #card(book) {
    const { id, name } = book;
    const read = place(api.user, id) ? "Continue reading" : "Not started";
    return element(
      "li.book",
      { "data-id": id },
      element(
        "a.open",
        { href: `#/read/${encodeURIComponent(id)}` },
        element(
          "span.cover",
          { vars: { "--hue": hue(name) }, "aria-hidden": "true" },
          element("span.cover-title", {}, name),
          element("span.cover-author.author", {}),
        ),
        element("span.name", {}, name),
      ),
      element("p.by.author", {}),
      element("p.state", {}, read),
      element(
        "p.tools",
        {},
        tool(name, "Rename", "note", () => this.#rename(book)),
        tool(name, "Remove", "trash", () => this.#remove(book)),
      ),
    );
  }

  /** @param {import("../books.js").Title} book */
  async #rename({ id, name }) {
    const input = field("Name", { name: "name", value: name, maxlength: "255", autofocus: true });
    const words = {
      title: "Rename the book",
      text: "Names are unique in your library.",
      button: "Rename",
    };
    const isDone = await confirm(words, [input.root], () =>
      api.call("Library/renameDocument", {
        user: api.user,
        document: id,
        newName: input.input.value.trim(),
      }),
    );
    if (isDone) await this.#reload("Renamed.");
  }

  /** @param {import("../books.js").Title} book */
  async #remove({ id, name }) {
    const words = {
      title: "Remove the book?",
      text: `“${name}” is removed with all its notes. Your reading times stay in the statistics.`,
      button: "Remove",
    };
    const isDone = await confirm(words, [], () =>
      api.call("Library/removeDocument", { document: id }),
    );
    if (!isDone) return;
    forgetPlace(api.user, id);
    await this.#reload(`“${name}” is removed.`);
  }

  /** @param {string} text */
  async #reload(text) {
    toast(text);
    try {
      await this.load();
    } catch (/** @type {any} */ error) {
      toast(error.message);
    }
  }

  /** @param {File[]} files */
  async #add(files) {
    for (const file of files) await this.#upload(file);
  }

  /** @param {File} file */
  async #upload(file) {
    const bar = element("progress", { max: "1", value: 0, "aria-label": `Upload of ${file.name}` });
    const state = element("span.upload-state", {}, "Checking…");
    const line = element("li", {}, element("span.upload-name", {}, file.name), state, bar);
    this.#uploads.append(line);
    this.#uploads.hidden = false;
    try {
      // The server would close the connection of a larger one, which looks like an outage.
      if (file.size > FILE_MAX_BYTES) throw new Error("The file is larger than 48 MiB.");
      const epub = await Epub.open(new Uint8Array(await file.arrayBuffer()));
      const name = (epub.title || file.name.replace(/\.epub$/i, "")).slice(0, 255);
      const body = { name, epubContent: await toBase64(file), library: this.library };
      await api.upload("Library/createDocument", body, (part) => {
        bar.value = part;
        state.textContent = part < 1 ? `${Math.round(part * 100)} %` : "Storing…";
      });
      line.remove();
      this.#uploads.hidden = this.#uploads.children.length === 0;
      await this.#reload(`“${name}” is in your library.`);
    } catch (/** @type {any} */ error) {
      const close = element(
        "button.quiet",
        { type: "button", "aria-label": "Hide this message", on: { click: () => line.remove() } },
        icon("close"),
      );
      fill(
        line,
        element("span.upload-name", {}, file.name),
        close,
        element("p.error", { role: "alert" }, error.message),
      );
    }
  }

  #acceptDrops() {
    const hasFiles = (/** @type {DragEvent} */ event) =>
      event.dataTransfer?.types.includes("Files");
    const show = (/** @type {boolean} */ is) => this.root.classList.toggle("dropping", is);
    const over = (/** @type {DragEvent} */ event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      show(true);
    };
    const out = (/** @type {DragEvent} */ event) => event.relatedTarget === null && show(false);
    const drop = (/** @type {DragEvent} */ event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      show(false);
      this.#add([...(event.dataTransfer?.files ?? [])]);
    };
    addEventListener("dragover", over);
    addEventListener("dragleave", out);
    addEventListener("drop", drop);
    this.stopDrops = () => {
      removeEventListener("dragover", over);
      removeEventListener("dragleave", out);
      removeEventListener("drop", drop);
    };
  }
}

/**
 * A button of a book.
 * @param {string} name
 * @param {string} title
 * @param {string} picture
 * @param {() => void} click
 */
function tool(name, title, picture, click) {
  return element(
    "button.quiet",
    { type: "button", "aria-label": `${title} ${name}`, title, on: { click } },
    icon(picture),
  );
}
