// One step in detail: what went in, what came out, when, and the rule that asked for it with the lines that did.

import { breakable, element, prose } from "./element.js";
import { listing, partsOf } from "./source.js";
import { firingOf, routerOf } from "./story.js";
import { clock, day, fateOf, json, outcomeOf, span } from "./words.js";

/**
 * @param {import("./story.js").Step} step
 * @param {object} flow
 * @param {Map<string, object>} syncs
 */
export function details(step, flow, syncs) {
  if (step.kind === "halt") {
    return panel("Stopped", element("p", {}, `Nothing more happens in this flow but the answer ${step.halt.status}: `, prose(step.halt.why)));
  }
  return step.kind === "miss" ? ofMiss(step, flow, syncs) : ofAction(step, flow, syncs);
}

const panel = (title, ...children) =>
  element("section.details", { "aria-label": `Details: ${title}` }, element("h3", {}, breakable(title)), ...children);

function ofAction(step, flow, syncs) {
  const { action } = step;
  const [sign, word] = outcomeOf(fateOf(action));
  const offset = (us) => (us === undefined ? "–" : `+${span(us - flow.began_us)}`);
  const facts = [
    ["Outcome", element("span.outcome", {}, `${sign} ${word}`)],
    ["Asked for", element("span", { title: action.asked_us === undefined ? "" : day(action.asked_us) }, offset(action.asked_us))],
    [
      "Done",
      action.completed_us === undefined
        ? "not yet"
        : element("span", { title: `${day(action.completed_us)}, ${clock(action.completed_us)}` }, `${offset(action.completed_us)}${tookOf(action)}`),
    ],
  ];
  if (action.work && action.completed_us !== undefined) {
    const waited = action.completed_us - action.asked_us - action.work.took_us;
    const parts = waitsOf(action.work).map(([name, took]) => `${name} ${span(took)}`);
    facts.push(["Waited", span(Math.max(0, waited))], ["Work", [span(action.work.took_us), ...parts].join(", ")]);
  }
  if (action.dead) facts.push(["Given up", `${action.dead.reason}, after ${action.dead.attempts} attempts`]);
  return panel(
    `${action.concept}.${action.action}`,
    element(
      `dl.facts.${fateOf(action)}`,
      {},
      facts.map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value))),
    ),
    because(action, flow, syncs),
    element("h4", {}, "Input"),
    value(action.input),
    element("h4", {}, "Output"),
    action.state === "completed" ? value(action.output) : element("p.quiet", {}, "none yet"),
    element("p.quiet.ids", {}, `action ${action.id}${action.seq === undefined ? "" : `, message ${action.seq} of the log`}`),
  );
}

const tookOf = (action) => (action.asked_us === undefined || action.completed_us === action.asked_us ? "" : `, took ${span(action.completed_us - action.asked_us)}`);

/** What others did for an action, and how long in all: `[["mongodb.find", 420], …]`, in the order of their first. */
function waitsOf(work) {
  const parts = new Map();
  for (const part of work.parts ?? []) parts.set(part.name, (parts.get(part.name) ?? 0) + part.took_us);
  return [...parts];
}

/** Which queries a rule asked, with what their workers waited for: "Sessioning._getUser 1.2 ms (mongodb.find 0.4 ms), …". */
function questionsOf(work) {
  const questions = [];
  for (const part of work.parts ?? []) {
    const told = `${part.name} ${span(part.took_us)}`;
    if (part.name.includes("._") || questions.length === 0) questions.push([told, []]);
    else questions.at(-1)[1].push(told);
  }
  return questions.map(([question, waits]) => (waits.length > 0 ? `${question} (${waits.join(", ")})` : question)).join(", ");
}

const value = (given) => element("pre.value", { tabindex: "0" }, json(given ?? {}));

function because(action, flow, syncs) {
  if (!action.by) {
    const begun = (flow.firings ?? []).filter((firing) => firing.causes?.includes(action.id));
    const names = [...new Set(begun.map((firing) => firing.sync))];
    return element(
      "p",
      {},
      action.concept === "Requesting" ? "This request is the first action of the flow. " : "Somebody asked for this action by hand; it began the flow. ",
      names.length > 0 ? `It set off ${names.join(", ")}.` : "No rule went on from it.",
    );
  }
  const own = routerOf(action.by.sync);
  if (own) return element("p", {}, `Asked for by ${own}.`);
  const firing = firingOf(action, flow);
  const sync = syncs.get(action.by.sync);
  if (!sync) return element("p", {}, "Asked for by the rule ", element("b", {}, action.by.sync), ", whose text is not there any more.");
  const { patterns, calls } = partsOf(sync.text);
  const marks = new Map();
  (firing?.causes ?? []).forEach((id, number) => {
    const cause = flow.actions.find((other) => other.id === id);
    mark(marks, patterns[number], "matched", cause && `+${span((cause.completed_us ?? flow.began_us) - flow.began_us)}`);
  });
  const frame = firing?.frames?.[action.by.frame ?? 0];
  // The calls of an `else` are counted on their own, and stand in other lines.
  if (frame?.ended !== "else") mark(marks, calls[action.by.call ?? 0], "called");
  const bindings = Object.entries(frame?.bindings ?? {});
  return [
    element("h4", {}, "Because of the rule ", element("a", { href: `#/rules/${encodeURIComponent(sync.name)}` }, breakable(sync.name))),
    element("p.quiet", {}, `${place(sync)}: what is marked ✓ had happened, so it asked for what is marked ▶`),
    listing(sync, marks),
    firing?.work && element("p.asked", {}, `It asked ${questionsOf(firing.work)}.`),
    bindings.length > 0 &&
      element("details", {}, element("summary", {}, "What its variables stood for"), value(frame.bindings)),
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
    `${miss.sync} did not go on`,
    element("p.why", {}, prose(miss.failed?.why ?? "One of its patterns did not match.")),
    miss.failed?.text && element("p", {}, "It waited for ", element("code", {}, miss.failed.text), "."),
    sync && element("p.quiet", {}, `${place(sync)}: what is marked ✓ had happened, what is marked ✕ did not come`),
    sync ? listing(sync, marks) : element("p.quiet", {}, "The text of this rule is not there."),
  );
}
