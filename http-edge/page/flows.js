// The list of recent flows. Only the visible rows are in the document.

import { rows } from "./api.js";
import { element, fill } from "./element.js";
import { clock, many, outcomeOf, span } from "./words.js";

/** Height of a row in pixels, as in `views.css`. */
const ROW_PX = 52;
/** Rows drawn above and below the visible ones. */
const OVERSCAN_ROWS = 8;
/** Rows per query. */
const PAGE = 500;
/** Maximum number of rows in memory. */
const MAX_ROWS = 20_000;
/** Delay after the last keystroke before a search, in milliseconds. */
const DEBOUNCE_MS = 300;
/** Delay before a failed query is retried, in milliseconds. */
const RETRY_DELAY_MS = 2000;

const OUTCOMES = ["succeeded", "failed", "fault", "open", "dead"];

/** The view of `#/flows`. */
export class FlowsView {
  #root;
  #rows = [];
  /** Rows as last drawn. */
  #shown = [];
  #waiting = [];
  #filter = { path: "", outcome: "", text: "" };
  #chosen = 0;
  #more = false;
  #loading = false;
  #asking = new AbortController();
  #frame = 0;
  #timer = null;
  #drawn = new Map();
  #visible = false;
  #built = false;
  #list;
  #space;
  #state;
  #fresh;

  constructor(root) {
    this.#root = root;
  }

  show() {
    this.#visible = true;
    if (!this.#built) this.#build();
    fill(this.#root, this.#frameParts);
    this.#reload();
  }

  hide() {
    clearTimeout(this.#timer);
    this.#visible = false;
  }

  /** Applies live updates of flows. */
  update(flows) {
    if (!this.#visible) return;
    const known = new Map(this.#rows.map((row, at) => [row.flow, at]));
    const fresh = [];
    for (const flow of flows) {
      const at = known.get(flow.flow);
      if (at !== undefined) this.#rows[at] = { ...this.#rows[at], ...flow };
      else if (this.#fits(flow)) fresh.push(flow);
    }
    if (fresh.length > 0) {
      const ids = new Set(fresh.map((flow) => flow.flow));
      this.#waiting = [...fresh, ...this.#waiting.filter((flow) => !ids.has(flow.flow))].slice(0, MAX_ROWS);
    }
    // If the list is scrolled down, new rows would move the visible ones.
    if (this.#list.scrollTop < ROW_PX) this.#admit();
    else this.#showFreshCount();
    this.#redraw();
  }

  #frameParts = [];

  #build() {
    this.#built = true;
    const path = element("input", { id: "filter-path", type: "search", placeholder: "All paths", spellcheck: "false" });
    const outcome = element(
      "select",
      { id: "filter-outcome" },
      element("option", { value: "" }, "All outcomes"),
      OUTCOMES.map((name) => element("option", { value: name }, outcomeOf(name)[1])),
    );
    const text = element("input", { id: "filter-text", type: "search", placeholder: "Rule, error or ID", maxlength: "100", spellcheck: "false" });
    let typed;
    const later = (change) => () => {
      clearTimeout(typed);
      typed = setTimeout(change, DEBOUNCE_MS);
    };
    path.addEventListener("input", later(() => this.#ask({ path: path.value.trim() })));
    outcome.addEventListener("change", () => this.#ask({ outcome: outcome.value }));
    text.addEventListener("input", later(() => this.#ask({ text: text.value.trim().toLowerCase() })));
    const field = (label, input) => element("div.field", {}, element("label", { for: input.id }, label), input);
    this.#space = element("div.space", { role: "presentation" });
    this.#list = element(
      "div.list",
      {
        id: "flow-list",
        role: "listbox",
        tabindex: "0",
        "aria-label": "Recent flows, newest first",
        on: { scroll: () => this.#soon(), keydown: (event) => this.#key(event), click: (event) => this.#click(event) },
      },
      this.#space,
    );
    this.#fresh = element("button.fresh", { type: "button", hidden: true, on: { click: () => this.#toTop() } });
    this.#state = element("p.quiet.state", { role: "status" });
    this.#frameParts = [
      element("h2", {}, "Recent flows"),
      element("div.filters", { role: "search" }, field("Path", path), field("Outcome", outcome), field("Contains", text)),
      this.#state,
      element("div.listing", {}, this.#fresh, this.#list),
    ];
    new ResizeObserver(() => this.#soon()).observe(this.#list);
  }

  #ask(change) {
    Object.assign(this.#filter, change);
    this.#reload();
  }

  async #reload() {
    clearTimeout(this.#timer);
    this.#asking.abort();
    this.#asking = new AbortController();
    this.#rows = [];
    this.#waiting = [];
    this.#chosen = 0;
    this.#loading = false;
    this.#more = true;
    this.#list.scrollTop = 0;
    this.#showFreshCount();
    await this.#load();
  }

  async #load() {
    if (this.#loading || !this.#more || this.#rows.length >= MAX_ROWS) return;
    const { signal } = this.#asking;
    this.#loading = true;
    this.#showState();
    try {
      const query = new URLSearchParams({ limit: String(PAGE) });
      if (this.#filter.path) query.set("path", this.#filter.path);
      if (this.#filter.outcome) query.set("outcome", this.#filter.outcome);
      if (this.#filter.text) query.set("text", this.#filter.text);
      const last = this.#rows.at(-1);
      if (last) query.set("before", last.cursor);
      const found = await rows(`flows?${query}`, signal);
      if (signal.aborted) return;
      const known = new Set(this.#rows.map((row) => row.flow));
      this.#rows.push(...found.filter((row) => !known.has(row.flow)));
      // A row from a live update has no cursor, so no page can start after it.
      this.#more = found.length === PAGE && found.at(-1).cursor !== undefined;
      this.#loading = false;
      this.#redraw();
    } catch (error) {
      if (signal.aborted) return;
      this.#redraw(error);
      // The same query fails again with a client error.
      if (error.status >= 400 && error.status < 500) {
        this.#loading = false;
        this.#more = false;
        return;
      }
      this.#timer = setTimeout(() => {
        this.#loading = false;
        this.#load();
      }, RETRY_DELAY_MS);
    }
  }

  #fits(flow) {
    const { path, outcome, text } = this.#filter;
    return (path === "" || flow.path === path) && (outcome === "" || flow.outcome === outcome) && (text === "" || searched(flow).includes(text));
  }

  #admit() {
    const ids = new Set(this.#waiting.map((flow) => flow.flow));
    if (ids.size > 0) {
      this.#rows = [...this.#waiting, ...this.#rows.filter((row) => !ids.has(row.flow))].slice(0, MAX_ROWS);
      this.#waiting = [];
    }
    this.#showFreshCount();
  }

  #showFreshCount() {
    this.#fresh.hidden = this.#waiting.length === 0;
    this.#fresh.textContent = `↑ ${many(this.#waiting.length, "new flow")}`;
  }

  #toTop() {
    this.#list.scrollTop = 0;
    this.#admit();
    this.#redraw();
    this.#list.focus();
  }

  /** Redraws the rows and keeps the selected flow selected. */
  #redraw(error) {
    const chosen = this.#shown[this.#chosen]?.flow;
    this.#shown = this.#rows;
    const at = this.#shown.findIndex((row) => row.flow === chosen);
    this.#chosen = at >= 0 ? at : Math.min(this.#chosen, Math.max(0, this.#shown.length - 1));
    this.#showState(error);
    this.#drawn.clear();
    this.#space.replaceChildren();
    // Immediately, not in the next frame: a jump to the end needs the new height.
    this.#space.style.height = `${this.#shown.length * ROW_PX}px`;
    this.#soon();
  }

  #showState(error) {
    const { path, outcome, text } = this.#filter;
    const filtered = path !== "" || outcome !== "" || text !== "";
    if (error) this.#state.textContent = `Could not load flows: ${error.message}`;
    else if (this.#loading && this.#rows.length === 0) this.#state.textContent = "Loading flows…";
    else if (this.#shown.length === 0 && filtered) this.#state.textContent = "No flows match these filters. Clear a filter to see more.";
    else if (this.#shown.length === 0) this.#state.textContent = "No flows yet. Sign up, log in, or send a request with curl.";
    else this.#state.textContent = `${many(this.#shown.length, "flow")}${this.#more ? " (scroll for more)" : ""}. Use Up and Down to select, Enter to open.`;
    this.#state.classList.toggle("bad", Boolean(error));
  }

  /** Schedules one redraw in the next frame. */
  #soon() {
    if (this.#frame !== 0) return;
    this.#frame = requestAnimationFrame(() => {
      this.#frame = 0;
      this.#draw();
    });
  }

  #draw() {
    const total = this.#shown.length;
    const first = Math.max(0, Math.floor(this.#list.scrollTop / ROW_PX) - OVERSCAN_ROWS);
    const last = Math.min(total, Math.ceil((this.#list.scrollTop + this.#list.clientHeight) / ROW_PX) + OVERSCAN_ROWS);
    for (const [at, drawn] of this.#drawn) {
      if (at < first || at >= last) {
        drawn.remove();
        this.#drawn.delete(at);
      }
    }
    for (let at = first; at < last; at += 1) {
      if (!this.#drawn.has(at)) {
        const drawn = rowOf(this.#shown[at], at, total);
        this.#drawn.set(at, drawn);
        this.#space.append(drawn);
      }
    }
    for (const [at, drawn] of this.#drawn) drawn.setAttribute("aria-selected", at === this.#chosen ? "true" : "false");
    if (this.#drawn.has(this.#chosen)) this.#list.setAttribute("aria-activedescendant", `flow-${this.#chosen}`);
    else this.#list.removeAttribute("aria-activedescendant");
    if (last + PAGE / 10 >= total) this.#load();
  }

  #key(event) {
    const page = Math.max(1, Math.floor(this.#list.clientHeight / ROW_PX) - 1);
    const moves = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
    if (event.key === "Enter") this.#open(this.#chosen);
    else if (event.key in moves) this.#choose(this.#chosen + moves[event.key]);
    else return;
    event.preventDefault();
  }

  #choose(at) {
    this.#chosen = Math.min(Math.max(0, at), Math.max(0, this.#shown.length - 1));
    const top = this.#chosen * ROW_PX;
    if (top < this.#list.scrollTop) this.#list.scrollTop = top;
    const bottom = top + ROW_PX - this.#list.clientHeight;
    if (bottom > this.#list.scrollTop) this.#list.scrollTop = bottom;
    this.#soon();
  }

  #click(event) {
    const row = event.target.closest("[data-at]");
    if (row) this.#open(Number(row.dataset.at));
  }

  #open(at) {
    const row = this.#shown[at];
    if (row) location.hash = `#/flow/${row.flow}`;
  }
}

/** Searchable text of a row, as in the archive (`Summary::searched`). */
const searched = (row) => [row.flow, row.path, row.root, row.status, row.error, row.trace, row.answered_by, ...(row.syncs ?? [])].join("\n").toLowerCase();

function rowOf(row, at, total) {
  const [sign, word] = outcomeOf(row.outcome);
  return element(
    `div.row.${row.outcome}`,
    {
      id: `flow-${at}`,
      role: "option",
      "data-at": at,
      "aria-setsize": total,
      "aria-posinset": at + 1,
      style: { transform: `translateY(${at * ROW_PX}px)` },
    },
    element("span.time", {}, clock(row.began_us)),
    element("span.path", {}, row.path ?? row.root ?? "?"),
    element("span.chip", {}, `${sign} ${row.status ?? ""} ${word}`.replace(/ +/g, " ")),
    element("span.took", {}, row.took_us === undefined ? "" : span(row.took_us)),
    element("span.by", {}, row.error ?? row.answered_by ?? many(row.actions ?? 0, "action")),
  );
}
