/** Reads invocations, and checks inputs and outputs against the spec. No I/O. */

import { FORGED, holdsReference, NOT_ACCEPTED } from "./large.js";
import type { Completion } from "./order.js";
import { looksSealed, NotASeal, UnknownKey, type Sealer } from "./seal.js";
import { Params, type Action } from "./spec.js";
import { BadValue, equal, isObject, parseObject, toJson, type Json, type JsonObject } from "./value.js";
import * as wire from "./wire.js";

/** An invocation, as its subject and headers describe it. */
export interface Invocation {
  action: string;
  id: string;
  flow: string;
  reply: string | null;
  deadlineMs: number | null;
  client: string | null;
  device: string | null;
  position: string | null;
}

/** Reads a message. `injected` derives the ID that the subject lacks. Throws `Malformed`. */
export function readInvocation(
  subject: string,
  header: (name: string) => string | null,
  injected: () => string,
): Invocation {
  const { action, id: given } = wire.parseInvocation(subject);
  const id = given ?? injected();
  const { HEADERS } = wire;
  const flow = header(HEADERS.flow) ?? id;
  if (!wire.isId(flow)) throw new wire.Malformed(`the header ${HEADERS.flow} is not a UUID`);
  const reply = header(HEADERS.reply);
  const deadline = header(HEADERS.deadline) ?? "";
  return {
    action,
    id,
    flow,
    reply: reply !== null && wire.isInbox(reply) ? reply : null,
    deadlineMs: /^\d+$/.test(deadline) ? Number(deadline) : null,
    client: header(HEADERS.client),
    device: header(HEADERS.device),
    position: header(HEADERS.position),
  };
}

/** Reports whether the action begins its flow. */
export function isRoot({ flow, id }: { flow: string; id: string }): boolean {
  return flow === id;
}

/** The output of an action that ended with a fault. */
export function fault(kind: "deadline" | "expired" | "invalid" | "throttled", error: string): JsonObject {
  return { error, fault: kind };
}

function change(value: JsonObject, changes: Iterable<[string, Json]>): JsonObject {
  return Object.fromEntries([...Object.entries(value), ...changes]);
}

/** The value with secrets in clear. Throws {@link NotASeal} or {@link UnknownKey}. */
export function openSecrets(
  sealer: Sealer,
  flow: string,
  params: Params,
  value: JsonObject,
): JsonObject {
  const sealed = params.secrets().filter((name) => looksSealed(value[name]));
  return change(
    value,
    sealed.map((name) => [name, sealer.open(flow, value[name] as string)]),
  );
}

/**
 * The value for publishing: secrets are sealed; keys that the spec does not name are removed, because
 * one may be a misspelt secret.
 */
export function record(
  sealer: Sealer,
  { flow, id }: { flow: string; id: string },
  params: Params,
  value: JsonObject,
): JsonObject {
  const named = Object.entries(value).filter(([key]) => params.open || params.has(key));
  const secrets = params.secrets().filter((name) => Object.hasOwn(value, name));
  return change(
    Object.fromEntries(named),
    secrets.map((name) => [name, recorded(sealer, flow, flow === id, value[name]!)]),
  );
}

function recorded(sealer: Sealer, flow: string, isRoot: boolean, value: Json): Json {
  if (typeof value !== "string") return null;
  try {
    sealer.open(flow, value);
    return value;
  } catch (error) {
    return error instanceof UnknownKey && !isRoot ? value : sealer.seal(flow, value);
  }
}

/** The output or row with secrets sealed. */
export function sealSecrets(
  sealer: Sealer,
  flow: string,
  params: Params,
  value: JsonObject,
): JsonObject {
  const secrets = params.secrets().filter((name) => typeof value[name] === "string");
  return change(
    value,
    secrets.map((name) => [name, sealer.seal(flow, value[name] as string)]),
  );
}

/** Decision about an invocation before its handler runs. */
export type Intake =
  | { run: { opened: JsonObject; recorded: JsonObject } }
  | { completed: Completion }
  | { locked: string };

/** Checks an invocation. `nowMs` is minus the maximum clock difference. */
export function intake(
  concept: string,
  spec: Action | undefined,
  sealer: Sealer,
  invocation: Invocation,
  payload: Uint8Array,
  nowMs: number,
): Intake {
  const invalid = (input: JsonObject, why: string): Intake => ({
    completed: { input, output: fault("invalid", why) },
  });
  if (!spec) return invalid({}, `${concept} has no action \`${invocation.action}\` that can be invoked`);
  let value: JsonObject;
  try {
    value = parseObject(payload);
  } catch (error) {
    return invalid({}, messageOf(error));
  }
  if (isRoot(invocation) && holdsReference(value)) return invalid({}, NOT_ACCEPTED);
  const input = record(sealer, invocation, spec.input, value);
  let opened: JsonObject;
  try {
    opened = openSecrets(sealer, invocation.flow, spec.input, value);
  } catch (error) {
    if (error instanceof UnknownKey && !isRoot(invocation)) return { locked: locked(invocation) };
    return invalid(input, messageOf(error));
  }
  const mistakes = spec.input.mistakes(opened);
  if (mistakes) return invalid(input, mistakes);
  if (hasOperator(opened)) return invalid(input, OPERATOR);
  const { deadlineMs } = invocation;
  if (!spec.hasEffects && deadlineMs !== null && deadlineMs < nowMs) {
    const output = fault("deadline", "the deadline passed before the action started");
    return { completed: { input, output } };
  }
  return { run: { opened, recorded: input } };
}

/** Reason for a retry: the key of a secret may arrive later. */
export function locked(invocation: Invocation): string {
  return `a secret of ${invocation.action} is ${new UnknownKey().message}`;
}

/** Reason for rejecting an input. */
export const OPERATOR = "a key in the input begins with `$`";

/** Reports whether a key begins with `$`, which would be an operator in a filter. */
export function hasOperator(value: Json): boolean {
  if (Array.isArray(value)) return value.some(hasOperator);
  if (!isObject(value)) return false;
  return Object.entries(value).some(([key, item]) => key.startsWith("$") || hasOperator(item));
}

/** The output of a completion, with secrets sealed; a fault if it does not fit the spec. */
export function outputOf(spec: Action, sealer: Sealer, flow: string, result: unknown): JsonObject {
  let output: Json;
  try {
    output = toJson(result ?? {});
  } catch (error) {
    return fault("invalid", `the output does not fit the spec: ${messageOf(error)}`);
  }
  if (!isObject(output)) return fault("invalid", `the handler of ${spec.name} returns no object`);
  if (Object.hasOwn(output, "error") && !spec.success?.has("error")) {
    const { error } = output;
    const isAlone = Object.keys(output).length === 1;
    if (spec.canFail && typeof error === "string" && error !== "" && isAlone) return output;
    return fault("invalid", `${spec.name} was refused, but its spec declares no error: ${error}`);
  }
  if (!spec.success) return fault("invalid", "the spec declares no success");
  if (holdsReference(output)) return fault("invalid", FORGED);
  const mistakes = spec.success.mistakes(output);
  if (mistakes) return fault("invalid", `the output does not fit the spec: ${mistakes}`);
  return sealSecrets(sealer, flow, spec.success, output);
}

/** Compares two outputs; a secret may be sealed under two keys. Throws {@link UnknownKey}. */
export function isSame(
  spec: Action | undefined,
  sealer: Sealer,
  flow: string,
  a: JsonObject,
  b: JsonObject,
): boolean {
  const opened = (output: JsonObject): JsonObject => {
    try {
      return openSecrets(sealer, flow, spec?.success ?? new Params(), output);
    } catch (error) {
      if (error instanceof NotASeal) return output;
      throw error;
    }
  };
  return equal(opened(a), opened(b));
}

/** The message of an error. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

export { BadValue };
