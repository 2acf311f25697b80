// The view of one flow: a summary, the sequence diagram, and the details of one step.

import { rows } from "./api.js";
import { details } from "./details.js";
import { breakable, element, fill, prose } from "./element.js";
import { rulesOf } from "./rulebook.js";
import { diagram } from "./sequence.js";
import { read as readStory, routerOf } from "./story.js";
import { clock, outcomeOf, span } from "./words.js";

/** Delays between reads of an open flow, in milliseconds; the last one is repeated. */
const RETRY_DELAYS_MS = [120, 250, 500, 1000, 2000];
/** Maximum number of reads; after that, only a live update causes a read. */
const MAX_ATTEMPTS = 30;

/** The view of `#/flow/<id>`, and of `#/`, which shows the latest flow until a step is selected. */
export class FlowView {
  #root;
  #id = null;
  #follows = false;
  #flow = null;
  #syncs = new Map();
  #chosen = null;
  #attempt = 0;
  #timer = null;
  #reads = 0;

  constructor(root) {
    this.#root = root;
  }

  /** Shows a flow; null shows the next one that begins. */
  show(id) {
    clearTimeout(this.#timer);
    this.#id = id;
    this.#follows = id === null;
    this.#flow = null;
    this.#chosen = null;
    this.#attempt = 0;
    if (id === null) fill(this.#root, invitation());
    else {
      fill(this.#root, element("p.quiet.loading", { role: "status" }, "Loading flow…"));
      this.#read();
    }
  }

  hide() {
    clearTimeout(this.#timer);
    this.#id = null;
    this.#follows = false;
  }

  /** Applies live updates of flows. */
  update(flows) {
    const latest = flows.reduce((one, other) => (other.began_us > (one?.began_us ?? 0) ? other : one), null);
    if (this.#follows && this.#chosen === null && latest && latest.began_us > (this.#flow?.began_us ?? 0)) this.#id = latest.flow;
    if (this.#id !== null && flows.some((flow) => flow.flow === this.#id)) {
      this.#attempt = 0;
      this.#read();
    }
  }

  async #read() {
    clearTimeout(this.#timer);
    const id = this.#id;
    this.#reads += 1;
    const read = this.#reads;
    try {
      const [flow] = await rows(`flow/${encodeURIComponent(id)}`);
      const syncs = await rulesOf(flow?.rules).catch(() => this.#syncs);
      if (read !== this.#reads || id !== this.#id) return;
      if (flow) {
        this.#flow = flow;
        this.#syncs = syncs;
        this.#draw();
      } else if (this.#attempt >= MAX_ATTEMPTS || this.#attempt > 8) {
        fill(this.#root, missing(id));
      }
      if (!flow || flow.outcome === "open") this.#again();
    } catch (error) {
      if (read !== this.#reads || id !== this.#id) return;
      fill(this.#root, element("div.notice.bad", { role: "alert" }, element("b", {}, "Could not load the flow: "), error.message));
      if (error.status !== 401) this.#again();
    }
  }

  #again() {
    if (this.#attempt >= MAX_ATTEMPTS) return;
    const wait = RETRY_DELAYS_MS[Math.min(this.#attempt, RETRY_DELAYS_MS.length - 1)];
    this.#attempt += 1;
    this.#timer = setTimeout(() => this.#read(), wait);
  }

  #draw() {
    const story = readStory(this.#flow, this.#syncs);
    const all = [...story.steps, ...story.otherMisses];
    const shown =
      all.find((step) => step.key === this.#chosen) ?? story.failedAt ?? story.answer ?? story.steps.at(-1) ?? null;
    announce(this.#root.ownerDocument, this.#flow, story);
    const focused = this.#root.contains(document.activeElement) ? document.activeElement.dataset?.key : undefined;
    fill(
      this.#root,
      heading(this.#flow, story, (key) => this.#choose(key)),
      element(
        "div.flow",
        {},
        diagram(this.#flow, story, shown?.key ?? null, (key) => this.#choose(key)),
        shown && details(shown, this.#flow, this.#syncs),
      ),
    );
    if (focused !== undefined) this.#root.querySelector(`button.step[data-key="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
  }

  #choose(key) {
    this.#chosen = key;
    this.#draw();
    this.#root.querySelector(`button.step[data-key="${CSS.escape(key)}"]`)?.focus({ preventScroll: true });
  }
}

function heading(flow, story, choose) {
  const [sign, word] = outcomeOf(flow.outcome);
  const [root] = flow.actions;
  const title = flow.path ? (flow.path.startsWith("/") ? `POST ${flow.path}` : flow.path) : root ? `${root.concept}.${root.action}` : "Flow";
  const rule = (step, name) => element("button.link", { type: "button", on: { click: () => choose(step.key) } }, breakable(name));
  return element(
    `header.summary.${flow.outcome}`,
    {},
    element(
      "h2",
      {},
      element("code", {}, title),
      " ",
      element("span.chip", {}, `${sign} ${flow.status ?? ""} ${word}`.replace(/ +/g, " ")),
    ),
    element("p.answered", {}, answeredBy(flow, story, rule)),
    story.failedAt &&
      element(
        "p.failed-at",
        {},
        `Stopped at ${story.failedAt.miss.failed?.action ? nameOf(flow, story.failedAt.miss.failed.action) : "the request"}: rule `,
        rule(story.failedAt, story.failedAt.miss.sync),
        " did not fire because ",
        prose(because(story.failedAt.miss.failed?.why)),
      ),
    element(
      "p.quiet",
      {},
      `Started at ${clock(flow.began_us)}. Flow `,
      element("code.id", {}, flow.flow),
      flow.truncated ? ". Truncated: the flow is too long to display." : "",
    ),
  );
}

function answeredBy(flow, story, rule) {
  const name = answererOf(flow, story);
  const after = `after ${span(flow.ended_us - flow.began_us)}.`;
  if (name) {
    const own = routerOf(name);
    const shown = own ?? name;
    return [own ? "Answered by " : "Answered by rule ", story.answer ? rule(story.answer, shown) : element("b", {}, shown), ` ${after}`];
  }
  if (flow.outcome === "open") return "In progress; no response yet.";
  return flow.path ? `No rule answered; ended ${after}` : `Ended ${after}`;
}

/** Name of the rule that answered, or of the response of the router itself. */
const answererOf = (flow, story) => story.answer?.action.by?.sync ?? flow.answered_by;

/** Announces the result to screen readers. */
function announce(page, flow, story) {
  const answered = answererOf(flow, story);
  const result = answered ? `Answered ${flow.status ?? ""} by ${routerOf(answered) ?? `rule ${answered}`}.` : `The flow is ${outcomeOf(flow.outcome)[1]}.`;
  const stopped = story.failedAt ? ` Rule ${story.failedAt.miss.sync} did not fire.` : "";
  const region = page.querySelector("#announcement");
  if (region.textContent !== result + stopped) region.textContent = result + stopped;
}

const nameOf = (flow, id) => {
  const action = flow.actions.find((other) => other.id === id);
  return action ? `${action.concept}.${action.action}` : "an action";
};

const because = (why) => {
  const text = why ?? "one of its patterns did not match";
  return /[.!?”"`]$/.test(text) ? text : `${text}.`;
};

const invitation = () =>
  element(
    "div.empty",
    {},
    element("h2", {}, "Send a request to see its flow"),
    element("p", {}, "Every request starts a flow: actions of independent concepts, connected by rules. The latest flow appears here while it runs, until you select a step of it."),
    element("p", {}, "Use the application, or curl. Log in with a wrong password: the diagram shows where the flow stopped."),
    element("p", {}, "For earlier flows, open ", element("a", { href: "#/flows" }, "Recent flows"), "."),
  );

const missing = (id) =>
  element(
    "div.empty",
    {},
    element("h2", {}, "Flow not found"),
    element("p", {}, "Flow ", element("code.id", {}, id), " is not in the log or the archive. It may have expired, or the ID may be incomplete."),
    element("p", {}, element("a", { href: "#/flows" }, "View recent flows")),
  );
