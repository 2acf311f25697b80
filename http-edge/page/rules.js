// The graph of all rules, with how often each has fired, and the text of the one that is chosen.

import { breakable, element, fill } from "./element.js";
import { drawn } from "./graph.js";
import { rulesNow } from "./rulebook.js";
import { listing } from "./source.js";
import { day, many } from "./words.js";

/** How often the counts are asked for while they are in sight, in milliseconds. */
const EVERY_MS = 2000;

/** A further line of a cell: "asks Sessioning._getUser"; nothing where there is nothing. */
const also = (word, names) => ((names ?? []).length > 0 ? element("div.quiet", {}, `${word} `, breakable(names.join(", "))) : null);

/** The view of `#/rules` and `#/rules/<name>`. */
export class RulesView {
  #root;
  #timer = null;
  #visible = false;
  #chosen = null;
  #row = null;
  #graph = null;
  #text = element("div.text");
  #table = element("tbody");
  #since = element("p.quiet");

  constructor(root) {
    this.#root = root;
  }

  show(name) {
    const again = this.#visible && this.#row !== null;
    this.#visible = true;
    this.#chosen = name;
    if (again) this.#select();
    else {
      this.#row = null;
      fill(this.#root, element("h2", {}, "Rules"), element("p.quiet", { role: "status" }, "Asking for the rules…"));
      this.#read();
    }
  }

  hide() {
    this.#visible = false;
    clearTimeout(this.#timer);
  }

  async #read() {
    clearTimeout(this.#timer);
    try {
      const row = await rulesNow();
      if (!this.#visible) return;
      if (row === null) fill(this.#root, element("h2", {}, "Rules"), element("p.quiet", {}, "No rules are in force yet."));
      else if (this.#row?.version === row.version) this.#count(row);
      else this.#build(row);
      this.#row = row;
    } catch (error) {
      if (!this.#visible) return;
      this.#row = null;
      fill(
        this.#root,
        element("h2", {}, "Rules"),
        element("div.notice.bad", { role: "alert" }, element("b", {}, "The rules cannot be shown: "), error.message),
      );
    }
    if (this.#visible) this.#timer = setTimeout(() => this.#read(), EVERY_MS);
  }

  #build(row) {
    this.#row = row;
    this.#graph = drawn(row.svg, new Set(row.syncs.map((sync) => sync.name)), open);
    fill(
      this.#root,
      element("h2", {}, "Rules"),
      this.#since,
      this.#graph
        ? element("div.graph", { tabindex: "0", role: "group", "aria-label": "The graph of all rules; the table below has the same in words" }, this.#graph.svg)
        : element("p.quiet", {}, "The graph cannot be drawn; the table has the rules."),
      element(
        "div.book",
        {},
        element(
          "div.scroll",
          { tabindex: "0", role: "group", "aria-label": "All rules" },
          element(
            "table",
            {},
            element("caption", {}, "All rules"),
            element("thead", {}, element("tr", {}, ["Rule", "When", "Then", "Fired"].map((name) => element("th", { scope: "col" }, name)))),
            this.#table,
          ),
        ),
        this.#text,
      ),
    );
    fill(
      this.#table,
      row.syncs.map((sync) =>
        element(
          "tr",
          { "data-rule": sync.name },
          element("th", { scope: "row" }, element("a", { href: `#/rules/${encodeURIComponent(sync.name)}` }, breakable(sync.name))),
          element("td", {}, breakable((sync.when ?? []).join(", ")), also("asks", sync.where)),
          element("td", {}, breakable((sync.then ?? []).join(", ")), also("else", sync.else)),
          element("td.fired", {}, sync.firings ?? 0),
        ),
      ),
    );
    this.#count(row);
    this.#select();
  }

  #count(row) {
    const before = new Map((this.#row?.syncs ?? []).map((sync) => [sync.name, sync.firings ?? 0]));
    for (const sync of row.syncs) {
      const firings = sync.firings ?? 0;
      const busy = firings > (before.get(sync.name) ?? 0);
      this.#graph?.count(sync.name, firings, busy);
      const line = this.#table.querySelector(`tr[data-rule="${CSS.escape(sync.name)}"]`);
      if (!line) continue;
      line.classList.toggle("busy", busy);
      line.querySelector(".fired").textContent = String(firings);
    }
    this.#since.textContent = `${many(row.syncs.length, "rule")} in force. Figures count how often each has fired${row.since_us ? ` since ${day(row.since_us)}` : ""}. Choose one to read it.`;
  }

  #select() {
    const sync = this.#row.syncs.find((other) => other.name === this.#chosen);
    for (const line of this.#table.children) line.classList.toggle("chosen", line.dataset.rule === this.#chosen);
    this.#graph?.choose(this.#chosen);
    const box = this.#graph?.frameOf(this.#chosen);
    const around = this.#root.querySelector(".graph");
    if (box && around) {
      const middle = around.getBoundingClientRect();
      around.scrollBy(box.left + box.width / 2 - middle.left - middle.width / 2, box.top + box.height / 2 - middle.top - middle.height / 2);
    }
    if (sync) {
      fill(
        this.#text,
        element("h3", {}, breakable(sync.name)),
        element("p.quiet", {}, sync.file ? `${sync.file}, line ${sync.line}` : ""),
        listing(sync),
      );
      this.#text.scrollIntoView({ block: "nearest" });
    } else if (this.#chosen) fill(this.#text, element("p.quiet", {}, `There is no rule ${this.#chosen} any more.`));
    else fill(this.#text);
  }
}

function open(name) {
  location.hash = `#/rules/${encodeURIComponent(name)}`;
}
