// A flow as steps between lifelines. This module does not use the DOM.

import { statusOf } from "./words.js";

/** Concept of requests and responses: the edge. */
export const REQUESTING = "Requesting";

/**
 * @typedef {Object} Step
 * @property {"action"|"miss"|"halt"} kind
 * @property {string} key unique in the flow
 * @property {object} [action] of kind `action`
 * @property {object} [miss] of kind `miss`: a rule that did not fire
 * @property {string|null} from lifeline where it starts; null: outside the diagram
 * @property {string|null} to
 * @property {number} at microseconds since the start of the flow
 * @property {boolean} answers true for the response to the request
 */

/**
 * Reads a flow.
 *
 * @param {object} flow a row of `_flow`
 * @param {Map<string, object>} syncs rules by name, as in `_rules`
 * @returns {{lanes: string[], steps: Step[], otherMisses: Step[], failedAt: Step|null,
 *   answer: Step|null}} `failedAt` is the rule that did not fire because an action failed;
 *   `otherMisses` are the other rules that did not fire
 */
export function read(flow, syncs) {
  const byId = new Map(flow.actions.map((action) => [action.id, action]));
  const steps = flow.actions.map((action) => actionStep(action, flow, byId));
  const answers = steps.filter((step) => isRespond(step.action) && step.action.outcome === "success");
  const answer = answers[0] ?? null;
  if (answer) answer.answers = true;

  const misses = (flow.near_misses ?? []).map((miss) => missStep(miss, flow, byId, syncs));
  const failed = flow.outcome !== "succeeded";
  const shown = misses.filter((step) => failed && stoppedByFailure(step.miss, byId));
  const otherMisses = misses.filter((step) => !shown.includes(step));
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
  return { lanes: [...lanes], steps, otherMisses, failedAt: shown[0] ?? null, answer };
}

/** Description of a response of the router itself; null for rules. */
export const routerOf = (sync) =>
  ({ "Concert.fault": "the router (no rule handles this fault)", "Concert.limit": "the router (the flow reached a limit)" })[sync] ?? null;

export const isRespond = (action) => action?.concept === REQUESTING && ["respond", "respondWith"].includes(action.action);

/** Error in a response; undefined without one. */
export const errorOf = ({ action, input }) => (action === "respondWith" ? input?.body?.error : input?.error);

/** HTTP status of a respond action. */
export const httpStatusOf = (action) => action.input?.status ?? (action.action === "respondWith" || action.input?.error === undefined ? 200 : 400);

/** Outcome to display: a completed respond with an error status counts as failed. */
export const shownOutcomeOf = (action) =>
  isRespond(action) && statusOf(action) === "success" && httpStatusOf(action) >= 400 ? "failed" : statusOf(action);

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

/** Previous call of the firing, or the newest action that the rule matched. */
function causeOf(action, flow, byId) {
  const firing = firingOf(action, flow);
  // A response of the router itself has no firing, but a cause in the log.
  if (!firing) return action.by ? (flow.actions.find((other) => other.seq !== undefined && other.seq === action.by.cause_seq) ?? null) : null;
  const { frame = 0, call = 0 } = action.by;
  const before = call > 0 && byId.get(firing.frames?.[frame]?.calls?.[call - 1]);
  if (before) return before;
  const causes = (firing.causes ?? []).map((id) => byId.get(id)).filter(Boolean);
  return causes.reduce((newest, cause) => (!newest || (cause.seq ?? 0) > (newest.seq ?? 0) ? cause : newest), null);
}

/** Firing that called an action. */
export const firingOf = (action, flow) =>
  action.by ? ((flow.firings ?? []).find((firing) => firing.id === action.by.firing) ?? null) : null;

/** True for a rule that did not fire because an action failed or has not completed. */
function stoppedByFailure(miss, byId) {
  const failed = byId.get(miss.failed?.action);
  return failed !== undefined && ["refusal", "fault", "dead", "in_flight"].includes(statusOf(failed));
}

/** Concept of the first call of a rule, without calls of `else`. */
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
