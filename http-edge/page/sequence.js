// A flow as a sequence diagram: a lifeline for each concept, a row for each step, and each row a button.

import { breakable, element, prose } from "./element.js";
import { REQUESTING, isRespond, routerOf } from "./story.js";
import { brief, fateOf, many, outcomeOf, span } from "./words.js";

/**
 * Draws the steps of a flow.
 *
 * @param {object} flow
 * @param {ReturnType<import("./story.js").read>} story
 * @param {string|null} chosen the key of the step that is shown in detail
 * @param {(key: string) => void} choose
 */
export function diagram(flow, story, chosen, choose) {
  const { lanes, aside } = story;
  const place = (concept) => ((lanes.indexOf(concept) + 0.5) / lanes.length) * 100;
  const called = new Set(flow.actions.map((action) => action.concept));
  const row = (step) => {
    const button = element(
      `button.${classOf(step)}`,
      {
        type: "button",
        "data-key": step.key,
        "aria-pressed": step.key === chosen ? "true" : "false",
        on: { click: () => choose(step.key) },
      },
      element("span.when", {}, step.at === null ? "" : step.at === 0 ? "0" : `+${span(step.at)}`),
      element(
        "span.lanes",
        {},
        lanes.map((concept) =>
          element(`i.lane${called.has(concept) ? "" : ".ghost"}`, { style: { left: `${place(concept)}%` }, "aria-hidden": "true" }),
        ),
        step.kind === "action" ? actionRow(step, flow, place) : step.kind === "miss" ? missRow(step, place) : haltRow(step),
      ),
    );
    return element("li", {}, button);
  };
  const list = element("ol.steps", { on: { keydown: walk } }, story.steps.map(row));
  return element(
    "div.sequence",
    {},
    element(
      "div.heads",
      { "aria-hidden": "true" },
      element("span.when", {}, "time"),
      element(
        "span.lanes",
        {},
        lanes.map((concept) =>
          element(
            `span.head${called.has(concept) ? "" : ".ghost"}`,
            { style: { left: `${place(concept)}%` } },
            concept,
            element("small", {}, concept === REQUESTING ? "the HTTP edge" : called.has(concept) ? "concept" : "not reached"),
          ),
        ),
      ),
    ),
    list,
    aside.length > 0 &&
      element(
        "details.aside",
        { open: aside.some((step) => step.key === chosen) },
        element("summary", {}, `${many(aside.length, "more rule")} that waited for something else`),
        element("ol.steps", { on: { keydown: walk } }, aside.map(row)),
      ),
  );
}

function classOf(step) {
  if (step.kind !== "action") return `step.${step.kind}`;
  return `step.${fateOf(step.action)}${step.answers ? ".answer" : ""}`;
}

/** A text that stands around a place between 0 and 100, and never beyond the edges. */
const around = (at, name, ...children) =>
  element(name, { style: { left: `${at}%`, transform: `translateX(-${at}%)` } }, ...children);

function arrow(from, to, kind) {
  const left = Math.min(from, to);
  const way = to >= from ? "right" : "left";
  return element(`span.arrow.${way}${kind ? `.${kind}` : ""}`, {
    style: { left: `${left}%`, width: `${Math.abs(to - from)}%` },
    "aria-hidden": "true",
  });
}

function actionRow(step, flow, place) {
  const { action } = step;
  const to = place(step.to);
  const from = step.from === null ? 0 : place(step.from);
  const middle = (from + to) / 2;
  const isRoot = !action.by;
  const [sign, word] = outcomeOf(fateOf(action));
  const took = action.completed_us !== undefined && action.asked_us !== undefined ? action.completed_us - action.asked_us : 0;
  const name = `${action.concept}.${action.action}`;
  const who = isRoot
    ? action.concept === REQUESTING
      ? element("span.rule.root", {}, `request ${flow.path ?? ""}`)
      : element("span.rule.root", {}, "asked for by hand")
    : routerOf(action.by.sync)
      ? element("span.rule.root", {}, "the router itself")
      : element("span.rule", {}, element("span.hidden", {}, "rule "), breakable(action.by.sync));
  return [
    around(middle, "span.line", who, step.answers && element("span.badge", {}, "the answer")),
    step.from === step.to
      ? element("span.loop", { style: { left: `${to}%` }, "aria-hidden": "true" })
      : arrow(from, to, action.state === "completed" ? "" : "dashed"),
    around(
      to,
      "span.line.what",
      element("b", {}, name),
      element("span.outcome", {}, element("span", { "aria-hidden": "true" }, sign), ` ${step.answers ? answerWord(action) : word}`),
      took > 0 && element("span.took", {}, span(took)),
    ),
    result(action) && around(to, "span.line.result", result(action)),
  ];
}

const answerWord = (action) => {
  const status = action.input?.status ?? (action.input?.error === undefined ? 200 : 400);
  return `answered ${status}`;
};

/** What came of an action, in one line. */
function result(action) {
  if (action.dead) return `given up: ${action.dead.reason}`;
  if (action.state !== "completed") return "asked for, and not done yet";
  if (isRespond(action) && action.outcome === "success") {
    const said = action.input?.error ?? action.input?.message;
    return said === undefined ? null : brief(said);
  }
  const output = action.output ?? {};
  if (output.error !== undefined) return `error ${brief(output.error)}`;
  if (!action.by && action.concept === REQUESTING) {
    const keys = Object.keys(action.input ?? {}).filter((key) => key !== "path");
    return keys.length > 0 ? `with ${keys.join(", ")}` : null;
  }
  const keys = Object.keys(output);
  return keys.length > 0 ? `gives ${keys.join(", ")}` : null;
}

function missRow(step, place) {
  const from = step.from === null ? 0 : place(step.from);
  const target = step.to === null || step.to === step.from ? Math.min(from + 20, 100) : place(step.to);
  const end = from + (target - from) * 0.55;
  return [
    around((from + end) / 2, "span.line", element("span.rule.not", {}, breakable(step.miss.sync)), element("span.badge", {}, "did not go on")),
    arrow(from, end, "dashed"),
    element("span.stop", { style: { left: `${end}%` }, "aria-hidden": "true" }, "✕"),
    around((from + end) / 2, "span.line.result", prose(step.miss.failed?.why ?? "")),
  ];
}

const haltRow = (step) => [around(0, "span.line", element("span.rule.not", {}, `stopped with ${step.halt.status}`)), around(0, "span.line.result", prose(step.halt.why))];

/** Up and Down go from step to step. */
function walk(event) {
  const move = { ArrowDown: 1, ArrowUp: -1, Home: -Infinity, End: Infinity }[event.key];
  if (move === undefined) return;
  const buttons = [...event.currentTarget.querySelectorAll("button.step")];
  const at = buttons.indexOf(document.activeElement);
  const next = buttons[Math.min(buttons.length - 1, Math.max(0, at + move))];
  if (next) {
    event.preventDefault();
    next.focus();
  }
}
