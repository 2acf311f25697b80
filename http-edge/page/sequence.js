// A flow as a sequence diagram: one lifeline per concept, one row per step. Each row is a button.

import { breakable, element, prose } from "./element.js";
import { REQUESTING, errorOf, httpStatusOf, isRespond, routerOf, shownOutcomeOf } from "./story.js";
import { brief, many, outcomeOf, span } from "./words.js";

/**
 * Draws the steps of a flow.
 *
 * @param {object} flow
 * @param {ReturnType<import("./story.js").read>} story
 * @param {string|null} chosen key of the selected step
 * @param {(key: string) => void} choose
 */
export function diagram(flow, story, chosen, choose) {
  const { lanes, otherMisses } = story;
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
            element("small", {}, concept === REQUESTING ? "the HTTP edge" : called.has(concept) ? "concept" : "not called"),
          ),
        ),
      ),
    ),
    list,
    otherMisses.length > 0 &&
      element(
        "details.other-misses",
        { open: otherMisses.some((step) => step.key === chosen) },
        element("summary", {}, `${many(otherMisses.length, "other rule")} matched in part and did not fire`),
        element("ol.steps", { on: { keydown: walk } }, otherMisses.map(row)),
      ),
  );
}

function classOf(step) {
  if (step.kind !== "action") return `step.${step.kind}`;
  return `step.${shownOutcomeOf(step.action)}${step.answers ? ".answer" : ""}`;
}

/** A text centred on a position between 0 and 100, kept within the edges. */
const around = (at, name, ...children) =>
  element(name, { style: { left: `${at}%`, transform: `translateX(-${at}%)` } }, ...children);

function arrow(from, to, kind) {
  const left = Math.min(from, to);
  const direction = to >= from ? "right" : "left";
  return element(`span.arrow.${direction}${kind ? `.${kind}` : ""}`, {
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
  const [sign, word] = outcomeOf(shownOutcomeOf(action));
  const took = action.completed_us !== undefined && action.asked_us !== undefined ? action.completed_us - action.asked_us : 0;
  const name = `${action.concept}.${action.action}`;
  const who = isRoot
    ? action.concept === REQUESTING
      ? element("span.rule.root", {}, `request ${flow.path ?? ""}`)
      : element("span.rule.root", {}, "injected")
    : routerOf(action.by.sync)
      ? element("span.rule.root", {}, "the router")
      : element("span.rule", {}, element("span.hidden", {}, "rule "), breakable(action.by.sync));
  return [
    around(middle, "span.line", who, step.answers && element("span.badge", {}, "response")),
    step.from === step.to
      ? element("span.loop", { style: { left: `${to}%` }, "aria-hidden": "true" })
      : arrow(from, to, action.state === "completed" ? "" : "dashed"),
    around(
      to,
      "span.line.what",
      element("b", {}, name),
      element("span.outcome", {}, element("span", { "aria-hidden": "true" }, sign), ` ${step.answers ? `responded ${httpStatusOf(action)}` : word}`),
      took > 0 && element("span.took", {}, span(took)),
    ),
    result(action) && around(to, "span.line.result", result(action)),
  ];
}

/** Result of an action, in one line. */
function result(action) {
  if (action.dead) return `dead-lettered: ${action.dead.reason}`;
  if (action.state !== "completed") return "called; not completed yet";
  if (isRespond(action) && action.outcome === "success") {
    const text = errorOf(action) ?? action.input?.message;
    return text === undefined ? null : brief(text);
  }
  const output = action.output ?? {};
  if (output.error !== undefined) return `error ${brief(output.error)}`;
  if (!action.by && action.concept === REQUESTING) {
    const keys = Object.keys(action.input ?? {}).filter((key) => key !== "path");
    return keys.length > 0 ? `with ${keys.join(", ")}` : null;
  }
  const keys = Object.keys(output);
  return keys.length > 0 ? `returned ${keys.join(", ")}` : null;
}

function missRow(step, place) {
  const from = step.from === null ? 0 : place(step.from);
  const target = step.to === null || step.to === step.from ? Math.min(from + 20, 100) : place(step.to);
  const end = from + (target - from) * 0.55;
  return [
    around((from + end) / 2, "span.line", element("span.rule.not", {}, breakable(step.miss.sync)), element("span.badge", {}, "did not fire")),
    arrow(from, end, "dashed"),
    element("span.stop", { style: { left: `${end}%` }, "aria-hidden": "true" }, "✕"),
    around((from + end) / 2, "span.line.result", prose(step.miss.failed?.why ?? "")),
  ];
}

const haltRow = (step) => [around(0, "span.line", element("span.rule.not", {}, `stopped with ${step.halt.status}`)), around(0, "span.line.result", prose(step.halt.why))];

/** Up and Down move between steps. */
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
