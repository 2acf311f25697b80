// What a flow tells, as steps along lifelines. Nothing here knows the document.

import { fateOf } from "./words.js";

/** The concept of requests and answers: the edge. */
export const REQUESTING = "Requesting";

/**
 * @typedef {Object} Step
 * @property {"action"|"miss"|"halt"} kind
 * @property {string} key what the step is known by
 * @property {object} [action] of an action
 * @property {object} [miss] of a rule that did not go on
 * @property {string|null} from the lifeline that it starts from; null is from outside
 * @property {string|null} to
 * @property {number} at in microseconds since the flow began
 * @property {boolean} answers whether it is the answer to the request
 */

/**
 * Reads a flow.
 *
 * @param {object} flow a row of `_flow`
 * @param {Map<string, object>} syncs the rules by name, as `_rules` has them
 * @returns {{lanes: string[], steps: Step[], aside: Step[], turned: Step|null, answer: Step|null}}
 *   `aside` are rules that did not go on and that are no part of the story; `turned` is where a flow that failed turned off
 */
export function read(flow, syncs) {
  const byId = new Map(flow.actions.map((action) => [action.id, action]));
  const steps = flow.actions.map((action) => actionStep(action, flow, byId));
  const answers = steps.filter((step) => isRespond(step.action) && step.action.outcome === "success");
  const answer = answers[0] ?? null;
  if (answer) answer.answers = true;

  const misses = (flow.near_misses ?? []).map((miss) => missStep(miss, flow, byId, syncs));
  const wentWrong = flow.outcome !== "succeeded";
  const shown = misses.filter((step) => wentWrong && turnedOff(step.miss, byId));
  const aside = misses.filter((step) => !shown.includes(step));
  for (const step of shown) {
    const after = steps.findLastIndex((other) => other.action?.id === step.after);
    let at = after + 1;
    while (steps[at]?.kind === "miss") at += 1;
    steps.splice(at, 0, step);
  }
  if (flow.halt) steps.push({ kind: "halt", key: "halt", halt: flow.halt, from: null, to: null, at: null, answers: false });

  const lanes = new Set([REQUESTING]);
  if (!flow.actions.some((action) => action.concept === REQUESTING)) lanes.delete(REQUESTING);
  for (const action of flow.actions) lanes.add(action.concept);
  for (const step of shown) if (step.to) lanes.add(step.to);
  return { lanes: [...lanes], steps, aside, turned: shown[0] ?? null, answer };
}

/** What the router does by itself, in words; null of a rule. */
export const routerOf = (sync) =>
  ({ "Concert.fault": "the router itself, since no rule answers this fault", "Concert.limit": "the router itself, since the flow reached a limit" })[sync] ?? null;

export const isRespond = (action) => action?.concept === REQUESTING && action.action === "respond";

function actionStep(action, flow, byId) {
  const cause = causeOf(action, flow, byId);
  return {
    kind: "action",
    key: action.id,
    action,
    from: cause ? cause.concept : null,
    to: action.concept,
    at: (action.asked_us ?? action.completed_us ?? flow.began_us) - flow.began_us,
    answers: false,
  };
}

/** The call before, or the newest of what the rule waited for. */
function causeOf(action, flow, byId) {
  const firing = firingOf(action, flow);
  // The router's own answers come from no firing, but after something all the same.
  if (!firing) return action.by ? (flow.actions.find((other) => other.seq !== undefined && other.seq === action.by.cause_seq) ?? null) : null;
  const { frame = 0, call = 0 } = action.by;
  const before = call > 0 && byId.get(firing.frames?.[frame]?.calls?.[call - 1]);
  if (before) return before;
  const causes = (firing.causes ?? []).map((id) => byId.get(id)).filter(Boolean);
  return causes.reduce((newest, cause) => (!newest || (cause.seq ?? 0) > (newest.seq ?? 0) ? cause : newest), null);
}

/** The firing that asked for an action. */
export const firingOf = (action, flow) =>
  action.by ? ((flow.firings ?? []).find((firing) => firing.id === action.by.firing) ?? null) : null;

/** A rule that waited for the other outcome of something that failed. */
function turnedOff(miss, byId) {
  const failed = byId.get(miss.failed?.action);
  return failed !== undefined && ["refusal", "fault", "dead", "in_flight"].includes(fateOf(failed));
}

/** The concept that a rule would have called first; the calls of an `else` stand elsewhere. */
const firstCall = (sync) => /^\s*then\b[^]*?\b([A-Z]\w*)\.[a-z]/m.exec(sync?.text ?? "")?.[1] ?? null;

function missStep(miss, flow, byId, syncs) {
  const matched = (miss.matched ?? []).map((match) => byId.get(match.action)).filter(Boolean);
  const failed = byId.get(miss.failed?.action) ?? matched.at(-1) ?? flow.actions[0];
  return {
    kind: "miss",
    key: `miss-${miss.sync}`,
    miss,
    after: failed?.id,
    from: failed?.concept ?? null,
    to: firstCall(syncs.get(miss.sync)),
    at: (failed?.completed_us ?? flow.began_us) - flow.began_us,
    answers: false,
  };
}
