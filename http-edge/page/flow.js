// The view of one flow: a sentence that tells it, its diagram, and one step in detail.

import { rows } from "./api.js";
import { details } from "./details.js";
import { breakable, element, fill, prose } from "./element.js";
import { rulesOf } from "./rulebook.js";
import { diagram } from "./sequence.js";
import { read, routerOf } from "./story.js";
import { clock, outcomeOf, span } from "./words.js";

/** How long to wait before an open flow is read again, in milliseconds; the last one is repeated. */
const AGAIN_MS = [120, 250, 500, 1000, 2000];
/** After so many attempts only a notice has it read again. */
const ATTEMPTS = 30;

/** The view of `#/flow/<id>`, and of `#/`, where no flow is chosen yet. */
export class FlowView {
  #root;
  #id = null;
  #flow = null;
  #syncs = new Map();
  #chosen = null;
  #attempt = 0;
  #timer = null;
  #asked = 0;

  constructor(root) {
    this.#root = root;
  }

  /** Shows a flow, or what to do to have one. */
  show(id) {
    clearTimeout(this.#timer);
    this.#id = id;
    this.#flow = null;
    this.#chosen = null;
    this.#attempt = 0;
    if (id === null) fill(this.#root, invitation());
    else {
      fill(this.#root, element("p.quiet.loading", { role: "status" }, "Looking for the flow…"));
      this.#read();
    }
  }

  hide() {
    clearTimeout(this.#timer);
    this.#id = null;
  }

  /** Something happened in these flows. */
  heard(flows) {
    if (this.#id !== null && flows.some((flow) => flow.flow === this.#id)) {
      this.#attempt = 0;
      this.#read();
    }
  }

  async #read() {
    clearTimeout(this.#timer);
    const id = this.#id;
    this.#asked += 1;
    const asked = this.#asked;
    try {
      const [flow] = await rows(`flow/${encodeURIComponent(id)}`);
      const syncs = await rulesOf(flow?.rules).catch(() => this.#syncs);
      if (asked !== this.#asked || id !== this.#id) return;
      if (flow) {
        this.#flow = flow;
        this.#syncs = syncs;
        this.#draw();
      } else if (this.#attempt >= ATTEMPTS || this.#attempt > 8) {
        fill(this.#root, missing(id));
      }
      if (!flow || flow.outcome === "open") this.#again();
    } catch (error) {
      if (asked !== this.#asked || id !== this.#id) return;
      fill(this.#root, element("div.notice.bad", { role: "alert" }, element("b", {}, "This flow cannot be shown: "), error.message));
      if (error.status !== 401) this.#again();
    }
  }

  #again() {
    if (this.#attempt >= ATTEMPTS) return;
    const wait = AGAIN_MS[Math.min(this.#attempt, AGAIN_MS.length - 1)];
    this.#attempt += 1;
    this.#timer = setTimeout(() => this.#read(), wait);
  }

  #draw() {
    const story = read(this.#flow, this.#syncs);
    const all = [...story.steps, ...story.aside];
    const shown =
      all.find((step) => step.key === this.#chosen) ?? story.turned ?? story.answer ?? story.steps.at(-1) ?? null;
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
  const asked = flow.path ? `POST ${flow.path}` : root ? `${root.concept}.${root.action}` : "A flow";
  const rule = (step, name) => element("button.link", { type: "button", on: { click: () => choose(step.key) } }, breakable(name));
  return element(
    `header.telling.${flow.outcome}`,
    {},
    element(
      "h2",
      {},
      element("code", {}, asked),
      " ",
      element("span.chip", {}, `${sign} ${flow.status ?? ""} ${word}`.replace(/ +/g, " ")),
    ),
    element("p.answered", {}, answeredBy(flow, story, rule)),
    story.turned &&
      element(
        "p.turned",
        {},
        `It turned off at ${story.turned.miss.failed?.action ? nameOf(flow, story.turned.miss.failed.action) : "the request"}: `,
        rule(story.turned, story.turned.miss.sync),
        " did not go on, because ",
        prose(because(story.turned.miss.failed?.why)),
      ),
    element(
      "p.quiet",
      {},
      `Began at ${clock(flow.began_us)}. Flow `,
      element("code.id", {}, flow.flow),
      flow.truncated ? ". It is too long to be shown whole." : "",
    ),
  );
}

function answeredBy(flow, story, rule) {
  const name = answererOf(flow, story);
  const after = `after ${span(flow.ended_us - flow.began_us)}.`;
  if (name) {
    const own = routerOf(name);
    const shown = own ?? name;
    return [own ? "Answered by " : "Answered by the rule ", story.answer ? rule(story.answer, shown) : element("b", {}, shown), ` ${after}`];
  }
  if (flow.outcome === "open") return "Under way: nothing has answered yet.";
  return flow.path ? `No rule answered, ${after}` : `Ended ${after}`;
}

/** The rule that answered, or what the router calls its own answers. */
const answererOf = (flow, story) => story.answer?.action.by?.sync ?? flow.answered_by;

/** Tells those who do not see the diagram. */
function announce(page, flow, story) {
  const answered = answererOf(flow, story);
  const said = answered ? `Answered ${flow.status ?? ""} by the rule ${answered}.` : `The flow is ${outcomeOf(flow.outcome)[1]}.`;
  const turned = story.turned ? ` ${story.turned.miss.sync} did not go on.` : "";
  const region = page.querySelector("#said");
  if (region.textContent !== said + turned) region.textContent = said + turned;
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
    element("h2", {}, "Log in, and watch what happens"),
    element("p", {}, "Every request sets off a flow: actions of independent concepts, one leading to the next by a rule. It is drawn here while it happens."),
    element(
      "ol",
      {},
      element("li", {}, "Sign up in the box “Your account”, with a name and a password of your own."),
      element("li", {}, "Log in. The diagram shows which rule answered; click on an arrow for its text."),
      element("li", {}, "Log in with a wrong password: the diagram shows where it turned off."),
    ),
    element("p", {}, "What others do, or you with curl, is under ", element("a", { href: "#/flows" }, "Recent flows"), "."),
  );

const missing = (id) =>
  element(
    "div.empty",
    {},
    element("h2", {}, "There is no such flow"),
    element("p", {}, "Neither the log nor the archive has ", element("code.id", {}, id), ". It may be older than what is kept, or the id may be cut off."),
    element("p", {}, element("a", { href: "#/flows" }, "See recent flows")),
  );
