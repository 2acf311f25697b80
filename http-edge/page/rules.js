// The view of all rules: the graph with firing counts, and the text of the selected rule.

import { breakable, element, fill } from "./element.js";
import { drawn } from "./graph.js";
import { rulesNow } from "./rulebook.js";
import { listing } from "./source.js";
import { day, many } from "./words.js";

/** Poll interval of the counts, in milliseconds. */
const POLL_INTERVAL_MS = 2000;

/** Second line of a cell, such as "queries Sessioning._getUser"; null without names. */
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
      fill(this.#root, element("h2", {}, "Rules"), element("p.quiet", { role: "status" }, "Loading rules…"));
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
      if (row === null) fill(this.#root, element("h2", {}, "Rules"), element("p.quiet", {}, "No active rules. Add rules to ", element("code", {}, "syncs/"), " and start a router."));
      else if (this.#row?.version === row.version) this.#count(row);
      else this.#build(row);
      this.#row = row;
    } catch (error) {
      if (!this.#visible) return;
      this.#row = null;
      fill(
        this.#root,
        element("h2", {}, "Rules"),
        element("div.notice.bad", { role: "alert" }, element("b", {}, "Could not load rules: "), error.message),
      );
    }
    if (this.#visible) this.#timer = setTimeout(() => this.#read(), POLL_INTERVAL_MS);
  }

  #build(row) {
    this.#row = row;
    this.#graph = drawn(row.svg, new Set(row.syncs.map((sync) => sync.name)), open);
    fill(
      this.#root,
      element("h2", {}, "Rules"),
      this.#since,
      this.#graph
        ? element("div.graph", { tabindex: "0", role: "group", "aria-label": "Graph of all rules; the table below has the same content" }, this.#graph.svg)
        : element("p.quiet", {}, "Could not draw the graph; the table lists the rules."),
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
            element("thead", {}, element("tr", {}, ["Rule", "When", "Then", "Firings"].map((name) => element("th", { scope: "col" }, name)))),
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
          element("td", {}, breakable((sync.when ?? []).join(", ")), also("queries", sync.where)),
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
    const since = row.since_us ? ` Firings since ${day(row.since_us)}.` : "";
    this.#since.textContent = `${many(row.syncs.length, "active rule")}.${since} Select a rule to view it.`;
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
    } else if (this.#chosen) fill(this.#text, element("p.quiet", {}, `Rule ${this.#chosen} is not active. Select another rule.`));
    else fill(this.#text);
  }
}

function open(name) {
  location.hash = `#/rules/${encodeURIComponent(name)}`;
}
