// What is wrong now: actions that were given up, who is behind, and flows that failed lately.

import { rows } from "./api.js";
import { element, fill } from "./element.js";
import { day, many } from "./words.js";

/** How often it is asked for, in sight and out of it, in milliseconds. */
const SEEN_EVERY_MS = 3000;
const UNSEEN_EVERY_MS = 15_000;
/** So many messages may wait before somebody is called behind. */
const BEHIND = 100;

/** The view of `#/wrong`, and the figure at its name. */
export class WrongView {
  #root;
  #tell;
  #visible = false;
  #timer = null;

  /** @param {(count: number) => void} tell how much is wrong */
  constructor(root, tell) {
    this.#root = root;
    this.#tell = tell;
  }

  show() {
    this.#visible = true;
    fill(this.#root, element("h2", {}, "Wrong now"), element("p.quiet", { role: "status" }, "Looking…"));
    this.watch();
  }

  hide() {
    this.#visible = false;
  }

  /** Asks now, and again and again. */
  async watch() {
    clearTimeout(this.#timer);
    try {
      const [state] = await rows("wrong");
      const found = state ?? {};
      this.#tell((found.dead_count ?? 0) + behind(found).length);
      if (this.#visible) fill(this.#root, element("h2", {}, "Wrong now"), told(found));
    } catch (error) {
      if (this.#visible) {
        fill(
          this.#root,
          element("h2", {}, "Wrong now"),
          element("div.notice.bad", { role: "alert" }, element("b", {}, "It cannot be told: "), error.message),
        );
      }
    }
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.watch(), this.#visible ? SEEN_EVERY_MS : UNSEEN_EVERY_MS);
  }
}

const behind = (state) => (state.lag ?? []).filter((line) => (line.pending ?? 0) >= BEHIND);

function told(state) {
  const dead = state.dead ?? [];
  const count = state.dead_count ?? dead.length;
  const nothing = count === 0 && behind(state).length === 0 && !state.faults_last_hour;
  return [
    nothing && element("p.notice.good", {}, "✓ Nothing: no action was given up, nobody is behind, and no flow met a fault in the last hour."),
    element(
      "div.cards",
      {},
      card(count, "given up", "dead letters", count > 0),
      card(behind(state).length, "behind", `${BEHIND} messages or more wait`, behind(state).length > 0),
      card(state.faults_last_hour ?? 0, "faults", "in the last hour", (state.faults_last_hour ?? 0) > 0),
      card(state.failed_last_hour ?? 0, "failed", "in the last hour: refusals, such as wrong passwords", false),
    ),
    dead.length > 0 && [
      table(
        `Given up${count > dead.length ? `, the newest ${dead.length} of ${count}` : ""}`,
        ["Action", "Why", "When", "Attempts", "Flow"],
        dead.map((letter) => [
          `${letter.concept}.${letter.name}`,
          letter.reason,
          day(letter.at_us),
          letter.attempts ?? "?",
          letter.flow ? element("a", { href: `#/flow/${encodeURIComponent(letter.flow)}` }, "see it") : "none",
        ]),
      ),
      element("p.quiet", {}, "To try one again: ", element("code", {}, "concert dead list"), ", then ", element("code", {}, "concert dead retry"), "."),
    ],
    (state.slow ?? []).length > 0 &&
      table(
        "Slow",
        ["What", ""],
        state.slow.map((line) => [
          line.concept ? `${line.concept}.${line.action ?? line.name ?? ""}` : (line.path ?? line.flow ?? "a flow"),
          line.flow ? element("a", { href: `#/flow/${encodeURIComponent(line.flow)}` }, "see it") : JSON.stringify(line),
        ]),
      ),
    (state.lag ?? []).length > 0 &&
      table(
        "Who waits for whom",
        ["Stream", "Read by", "Wait", "Under way"],
        state.lag.map((line) => [line.stream, line.consumer, line.pending ?? 0, line.ack_pending ?? 0]),
      ),
    element("p.quiet", {}, `${many(dead.length === 0 ? 0 : count, "dead letter")} kept. Asked again every ${SEEN_EVERY_MS / 1000} seconds.`),
  ];
}

const card = (figure, name, what, isBad) =>
  element(`div.card${isBad ? ".bad" : ""}`, {}, element("b", {}, figure), element("span", {}, name), element("small", {}, what));

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
