// The view of dead letters, lagging consumers and recent failures.

import { rows } from "./api.js";
import { element, fill } from "./element.js";
import { day, many } from "./words.js";

/** Poll interval while the view is shown, and while it is not, in milliseconds. */
const SHOWN_POLL_MS = 3000;
const HIDDEN_POLL_MS = 15_000;
/** Pending messages from which a consumer counts as lagging. */
const LAGGING = 100;

/** The view of `#/problems`. */
export class ProblemsView {
  #root;
  #setCount;
  #visible = false;
  #timer = null;

  /** @param {(count: number) => void} setCount called with the number of problems */
  constructor(root, setCount) {
    this.#root = root;
    this.#setCount = setCount;
  }

  show() {
    this.#visible = true;
    this.#draw(element("p.quiet", { role: "status" }, "Loading…"));
    this.watch();
  }

  hide() {
    this.#visible = false;
  }

  /** Polls now, and then repeatedly. */
  async watch() {
    clearTimeout(this.#timer);
    try {
      const [[state = {}], workers] = await Promise.all([rows("problems"), rows("workers")]);
      this.#setCount((state.dead_count ?? 0) + lagging(state).length + workers.length);
      if (this.#visible) this.#draw(content(state, workers));
    } catch (error) {
      if (this.#visible) {
        this.#draw(element("div.notice.bad", { role: "alert" }, element("b", {}, "Could not load problems: "), error.message));
      }
    }
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.watch(), this.#visible ? SHOWN_POLL_MS : HIDDEN_POLL_MS);
  }

  #draw(...children) {
    fill(this.#root, element("h2", {}, "Problems"), children);
  }
}

const lagging = (state) => (state.lag ?? []).filter((line) => (line.pending ?? 0) >= LAGGING);

const flowLink = (flow) => element("a", { href: `#/flow/${encodeURIComponent(flow)}` }, "View");

function content(state, workers) {
  const dead = state.dead ?? [];
  const count = state.dead_count ?? dead.length;
  const behind = lagging(state).length;
  const faults = state.faults_last_hour ?? 0;
  return [
    count === 0 &&
      behind === 0 &&
      workers.length === 0 &&
      faults === 0 &&
      element("p.notice.good", {}, "✓ No problems: all workers run, no dead letters, no lagging consumers, and no faults in the last hour."),
    element(
      "div.cards",
      {},
      card(count, "dead letters", count > 0 ? "need attention" : "none stored", count > 0),
      card(workers.length, "worker problems", "stopped, missing, or with another spec", workers.length > 0),
      card(behind, "lagging consumers", `${LAGGING} or more pending messages`, behind > 0),
      card(faults, "faults", "in the last hour", faults > 0),
      card(state.failed_last_hour ?? 0, "failed", "in the last hour, for example wrong passwords", false),
    ),
    workers.length > 0 &&
      table(
        "Workers",
        ["Problem", "Paths that get 503"],
        workers.map((worker) => [worker.problem, worker.paths.join(", ") || "–"]),
      ),
    dead.length > 0 && [
      table(
        `Dead letters${count > dead.length ? ` (newest ${dead.length} of ${count})` : ""}`,
        ["Action", "Reason", "Time", "Attempts", "Flow"],
        dead.map((letter) => [
          `${letter.concept}.${letter.name}`,
          letter.reason,
          day(letter.at_us),
          letter.attempts ?? "–",
          letter.flow ? flowLink(letter.flow) : "–",
        ]),
      ),
      element(
        "p.quiet",
        {},
        "To retry: run ",
        element("code", {}, "concert dead list"),
        ", then ",
        element("code", {}, "concert dead retry"),
        ".",
      ),
    ],
    (state.lag ?? []).length > 0 &&
      table(
        "Backlog",
        ["Stream", "Consumer", "Pending", "Unacknowledged"],
        state.lag.map((line) => [line.stream, line.consumer, line.pending ?? 0, line.ack_pending ?? 0]),
      ),
    element("p.quiet", {}, `${many(count, "dead letter")} stored. Refreshes every ${SHOWN_POLL_MS / 1000} seconds.`),
  ];
}

const card = (number, name, note, isBad) =>
  element(`div.card${isBad ? ".bad" : ""}`, {}, element("b", {}, number), element("span", {}, name), element("small", {}, note));

function table(caption, heads, lines) {
  return element(
    "div.scroll",
    { tabindex: "0", role: "group", "aria-label": caption },
    element(
      "table",
      {},
      element("caption", {}, caption),
      element("thead", {}, element("tr", {}, heads.map((head) => element("th", { scope: "col" }, head)))),
      element("tbody", {}, lines.map((line) => element("tr", {}, line.map((cell) => element("td", {}, cell))))),
    ),
  );
}
