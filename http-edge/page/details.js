// Details of one step: input, output, timing, and the rule that called it with the lines marked.

import { breakable, element, prose } from "./element.js";
import { listing, partsOf } from "./source.js";
import { firingOf, routerOf, shownOutcomeOf } from "./story.js";
import { clock, day, json, outcomeOf, span } from "./words.js";

/**
 * @param {import("./story.js").Step} step
 * @param {object} flow
 * @param {Map<string, object>} syncs
 */
export function details(step, flow, syncs) {
  if (step.kind === "halt") {
    return panel("Stopped", element("p", {}, `The router stopped this flow with status ${step.halt.status}: `, prose(step.halt.why)));
  }
  return step.kind === "miss" ? ofMiss(step, flow, syncs) : ofAction(step, flow, syncs);
}

const panel = (title, ...children) =>
  element("section.details", { "aria-label": `Details: ${title}` }, element("h3", {}, breakable(title)), ...children);

function ofAction(step, flow, syncs) {
  const { action } = step;
  const [sign, word] = outcomeOf(shownOutcomeOf(action));
  const offset = (us) => (us === undefined ? "–" : `+${span(us - flow.began_us)}`);
  const facts = [
    ["Outcome", element("span.outcome", {}, `${sign} ${word}`)],
    ["Requested", element("span", { title: action.asked_us === undefined ? "" : day(action.asked_us) }, offset(action.asked_us))],
    [
      "Completed",
      action.completed_us === undefined
        ? "not yet"
        : element("span", { title: `${day(action.completed_us)}, ${clock(action.completed_us)}` }, `${offset(action.completed_us)}${tookOf(action)}`),
    ],
  ];
  if (action.work && action.completed_us !== undefined) {
    const waited = action.completed_us - action.asked_us - action.work.took_us;
    const parts = waitsOf(action.work).map(([name, took]) => `${name} ${span(took)}`);
    facts.push(["Queued", span(Math.max(0, waited))], ["Processing", [span(action.work.took_us), ...parts].join(", ")]);
  }
  if (action.dead) facts.push(["Dead-lettered", `${action.dead.reason}, after ${action.dead.attempts} attempts`]);
  return panel(
    `${action.concept}.${action.action}`,
    element(
      `dl.facts.${shownOutcomeOf(action)}`,
      {},
      facts.map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value))),
    ),
    because(action, flow, syncs),
    element("h4", {}, "Input"),
    value(action.input),
    element("h4", {}, "Output"),
    action.state === "completed" ? value(action.output) : element("p.quiet", {}, "(not completed)"),
    element("p.quiet.ids", {}, `action ${action.id}${action.seq === undefined ? "" : `, log sequence ${action.seq}`}`),
  );
}

const tookOf = (action) => (action.asked_us === undefined || action.completed_us === action.asked_us ? "" : `, took ${span(action.completed_us - action.asked_us)}`);

/** Total time per operation of an action, in order of first use: `[["mongodb.find", 420], …]`. */
function waitsOf(work) {
  const parts = new Map();
  for (const part of work.parts ?? []) parts.set(part.name, (parts.get(part.name) ?? 0) + part.took_us);
  return [...parts];
}

/** Timed queries of a rule: "Sessioning._getUser 1.2 ms (mongodb.find 0.4 ms), …". */
function queriesOf(work) {
  const queries = [];
  for (const part of work.parts ?? []) {
    const text = `${part.name.replace(/-(\d+)$/, " with $1 inputs")} ${span(part.took_us)}`;
    if (part.name.includes("._") || queries.length === 0) queries.push([text, []]);
    else queries.at(-1)[1].push(text);
  }
  return queries.map(([query, waits]) => (waits.length > 0 ? `${query} (${waits.join(", ")})` : query)).join(", ");
}

const value = (given) => element("pre.value", { tabindex: "0" }, json(given ?? {}));

function because(action, flow, syncs) {
  if (!action.by) {
    const fired = (flow.firings ?? []).filter((firing) => firing.causes?.includes(action.id));
    const names = [...new Set(fired.map((firing) => firing.sync))];
    return element(
      "p",
      {},
      action.concept === "Requesting" ? "This request is the first action of the flow. " : "This action was injected; it is the first action of the flow. ",
      names.length > 0 ? `It triggered ${names.join(", ")}.` : "No rule fired on it.",
    );
  }
  const own = routerOf(action.by.sync);
  if (own) return element("p", {}, `Called by ${own}.`);
  const firing = firingOf(action, flow);
  const sync = syncs.get(action.by.sync);
  if (!sync) return element("p", {}, "Called by rule ", element("b", {}, action.by.sync), ". The text of this rule version is not available.");
  const { patterns, calls } = partsOf(sync.text);
  const marks = new Map();
  (firing?.causes ?? []).forEach((id, number) => {
    const cause = flow.actions.find((other) => other.id === id);
    mark(marks, patterns[number], "matched", cause && `+${span((cause.completed_us ?? flow.began_us) - flow.began_us)}`);
  });
  const frame = firing?.frames?.[action.by.frame ?? 0];
  // Calls of `else` have their own numbers and lines.
  if (frame?.ended !== "else") mark(marks, calls[action.by.call ?? 0], "called");
  const bindings = Object.entries(frame?.bindings ?? {});
  return [
    element("h4", {}, "Called by rule ", element("a", { href: `#/rules/${encodeURIComponent(sync.name)}` }, breakable(sync.name))),
    element("p.quiet", {}, `${place(sync)}: ✓ matched, ▶ called`),
    listing(sync, marks),
    firing?.work && element("p.queries", {}, `Queries: ${queriesOf(firing.work)}.`),
    bindings.length > 0 &&
      element("details", {}, element("summary", {}, "Variable bindings"), value(frame.bindings)),
  ];
}

const place = (sync) => (sync.file ? `${sync.file}, line ${sync.line}` : "The rule");

function mark(marks, lines, kind, note) {
  (lines ?? []).forEach((line, number) => marks.set(line, { kind, note: number === 0 ? note : undefined }));
}

function ofMiss(step, flow, syncs) {
  const { miss } = step;
  const sync = syncs.get(miss.sync);
  const marks = new Map();
  if (sync) {
    const { patterns, steps } = partsOf(sync.text);
    for (const match of miss.matched ?? []) mark(marks, patterns[match.pattern], "matched");
    if (miss.failed) mark(marks, patterns[miss.failed.pattern] ?? steps[miss.failed.step], "failed");
  }
  return panel(
    `${miss.sync} did not fire`,
    element("p.why", {}, prose(miss.failed?.why ?? "One of its patterns did not match.")),
    miss.failed?.text && element("p", {}, "Not matched: ", element("code", {}, miss.failed.text)),
    sync && element("p.quiet", {}, `${place(sync)}: ✓ matched, ✕ not matched`),
    sync ? listing(sync, marks) : element("p.quiet", {}, "The text of this rule version is not available."),
  );
}
