// @ts-check
// The buttons beside selected words: a colour, or a note.

import { element, fill, icon, toast } from "./element.js";
import { colours, COLOURS } from "./notes.js";

const LAST_COLOUR = "reader.colour";
const MARGIN_PX = 8;
const HEIGHT_PX = 56;

export class MarkBar {
  #location = "";

  /**
   * @param {import("./frame.js").Frame} frame
   * @param {import("./notes.js").Notes} notes
   * @param {(id: string) => void} edit opens the form of an annotation
   */
  constructor(frame, notes, edit) {
    this.frame = frame;
    this.notes = notes;
    this.edit = edit;
    this.root = element("div.pop", {
      role: "toolbar",
      "aria-label": "Mark the selected words",
      hidden: true,
    });
  }

  hide() {
    this.root.hidden = true;
  }

  /** Follows the selection. */
  update() {
    const found = this.frame.selection();
    this.root.hidden = found === null;
    if (!found) return;
    if (this.#location !== found.location) {
      this.#location = found.location;
      const last = localStorage.getItem(LAST_COLOUR) ?? COLOURS[0][1];
      const click = () => this.#mark(found.location, last, true);
      fill(
        this.root,
        colours("", (color) => this.#mark(found.location, color, false)),
        element("button.quiet", { type: "button", on: { click } }, icon("note"), "Note"),
      );
    }
    this.#move(found.box);
  }

  /** Below the selection, or above it where no room is left. @param {DOMRect} box */
  #move({ left, width, top, bottom }) {
    const { clientWidth, clientHeight } = this.frame.root;
    const half = this.root.offsetWidth / 2 + MARGIN_PX;
    const middle = Math.min(Math.max(left + width / 2, half), clientWidth - half);
    const below = bottom + MARGIN_PX;
    const fits = below + HEIGHT_PX < clientHeight;
    this.root.style.left = `${middle}px`;
    this.root.style.top = `${fits ? below : Math.max(MARGIN_PX, top - HEIGHT_PX)}px`;
  }

  /** @param {string} location @param {string} color @param {boolean} withNote */
  async #mark(location, color, withNote) {
    localStorage.setItem(LAST_COLOUR, color);
    this.hide();
    this.#location = "";
    this.frame.clearSelection();
    try {
      const id = await this.notes.create(location, color, "");
      if (withNote) this.edit(id);
      else toast("Marked.");
    } catch (/** @type {any} */ error) {
      toast(error.message);
    }
  }
}
